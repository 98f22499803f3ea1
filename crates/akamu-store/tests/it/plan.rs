//! No statement of the store reads a whole table, however many rows there are, and none of a request is prepared for each
//! run.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use akamu_proto::{Identifier, RevocationReason};
use akamu_store::{Authorization, Certificate, CheckedNonce, Expired, Order, Store};
use diesel::connection::{Instrumentation, InstrumentationEvent, SimpleConnection as _, set_default_instrumentation};
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::database::{Database, NOW, Place, Raw};
use crate::scene::{self, DAY, LEASE, NO_LIMITS, VALID, account, begin, enqueue, issued, key, lease, record};

/// What every connection of this process has run since the test began.
static STATEMENTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Of these, what a connection keeps prepared.
static PREPARED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What a connection to PostgreSQL began with, its settings.
static SESSION: Mutex<Option<String>> = Mutex::new(None);

/// What may be read as a whole: the rows of an insert, tables of a few rows, and the indexes of what is processing.
const MAY_SCAN: &[&str] =
    &["VALUES CLAUSE", "crls", "nonce_keys", "duties", "orders_processing", "challenges_processing"];

/// Those of one database.
fn seen(on_postgres: bool) -> Vec<String> {
    let statements = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
    statements.iter().filter(|sql| is_for_postgres(sql) == on_postgres).cloned().collect()
}

/// By how it quotes names, or marks places for values.
fn is_for_postgres(sql: &str) -> bool {
    sql.contains('"') || sql.contains("$1")
}

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

fn keep() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::CacheQuery { sql, .. } = event {
            PREPARED.lock().unwrap_or_else(PoisonError::into_inner).insert(sql.trim().to_owned());
        }
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            let text = query.to_string();
            let sql = text.split(" -- binds:").next().unwrap_or_default().trim();
            // The tests' own statements, and the migrations, neither quote names nor have places for values.
            if sql.contains("enable_seqscan") {
                *SESSION.lock().unwrap_or_else(PoisonError::into_inner) = Some(sql.to_owned());
            }
            let is_of_store = is_for_postgres(sql) || sql.contains('`');
            if is_of_store && !sql.contains("__diesel") && !sql.contains("akamu_migration_turn") {
                STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner).insert(sql.to_owned());
            }
        }
    }))
}

/// Removes an order, its authorization and its certificate.
async fn housekeeping(store: &Store) {
    let owner = account(store).await;
    let running = begin(store, owner, scene::order(store, owner, &["h.example"]).await.authorizations[0]).await;
    record(store, running, VALID).await;
    issued(store, owner, "i.example").await;
    for kind in [Expired::Orders, Expired::Authorizations, Expired::Certificates] {
        store.housekeeping_step(kind, NOW.plus(DAY), None, lease(), NOW).await.unwrap();
    }
}

fn nonce(store: &Store) -> CheckedNonce {
    store.nonce_check(store.nonce_issue(NOW).as_str(), NOW).unwrap()
}

/// Every statement of the store, at least once.
async fn everything(store: &Store) {
    let owner = account(store).await;
    let (serial, id) = issued(store, owner, "a.example").await;
    store.certificate(owner, id).await.unwrap();
    store.account_and::<Certificate>(owner, id, Some(nonce(store)), NOW).await.unwrap();
    store.certificate_by_serial(&serial).await.unwrap();
    store.certificate_revoke(&serial, RevocationReason::Unspecified, NOW).await.unwrap();
    store.revocations(NOW).await.unwrap();
    store.crl_check(0).await.unwrap();
    store.crl_next_update().await.unwrap();
    let order = scene::order(store, owner, &["b.example", "c.example"]).await;
    store.account_and::<()>(owner, (), Some(nonce(store)), NOW).await.unwrap();
    store.account_and::<Order>(owner, order.id, Some(nonce(store)), NOW).await.unwrap();
    store.account_and::<Authorization>(owner, order.authorizations[0], Some(nonce(store)), NOW).await.unwrap();
    store.nonce_redeem(nonce(store), NOW).await.unwrap();
    let _running = begin(store, owner, order.authorizations[0]).await;
    enqueue(store, owner, order.authorizations[1]).await;
    let _claimed = store.validations_claim(lease(), NO_LIMITS, NOW.plus(LEASE * 2)).await.unwrap();
    let _none = store.issuances_claim(lease(), 10, NOW).await.unwrap();
    store.authorizations_processing(&order.authorizations).await.unwrap();
    store.authorization_deactivate(owner, order.authorizations[0], NOW).await.unwrap();
    store.identifiers_authorized(owner, &[Identifier::dns("a.example").unwrap()], NOW).await.unwrap();
    store.leases_void().await.unwrap();
    housekeeping(store).await;
    let known = store.account(owner).await.unwrap().unwrap();
    let (jwk, new_key) = key("plan");
    store.account_change_key(owner, &known.thumbprint, &jwk, &new_key, NOW).await.unwrap();
    store.account_thumbprints(owner).await.unwrap();
    store.account_deactivate(owner, NOW.plus(DAY)).await.unwrap();
}

