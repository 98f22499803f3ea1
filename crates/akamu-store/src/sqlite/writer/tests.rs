//! Groups whose operations fail in each way, and what their callers are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;

use crossbeam_channel::TrySendError;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use tokio::task::JoinHandle;

use super::*;

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// A writer on a new file with a table `numbers`, and a second connection.
struct Bench {
    _directory: tempfile::TempDir,
    writer: Arc<Writer>,
    beside: SqliteConnection,
}

type Answer = JoinHandle<Result<(), StoreError>>;

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("akamu.db");
        let mut connection = establish(&path).unwrap();
        connection
            .batch_execute(
                "CREATE TABLE numbers (number BIGINT PRIMARY KEY, filler BLOB);
                 CREATE TRIGGER poison BEFORE INSERT ON numbers WHEN new.number = 666
                     BEGIN SELECT RAISE(ROLLBACK, 'the disk is on fire'); END;",
            )
            .unwrap();
        let mut beside = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        // The writer's last act is a checkpoint, which locks the others out.
        beside.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
        let (writer, _) = Writer::start(connection, path, Observer::default()).unwrap();
        Self { _directory: directory, writer: Arc::new(writer), beside }
    }

    fn numbers(&mut self) -> Vec<i64> {
        let rows: Vec<Number> = sql_query("SELECT number FROM numbers ORDER BY number").load(&mut self.beside).unwrap();
        rows.into_iter().map(|it| it.number).collect()
    }

    /// Queues an operation behind those that are queued already.
    async fn queue(&self, operation: impl FnMut(&mut AnyConnection) -> DbResult<()> + Send + 'static) -> Answer {
        let writer = self.writer.clone();
        let answer = tokio::spawn(async move { writer.run("test", operation, |_| {}).await });
        // On one thread the task runs as far as the queue before this one goes on.
        tokio::task::yield_now().await;
        answer
    }

    /// Queues an operation that runs until it is released, so that what is queued meanwhile joins its group. Run again, it
    /// waits for nobody.
    async fn gate(&self) -> (blocking::Sender<()>, Answer) {
        let (release, released) = blocking::channel::<()>();
        let (enter, entered) = blocking::channel();
        let mut is_first = true;
        let gate = self
            .queue(move |_| {
                if std::mem::take(&mut is_first) {
                    let _ = enter.send(());
                    let _ = released.recv();
                }
                Ok(())
            })
            .await;
        entered.recv().unwrap();
        (release, gate)
    }

    async fn insert(&self, number: i64) -> Answer {
        self.queue(move |connection| insert(connection, number)).await
    }
}

fn insert(connection: &mut AnyConnection, number: i64) -> DbResult<()> {
    connection.batch_execute(&format!("INSERT INTO numbers (number) VALUES ({number})"))
}

/// Runs 1, `odd` and 3 as one group; `odd` is to insert 2.
async fn around(
    bench: &mut Bench,
    odd: impl FnMut(&mut AnyConnection) -> DbResult<()> + Send + 'static,
) -> (Result<(), StoreError>, usize) {
    let runs = Arc::new(AtomicUsize::new(0));
    let (release, gate) = bench.gate().await;
    let first = bench
        .queue({
            let runs = runs.clone();
            move |connection| {
                runs.fetch_add(1, Ordering::Relaxed);
                insert(connection, 1)
            }
        })
        .await;
    let odd = bench.queue(odd).await;
    let last = bench.insert(3).await;
    release.send(()).unwrap();
    gate.await.unwrap().unwrap();
    first.await.unwrap().unwrap();
    let odd = odd.await.unwrap();
    last.await.unwrap().unwrap();
    assert_eq!(bench.numbers(), if odd.is_ok() { vec![1, 2, 3] } else { vec![1, 3] });
    // The writer goes on.
    bench.insert(4).await.await.unwrap().unwrap();
    (odd, runs.load(Ordering::Relaxed))
}

#[tokio::test]
async fn no_caller_is_answered_before_the_commit() {
    let mut bench = Bench::new();
    let (release, gate) = bench.gate().await;
    let first = bench.insert(1).await;
    let (enter, entered) = blocking::channel();
    let (release_last, released_last) = blocking::channel::<()>();
    let last = bench
        .queue(move |connection| {
            insert(connection, 2)?;
            let _ = enter.send(());
            let _ = released_last.recv();
            Ok(())
        })
        .await;
    release.send(()).unwrap();
    entered.recv().unwrap();
    tokio::task::yield_now().await;
    assert!(!gate.is_finished() && !first.is_finished(), "the group they share is not committed");
    assert!(bench.numbers().is_empty());
    release_last.send(()).unwrap();
    gate.await.unwrap().unwrap();
    first.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    assert_eq!(bench.numbers(), [1, 2]);
}

