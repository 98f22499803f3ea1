//! tls-alpn-01 (RFC 8737; RFC 8738 §6 for addresses): one TLS handshake that offers `acme-tls/1` alone, in which the
//! peer proves possession of the key of a certificate that holds the digest of the key authorization.
//!
//! The handshake is in `tls_handshake.rs`, what the certificate must say in `tls_alpn_01/certificate.rs`. Dates,
//! issuer and the certificate's own signature mean nothing here.

use std::sync::Arc;

use akamu_proto::{ChallengeType, ErrorType, Identifier};
use async_trait::async_trait;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;

use crate::dial::authority;
use crate::tls_handshake::shake_hands;
use crate::{
    ChallengeError, Deadline, Event, Excerpt, Probe, Transcript, Validated, ValidationReport, ValidationRequest,
    Validator,
};

pub(crate) mod certificate;

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
        let place = match &request.identifier {
            Identifier::Ip(_) => dialled.peer.to_string(),
            name => format!("{} ({})", authority(name, self.port), dialled.peer),
        };
        let tls = |what: String| ChallengeError::new(ErrorType::Tls, format!("{place}: {what}"));

        let server_name = request.identifier.server_name();
        let server_name =
            ServerName::try_from(server_name.clone()).map_err(|it| tls(format!("{server_name}: {it}")))?;
        let stream = &mut dialled.stream;
        let mut handshake =
            match shake_hands(&self.provider, server_name, &[ACME_TLS_1], stream, deadline, transcript).await {
                Ok(handshake) => handshake,
                Err(failure) => return Err(tls(failure.tell(&dialled.stream, transcript))),
            };
        // A goodbye, so that the peer does not log a truncated connection; what became of it is all the same.
        let _ = deadline.share(4).bound(handshake.stream.shutdown()).await;
        if handshake.alpn() != Some(ACME_TLS_1) {
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
