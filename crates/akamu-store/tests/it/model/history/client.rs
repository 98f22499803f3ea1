//! What clients ask for that needs no lease, and what happens by itself.

use super::*;

impl History<'_> {
    fn account_text(&self, id: akamu_proto::AccountId) -> String {
        let position = self.rules.accounts.iter().position(|it| it.id == id);
        position.map_or_else(|| "an unknown account".to_owned(), |it| format!("account {}", it + 1))
    }

    pub(super) async fn new_account(&mut self, key: usize) -> Result<Step, StoreError> {
        let new = scene::new_account(&format!("key {key}"));
        let id = new.id;
        let created = self.store(Replica::A).await.account_create(new, self.rules.now).await?;
        let permitted = self.rules.new_account(id, key);
        let came = match created {
            AccountCreated::Created(it) => format!("{} is made", self.account_text(it.id)),
            AccountCreated::Existing(it) => format!("it has {}", self.account_text(it.id)),
        };
        Ok(Step { what: format!("newAccount with key {key}"), permitted, came })
    }

    pub(super) async fn change_key(
        &mut self,
        account: Pick,
        new: usize,
        is_from_current: bool,
    ) -> Result<Option<Step>, StoreError> {
        let Some(index) = account.of(self.rules.accounts.len()) else { return Ok(None) };
        let account = &self.rules.accounts[index];
        let (id, current) = (account.id, *account.keys.last().unwrap());
        let old = if is_from_current { current } else { (current + 1) % 3 };
        let ((_, old_thumbprint), (jwk, thumbprint)) =
            (scene::key(&format!("key {old}")), scene::key(&format!("key {new}")));
        let store = self.store(Replica::B).await;
        let changed = store.account_change_key(id, &old_thumbprint, &jwk, &thumbprint, self.rules.now).await?;
        let permitted = self.rules.change_key(index, old, new);
        let came = match changed {
            KeyChanged::Changed(_) => "changed".to_owned(),
            KeyChanged::KeyInUse(id) => format!("{} has it", self.account_text(id)),
            KeyChanged::Conflict => "conflict".to_owned(),
        };
        Ok(Some(Step {
            what: format!("keyChange of account {} from key {old} to key {new}", index + 1),
            permitted,
            came,
        }))
    }

    pub(super) async fn deactivate_account(&mut self, account: Pick) -> Result<Option<Step>, StoreError> {
        let Some(index) = account.of(self.rules.accounts.len()) else { return Ok(None) };
        let id = self.rules.accounts[index].id;
        let account = self.store(Replica::A).await.account_deactivate(id, self.rules.now).await?;
        let permitted = self.rules.deactivate_account(index);
        let came = account.map_or_else(|| "not found".to_owned(), |it| it.status.to_string());
        Ok(Some(Step { what: format!("account {} is deactivated", index + 1), permitted, came }))
    }

    /// `names` has a bit for each name; `hours` are the order's and the authorizations'.
    pub(super) async fn new_order(
        &mut self,
        account: usize,
        names: usize,
        reuses: bool,
        hours: [u32; 2],
    ) -> Result<Step, StoreError> {
        let names: Vec<_> = (0..NAMES.len()).filter(|it| names & (1 << it) != 0).map(|it| NAMES[it]).collect();
        let [expires_at, authorizations_expire_at] = hours.map(|it| self.rules.now.plus(HOUR * it));
        let mut new = scene::new_order(self.rules.accounts[account].id, &names);
        new.expires_at = expires_at;
        for authorization in &mut new.authorizations {
            authorization.expires_at = authorizations_expire_at;
        }
        let (id, made): (_, Vec<_>) = (new.id, new.authorizations.iter().map(|it| it.id).collect());
        let created = self.store(Replica::B).await.order_create(new, self.rules.now).await?;
        let what = format!(
            "newOrder of account {} for {} ({} h, new authorizations {} h)",
            account + 1,
            names.join(", "),
            hours[0],
            hours[1]
        );
        let came = match created {
            OrderCreated::Created(order) => format!("order {}, {}", self.rules.orders.len() + 1, order.status),
            OrderCreated::AccountNotValid => "the account is not valid".to_owned(),
        };
        if !self.rules.accounts[account].is_valid {
            return Ok(Step { what, permitted: "the account is not valid".to_owned(), came });
        }
        let permitted = format!("order {}, pending", self.rules.orders.len() + 1);
        if came != permitted {
            return Ok(Step { what, permitted, came });
        }
        let earlier: Vec<_> = names.iter().map(|it| self.rules.reusable(account, it).filter(|_| reuses)).collect();
        let mut linked = Vec::new();
        for ((name, made), earlier) in names.iter().zip(&made).zip(&earlier) {
            linked.push(
                earlier.unwrap_or_else(|| self.rules.new_authorization(*made, account, name, authorizations_expire_at)),
            );
        }
        let again = |earlier: &Option<usize>| if earlier.is_some() { " again" } else { "" };
        let texts: Vec<_> =
            linked.iter().zip(&earlier).map(|(it, earlier)| format!("{}{}", it + 1, again(earlier))).collect();
        self.rules.new_order(id, account, expires_at, linked);
        for (made, earlier) in made.iter().zip(&earlier) {
            if let Some(earlier) = earlier {
                self.servers.link(*made, self.rules.authorizations[*earlier].id).await;
            }
        }
        let with = format!(", with authorizations {}", texts.join(", "));
        Ok(Step { what, permitted: permitted + &with, came: came + &with })
    }

    pub(super) async fn deactivate_authorization(&mut self, pick: Pick) -> Result<Option<Step>, StoreError> {
        let Some(index) = pick.of(self.rules.authorizations.len()) else { return Ok(None) };
        let authorization = &self.rules.authorizations[index];
        let (id, account) = (authorization.id, self.rules.accounts[authorization.account].id);
        let what = format!("authorization {} for {} is given up", index + 1, authorization.name);
        let given_up = self.store(Replica::A).await.authorization_deactivate(account, id, self.rules.now).await?;
        let permitted = self.rules.deactivate_authorization(index);
        let came = given_up.map_or_else(|| "not found".to_owned(), |it| it.status.to_string());
        Ok(Some(Step { what, permitted, came }))
    }

    pub(super) async fn revoke(&mut self, order: Pick) -> Result<Option<Step>, StoreError> {
        let Some(index) = order.of(self.rules.orders.len()) else { return Ok(None) };
        let Some(serial) = self.rules.orders[index].serial else { return Ok(None) };
        let store = self.store(Replica::B).await;
        let revoked = store.certificate_revoke(&serial, RevocationReason::Superseded, self.rules.now).await?;
        let permitted = self.rules.revoke(index);
        let came = match revoked {
            Revoked::Revoked => "revoked",
            Revoked::AlreadyRevoked => "revoked already",
            Revoked::NotFound => "not found",
        };
        let what = format!("the certificate of order {} is revoked", index + 1);
        Ok(Some(Step { what, permitted, came: came.to_owned() }))
    }

    pub(super) async fn crash(&mut self, replica: Replica) -> Step {
        let outcome = if self.servers.is_sqlite() {
            self.servers.restart().await;
            self.rules.void_leases();
            self.validations.clear();
            self.issuances.clear();
            "it starts again, and voids all leases"
        } else {
            self.validations.retain(|it| it.replica != replica);
            self.issuances.retain(|it| it.replica != replica);
            "its leases stay until they end"
        };
        let what = format!("{} crashes", self.name(replica));
        Step { what, permitted: outcome.to_owned(), came: outcome.to_owned() }
    }

    pub(super) fn time_passes(&mut self, hours: u32) -> Option<Step> {
        let later = self.rules.now.plus(HOUR * hours);
        if later > NOW.plus(HOUR * MAX_HOURS) {
            return None;
        }
        self.rules.now = later;
        let outcome = format!("it is {} h", later.since(NOW).as_secs() / HOUR.as_secs());
        Some(Step { what: format!("{hours} h pass"), permitted: outcome.clone(), came: outcome })
    }
}