#[tokio::test]
async fn a_constraint_violation_is_its_operations_own_affair() {
    let mut bench = Bench::new();
    let (odd, runs) = around(&mut bench, |connection| {
        insert(connection, 2)?;
        insert(connection, 1)
    })
    .await;
    assert!(matches!(odd, Err(StoreError::Constraint(_))), "{odd:?}");
    assert_eq!(runs, 2, "once in the group, once alone");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_answered() {
    let mut bench = Bench::new();
    let (odd, runs) = around(&mut bench, |connection| {
        insert(connection, 2)?;
        connection.batch_execute(
            "PRAGMA max_page_count = 1; INSERT INTO numbers (number, filler) VALUES (7, zeroblob(1000000))",
        )
    })
    .await;
    assert!(matches!(odd, Err(StoreError::Unavailable(_))), "{odd:?}");
    assert_eq!(runs, 2, "once in the group, once alone");
}

#[tokio::test]
async fn a_transaction_rolled_back_by_a_trigger_loses_nothing_that_was_answered() {
    let mut bench = Bench::new();
    let (odd, runs) = around(&mut bench, |connection| {
        insert(connection, 2)?;
        insert(connection, 666)
    })
    .await;
    assert!(matches!(odd, Err(StoreError::Failed(_))), "{odd:?}");
    assert_eq!(runs, 2, "once in the group, once alone");
}

#[tokio::test]
async fn an_operation_that_fails_once_succeeds_alone() {
    let mut bench = Bench::new();
    let mut has_failed = false;
    let (odd, runs) = around(&mut bench, move |connection| {
        insert(connection, 2)?;
        if has_failed {
            return Ok(());
        }
        has_failed = true;
        insert(connection, 666)
    })
    .await;
    assert!(odd.is_ok(), "{odd:?}");
    assert_eq!(runs, 2);
}

#[tokio::test]
async fn a_panic_is_its_operations_own_affair() {
    let mut bench = Bench::new();
    let (odd, _) = around(&mut bench, |connection| {
        insert(connection, 2)?;
        panic!("a test's own panic");
    })
    .await;
    assert!(matches!(odd, Err(StoreError::Failed(_))), "{odd:?}");
}

#[tokio::test]
async fn what_comes_before_the_answer_comes_after_the_commit() {
    let mut bench = Bench::new();
    for (number, is_good) in [(1, true), (666, false)] {
        let (enter, entered) = blocking::channel();
        let (release, released) = blocking::channel::<()>();
        let before_the_answer = move |outcome: Option<&()>| {
            let _ = enter.send(outcome.is_some());
            let _ = released.recv();
        };
        let writer = bench.writer.clone();
        let operation = move |connection: &mut AnyConnection| insert(connection, number);
        let answer = tokio::spawn(async move { writer.run("test", operation, before_the_answer).await });
        tokio::task::yield_now().await;
        assert_eq!(entered.recv().unwrap(), is_good);
        assert_eq!(bench.numbers(), [1]);
        // An answer that has been sent is there at the next turn.
        tokio::task::yield_now().await;
        assert!(!answer.is_finished());
        release.send(()).unwrap();
        assert_eq!(answer.await.unwrap().is_ok(), is_good);
    }
}

#[tokio::test]
async fn closing_commits_what_waits() {
    let mut bench = Bench::new();
    let (release, gate) = bench.gate().await;
    let waiting = bench.insert(1).await;
    bench.writer.close();
    let too_late = bench.insert(2).await;
    release.send(()).unwrap();
    for answer in [gate, waiting] {
        answer.await.unwrap().unwrap();
    }
    assert!(matches!(too_late.await.unwrap(), Err(StoreError::Closed)));
    assert_eq!(bench.numbers(), [1]);
}

#[test]
fn a_group_waits_for_as_many_as_there_were_before_and_never_long() {
    let begun = Instant::now();
    let before = |operations, micros| Expected::default().after(operations, Duration::from_micros(micros));
    let waits = |before: Expected, operations| before.wait(operations, begun).map(|until| (until - begun).as_micros());
    assert_eq!(waits(Expected::default(), 1), None, "the first");
    assert_eq!(waits(before(1, 200), 1), None, "one after the other");
    assert_eq!(waits(before(4, 200), 3), Some(100));
    assert_eq!(waits(before(16, 200), 3), Some(400), "more are expected");
    assert_eq!(waits(before(4, 200), 4), None, "as many have come");
    assert_eq!(waits(before(5, 3_000_000), 1), Some(10_000), "the disk stood still");
}

#[test]
fn a_large_group_is_forgotten_step_by_step() {
    let commit = Duration::from_micros(200);
    let mut expected = Expected::default().after(16, commit);
    let mut seen = Vec::new();
    for _ in 0..12 {
        expected = expected.after(1, commit);
        seen.push(expected.operations);
    }
    assert_eq!(seen, [14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1, 1]);
    assert_eq!(expected.after(20, commit).operations, 20);
}

#[test]
fn who_comes_in_time_joins_the_group() {
    // Takes nothing but what somebody waits for.
    let (queue, waiting) = crossbeam_channel::bounded(0);
    assert!(next(&waiting, None).is_none());
    let (reply, _answer) = oneshot::channel();
    let operation = |_: &mut AnyConnection| Ok(());
    let task = Task {
        name: "test",
        operation,
        observer: Observer::default(),
        outcome: None,
        before_the_answer: |_: Option<&()>| {},
        reply,
    };
    let coming = thread::spawn(move || {
        let mut task: Box<dyn Work> = Box::new(task);
        while let Err(TrySendError::Full(it)) = queue.try_send(task) {
            task = it;
            thread::yield_now();
        }
    });
    let in_a_minute = Some(Instant::now() + Duration::from_secs(60));
    assert!(next(&waiting, in_a_minute).is_some());
    coming.join().unwrap();
    assert!(next(&waiting, in_a_minute).is_none(), "nobody can come any more");
}
