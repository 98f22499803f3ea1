//! Whatever a stranger sends gets one problem document with a fresh nonce, and changes nothing.

use serde_json::{Value, json};

use crate::client::{Answer, Client, Key, base64url};
use crate::database::{Database, Watch, on_both_databases};

on_both_databases! {
    a_protected_header_that_breaks_a_rule_is_refused,
    a_nonce_is_good_once,
    a_wrong_signature_costs_no_nonce,
    a_new_account_is_signed_by_its_key_and_all_else_by_an_account,
    what_was_sent_is_repeated_in_part_only,
    bodies_that_are_no_jws_are_refused,
    payloads_that_break_a_rule_are_refused,
    what_is_another_accounts_is_as_if_absent,
    unknown_urls_and_methods_are_problems_too,
}

fn assert_refused(what: &str, answer: &Answer, status: u16, error: &str) {
    assert!(answer.headers.contains_key("replay-nonce"), "{what}: no nonce");
    assert_eq!((answer.status, answer.problem().as_str()), (status, error), "{what}: {}", answer.json());
}

/// A right request to newOrder with one thing changed.
async fn changed(client: &Client, change: impl FnOnce(&mut Value)) -> Answer {
    let url = client.url("/acme/new-order");
    let mut protected = client.protected(&url).await;
    change(&mut protected);
    let payload = json!({ "identifiers": [{ "type": "dns", "value": "x.test" }] }).to_string();
    client.post_raw(&url, client.key.jws(&protected, &payload).to_string()).await
}

async fn a_protected_header_that_breaks_a_rule_is_refused(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let other = server.registered().await;
    assert_eq!(changed(&client, |_| {}).await.status, 201, "the unchanged request is right");
    type Change = Box<dyn FnOnce(&mut Value)>;
    let jwk = client.key.jwk();
    let (kid, other_kid) = (client.kid.clone(), other.kid.clone());
    let unknown = client.url("/acme/account/1234567");
    let elsewhere = client.url("/acme/new-account");
    let cases: Vec<(&str, u16, &str, Change)> = vec![
        ("alg none", 400, "badSignatureAlgorithm", Box::new(|it| it["alg"] = json!("none"))),
        ("alg HS256", 400, "badSignatureAlgorithm", Box::new(|it| it["alg"] = json!("HS256"))),
        ("alg of another key", 400, "badPublicKey", Box::new(|it| it["alg"] = json!("ES384"))),
        ("jwk and kid", 400, "malformed", Box::new(move |it| it["jwk"] = jwk)),
        ("neither", 400, "malformed", Box::new(|it| drop(it.as_object_mut().unwrap().remove("kid")))),
        ("another account's kid", 400, "malformed", Box::new(move |it| it["kid"] = json!(other_kid))),
        ("unknown kid", 400, "accountDoesNotExist", Box::new(move |it| it["kid"] = json!(unknown))),
        ("a kid elsewhere", 400, "accountDoesNotExist", Box::new(|it| it["kid"] = json!("https://other.test/1"))),
        (
            "a kid with a slash more",
            400,
            "accountDoesNotExist",
            Box::new(move |it| it["kid"] = json!(format!("{kid}/"))),
        ),
        ("another url", 401, "unauthorized", Box::new(move |it| it["url"] = json!(elsewhere))),
        ("no url", 400, "malformed", Box::new(|it| drop(it.as_object_mut().unwrap().remove("url")))),
        ("no nonce", 400, "badNonce", Box::new(|it| drop(it.as_object_mut().unwrap().remove("nonce")))),
        ("a nonce of nobody", 400, "badNonce", Box::new(|it| it["nonce"] = json!(base64url([7; 32])))),
        ("a short nonce", 400, "badNonce", Box::new(|it| it["nonce"] = json!("AAAA"))),
        ("a nonce that is no base64url", 400, "malformed", Box::new(|it| it["nonce"] = json!("a b+/="))),
        ("crit", 400, "malformed", Box::new(|it| it["crit"] = json!(["exp"]))),
        ("b64", 400, "malformed", Box::new(|it| it["b64"] = json!(false))),
    ];
    let mut watch = Watch::over(&server);
    for (what, status, error, change) in cases {
        assert_refused(what, &changed(&client, change).await, status, error);
        watch.assert_unwritten(what);
    }
}

