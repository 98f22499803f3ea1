//! finalize (RFC 8555 §7.4): the CSR comes in, the certificate is there with the answer.

use std::sync::Arc;

use akamu_ca::{Csr, CsrError, Serial};
use akamu_proto::{CertificateId, FinalizeRequest, Jwk, OrderStatus};
use akamu_store::{Issuance, IssuanceBegun, IssuanceRecorded, Lease, NewCertificate, NewIssuance, Order};
use axum::extract::State;
use axum::response::Response;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use http::StatusCode;
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::authenticated::{ByOwner, Json};
use crate::error::AcmeError;
use crate::random;
use crate::resource::order;

pub(crate) async fn post(
    State(app): State<Arc<App>>,
    ByOwner { account, object: found, payload: Json(request), store }: ByOwner<Order, Json<FinalizeRequest>>,
) -> Result<Response, AcmeError> {
    let (id, now) = (found.id, app.clock.now());
    order::record_identifiers(&found);
    match found.status {
        OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => {}
        status @ (OrderStatus::Pending | OrderStatus::Invalid) => return Err(AcmeError::OrderNotReady { status }),
    }
    let der = Base64UrlUnpadded::decode_vec(&request.csr).map_err(|_| AcmeError::Csr(CsrError::NotDer))?;
    let csr_digest = Sha256::digest(&der).into();
    let csr = Csr::parse(&der)?;
    csr.check_names(&found.identifiers)?;
    if csr.is_made_with(&Jwk::parse(&account.jwk)?) {
        return Err(AcmeError::CsrWithAccountKey);
    }
    if found.status == OrderStatus::Ready {
        order::check_permitted(&found.identifiers, &app.issuer)?;
    }
    let serial = Serial::new(now, random::octets(&*app.random));
    let tbs = app.issuer.prepare(&csr, serial, now).map_err(AcmeError::internal)?;
    let issuance = NewIssuance { csr_digest, serial: *serial.as_octets(), tbs };
    match store.issuance_begin(account.id, id, issuance, app.validations.lease(), now).await? {
        IssuanceBegun::Started(lease) => {
            let certificate = sign_and_record(&app, lease).await?;
            let status = if certificate.is_some() { OrderStatus::Valid } else { OrderStatus::Processing };
            Ok(order::answer(&app, &Order { status, certificate, ..found }, StatusCode::OK))
        }
        IssuanceBegun::Existing(existing) => Ok(order::answer(&app, &existing, StatusCode::OK)),
        IssuanceBegun::OtherCsr(_) => Err(AcmeError::OtherCsr),
        IssuanceBegun::NotReady(order) => Err(AcmeError::OrderNotReady { status: order.status }),
        IssuanceBegun::NotFound => Err(AcmeError::NotFound),
    }
}

/// Signs what the lease holds, and stores it. Whoever takes a lease over signs the same octets. `None`: the lease was
/// lost, so somebody else does.
pub(crate) async fn sign_and_record(
    app: &Arc<App>,
    lease: Lease<Issuance>,
) -> Result<Option<CertificateId>, AcmeError> {
    let issued = if app.issuer.signs_quickly() {
        app.issuer.sign(&lease.subject().tbs)
    } else {
        // An RSA signature takes milliseconds: not on a thread that serves connections.
        let (issuer, tbs) = (app.issuer.clone(), lease.subject().tbs.clone());
        tokio::task::spawn_blocking(move || issuer.sign(&tbs)).await.map_err(AcmeError::internal)?
    };
    let now = app.clock.now();
    let issued = match issued {
        Ok(issued) => issued,
        Err(error) => {
            let problem = akamu_proto::Problem::new(
                akamu_proto::ErrorType::ServerInternal,
                "the certificate could not be made; the server's log says why",
            );
            app.store.issuance_fail(lease, problem, now).await?;
            return Err(AcmeError::internal(error));
        }
    };
    let certificate = NewCertificate {
        der: issued.der().to_vec(),
        chain: app.chain.clone(),
        not_before: issued.not_before(),
        not_after: issued.not_after(),
    };
    let (order_id, serial) = (lease.subject().order, issued.serial());
    match app.store.issuance_record(lease, certificate, now).await? {
        IssuanceRecorded::Recorded(id) => {
            app.metrics.issued();
            tracing::info!(order.id = %order_id, %serial, "issued");
            Ok(Some(id))
        }
        IssuanceRecorded::LeaseLost => Ok(None),
    }
}
