//! The shape of every answer: what RFC 8555 says, and what real clients trip over.

use akamu_challenge::Clock as _;
use serde_json::{Value, json};

use crate::client::{Client, Key, base64url};
use crate::database::{Beside, Database, on_both_databases};
use crate::issuance::{challenge, csr, csr_and_key, finalize, pem_der, provision, ready_order, settled};

on_both_databases! {
    the_directory_lists_what_works,
    new_nonce_answers_head_with_200_and_get_with_204,
    an_order_has_every_member_in_every_answer,
    an_order_may_be_ready_only_when_it_is_asked_for_as_it_is,
    an_authorization_is_in_the_form_that_clients_read,
    a_challenge_is_answered_at_once_and_links_its_authorization,
    deactivating_an_authorization_makes_its_order_invalid,
    time_runs_out_for_orders_and_authorizations,
    finalize_takes_one_csr_for_exactly_the_orders_names,
    a_certificate_may_be_revoked_by_its_key_and_by_whoever_holds_its_names,
    only_some_reasons_may_be_given_for_a_revocation,
    deactivating_an_authorization_makes_a_ready_order_invalid,
    a_csr_is_made_with_a_key_of_its_own_and_asks_for_names_alone,
    an_order_shows_where_it_stands,
    a_jws_may_be_indented_and_its_content_type_have_parameters,
    what_is_configured_is_what_clients_see,
}

