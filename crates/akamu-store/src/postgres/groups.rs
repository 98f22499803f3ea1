//! Changes that wait together are committed together, and share what a commit costs.
//!
//! A group is a way to be quick and no more: where anything of it fails, it is undone, and each of its operations is run
//! alone, again as a whole. (docs/src/decisions/changes-share-a-commit.md)

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, SimpleConnection as _};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Cluster, Session, SessionNumber, Sessions, is_read_only};
use crate::connection::{AnyConnection, DbResult, on};
use crate::error::StoreError;
use crate::observer::Observer;
use crate::outage::Waiting;
use crate::threads::unavailable;

/// The most operations in one transaction: the first of them waits for the last.
const GROUP: usize = 16;
/// So many make a group worth its BEGIN and COMMIT.
const CROWD: usize = 4;
/// How many connections are at it where no more than a few wait: each commits what comes alone.
const WRITERS: usize = 3;
/// How long an operation waits for the group before it to end, before another connection begins with those that wait.
const PATIENCE: Duration = Duration::from_millis(20);
/// A group waits for nobody's lock for long: the others of it would wait too.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '250ms'";
/// To COMMIT a transaction that has failed is to roll it back, and no error; to SELECT is one.
const COMMITTING: &str = "SELECT; COMMIT";
/// The name under which the observer hears of groups' commits.
const COMMIT: &str = "commit";

/// Operations that wait, and how many are at them. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Groups(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Box<dyn Change>>,
    writers: usize,
    /// Whether the last group was a [`CROWD`]: then one writer is enough, and the more wait for it the better.
    is_crowded: bool,
}

/// Who commits group after group until none waits.
struct Writer {
    groups: Groups,
    has_ended: bool,
}

impl Writer {
    /// The next ones; none where none waits, and it has ended.
    fn next(&mut self) -> Vec<Box<dyn Change>> {
        loop {
            let group = self.groups.take();
            let mut queue = self.groups.queue();
            self.has_ended = group.is_empty() && queue.waiting.is_empty();
            if self.has_ended {
                queue.writers -= 1;
            }
            if self.has_ended || !group.is_empty() {
                return group;
            }
        }
    }
}

impl Drop for Writer {
    /// Also where an operation panicked, or there is no thread any more.
    fn drop(&mut self) {
        if !self.has_ended {
            self.groups.queue().writers -= 1;
        }
    }
}

/// An operation on its way through a group.
trait Change: Send {
    /// Whether nobody has begun with it, nor given it up; from now on somebody has.
    fn take(&mut self) -> bool;
    /// Runs it inside the group's transaction, and keeps what came of it.
    fn run(&mut self, connection: &mut AnyConnection, session: SessionNumber) -> DbResult<()>;
    /// Tells its caller what was committed of it.
    fn committed(self: Box<Self>);
    /// Has its caller run it alone.
    fn give_back(self: Box<Self>);
    /// Runs it alone, and tells its caller what came of it.
    fn alone(self: Box<Self>, sessions: &Sessions);
}

/// What a caller is told.
enum Told<T, F> {
    Ended(Result<T, StoreError>),
    RunAlone(F),
}

struct Task<T, F> {
    name: &'static str,
    operation: F,
    observer: Observer,
    outcome: Option<T>,
    is_taken: Arc<AtomicBool>,
    /// A place in the queue, until it is taken, and among those that wait for a connection.
    place: Option<(OwnedSemaphorePermit, Waiting)>,
    reply: oneshot::Sender<Told<T, F>>,
}

impl<T, F> Change for Task<T, F>
where
    T: Send,
    F: FnMut(&mut AnyConnection, SessionNumber) -> DbResult<T> + Send,
{
    fn take(&mut self) -> bool {
        self.place = None;
        !self.is_taken.swap(true, Ordering::Relaxed)
    }

    fn run(&mut self, connection: &mut AnyConnection, session: SessionNumber) -> DbResult<()> {
        let Self { name, operation, observer, .. } = self;
        self.outcome = Some(observer.timed(name, || operation(connection, session))?);
        Ok(())
    }

    fn committed(self: Box<Self>) {
        let ended = self.outcome.ok_or(StoreError::Closed);
        // A caller that has gone away wants no answer.
        let _ = self.reply.send(Told::Ended(ended));
    }

    fn give_back(self: Box<Self>) {
        let _ = self.reply.send(Told::RunAlone(self.operation));
    }

    fn alone(self: Box<Self>, sessions: &Sessions) {
        let until = std::time::Instant::now() + sessions.wait;
        let ended = sessions.run(self.name, &self.observer, None, until, self.operation);
        let _ = self.reply.send(Told::Ended(ended));
    }
}

