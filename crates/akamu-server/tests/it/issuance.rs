//! From an order to a certificate, through each challenge type, on both databases.

use serde_json::{Value, json};

use crate::client::{Answer, Client, Key, base64url};
use crate::database::{Beside, Database, on_both_databases};
use crate::server::TestServer;

on_both_databases! {
    every_type_gives_a_certificate,
    an_order_may_have_a_hundred_names,
    a_persistent_record_gives_a_second_certificate_without_touching_dns,
    every_kind_of_account_key_gets_a_certificate,
    a_failed_validation_explains_itself_and_makes_the_order_invalid,
    a_revoked_certificate_is_on_the_crl,
    validations_beyond_the_limit_take_their_turn,
}

/// A CSR for these names, DER in base64url.
pub(crate) fn csr(names: &[&str]) -> String {
    csr_and_key(names).1
}

/// A CSR for these names, DER in base64url, and its key.
pub(crate) fn csr_and_key(names: &[&str]) -> (Key, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = base64url(params.serialize_request(&key).unwrap().der());
    (Key::p256_from_pkcs8(&key.serialize_der()), csr)
}

pub(crate) fn challenge(authorization: &Value, kind: &str) -> Value {
    let challenges = authorization["challenges"].as_array().unwrap();
    challenges.iter().find(|it| it["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {authorization}")).clone()
}

/// Provisions what the challenge wants.
pub(crate) fn provision(server: &TestServer, client: &Client, authorization: &Value, challenge: &Value) {
    let name = authorization["identifier"]["value"].as_str().unwrap();
    let token = || challenge["token"].as_str().unwrap();
    let key_authorization = || format!("{}.{}", token(), client.key.thumbprint());
    match challenge["type"].as_str().unwrap() {
        "http-01" => server.answer_http_01(token(), &key_authorization()),
        "tls-alpn-01" => server.answer_tls_alpn_01(name, &key_authorization()),
        "dns-01" => {
            let value: akamu_proto::KeyAuthorization = key_authorization().parse().unwrap();
            server.set_txt(&format!("_acme-challenge.{name}"), &value.dns_value());
        }
        "dns-persist-01" => {
            let record = format!("ca.test; accounturi={}; policy=wildcard", client.kid);
            server.set_txt(&format!("_validation-persist.{name}"), &record);
        }
        other => panic!("{other}"),
    }
}

/// Waits for the end of the validation by the polls that the server holds.
pub(crate) async fn settled(client: &Client, url: &str) -> Value {
    let settled = async {
        loop {
            let authorization = client.post_as_get(url).await.expect(200).json();
            if authorization["status"] != "pending" {
                return authorization;
            }
        }
    };
    // Far more than it takes: only so that a server that forgets it does not hang the test.
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, settled).await.unwrap_or_else(|_| panic!("{url} stays pending"))
}

/// Proves control of every name of the order by one challenge type.
pub(crate) async fn authorize(server: &TestServer, client: &Client, order: &Value, kind: &str) {
    for url in order["authorizations"].as_array().unwrap() {
        let url = url.as_str().unwrap();
        let authorization = client.post_as_get(url).await.expect(200).json();
        let challenge = challenge(&authorization, kind);
        provision(server, client, &authorization, &challenge);
        client.post(challenge["url"].as_str().unwrap(), &json!({})).await.expect(200);
        assert_eq!(settled(client, url).await["status"], "valid");
    }
}

/// An order whose only authorization is being validated by http-01: its probe waits to be answered.
pub(crate) struct Processing {
    /// URLs.
    pub(crate) order: String,
    pub(crate) authorization: String,
    shown: Value,
    http_01: Value,
}

impl Processing {
    pub(crate) async fn begin(server: &TestServer, client: &Client) -> Self {
        server.name_here("processing.test");
        let created = client.new_order(&["processing.test"]).await.expect(201);
        let authorization = created.json()["authorizations"][0].as_str().unwrap().to_owned();
        let shown = client.post_as_get(&authorization).await.expect(200).json();
        let http_01 = challenge(&shown, "http-01");
        let begun = client.post(http_01["url"].as_str().unwrap(), &json!({})).await.expect(200).json();
        assert_eq!(begun["status"], "processing");
        Self { order: created.header("location").to_owned(), authorization, shown, http_01 }
    }

    pub(crate) fn name(&self) -> &str {
        self.shown["identifier"]["value"].as_str().unwrap()
    }

    pub(crate) fn token(&self) -> String {
        self.http_01["token"].as_str().unwrap().to_owned()
    }

    /// Lets the validation succeed, also on a server that has been started since.
    pub(crate) fn provision(&self, server: &TestServer, client: &Client) {
        server.name_here(self.name());
        provision(server, client, &self.shown, &self.http_01);
    }
}

