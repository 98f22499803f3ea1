//! revokeCert (RFC 8555 §7.6): by the account that got the certificate, by one that is authorized for all its names, or
//! by the certificate's own key.

use std::sync::Arc;

use akamu_ca::KnownCertificate;
use akamu_proto::{RevocationReason, RevokeRequest};
use akamu_store::Revoked;
use axum::extract::State;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use http::StatusCode;

use crate::app::App;
use crate::authenticated::{ByEither, Json, Signer};
use crate::error::AcmeError;

pub(crate) async fn post(
    State(app): State<Arc<App>>,
    ByEither { signer, payload: Json(request), store }: ByEither<Json<RevokeRequest>>,
) -> Result<StatusCode, AcmeError> {
    let malformed =
        || AcmeError::Payload { reason: "\"certificate\" is not a certificate, DER in base64url".to_owned() };
    let der = Base64UrlUnpadded::decode_vec(&request.certificate).map_err(|_| malformed())?;
    let certificate = KnownCertificate::parse(&der).ok_or_else(malformed)?;
    let code = request.reason.unwrap_or(0);
    let reason = RevocationReason::from_code(code).ok_or(AcmeError::BadRevocationReason { code })?;
    let stored = store.certificate_by_serial(certificate.serial().as_octets()).await?;
    let stored = stored.filter(|it| it.der == der).ok_or(AcmeError::NotOurCertificate)?;
    let now = app.clock.now();
    let allowed = match &signer {
        Signer::Key(jwk) => certificate.has_key(jwk),
        Signer::Account(account) => {
            stored.account == account.id || store.identifiers_authorized(account.id, certificate.names(), now).await?
        }
    };
    if !allowed {
        return Err(AcmeError::RevocationNotAllowed);
    }
    match store.certificate_revoke(certificate.serial().as_octets(), reason, now).await? {
        Revoked::Revoked => {
            tracing::info!(serial = %certificate.serial(), reason = code, "revoked");
            app.revocation_list.ask_for_new();
            Ok(StatusCode::OK)
        }
        Revoked::AlreadyRevoked => Err(AcmeError::AlreadyRevoked),
        Revoked::NotFound => Err(AcmeError::NotOurCertificate),
    }
}
