//! The states as RFC 8555 §7.1.6 lets them move, without a database. Each operation says in words what comes of it; the
//! store must say the same.

mod lease;

use std::time::Duration;

use akamu_proto::{
    AccountId, AuthorizationId, AuthorizationStatus, CertificateId, ChallengeStatus, OrderId, OrderStatus, Thumbprint,
    Timestamp,
};

use super::operation::Verdict;
use crate::scene;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// A lease ends when an hour passes, and not by PostgreSQL's own clock while a history runs.
pub(super) const LEASE: Duration = Duration::from_secs(1800);
/// Attempts that nobody finished, after which a challenge fails.
const MAX_ATTEMPTS: i16 = 3;

pub(super) struct Rules {
    pub(super) now: Timestamp,
    pub(super) accounts: Vec<Account>,
    pub(super) authorizations: Vec<Authorization>,
    pub(super) orders: Vec<Order>,
    leases: usize,
}

pub(super) struct Account {
    pub(super) id: AccountId,
    /// Every key that it ever had, the current one last.
    pub(super) keys: Vec<usize>,
    pub(super) is_valid: bool,
}

pub(super) struct Authorization {
    pub(super) id: AuthorizationId,
    pub(super) account: usize,
    pub(super) name: &'static str,
    pub(super) status: AuthorizationStatus,
    pub(super) expires_at: Timestamp,
    pub(super) challenges: [Challenge; 3],
}

#[derive(Clone, Copy)]
pub(super) struct Challenge {
    pub(super) status: ChallengeStatus,
    pub(super) attempt: i16,
    pub(super) is_reported: bool,
    hold: Hold,
}

pub(super) struct Order {
    pub(super) id: OrderId,
    pub(super) account: usize,
    pub(super) authorizations: Vec<usize>,
    pub(super) status: OrderStatus,
    pub(super) expires_at: Timestamp,
    csr: Option<u8>,
    pub(super) serial: Option<[u8; 16]>,
    pub(super) certificate: Option<CertificateId>,
    pub(super) is_revoked: bool,
    hold: Hold,
}

/// Who may record: the number of a lease, and when others may take it.
#[derive(Clone, Copy, Default)]
struct Hold {
    lease: Option<usize>,
    ends_at: Option<Timestamp>,
}

impl Hold {
    fn is_free(self, now: Timestamp) -> bool {
        self.ends_at.is_none_or(|it| it < now)
    }
}

impl Account {
    /// Of every key that it ever had, the current one's first.
    pub(super) fn thumbprints(&self) -> Vec<Thumbprint> {
        self.keys.iter().rev().map(|it| scene::key(&format!("key {it}")).1).collect()
    }
}

impl Rules {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { now, accounts: Vec::new(), authorizations: Vec::new(), orders: Vec::new(), leases: 0 }
    }

    fn hold(&mut self) -> Hold {
        self.leases += 1;
        Hold { lease: Some(self.leases), ends_at: Some(self.now.plus(LEASE)) }
    }

    /// The number of the newest lease.
    pub(super) fn newest_lease(&self) -> usize {
        self.leases
    }

    pub(super) fn owner_of(&self, key: usize) -> Option<usize> {
        self.accounts.iter().position(|it| it.keys.last() == Some(&key))
    }

    pub(super) fn new_account(&mut self, id: AccountId, key: usize) -> String {
        if let Some(owner) = self.owner_of(key) {
            return format!("it has account {}", owner + 1);
        }
        self.accounts.push(Account { id, keys: vec![key], is_valid: true });
        format!("account {} is made", self.accounts.len())
    }

    pub(super) fn change_key(&mut self, account: usize, old: usize, new: usize) -> String {
        match self.owner_of(new) {
            // Its answer may have been lost: the account has that key.
            Some(owner) if owner == account && old != new => return "changed".to_owned(),
            Some(owner) => return format!("account {} has it", owner + 1),
            None => {}
        }
        let account = &mut self.accounts[account];
        if !account.is_valid || account.keys.last() != Some(&old) {
            return "conflict".to_owned();
        }
        account.keys.push(new);
        "changed".to_owned()
    }

    pub(super) fn deactivate_account(&mut self, account: usize) -> String {
        if std::mem::take(&mut self.accounts[account].is_valid) {
            for order in self.orders.iter_mut().filter(|it| it.account == account) {
                order.fail();
            }
            for authorization in self.authorizations.iter_mut().filter(|it| it.account == account) {
                if authorization.status == AuthorizationStatus::Pending {
                    authorization.status = AuthorizationStatus::Deactivated;
                }
            }
        }
        "deactivated".to_owned()
    }

    pub(super) fn new_authorization(
        &mut self,
        id: AuthorizationId,
        account: usize,
        name: &'static str,
        expires_at: Timestamp,
    ) -> usize {
        let challenge =
            Challenge { status: ChallengeStatus::Pending, attempt: 0, is_reported: false, hold: Hold::default() };
        let status = AuthorizationStatus::Pending;
        self.authorizations.push(Authorization { id, account, name, status, expires_at, challenges: [challenge; 3] });
        self.authorizations.len() - 1
    }

    /// An authorization of the account that a new order for the name may have again.
    pub(super) fn reusable(&self, account: usize, name: &str) -> Option<usize> {
        self.authorizations.iter().position(|it| {
            let is_good = matches!(it.status, AuthorizationStatus::Pending | AuthorizationStatus::Valid);
            it.account == account && it.name == name && is_good && it.expires_at > self.now
        })
    }

    pub(super) fn new_order(&mut self, id: OrderId, account: usize, expires_at: Timestamp, authorizations: Vec<usize>) {
        let is_ready = authorizations.iter().all(|it| self.authorizations[*it].status == AuthorizationStatus::Valid);
        let status = if is_ready { OrderStatus::Ready } else { OrderStatus::Pending };
        self.orders.push(Order {
            id,
            account,
            authorizations,
            status,
            expires_at,
            csr: None,
            serial: None,
            certificate: None,
            is_revoked: false,
            hold: Hold::default(),
        });
    }

    pub(super) fn deactivate_authorization(&mut self, index: usize) -> String {
        let authorization = &mut self.authorizations[index];
        if authorization.expires_at <= self.now {
            return "not found".to_owned();
        }
        if matches!(authorization.status, AuthorizationStatus::Pending | AuthorizationStatus::Valid) {
            authorization.status = AuthorizationStatus::Deactivated;
            self.fail_orders_of(index);
        }
        self.authorizations[index].status.to_string()
    }

    /// What a client reads: time alone makes an order invalid, its own or an authorization's.
    pub(super) fn order_status(&self, index: usize) -> OrderStatus {
        let order = &self.orders[index];
        let ends_at = order.authorizations.iter().map(|it| self.authorizations[*it].expires_at);
        let has_expired = ends_at.chain([order.expires_at]).any(|it| it <= self.now);
        match order.status {
            OrderStatus::Pending | OrderStatus::Ready if has_expired => OrderStatus::Invalid,
            status => status,
        }
    }

    fn wants_result(&self, index: usize) -> bool {
        let it = &self.authorizations[index];
        self.accounts[it.account].is_valid && it.expires_at > self.now && it.status == AuthorizationStatus::Pending
    }

    fn fail_orders_of(&mut self, authorization: usize) {
        for order in self.orders.iter_mut().filter(|it| it.authorizations.contains(&authorization)) {
            order.fail();
        }
    }
}

impl Order {
    /// Ends an order that waits.
    fn fail(&mut self) {
        if matches!(self.status, OrderStatus::Pending | OrderStatus::Ready) {
            self.status = OrderStatus::Invalid;
        }
    }
}