impl Groups {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an operation wait; who is to see to it, where there are not enough.
    fn push(&self, change: Box<dyn Change>) -> Option<Writer> {
        let mut queue = self.queue();
        queue.waiting.push_back(change);
        let enough = if queue.is_crowded { 1 } else { WRITERS };
        (queue.writers < enough).then(|| {
            queue.writers += 1;
            Writer { groups: self.clone(), has_ended: false }
        })
    }

    /// The next ones, as many as there may be in a group.
    fn take(&self) -> Vec<Box<dyn Change>> {
        let mut queue = self.queue();
        let mut group = Vec::new();
        while group.len() < GROUP
            && let Some(mut change) = queue.waiting.pop_front()
        {
            if change.take() {
                group.push(change);
            }
        }
        if !group.is_empty() {
            queue.is_crowded = group.len() >= CROWD;
        }
        group
    }
}

impl Cluster {
    /// Runs an operation that changes something by one statement, together with others that wait.
    pub(super) async fn run_together<T, F>(&self, name: &'static str, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection, SessionNumber) -> DbResult<T> + Send + 'static,
    {
        let until = Instant::now() + self.sessions.wait;
        let waiting = self.sessions.begin_to_wait()?;
        let place = Some((self.threads.permit(until).await?, waiting));
        let (reply, mut answer) = oneshot::channel();
        let (is_taken, observer) = (Arc::<AtomicBool>::default(), self.observer.clone());
        let task = Task { name, operation, observer, outcome: None, is_taken: is_taken.clone(), place, reply };
        if let Some(writer) = self.groups.push(Box::new(task)) {
            let sessions = self.sessions.clone();
            let observer = self.observer.clone();
            self.threads.hand_over(move |()| write(writer, &sessions, &observer))?;
        }
        let mut told = timeout_at(until.min(Instant::now() + PATIENCE), &mut answer).await;
        if told.is_err() && !is_taken.load(Ordering::Relaxed) {
            let (groups, sessions, observer) = (self.groups.clone(), self.sessions.clone(), self.observer.clone());
            self.threads.hand_over(move |()| end(groups.take(), &sessions, &observer))?;
        }
        if told.is_err() {
            told = timeout_at(until, &mut answer).await;
        }
        let told = match told {
            Ok(told) => told,
            Err(elapsed) if !is_taken.swap(true, Ordering::Relaxed) => return Err(unavailable(elapsed)),
            Err(_) => answer.await,
        };
        match told {
            Ok(Told::Ended(ended)) => ended,
            Ok(Told::RunAlone(operation)) => self.run(name, operation).await,
            Err(_) => Err(StoreError::Closed),
        }
    }
}

fn write(mut writer: Writer, sessions: &Sessions, observer: &Observer) {
    loop {
        let group = writer.next();
        if group.is_empty() {
            return;
        }
        end(group, sessions, observer);
    }
}

/// Commits these together, or has each run alone.
fn end(mut group: Vec<Box<dyn Change>>, sessions: &Sessions, observer: &Observer) {
    if group.len() <= 1 {
        return group.into_iter().for_each(|it| it.alone(sessions));
    }
    match commit(&mut group, sessions, observer) {
        Ok(()) => group.into_iter().for_each(Change::committed),
        Err(error) => {
            tracing::debug!(operations = group.len(), %error, "operations failed together, and are run alone");
            group.into_iter().for_each(Change::give_back);
        }
    }
}

fn begin(connection: &mut AnyConnection) -> DbResult<()> {
    on!(connection, |it| AnsiTransactionManager::begin_transaction_sql(it, BEGIN))
}

fn commit(group: &mut [Box<dyn Change>], sessions: &Sessions, observer: &Observer) -> Result<(), StoreError> {
    let until = std::time::Instant::now() + sessions.wait;
    let mut session = sessions.check_out(until, false)?;
    let Session { connection, number, .. } = &mut *session;
    let outcome = begin(connection)
        .and_then(|()| group.iter_mut().try_for_each(|it| it.run(connection, *number)))
        .and_then(|()| observer.timed(COMMIT, || connection.batch_execute(COMMITTING)));
    match &outcome {
        Ok(()) => sessions.outage.succeeded(),
        Err(error) if is_read_only(error) => sessions.leave(&mut session),
        // PostgreSQL rolls back what is open when a session ends.
        Err(_) => session.is_lost = true,
    }
    Ok(outcome?)
}

#[cfg(test)]
mod tests;
