//! Runs a history: each operation on the store and by the rules, told in words.

mod client;
mod leased;

use akamu_proto::{AuthorizationId, ChallengeType, OrderId, RevocationReason};
use akamu_store::{
    AccountCreated, Issuance, IssuanceBegun, IssuanceRecorded, KeyChanged, Lease, OrderCreated, Revoked, Store,
    StoreError, Validation, ValidationBegun, ValidationOutcome, ValidationRecorded,
};

use super::invariants::{self, Refused, Seen};
use super::operation::{Operation, Pick, Replica, Verdict};
use super::rules::{HOUR, LEASE, Rules};
use super::servers::Servers;
use crate::database::NOW;
use crate::scene::{self, NO_LIMITS};

pub(super) const TYPES: [ChallengeType; 3] =
    [ChallengeType::HTTP_01, ChallengeType::DNS_01, ChallengeType::DNS_PERSIST_01];
const NAMES: [&str; 3] = ["a.test", "b.test", "c.test"];
/// Time goes no further: a store is open for each hour. Whatever a history makes in the beginning has expired by then.
const MAX_HOURS: u32 = 9;

/// A history on its way.
pub(super) struct History<'a> {
    servers: &'a mut Servers,
    rules: Rules,
    validations: Vec<Held<Validation>>,
    issuances: Vec<Held<Issuance>>,
    refused: Refused,
    seen: Seen,
}

/// A lease in the hands of a replica, which may have lost it.
struct Held<T> {
    replica: Replica,
    number: usize,
    lease: Lease<T>,
}

/// What was done, what the rules permit, what came of it.
struct Step {
    what: String,
    permitted: String,
    came: String,
}

impl<'a> History<'a> {
    /// Runs a history to its end, and tells how many steps it had; or to its first violation, and tells the story.
    pub(super) async fn run(servers: &'a mut Servers, operations: &[Operation]) -> Result<usize, String> {
        servers.empty();
        let mut this = Self {
            servers,
            rules: Rules::new(NOW),
            validations: Vec::new(),
            issuances: Vec::new(),
            refused: Refused::default(),
            seen: Seen::default(),
        };
        let mut story = Vec::new();
        for operation in operations {
            let violation = match this.step(*operation).await {
                Ok(None) => continue,
                Ok(Some(Step { what, permitted, came })) => {
                    story.push(format!("{}. {what} → {came}", story.len() + 1));
                    if came == permitted {
                        this.check().await.err()
                    } else {
                        Some(format!("permitted is: {permitted}"))
                    }
                }
                Err(error) => Some(format!("{operation:?} failed: {error:?}")),
            };
            if let Some(violation) = violation {
                return Err(format!("\n{}\nBut {violation}", story.join("\n")));
            }
        }
        let store = this.store(Replica::A).await;
        match invariants::check_records(&store, &this.rules, &this.refused).await {
            Ok(()) => Ok(story.len()),
            Err(violation) => Err(format!("\n{}\nBut {violation}", story.join("\n"))),
        }
    }

    async fn check(&mut self) -> Result<(), String> {
        // Each replica reads in its turn.
        let replica = if self.seen.readings().is_multiple_of(2) { Replica::A } else { Replica::B };
        let store = self.store(replica).await;
        invariants::check(&store, &self.rules, &mut self.seen).await
    }

    async fn store(&mut self, replica: Replica) -> Store {
        let hours = self.rules.now.since(NOW).as_secs() / HOUR.as_secs();
        self.servers.store(replica, u32::try_from(hours).unwrap()).await
    }

    fn name(&self, replica: Replica) -> String {
        if self.servers.is_sqlite() { "the server".to_owned() } else { format!("replica {replica:?}") }
    }

    fn order(&self, id: OrderId) -> usize {
        self.rules.orders.iter().position(|it| it.id == id).unwrap()
    }

    fn authorization(&self, id: AuthorizationId) -> usize {
        self.rules.authorizations.iter().position(|it| it.id == id).unwrap()
    }

    /// `None` where what the operation is about is not there.
    async fn step(&mut self, operation: Operation) -> Result<Option<Step>, StoreError> {
        use Operation as O;
        match operation {
            O::NewAccount { key } => self.new_account(key).await.map(Some),
            O::ChangeKey { account, key, is_from_current } => self.change_key(account, key, is_from_current).await,
            O::DeactivateAccount { account } => self.deactivate_account(account).await,
            O::NewOrder { account, names, reuses, order_hours, authorization_hours } => {
                let Some(account) = account.of(self.rules.accounts.len()) else { return Ok(None) };
                self.new_order(account, names, reuses, [order_hours, authorization_hours]).await.map(Some)
            }
            O::DeactivateAuthorization { authorization } => self.deactivate_authorization(authorization).await,
            O::BeginValidation { replica, authorization, challenge, is_queued } => {
                let Some(index) = authorization.of(self.rules.authorizations.len()) else { return Ok(None) };
                self.begin_validation(replica, index, challenge, is_queued).await.map(Some)
            }
            O::RecordValidation { lease, verdict } => {
                let Some(index) = lease.of(self.validations.len()) else { return Ok(None) };
                let held = self.validations.remove(index);
                self.record_validation(held, verdict).await.map(Some)
            }
            O::ReleaseValidation { lease } => {
                let Some(index) = lease.of(self.validations.len()) else { return Ok(None) };
                let held = self.validations.remove(index);
                self.release_validation(held).await.map(Some)
            }
            O::ClaimValidations { replica } => self.claim_validations(replica).await.map(Some),
            O::Finalize { replica, order, csr } => {
                let Some(index) = order.of(self.rules.orders.len()) else { return Ok(None) };
                self.finalize(replica, index, csr).await.map(Some)
            }
            O::RecordCertificate { lease } => {
                let Some(index) = lease.of(self.issuances.len()) else { return Ok(None) };
                let held = self.issuances.remove(index);
                self.record_certificate(held).await.map(Some)
            }
            O::FailIssuance { lease } => {
                let Some(index) = lease.of(self.issuances.len()) else { return Ok(None) };
                let held = self.issuances.remove(index);
                self.fail_issuance(held).await.map(Some)
            }
            O::ClaimIssuances { replica } => self.claim_issuances(replica).await.map(Some),
            O::Revoke { order } => self.revoke(order).await,
            O::Crash { replica } => Ok(Some(self.crash(replica).await)),
            O::TimePasses { hours } => Ok(self.time_passes(hours)),
        }
    }
}
