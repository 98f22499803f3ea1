//! tls-alpn-01 (RFC 8737; RFC 8738 §6 for addresses): one TLS handshake that offers `acme-tls/1` alone, in which the
//! peer proves possession of the key of a certificate that holds the digest of the key authorization.
//!
//! The handshake is in `tls_alpn_01/handshake.rs`, what the certificate must say in `tls_alpn_01/certificate.rs`. Dates,
//! issuer and the certificate's own signature mean nothing here.

use std::sync::Arc;

use akamu_proto::{ChallengeType, ErrorType, Identifier};
use async_trait::async_trait;
use rustls::crypto::CryptoProvider;

use crate::dial::authority;
use crate::{
    ChallengeError, Deadline, Event, Excerpt, Probe, Transcript, Validated, ValidationReport, ValidationRequest,
    Validator,
};

pub(crate) mod certificate;
mod handshake;

use certificate::ValidationCertificate;

/// The one application protocol that is offered.
const ACME_TLS_1: &[u8] = b"acme-tls/1";

/// The validator of tls-alpn-01.
#[derive(Clone, Debug)]
pub struct TlsAlpn01 {
    probe: Probe,
    port: u16,
    provider: Arc<CryptoProvider>,
}

impl TlsAlpn01 {
    /// The port that the RFC prescribes.
    pub const PORT: u16 = 443;

    /// Shakes hands at `port`, which is [`TlsAlpn01::PORT`] everywhere but in tests. TLS is aws-lc-rs' own, whatever the
    /// process has for its default.
    pub fn new(probe: Probe, port: u16) -> Self {
        Self { probe, port, provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()) }
    }

    async fn prove(
        &self,
        request: &ValidationRequest,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Result<Validated, ChallengeError> {
        let expected = request.key_authorization()?;
        if !self.supports(&request.identifier) {
            let detail = "tls-alpn-01 cannot prove control of a wildcard's names";
            return Err(ChallengeError::new(ErrorType::Malformed, detail));
        }
        let mut dialled = self.probe.dial(&request.identifier, self.port, deadline, transcript).await?;
        let place = format!("{} ({})", authority(&request.identifier, self.port), dialled.peer);
        let tls = |what: String| ChallengeError::new(ErrorType::Tls, format!("{place}: {what}"));

        let server_name = request.identifier.server_name();
        let handshake =
            handshake::shake_hands(&self.provider, &server_name, &mut dialled.stream, deadline, transcript).await;
        if handshake.is_err() {
            transcript.record(dialled.stream.raw_octets());
        }
        let handshake = handshake.map_err(tls)?;
        if handshake.alpn.as_deref() != Some(ACME_TLS_1) {
            return Err(tls("the server did not select the protocol acme-tls/1 (ALPN)".to_owned()));
        }
        let certificate = ValidationCertificate::read(&handshake.certificate);
        transcript.record(Event::Certificate {
            sha256: handshake.certificate_sha256(),
            names: certificate.as_ref().map_or_else(|_| Vec::new(), |it| it.names().iter().map(Excerpt::new).collect()),
        });
        certificate
            .and_then(|it| it.check(&request.identifier, &expected.digest()))
            .map_err(|error| tls(error.to_string()))?;
        Ok(Validated::unlimited())
    }
}

#[async_trait]
impl Validator for TlsAlpn01 {
    fn method(&self) -> ChallengeType {
        ChallengeType::TLS_ALPN_01
    }

    fn supports(&self, identifier: &Identifier) -> bool {
        !identifier.is_wildcard()
    }

    async fn validate(&self, request: &ValidationRequest, deadline: Deadline) -> ValidationReport {
        let mut transcript = Transcript::begin(self.method(), request, &*self.probe.clock);
        let conclusion = self.prove(request, deadline, &mut transcript).await;
        transcript.conclude(conclusion)
    }
}
