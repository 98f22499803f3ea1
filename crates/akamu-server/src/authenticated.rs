//! From octets to an authenticated request (RFC 8555 §6.2–§6.5). No handler of a POST runs without it.
//!
//! The order is: what is cheap and needs no key (content type, size, shape, algorithm, url, the nonce's authenticity
//! and age), then the signature, then the nonce is redeemed, then the account's state. Nothing is written for a sender
//! who proved nothing.

use std::str::FromStr;
use std::sync::Arc;

use akamu_proto::{AccountId, AccountStatus, Jwk, Jws, KeyReference, Timestamp, VerifyingKey};
use akamu_store::{Account, AccountAnd, CheckedNonce, NonceError, Owned, Store};
use axum::RequestExt as _;
use axum::body::Bytes;
use axum::extract::{FromRequest, RawPathParams, Request};
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::error::AcmeError;
use crate::request_body;

/// What a POST's payload must be.
pub(crate) trait Payload: Sized {
    /// Reads the payload of a request whose signature was right.
    fn parse(octets: &[u8]) -> Result<Self, AcmeError>;
}

/// An empty payload (RFC 8555 §6.3).
#[derive(Debug)]
pub(crate) struct PostAsGet;

impl Payload for PostAsGet {
    fn parse(octets: &[u8]) -> Result<Self, AcmeError> {
        if octets.is_empty() { Ok(Self) } else { Err(AcmeError::PostAsGetExpected) }
    }
}

/// A JSON object.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> Payload for Json<T> {
    fn parse(octets: &[u8]) -> Result<Self, AcmeError> {
        // A list would be taken for a struct whose members it gives by position.
        if octets.trim_ascii_start().first() != Some(&b'{') {
            return Err(AcmeError::Payload { reason: "a JSON object is expected".to_owned() });
        }
        let value = serde_json::from_slice(octets).map_err(|error| AcmeError::Payload { reason: error.to_string() })?;
        Ok(Self(value))
    }
}

/// `None` for POST-as-GET, else a JSON object.
impl<T: DeserializeOwned> Payload for Option<Json<T>> {
    fn parse(octets: &[u8]) -> Result<Self, AcmeError> {
        if octets.is_empty() { Ok(None) } else { Json::parse(octets).map(Some) }
    }
}

/// The payload as it came: keyChange's is another JWS.
impl Payload for Bytes {
    fn parse(octets: &[u8]) -> Result<Self, AcmeError> {
        Ok(Self::copy_from_slice(octets))
    }
}

/// Signed by the key of a valid account, named by `kid`.
#[derive(Debug)]
pub(crate) struct ByAccount<P> {
    pub(crate) account: Arc<Account>,
    pub(crate) payload: P,
    /// The store, for what this request changes.
    pub(crate) store: Store,
}

/// Signed by the key of a valid account, which has what the URL names.
#[derive(Debug)]
pub(crate) struct ByOwner<O, P> {
    pub(crate) account: Arc<Account>,
    /// As it was before the signature was checked.
    pub(crate) object: O,
    pub(crate) payload: P,
    /// The store, for what this request changes.
    pub(crate) store: Store,
}

/// Signed by the key in `jwk` (newAccount).
#[derive(Debug)]
pub(crate) struct ByKey<P> {
    pub(crate) jwk: Jwk,
    pub(crate) payload: P,
    /// The store, for what this request changes.
    pub(crate) store: Store,
}

/// Signed by an account or by a key (revokeCert).
#[derive(Debug)]
pub(crate) enum Signer {
    /// A valid account.
    Account(Arc<Account>),
    /// A key.
    Key(Jwk),
}

/// Signed by an account or by a key (revokeCert).
#[derive(Debug)]
pub(crate) struct ByEither<P> {
    pub(crate) signer: Signer,
    pub(crate) payload: P,
    /// The store, for what this request changes.
    pub(crate) store: Store,
}

