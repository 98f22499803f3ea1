//! What a CA holds after years: rows as the server writes them, each made from its number, so that tables agree without
//! anything being kept.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use fastrand::Rng;

use crate::failure::Failure;

/// Microseconds.
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Orders and authorizations live so long, and are kept for 30 days more: nothing here is old enough to be removed.
const LIFETIME: i64 = 7 * DAY;
const KEPT: i64 = 36 * DAY;

/// One order in so many ends with a certificate; the others failed or were left.
const ORDERS_A_CERTIFICATE: u64 = 3;

/// As long as the report of a probe that asked DNS, connected and read an answer.
const REPORT: usize = 700;

/// A column's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Text(String),
    Octets(Vec<u8>),
}

/// A table, its columns and its rows.
pub(super) struct Rows<'a> {
    pub(super) table: &'static str,
    pub(super) columns: &'static [&'static str],
    pub(super) count: u64,
    /// The row of this number.
    pub(super) row: Box<dyn Fn(u64) -> Vec<Value> + 'a>,
}

/// How much there is.
#[derive(Debug)]
pub(super) struct Population {
    pub(super) accounts: u64,
    pub(super) orders: u64,
    pub(super) certificates: u64,
    /// Of the certificates.
    pub(super) revoked: u64,
    /// When it is, Unix microseconds.
    pub(super) now: i64,
    pub(super) sample: Sample,
}

/// A certificate that the server made.
#[derive(Debug)]
pub(super) struct Sample {
    der: Vec<u8>,
    /// Where its serial number is.
    serial: usize,
    /// What was sent after it.
    issuers_pem: String,
}

/// Octets of a serial number.
const SERIAL: usize = 16;

impl Sample {
    pub(super) fn new(der: Vec<u8>, issuers_pem: String) -> Result<Self, Failure> {
        // Version 3 and the tag and length of the serial number (RFC 5280 §4.1).
        let before = [0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 0x10];
        let found = der.windows(before.len()).position(|it| it == before);
        let serial = found.ok_or_else(|| Failure::new("the certificate has no serial number of 16 octets"))?;
        Ok(Self { der, serial: serial + before.len(), issuers_pem })
    }

    /// The same with another serial number: as long, but signed by nobody.
    fn with_serial(&self, serial: &[u8; SERIAL]) -> Vec<u8> {
        let mut der = self.der.clone();
        der.iter_mut().skip(self.serial).zip(serial).for_each(|(to, from)| *to = *from);
        der
    }
}

/// What an id is of, so that no two kinds share one.
#[derive(Clone, Copy)]
enum Kind {
    Account,
    Order,
    Authorization,
    Token,
    Chain,
    Serial,
}

fn random<const OCTETS: usize>(kind: Kind, number: u64) -> [u8; OCTETS] {
    let mut octets = [0; OCTETS];
    Rng::with_seed(number.wrapping_mul(8).wrapping_add(kind as u64)).fill(&mut octets);
    octets
}

/// An id of what was made then: six octets of milliseconds, and ten that are random.
fn id(kind: Kind, number: u64, at: i64) -> [u8; 16] {
    let [_, _, time @ ..] = (at / 1_000).to_be_bytes();
    let mut octets = [0; 16];
    octets.iter_mut().zip(time.into_iter().chain(random::<10>(kind, number))).for_each(|(to, from)| *to = from);
    octets
}

