//! Accounts (RFC 8555 §7.3).

use std::sync::Arc;

use akamu_proto::{AccountId, AccountObject, AccountStatus, AccountUpdateRequest, Contact, NewAccountRequest};
use akamu_store::{Account, AccountCreated, NewAccount};
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use http::header::LOCATION;

use crate::app::App;
use crate::authenticated::{ByAccount, ByKey, Json};
use crate::error::AcmeError;
use crate::random;
use crate::router::{json, with_header};

pub(super) fn answer(app: &App, account: &Account, status: StatusCode) -> Response {
    let object = AccountObject {
        status: account.status,
        contact: account.contact.clone(),
        terms_of_service_agreed: account.terms_agreed,
    };
    with_header(json(status, &object), LOCATION, app.base_url.account(account.id).as_str())
}

fn contacts(urls: &[String]) -> Result<Vec<String>, AcmeError> {
    Ok(Contact::parse_all(urls)?.iter().map(|it| it.as_str().to_owned()).collect())
}

/// newAccount: 201 for a new key, 200 for a known one.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    ByKey { jwk, payload: Json(request), store }: ByKey<Json<NewAccountRequest>>,
) -> Result<Response, AcmeError> {
    let thumbprint = jwk.thumbprint();
    let known = store.account_by_thumbprint(&thumbprint).await?;
    if known.is_none() && request.only_return_existing == Some(true) {
        return Err(AcmeError::NoAccountWithThisKey);
    }
    let account = match known {
        Some(account) => account,
        None => {
            let terms_agreed = request.terms_of_service_agreed == Some(true);
            if let (Some(terms), false) = (&app.settings.meta.terms_of_service, terms_agreed) {
                return Err(AcmeError::TermsNotAgreed { terms: terms.clone() });
            }
            let account = NewAccount {
                id: random::account_id(&*app.random),
                jwk: jwk.canonical().to_owned(),
                thumbprint,
                contact: contacts(request.contact.as_deref().unwrap_or_default())?,
                terms_agreed,
            };
            match store.account_create(account, app.clock.now()).await? {
                AccountCreated::Created(account) => {
                    tracing::Span::current().record("account.id", account.id.as_i64());
                    return Ok(answer(&app, &account, StatusCode::CREATED));
                }
                AccountCreated::Existing(account) => account,
            }
        }
    };
    tracing::Span::current().record("account.id", account.id.as_i64());
    if account.status != AccountStatus::Valid {
        return Err(AcmeError::AccountNotValid { status: account.status });
    }
    Ok(answer(&app, &account, StatusCode::OK))
}

/// POST-as-GET, update (§7.3.2) and deactivation (§7.3.6).
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    ByAccount { account, payload, store }: ByAccount<Option<Json<AccountUpdateRequest>>>,
) -> Result<Response, AcmeError> {
    if id.parse::<AccountId>().ok() != Some(account.id) {
        return Err(AcmeError::NotFound);
    }
    let Some(Json(request)) = payload else { return Ok(answer(&app, &account, StatusCode::OK)) };
    let now = app.clock.now();
    let updated = match request.status.as_deref() {
        Some("deactivated") => store.account_deactivate(account.id, now).await?,
        Some(status) if status != account.status.as_str() => return Err(AcmeError::StatusNotAllowed),
        _ => match request.contact {
            Some(urls) => store.account_update_contact(account.id, contacts(&urls)?, now).await?,
            None => return Ok(answer(&app, &account, StatusCode::OK)),
        },
    };
    let account = updated.ok_or(AcmeError::NotFound)?;
    Ok(answer(&app, &account, StatusCode::OK))
}
