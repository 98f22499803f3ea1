//! A TLS handshake with a peer that nobody vouches for: TLS 1.2 or 1.3, no chain verified, but the signature in it always.
//!
//! tls-alpn-01's certificate has a critical extension that webpki does not know, so webpki would refuse it before it came to the
//! signature. The signature is verified on the certificate's public key alone, as for a raw public key (RFC 7250).

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error, InvalidMessage, PeerIncompatible,
    ProtocolVersion, SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webpki::RawPublicKeyEntity;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use crate::metered::{Metered, describe};
use crate::report::millis;
use crate::{Deadline, Event, Excerpt, Transcript};

/// What a complete handshake left behind.
pub(crate) struct Handshake<'a> {
    pub(crate) stream: TlsStream<&'a mut Metered<'static>>,
    pub(crate) certificate: CertificateDer<'static>,
}

/// A handshake that did not come to its end.
pub(crate) struct HandshakeFailure {
    server_name: String,
    /// `None` where the time was over.
    error: Option<io::Error>,
    certificate: Option<CertificateDer<'static>>,
    duration_ms: u64,
}

impl Handshake<'_> {
    /// The application protocol that the peer selected.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }

    /// The certificate's SHA-256, in hexadecimal.
    pub(crate) fn certificate_sha256(&self) -> String {
        sha256(&self.certificate)
    }
}

/// Shakes hands as a client that asks for `server_name` and offers the application protocols `alpn`.
pub(crate) async fn shake_hands<'a>(
    provider: &Arc<CryptoProvider>,
    server_name: ServerName<'static>,
    alpn: &[&[u8]],
    stream: &'a mut Metered<'static>,
    deadline: Deadline,
    transcript: &mut Transcript,
) -> Result<Handshake<'a>, HandshakeFailure> {
    let proof = Arc::new(ProofOfPossession::new(provider.signature_verification_algorithms));
    let name = server_name.to_str().into_owned();
    let start = Instant::now();
    let outcome = match client_config(provider, &proof, alpn) {
        Ok(config) => deadline.bound(TlsConnector::from(Arc::new(config)).connect(server_name, stream)).await,
        Err(error) => Ok(Err(io::Error::other(error))),
    };
    let duration_ms = millis(start.elapsed());
    let failure = |error, certificate| HandshakeFailure { server_name: name.clone(), error, certificate, duration_ms };
    let stream = match outcome {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failure(Some(error), proof.certificate())),
        Err(_) => return Err(failure(None, proof.certificate())),
    };
    let certificate =
        proof.certificate().ok_or_else(|| failure(Some(io::Error::other(Error::NoCertificatesPresented)), None))?;
    let (_, session) = stream.get_ref();
    transcript.record(Event::TlsHandshake {
        server_name: name,
        outcome: "complete".to_owned(),
        version: session.protocol_version().map(|it| version_name(it).to_owned()),
        alpn: session.alpn_protocol().map(Excerpt::new),
        duration_ms,
    });
    Ok(Handshake { stream, certificate })
}

impl HandshakeFailure {
    /// Records what was seen on `stream`, and says what went wrong.
    pub(crate) fn tell(self, stream: &Metered<'_>, transcript: &mut Transcript) -> String {
        let words = self.error.map_or_else(|| "the TLS handshake timed out".to_owned(), |it| explain(&it, stream));
        transcript.record(Event::TlsHandshake {
            server_name: self.server_name,
            outcome: words.clone(),
            version: None,
            alpn: None,
            duration_ms: self.duration_ms,
        });
        if let Some(certificate) = self.certificate {
            transcript.record(Event::Certificate { sha256: sha256(&certificate), names: Vec::new() });
        }
        transcript.record(stream.raw_octets());
        words
    }
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    proof: &Arc<ProofOfPossession>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let verifier: Arc<dyn ServerCertVerifier> = Arc::<ProofOfPossession>::clone(proof);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    // A resumed session presents no certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What went wrong in words, with a hint where there is a usual cause.
fn explain(error: &io::Error, stream: &Metered<'_>) -> String {
    match error.get_ref().and_then(|it| it.downcast_ref::<Error>()) {
        None => format!("the TLS handshake failed: {}", describe(error)),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            format!("the TLS handshake failed: the answer is no TLS: \"{}\"", stream.start())
        }
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "the TLS handshake failed: the server does not speak acme-tls/1 (alert no_application_protocol)".to_owned()
        }
        Some(
            Error::AlertReceived(AlertDescription::ProtocolVersion)
            | Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
        ) => "the TLS handshake failed: the server speaks neither TLS 1.2 nor TLS 1.3".to_owned(),
        Some(Error::InvalidCertificate(
            CertificateError::BadSignature | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        )) => "the TLS handshake failed: the server does not have the certificate's key".to_owned(),
        Some(error) => format!("the TLS handshake failed: {error}"),
    }
}

const fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLS 1.3",
        ProtocolVersion::TLSv1_2 => "TLS 1.2",
        _ => "another version",
    }
}

fn sha256(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::with_capacity(64);
    for octet in Sha256::digest(certificate) {
        let _ = write!(text, "{octet:02x}");
    }
    text
}

/// Takes any certificate, keeps it, and verifies that the peer has its key.
#[derive(Debug)]
struct ProofOfPossession {
    algorithms: WebPkiSupportedAlgorithms,
    certificate: Mutex<Option<CertificateDer<'static>>>,
}

impl ProofOfPossession {
    fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { algorithms, certificate: Mutex::new(None) }
    }

    fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.certificate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ProofOfPossession {
    /// In TLS 1.2 a scheme does not fix the curve: one of its algorithms has to fit.
    fn verify_with_any_curve(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        scheme: SignatureScheme,
        signature: &[u8],
    ) -> Result<(), Error> {
        let key = public_key(certificate)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let algorithms = self.algorithms.mapping.iter().filter(|(it, _)| *it == scheme).flat_map(|(_, it)| it.iter());
        let mut outcomes = algorithms.map(|algorithm| key.verify_signature(*algorithm, message, signature));
        if outcomes.any(|it| it.is_ok()) { Ok(()) } else { Err(CertificateError::BadSignature.into()) }
    }
}

impl ServerCertVerifier for ProofOfPossession {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_with_any_curve(message, certificate, signed.scheme, signed.signature())?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &public_key(certificate)?, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn public_key(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let key = Certificate::from_der(certificate).and_then(|it| it.tbs_certificate().subject_public_key_info().to_der());
    key.map(SubjectPublicKeyInfoDer::from).map_err(|_| CertificateError::BadEncoding.into())
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64, Encoding as _};

    use super::*;

    /// A P-384 key's certificate, and its signature of `handshake` with SHA-256, both by openssl.
    const P384: (&str, &str) = (
        "MIIBrDCCATKgAwIBAgIUCd/sUJACnyLiZoBzQ+0llkhNQ7kwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBdDAgFw0yNjExMjQxMDA4MzdaGA8yMTI2\
         MTAzMTEwMDgzN1owDDEKMAgGA1UEAwwBdDB2MBAGByqGSM49AgEGBSuBBAAiA2IABNkmk+76rKQ1CErdh5vecR1PLoL/XfjvDcbr+uVhrNIm0YHL\
         4KaqjBLeFXWzKFF4L5Y+urQ/2bqSaFwgnDpyXK+tyadFqzE0UXkgF+Fy5Dz/9W0M2kMbxsgbI7qSo7ED36NTMFEwHQYDVR0OBBYEFBwQ8aaXGpGg\
         WJekDH6mIOwpQT/HMB8GA1UdIwQYMBaAFBwQ8aaXGpGgWJekDH6mIOwpQT/HMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDaAAwZQIxAKzW\
         7i0n94E9oVwEWFPzNH+aj9R022jhbRgXZXsKLhvO9uTqYH3oO2hTNOW13bstNwIwfut74l9oqKY9Q/BSwXPMkWJUzUfQTReT6E0DoZLgXkCU6AoQ\
         KN3k87LCEdLtrDFX",
        "MGUCMQDwcP8vomBa7bOf0JlgN5yFyHEZndunOj+xfhpHXMwcvH7HCkTz98cY5CLlkDIdpNcCMEynA/4XPDb6lQyX+5DLLnDRJu1UqFLUEHsu6z3J\
         zFDgpLHXZAe2aU/QYxa74nowOQ==",
    );

    #[test]
    fn a_scheme_of_tls_1_2_does_not_fix_the_curve() {
        let [certificate, signature] = [P384.0, P384.1].map(|it| Base64::decode_vec(it).unwrap());
        let certificate = CertificateDer::from(certificate);
        let proof =
            ProofOfPossession::new(rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms);
        let verify = |message: &[u8], scheme| proof.verify_with_any_curve(message, &certificate, scheme, &signature);
        assert_eq!(verify(b"handshake", SignatureScheme::ECDSA_NISTP256_SHA256), Ok(()));
        let bad = Err(CertificateError::BadSignature.into());
        assert_eq!(verify(b"handshakes", SignatureScheme::ECDSA_NISTP256_SHA256), bad);
        assert_eq!(verify(b"handshake", SignatureScheme::ECDSA_NISTP384_SHA384), bad);
        assert_eq!(verify(b"handshake", SignatureScheme::ED25519), bad);
    }
}