/// A request whose signature, nonce and account are good.
struct Authenticated<O> {
    signer: Signer,
    /// What the account has by the id that was asked for.
    object: Option<O>,
    jws: Jws,
    store: Store,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Kid,
    Jwk,
    Either,
}

impl<P: Payload> FromRequest<Arc<App>> for ByAccount<P> {
    type Rejection = AcmeError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, AcmeError> {
        let Authenticated { signer, jws, store, .. } = authenticate::<()>(request, app, Policy::Kid, ()).await?;
        match signer {
            Signer::Account(account) => Ok(Self { account, payload: P::parse(jws.payload())?, store }),
            Signer::Key(_) => Err(AcmeError::KidExpected),
        }
    }
}

impl<O: Owned, P: Payload> FromRequest<Arc<App>> for ByOwner<O, P>
where
    O::Id: FromStr,
{
    type Rejection = AcmeError;

    async fn from_request(mut request: Request, app: &Arc<App>) -> Result<Self, AcmeError> {
        let parameters = request.extract_parts::<RawPathParams>().await.map_err(|_| AcmeError::NotFound)?;
        let Some(id) = parameters.iter().next().and_then(|(_, id)| id.parse::<O::Id>().ok()) else {
            // Whoever asks is told first whether the request was good.
            authenticate::<()>(request, app, Policy::Kid, ()).await?;
            return Err(AcmeError::NotFound);
        };
        let Authenticated { signer, object, jws, store } = authenticate::<O>(request, app, Policy::Kid, id).await?;
        match signer {
            Signer::Account(account) => {
                let payload = P::parse(jws.payload())?;
                Ok(Self { account, object: object.ok_or(AcmeError::NotFound)?, payload, store })
            }
            Signer::Key(_) => Err(AcmeError::KidExpected),
        }
    }
}

impl<P: Payload> FromRequest<Arc<App>> for ByKey<P> {
    type Rejection = AcmeError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, AcmeError> {
        let Authenticated { signer, jws, store, .. } = authenticate::<()>(request, app, Policy::Jwk, ()).await?;
        match signer {
            Signer::Key(jwk) => Ok(Self { jwk, payload: P::parse(jws.payload())?, store }),
            Signer::Account(_) => Err(AcmeError::JwkExpected),
        }
    }
}

impl<P: Payload> FromRequest<Arc<App>> for ByEither<P> {
    type Rejection = AcmeError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, AcmeError> {
        let Authenticated { signer, jws, store, .. } = authenticate::<()>(request, app, Policy::Either, ()).await?;
        Ok(Self { signer, payload: P::parse(jws.payload())?, store })
    }
}

/// Who signed it, and what an account has by this id.
async fn authenticate<O: Owned>(
    request: Request,
    app: &App,
    policy: Policy,
    id: O::Id,
) -> Result<Authenticated<O>, AcmeError> {
    let expected_url = app.base_url.of_path(request.uri().path());
    check_content_type(&request)?;
    let body = request_body::read(request, app).await?;
    let jws = Jws::parse(&body)?;
    let header = jws.header();
    if header.url != expected_url {
        return Err(AcmeError::WrongUrl { signed: header.url.chars().take(300).collect(), expected: expected_url });
    }
    let now = app.clock.now();
    let nonce = header.nonce.as_deref().ok_or(AcmeError::NoNonce)?;
    let nonce = app.store.nonce_check(nonce, now).map_err(nonce_error)?;
    match &header.key {
        KeyReference::Kid(_) if policy == Policy::Jwk => Err(AcmeError::JwkExpected),
        KeyReference::Jwk(_) if policy == Policy::Kid => Err(AcmeError::KidExpected),
        KeyReference::Jwk(jwk) => {
            jws.verify(&VerifyingKey::new(jwk)?)?;
            let store = redeem(app, nonce, now).await?;
            let jwk = (**jwk).clone();
            Ok(Authenticated { signer: Signer::Key(jwk), object: None, jws, store })
        }
        KeyReference::Kid(kid) => {
            let no_such_account = || AcmeError::NoSuchAccount { kid: kid.chars().take(300).collect() };
            let account = app.base_url.account_id(kid).ok_or_else(no_such_account)?;
            let found = by_account(app, &jws, account, id, nonce, now).await?;
            let (account, object, store) = found.ok_or_else(no_such_account)?;
            tracing::Span::current().record("account.id", account.id.as_i64());
            if account.status != AccountStatus::Valid {
                return Err(AcmeError::AccountNotValid { status: account.status });
            }
            Ok(Authenticated { signer: Signer::Account(account), object, jws, store })
        }
    }
}

