//! What may happen next: drawn at random, and simplified by proptest where a history fails.

use proptest::prelude::*;

/// One of two replicas. On SQLite both are the one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replica {
    A,
    B,
}

/// Which of the things that are there by now: 0 is the newest, and too large a number the oldest, so that it stays the
/// same one while proptest removes those between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick(usize);

impl Pick {
    /// An index into `len` things; `None` where there are none.
    pub(super) fn of(self, len: usize) -> Option<usize> {
        len.checked_sub(1).map(|last| last - self.0.min(last))
    }
}

/// What a validator found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Valid,
    /// Valid, but its record's persistUntil is an hour away.
    ValidForAnHour,
    Invalid,
}

/// A step of a history.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    NewAccount { key: usize },
    ChangeKey { account: Pick, key: usize, is_from_current: bool },
    DeactivateAccount { account: Pick },
    NewOrder { account: Pick, names: usize, reuses: bool, order_hours: u32, authorization_hours: u32 },
    DeactivateAuthorization { authorization: Pick },
    BeginValidation { replica: Replica, authorization: Pick, challenge: usize, is_queued: bool },
    RecordValidation { lease: Pick, verdict: Verdict },
    ReleaseValidation { lease: Pick },
    ClaimValidations { replica: Replica },
    Finalize { replica: Replica, order: Pick, csr: u8 },
    RecordCertificate { lease: Pick },
    FailIssuance { lease: Pick },
    ClaimIssuances { replica: Replica },
    Revoke { order: Pick },
    Crash { replica: Replica },
    TimePasses { hours: u32 },
}

/// The steps of a history: an account and its order, and what then happens. Frequent is what brings orders far.
pub(super) fn history() -> impl Strategy<Value = Vec<Operation>> {
    let begin = (Just(Operation::NewAccount { key: 0 }), new_order());
    (begin, proptest::collection::vec(operation(), 1..80))
        .prop_map(|((account, order), rest)| [account, order].into_iter().chain(rest).collect())
}

fn pick() -> impl Strategy<Value = Pick> {
    (0..4_usize).prop_map(Pick)
}

fn new_order() -> impl Strategy<Value = Operation> {
    // The simplest lives longest.
    let hours = || (0..6_u32).prop_map(|it| 6 - it);
    let names = prop_oneof![Just(1_usize), 1..8_usize];
    (pick(), names, any::<bool>(), hours(), hours()).prop_map(
        |(account, names, reuses, order_hours, authorization_hours)| Operation::NewOrder {
            account,
            names,
            reuses,
            order_hours,
            authorization_hours,
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let replica = || prop_oneof![Just(Replica::A), Just(Replica::B)];
    let verdict = prop_oneof![
        6 => Just(Verdict::Valid),
        1 => Just(Verdict::ValidForAnHour),
        1 => Just(Verdict::Invalid),
    ];
    prop_oneof![
        2 => (0..3_usize).prop_map(|key| O::NewAccount { key }),
        1 => (pick(), 0..3_usize, prop::bool::weighted(0.8))
            .prop_map(|(account, key, is_from_current)| O::ChangeKey { account, key, is_from_current }),
        1 => pick().prop_map(|account| O::DeactivateAccount { account }),
        4 => new_order(),
        1 => pick().prop_map(|authorization| O::DeactivateAuthorization { authorization }),
        10 => (replica(), pick(), 0..3_usize, prop::bool::weighted(0.2)).prop_map(
            |(replica, authorization, challenge, is_queued)| {
                O::BeginValidation { replica, authorization, challenge, is_queued }
            }
        ),
        8 => (pick(), verdict).prop_map(|(lease, verdict)| O::RecordValidation { lease, verdict }),
        1 => pick().prop_map(|lease| O::ReleaseValidation { lease }),
        4 => replica().prop_map(|replica| O::ClaimValidations { replica }),
        6 => (replica(), pick(), 0..2_u8).prop_map(|(replica, order, csr)| O::Finalize { replica, order, csr }),
        3 => pick().prop_map(|lease| O::RecordCertificate { lease }),
        1 => pick().prop_map(|lease| O::FailIssuance { lease }),
        4 => replica().prop_map(|replica| O::ClaimIssuances { replica }),
        1 => pick().prop_map(|order| O::Revoke { order }),
        2 => replica().prop_map(|replica| O::Crash { replica }),
        3 => prop_oneof![4 => Just(1), 1 => Just(2)].prop_map(|hours| O::TimePasses { hours }),
    ]
}
