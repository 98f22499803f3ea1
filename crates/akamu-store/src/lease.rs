//! The right to finish a piece of work, for a while: whoever holds the lease records the result.

use std::time::Duration;

/// Names a server process, so that an operator sees in a row who works on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplicaId([u8; 16]);

impl ReplicaId {
    /// An id from octets drawn at the process's start.
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self(octets)
    }
}

/// What a lease is asked with.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// Who is to do the work.
    pub owner: ReplicaId,
    /// How long the lease lasts.
    pub duration: Duration,
}

/// Names a lease: 16 random octets, drawn before the first try of the operation that takes it, so that a try whose
/// answer was lost recognises its own row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseToken([u8; 16]);

impl LeaseToken {
    pub(crate) fn as_octets(&self) -> &[u8] {
        &self.0
    }
}

/// A request with its token.
#[derive(Clone, Debug)]
pub(crate) struct LeaseTerms {
    pub(crate) token: LeaseToken,
    owner: ReplicaId,
    duration: Duration,
}

impl LeaseTerms {
    pub(crate) fn draw(request: LeaseRequest, random: fn(&mut [u8])) -> Self {
        let mut token = [0; 16];
        random(&mut token);
        Self { token: LeaseToken(token), owner: request.owner, duration: request.duration }
    }

    pub(crate) fn owner(&self) -> &[u8] {
        &self.owner.0
    }

    /// How long the lease lasts, in microseconds.
    pub(crate) fn micros(&self) -> i64 {
        // A quarter of the range leaves room to add it to any time of ours.
        i64::try_from(self.duration.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 4)
    }
}

/// A piece of work and the right to finish it. It cannot be cloned: one result for one lease.
#[derive(Debug)]
#[must_use = "a lease that is dropped blocks its work until it expires"]
pub struct Lease<T> {
    token: LeaseToken,
    subject: T,
}

impl<T> Lease<T> {
    pub(crate) const fn new(token: LeaseToken, subject: T) -> Self {
        Self { token, subject }
    }

    /// The work.
    pub const fn subject(&self) -> &T {
        &self.subject
    }

    pub(crate) const fn token(&self) -> LeaseToken {
        self.token
    }
}
