//! The state machine of orders, authorizations and challenges as a property: random histories of clients, validators,
//! replicas, expiries and crashes on the real store. Every state is read back after each step, and what stays wrong once
//! it is (reports, thumbprints, refused certificates) at the end.
//!
//! A history that does not hold is shrunk, and told in words. `AKAMU_MODEL_CASES` says how many histories are run;
//! `PROPTEST_RNG_SEED` repeats a run.

mod history;
mod invariants;
mod operation;
mod rules;
mod servers;

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::time::Instant;

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use crate::database::Place;
use history::History;
use operation::Operation;
use servers::Servers;

/// Runs histories on a database, `cases` of them where the environment does not say.
fn explore(name: &str, place: Place, cases: u32) {
    let cases = std::env::var("AKAMU_MODEL_CASES").map_or(cases, |it| it.parse().unwrap());
    let mut config = Config { cases, failure_persistence: None, max_shrink_iters: 5_000, ..Config::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(RandomState::new().hash_one(0));
    }
    let seed = config.rng_seed;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let servers = RefCell::new(runtime.block_on(Servers::new(place)));
    let (histories, steps, has_failed) = (Cell::new(0), Cell::new(0), Cell::new(false));
    let started = Instant::now();
    let outcome = TestRunner::new(config).run(&operation::history(), |operations| {
        let ran = runtime.block_on(History::run(&mut servers.borrow_mut(), &operations));
        // What runs after the first failure makes it smaller.
        if !has_failed.replace(has_failed.get() || ran.is_err()) {
            histories.set(histories.get() + 1);
            steps.set(steps.get() + ran.as_ref().copied().unwrap_or(0));
        }
        ran.map(drop).map_err(TestCaseError::fail)
    });
    let (histories, steps, seconds) = (histories.get(), steps.get(), started.elapsed().as_secs());
    // Not by println!, whose output the test harness keeps to itself.
    let _ = writeln!(
        std::io::stderr(),
        "model on {name}: {histories} histories, {steps} steps, {seconds} s, PROPTEST_RNG_SEED={seed}"
    );
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(story, operations)) => {
            let run = |operations: &[Operation]| runtime.block_on(History::run(&mut servers.borrow_mut(), operations));
            let story = shorter(operations, run).unwrap_or_else(|| story.to_string());
            panic!("{story}\nPROPTEST_RNG_SEED={seed}")
        }
        Err(error @ TestError::Abort(_)) => panic!("{error}"),
    }
}

/// Leaves out, one by one, what proptest's shrinking left though the history fails without it; tells the last story.
fn shorter(mut operations: Vec<Operation>, run: impl Fn(&[Operation]) -> Result<usize, String>) -> Option<String> {
    let mut story = None;
    let mut index = 0;
    while index < operations.len() {
        let left_out = operations.remove(index);
        match run(&operations) {
            // What stood before it may be of no use any more.
            Err(found) => (story, index) = (Some(found), 0),
            Ok(_) => {
                operations.insert(index, left_out);
                index += 1;
            }
        }
    }
    story
}

#[test]
fn no_history_breaks_the_state_machine_sqlite() {
    explore("SQLite", Place::sqlite_in_memory(), 200);
}

#[test]
fn no_history_breaks_the_state_machine_postgres() {
    if let Some(place) = Place::postgres() {
        explore("PostgreSQL", place, 40);
    }
}
