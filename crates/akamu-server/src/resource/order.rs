//! Orders (RFC 8555 §7.4).

use std::sync::Arc;

use akamu_proto::{AuthorizationId, Identifier, NewOrderRequest, OrderId, OrderObject, OrderStatus, Token};
use akamu_store::{NewAuthorization, NewChallenge, NewOrder, Order, OrderCreated};
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use http::header::{LOCATION, RETRY_AFTER};

use crate::app::App;
use crate::authenticated::{ByAccount, Json, PostAsGet};
use crate::error::AcmeError;
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
    ByAccount { account, payload: Json(request) }: ByAccount<Json<NewOrderRequest>>,
) -> Result<Response, AcmeError> {
    for (member, value) in [("notBefore", &request.not_before), ("notAfter", &request.not_after)] {
        if value.is_some() {
            return Err(AcmeError::ValidityNotSupported { member });
        }
    }
    let identifiers = request.parse_identifiers().map_err(AcmeError::Identifiers)?;
    let now = app.clock.now();
    let authorizations =
        identifiers.into_iter().map(|it| new_authorization(&app, it, now)).collect::<Result<_, _>>()?;
    let order = NewOrder {
        id: OrderId::new(now, random::octets(&*app.random)),
        account: account.id,
        expires_at: now.plus(app.settings.order_expiry),
        authorizations,
    };
    let span = tracing::Span::current();
    span.record("order.id", tracing::field::display(order.id));
    match app.store.order_create(order, now).await? {
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

fn new_authorization(
    app: &App,
    identifier: Identifier,
    now: akamu_proto::Timestamp,
) -> Result<NewAuthorization, AcmeError> {
    let challenges: Vec<_> = app
        .validators
        .offered_for(&identifier)
        .map(|challenge_type| NewChallenge {
            token: challenge_type.has_token().then(|| Token::from_random(random::octets(&*app.random))),
            challenge_type,
        })
        .collect();
    if challenges.is_empty() {
        return Err(AcmeError::NoChallengeType(Box::new(identifier)));
    }
    Ok(NewAuthorization {
        id: AuthorizationId::new(now, random::octets(&*app.random)),
        identifier,
        expires_at: now.plus(app.settings.authorization_expiry),
        challenges,
    })
}

/// POST-as-GET of an order; held while one of its validations runs.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    ByAccount { account, payload: PostAsGet }: ByAccount<PostAsGet>,
) -> Result<Response, AcmeError> {
    let id: OrderId = id.parse().map_err(|_| AcmeError::NotFound)?;
    let read = async || app.store.order(account.id, id, app.clock.now()).await?.ok_or(AcmeError::NotFound);
    let mut order = read().await?;
    let waits = |order: &Order| order.status == OrderStatus::Pending;
    if waits(&order)
        && let running = app.validations.running_among(&order.authorizations)
        && !running.is_empty()
        && let Some(held) = app.holds.hold(account.id, running)
    {
        let changed = held.changed();
        order = read().await?;
        if waits(&order) && !app.validations.running_among(&order.authorizations).is_empty() {
            app.wait_for(changed).await;
            order = read().await?;
        }
    }
    record_identifiers(&order);
    Ok(answer(&app, &order, StatusCode::OK))
}