/// The account, whose key has signed, what it has by this id, and the store for the request; `None` where there is no such
/// account.
///
/// A sender who had the key with which the account was last seen has proved enough for the nonce to be redeemed in the
/// operation that reads the account. Whether that is still its key is decided by what was read.
async fn by_account<O: Owned>(
    app: &App,
    jws: &Jws,
    account: AccountId,
    id: O::Id,
    nonce: CheckedNonce,
    now: Timestamp,
) -> Result<Option<(Arc<Account>, Option<O>, Store)>, AcmeError> {
    let seen = app.keys.last(account).map(|it| (jws.verify(&it.key), it));
    let is_proven = matches!(seen, Some((Ok(()), _)));
    let (with_account, after) = if is_proven { (Some(nonce), None) } else { (None, Some(nonce)) };
    let (account, found, redeemed) = match app.store.account_and::<O>(account, id, with_account, now).await? {
        AccountAnd::Found(account, found, redeemed) => (account, found, redeemed),
        AccountAnd::NoAccount => return Ok(None),
        AccountAnd::BadNonce => return Err(AcmeError::BadNonce),
    };
    match seen {
        Some((verdict, key)) if *key.jwk == *account.jwk => verdict?,
        _ => jws.verify(&app.keys.now(account.id, &account.jwk)?.key)?,
    }
    let store = match after {
        Some(nonce) => redeem(app, nonce, now).await?,
        None => app.store.for_request(redeemed),
    };
    Ok(Some((account, found, store)))
}

/// The inner JWS of keyChange (RFC 8555 §7.3.5): signed by the new key, for the same URL, without a nonce.
pub(crate) fn verify_inner(octets: &[u8], url: &str) -> Result<(Jwk, Jws), AcmeError> {
    let jws = Jws::parse(octets).map_err(AcmeError::InnerJws)?;
    let KeyReference::Jwk(jwk) = &jws.header().key else {
        return Err(AcmeError::KeyChange { reason: "the inner JWS must carry the new key as \"jwk\"" });
    };
    if jws.header().url != url {
        return Err(AcmeError::KeyChange { reason: "the inner JWS must have the same \"url\" as the outer one" });
    }
    if jws.header().nonce.is_some() {
        return Err(AcmeError::KeyChange { reason: "the inner JWS must not have a \"nonce\"" });
    }
    let key = VerifyingKey::new(jwk).map_err(|error| AcmeError::InnerJws(error.into()))?;
    jws.verify(&key).map_err(AcmeError::InnerJws)?;
    let jwk = (**jwk).clone();
    Ok((jwk, jws))
}

fn nonce_error(error: NonceError) -> AcmeError {
    match error {
        NonceError::Malformed => AcmeError::NonceMalformed,
        NonceError::Bad => AcmeError::BadNonce,
    }
}

async fn redeem(app: &App, nonce: CheckedNonce, now: Timestamp) -> Result<Store, AcmeError> {
    let redeemed = app.store.nonce_redeem(nonce, now).await?.ok_or(AcmeError::BadNonce)?;
    Ok(app.store.for_request(redeemed))
}

fn check_content_type(request: &Request) -> Result<(), AcmeError> {
    let value = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).ok_or(AcmeError::ContentType)?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/jose+json") { Ok(()) } else { Err(AcmeError::ContentType) }
}
