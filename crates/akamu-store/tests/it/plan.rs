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

/// What may be read as a whole: the rows of an insert, tables of a few rows, and the indexes of what is processing.
const MAY_SCAN: &[&str] =
    &["VALUES CLAUSE", "crls", "nonce_keys", "duties", "orders_processing", "challenges_processing"];

/// Those of the database that quotes names so.
fn seen(quote: char) -> Vec<String> {
    let statements = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
    statements.iter().filter(|sql| sql.contains(quote)).cloned().collect()
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
            // The tests' own statements, and the migrations, do not quote names.
            if sql.contains(['`', '"']) && !sql.contains("__diesel") && !sql.contains("akamu_migration_turn") {
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

    let statements = seen('`');
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

    let statements = seen('"');
    assert!(statements.len() > 40, "only {} statements were seen", statements.len());
    let each_time = prepared_each_time(&statements);
    assert!(each_time.is_empty(), "{each_time:#?}");
    let of_housekeeping = statements.iter().filter(|sql| is_of_housekeeping(sql)).count();
    assert_eq!(of_housekeeping, 9);
    let Raw::Postgres(mut raw) = database.raw() else { unreachable!() };
    // Without these a small table is read as a whole and sorted, and a plan is made for the values given.
    for setting in ["enable_seqscan = off", "enable_bitmapscan = off", "plan_cache_mode = force_generic_plan"] {
        raw.batch_execute(&format!("SET {setting}")).unwrap();
    }
    for sql in statements {
        diesel::sql_query(format!("PREPARE planned AS {sql}")).execute(&mut raw).unwrap();
        let parameters = (1..).take_while(|it| sql.contains(&format!("${it}"))).map(|_| "NULL").collect::<Vec<_>>();
        let execute = format!("EXPLAIN EXECUTE planned ({})", parameters.join(", "));
        let plan: Vec<Line> = diesel::sql_query(execute.replace(" ()", "")).load(&mut raw).unwrap();
        diesel::sql_query("DEALLOCATE planned").execute(&mut raw).unwrap();
        let plan: Vec<_> = plan.iter().map(|it| it.text.as_str()).collect();
        let count = |what: &str| plan.iter().filter(|it| it.contains(what)).count();
        let scans = |it: &&&str| it.contains("Seq Scan") && !MAY_SCAN.iter().any(|table| it.contains(table));
        assert!(plan.iter().filter(scans).count() == 0, "{plan:#?}\n{sql}");
        if is_of_housekeeping(&sql) {
            // An index that no condition bounds is read as a whole.
            let reads = count("Index Scan") + count("Index Only Scan");
            assert!(count("Seq Scan") == 0 && count("Index Cond") == reads, "{plan:#?}\n{sql}");
            // The order in which a step reads is that of an index by expiry.
            assert!(!sql.contains("LIMIT") || count("_by_expiry on ") == 1, "{plan:#?}\n{sql}");
        }
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