fn base64url(octets: &[u8]) -> Value {
    Value::Text(Base64UrlUnpadded::encode_string(octets))
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A share of a span, without overflow.
fn part(span: i64, number: u64, of: u64) -> i64 {
    let part = i128::from(span) * i128::from(number) / i128::from(of.max(1));
    i64::try_from(part).unwrap_or(span)
}

impl Population {
    /// Every table, parents before children.
    pub(super) fn tables(&self) -> Vec<Rows<'_>> {
        vec![
            Rows {
                table: "accounts",
                columns: &["id", "status", "jwk", "thumbprint", "contact", "terms_agreed", "created_at"],
                count: self.accounts,
                row: Box::new(|number| self.account(number)),
            },
            Rows {
                table: "account_thumbprints",
                columns: &["account_id", "thumbprint", "added_at"],
                count: self.accounts,
                row: Box::new(|number| {
                    let thumbprint = base64url(&random::<32>(Kind::Account, number));
                    vec![account_id(number), thumbprint, Value::Integer(self.oldest())]
                }),
            },
            Rows {
                table: "orders",
                columns: &[
                    "id",
                    "account_id",
                    "status",
                    "expires_at",
                    "created_at",
                    "csr_digest",
                    "serial",
                    "lease_token",
                    "lease_owner",
                ],
                count: self.orders,
                row: Box::new(|number| self.order(number)),
            },
            Rows {
                table: "authorizations",
                columns: &[
                    "id",
                    "account_id",
                    "identifier_kind",
                    "identifier_value",
                    "status",
                    "expires_at",
                    "created_at",
                ],
                count: self.orders,
                row: Box::new(|number| self.authorization(number)),
            },
            Rows {
                table: "order_authorizations",
                columns: &["order_id", "position", "authorization_id"],
                count: self.orders,
                row: Box::new(|number| {
                    vec![
                        Value::Octets(self.order_id(number)),
                        Value::Integer(0),
                        Value::Octets(self.authorization_id(number)),
                    ]
                }),
            },
            Rows {
                table: "challenges",
                columns: &[
                    "authorization_id",
                    "challenge_type",
                    "account_id",
                    "position",
                    "token",
                    "status",
                    "key_auth",
                    "attempt",
                    "lease_token",
                    "lease_owner",
                    "validated_at",
                    "error",
                    "reported_at",
                    "report",
                ],
                count: self.orders * 3,
                row: Box::new(|number| self.challenge(number / 3, number % 3)),
            },
            Rows {
                table: "chains",
                columns: &["id", "pem"],
                count: 1,
                row: Box::new(|_| vec![chain_id(), Value::Text(self.sample.issuers_pem.clone())]),
            },
            Rows {
                table: "certificates",
                columns: &[
                    "serial",
                    "account_id",
                    "order_id",
                    "der",
                    "chain",
                    "not_before",
                    "not_after",
                    "revoked_at",
                    "revocation_reason",
                ],
                count: self.certificates,
                row: Box::new(|number| self.certificate(number)),
            },
        ]
    }

    fn oldest(&self) -> i64 {
        self.now - 90 * DAY
    }

    fn account(&self, number: u64) -> Vec<Value> {
        let [x, y] = [0, 1].map(|half| Base64UrlUnpadded::encode_string(&random::<32>(Kind::Account, !number - half)));
        vec![
            account_id(number),
            text("valid"),
            Value::Text(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)),
            base64url(&random::<32>(Kind::Account, number)),
            text("[]"),
            Value::Boolean(true),
            Value::Integer(self.oldest()),
        ]
    }

    /// Orders come evenly, from accounts in turn.
    fn ordered_at(&self, number: u64) -> i64 {
        self.now - KEPT + part(KEPT, number, self.orders)
    }

    fn order_id(&self, number: u64) -> Vec<u8> {
        id(Kind::Order, number, self.ordered_at(number)).to_vec()
    }

    fn authorization_id(&self, number: u64) -> Vec<u8> {
        id(Kind::Authorization, number, self.ordered_at(number)).to_vec()
    }

    /// Its account's number.
    fn account_of(&self, order: u64) -> u64 {
        order % self.accounts.max(1)
    }

    fn name(&self, order: u64) -> Value {
        // An account asks for a few names again and again.
        let host = order / self.accounts.max(1) % 8;
        Value::Text(format!("host-{host}.account-{}.example.com", self.account_of(order)))
    }

    /// The certificate that ended this order: the newest orders have the newest certificates.
    fn certificate_of(&self, order: u64) -> Option<u64> {
        let newer = (self.orders - 1) / ORDERS_A_CERTIFICATE - order / ORDERS_A_CERTIFICATE;
        order.is_multiple_of(ORDERS_A_CERTIFICATE).then(|| self.certificates.checked_sub(newer + 1)).flatten()
    }

    /// The order that a certificate ended; `None`: it is older than the orders are kept.
    fn order_of(&self, certificate: u64) -> Option<u64> {
        let last = self.orders.checked_sub(1)? / ORDERS_A_CERTIFICATE;
        Some(last.checked_sub(self.certificates - 1 - certificate)? * ORDERS_A_CERTIFICATE)
    }

    fn order(&self, number: u64) -> Vec<Value> {
        let at = self.ordered_at(number);
        let (status, finalized) = match self.certificate_of(number) {
            Some(certificate) => {
                let leased = random::<32>(Kind::Order, !number);
                let (token, owner) = leased.split_at(16);
                let columns = [leased.to_vec(), self.serial(certificate).to_vec(), token.to_vec(), owner.to_vec()];
                ("valid", columns.map(Value::Octets))
            }
            None => ("pending", [const { Value::Null }; 4]),
        };
        let order = [
            Value::Octets(self.order_id(number)),
            account_id(self.account_of(number)),
            text(status),
            Value::Integer(at + LIFETIME),
            Value::Integer(at),
        ];
        order.into_iter().chain(finalized).collect()
    }

    /// What became of an order's authorization.
    fn authorization_status(&self, order: u64) -> &'static str {
        if self.certificate_of(order).is_some() {
            "valid"
        } else if order.is_multiple_of(2) {
            "invalid"
        } else {
            "pending"
        }
    }

    fn authorization(&self, number: u64) -> Vec<Value> {
        let at = self.ordered_at(number);
        vec![
            Value::Octets(self.authorization_id(number)),
            account_id(self.account_of(number)),
            text("dns"),
            self.name(number),
            text(self.authorization_status(number)),
            Value::Integer(at + LIFETIME),
            Value::Integer(at),
        ]
    }

    /// One of the three that an authorization offers: the first one is answered.
    fn challenge(&self, order: u64, position: u64) -> Vec<Value> {
        let token = Base64UrlUnpadded::encode_string(&random::<32>(Kind::Token, order));
        let status = if position == 0 { self.authorization_status(order) } else { "pending" };
        let is_decided = status != "pending";
        let then = |is_so: bool, value: Value| if is_so { value } else { Value::Null };
        let thumbprint = || Base64UrlUnpadded::encode_string(&random::<32>(Kind::Account, self.account_of(order)));
        let leased = random::<32>(Kind::Token, !order);
        let (lease_token, lease_owner) = leased.split_at(16);
        let at = Value::Integer(self.ordered_at(order) + SECOND);
        let error = r#"{"type":"urn:ietf:params:acme:error:connection","detail":"no answer"}"#;
        let challenge_type = match position {
            0 => "http-01",
            1 => "dns-01",
            _ => "tls-alpn-01",
        };
        vec![
            Value::Octets(self.authorization_id(order)),
            text(challenge_type),
            account_id(self.account_of(order)),
            Value::Integer(i64::try_from(position).unwrap_or_default()),
            Value::Text(token.clone()),
            text(status),
            then(is_decided, Value::Text(format!("{token}.{}", thumbprint()))),
            Value::Integer(is_decided.into()),
            then(is_decided, Value::Octets(lease_token.to_vec())),
            then(is_decided, Value::Octets(lease_owner.to_vec())),
            then(status == "valid", at.clone()),
            then(status == "invalid", text(error)),
            then(is_decided, at),
            then(is_decided, Value::Octets(vec![b'r'; REPORT])),
        ]
    }

    fn certified_at(&self, certificate: u64) -> i64 {
        match self.order_of(certificate) {
            Some(order) => self.ordered_at(order) + 2 * SECOND,
            None => self.oldest() + part(90 * DAY - KEPT, certificate, self.certificates),
        }
    }

    fn serial(&self, certificate: u64) -> [u8; SERIAL] {
        id(Kind::Serial, certificate, self.certified_at(certificate))
    }

    fn certificate(&self, number: u64) -> Vec<Value> {
        let (at, order) = (self.certified_at(number), self.order_of(number));
        // An order that is gone is known by its id alone.
        let order_id = order.map_or_else(|| id(Kind::Order, !number, at).to_vec(), |it| self.order_id(it));
        let serial = self.serial(number);
        let is_revoked = self.revoked > 0 && number.is_multiple_of((self.certificates / self.revoked).max(1));
        let then = |value: i64| if is_revoked { Value::Integer(value) } else { Value::Null };
        vec![
            Value::Octets(serial.to_vec()),
            account_id(self.account_of(order.unwrap_or(number))),
            Value::Octets(order_id),
            Value::Octets(self.sample.with_serial(&serial)),
            chain_id(),
            Value::Integer(at),
            Value::Integer(at + 90 * DAY + DAY),
            then(at + SECOND),
            then(4),
        ]
    }
}

