//! Accounts (RFC 8555 §7.3).

use serde_json::json;

use crate::client::Key;
use crate::database::{Database, on_both_databases};
use crate::issuance::{finalize, ready_order};

on_both_databases! {
    a_new_key_gets_201_and_a_known_one_200,
    contacts_are_mail_addresses,
    terms_of_service_must_be_agreed_to_where_there_are_any,
    an_account_is_updated_and_read,
    a_deactivated_account_can_do_nothing_any_more,
    a_key_is_changed_and_the_old_one_is_refused,
}

async fn a_new_key_gets_201_and_a_known_one_200(database: Database) {
    let server = database.server().await;
    let client = server.client(Key::p256());
    client.new_account(&json!({ "onlyReturnExisting": true })).await.expect_problem(400, "accountDoesNotExist");
    // Where there are no terms of service, nobody need agree to them.
    let created = client.new_account(&json!({ "contact": ["mailto:ops@example.test"] })).await.expect(201);
    assert_eq!(created.json()["status"], "valid");
    assert_eq!(created.json()["contact"], json!(["mailto:ops@example.test"]));
    let known = client.new_account(&json!({ "onlyReturnExisting": true })).await.expect(200);
    assert_eq!(known.header("location"), created.header("location"));
    assert!(known.json()["contact"].is_array());
    let account: u64 = created.header("location").rsplit('/').next().unwrap().parse().unwrap();
    assert!(account > 0 && i64::try_from(account).is_ok());
}

async fn contacts_are_mail_addresses(database: Database) {
    let server = database.server().await;
    for (contact, error) in [
        ("tel:+123", "unsupportedContact"),
        ("https://example.test", "unsupportedContact"),
        ("mailto:a@b.test,c@d.test", "invalidContact"),
        ("mailto:a@b.test?subject=x", "invalidContact"),
        ("mailto:", "invalidContact"),
    ] {
        let client = server.client(Key::p256());
        client.new_account(&json!({ "contact": [contact] })).await.expect_problem(400, error);
        client.new_account(&json!({ "onlyReturnExisting": true })).await.expect_problem(400, "accountDoesNotExist");
    }
}

async fn terms_of_service_must_be_agreed_to_where_there_are_any(database: Database) {
    let terms = "[server]\nterms_of_service_url = \"https://example.test/terms\"\n";
    let server = database.server_with(terms).await;
    let client = server.client(Key::p256());
    for refused in [json!({}), json!({ "termsOfServiceAgreed": false })] {
        client.new_account(&refused).await.expect_problem(403, "userActionRequired");
    }
    let account = client.new_account(&json!({ "termsOfServiceAgreed": true })).await.expect(201).json();
    assert_eq!(account["termsOfServiceAgreed"], true);
    let directory = client.get("/acme/directory").await.json();
    assert_eq!(directory["meta"]["termsOfService"], "https://example.test/terms");
}

async fn an_account_is_updated_and_read(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let updated = client.post(&client.kid, &json!({ "contact": ["mailto:new@example.test"] })).await.expect(200);
    assert_eq!(updated.json()["contact"], json!(["mailto:new@example.test"]));
    let unchanged = client.post(&client.kid, &json!({})).await.expect(200);
    assert_eq!(unchanged.json(), updated.json());
    assert_eq!(client.post_as_get(&client.kid).await.expect(200).json(), updated.json());
    // Old clients send the whole object.
    assert_eq!(client.post(&client.kid, &updated.json()).await.expect(200).json(), updated.json());
    client.post(&client.kid, &json!({ "status": "revoked" })).await.expect_problem(400, "malformed");
    client.post(&client.kid, &json!({ "contact": ["x:y"] })).await.expect_problem(400, "unsupportedContact");
    let other = server.registered().await;
    client.post(&other.kid, &json!({})).await.expect_problem(404, "malformed");
}

pub(crate) async fn a_deactivated_account_can_do_nothing_any_more(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let order = client.new_order(&["gone.test"]).await.expect(201);
    let account = client.post(&client.kid, &json!({ "status": "deactivated" })).await.expect(200).json();
    assert_eq!(account["status"], "deactivated");
    client.post_as_get(&client.kid).await.expect_problem(401, "unauthorized");
    client.new_order(&["gone.test"]).await.expect_problem(401, "unauthorized");
    client.post_as_get(order.header("location")).await.expect_problem(401, "unauthorized");
    client.new_account(&json!({})).await.expect_problem(401, "unauthorized");
    // Only its key is told so.
    let forged = Key::p256().jws(&client.protected(&client.kid).await, "");
    client.post_raw(&client.kid, forged.to_string()).await.expect_problem(400, "malformed");
}

pub(crate) async fn a_key_is_changed_and_the_old_one_is_refused(database: Database) {
    let server = database.server().await;
    let mut client = server.registered().await;
    let url = client.url("/acme/key-change");
    let new_key = Key::ed25519();
    let signed_by = |key: &Key, header: serde_json::Value, account: &str, old_key: &serde_json::Value| {
        key.jws(&header, &json!({ "account": account, "oldKey": old_key }).to_string())
    };
    let header = |url: &str| json!({ "alg": "EdDSA", "jwk": new_key.jwk(), "url": url });
    let inner =
        |account: &str, old_key: &serde_json::Value, url: &str| signed_by(&new_key, header(url), account, old_key);
    let old_jwk = client.key.jwk();
    // Of another's key, and with a nonce.
    let forged = signed_by(&Key::ed25519(), header(&url), &client.kid, &old_jwk);
    let refused = client.post(&url, &forged).await.expect_problem(400, "malformed");
    assert!(refused.text().contains("the inner JWS is wrong: "), "{}", refused.text());
    let mut with_nonce = header(&url);
    with_nonce["nonce"] = json!(client.nonce().await);
    let with_nonce = signed_by(&new_key, with_nonce, &client.kid, &old_jwk);
    client.post(&url, &with_nonce).await.expect_problem(400, "malformed");
    client.post(&url, &inner("https://elsewhere/1", &old_jwk, &url)).await.expect_problem(400, "malformed");
    let other_key = client.post(&url, &inner(&client.kid, &new_key.jwk(), &url)).await.expect_problem(400, "malformed");
    assert!(other_key.text().contains("oldKey"), "{}", other_key.text());
    client.post(&url, &inner(&client.kid, &old_jwk, "https://elsewhere")).await.expect_problem(400, "malformed");
    client.post(&url, &json!({})).await.expect_problem(400, "malformed");

    let other = server.registered().await;
    let payload = json!({ "account": client.kid, "oldKey": old_jwk }).to_string();
    let taken = other.key.jws(&json!({ "alg": "ES256", "jwk": other.key.jwk(), "url": url }), &payload);
    let conflict = client.post(&url, &taken).await.expect_problem(409, "malformed");
    assert_eq!(conflict.header("location"), other.kid);

    client.post(&url, &inner(&client.kid, &old_jwk, &url)).await.expect(200);
    client.post_as_get(&client.kid).await.expect_problem(400, "badPublicKey");
    client.key = new_key;
    client.post_as_get(&client.kid).await.expect(200);
    let order = ready_order(&server, &client, &["changed.test"], "http-01").await.json();
    finalize(&client, &order, &["changed.test"]).await;
}