async fn a_nonce_is_good_once(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let nonce = client.nonce().await;
    assert_eq!(changed(&client, |it| it["nonce"] = json!(nonce)).await.status, 201);
    let replayed = changed(&client, |it| it["nonce"] = json!(nonce)).await;
    // acme.sh tries again only where it reads these words.
    assert!(replayed.text().contains("JWS has an invalid anti-replay nonce"), "{}", replayed.text());
    assert_refused("replayed", &replayed, 400, "badNonce");
    // A client that waits for DNS in between keeps its nonce.
    let nonce = client.nonce().await;
    server.clock.advance(std::time::Duration::from_secs(1_800));
    assert_eq!(changed(&client, |it| it["nonce"] = json!(nonce)).await.status, 201);
    let nonce = client.nonce().await;
    server.clock.advance(std::time::Duration::from_secs(3_602));
    assert_refused("old", &changed(&client, |it| it["nonce"] = json!(nonce)).await, 400, "badNonce");
}

async fn a_wrong_signature_costs_no_nonce(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let url = client.url("/acme/new-order");
    let payload = json!({ "identifiers": [{ "type": "dns", "value": "x.test" }] }).to_string();
    // The second time the account's key has been seen.
    for what in ["forged", "forged again"] {
        let protected = client.protected(&url).await;
        let forged = Key::p256().jws(&protected, &payload);
        assert_refused(what, &client.post_raw(&url, forged.to_string()).await, 400, "malformed");
        client.post_raw(&url, client.key.jws(&protected, &payload).to_string()).await.expect(201);
    }
}

async fn a_new_account_is_signed_by_its_key_and_all_else_by_an_account(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let stranger = server.client(Key::p256());
    let header = |by: &str, of: &Client, nonce: &str, url: &str| {
        let signer = if by == "jwk" { of.key.jwk() } else { json!(of.kid) };
        json!({ "alg": "ES256", by: signer, "nonce": nonce, "url": url })
    };
    // What is refused before the signature is looked at costs no nonce.
    let nonce = client.nonce().await;
    for (by, path, expected) in [("kid", "/acme/new-account", "\"jwk\", not"), ("jwk", "/acme/new-order", "\"kid\"")] {
        let url = client.url(path);
        let jws = client.key.jws(&header(by, &client, &nonce, &url), "{}");
        let answer = client.post_raw(&url, jws.to_string()).await;
        assert_refused(path, &answer, 400, "malformed");
        assert!(answer.text().replace('\\', "").contains(expected), "{path}: {}", answer.text());
    }
    let url = client.url("/acme/new-account");
    let right = stranger.key.jws(&header("jwk", &stranger, &nonce, &url), "{}").to_string();
    let forged = client.key.jws(&header("jwk", &stranger, &nonce, &url), "{}").to_string();
    assert_refused("forged", &client.post_raw(&url, forged).await, 400, "malformed");
    client.post_raw(&url, right.clone()).await.expect(201);
    assert_refused("replayed", &client.post_raw(&url, right).await, 400, "badNonce");
}

async fn what_was_sent_is_repeated_in_part_only(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let long = format!("https://long.test/{}", "x".repeat(20_000));
    for (member, status, error) in [("url", 401, "unauthorized"), ("kid", 400, "accountDoesNotExist")] {
        let answer = changed(&client, |it| it[member] = json!(long)).await;
        assert_refused(member, &answer, status, error);
        assert!(answer.text().contains("https://long.test/xxx") && answer.body.len() < 1_000, "{member}");
    }
}

async fn bodies_that_are_no_jws_are_refused(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let url = client.url("/acme/new-order");
    let good = client.key.jws(&client.protected(&url).await, "{}").to_string();
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("a form", b"a=b&c=d".to_vec()),
        ("cut off", good.as_bytes()[..good.len() / 2].to_vec()),
        ("brackets", nested.clone().into_bytes()),
        ("brackets inside", format!("{{\"protected\":{nested}}}").into_bytes()),
        ("NUL", b"{\"protected\":\"\0\",\"payload\":\"\",\"signature\":\"\"}".to_vec()),
        ("not UTF-8", b"{\"protected\":\"\xff\xfe\",\"payload\":\"\",\"signature\":\"\"}".to_vec()),
        ("a list", b"[\"a\",\"b\",\"c\"]".to_vec()),
        ("numbers", b"{\"protected\":1,\"payload\":2,\"signature\":3}".to_vec()),
    ];
    let mut watch = Watch::over(&server);
    for (what, body) in cases {
        assert_refused(what, &client.post_raw(&url, body).await, 400, "malformed");
    }
    assert_refused("too large", &client.post_raw(&url, vec![b' '; 131_073]).await, 413, "malformed");
    let wrong_type = client.send(client.http.post(&url).header("content-type", "application/json").body(good)).await;
    assert_refused("content type", &wrong_type, 415, "malformed");
    let none = client.send(client.http.post(&url).body("{}")).await;
    assert_refused("no content type", &none, 415, "malformed");
    watch.assert_unwritten("a body");
}

