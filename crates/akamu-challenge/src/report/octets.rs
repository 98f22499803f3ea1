//! A report as octets of JSON, at most 16 KiB of them, as a store keeps it.

use super::{Entry, ValidationReport};

/// The most that [`ValidationReport::to_octets`] returns.
pub const MAX_REPORT_OCTETS: usize = 16 * 1024;

/// Room for the punctuation between entries and for the count of those left out.
const SPARE: usize = 64;

impl ValidationReport {
    /// The report as JSON, at most [`MAX_REPORT_OCTETS`].
    ///
    /// Where the transcript is too long, its start and its end stay: how the attempt began, and what decided it.
    pub fn to_octets(&self) -> Vec<u8> {
        let whole = to_json(self);
        if whole.len() <= MAX_REPORT_OCTETS {
            return whole;
        }
        let mut shorter = Self { transcript: Vec::new(), omitted: usize::MAX, ..self.clone() };
        let room = MAX_REPORT_OCTETS.saturating_sub(to_json(&shorter).len() + SPARE);
        let (head, tail) = keep(&self.transcript, room);
        shorter.omitted = self.omitted + self.transcript.len() - head.len() - tail.len();
        shorter.transcript = head.iter().chain(tail).cloned().collect();
        to_json(&shorter)
    }
}

/// The longest head within a third of `room`, and the longest tail within the rest.
fn keep(entries: &[Entry], room: usize) -> (&[Entry], &[Entry]) {
    let lengths: Vec<usize> = entries.iter().map(|it| to_json(it).len() + 1).collect();
    let (head, used) = fitting(lengths.iter(), room / 3);
    let (tail, _) = fitting(lengths.iter().skip(head).rev(), room - used);
    let (head, rest) = entries.split_at(head);
    (head, rest.split_at(rest.len() - tail).1)
}

/// How many of these lengths fit into `room`, and what they add up to.
fn fitting<'a>(lengths: impl Iterator<Item = &'a usize>, room: usize) -> (usize, usize) {
    let mut used = 0;
    let mut count = 0;
    for length in lengths {
        if used + length > room {
            break;
        }
        used += length;
        count += 1;
    }
    (count, used)
}

fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and lists with string keys always serialise")
}
