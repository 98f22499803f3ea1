//! Validations of this replica: their places, and what is left of those that do not end well.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::testing::TestClock;
use akamu_challenge::{Clock as _, Deadline, Transcript, Validated, ValidationReport, ValidationRequest, Validator};
use akamu_proto::{ChallengeType, Identifier};
use async_trait::async_trait;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Client;
use crate::database::{Beside, Database, on_both_databases};
use crate::issuance::{challenge, settled};
use crate::polls::hold;
use crate::postgres_database::PostgresDatabase;
use crate::server::{Place, epoch};
use crate::transport::{half, rest};

on_both_databases! {
    a_validator_that_panics_leaves_nothing_behind,
    nothing_is_begun_while_the_server_stops,
    an_account_has_a_quarter_of_the_places,
    a_name_has_sixteen_places,
    a_validation_has_its_deadline_and_an_authorization_ends_with_its_proof,
}

/// dns-01 as the test says: it waits until the test lets it end. `panics.test` panics, `brief.test` is proved for a
/// hundred seconds.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    clock: TestClock,
    begun: Arc<watch::Sender<Vec<String>>>,
    /// Of the last one.
    deadline: Arc<watch::Sender<Option<Instant>>>,
    may_end: Arc<watch::Sender<bool>>,
}

impl Scripted {
    fn new() -> Self {
        Self { clock: TestClock::at(epoch()), begun: Arc::default(), deadline: Arc::default(), may_end: Arc::default() }
    }

    /// The names whose validation has begun, in order.
    fn begun(&self) -> Vec<String> {
        self.begun.borrow().clone()
    }

    async fn has_begun(&self, count: usize) {
        self.begun.subscribe().wait_for(|begun| begun.len() >= count).await.unwrap();
    }

    fn let_end(&self) {
        self.may_end.send_replace(true);
    }
}

#[async_trait]
impl Validator for Scripted {
    fn method(&self) -> ChallengeType {
        ChallengeType::DNS_01
    }

    fn supports(&self, _: &Identifier) -> bool {
        true
    }

    async fn validate(&self, request: &ValidationRequest, deadline: Deadline) -> ValidationReport {
        let name = request.identifier.value();
        self.deadline.send_replace(Some(deadline.instant()));
        self.begun.send_modify(|begun| begun.push(name.clone()));
        self.may_end.subscribe().wait_for(|it| *it).await.unwrap();
        let validated = match name.as_str() {
            "panics.test" => panic!("as the test wants it"),
            "brief.test" => Validated::until(self.clock.now().plus(Duration::from_secs(100))),
            _ => Validated::unlimited(),
        };
        Transcript::begin(self.method(), request, &self.clock).conclude(Ok(validated))
    }
}

/// An order for one name.
struct Ordered {
    authorization: String,
    challenge: String,
}

impl Ordered {
    async fn new(client: &Client, name: &str) -> Self {
        let order = client.new_order(&[name]).await.expect(201);
        let authorization = order.json()["authorizations"][0].as_str().unwrap().to_owned();
        let dns_01 = challenge(&client.post_as_get(&authorization).await.expect(200).json(), "dns-01");
        let challenge = dns_01["url"].as_str().unwrap().to_owned();
        Self { authorization, challenge }
    }

    /// An order whose validation runs or waits for its turn.
    async fn begun(client: &Client, name: &str) -> Self {
        let ordered = Self::new(client, name).await;
        let begun = client.post(&ordered.challenge, &json!({})).await.expect(200).json();
        assert_eq!(begun["status"], "processing");
        ordered
    }
}

async fn a_validator_that_panics_leaves_nothing_behind(database: Database) {
    let scripted = Scripted::new();
    let place = Place::on(&database).settings("[server]\nmax_concurrent_validations = 1\n");
    let server = place.validator(scripted.clone()).start().await;
    let client = Arc::new(server.registered().await);
    let panics = Ordered::begun(&client, "panics.test").await;
    let polls = hold(&client, &panics.authorization).await;
    scripted.let_end();
    for answer in polls.join_all().await {
        assert_eq!(answer.expect(200).json()["status"], "pending");
    }
    // Its place is free.
    let next = Ordered::begun(&client, "next.test").await;
    assert_eq!(settled(&client, &next.authorization).await["status"], "valid");
}

