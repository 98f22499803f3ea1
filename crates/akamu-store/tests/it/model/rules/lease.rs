//! Validations and issuances: who may record, and what a result moves.

use akamu_proto::{AuthorizationStatus, CertificateId, ChallengeStatus, OrderStatus};

use super::{HOUR, Hold, MAX_ATTEMPTS, Rules, Verdict};

impl Rules {
    pub(in super::super) fn begin_validation(&mut self, index: usize, challenge: usize, is_queued: bool) -> String {
        let authorization = &self.authorizations[index];
        if authorization.expires_at <= self.now {
            return "not found".to_owned();
        }
        let is_idle = authorization.challenges.iter().all(|it| it.status != ChallengeStatus::Processing);
        let is_pending = authorization.challenges[challenge].status == ChallengeStatus::Pending;
        if !self.wants_result(index) || !is_idle || !is_pending {
            return format!("unchanged, {}", authorization.status);
        }
        let hold = if is_queued { Hold::default() } else { self.hold() };
        let challenge = &mut self.authorizations[index].challenges[challenge];
        challenge.status = ChallengeStatus::Processing;
        challenge.hold = hold;
        if is_queued {
            return "queued".to_owned();
        }
        challenge.attempt += 1;
        format!("attempt {}", challenge.attempt)
    }

    pub(in super::super) fn record_validation(
        &mut self,
        index: usize,
        challenge: usize,
        lease: usize,
        verdict: Verdict,
    ) -> String {
        let (now, is_wanted) = (self.now, self.wants_result(index));
        let authorization = &mut self.authorizations[index];
        let it = &mut authorization.challenges[challenge];
        if it.status != ChallengeStatus::Processing || it.hold.lease != Some(lease) {
            return "not recorded, the lease is lost".to_owned();
        }
        it.is_reported = true;
        it.hold = Hold::default();
        if !is_wanted {
            it.status = ChallengeStatus::Pending;
            return "not wanted any more, the report is kept".to_owned();
        }
        if let Verdict::Invalid = verdict {
            it.status = ChallengeStatus::Invalid;
            authorization.status = AuthorizationStatus::Invalid;
            self.fail_orders_of(index);
            return "recorded".to_owned();
        }
        it.status = ChallengeStatus::Valid;
        authorization.status = AuthorizationStatus::Valid;
        if let Verdict::ValidForAnHour = verdict {
            authorization.expires_at = authorization.expires_at.min(now.plus(HOUR));
        }
        let is_valid = |it: &usize| self.authorizations[*it].status == AuthorizationStatus::Valid;
        for order in &mut self.orders {
            let waits = order.status == OrderStatus::Pending && order.authorizations.contains(&index);
            if waits && order.authorizations.iter().all(is_valid) {
                order.status = OrderStatus::Ready;
            }
        }
        "recorded".to_owned()
    }

    pub(in super::super) fn release_validation(&mut self, index: usize, challenge: usize, lease: usize) {
        let it = &mut self.authorizations[index].challenges[challenge];
        if it.status == ChallengeStatus::Processing && it.hold.lease == Some(lease) {
            it.attempt -= 1;
            it.hold = Hold::default();
        }
    }

    /// Goes through what is processing and free: leases it, fails it after too many attempts, frees it where its result
    /// is not wanted. What is leased: the authorization, the position of its challenge, the lease's number.
    pub(in super::super) fn claim_validations(&mut self) -> Vec<(usize, usize, usize)> {
        let mut claimed = Vec::new();
        for index in 0..self.authorizations.len() {
            for position in 0..self.authorizations[index].challenges.len() {
                let is_wanted = self.wants_result(index);
                let it = self.authorizations[index].challenges[position];
                if it.status != ChallengeStatus::Processing || !it.hold.is_free(self.now) {
                    continue;
                }
                if is_wanted && it.attempt < MAX_ATTEMPTS {
                    let hold = self.hold();
                    let it = &mut self.authorizations[index].challenges[position];
                    it.attempt += 1;
                    it.hold = hold;
                    claimed.push((index, position, self.newest_lease()));
                    continue;
                }
                let it = &mut self.authorizations[index].challenges[position];
                it.hold = Hold::default();
                it.status = if is_wanted { ChallengeStatus::Invalid } else { ChallengeStatus::Pending };
                if is_wanted {
                    self.authorizations[index].status = AuthorizationStatus::Invalid;
                    self.fail_orders_of(index);
                }
            }
        }
        claimed
    }

    pub(in super::super) fn finalize(&mut self, index: usize, csr: u8, serial: [u8; 16]) -> String {
        let status = self.order_status(index);
        match status {
            OrderStatus::Ready => {}
            OrderStatus::Processing | OrderStatus::Valid => {
                let csr_text = if self.orders[index].csr == Some(csr) { "the same CSR" } else { "another CSR" };
                return format!("{status} with {csr_text}");
            }
            OrderStatus::Pending | OrderStatus::Invalid => return format!("not ready, {status}"),
        }
        let hold = self.hold();
        let order = &mut self.orders[index];
        order.status = OrderStatus::Processing;
        (order.csr, order.serial, order.hold) = (Some(csr), Some(serial), hold);
        "begun".to_owned()
    }

    fn may_record_issuance(&self, index: usize, lease: usize) -> bool {
        let order = &self.orders[index];
        order.status == OrderStatus::Processing && order.hold.lease == Some(lease)
    }

    pub(in super::super) fn record_certificate(&mut self, index: usize, lease: usize) -> String {
        if !self.may_record_issuance(index, lease) {
            return "not recorded, the lease is lost".to_owned();
        }
        self.orders[index].status = OrderStatus::Valid;
        self.orders[index].certificate = self.orders[index].serial.map(CertificateId::from_octets);
        "recorded".to_owned()
    }

    pub(in super::super) fn fail_issuance(&mut self, index: usize, lease: usize) {
        if self.may_record_issuance(index, lease) {
            self.orders[index].status = OrderStatus::Invalid;
        }
    }

    /// The orders that are claimed, with the numbers of their leases.
    pub(in super::super) fn claim_issuances(&mut self) -> Vec<(usize, usize)> {
        let mut claimed = Vec::new();
        for index in 0..self.orders.len() {
            let order = &self.orders[index];
            if order.status == OrderStatus::Processing && order.hold.is_free(self.now) {
                self.orders[index].hold = self.hold();
                claimed.push((index, self.newest_lease()));
            }
        }
        claimed
    }

    pub(in super::super) fn revoke(&mut self, index: usize) -> String {
        let order = &mut self.orders[index];
        if order.certificate.is_none() {
            return "not found".to_owned();
        }
        let was_revoked = std::mem::replace(&mut order.is_revoked, true);
        if was_revoked { "revoked already" } else { "revoked" }.to_owned()
    }

    /// The only server starts again: nobody has a lease.
    pub(in super::super) fn void_leases(&mut self) {
        let challenges = self.authorizations.iter_mut().flat_map(|it| &mut it.challenges).map(|it| &mut it.hold);
        for hold in challenges.chain(self.orders.iter_mut().map(|it| &mut it.hold)) {
            hold.ends_at = None;
        }
    }
}
