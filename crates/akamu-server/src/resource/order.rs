//! Orders (RFC 8555 §7.4).

use std::sync::Arc;

use akamu_ca::Issuer;
use akamu_challenge::ValidatorSet;
use akamu_proto::{AuthorizationId, Identifier, NewOrderRequest, OrderId, OrderObject, OrderStatus, Token};
use akamu_store::{NewAuthorization, NewChallenge, NewOrder, Order, OrderCreated};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use http::header::{LOCATION, RETRY_AFTER};

use crate::app::App;
use crate::authenticated::{ByAccount, ByOwner, Json, PostAsGet};
use crate::error::{AcmeError, Rejection};
use crate::random;
use crate::router::{json, with_header};

/// Seconds after which a client should ask again.
pub(super) const RETRY_AFTER_PROCESSING: u32 = 1;

/// An order as every answer shows it, with its Location.
pub(super) fn answer(app: &App, order: &Order, status: StatusCode) -> Response {
    let object = OrderObject {
        status: order.status,
        expires: order.expires_at,
        identifiers: order.identifiers.clone(),
        authorizations: order.authorizations.iter().map(|id| app.base_url.authorization(*id)).collect(),
        finalize: app.base_url.finalize(order.id),
        certificate: order.certificate.map(|id| app.base_url.certificate(id)),
        error: order.error.clone(),
    };
    let response = with_header(json(status, &object), LOCATION, &app.base_url.order(order.id));
    if order.status == OrderStatus::Processing {
        with_header(response, RETRY_AFTER, &RETRY_AFTER_PROCESSING.to_string())
    } else {
        response
    }
}

/// newOrder.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    ByAccount { account, payload: Json(request), store }: ByAccount<Json<NewOrderRequest>>,
) -> Result<Response, AcmeError> {
    for (member, value) in [("notBefore", &request.not_before), ("notAfter", &request.not_after)] {
        if value.is_some() {
            return Err(AcmeError::ValidityNotSupported { member });
        }
    }
    let identifiers = request.parse_identifiers().map_err(AcmeError::Identifiers)?;
    check_identifiers(&identifiers, &app.issuer, &app.validators)?;
    let now = app.clock.now();
    let authorizations = identifiers.into_iter().map(|it| new_authorization(&app, it, now)).collect();
    let order = NewOrder {
        id: OrderId::new(now, random::octets(&*app.random)),
        account: account.id,
        expires_at: now.plus(app.settings.order_expiry),
        authorizations,
    };
    let span = tracing::Span::current();
    span.record("order.id", tracing::field::display(order.id));
    match store.order_create(order, now).await? {
        OrderCreated::Created(order) => {
            record_identifiers(&order);
            Ok(answer(&app, &order, StatusCode::CREATED))
        }
        OrderCreated::AccountNotValid => {
            Err(AcmeError::AccountNotValid { status: akamu_proto::AccountStatus::Deactivated })
        }
    }
}

/// Puts an order's names into the request's log line.
pub(super) fn record_identifiers(order: &Order) {
    let span = tracing::Span::current();
    if !span.is_disabled() {
        let names: Vec<_> = order.identifiers.iter().take(5).map(Identifier::value).collect();
        let more = order.identifiers.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        span.record("identifiers", format!("{}{more}", names.join(" ")));
    }
}

/// Refuses the names for which there could be no certificate, all in one answer.
fn check_identifiers(identifiers: &[Identifier], issuer: &Issuer, validators: &ValidatorSet) -> Result<(), AcmeError> {
    reject(identifiers, |identifier| {
        issuer.may_certify(identifier)?;
        validators.offered_for(identifier).next().map(drop).ok_or(Rejection::NoChallengeType)
    })
}

/// Refuses the names that the issuer may not certify: an order may be older than the issuer.
pub(super) fn check_permitted(identifiers: &[Identifier], issuer: &Issuer) -> Result<(), AcmeError> {
    reject(identifiers, |identifier| Ok(issuer.may_certify(identifier)?))
}

fn reject(identifiers: &[Identifier], check: impl Fn(&Identifier) -> Result<(), Rejection>) -> Result<(), AcmeError> {
    let rejected: Vec<_> = identifiers.iter().filter_map(|it| Some((it.clone(), check(it).err()?))).collect();
    if rejected.is_empty() { Ok(()) } else { Err(AcmeError::Rejected(rejected)) }
}

fn new_authorization(app: &App, identifier: Identifier, now: akamu_proto::Timestamp) -> NewAuthorization {
    let challenges = app
        .validators
        .offered_for(&identifier)
        .map(|challenge_type| NewChallenge {
            token: challenge_type.has_token().then(|| Token::from_random(random::octets(&*app.random))),
            challenge_type,
        })
        .collect();
    NewAuthorization {
        id: AuthorizationId::new(now, random::octets(&*app.random)),
        identifier,
        expires_at: now.plus(app.settings.authorization_expiry),
        challenges,
    }
}