async fn nothing_is_begun_while_the_server_stops(database: Database) {
    let scripted = Scripted::new();
    let place = Place::on(&database).settings("[server]\nmax_concurrent_validations = 8\n");
    let server = place.validator(scripted.clone()).start().await;
    let (client, other) = (server.registered().await, server.registered().await);
    let mut urls = Vec::new();
    for name in ["one.test", "two.test", "waits.test"] {
        urls.push(Ordered::begun(&client, name).await.authorization);
    }
    scripted.has_begun(2).await;
    let in_hand = Ordered::new(&other, "in-hand.test").await;
    let (mut stream, body) = half(&server, &other, &in_hand.challenge, "{}").await;

    let mut stopping = pin!(server.shut_down());
    assert!(futures_util::poll!(&mut stopping).is_pending());
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"processing\""), "{answer}");
    assert!(futures_util::poll!(&mut stopping).is_pending());
    scripted.let_end();
    let place = stopping.await;
    assert_eq!(scripted.begun(), ["one.test", "two.test"]);

    let server = place.start().await;
    let client = Client { http: server.http.clone(), ..client };
    for url in &urls {
        assert_eq!(settled(&client, url).await["status"], "valid");
    }
    let other = Client { http: server.http.clone(), ..other };
    assert_eq!(settled(&other, &in_hand.authorization).await["status"], "valid");
    assert_eq!(scripted.begun().len(), 4);
}

async fn an_account_has_a_quarter_of_the_places(database: Database) {
    let scripted = Scripted::new();
    let place = Place::on(&database).settings("[server]\nmax_concurrent_validations = 8\n");
    let server = place.validator(scripted.clone()).start().await;
    let (mut all, mut expected) = (Vec::new(), Vec::new());
    for account in 0..5 {
        let client = server.registered().await;
        let names = [1, 2, 3].map(|n| format!("name-{n}.account-{account}.test"));
        let mut urls = Vec::new();
        for name in &names {
            urls.push(Ordered::begun(&client, name).await.authorization);
        }
        all.push((client, urls));
        // The fifth finds none left.
        if account < 4 {
            expected.extend_from_slice(&names[..2]);
        }
    }
    scripted.has_begun(8).await;
    assert_eq!(scripted.begun(), expected);
    scripted.let_end();
    for (client, urls) in &all {
        for url in urls {
            assert_eq!(settled(client, url).await["status"], "valid");
        }
    }
}

async fn a_name_has_sixteen_places(database: Database) {
    let scripted = Scripted::new();
    let server = Place::on(&database).validator(scripted.clone()).start().await;
    let client = server.registered().await;
    let mut urls = Vec::new();
    for n in 0..18 {
        // A wildcard is proved at the same place.
        let name = if n % 2 == 0 { "crowd.test" } else { "*.crowd.test" };
        urls.push(Ordered::begun(&client, name).await.authorization);
    }
    let elsewhere = Ordered::begun(&client, "elsewhere.test").await.authorization;
    scripted.has_begun(17).await;
    assert_eq!(scripted.begun().last().map(String::as_str), Some("elsewhere.test"));
    assert_eq!(scripted.begun().len(), 17);
    scripted.let_end();
    urls.push(elsewhere);
    for url in &urls {
        assert_eq!(settled(&client, url).await["status"], "valid");
    }
}

async fn a_validation_has_its_deadline_and_an_authorization_ends_with_its_proof(database: Database) {
    let scripted = Scripted::new();
    let place = Place::on(&database).settings("[server]\nvalidation_timeout_secs = 700\n");
    let server = place.validator(scripted.clone()).start().await;
    let client = server.registered().await;
    scripted.let_end();
    let before = Instant::now();
    let brief = Ordered::begun(&client, "brief.test").await;
    let authorization = settled(&client, &brief.authorization).await;
    let until = scripted.clock.now().plus(Duration::from_secs(100));
    assert_eq!(authorization["expires"], json!(until.to_string()));
    let deadline = scripted.deadline.borrow().unwrap();
    let timeout = Duration::from_secs(700);
    assert!(deadline >= before + timeout && deadline <= Instant::now() + timeout);
}

#[tokio::test]
async fn another_replica_leaves_what_runs_alone() {
    let Some(database) = PostgresDatabase::new().map(Database::Postgres) else { return };
    let scripted = Scripted::new();
    let server = Place::on(&database).validator(scripted.clone()).start().await;
    let client = server.registered().await;
    let ordered = Ordered::begun(&client, "runs.test").await;
    scripted.has_begun(1).await;
    let another = server.place.clone().start().await;
    let leased = "SELECT CAST(count(*) AS TEXT) AS text FROM challenges WHERE lease_expires_at IS NOT NULL";
    assert_eq!(Beside::of(&server.place).text(leased), "1");
    another.shut_down().await;
    scripted.let_end();
    assert_eq!(settled(&client, &ordered.authorization).await["status"], "valid");
    assert_eq!(scripted.begun(), ["runs.test"]);
}
