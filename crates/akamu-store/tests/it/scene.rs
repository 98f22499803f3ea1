//! What the tests begin with: accounts, orders, validations on their way.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use akamu_proto::{
    AccountId, AuthorizationId, CertificateId, ChallengeType, ErrorType, Identifier, OrderId, Problem, Thumbprint,
    Timestamp, Token,
};
use akamu_store::{
    AccountAnd, AccountCreated, Authorization, Certificate, Chain, ClaimLimits, Issuance, IssuanceBegun, Lease,
    LeaseRequest, NewAccount, NewAuthorization, NewCertificate, NewChallenge, NewIssuance, NewOrder, Order,
    OrderCreated, Owned, ReplicaId, RunningCounts, Store, Validation, ValidationBegun, ValidationOutcome,
    ValidationRecorded,
};

use crate::database::NOW;

/// How long leases last in the tests.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// What the tests' clients show.
pub(crate) const PROOF: &str = "token.thumbprint";
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const VALID: ValidationOutcome = ValidationOutcome::Valid { expires_no_later_than: None };

pub(crate) const NO_LIMITS: ClaimLimits = ClaimLimits {
    total: 100,
    for_account: 100,
    for_domain: 100,
    running: RunningCounts { by_account: BTreeMap::new(), by_domain: BTreeMap::new() },
};

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn ten_octets() -> [u8; 10] {
    let mut octets = [0; 10];
    octets[2..].copy_from_slice(&next().to_be_bytes());
    octets
}

pub(crate) fn lease() -> LeaseRequest {
    LeaseRequest { owner: ReplicaId::from_octets([7; 16]), duration: LEASE }
}

pub(crate) fn key(name: &str) -> (String, Thumbprint) {
    let jwk = format!("{{\"kty\":\"{name}\"}}");
    let thumbprint = Thumbprint::of_canonical_jwk(&jwk);
    (jwk, thumbprint)
}

pub(crate) fn new_account(key_name: &str) -> NewAccount {
    let (jwk, thumbprint) = key(key_name);
    NewAccount {
        id: AccountId::from_i64(i64::try_from(next()).unwrap()).unwrap(),
        jwk,
        thumbprint,
        contact: vec!["mailto:a@example.com".to_owned()],
        terms_agreed: true,
    }
}

/// An account with a key of its own.
pub(crate) async fn account(store: &Store) -> AccountId {
    match store.account_create(new_account(&format!("key {}", next())), NOW).await.unwrap() {
        AccountCreated::Created(account) => account.id,
        other @ AccountCreated::Existing(_) => panic!("{other:?}"),
    }
}

pub(crate) fn new_order(account: AccountId, names: &[&str]) -> NewOrder {
    let authorizations = names
        .iter()
        .map(|name| {
            let token = |it: u64| Some(Token::from_random([u8::try_from(it % 251).unwrap(); 32]));
            NewAuthorization {
                id: AuthorizationId::new(NOW, ten_octets()),
                identifier: Identifier::dns(name).unwrap(),
                expires_at: NOW.plus(DAY),
                challenges: vec![
                    NewChallenge { challenge_type: ChallengeType::HTTP_01, token: token(next()) },
                    NewChallenge { challenge_type: ChallengeType::DNS_01, token: token(next()) },
                    NewChallenge { challenge_type: ChallengeType::DNS_PERSIST_01, token: None },
                ],
            }
        })
        .collect();
    NewOrder { id: OrderId::new(NOW, ten_octets()), account, expires_at: NOW.plus(DAY), authorizations }
}

pub(crate) async fn order(store: &Store, account: AccountId, names: &[&str]) -> Order {
    match store.order_create(new_order(account, names), NOW).await.unwrap() {
        OrderCreated::Created(order) => order,
        other @ OrderCreated::AccountNotValid => panic!("{other:?}"),
    }
}

/// What an account can have, as it is stored.
pub(crate) trait Stored: Owned + Debug + PartialEq {
    async fn stored(store: &Store, account: AccountId, id: Self::Id, now: Timestamp) -> Option<Self>;
}

impl Stored for Order {
    async fn stored(store: &Store, account: AccountId, id: OrderId, now: Timestamp) -> Option<Self> {
        store.order(account, id, now).await.unwrap()
    }
}

impl Stored for Authorization {
    async fn stored(store: &Store, account: AccountId, id: AuthorizationId, now: Timestamp) -> Option<Self> {
        store.authorization(account, id, now).await.unwrap()
    }
}

