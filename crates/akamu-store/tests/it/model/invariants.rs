//! What must hold after every step, whatever happened: read through the store, as a client would.

use std::collections::BTreeMap;
use std::fmt::Debug;

use akamu_proto::{AccountId, AccountStatus, AuthorizationStatus, ChallengeStatus, OrderStatus};
use akamu_store::{AccountAnd, Authorization, Certificate, Order, Owned, RedeemedNonce, Store, StoreError};

use super::history::TYPES;
use super::rules::{self, Rules};
use crate::database::hex;

/// What was drawn for certificates that nobody may ever see.
#[derive(Default)]
pub(super) struct Refused {
    pub(super) serials: Vec<[u8; 16]>,
}

/// The final states that were read so far.
#[derive(Default)]
pub(super) struct Seen {
    final_states: BTreeMap<String, &'static str>,
    readings: usize,
}

impl Seen {
    /// How often everything was read.
    pub(super) fn readings(&self) -> usize {
        self.readings
    }

    /// Nothing leaves a final state.
    fn state(&mut self, what: String, status: &'static str, is_final: bool) -> Result<(), String> {
        match self.final_states.get(&what) {
            Some(known) if *known != status => return Err(format!("{what} was {known}, and is {status}")),
            None if is_final => drop(self.final_states.insert(what, status)),
            _ => {}
        }
        Ok(())
    }
}

fn must(holds: bool, violation: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(violation()) }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it by value")]
fn unreadable(error: StoreError) -> String {
    format!("nothing can be read: {error:?}")
}

/// What stands for a TBSCertificate, and for what is made of it.
pub(super) fn tbs(names: &[&str], serial: &[u8]) -> String {
    format!("{} for {}", hex(serial), names.join(" "))
}

/// Asks for what an account has as a request does, which may know it: it must be what is stored.
async fn asked_for<T: Owned + Debug + PartialEq>(
    store: &Store,
    account: AccountId,
    id: T::Id,
    rules: &Rules,
    stored: Option<&T>,
) -> Result<(), String> {
    let asked = store.account_and::<T>(account, id, None, rules.now).await.map_err(unreadable)?;
    must(matches!(&asked, AccountAnd::Found(_, it, _) if it.as_ref() == stored), || {
        format!("stored is {stored:?}, and a request is told of {asked:?}")
    })
}

/// Reads back what has a state. The text says what does not hold.
pub(super) async fn check(store: &Store, rules: &Rules, seen: &mut Seen) -> Result<(), String> {
    seen.readings += 1;
    for (index, known) in rules.accounts.iter().enumerate() {
        let name = format!("account {}", index + 1);
        let found = store.account(known.id).await.map_err(unreadable)?.ok_or_else(|| format!("{name} is gone"))?;
        let asked = store.account_and::<()>(known.id, (), None, rules.now).await.map_err(unreadable)?;
        must(asked == AccountAnd::Found(found.clone().into(), Some(()), RedeemedNonce::default()), || {
            format!("{name} is {found:?}, and {asked:?}")
        })?;
        seen.state(name.clone(), found.status.as_str(), found.status != AccountStatus::Valid)?;
        must((found.status == AccountStatus::Valid) == known.is_valid, || format!("{name} is {}", found.status))?;
        must(found.thumbprint == known.thumbprints()[0], || format!("{name} has not its current key"))?;
    }
    let mut authorizations = Vec::new();
    for index in 0..rules.authorizations.len() {
        authorizations.push(authorization(store, rules, index, seen).await?);
    }
    for index in 0..rules.orders.len() {
        order(store, rules, index, &authorizations, seen).await?;
    }
    Ok(())
}

/// Reads back, at a history's end, what stays wrong once it is.
pub(super) async fn check_records(store: &Store, rules: &Rules, refused: &Refused) -> Result<(), String> {
    for (index, known) in rules.accounts.iter().enumerate() {
        let kept = store.account_thumbprints(known.id).await.map_err(unreadable)?;
        let known = known.thumbprints();
        let is_kept = kept.first() == known.first() && known.iter().all(|it| kept.contains(it));
        must(is_kept, || format!("account {} has lost a thumbprint", index + 1))?;
    }
    for (index, known) in rules.authorizations.iter().enumerate() {
        for (challenge, challenge_type) in known.challenges.iter().zip(&TYPES) {
            let report = store.validation_report(known.id, challenge_type).await.map_err(unreadable)?;
            must(report.is_some() == challenge.is_reported, || {
                let has = if challenge.is_reported { "lost its" } else { "a" };
                format!("authorization {} has {has} report of {}", index + 1, challenge_type.as_str())
            })?;
        }
    }
    for serial in &refused.serials {
        let found = store.certificate_by_serial(serial).await.map_err(unreadable)?;
        must(found.is_none(), || format!("there is a certificate with serial {}, which was refused", hex(serial)))?;
    }
    Ok(())
}