/// POST-as-GET of an order; held while one of its validations runs.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ByOwner { account, object: mut order, .. }: ByOwner<Order, PostAsGet>,
) -> Result<Response, AcmeError> {
    let id = order.id;
    let read = async || app.store.order(account.id, id, app.clock.now()).await?.ok_or(AcmeError::NotFound);
    let waits = |order: &Order| order.status == OrderStatus::Pending;
    if waits(&order)
        && let processing = app.processing_among(&order.authorizations).await?
        && !processing.is_empty()
        && let Some(mut held) = app.holds.hold(account.id, processing.clone())
    {
        // One that does not run here may have been decided since it was looked for.
        let run_here = app.validations.run_all(&processing);
        if !run_here {
            order = read().await?;
        }
        if waits(&order) {
            if run_here || !app.processing_among(&order.authorizations).await?.is_empty() {
                app.wait_for(&mut held).await;
            }
            order = read().await?;
        }
    }
    record_identifiers(&order);
    Ok(answer(&app, &order, StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use akamu_ca::{FileKey, HashAlg, Profile};
    use akamu_proto::{ErrorType, Problem, Timestamp};
    use rcgen::{BasicConstraints, CertificateParams, GeneralSubtree, IsCa, NameConstraints};
    use serde_json::{Value, json};

    /// A CA that may certify what is under corp.test.
    fn issuer() -> Issuer {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(rcgen::DnType::CommonName, "Corp");
        root.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("corp.test".to_owned())],
            excluded_subtrees: vec![GeneralSubtree::DnsName("secret.corp.test".to_owned())],
        });
        let root = root.self_signed(&key).unwrap();
        let key = FileKey::from_pkcs8(&key.serialize_der(), HashAlg::Sha256).unwrap();
        let profile = Profile { validity: Duration::from_secs(86_400), crl_url: None, issuer_url: None };
        let now = Timestamp::from_unix_secs(1_790_000_000);
        Issuer::new(Arc::new(key), vec![root.der().to_vec()], profile, now).unwrap()
    }

    fn names(names: &[&str]) -> Vec<Identifier> {
        names.iter().map(|it| Identifier::dns(it).unwrap()).collect()
    }

    fn subproblems(problem: &Problem) -> Value {
        let shown = |it: &akamu_proto::Subproblem| json!([it.error_type.name(), it.identifier, it.detail]);
        problem.subproblems.iter().map(shown).collect()
    }

    const PERMITS: &str =
        "this CA may not certify this identifier: the CA certificate \"CN=Corp\" permits only corp.test";
    const EXCLUDES: &str =
        "this CA may not certify this identifier: the CA certificate \"CN=Corp\" excludes secret.corp.test";

    #[test]
    fn names_that_the_issuer_may_not_certify_are_refused_together() {
        let issuer = issuer();
        let check = |list: &[&str]| check_permitted(&names(list), &issuer);
        assert!(check(&["a.corp.test", "corp.test", "*.b.corp.test"]).is_ok());
        let problem = check(&["a.corp.test", "other.test", "x.secret.corp.test"]).unwrap_err().problem();
        assert_eq!((problem.error_type, problem.status), (ErrorType::RejectedIdentifier, Some(400)));
        assert_eq!(problem.detail, "2 identifiers are refused; see the subproblems");
        let id = |name: &str| json!({ "type": "dns", "value": name });
        let expected = json!([
            ["rejectedIdentifier", id("other.test"), PERMITS],
            ["rejectedIdentifier", id("x.secret.corp.test"), EXCLUDES],
        ]);
        assert_eq!(subproblems(&problem), expected);
        let problem = check(&["*.corp.test"]).unwrap_err().problem();
        assert_eq!(problem.detail, format!("*.corp.test: {EXCLUDES}"));
        assert_eq!(subproblems(&problem), json!([["rejectedIdentifier", id("*.corp.test"), EXCLUDES]]));
    }

    #[test]
    fn a_name_that_nothing_can_prove_is_refused_with_the_others() {
        let none = ValidatorSet::new();
        let refused = check_identifiers(&names(&["other.test", "a.corp.test"]), &issuer(), &none);
        let problem = refused.unwrap_err().problem();
        let id = |name: &str| json!({ "type": "dns", "value": name });
        let expected = json!([
            ["rejectedIdentifier", id("other.test"), PERMITS],
            [
                "rejectedIdentifier",
                id("a.corp.test"),
                "no challenge type that is configured here can prove control of this identifier"
            ],
        ]);
        assert_eq!(subproblems(&problem), expected);
    }
}