async fn payloads_that_break_a_rule_are_refused(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let order = client.new_order(&["x.test"]).await.expect(201);
    let order_url = order.header("location").to_owned();
    let authorization = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let challenge = format!("{}/http-01", authorization.replace("/authz/", "/chall/"));
    let nested = "[".repeat(10_000);
    let mut watch = Watch::over(&server);
    for (what, url, payload) in [
        ("POST-as-GET with {}", order_url.as_str(), "{}"),
        ("an empty newOrder", &client.url("/acme/new-order"), ""),
        ("newOrder without identifiers", &client.url("/acme/new-order"), "{}"),
        ("no identifiers", &client.url("/acme/new-order"), "{\"identifiers\":[]}"),
        ("identifiers as text", &client.url("/acme/new-order"), "{\"identifiers\":\"x\"}"),
        ("a list", &client.url("/acme/new-order"), "[[]]"),
        (
            "members by position",
            &client.url("/acme/new-order"),
            "[[{\"type\":\"dns\",\"value\":\"x.test\"}],null,null]",
        ),
        ("brackets", &client.url("/acme/new-order"), &nested),
        ("NUL", &client.url("/acme/new-order"), "\0"),
        ("a number for a challenge", &challenge, "1"),
        ("finalize without csr", &format!("{order_url}/finalize"), "{}"),
        ("revocation without certificate", &client.url("/acme/revoke-cert"), "{}"),
    ] {
        assert_refused(what, &client.post_text(url, payload).await, 400, "malformed");
        watch.assert_unwritten(what);
    }
    let after = client.post_as_get(&order_url).await.expect(200);
    assert_eq!(after.json(), order.json());
}

async fn what_is_another_accounts_is_as_if_absent(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let other = server.registered().await;
    let order = client.new_order(&["x.test"]).await.expect(201);
    let authorization = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let urls = [
        order.header("location").to_owned(),
        authorization.clone(),
        client.url("/acme/order/AAAAAAAAAAAAAAAAAAAAAA"),
        client.url("/acme/order/..%2f"),
        client.url("/acme/authz/x"),
        client.url("/acme/cert/AAAAAAAAAAAAAAAAAAAAAA"),
    ];
    let mut answers = Vec::new();
    let mut watch = Watch::over(&server);
    for url in &urls {
        let answer = other.post_as_get(url).await.expect_problem(404, "malformed");
        answers.push(answer.json()["detail"].clone());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let challenge = format!("{}/http-01", authorization.replace("/authz/", "/chall/"));
    other.post(&challenge, &json!({})).await.expect_problem(404, "malformed");
    other.post(&authorization, &json!({ "status": "deactivated" })).await.expect_problem(404, "malformed");
    let finalize = order.json()["finalize"].as_str().unwrap().to_owned();
    other.post(&finalize, &json!({ "csr": "AAAA" })).await.expect_problem(404, "malformed");
    watch.assert_unwritten("what is another account's");
    assert_eq!(client.post_as_get(&authorization).await.json()["status"], "pending");
}

async fn unknown_urls_and_methods_are_problems_too(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    client.get("/acme/nothing").await.expect_problem(404, "malformed");
    client.get("/").await.expect_problem(404, "malformed");
    client.get("/acme/new-order").await.expect_problem(405, "malformed");
    assert_refused("404", &client.post_raw(&client.url("/acme/nothing"), "{}").await, 404, "malformed");
    let deleted = client.send(client.http.delete(client.url("/acme/directory"))).await;
    assert_eq!(deleted.problem(), "malformed");
    assert_eq!(deleted.status, 405);
}
