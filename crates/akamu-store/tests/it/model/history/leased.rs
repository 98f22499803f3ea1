//! Validations and issuances, by whoever holds or held their lease.

use akamu_store::{LeaseRequest, ReplicaId};

use super::*;

fn lease(replica: Replica) -> LeaseRequest {
    LeaseRequest { owner: ReplicaId::from_octets([replica as u8; 16]), duration: LEASE }
}

impl History<'_> {
    fn challenge_text(&self, index: usize, challenge: usize) -> String {
        let name = self.rules.authorizations[index].name;
        format!("authorization {} for {name} by {}", index + 1, TYPES[challenge].as_str())
    }

    fn attempt_text(&self, (index, challenge): (usize, usize), attempt: i16) -> String {
        format!("{} (attempt {attempt})", self.challenge_text(index, challenge))
    }

    fn place_of(&self, validation: &Validation) -> (usize, usize) {
        let challenge = TYPES.iter().position(|it| *it == validation.challenge_type).unwrap();
        (self.authorization(validation.authorization.id), challenge)
    }

    pub(super) async fn begin_validation(
        &mut self,
        replica: Replica,
        index: usize,
        challenge: usize,
        is_queued: bool,
    ) -> Result<Step, StoreError> {
        let authorization = &self.rules.authorizations[index];
        let (id, account) = (authorization.id, self.rules.accounts[authorization.account].id);
        let (store, request) = (self.store(replica).await, (!is_queued).then(|| lease(replica)));
        let begun = match store.authorization(account, id, self.rules.now).await? {
            Some(read) => store.validation_begin(&read, &TYPES[challenge], "proof", request, self.rules.now).await?,
            None => ValidationBegun::NotFound,
        };
        let permitted = self.rules.begin_validation(index, challenge, is_queued);
        let came = match begun {
            ValidationBegun::Started(lease) => {
                let attempt = lease.subject().attempt;
                self.validations.push(Held { replica, number: self.rules.newest_lease(), lease });
                format!("attempt {attempt}")
            }
            ValidationBegun::Queued(_) => "queued".to_owned(),
            ValidationBegun::Unchanged(it) => format!("unchanged, {}", it.status),
            ValidationBegun::NotFound => "not found".to_owned(),
        };
        let what = format!("{} begins to validate {}", self.name(replica), self.challenge_text(index, challenge));
        Ok(Step { what, permitted, came })
    }

    pub(super) async fn record_validation(
        &mut self,
        Held { replica, number, lease }: Held<Validation>,
        verdict: Verdict,
    ) -> Result<Step, StoreError> {
        let (index, challenge) = self.place_of(lease.subject());
        let now = self.rules.now;
        let (word, outcome) = match verdict {
            Verdict::Valid => ("valid", scene::VALID),
            Verdict::ValidForAnHour => {
                let expires_no_later_than = Some(now.plus(HOUR));
                ("valid for 1 h", ValidationOutcome::Valid { expires_no_later_than })
            }
            Verdict::Invalid => ("invalid", ValidationOutcome::Invalid(scene::problem("refused"))),
        };
        let recorded = self.store(replica).await.validation_record(lease, outcome, b"report", now).await?;
        let permitted = self.rules.record_validation(index, challenge, number, verdict);
        let came = match recorded {
            ValidationRecorded::Recorded(_) => "recorded".to_owned(),
            ValidationRecorded::LeaseLost => "not recorded, the lease is lost".to_owned(),
            ValidationRecorded::NoLongerWanted => "not wanted any more, the report is kept".to_owned(),
        };
        let what = format!("{} records {word} for {}", self.name(replica), self.challenge_text(index, challenge));
        Ok(Step { what, permitted, came })
    }

    pub(super) async fn release_validation(
        &mut self,
        Held { replica, number, lease }: Held<Validation>,
    ) -> Result<Step, StoreError> {
        let (index, challenge) = self.place_of(lease.subject());
        self.store(replica).await.validation_release(lease).await?;
        self.rules.release_validation(index, challenge, number);
        let what = format!("{} gives back {}", self.name(replica), self.challenge_text(index, challenge));
        Ok(Step { what, permitted: "done".to_owned(), came: "done".to_owned() })
    }

    pub(super) async fn claim_validations(&mut self, replica: Replica) -> Result<Step, StoreError> {
        let store = self.store(replica).await;
        let mut leases = store.validations_claim(lease(replica), NO_LIMITS, self.rules.now).await?;
        leases.sort_by_key(|it| self.place_of(it.subject()));
        let text = |it: &Lease<Validation>| self.attempt_text(self.place_of(it.subject()), it.subject().attempt);
        let came: Vec<_> = leases.iter().map(text).collect();
        let expected = self.rules.claim_validations();
        let attempt = |index: usize, challenge: usize| self.rules.authorizations[index].challenges[challenge].attempt;
        let text = |it: &(usize, usize, usize)| self.attempt_text((it.0, it.1), attempt(it.0, it.1));
        let permitted: Vec<_> = expected.iter().map(text).collect();
        for ((.., number), lease) in expected.into_iter().zip(leases) {
            self.validations.push(Held { replica, number, lease });
        }
        let what = format!("{} claims validations", self.name(replica));
        Ok(Step { what, permitted: listed(&permitted), came: listed(&came) })
    }

    /// The octets that are signed: the names of the order, and the serial.
    fn tbs(&self, index: usize, serial: [u8; 16]) -> String {
        let order = &self.rules.orders[index];
        let names: Vec<_> = order.authorizations.iter().map(|it| self.rules.authorizations[*it].name).collect();
        invariants::tbs(&names, &serial)
    }

    pub(super) async fn finalize(&mut self, replica: Replica, index: usize, csr: u8) -> Result<Step, StoreError> {
        let mut new = scene::new_issuance(csr);
        let serial = new.serial;
        new.tbs = self.tbs(index, serial).into_bytes();
        let (id, account) = (self.rules.orders[index].id, self.rules.accounts[self.rules.orders[index].account].id);
        let begun = self.store(replica).await.issuance_begin(account, id, new, lease(replica), self.rules.now).await?;
        let permitted = self.rules.finalize(index, csr, serial);
        if self.rules.orders[index].serial != Some(serial) {
            self.refused.serials.push(serial);
        }
        let came = match begun {
            IssuanceBegun::Started(lease) => {
                self.issuances.push(Held { replica, number: self.rules.newest_lease(), lease });
                "begun".to_owned()
            }
            IssuanceBegun::Existing(it) => format!("{} with the same CSR", it.status),
            IssuanceBegun::OtherCsr(it) => format!("{} with another CSR", it.status),
            IssuanceBegun::NotReady(it) => format!("not ready, {}", it.status),
            IssuanceBegun::NotFound => "not found".to_owned(),
        };
        let what = format!("{} finalizes order {} with CSR {csr}", self.name(replica), index + 1);
        Ok(Step { what, permitted, came })
    }

    pub(super) async fn record_certificate(
        &mut self,
        Held { replica, number, lease }: Held<Issuance>,
    ) -> Result<Step, StoreError> {
        let index = self.order(lease.subject().order);
        let certificate = scene::certificate_under(self.servers.chain.clone(), &lease);
        let recorded = self.store(replica).await.issuance_record(lease, certificate, self.rules.now).await?;
        let permitted = self.rules.record_certificate(index, number);
        let came = match recorded {
            IssuanceRecorded::Recorded(_) => "recorded",
            IssuanceRecorded::LeaseLost => "not recorded, the lease is lost",
        };
        let what = format!("{} records the certificate of order {}", self.name(replica), index + 1);
        Ok(Step { what, permitted, came: came.to_owned() })
    }

    pub(super) async fn fail_issuance(
        &mut self,
        Held { replica, number, lease }: Held<Issuance>,
    ) -> Result<Step, StoreError> {
        let index = self.order(lease.subject().order);
        self.store(replica).await.issuance_fail(lease, scene::problem("cannot sign"), self.rules.now).await?;
        self.rules.fail_issuance(index, number);
        let what = format!("{} cannot sign the certificate of order {}", self.name(replica), index + 1);
        Ok(Step { what, permitted: "done".to_owned(), came: "done".to_owned() })
    }

    pub(super) async fn claim_issuances(&mut self, replica: Replica) -> Result<Step, StoreError> {
        let store = self.store(replica).await;
        let mut leases = store.issuances_claim(lease(replica), 100, self.rules.now).await?;
        leases.sort_by_key(|it| self.order(it.subject().order));
        let text = |lease: &Lease<Issuance>| {
            let index = self.order(lease.subject().order);
            let serial = self.rules.orders[index].serial.unwrap_or_default();
            let is_same = lease.subject().tbs == self.tbs(index, serial).as_bytes();
            format!("order {}{}", index + 1, if is_same { "" } else { ", but another TBSCertificate" })
        };
        let came: Vec<_> = leases.iter().map(text).collect();
        let expected = self.rules.claim_issuances();
        let permitted: Vec<_> = expected.iter().map(|(index, _)| format!("order {}", index + 1)).collect();
        for ((_, number), lease) in expected.into_iter().zip(leases) {
            self.issuances.push(Held { replica, number, lease });
        }
        let what = format!("{} claims issuances", self.name(replica));
        Ok(Step { what, permitted: listed(&permitted), came: listed(&came) })
    }
}

fn listed(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