/// As long as the server's.
fn chain_id() -> Value {
    Value::Octets(random::<32>(Kind::Chain, 0).to_vec())
}

/// A positive number of 62 bits, as the server draws them.
fn account_id(number: u64) -> Value {
    Value::Integer((i64::from_be_bytes(random::<8>(Kind::Account, number)) & (i64::MAX >> 1)) | 1)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn population(orders: u64, certificates: u64) -> Population {
        let der = [&[0x30, 0x82, 0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 0x10][..], &[7; 40]].concat();
        let sample = Sample::new(der, "chain".to_owned()).unwrap();
        Population { accounts: 5, orders, certificates, revoked: 2, now: 1_790_000_000 * SECOND, sample }
    }

    /// A table's rows, by the value of one column.
    fn by(population: &Population, table: &str, column: &str) -> HashMap<String, HashMap<&'static str, Value>> {
        let tables = population.tables();
        let rows = tables.into_iter().find(|it| it.table == table).unwrap();
        let all = (0..rows.count).map(|number| {
            let values = (rows.row)(number);
            assert_eq!(values.len(), rows.columns.len(), "{table}");
            let row: HashMap<_, _> = rows.columns.iter().copied().zip(values).collect();
            (format!("{:?}", row[column]), row)
        });
        let found: HashMap<_, _> = all.collect();
        assert_eq!(found.len() as u64, rows.count, "{table}.{column} is unique");
        found
    }

    #[test]
    fn certificates_and_orders_name_each_other() {
        for (orders, certificates) in [(9, 3), (10, 4), (9, 7), (10, 2), (1, 1), (0, 2)] {
            let population = population(orders, certificates);
            let by_id = by(&population, "orders", "id");
            let certificates = by(&population, "certificates", "serial");
            let mut ended = 0;
            for certificate in certificates.values() {
                if let Some(order) = by_id.get(&format!("{:?}", certificate["order_id"])) {
                    assert_eq!((&order["serial"], &order["status"]), (&certificate["serial"], &text("valid")));
                    assert_eq!(order["account_id"], certificate["account_id"]);
                    ended += 1;
                }
            }
            assert_eq!(by_id.values().filter(|it| it["serial"] != Value::Null).count(), ended);
            assert_eq!(
                ended as u64,
                orders.div_ceil(3).min(population.certificates),
                "{orders} {}",
                certificates.len()
            );
        }
    }

    #[test]
    fn children_have_parents_and_keys_are_unique() {
        let population = population(20, 3);
        let accounts = by(&population, "accounts", "id");
        by(&population, "accounts", "thumbprint");
        let chains = by(&population, "chains", "id");
        for certificate in by(&population, "certificates", "serial").values() {
            assert!(chains.contains_key(&format!("{:?}", certificate["chain"])));
        }
        let (orders, authorizations) = (by(&population, "orders", "id"), by(&population, "authorizations", "id"));
        for link in by(&population, "order_authorizations", "order_id").values() {
            assert!(orders.contains_key(&format!("{:?}", link["order_id"])));
            assert!(authorizations.contains_key(&format!("{:?}", link["authorization_id"])));
        }
        let challenges = population.tables().into_iter().find(|it| it.table == "challenges").unwrap();
        for number in 0..challenges.count {
            let row = (challenges.row)(number);
            assert_eq!(row.len(), challenges.columns.len());
            assert!(authorizations.contains_key(&format!("{:?}", row[0])));
        }
        let owners: HashSet<String> = orders.values().map(|it| format!("{:?}", it["account_id"])).collect();
        assert!(owners.iter().all(|it| accounts.contains_key(it)) && owners.len() == 5);
    }
}
