//! An issuing CA from elsewhere (ca.key_file, ca.cert_file) that may not certify every name (RFC 5280 §4.2.1.10).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints};
use serde_json::json;

use crate::client::Client;
use crate::database::{Beside, Database, Watch, on_both_databases};
use crate::issuance::{csr, finalize, ready_order, verified_names};

on_both_databases! {
    names_that_the_issuer_may_not_certify_are_refused_when_they_are_ordered,
    an_order_that_is_older_than_the_issuer_is_refused_when_it_is_finalized,
}

/// The settings of a CA that may not certify what is under secret.test and hidden.test.
fn constrained(directory: &Path) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Corp");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let excluded_subtrees = ["secret.test", "hidden.test"].map(|it| GeneralSubtree::DnsName(it.to_owned())).to_vec();
    params.name_constraints = Some(NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees });
    let (key_file, cert_file) = (directory.join("corp.key"), directory.join("corp.pem"));
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&cert_file, params.self_signed(&key).unwrap().pem()).unwrap();
    format!("[ca]\nkey_file = {key_file:?}\ncert_file = {cert_file:?}\n")
}

async fn names_that_the_issuer_may_not_certify_are_refused_when_they_are_ordered(database: Database) {
    let directory = tempfile::tempdir().unwrap();
    let server = database.server_with(&constrained(directory.path())).await;
    let client = server.registered().await;
    let mut watch = Watch::over(&server);
    let refused = client.new_order(&["open.test", "a.secret.test", "*.hidden.test", "hidden.test"]).await;
    let problem = refused.expect_problem(400, "rejectedIdentifier").json();
    watch.assert_unwritten("a refused order");
    let subproblems: Vec<_> = problem["subproblems"].as_array().unwrap().iter().collect();
    for (subproblem, name) in subproblems.iter().zip(["a.secret.test", "*.hidden.test", "hidden.test"]) {
        assert_eq!(subproblem["type"], "urn:ietf:params:acme:error:rejectedIdentifier");
        assert_eq!(subproblem["identifier"], json!({ "type": "dns", "value": name }));
        let excluded = name.split_once('.').unwrap().1;
        let excluded = if name == "hidden.test" { name } else { excluded };
        assert!(subproblem["detail"].as_str().unwrap().contains(&format!("excludes {excluded}")), "{subproblem}");
    }
    assert_eq!(subproblems.len(), 3, "{problem}");

    let order = ready_order(&server, &client, &["open.test"], "http-01").await.json();
    assert_eq!(verified_names(&server, &finalize(&client, &order, &["open.test"]).await), ["open.test"]);
}

async fn an_order_that_is_older_than_the_issuer_is_refused_when_it_is_finalized(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let done = ready_order(&server, &client, &["done.secret.test"], "http-01").await.json();
    let done_csr = json!({ "csr": csr(&["done.secret.test"]) });
    let certificate = client.post(done["finalize"].as_str().unwrap(), &done_csr).await.expect(200).json();
    let download = certificate["certificate"].as_str().unwrap();
    let sent = client.post_as_get(download).await.expect(200).body;
    let order = ready_order(&server, &client, &["old.secret.test"], "http-01").await;
    let (url, order) = (order.header("location").to_owned(), order.json());
    let place = server.shut_down().await;
    // The database becomes another issuer's: what `akamu-server adopt` does, by the way that a start has for it.
    Beside::of(&place).execute("DELETE FROM identity");
    std::fs::remove_file(place.data_dir().join("root.pem")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let server = place.settings(&constrained(directory.path())).start().await;
    let client = Client { http: server.http.clone(), ..client };
    let refused = client.post(order["finalize"].as_str().unwrap(), &json!({ "csr": csr(&["old.secret.test"]) })).await;
    let problem = refused.expect_problem(400, "rejectedIdentifier").json();
    assert_eq!(problem["subproblems"][0]["identifier"]["value"], "old.secret.test");
    assert_eq!(client.post_as_get(&url).await.expect(200).json()["status"], "ready");
    // What has been issued stays issued.
    let again = client.post(done["finalize"].as_str().unwrap(), &done_csr).await.expect(200).json();
    assert_eq!(again, certificate);
    assert!(client.post_as_get(download).await.expect(200).body == sent, "with the issuers that signed it");
}