/// Those of these statements that a connection prepares for each run.
fn prepared_each_time(statements: &[String]) -> Vec<&String> {
    let prepared = PREPARED.lock().unwrap_or_else(PoisonError::into_inner);
    statements.iter().filter(|it| !prepared.contains(*it)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_reads_a_whole_table() {
    set_default_instrumentation(keep).unwrap();
    let database = Database::new(Place::sqlite()).await;
    everything(&database.store).await;

    let statements = seen(false);
    assert!(statements.len() > 40, "only {} statements were seen", statements.len());
    // A list of ids is as many places as it is long.
    let each_time = prepared_each_time(&statements);
    assert!(each_time.iter().all(|it| it.contains(" IN (")), "{each_time:#?}");
    let Raw::Sqlite(mut raw) = database.raw() else { unreachable!() };
    for sql in statements {
        let plan: Vec<Step> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(&mut raw).unwrap();
        for step in plan {
            let reads_all = step.detail.starts_with("SCAN ") && !MAY_SCAN.iter().any(|it| step.detail.contains(it));
            assert!(!reads_all, "{}\n{sql}", step.detail);
        }
    }
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    text: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_reads_a_whole_table_on_postgres() {
    let Some(place) = Place::postgres() else { return };
    set_default_instrumentation(keep).unwrap();
    let database = Database::new(place).await;
    everything(&database.store).await;

    let statements = seen(true);
    assert!(statements.len() > 40, "only {} statements were seen", statements.len());
    let each_time = prepared_each_time(&statements);
    assert!(each_time.is_empty(), "{each_time:#?}");
    let of_housekeeping = statements.iter().filter(|sql| is_of_housekeeping(sql)).count();
    assert_eq!(of_housekeeping, 9);
    let Raw::Postgres(mut raw) = database.raw() else { unreachable!() };
    let session = SESSION.lock().unwrap_or_else(PoisonError::into_inner).clone();
    raw.batch_execute(&session.expect("a session of the store says how it plans")).unwrap();
    for sql in statements {
        diesel::sql_query(format!("PREPARE planned AS {sql}")).execute(&mut raw).unwrap();
        let parameters = (1..).take_while(|it| sql.contains(&format!("${it}"))).map(|_| "NULL").collect::<Vec<_>>();
        let execute = format!("EXPLAIN EXECUTE planned ({})", parameters.join(", "));
        let plan: Vec<Line> = diesel::sql_query(execute.replace(" ()", "")).load(&mut raw).unwrap();
        diesel::sql_query("DEALLOCATE planned").execute(&mut raw).unwrap();
        let plan: Vec<_> = plan.iter().map(|it| it.text.as_str()).collect();
        let count = |what: &str| plan.iter().filter(|it| it.contains(what)).count();
        // An index that no condition bounds is read as a whole.
        let reads_all = |lines: &&[&str]| {
            let is_bounded = lines.get(1).is_some_and(|it| it.contains("Index Cond"));
            let is_index = lines[0].contains("Index Scan") || lines[0].contains("Index Only Scan");
            lines[0].contains("Seq Scan") || is_index && !is_bounded
        };
        let is_large = |lines: &&[&str]| is_of_housekeeping(&sql) || !MAY_SCAN.iter().any(|it| lines[0].contains(it));
        let steps: Vec<&[&str]> = (0..plan.len()).map(|it| &plan[it..]).collect();
        assert!(!steps.iter().any(|it| reads_all(it) && is_large(it)), "{plan:#?}\n{sql}");
        // The order in which a step reads is that of an index by expiry.
        let is_in_steps = is_of_housekeeping(&sql) && sql.contains("LIMIT");
        assert!(!is_in_steps || count("_by_expiry on ") == 1, "{plan:#?}\n{sql}");
    }
}

/// Removes something, or reads what is by when it expired.
fn is_of_housekeeping(sql: &str) -> bool {
    let sql = &sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let tables = ["orders", "order_authorizations", "authorizations", "challenges", "certificates"];
    let removes = tables.iter().any(|it| sql.starts_with(&format!("DELETE FROM \"{it}\"")));
    let reads = sql.starts_with("SELECT") && (sql.contains("\"expires_at\" <=") || sql.contains("\"not_after\" <="));
    removes || reads
}

/// PostgreSQL knows nothing of new tables, and plans for what it makes of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_new_table_is_read_as_a_whole_on_postgres() {
    /// What is counted of a session is there once it has ended.
    async fn scans(raw: &mut Raw) -> i64 {
        const OTHERS: &str = "SELECT count(*) AS number FROM pg_stat_activity \
                              WHERE datname = current_database() AND pid <> pg_backend_pid()";
        while raw.number(OTHERS) > 0 {
            tokio::task::yield_now().await;
        }
        raw.number(
            "SELECT sum(seq_scan)::bigint AS number FROM pg_stat_user_tables \
             WHERE relname IN ('accounts', 'orders', 'order_authorizations', 'authorizations', 'challenges', \
                               'certificates', 'redeemed_nonces', 'account_thumbprints')",
        )
    }
    let Some(place) = Place::postgres() else { return };
    drop(place.open().await.unwrap());
    let mut raw = place.raw();
    let before = scans(&mut raw).await;
    let store = place.open().await.unwrap();
    everything(&store).await;
    drop(store);
    assert_eq!(scans(&mut raw).await - before, 0);
}
