//! What each operation of an issuance costs this process, on each database: SQLite's file lies in memory where the system
//! has a directory for that, and PostgreSQL is the one that `AKAMU_TEST_POSTGRES_URL` names. As many run at once as a busy
//! server has clients, so that commits are shared as they are there.

#[path = "../../../benches/cpu_time.rs"]
mod cpu_time;
#[expect(clippy::unwrap_used, reason = "the tests' own")]
#[path = "../tests/it/postgres_database.rs"]
mod postgres_database;
#[expect(dead_code, clippy::unwrap_used, reason = "the tests' own, of which this needs a part")]
#[path = "../tests/it/scene.rs"]
mod scene;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use akamu_proto::ChallengeType;
use akamu_store::{Authorization, Certificate, Order, Store, StoreOptions};
use criterion::BenchmarkGroup;
use futures_util::future::join_all;
use rustix::time::ClockId;
use tokio::runtime::Runtime;

use crate::cpu_time::CpuTime;
use crate::database::NOW;
use crate::postgres_database::PostgresDatabase;
use crate::scene::{VALID, account, begin, finalize, issued, lease, new_certificate, new_issuance, new_order, order};
use crate::scene::{ready_order, started};

/// What the scene begins at.
mod database {
    pub(crate) const NOW: akamu_proto::Timestamp = akamu_proto::Timestamp::from_unix_secs(1_790_000_000);
}

const CLOCK: CpuTime = CpuTime(ClockId::ProcessCPUTime);

/// As many operations as run at once.
const AT_ONCE: u64 = 32;

const NAME: &str = "www.example.com";

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let mut criterion = CLOCK.criterion();
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    let options = StoreOptions::parse("sqlite://akamu.db", directory.path()).expect("a URL");
    let store = runtime.block_on(Store::open(options, NOW)).expect("a database");
    operations(&mut criterion.benchmark_group("sqlite"), &runtime, &store);
    runtime.block_on(store.close());
    if let Some(database) = PostgresDatabase::new() {
        let options = StoreOptions::parse(&database.url(), Path::new("/")).expect("a URL");
        let store = runtime.block_on(Store::open(options, NOW)).expect("a database");
        operations(&mut criterion.benchmark_group("postgres"), &runtime, &store);
        runtime.block_on(store.close());
    }
    criterion.final_summary();
}

type Group<'a> = BenchmarkGroup<'a, CpuTime>;

/// Measures an operation; `prepare` makes what one run of it needs, and is not counted.
fn measure<I>(
    group: &mut Group<'_>,
    runtime: &Runtime,
    name: &str,
    prepare: impl AsyncFn() -> I,
    operation: impl AsyncFn(I),
) {
    group.bench_function(name, |it| {
        it.iter_custom(|mut left| {
            let mut spent = Duration::ZERO;
            while left > 0 {
                let count = left.min(AT_ONCE);
                let prepared = runtime.block_on(join_all((0..count).map(|_| prepare())));
                let start = CLOCK.now();
                runtime.block_on(join_all(prepared.into_iter().map(|it| operation(it))));
                spent += CLOCK.now().saturating_sub(start);
                left -= count;
            }
            spent
        });
    });
}

fn operations(group: &mut Group<'_>, runtime: &Runtime, store: &Store) {
    group.bench_function("issue nonce", |it| it.iter(|| black_box(store.nonce_issue(NOW))));
    let nonce = store.nonce_issue(NOW);
    group.bench_function("check nonce", |it| it.iter(|| store.nonce_check(black_box(nonce.as_str()), NOW).is_ok()));
    let fresh = async || store.nonce_check(store.nonce_issue(NOW).as_str(), NOW).expect("ours");
    let owner = runtime.block_on(account(store));
    measure(group, runtime, "account", fresh, async |nonce| {
        store.account_and::<()>(owner, (), Some(nonce), NOW).await.expect("the database");
    });
    measure(
        group,
        runtime,
        "create order",
        async || new_order(owner, &[NAME]),
        async |new| {
            store.order_create(new, NOW).await.expect("the database");
        },
    );
    let pending = async || {
        let order = order(store, owner, &[NAME]).await;
        *order.authorizations.first().expect("one name")
    };
    let authorization = runtime.block_on(pending());
    let waiting = async || {
        let read = store.authorization(owner, pending().await, NOW).await.expect("the database");
        read.expect("it is there")
    };
    measure(group, runtime, "account and authorization", fresh, async |nonce| {
        store.account_and::<Authorization>(owner, authorization, Some(nonce), NOW).await.expect("the database");
    });
    measure(group, runtime, "begin validation", waiting, async |read| {
        let begun = store.validation_begin(&read, &ChallengeType::HTTP_01, "a.b", Some(lease()), NOW).await;
        begun.expect("the database");
    });
    let running = async || begin(store, owner, pending().await).await;
    measure(group, runtime, "record validation", running, async |lease| {
        store.validation_record(lease, VALID, &[b'r'; 1_000], NOW).await.expect("the database");
    });
    let ready = async || ready_order(store, owner, &[NAME]).await;
    let order = runtime.block_on(ready());
    measure(group, runtime, "account and order", fresh, async |nonce| {
        store.account_and::<Order>(owner, order.id, Some(nonce), NOW).await.expect("the database");
    });
    measure(group, runtime, "begin issuance", ready, async |order| {
        store.issuance_begin(owner, order.id, new_issuance(1), lease(), NOW).await.expect("the database");
    });
    let signed = async || {
        let lease = started(finalize(store, &ready().await, new_issuance(1)).await);
        let certificate = new_certificate(store, &lease).await;
        (lease, certificate)
    };
    measure(group, runtime, "record issuance", signed, async |(lease, certificate)| {
        store.issuance_record(lease, certificate, NOW).await.expect("the database");
    });
    let (_, certificate) = runtime.block_on(issued(store, owner, NAME));
    measure(group, runtime, "account and certificate", fresh, async |nonce| {
        store.account_and::<Certificate>(owner, certificate, Some(nonce), NOW).await.expect("the database");
    });
}
