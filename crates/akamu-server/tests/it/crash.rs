//! PostgreSQL crashes between the redemption of a request's nonce, which waits for no disk, and what the request changes.

use std::future::Future;

use serde_json::json;
use tokio::task::yield_now;

use crate::client::{Answer, Key, base64url};
use crate::database::{Beside, Database};
use crate::issuance::{challenge, csr, pem_der, provision, ready_order, settled};
use crate::postgres_database::PostgresDatabase;

/// Has whoever changes something wait until nobody holds the lock.
const WAIT: &str = "
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
    CREATE TRIGGER wait BEFORE INSERT OR UPDATE ON accounts EXECUTE FUNCTION wait();
    CREATE TRIGGER wait BEFORE INSERT OR UPDATE ON orders EXECUTE FUNCTION wait();
    CREATE TRIGGER wait BEFORE INSERT OR UPDATE ON authorizations EXECUTE FUNCTION wait();
    CREATE TRIGGER wait BEFORE INSERT OR UPDATE ON challenges EXECUTE FUNCTION wait();
    CREATE TRIGGER wait BEFORE INSERT OR UPDATE ON certificates EXECUTE FUNCTION wait();";
const WAITING: &str = "
    SELECT count(*)::text AS text FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
/// What the server sees of a crash.
const CRASH: &str = "
    DELETE FROM redeemed_nonces;
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    SELECT pg_advisory_unlock(1)";

/// The answer to a request in the middle of which the database crashes; its nonce is redeemed nevertheless.
async fn through_a_crash(beside: &mut Beside, request: impl Future<Output = Answer>) -> Answer {
    beside.execute("SELECT pg_advisory_lock(1)");
    let crash = async {
        while beside.text(WAITING) != "1" {
            yield_now().await;
        }
        beside.execute(CRASH);
    };
    let (answer, ()) = tokio::join!(request, crash);
    assert_eq!(beside.text("SELECT count(*)::text AS text FROM redeemed_nonces"), "1", "{answer:?}");
    answer
}

#[tokio::test]
async fn no_change_forgets_the_nonce_of_its_request() {
    let Some(database) = PostgresDatabase::new().map(Database::Postgres) else { return };
    let server = database.server().await;
    let mut client = server.client(Key::p256());
    let mut beside = Beside::of(&server.place);
    let beside = &mut beside;
    beside.execute(WAIT);

    let account = json!({ "termsOfServiceAgreed": true });
    client.kid = through_a_crash(beside, client.new_account(&account)).await.expect(201).header("location").to_owned();
    let contact = json!({ "contact": ["mailto:a@a.test"] });
    through_a_crash(beside, client.post(&client.kid, &contact)).await.expect(200);
    let (new_key, url) = (Key::p256(), client.url("/acme/key-change"));
    through_a_crash(beside, client.post(&url, &client.key_change(&new_key))).await.expect(200);
    client.key = new_key;

    let order = through_a_crash(beside, client.new_order(&["a.test"])).await.expect(201).json();
    let url = order["authorizations"][0].as_str().unwrap();
    let authorization = client.post_as_get(url).await.expect(200).json();
    let dns_01 = challenge(&authorization, "dns-01");
    provision(&server, &client, &authorization, &dns_01);
    through_a_crash(beside, client.post(dns_01["url"].as_str().unwrap(), &json!({}))).await.expect(200);
    assert_eq!(settled(&client, url).await["status"], "valid");
    let csr = json!({ "csr": csr(&["a.test"]) });
    let finalized = through_a_crash(beside, client.post(order["finalize"].as_str().unwrap(), &csr)).await;
    let certificate =
        client.post_as_get(finalized.expect(200).json()["certificate"].as_str().unwrap()).await.expect(200);
    let (_, leaf) = pem_der(certificate.text());
    let revoke = json!({ "certificate": base64url(&leaf) });
    through_a_crash(beside, client.post(&client.url("/acme/revoke-cert"), &revoke)).await.expect(200);

    let order = ready_order(&server, &client, &["b.test"], "dns-01").await.json();
    let deactivate = json!({ "status": "deactivated" });
    let url = order["authorizations"][0].as_str().unwrap();
    through_a_crash(beside, client.post(url, &deactivate)).await.expect(200);
    through_a_crash(beside, client.post(&client.kid, &deactivate)).await.expect(200);
}