async fn the_directory_lists_what_works(database: Database) {
    let server = database.server().await;
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

async fn new_nonce_answers_head_with_200_and_get_with_204(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let url = client.url("/acme/new-nonce");
    let head = client.send(client.http.head(&url)).await.expect(200);
    let get = client.get("/acme/new-nonce").await.expect(204);
    let post = client.post_as_get(&url).await.expect(204);
    let directory = client.url("/acme/directory");
    for answer in [&head, &get, &post] {
        answer.assert_acme(&directory);
        assert!(answer.body.is_empty());
    }
    assert_ne!(head.header("replay-nonce"), get.header("replay-nonce"));
    client.post_as_get(&directory).await.expect(200);
}

async fn an_order_has_every_member_in_every_answer(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let created = client.new_order(&["B.test", "a.test", "b.test"]).await.expect(201);
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

async fn an_order_may_be_ready_only_when_it_is_asked_for_as_it_is(database: Database) {
    let server = database.server().await;
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

async fn an_authorization_is_in_the_form_that_clients_read(database: Database) {
    let server = database.server().await;
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

async fn a_challenge_is_answered_at_once_and_links_its_authorization(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    server.name_here("link.test");
    let order = client.new_order(&["link.test"]).await.expect(201).json();
    let url = order["authorizations"][0].as_str().unwrap();
    let authorization = client.post_as_get(url).await.json();
    let http_01 = challenge(&authorization, "http-01");
    let challenge_url = http_01["url"].as_str().unwrap();
    let looked = client.post_as_get(challenge_url).await.expect(200);
    assert_eq!(looked.json()["status"], "pending");
    assert!(!looked.headers.contains_key("retry-after"), "nothing happens by itself");
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

async fn deactivating_an_authorization_makes_its_order_invalid(database: Database) {
    let server = database.server().await;
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

async fn time_runs_out_for_orders_and_authorizations(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let created = client.new_order(&["late.test"]).await.expect(201);
    let url = created.json()["authorizations"][0].as_str().unwrap().to_owned();
    server.clock.advance(std::time::Duration::from_secs(86_401));
    client.post_as_get(&url).await.expect_problem(404, "malformed");
    let order = client.post_as_get(created.header("location")).await.expect(200).json();
    assert_eq!(order["status"], "invalid");
    assert!(order["error"]["detail"].as_str().unwrap().contains("expired"));
}

async fn finalize_takes_one_csr_for_exactly_the_orders_names(database: Database) {
    let server = database.server().await;
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

async fn a_certificate_may_be_revoked_by_its_key_and_by_whoever_holds_its_names(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let order = ready_order(&server, &client, &["holder.test"], "http-01").await.json();
    let url = client.url("/acme/revoke-cert");
    let (key, request) = csr_and_key(&["holder.test"]);
    let by_key = certificate(&client, &order, &request).await;
    client.post_with_key(&Key::p256(), &url, &by_key).await.expect_problem(403, "unauthorized");
    assert!(client.post_with_key(&key, &url, &by_key).await.expect(200).body.is_empty());

    let order = ready_order(&server, &client, &["holder.test"], "http-01").await.json();
    let by_holder = certificate(&client, &order, &csr(&["holder.test"])).await;
    let other = server.registered().await;
    other.post(&url, &by_holder).await.expect_problem(403, "unauthorized");
    ready_order(&server, &other, &["holder.test"], "http-01").await;
    other.post(&url, &by_holder).await.expect(200);
    client.post(&url, &json!({ "certificate": "AAAA" })).await.expect_problem(400, "malformed");

    // Whoever got it may for as long as it is good; another's authorization ends.
    let order = ready_order(&server, &client, &["holder.test"], "http-01").await.json();
    let later = certificate(&client, &order, &csr(&["holder.test"])).await;
    server.clock.advance(std::time::Duration::from_secs(2 * 86_400));
    other.post(&url, &later).await.expect_problem(403, "unauthorized");
    client.post(&url, &later).await.expect(200);

    // Somebody else's, also where its serial number is that of one of ours.
    let mut params = rcgen::CertificateParams::new(["holder.test".to_owned()]).unwrap();
    let mut beside = Beside::of(&server.place);
    let hex = if matches!(beside, Beside::Sqlite(_)) { "lower(hex(serial))" } else { "encode(serial, 'hex')" };
    let serial = beside.text(&format!("SELECT {hex} AS text FROM certificates LIMIT 1"));
    for serial in [serial, "01".repeat(16)] {
        let octets = u128::from_str_radix(&serial, 16).unwrap().to_be_bytes().to_vec();
        params.serial_number = Some(octets.into());
        let foreign = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let payload = json!({ "certificate": base64url(foreign.der()) });
        client.post(&url, &payload).await.expect_problem(404, "malformed");
    }
}

/// The payload that revokes the certificate which the order gives for this CSR.
async fn certificate(client: &Client, order: &Value, csr: &str) -> Value {
    let order = client.post(order["finalize"].as_str().unwrap(), &json!({ "csr": csr })).await.expect(200).json();
    let chain = client.post_as_get(order["certificate"].as_str().unwrap()).await.expect(200);
    json!({ "certificate": base64url(pem_der(chain.text()).1) })
}

async fn only_some_reasons_may_be_given_for_a_revocation(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let url = client.url("/acme/revoke-cert");
    let order = ready_order(&server, &client, &["reason.test"], "dns-01").await.json();
    let mut payload = certificate(&client, &order, &csr(&["reason.test"])).await;
    for reason in [-1, 2, 6, 7, 8, 10, 11, 1_000_000] {
        payload["reason"] = json!(reason);
        client.post(&url, &payload).await.expect_problem(400, "badRevocationReason");
    }
    for reason in [0, 1, 3, 4, 5, 9] {
        let order = ready_order(&server, &client, &["reason.test"], "dns-01").await.json();
        let mut payload = certificate(&client, &order, &csr(&["reason.test"])).await;
        payload["reason"] = json!(reason);
        client.post(&url, &payload).await.expect(200);
    }
}

async fn deactivating_an_authorization_makes_a_ready_order_invalid(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let order = ready_order(&server, &client, &["off.test"], "dns-01").await;
    let authorization = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    client.post(&authorization, &json!({ "status": "deactivated" })).await.expect(200);
    let order = client.post_as_get(order.header("location")).await.expect(200).json();
    assert_eq!(order["status"], "invalid");
    let finalize = order["finalize"].as_str().unwrap();
    client.post(finalize, &json!({ "csr": csr(&["off.test"]) })).await.expect_problem(403, "orderNotReady");
}

async fn a_csr_is_made_with_a_key_of_its_own_and_asks_for_names_alone(database: Database) {
    let server = database.server().await;
    let (key, own) = csr_and_key(&["csr.test"]);
    let mut client = server.client(key);
    client.register().await;
    let order = ready_order(&server, &client, &["csr.test"], "dns-01").await.json();
    let url = order["finalize"].as_str().unwrap();
    let refused = client.post(url, &json!({ "csr": own })).await.expect_problem(400, "badCSR");
    assert!(refused.json()["detail"].as_str().unwrap().contains("account's own key"), "{}", refused.text());
    let mut params = rcgen::CertificateParams::new(["csr.test".to_owned()]).unwrap();
    params.subject_alt_names.push(rcgen::SanType::Rfc822Name("a@csr.test".try_into().unwrap()));
    let with_mail = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
    client.post(url, &json!({ "csr": base64url(with_mail.der()) })).await.expect_problem(400, "badCSR");
    finalize(&client, &order, &["csr.test"]).await;
}

async fn an_order_shows_where_it_stands(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let ready = ready_order(&server, &client, &["state.test"], "dns-01").await;
    finalize(&client, &ready.json(), &["state.test"]).await;
    let valid = client.post_as_get(ready.header("location")).await.expect(200);
    let failed = client.new_order(&["fails.test"]).await.expect(201);
    let url = failed.json()["authorizations"][0].as_str().unwrap().to_owned();
    let dns_01 = challenge(&client.post_as_get(&url).await.json(), "dns-01");
    client.post(dns_01["url"].as_str().unwrap(), &json!({})).await.expect(200);
    let authorization = settled(&client, &url).await;
    assert_eq!(authorization["status"], "invalid");
    assert_eq!(authorization["challenges"].as_array().unwrap().len(), 1, "the one that failed");
    assert_eq!(authorization["challenges"][0]["error"]["type"], "urn:ietf:params:acme:error:dns");
    let invalid = client.post_as_get(failed.header("location")).await.expect(200);
    for (answer, status) in [(&ready, "ready"), (&valid, "valid"), (&invalid, "invalid"), (&failed, "pending")] {
        let order = answer.json();
        assert_eq!(order["status"], status);
        assert!(order["expires"].as_str().unwrap().ends_with('Z'));
        assert!(order["identifiers"].is_array() && order["authorizations"].is_array());
        assert!(order["finalize"].is_string(), "{order}");
        assert!(answer.header("location").contains("/acme/order/"));
        assert!(!answer.headers.contains_key("retry-after"), "{status}: nothing happens by itself");
        assert_eq!(order.get("error").is_some(), status == "invalid");
        assert_eq!(order.get("certificate").is_some(), status == "valid");
    }
}

async fn a_jws_may_be_indented_and_its_content_type_have_parameters(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let jws = client.key.jws(&client.protected(&client.kid).await, "");
    let body = serde_json::to_string_pretty(&jws).unwrap();
    let content_type = "Application/JOSE+JSON; charset=utf-8";
    client.send(client.http.post(&client.kid).header("content-type", content_type).body(body)).await.expect(200);
    // And so may its payload.
    let update = client.post_text(&client.kid, "\n { \"contact\": [\"mailto:a@b.test\"] }\n").await.expect(200);
    assert_eq!(update.json()["contact"], json!(["mailto:a@b.test"]));
}

async fn what_is_configured_is_what_clients_see(database: Database) {
    let settings = "[server]\norder_expiry_secs = 1000\nauthz_expiry_secs = 900\nnonce_lifetime_secs = 100\n\
                    website_url = \"https://www.test\"\n";
    let server = database.server_with(settings).await;
    let client = server.registered().await;
    assert_eq!(client.get("/acme/directory").await.json()["meta"]["website"], "https://www.test");
    let order = client.new_order(&["brief.test"]).await.expect(201).json();
    let after = |seconds| json!(server.clock.now().plus(std::time::Duration::from_secs(seconds)).to_string());
    assert_eq!(order["expires"], after(1000));
    let url = order["authorizations"][0].as_str().unwrap();
    assert_eq!(client.post_as_get(url).await.expect(200).json()["expires"], after(900));
    let jws = client.key.jws(&client.protected(&client.kid).await, "").to_string();
    server.clock.advance(std::time::Duration::from_secs(102));
    client.post_raw(&client.kid, jws).await.expect_problem(400, "badNonce");
}
