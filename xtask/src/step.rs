//! A named and timed part of a longer run.

use std::time::Instant;

use crate::failure::Failure;

/// Runs one step between a line that names it and one that times it.
pub(crate) fn step(name: &str, body: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    println!("── {name}");
    let started = Instant::now();
    let result = body();
    let seconds = started.elapsed().as_secs_f64();
    match result {
        Ok(()) => {
            println!("── {name}: passed in {seconds:.1} s");
            Ok(())
        }
        Err(failure) => {
            println!("── {name}: failed after {seconds:.1} s");
            Err(Failure::new(format!("{name}: {failure}")))
        }
    }
}
