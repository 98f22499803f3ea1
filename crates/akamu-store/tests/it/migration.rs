//! What an earlier version of the program wrote is read by this one.

use akamu_proto::{AccountId, CertificateId, ChallengeType, OrderId, OrderStatus};
use akamu_store::{Expired, OpenError};

use crate::database::{NOW, Place, Raw, hex};
use crate::scene::{DAY, ISSUERS, lease, ready_order};

/// The schema with every migration up to the second.
macro_rules! second_schema {
    ($database:literal) => {
        concat!(
            include_str!(concat!("../../migrations/", $database, "/2026-11-24-000001_initial/up.sql")),
            include_str!(concat!("../../migrations/", $database, "/2026-11-30-000002_one_challenge_at_a_time/up.sql")),
            "CREATE TABLE __diesel_schema_migrations (
                version VARCHAR(50) PRIMARY KEY NOT NULL,
                run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
            );
            INSERT INTO __diesel_schema_migrations (version) VALUES ('20261124000001'), ('20261130000002');"
        )
    };
}

const ACCOUNT: i64 = 42;
const LEAF: &str = "-----BEGIN CERTIFICATE-----\nbGVhZg==\n-----END CERTIFICATE-----\n";

fn octets(raw: &Raw, octets: &[u8]) -> String {
    match raw {
        Raw::Sqlite(_) => format!("x'{}'", hex(octets)),
        Raw::Postgres(_) => format!("'\\x{}'", hex(octets)),
    }
}

/// An account with three valid orders of one name each; the first two certificates have the same issuers, and the second is
/// revoked.
fn fill(raw: &mut Raw) {
    let schema = match raw {
        Raw::Sqlite(_) => concat!("PRAGMA application_id = 1097559413;", second_schema!("sqlite")),
        Raw::Postgres(_) => second_schema!("postgres"),
    };
    raw.execute(schema).unwrap();
    let (past, later) = (NOW.unix_micros(), NOW.plus(DAY).unix_micros());
    raw.execute(&format!(
        "INSERT INTO accounts (id, status, jwk, thumbprint, contact, terms_agreed, created_at)
            VALUES ({ACCOUNT}, 'valid', '{{}}', 'thumbprint', '[]', true, {past});
         INSERT INTO account_thumbprints (account_id, thumbprint, added_at) VALUES ({ACCOUNT}, 'thumbprint', {past});"
    ))
    .unwrap();
    for (number, issuers, revoked) in
        [(1, ISSUERS, "NULL, NULL"), (2, ISSUERS, &format!("{past}, 4")), (3, "others", "NULL, NULL")]
    {
        let [id, serial, old_id] = [number, number + 10, number + 20].map(|it| octets(raw, &[it; 16]));
        let der = octets(raw, b"leaf");
        raw.execute(&format!(
            "INSERT INTO orders (id, account_id, status, expires_at, created_at, serial, certificate_id)
                VALUES ({id}, {ACCOUNT}, 'valid', {later}, {past}, {serial}, {old_id});
             INSERT INTO authorizations
                (id, account_id, identifier_kind, identifier_value, status, expires_at, created_at)
                VALUES ({id}, {ACCOUNT}, 'dns', '{number}.example', 'valid', {later}, {past});
             INSERT INTO challenges (authorization_id, challenge_type, account_id, position, status, attempt, reported_at, report)
                VALUES ({id}, 'http-01', {ACCOUNT}, 0, 'valid', 1, {past}, {der});
             INSERT INTO order_authorizations (order_id, position, authorization_id) VALUES ({id}, 0, {id});
             INSERT INTO certificates (id, account_id, order_id, serial, der, chain_pem, not_before, not_after,
                revoked_at, revocation_reason)
                VALUES ({old_id}, {ACCOUNT}, {id}, {serial}, {der}, '{LEAF}{issuers}', {past}, {later}, {revoked});"
        ))
        .unwrap();
    }
}

async fn certificates_are_as_they_were(place: Place) {
    fill(&mut place.raw());
    let store = place.open().await.unwrap();
    let account = AccountId::from_i64(ACCOUNT).unwrap();
    assert_eq!(store.account(account).await.unwrap().unwrap().jwk, "{}");
    for (number, issuers, revoked_at) in [(1, ISSUERS, None), (2, ISSUERS, Some(NOW)), (3, "others", None)] {
        let id = CertificateId::from_octets([number + 10; 16]);
        let order = store.order(account, OrderId::from_octets([number; 16]), NOW).await.unwrap().unwrap();
        assert_eq!((order.status, order.certificate), (OrderStatus::Valid, Some(id)));
        let report = store.validation_report(order.authorizations[0], &ChallengeType::HTTP_01).await.unwrap().unwrap();
        assert_eq!(report.octets, b"leaf");
        let certificate = store.certificate(account, id).await.unwrap().unwrap();
        assert_eq!((certificate.der.as_slice(), &*certificate.issuers_pem), (&b"leaf"[..], issuers));
        assert_eq!((certificate.revoked_at, certificate.not_after), (revoked_at, NOW.plus(DAY)));
    }
    let mut raw = place.raw();
    assert_eq!(raw.number("SELECT count(*) AS number FROM chains"), 2);
    assert_eq!(store.revocations(NOW).await.unwrap().certificates.len(), 1);

    // The tables in place of others are what the others were: new rows go in, old ones out, parents before none.
    ready_order(&store, account, &["new.example"]).await;
    for kind in [Expired::Orders, Expired::Authorizations, Expired::Certificates] {
        store.housekeeping_step(kind, NOW.plus(DAY), None, lease(), NOW).await.unwrap();
    }
    for table in ["orders", "authorizations", "certificates"] {
        assert_eq!(raw.number(&format!("SELECT count(*) AS number FROM {table}")), 0, "{table}");
    }
    if let Raw::Sqlite(_) = raw {
        raw.execute("PRAGMA foreign_keys = ON").unwrap();
    }
    assert!(raw.execute(&format!("DELETE FROM accounts WHERE id = {ACCOUNT}")).is_err(), "its thumbprint needs it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_as_they_were_sqlite() {
    certificates_are_as_they_were(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_as_they_were_postgres() {
    if let Some(place) = Place::postgres() {
        certificates_are_as_they_were(place).await;
    }
}

/// SQLite does not look after references while tables take each other's place.
#[tokio::test]
async fn a_reference_to_nothing_is_named_and_nothing_is_changed() {
    let place = Place::sqlite();
    let mut raw = place.raw();
    fill(&mut raw);
    raw.execute("PRAGMA foreign_keys = OFF; DELETE FROM accounts").unwrap();
    let error = place.open().await.unwrap_err();
    assert!(
        matches!(&error, OpenError::Migration { reason } if reason.contains("refer to rows of accounts that are gone")),
        "{error}"
    );
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    assert_eq!(raw.number("SELECT count(*) AS number FROM sqlite_master WHERE name = 'chains'"), 0);
}