/// Checks an authorization and gives what is read; `None`: it has expired.
async fn authorization(
    store: &Store,
    rules: &Rules,
    index: usize,
    seen: &mut Seen,
) -> Result<Option<Authorization>, String> {
    let known = &rules.authorizations[index];
    let name = format!("authorization {} for {}", index + 1, known.name);
    let account = rules.accounts[known.account].id;
    let found = store.authorization(account, known.id, rules.now).await.map_err(unreadable)?;
    asked_for::<Authorization>(store, account, known.id, rules, found.as_ref()).await?;
    let Some(found) = found else {
        must(known.expires_at <= rules.now, || format!("{name} is gone"))?;
        return Ok(None);
    };
    must(known.expires_at > rules.now && found.expires_at == known.expires_at, || {
        format!("{name} expires at {}, and should at {}", found.expires_at, known.expires_at)
    })?;
    let status = found.status;
    let is_final = !matches!(status, AuthorizationStatus::Pending | AuthorizationStatus::Valid);
    seen.state(name.clone(), status.as_str(), is_final)?;
    let count = |wanted| found.challenges.iter().filter(|it| it.status == wanted).count();
    let proven = [ChallengeStatus::Processing, ChallengeStatus::Valid, ChallengeStatus::Invalid].map(count);
    let fits = match status {
        AuthorizationStatus::Pending => proven[0] <= 1 && proven[1..] == [0, 0],
        AuthorizationStatus::Valid => proven == [0, 1, 0],
        AuthorizationStatus::Invalid => proven == [0, 0, 1],
        _ => proven[2] == 0,
    };
    must(fits, || format!("{name} is {status}, its challenges {:?}", found.challenges))?;
    must(status == known.status, || format!("{name} is {status}, and should be {}", known.status))?;
    for (read, known) in found.challenges.iter().zip(&known.challenges) {
        let challenge = format!("{} of {name}", read.challenge_type.as_str());
        let is_final = matches!(read.status, ChallengeStatus::Valid | ChallengeStatus::Invalid);
        seen.state(challenge.clone(), read.status.as_str(), is_final)?;
        must((read.status, read.attempt) == (known.status, known.attempt), || {
            format!(
                "{challenge} is {}, attempt {}; it should be {}, attempt {}",
                read.status, read.attempt, known.status, known.attempt
            )
        })?;
    }
    Ok(Some(found))
}

async fn order(
    store: &Store,
    rules: &Rules,
    index: usize,
    authorizations: &[Option<Authorization>],
    seen: &mut Seen,
) -> Result<(), String> {
    let known = &rules.orders[index];
    let name = format!("order {}", index + 1);
    let account = rules.accounts[known.account].id;
    let found = store.order(account, known.id, rules.now).await.map_err(unreadable)?;
    asked_for::<Order>(store, account, known.id, rules, found.as_ref()).await?;
    let found = found.ok_or_else(|| format!("{name} is gone"))?;
    let status = found.status;
    seen.state(name.clone(), status.as_str(), matches!(status, OrderStatus::Valid | OrderStatus::Invalid))?;
    let states: Vec<_> =
        known.authorizations.iter().map(|it| authorizations[*it].as_ref().map(|it| it.status)).collect();
    let read = |state: &Option<AuthorizationStatus>| state.map_or("expired", AuthorizationStatus::as_str);
    let texts: Vec<_> = states.iter().map(read).collect();
    let fits = match status {
        OrderStatus::Pending => texts.contains(&"pending") && texts.iter().all(|it| ["pending", "valid"].contains(it)),
        OrderStatus::Ready => texts.iter().all(|it| *it == "valid"),
        OrderStatus::Processing | OrderStatus::Valid | OrderStatus::Invalid => true,
    };
    must(fits, || format!("{name} is {status}, and its authorizations are {}", texts.join(", ")))?;
    must(found.error.is_some() == (status == OrderStatus::Invalid), || {
        format!("{name} is {status}, and its error is {:?}", found.error)
    })?;
    certificate(store, rules, &found, known, &name).await?;
    let expected = rules.order_status(index);
    must(status == expected, || format!("{name} is {status}, and should be {expected}"))?;
    must(found.certificate == known.certificate, || format!("{name} has another certificate than was recorded"))
}

/// An order is valid with the one certificate that has its names and its serial, and has none before.
async fn certificate(
    store: &Store,
    rules: &Rules,
    order: &Order,
    known: &rules::Order,
    name: &str,
) -> Result<(), String> {
    let serial = known.serial.as_ref();
    let by_serial = match serial {
        Some(serial) => store.certificate_by_serial(serial).await.map_err(unreadable)?,
        None => None,
    };
    must(order.certificate.is_some() == (order.status == OrderStatus::Valid), || {
        format!("{name} is {}, and its certificate is {:?}", order.status, order.certificate)
    })?;
    let by_id = match order.certificate {
        Some(id) => {
            let stored = store.certificate(order.account, id).await.map_err(unreadable)?;
            asked_for::<Certificate>(store, order.account, id, rules, stored.as_ref()).await?;
            stored
        }
        None => None,
    };
    must(by_id == by_serial, || format!("{name} has not the certificate that has its serial"))?;
    must(by_id.is_some() == order.certificate.is_some(), || format!("the certificate of {name} is gone"))?;
    let is_revoked = by_id.as_ref().is_some_and(|it| it.revoked_at.is_some());
    must(is_revoked == known.is_revoked, || format!("the revocation of {name}'s certificate is not as it was"))?;
    let names: Vec<_> = order.identifiers.iter().map(|it| it.value()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let is_its_own = |der: &[u8]| serial.is_some_and(|it| der == tbs(&names, it).as_bytes());
    must(by_id.is_none_or(|it| is_its_own(&it.der)), || {
        format!("the certificate of {name} has other names or another serial")
    })
}
