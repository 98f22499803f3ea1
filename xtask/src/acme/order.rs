//! From newOrder to the certificate.

use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Client, base64url};
use crate::failure::{Context, Failure};

/// An order with what is to be proved.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) url: String,
    finalize: String,
    pub(crate) authorizations: Vec<String>,
}

/// A challenge that can be answered.
#[derive(Debug)]
pub(crate) struct Challenge {
    url: String,
    token: Option<String>,
    /// Who may be named as the issuer, of dns-persist-01.
    issuer_domain: Option<String>,
}

impl Challenge {
    /// RFC 8555 §8.1.
    pub(crate) fn key_authorization(&self, thumbprint: &str) -> String {
        format!("{}.{thumbprint}", self.token.as_deref().unwrap_or_default())
    }

    /// The record of dns-persist-01 that trusts an account.
    pub(crate) fn persist_record(&self, account_url: &str) -> String {
        format!("{}; accounturi={account_url}", self.issuer_domain.as_deref().unwrap_or_default())
    }
}

impl Client {
    /// The chain of a certificate for `names` by challenges of this type; `prepare` puts up what proves each name.
    pub(crate) async fn issue<P>(
        &mut self,
        names: &[String],
        key: &KeyPair,
        challenge_type: &str,
        prepare: P,
    ) -> Result<String, Failure>
    where
        P: Fn(&str, &Challenge),
    {
        let order = self.new_order(names).await?;
        self.prove(&order, challenge_type, prepare).await?;
        let certificate = self.finalize(&order, &csr(names, key)?).await?;
        self.certificate(&certificate).await
    }

    /// Proves control of every name of an order; `prepare` puts up what proves each.
    pub(crate) async fn prove<P>(&mut self, order: &Order, challenge_type: &str, prepare: P) -> Result<(), Failure>
    where
        P: Fn(&str, &Challenge),
    {
        for authorization in &order.authorizations {
            let Some((name, challenge)) = self.challenge(authorization, challenge_type).await? else { continue };
            prepare(&name, &challenge);
            self.answer(&challenge).await?;
        }
        for authorization in &order.authorizations {
            let (is_valid, authorization) = self.decided(authorization).await?;
            if !is_valid {
                return Err(Failure::new(format!("an authorization ends as {authorization}")));
            }
        }
        Ok(())
    }

    /// The chain at a certificate's URL.
    pub(crate) async fn certificate(&mut self, url: &str) -> Result<String, Failure> {
        let answer = self.post(url, None).await?.expect(200, "the certificate")?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// An order as it is now.
    pub(crate) async fn order(&mut self, url: &str) -> Result<Value, Failure> {
        self.post(url, None).await?.expect(200, "an order")?.json()
    }

    pub(crate) async fn new_order(&mut self, names: &[String]) -> Result<Order, Failure> {
        let identifiers: Vec<_> = names.iter().map(|name| json!({ "type": "dns", "value": name })).collect();
        let url = self.directory.new_order.clone();
        let answer = self.post(&url, Some(&json!({ "identifiers": identifiers }))).await?.expect(201, "newOrder")?;
        let order = answer.json()?;
        let authorizations = order.get("authorizations").and_then(Value::as_array).into_iter().flatten();
        Ok(Order {
            url: answer.location()?,
            finalize: text(&order, "finalize")?,
            authorizations: authorizations.filter_map(Value::as_str).map(str::to_owned).collect(),
        })
    }

    /// The name that the authorization is for, and its challenge; nothing where it is valid already.
    pub(crate) async fn challenge(
        &mut self,
        authorization: &str,
        challenge_type: &str,
    ) -> Result<Option<(String, Challenge)>, Failure> {
        let authorization = self.post(authorization, None).await?.expect(200, "an authorization")?.json()?;
        if authorization.get("status").and_then(Value::as_str) == Some("valid") {
            return Ok(None);
        }
        let name = text(authorization.get("identifier").unwrap_or(&Value::Null), "value")?;
        let challenges = authorization.get("challenges").and_then(Value::as_array).into_iter().flatten();
        let is_it = |it: &&Value| it.get("type").and_then(Value::as_str) == Some(challenge_type);
        let challenge = challenges.into_iter().find(is_it);
        let challenge = challenge.ok_or_else(|| Failure::new(format!("no {challenge_type} is offered for {name}")))?;
        let token = challenge.get("token").and_then(Value::as_str).map(str::to_owned);
        // The drafts' spelling changed.
        let domains = challenge.get("issuer-domain-names").or_else(|| challenge.get("issuerDomainNames"));
        let issuer_domain = domains.and_then(|it| it.get(0)).and_then(Value::as_str).map(str::to_owned);
        Ok(Some((name, Challenge { url: text(challenge, "url")?, token, issuer_domain })))
    }

    /// Asks for a challenge's validation.
    pub(crate) async fn answer(&mut self, challenge: &Challenge) -> Result<(), Failure> {
        self.post(&challenge.url, Some(&json!({}))).await?.expect(200, "a challenge").map(drop)
    }

    /// Has every challenge of this type of a new order validated, and returns without waiting for the results.
    pub(crate) async fn begin(&mut self, names: &[String], challenge_type: &str) -> Result<Order, Failure> {
        let order = self.new_order(names).await?;
        for authorization in &order.authorizations {
            if let Some((_, challenge)) = self.challenge(authorization, challenge_type).await? {
                self.answer(&challenge).await?;
            }
        }
        Ok(order)
    }

    /// Waits until all is decided: whether every authorization is valid.
    pub(crate) async fn is_proved(&mut self, order: &Order) -> Result<bool, Failure> {
        let mut all = true;
        for authorization in &order.authorizations {
            all &= self.decided(authorization).await?.0;
        }
        Ok(all)
    }

    /// Waits for the end of a validation: whether the authorization is valid, and what it looks like.
    pub(crate) async fn decided(&mut self, authorization: &str) -> Result<(bool, Value), Failure> {
        loop {
            let answer = self.post(authorization, None).await?.expect(200, "an authorization")?;
            let authorization = answer.json()?;
            match authorization.get("status").and_then(Value::as_str) {
                Some("pending") => sleep(Duration::from_secs(answer.retry_after().unwrap_or(1))).await,
                status => return Ok((status == Some("valid"), authorization)),
            }
        }
    }

    /// The certificate's URL.
    pub(crate) async fn finalize(&mut self, order: &Order, csr: &[u8]) -> Result<String, Failure> {
        let payload = json!({ "csr": base64url(csr) });
        let mut answer = self.post(&order.finalize, Some(&payload)).await?.expect(200, "finalize")?;
        loop {
            let object = answer.json()?;
            match object.get("status").and_then(Value::as_str) {
                Some("processing") => sleep(Duration::from_secs(answer.retry_after().unwrap_or(1))).await,
                Some("valid") => return text(&object, "certificate"),
                _ => return Err(Failure::new(format!("the order ends as {object}"))),
            }
            answer = self.post(&order.url, None).await?.expect(200, "an order")?;
        }
    }
}

/// A CSR for `names`, DER.
pub(crate) fn csr(names: &[String], key: &KeyPair) -> Result<Vec<u8>, Failure> {
    let mut params = CertificateParams::new(names).context(|| "the names do not make a CSR".to_owned())?;
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(key).context(|| "cannot make a CSR".to_owned())?;
    Ok(csr.der().to_vec())
}

fn text(object: &Value, member: &str) -> Result<String, Failure> {
    let text = object.get(member).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| Failure::new(format!("no {member} in {object}")))
}