impl Stored for Certificate {
    async fn stored(store: &Store, account: AccountId, id: CertificateId, _: Timestamp) -> Option<Self> {
        store.certificate(account, id).await.unwrap()
    }
}

/// What an account has by this id. A request is told of it as it is stored, though it may know it.
pub(crate) async fn found<T: Stored>(store: &Store, account: AccountId, id: T::Id, now: Timestamp) -> Option<T> {
    let stored = T::stored(store, account, id, now).await;
    match store.account_and::<T>(account, id, None, now).await.unwrap() {
        AccountAnd::Found(_, asked, _) => assert_eq!(asked, stored, "what a request is told of, and what is stored"),
        other => panic!("{other:?}"),
    }
    stored
}

/// The order as it is now.
pub(crate) async fn reread(store: &Store, order: &Order) -> Order {
    found(store, order.account, order.id, NOW).await.unwrap()
}

pub(crate) async fn begin_as(
    store: &Store,
    account: AccountId,
    id: AuthorizationId,
    challenge_type: &ChallengeType,
    lease: Option<LeaseRequest>,
    now: Timestamp,
) -> ValidationBegun {
    let Some(read) = found(store, account, id, now).await else { return ValidationBegun::NotFound };
    store.validation_begin(&read, challenge_type, PROOF, lease, now).await.unwrap()
}

/// Begins an authorization's http-01 validation.
pub(crate) async fn begin(store: &Store, account: AccountId, id: AuthorizationId) -> Lease<Validation> {
    match begin_as(store, account, id, &ChallengeType::HTTP_01, Some(lease()), NOW).await {
        ValidationBegun::Started(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// Leaves an authorization's http-01 challenge in the queue.
pub(crate) async fn enqueue(store: &Store, account: AccountId, id: AuthorizationId) {
    let begun = begin_as(store, account, id, &ChallengeType::HTTP_01, None, NOW).await;
    assert!(matches!(begun, ValidationBegun::Queued(_)), "{begun:?}");
}

pub(crate) async fn record(store: &Store, lease: Lease<Validation>, outcome: ValidationOutcome) -> ValidationRecorded {
    store.validation_record(lease, outcome, b"report", NOW).await.unwrap()
}

pub(crate) fn problem(detail: &str) -> Problem {
    Problem::new(ErrorType::Connection, detail)
}

/// An order whose authorizations are all valid.
pub(crate) async fn ready_order(store: &Store, account: AccountId, names: &[&str]) -> Order {
    let order = order(store, account, names).await;
    for id in &order.authorizations {
        let lease = begin(store, account, *id).await;
        let recorded = record(store, lease, VALID).await;
        assert!(matches!(recorded, ValidationRecorded::Recorded(_)), "{recorded:?}");
    }
    reread(store, &order).await
}

/// What is sent after a leaf.
pub(crate) const ISSUERS: &str = "the issuers";

/// An issuance whose CSR is told from others by `csr`.
pub(crate) fn new_issuance(csr: u8) -> NewIssuance {
    let mut serial = [0; 16];
    serial[8..].copy_from_slice(&next().to_be_bytes());
    NewIssuance { csr_digest: [csr; 32], serial, tbs: serial.to_vec() }
}

pub(crate) async fn finalize(store: &Store, order: &Order, new: NewIssuance) -> IssuanceBegun {
    store.issuance_begin(order.account, order.id, new, lease(), NOW).await.unwrap()
}

pub(crate) fn started(begun: IssuanceBegun) -> Lease<Issuance> {
    match begun {
        IssuanceBegun::Started(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// A certificate for what is leased.
pub(crate) async fn new_certificate(store: &Store, lease: &Lease<Issuance>) -> NewCertificate {
    certificate_under(store.chain_record(ISSUERS).await.unwrap(), lease)
}

pub(crate) fn certificate_under(chain: Chain, lease: &Lease<Issuance>) -> NewCertificate {
    NewCertificate { der: lease.subject().tbs.clone(), chain, not_before: NOW, not_after: NOW.plus(DAY) }
}

/// A certificate's serial number and id.
pub(crate) async fn issued(store: &Store, account: AccountId, name: &str) -> ([u8; 16], CertificateId) {
    let order = ready_order(store, account, &[name]).await;
    let new = new_issuance(1);
    let serial = new.serial;
    let lease = started(finalize(store, &order, new).await);
    let certificate = new_certificate(store, &lease).await;
    store.issuance_record(lease, certificate, NOW).await.unwrap();
    (serial, CertificateId::from_octets(serial))
}
