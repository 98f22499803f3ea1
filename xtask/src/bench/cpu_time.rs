//! CPU time of a process and of those that it started, as the kernel counts it.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use crate::failure::{Context, Failure};

/// The kernel counts in nanoseconds and shows ticks: 100 a second wherever Linux runs today.
const TICK: Duration = Duration::from_millis(10);

/// What /proc/PID/stat says of a process (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    id: u32,
    parent: u32,
    /// In user and kernel mode, of its own and of the children that it has waited for.
    ticks: u32,
}

/// What a process and every process below it have used, in user and kernel mode.
pub(super) fn used(process: u32) -> Result<Duration, Failure> {
    let all = processes()?;
    if !all.iter().any(|it| it.id == process) {
        return Err(Failure::new(format!("there is no process {process}")));
    }
    Ok(TICK * below(process, &all))
}

fn processes() -> Result<Vec<Stat>, Failure> {
    let reading = || "cannot list the processes".to_owned();
    let entries = fs::read_dir("/proc").context(reading)?;
    // One that ends meanwhile cannot be read.
    Ok(entries.filter_map(|entry| parse(&fs::read_to_string(entry.ok()?.path().join("stat")).ok()?)).collect())
}

fn parse(stat: &str) -> Option<Stat> {
    let (id, rest) = stat.split_once(" (")?;
    // The program's name may hold anything, parentheses too.
    let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u32>().ok();
    let ticks = (11..15).map(number).sum::<Option<u32>>()?;
    Some(Stat { id: id.parse().ok()?, parent: number(1)?, ticks })
}

fn below(process: u32, all: &[Stat]) -> u32 {
    let parents: HashMap<u32, u32> = all.iter().map(|it| (it.id, it.parent)).collect();
    let is_below = |mut id: u32| {
        // A list that is read while processes come and go may lead in a circle.
        for _ in 0..all.len() {
            match parents.get(&id) {
                _ if id == process => return true,
                Some(parent) => id = *parent,
                None => return false,
            }
        }
        false
    };
    all.iter().filter(|it| is_below(it.id)).map(|it| it.ticks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 300 20 4 1 20 0 1 0 9 10 11 12";
        assert_eq!(parse(line), Some(Stat { id: 42, parent: 7, ticks: 325 }));
        assert_eq!(parse("42 (a) S 7"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn what_was_started_counts_and_what_stands_beside_does_not() {
        let stat = |id, parent, ticks| Stat { id, parent, ticks };
        let all = [stat(1, 0, 1), stat(5, 1, 10), stat(6, 5, 100), stat(7, 6, 1_000), stat(8, 1, 10_000)];
        assert_eq!(below(5, &all), 1_110);
        assert_eq!(below(8, &all), 10_000);
        let circle = [stat(2, 3, 1), stat(3, 2, 1), stat(5, 1, 10)];
        assert_eq!(below(5, &circle), 10);
    }

    #[test]
    fn this_process_is_counted_and_one_that_is_not_there_is_named() {
        assert!(used(std::process::id()).is_ok());
        assert_eq!(used(u32::MAX).unwrap_err().to_string(), "there is no process 4294967295");
    }
}
