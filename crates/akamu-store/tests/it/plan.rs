//! No statement of the store reads a whole table on SQLite, however many rows there are.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use akamu_proto::{Identifier, RevocationReason};
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::database::{Database, NOW, Place, Raw};
use crate::scene::{self, DAY, LEASE, NO_LIMITS, account, begin, enqueue, issued, key, lease};

/// What every connection of this process has run since the test began.
static STATEMENTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What may be read as a whole: the rows of an insert, tables of a few rows, and the indexes of what is processing.
const MAY_SCAN: &[&str] = &["VALUES CLAUSE", "crls", "nonce_keys", "orders_processing", "challenges_processing"];

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

fn keep() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            let text = query.to_string();
            let sql = text.split(" -- binds:").next().unwrap_or_default().trim();
            // The tests' own statements, and the migrations, do not quote names.
            if sql.contains('`') && !sql.contains("__diesel") && !sql.contains("akamu_migration_lock") {
                STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner).insert(sql.to_owned());
            }
        }
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_reads_a_whole_table() {
    set_default_instrumentation(keep).unwrap();
    let database = Database::new(Place::sqlite()).await;
    let store = &database.store;
    let owner = account(store).await;
    let (serial, id) = issued(store, owner, "a.example").await;
    store.certificate(owner, id).await.unwrap();
    store.certificate_by_serial(&serial).await.unwrap();
    store.certificate_revoke(&serial, RevocationReason::Unspecified, NOW).await.unwrap();
    store.revoked_certificates(NOW).await.unwrap();
    let order = scene::order(store, owner, &["b.example", "c.example"]).await;
    let _running = begin(store, owner, order.authorizations[0]).await;
    enqueue(store, owner, order.authorizations[1]).await;
    let _claimed = store.validations_claim(lease(), NO_LIMITS, NOW.plus(LEASE * 2)).await.unwrap();
    let _none = store.issuances_claim(lease(), 10, NOW).await.unwrap();
    store.authorizations_processing(&order.authorizations).await.unwrap();
    store.authorization_deactivate(owner, order.authorizations[0], NOW).await.unwrap();
    store.identifiers_authorized(owner, &[Identifier::dns("a.example").unwrap()], NOW).await.unwrap();
    store.leases_void().await.unwrap();
    let known = store.account(owner).await.unwrap().unwrap();
    let (jwk, new_key) = key("plan");
    store.account_change_key(owner, &known.thumbprint, &jwk, &new_key, NOW).await.unwrap();
    store.account_thumbprints(owner).await.unwrap();
    store.account_deactivate(owner, NOW.plus(DAY)).await.unwrap();

    let statements = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(statements.len() > 40, "only {} statements were seen", statements.len());
    let Raw::Sqlite(mut raw) = database.raw() else { unreachable!() };
    for sql in statements {
        let plan: Vec<Step> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(&mut raw).unwrap();
        for step in plan {
            let reads_all = step.detail.starts_with("SCAN ") && !MAY_SCAN.iter().any(|it| step.detail.contains(it));
            assert!(!reads_all, "{}\n{sql}", step.detail);
        }
    }
}