/// The whole way: an order that is ready to be finalized.
pub(crate) async fn ready_order(server: &TestServer, client: &Client, names: &[&str], kind: &str) -> Answer {
    for name in names {
        server.name_here(name);
    }
    let created = client.new_order(names).await.expect(201);
    authorize(server, client, &created.json(), kind).await;
    let order = client.post_as_get(created.header("location")).await.expect(200);
    assert_eq!(order.json()["status"], "ready");
    order
}

/// The certificate of a finalized order, PEM.
pub(crate) async fn finalize(client: &Client, order: &Value, names: &[&str]) -> String {
    let url = order["finalize"].as_str().unwrap();
    let finalized = client.post(url, &json!({ "csr": csr(names) })).await.expect(200);
    let order = finalized.json();
    assert_eq!(order["status"], "valid", "finalize answers at once: {order}");
    assert!(finalized.header("location").contains("/acme/order/"));
    let certificate = client.post_as_get(order["certificate"].as_str().unwrap()).await.expect(200);
    assert_eq!(certificate.header("content-type"), "application/pem-certificate-chain");
    certificate.text().to_owned()
}

/// The subject alternative names, as openssl reads them, after it has verified the chain.
pub(crate) fn verified_names(server: &TestServer, chain: &str) -> Vec<String> {
    let file = server.data_dir().join("chain.pem");
    std::fs::write(&file, chain).unwrap();
    let root = server.root_pem();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl").args(arguments).output().expect("openssl must be installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "openssl {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let (file, root) = (file.to_str().unwrap(), root.to_str().unwrap());
    openssl(&["verify", "-x509_strict", "-CAfile", root, "-untrusted", file, file]);
    let text = openssl(&["x509", "-in", file, "-noout", "-ext", "subjectAltName"]);
    let names = text.lines().last().unwrap().trim().split(", ");
    let mut names: Vec<_> = names.map(|it| it.split_once(':').unwrap().1.to_owned()).collect();
    names.sort();
    names
}

pub(crate) async fn every_type_gives_a_certificate(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    for (kind, names) in [
        ("http-01", vec!["www.example.test", "example.test", "127.0.0.1"]),
        ("dns-01", vec!["*.example.test", "example.test"]),
        ("tls-alpn-01", vec!["example.test", "127.0.0.1"]),
        ("dns-persist-01", vec!["*.persist.test", "persist.test"]),
        ("http-01", vec!["nas"]),
    ] {
        let order = ready_order(&server, &client, &names, kind).await.json();
        let chain = finalize(&client, &order, &names).await;
        let mut expected: Vec<_> = names.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(verified_names(&server, &chain), expected, "{kind}");
        assert_eq!(chain.matches("-----BEGIN CERTIFICATE-----").count(), 2, "leaf and issuing certificate");
        assert!(chain.ends_with("-----END CERTIFICATE-----\n") && !chain.contains("\n\n") && !chain.contains('\r'));
    }
}

async fn an_order_may_have_a_hundred_names(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let names: Vec<_> = (0..101).map(|n| format!("host-{n:03}.{}.test", "label".repeat(8))).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let refused = client.new_order(&names).await.expect_problem(400, "malformed");
    assert!(refused.json()["detail"].as_str().unwrap().contains("100"), "{}", refused.text());
    let names = &names[..100];
    let order = ready_order(&server, &client, names, "dns-01").await.json();
    let chain = finalize(&client, &order, names).await;
    assert_eq!(verified_names(&server, &chain), names);
}

async fn a_persistent_record_gives_a_second_certificate_without_touching_dns(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let order = ready_order(&server, &client, &["persist.test"], "dns-persist-01").await.json();
    finalize(&client, &order, &["persist.test"]).await;

    let order = client.new_order(&["persist.test"]).await.expect(201).json();
    let url = order["authorizations"][0].as_str().unwrap();
    let authorization = client.post_as_get(url).await.json();
    let challenge = challenge(&authorization, "dns-persist-01");
    assert_eq!(challenge["issuer-domain-names"], json!(["ca.test"]));
    assert_eq!(challenge["issuerDomainNames"], json!(["ca.test"]));
    assert_eq!(challenge["accounturi"], json!(client.kid));
    assert!(challenge.get("token").is_none());
    client.post(challenge["url"].as_str().unwrap(), &json!({})).await.expect(200);
    assert_eq!(settled(&client, url).await["status"], "valid");
    finalize(&client, &order, &["persist.test"]).await;
}

async fn every_kind_of_account_key_gets_a_certificate(database: Database) {
    let server = database.server().await;
    for key in [Key::p256(), Key::p384(), Key::rsa(), Key::ed25519()] {
        let mut client = server.client(key);
        client.register().await;
        let order = ready_order(&server, &client, &["keys.test"], "dns-01").await.json();
        finalize(&client, &order, &["keys.test"]).await;
    }
}

