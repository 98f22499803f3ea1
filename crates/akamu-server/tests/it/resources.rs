//! The shape of every answer: what RFC 8555 says, and what real clients trip over.

use serde_json::json;

use crate::client::{Answer, Key};
use crate::issuance::{challenge, csr, finalize, provision, ready_order, settled};
use crate::server::TestServer;

fn assert_acme(answer: &Answer, directory: &str) {
    let links = answer.headers_named("link");
    assert!(links.contains(&format!("<{directory}>;rel=\"index\"").as_str()), "{links:?}");
    let nonce = answer.header("replay-nonce");
    assert!(nonce.len() >= 22 && nonce.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'));
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn the_directory_lists_what_works() {
    let server = TestServer::start().await;
    let client = server.client(Key::p256());
    let answer = client.get("/acme/directory").await.expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let directory = answer.json();
    for (name, path) in [
        ("newNonce", "new-nonce"),
        ("newAccount", "new-account"),
        ("newOrder", "new-order"),
        ("revokeCert", "revoke-cert"),
        ("keyChange", "key-change"),
    ] {
        assert_eq!(directory[name], client.url(&format!("/acme/{path}")));
    }
    for name in ["newAuthz", "renewalInfo"] {
        assert!(directory.get(name).is_none());
    }
    let prefix = client.url("/acme/account-hash/");
    assert_eq!(
        directory["meta"],
        json!({ "caaIdentities": ["ca.test"], "issuerDomainNames": ["ca.test"], "accountHashPrefix": prefix })
    );
    assert!(!answer.text().contains("null"));
}

#[tokio::test]
async fn new_nonce_answers_head_with_200_and_get_with_204() {
    let server = TestServer::start().await;
    let client = server.registered().await;
    let url = client.url("/acme/new-nonce");
    let head = client.send(client.http.head(&url)).await.expect(200);
    let get = client.get("/acme/new-nonce").await.expect(204);
    let post = client.post_as_get(&url).await.expect(204);
    let directory = client.url("/acme/directory");
    for answer in [&head, &get, &post] {
        assert_acme(answer, &directory);
        assert!(answer.body.is_empty());
    }
    assert_ne!(head.header("replay-nonce"), get.header("replay-nonce"));
    client.post_as_get(&directory).await.expect(200);
}

#[tokio::test]
async fn an_order_has_every_member_in_every_answer() {
    let server = TestServer::start().await;
    let client = server.registered().await;
    let created = client.new_order(&["B.test", "a.test", "b.test"]).await.expect(201);
    assert_acme(&created, &client.url("/acme/directory"));
    let order = created.json();
    assert_eq!(order["status"], "pending");
    assert_eq!(order["identifiers"], json!([{"type": "dns", "value": "b.test"}, {"type": "dns", "value": "a.test"}]));
    assert_eq!(order["authorizations"].as_array().unwrap().len(), 2);
    let expires = order["expires"].as_str().unwrap();
    assert!(expires.len() == 20 && expires.ends_with('Z'), "{expires}");
    for member in ["error", "certificate", "notBefore", "notAfter"] {
        assert!(order.get(member).is_none(), "{member}");
    }
    let read = client.post_as_get(created.header("location")).await.expect(200);
    assert_eq!(read.json(), order);
    assert_eq!(read.header("location"), created.header("location"));
    let text = created.text();
    for url in [created.header("location"), order["authorizations"][0].as_str().unwrap()] {
        assert!(!url.contains(['[', ']', ',', ' ', '"']), "{url}");
    }
    assert!(!text.contains("null"));
}

#[tokio::test]
async fn an_order_may_be_ready_only_when_it_is_asked_for_as_it_is() {
    let server = TestServer::start().await;
    let client = server.registered().await;
    let url = client.url("/acme/new-order");
    let identifiers = json!([{"type": "dns", "value": "x.test"}]);
    for member in ["notBefore", "notAfter"] {
        let payload = json!({ "identifiers": identifiers, member: "2026-12-01T00:00:00Z" });
        client.post(&url, &payload).await.expect_problem(400, "malformed");
    }
    client.post(&url, &json!({ "identifiers": identifiers, "profile": "", "other": [1] })).await.expect(201);
    let refused = client.post(&url, &json!({ "identifiers": [
        {"type": "dns", "value": "ok.test"}, {"type": "dns", "value": "bad_name.test"}, {"type": "dns", "value": "dot.test."},
        {"type": "dns", "value": "10.0.0.1"}, {"type": "ip", "value": "010.0.0.1"},
    ]})).await.expect_problem(400, "malformed");
    let problem = refused.json();
    let subproblems = problem["subproblems"].as_array().unwrap();
    assert_eq!(subproblems.len(), 4);
    assert_eq!(subproblems[0]["identifier"], json!({"type": "dns", "value": "bad_name.test"}));
    assert!(subproblems[1]["detail"].as_str().unwrap().contains("without the dot"));
}

#[tokio::test]
async fn an_authorization_is_in_the_form_that_clients_read() {
    let server = TestServer::start().await;
    let client = server.registered().await;
    let order = client.new_order(&["plain.test", "*.plain.test", "10.1.2.3"]).await.expect(201).json();
    let urls: Vec<_> = order["authorizations"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let mut offered = Vec::new();
    for url in &urls {
        let answer = client.post_as_get(url).await.expect(200);
        let text = answer.text();
        assert!(!text.contains("\"status\":\"valid\"") && !text.contains("\"status\":\"invalid\""), "{text}");
        assert!(!text.contains("null") && !text.contains("\"error\""), "{text}");
        let authorization = answer.json();
        assert_eq!(authorization["status"], "pending");
        let types: Vec<_> = authorization["challenges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["type"].as_str().unwrap().to_owned())
            .collect();
        offered.push((
            authorization["identifier"]["value"].as_str().unwrap().to_owned(),
            authorization.get("wildcard").cloned(),
            types,
        ));
    }
    let types = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        offered[0],
        ("plain.test".to_owned(), None, types(&["http-01", "dns-01", "tls-alpn-01", "dns-persist-01"]))
    );
    assert_eq!(offered[1], ("plain.test".to_owned(), Some(json!(true)), types(&["dns-01", "dns-persist-01"])));
    assert_eq!(offered[2], ("10.1.2.3".to_owned(), None, types(&["http-01", "tls-alpn-01"])));
    let text = client.post_as_get(urls[0]).await.text().to_owned();
    assert!(text.contains("{\"type\":\"http-01\",\"url\":\"https://localhost:"), "{text}");
    assert!(text.find("\"token\"").unwrap() > text.find("\"status\":\"pending\",\"token\"").unwrap());
}

#[tokio::test]
async fn a_challenge_is_answered_at_once_and_links_its_authorization() {
    let server = TestServer::start().await;
    let client = server.registered().await;
    server.name_here("link.test");
    let order = client.new_order(&["link.test"]).await.expect(201).json();
    let url = order["authorizations"][0].as_str().unwrap();
    let authorization = client.post_as_get(url).await.json();
    let http_01 = challenge(&authorization, "http-01");
    let challenge_url = http_01["url"].as_str().unwrap();
    let looked = client.post_as_get(challenge_url).await.expect(200);
    assert_eq!(looked.json()["status"], "pending");
    provision(&server, &client, &authorization, &http_01);
    // Old clients send the whole object.
    let started = client.post(challenge_url, &http_01).await.expect(200);
    assert_eq!(started.json()["status"], "processing");
    assert_eq!(started.json()["url"], http_01["url"]);
    assert!(started.headers_named("link").contains(&format!("<{url}>;rel=\"up\"").as_str()));
    assert!(started.header("retry-after").parse::<u32>().is_ok());
    let done = settled(&client, url).await;
    assert_eq!(done["challenges"].as_array().unwrap().len(), 1);
    assert_eq!(done["challenges"][0]["status"], "valid");
    assert!(done["challenges"][0]["validated"].as_str().unwrap().ends_with('Z'));
    let again = client.post(challenge_url, &json!({})).await.expect(200).json();
    assert_eq!(again["status"], "valid");
    client.post(&challenge_url.replace("http-01", "tls-sni-01"), &json!({})).await.expect_problem(404, "malformed");
}

#[tokio::test]
async fn deactivating_an_authorization_makes_its_order_invalid() {
    let server = TestServer::start().await;
    let client = server.registered().await;
    let created = client.new_order(&["off.test"]).await.expect(201);
    let url = created.json()["authorizations"][0].as_str().unwrap().to_owned();
    client.post(&url, &json!({ "status": "valid" })).await.expect_problem(400, "malformed");
    let authorization = client.post(&url, &json!({ "status": "deactivated" })).await.expect(200).json();
    assert_eq!(authorization["status"], "deactivated");
    let order = client.post_as_get(created.header("location")).await.expect(200).json();
    assert_eq!(order["status"], "invalid");
    assert!(order["error"]["detail"].as_str().unwrap().contains("deactivated"));
}

#[tokio::test]
async fn time_runs_out_for_orders_and_authorizations() {
    let server = TestServer::start().await;
    let client = server.registered().await;
    let created = client.new_order(&["late.test"]).await.expect(201);
    let url = created.json()["authorizations"][0].as_str().unwrap().to_owned();
    server.clock.advance(std::time::Duration::from_secs(86_401));
    client.post_as_get(&url).await.expect_problem(404, "malformed");
    let order = client.post_as_get(created.header("location")).await.expect(200).json();
    assert_eq!(order["status"], "invalid");
    assert!(order["error"]["detail"].as_str().unwrap().contains("expired"));
}

#[tokio::test]
async fn finalize_takes_one_csr_for_exactly_the_orders_names() {
    let server = TestServer::start().await;
    let client = server.registered().await;
    server.name_here("csr.test");
    let pending = client.new_order(&["csr.test"]).await.expect(201).json();
    let url = pending["finalize"].as_str().unwrap();
    client.post(url, &json!({ "csr": csr(&["csr.test"]) })).await.expect_problem(403, "orderNotReady");

    let order = ready_order(&server, &client, &["csr.test"], "http-01").await.json();
    let url = order["finalize"].as_str().unwrap();
    for names in [vec!["other.test"], vec!["csr.test", "other.test"]] {
        let refused = client.post(url, &json!({ "csr": csr(&names) })).await.expect_problem(400, "badCSR");
        assert!(refused.json()["detail"].as_str().unwrap().contains("other.test"));
    }
    for text in ["", "AAAA", "====", "not base64"] {
        client.post(url, &json!({ "csr": text })).await.expect_problem(400, "badCSR");
    }
    let order_url = url.strip_suffix("/finalize").unwrap();
    assert_eq!(client.post_as_get(order_url).await.json()["status"], "ready", "a refused CSR changes nothing");

    let text = csr(&["csr.test"]);
    let first = client.post(url, &json!({ "csr": text })).await.expect(200).json();
    let second = client.post(url, &json!({ "csr": text })).await.expect(200).json();
    assert_eq!(first, second);
    client.post(url, &json!({ "csr": csr(&["csr.test"]) })).await.expect_problem(403, "orderNotReady");
    let certificate = first["certificate"].as_str().unwrap();
    server.registered().await.post_as_get(certificate).await.expect_problem(404, "malformed");
}

#[tokio::test]
async fn a_certificate_may_be_revoked_by_its_key_and_by_whoever_holds_its_names() {
    let server = TestServer::start().await;
    let client = server.registered().await;
    let order = ready_order(&server, &client, &["holder.test"], "http-01").await.json();
    let chain = finalize(&client, &order, &["holder.test"]).await;
    let (_, leaf) = crate::issuance::pem_der(&chain);
    let url = client.url("/acme/revoke-cert");
    let payload = json!({ "certificate": crate::client::base64url(leaf) });
    let other = server.registered().await;
    other.post(&url, &payload).await.expect_problem(403, "unauthorized");
    client.post_with_key(&Key::p256(), &url, &payload).await.expect_problem(403, "unauthorized");
    ready_order(&server, &other, &["holder.test"], "http-01").await;
    other.post(&url, &payload).await.expect(200);
    client.post(&url, &json!({ "certificate": "AAAA" })).await.expect_problem(400, "malformed");
}