pub(crate) async fn a_failed_validation_explains_itself_and_makes_the_order_invalid(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    server.name_here("fails.test");
    let created = client.new_order(&["fails.test"]).await.expect(201);
    let url = created.json()["authorizations"][0].as_str().unwrap().to_owned();
    let authorization = client.post_as_get(&url).await.json();
    let http_01 = challenge(&authorization, "http-01");
    server.answer_http_01(http_01["token"].as_str().unwrap(), "something else");
    client.post(http_01["url"].as_str().unwrap(), &json!({})).await.expect(200);
    let authorization = settled(&client, &url).await;
    assert_eq!(authorization["status"], "invalid");
    let failed = challenge(&authorization, "http-01");
    assert_eq!(failed["error"]["type"], "urn:ietf:params:acme:error:incorrectResponse");
    assert!(failed["error"].get("status").is_none(), "it is no answer: {failed}");
    let detail = failed["error"]["detail"].as_str().unwrap();
    assert!(detail.contains("127.0.0.1") && detail.contains("something else"), "{detail}");
    let order = client.post_as_get(created.header("location")).await.json();
    assert_eq!(order["status"], "invalid");
    assert_eq!(order["error"]["type"], "urn:ietf:params:acme:error:incorrectResponse");
    let report = "SELECT CAST(length(report) AS TEXT) AS text FROM challenges WHERE report IS NOT NULL";
    assert!(Beside::of(&server.place).text(report).parse::<u32>().unwrap() > 100, "what was seen is kept");
}

pub(crate) async fn a_revoked_certificate_is_on_the_crl(database: Database) {
    let settings = "[ca]\nhttp_listen_addr = \"127.0.0.1:0\"\ncrl_url = \"http://ca.test/ca/crl\"\n";
    let server = database.server_with(settings).await;
    let client = server.registered().await;
    let order = ready_order(&server, &client, &["revoke.test"], "http-01").await.json();
    let chain = finalize(&client, &order, &["revoke.test"]).await;
    let (_, leaf) = pem_der(&chain);
    let url = client.url("/acme/revoke-cert");
    let payload = json!({ "certificate": base64url(&leaf) });

    client
        .post(&url, &json!({ "certificate": base64url(&leaf), "reason": 7 }))
        .await
        .expect_problem(400, "badRevocationReason");
    server.registered().await.post(&url, &payload).await.expect_problem(403, "unauthorized");
    let revoked = client.post(&url, &payload).await.expect(200);
    assert!(revoked.body.is_empty());
    let reason = "SELECT CAST(revocation_reason AS TEXT) AS text FROM certificates";
    assert_eq!(Beside::of(&server.place).text(reason), "0", "unspecified, where none is given");
    // Revocations within 200 ms share one new list.
    for _ in 0..20 {
        assert!(!openssl_crl(&client.get("/ca/crl").await.expect(200).body).contains("Serial Number"));
    }
    client.post(&url, &payload).await.expect_problem(400, "alreadyRevoked");

    // Both listeners serve the list; the new one is made off the request path.
    let address = server.running.authority_addr.unwrap();
    let plain = reqwest::get(format!("http://{address}/ca/crl")).await.unwrap();
    assert_eq!(plain.headers()["content-type"], "application/pkix-crl");
    loop {
        let crl = client.get("/ca/crl").await.expect(200).body;
        if openssl_crl(&crl).contains("Serial Number") {
            break;
        }
        server.clock.advance(std::time::Duration::from_secs(1));
    }
}

pub(crate) fn openssl_crl(der: &[u8]) -> String {
    use std::io::Write as _;
    let mut child = std::process::Command::new("openssl")
        .args(["crl", "-inform", "DER", "-noout", "-text"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("openssl must be installed");
    child.stdin.take().unwrap().write_all(der).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// The first block of a PEM text.
pub(crate) fn pem_der(text: &str) -> (String, Vec<u8>) {
    use base64ct::{Base64, Encoding as _};
    let mut lines = text.lines();
    let label = lines.next().unwrap().to_owned();
    let body: String = lines.take_while(|it| !it.starts_with("-----")).collect();
    (label, Base64::decode_vec(&body).unwrap())
}

pub(crate) async fn validations_beyond_the_limit_take_their_turn(database: Database) {
    let server = database.server_with("[server]\nmax_concurrent_validations = 1\n").await;
    let client = server.registered().await;
    let names = ["one.test", "two.test", "three.test", "four.test"];
    names.iter().for_each(|name| server.name_here(name));
    let order = client.new_order(&names).await.expect(201).json();
    let urls: Vec<_> = order["authorizations"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let mut answers = Vec::new();
    for url in &urls {
        let authorization = client.post_as_get(url).await.expect(200).json();
        let http_01 = challenge(&authorization, "http-01");
        let begun = client.post(http_01["url"].as_str().unwrap(), &json!({})).await.expect(200).json();
        assert_eq!(begun["status"], "processing");
        answers.push((authorization, http_01));
    }
    // The first probe has waited until now, and the others for their turn.
    for (authorization, http_01) in &answers {
        provision(&server, &client, authorization, http_01);
    }
    for url in &urls {
        assert_eq!(settled(&client, url).await["status"], "valid");
    }
    finalize(&client, &order, &names).await;
}
