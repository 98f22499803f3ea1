//! Validations: one at a time, recorded once, lost never.

use std::time::Duration;

use akamu_proto::{AuthorizationStatus, ChallengeStatus, ChallengeType, ErrorType, OrderStatus};
use akamu_store::{
    Authorization, ClaimLimits, MAX_REPORT_OCTETS, RunningCounts, StoredReport, ValidationBegun, ValidationOutcome,
    ValidationRecorded,
};

use crate::database::{NOW, on_both_databases, until_blocked};
use crate::scene::{
    self, DAY, LEASE, NO_LIMITS, PROOF, VALID, account, begin, begin_as, enqueue, key, lease, new_account, record,
    reread,
};

fn status_of(authorization: &Authorization, challenge_type: &ChallengeType) -> ChallengeStatus {
    authorization.challenges.iter().find(|it| it.challenge_type == *challenge_type).unwrap().status
}

/// On PostgreSQL: keeps every transaction that has changed a challenge from ending, until the lock is given up.
const HOLD_UPDATES: &str = "BEGIN; CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END';
    CREATE TRIGGER wait AFTER UPDATE ON challenges FOR EACH ROW EXECUTE FUNCTION wait(); COMMIT;
    SELECT pg_advisory_lock(1)";

on_both_databases! {
    async fn a_passed_validation_makes_the_order_ready(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example", "b.example"]).await;
        let first = begin(store, owner, order.authorizations[0]).await;
        let subject = first.subject();
        assert_eq!(
            (subject.authorization.account, subject.authorization.id, subject.attempt),
            (owner, order.authorizations[0], 1)
        );
        assert_eq!((&subject.challenge_type, subject.proof.as_str()), (&ChallengeType::HTTP_01, "token.thumbprint"));
        assert!(subject.token.is_some() && subject.thumbprints.is_empty());
        let while_running = scene::found::<Authorization>(store, owner, order.authorizations[0], NOW).await.unwrap();
        assert_eq!(while_running.status, AuthorizationStatus::Pending);
        assert_eq!(status_of(&while_running, &ChallengeType::HTTP_01), ChallengeStatus::Processing);

        let ValidationRecorded::Recorded(authorization) = record(store, first, VALID).await else { panic!() };
        assert_eq!(scene::found::<Authorization>(store, owner, authorization.id, NOW).await, Some(authorization.clone()));
        assert_eq!(authorization.status, AuthorizationStatus::Valid);
        assert_eq!(authorization.challenges[0].validated_at, Some(NOW));
        assert_eq!(reread(store, &order).await.status, OrderStatus::Pending);

        let second = begin(store, owner, order.authorizations[1]).await;
        assert!(matches!(record(store, second, VALID).await, ValidationRecorded::Recorded(_)));
        assert_eq!(reread(store, &order).await.status, OrderStatus::Ready);
    }

    async fn a_failed_validation_makes_the_order_invalid(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example", "b.example"]).await;
        let lease = begin(store, owner, order.authorizations[1]).await;
        let problem = scene::problem("192.0.2.1: connection refused");
        let recorded = record(store, lease, ValidationOutcome::Invalid(problem.clone())).await;
        let ValidationRecorded::Recorded(authorization) = recorded else { panic!() };
        assert_eq!(authorization.status, AuthorizationStatus::Invalid);
        assert_eq!(authorization.challenges[0].status, ChallengeStatus::Invalid);
        assert_eq!(authorization.challenges[0].error, Some(problem.clone()));
        assert_eq!(scene::found::<Authorization>(store, owner, authorization.id, NOW).await, Some(authorization));
        let order = reread(store, &order).await;
        assert_eq!((order.status, order.error), (OrderStatus::Invalid, Some(problem)));
    }

    async fn one_challenge_of_an_authorization_at_a_time(database) {
        let store = &database.store;
        let owner = account(store).await;
        let id = scene::order(store, owner, &["a.example"]).await.authorizations[0];
        let held = begin(store, owner, id).await;
        for challenge_type in [ChallengeType::HTTP_01, ChallengeType::DNS_01] {
            let ValidationBegun::Unchanged(found) =
                begin_as(store, owner, id, &challenge_type, Some(lease()), NOW).await else { panic!() };
            assert_eq!(status_of(&found, &ChallengeType::HTTP_01), ChallengeStatus::Processing);
            assert_eq!(status_of(&found, &ChallengeType::DNS_01), ChallengeStatus::Pending);
        }
        record(store, held, VALID).await;
        let ValidationBegun::Unchanged(found) =
            begin_as(store, owner, id, &ChallengeType::DNS_01, Some(lease()), NOW).await else { panic!() };
        assert_eq!(found.status, AuthorizationStatus::Valid);
    }

    async fn of_two_challenges_answered_at_once_one_is_validated(database) {
        let store = &database.store;
        let owner = account(store).await;
        let id = scene::order(store, owner, &["a.example"]).await.authorizations[0];
        // Both have read the authorization with neither challenge processing, and on PostgreSQL both begin before either may
        // end.
        let read = scene::found::<Authorization>(store, owner, id, NOW).await.unwrap();
        let mut raw = database.raw();
        if !store.is_sqlite() {
            raw.execute(HOLD_UPDATES).unwrap();
        }
        let tasks: Vec<_> = [ChallengeType::HTTP_01, ChallengeType::DNS_01]
            .into_iter()
            .map(|challenge_type| {
                let (store, read) = (store.clone(), read.clone());
                tokio::spawn(async move {
                    store.validation_begin(&read, &challenge_type, PROOF, Some(lease()), NOW).await.unwrap()
                })
            })
            .collect();
        if !store.is_sqlite() {
            until_blocked(&mut database.raw(), 2).await;
            raw.execute("SELECT pg_advisory_unlock(1)").unwrap();
        }
        let (mut started, mut unchanged) = (0, 0);
        for task in tasks {
            match task.await.unwrap() {
                ValidationBegun::Started(_) => started += 1,
                ValidationBegun::Unchanged(found) => {
                    unchanged += 1;
                    let processing = found.challenges.iter().filter(|it| it.status == ChallengeStatus::Processing);
                    assert_eq!(processing.count(), 1);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((started, unchanged), (1, 1));
    }

    async fn what_was_not_offered_is_not_found(database) {
        let store = &database.store;
        let owner = account(store).await;
        let id = scene::order(store, owner, &["a.example"]).await.authorizations[0];
        for (account, challenge_type, now) in [
            (owner, ChallengeType::TLS_ALPN_01, NOW),
            (account(store).await, ChallengeType::HTTP_01, NOW),
            (owner, ChallengeType::HTTP_01, NOW.plus(DAY)),
        ] {
            let begun = begin_as(store, account, id, &challenge_type, Some(lease()), now).await;
            assert!(matches!(begun, ValidationBegun::NotFound), "{begun:?}");
        }
    }

    async fn a_challenge_without_token_carries_every_thumbprint(database) {
        let store = &database.store;
        let new = new_account("a");
        store.account_create(new.clone(), NOW).await.unwrap();
        let (jwk, b) = key("b");
        store.account_change_key(new.id, &new.thumbprint, &jwk, &b, NOW).await.unwrap();
        let id = scene::order(store, new.id, &["a.example"]).await.authorizations[0];
        let begun = begin_as(store, new.id, id, &ChallengeType::DNS_PERSIST_01, Some(lease()), NOW).await;
        let ValidationBegun::Started(lease) = begun else { panic!() };
        assert_eq!(lease.subject().thumbprints, [b, new.thumbprint]);
    }

    async fn an_authorization_does_not_outlive_its_record(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example", "b.example"]).await;
        let hour = NOW.plus(Duration::from_secs(3600));
        for (id, limit, expect) in [
            (order.authorizations[0], hour, hour),
            (order.authorizations[1], NOW.plus(DAY * 2), NOW.plus(DAY)),
        ] {
            let lease = begin(store, owner, id).await;
            let outcome = ValidationOutcome::Valid { expires_no_later_than: Some(limit) };
            let ValidationRecorded::Recorded(authorization) = record(store, lease, outcome).await else { panic!() };
            assert_eq!(authorization.expires_at, expect);
            assert_eq!(scene::found::<Authorization>(store, owner, id, NOW).await.unwrap().expires_at, expect);
        }
    }

    async fn a_result_that_comes_too_late_is_not_wanted(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example", "b.example"]).await;
        let given_up = begin(store, owner, order.authorizations[0]).await;
        store.authorization_deactivate(owner, order.authorizations[0], NOW).await.unwrap();
        assert_eq!(record(store, given_up, VALID).await, ValidationRecorded::NoLongerWanted);
        let expired = begin(store, owner, order.authorizations[1]).await;
        let recorded = store.validation_record(expired, VALID, b"late", NOW.plus(DAY)).await.unwrap();
        assert_eq!(recorded, ValidationRecorded::NoLongerWanted);
        for (id, report) in order.authorizations.iter().zip([&b"report"[..], b"late"]) {
            let kept = store.validation_report(*id, &ChallengeType::HTTP_01).await.unwrap();
            assert_eq!(kept.unwrap().octets, report);
        }
        let (other, later) = database.another_replica(LEASE * 2).await;
        assert!(other.validations_claim(lease(), NO_LIMITS, later).await.unwrap().is_empty());
    }

    async fn an_expired_lease_is_claimed_by_another_replica(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example"]).await;
        let lost = begin(store, owner, order.authorizations[0]).await;
        assert!(store.validations_claim(lease(), NO_LIMITS, NOW).await.unwrap().is_empty(), "it is held");
        let (other, later) = database.another_replica(LEASE * 2).await;
        let mut claimed = other.validations_claim(lease(), NO_LIMITS, later).await.unwrap();
        assert_eq!(claimed.len(), 1);
        let claimed = claimed.remove(0);
        let (first, second) = (lost.subject().clone(), claimed.subject().clone());
        assert_eq!(second.authorization.challenges[0].attempt, 2);
        let authorization = second.authorization.clone();
        assert_eq!(second, akamu_store::Validation { attempt: 2, authorization, ..first });
        assert!(other.validations_claim(lease(), NO_LIMITS, later).await.unwrap().is_empty(), "it is held again");

        let failed = ValidationOutcome::Invalid(scene::problem("too slow"));
        assert_eq!(record(store, lost, failed).await, ValidationRecorded::LeaseLost);
        assert_eq!(reread(store, &order).await.status, OrderStatus::Pending);
        let recorded = other.validation_record(claimed, VALID, b"", later).await.unwrap();
        assert!(matches!(recorded, ValidationRecorded::Recorded(_)), "{recorded:?}");
        assert_eq!(reread(store, &order).await.status, OrderStatus::Ready);
    }

    async fn a_lease_that_expired_unclaimed_still_records(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example"]).await;
        let slow = begin(store, owner, order.authorizations[0]).await;
        let (other, later) = database.another_replica(LEASE * 2).await;
        let recorded = other.validation_record(slow, VALID, b"", later).await.unwrap();
        assert!(matches!(recorded, ValidationRecorded::Recorded(_)), "{recorded:?}");
    }

    async fn a_lease_given_back_is_not_counted(database) {
        let store = &database.store;
        let owner = account(store).await;
        let id = scene::order(store, owner, &["a.example"]).await.authorizations[0];
        let mut held = begin(store, owner, id).await;
        for _ in 0..5 {
            assert_eq!(held.subject().attempt, 1);
            store.validation_release(held).await.unwrap();
            held = store.validations_claim(lease(), NO_LIMITS, NOW).await.unwrap().remove(0);
        }
        record(store, held, VALID).await;
    }

    async fn three_unfinished_attempts_fail_the_challenge(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example"]).await;
        let _first = begin(store, owner, order.authorizations[0]).await;
        for attempt in [2, 3] {
            let (other, later) = database.another_replica(LEASE * 2 * (u32::try_from(attempt).unwrap() - 1)).await;
            let claimed = other.validations_claim(lease(), NO_LIMITS, later).await.unwrap();
            assert_eq!(claimed[0].subject().attempt, attempt);
            let _dead = claimed;
        }
        let (other, later) = database.another_replica(LEASE * 6).await;
        assert!(other.validations_claim(lease(), NO_LIMITS, later).await.unwrap().is_empty());
        let found = scene::found::<Authorization>(store, owner, order.authorizations[0], NOW).await.unwrap();
        assert_eq!(found.status, AuthorizationStatus::Invalid);
        assert_eq!(found.challenges[0].status, ChallengeStatus::Invalid);
        assert_eq!(found.challenges[0].error.as_ref().unwrap().error_type, ErrorType::ServerInternal);
        assert_eq!(reread(store, &order).await.status, OrderStatus::Invalid);
    }

    async fn claims_go_round_the_accounts(database) {
        let store = &database.store;
        let mut accounts = Vec::new();
        for _ in 0..3 {
            let owner = account(store).await;
            let order = scene::order(store, owner, &["a.example", "b.example", "c.example", "d.example"]).await;
            for id in order.authorizations {
                enqueue(store, owner, id).await;
            }
            accounts.push(owner);
        }
        let claim = async |total, for_account| {
            let limits = ClaimLimits { total, for_account, ..NO_LIMITS };
            let claimed = store.validations_claim(lease(), limits, NOW).await.unwrap();
            claimed.iter().map(|it| it.subject().authorization.account).collect::<Vec<_>>()
        };
        assert_eq!(claim(2, 100).await, accounts[..2]);
        // The next claim goes on where this one ended.
        assert_eq!(claim(2, 100).await, [accounts[2], accounts[0]]);
        assert_eq!(claim(100, 1).await, [accounts[1], accounts[2], accounts[0]]);
        let rest = claim(100, 100).await;
        assert_eq!(rest[..3], [accounts[1], accounts[2], accounts[0]], "one of each before a second of any");
        assert_eq!(rest.len(), 5);
        assert_eq!(claim(100, 100).await, []);
    }

    async fn a_claim_spares_a_base_domain(database) {
        let store = &database.store;
        for _ in 0..3 {
            let owner = account(store).await;
            let order = scene::order(store, owner, &["a.example", "*.a.example"]).await;
            for id in order.authorizations {
                enqueue(store, owner, id).await;
            }
        }
        let claim = async |running| {
            let by_domain = [("a.example".to_owned(), running)].into();
            let limits = ClaimLimits { for_domain: 4, running: RunningCounts { by_domain, ..RunningCounts::default() }, ..NO_LIMITS };
            store.validations_claim(lease(), limits, NOW).await.unwrap().len()
        };
        assert_eq!(claim(4).await, 0);
        assert_eq!(claim(3).await, 1);
        assert_eq!(claim(0).await, 4);
        assert_eq!(claim(0).await, 1);
    }

    async fn a_claim_counts_what_an_account_runs_already(database) {
        let store = &database.store;
        let mut accounts = Vec::new();
        for _ in 0..2 {
            let owner = account(store).await;
            let order = scene::order(store, owner, &["a.example", "b.example", "c.example"]).await;
            for id in order.authorizations {
                enqueue(store, owner, id).await;
            }
            accounts.push(owner);
        }
        let claim = async |total, running| {
            let running = RunningCounts { by_account: [(accounts[0], running)].into(), ..RunningCounts::default() };
            let limits = ClaimLimits { total, for_account: 2, running, ..NO_LIMITS };
            let claimed = store.validations_claim(lease(), limits, NOW).await.unwrap();
            claimed.iter().map(|it| it.subject().authorization.account).collect::<Vec<_>>()
        };
        assert_eq!(claim(1, 2).await, [accounts[1]], "the other has no more to come");
        assert_eq!(claim(100, 1).await, [accounts[0], accounts[1], accounts[1]]);
        assert_eq!(claim(100, 2).await, []);
        assert_eq!(claim(100, 0).await, [accounts[0], accounts[0]]);
    }

    async fn replicas_that_claim_at_once_share_the_work(database) {
        let store = &database.store;
        for _ in 0..10 {
            let owner = account(store).await;
            let id = scene::order(store, owner, &["a.example"]).await.authorizations[0];
            enqueue(store, owner, id).await;
        }
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.validations_claim(lease(), NO_LIMITS, NOW).await.unwrap() })
            })
            .collect();
        let mut claimed = Vec::new();
        for task in tasks {
            claimed.extend(task.await.unwrap().iter().map(|it| it.subject().authorization.id));
        }
        // What one replica was claiming another leaves to it, so some may wait for the next claim.
        claimed.extend(
            store.validations_claim(lease(), NO_LIMITS, NOW).await.unwrap().iter().map(|it| it.subject().authorization.id),
        );
        assert_eq!(claimed.len(), 10, "each is claimed by one");
        claimed.sort();
        claimed.dedup();
        assert_eq!(claimed.len(), 10, "and none is left");
    }

    async fn voided_leases_are_claimed_at_once(database) {
        let store = &database.store;
        let owner = account(store).await;
        let id = scene::order(store, owner, &["a.example"]).await.authorizations[0];
        let before = begin(store, owner, id).await;
        store.leases_void().await.unwrap();
        let claimed = store.validations_claim(lease(), NO_LIMITS, NOW).await.unwrap();
        assert_eq!(claimed[0].subject().attempt, 2);
        assert_eq!(record(store, before, VALID).await, ValidationRecorded::LeaseLost);
    }

    async fn what_expired_in_the_queue_leaves_it(database) {
        let store = &database.store;
        let owner = account(store).await;
        let id = scene::order(store, owner, &["a.example"]).await.authorizations[0];
        enqueue(store, owner, id).await;
        assert!(store.validations_claim(lease(), NO_LIMITS, NOW.plus(DAY)).await.unwrap().is_empty());
        let queue = "SELECT count(*) AS number FROM challenges WHERE status = 'processing'";
        assert_eq!(database.raw().number(queue), 0);
    }

    async fn the_report_of_the_last_attempt_is_kept(database) {
        let store = &database.store;
        let owner = account(store).await;
        let id = scene::order(store, owner, &["a.example"]).await.authorizations[0];
        let report = async || store.validation_report(id, &ChallengeType::HTTP_01).await.unwrap();
        assert_eq!(report().await, None);
        let mut raw = database.raw();
        for number in 0..2_u8 {
            let lease = begin(store, owner, id).await;
            // A result that nobody wants keeps its report.
            raw.execute("UPDATE authorizations SET status = 'deactivated'").unwrap();
            let octets = vec![number; MAX_REPORT_OCTETS + 1];
            let recorded = store.validation_record(lease, VALID, &octets, NOW.plus(LEASE)).await.unwrap();
            assert_eq!(recorded, ValidationRecorded::NoLongerWanted);
            let octets = octets[1..].to_vec();
            assert_eq!(report().await, Some(StoredReport { recorded_at: NOW.plus(LEASE), octets }));
            raw.execute("UPDATE authorizations SET status = 'pending'; UPDATE challenges SET attempt = 0").unwrap();
        }
        let lease = begin(store, owner, id).await;
        record(store, lease, VALID).await;
        assert_eq!(report().await, Some(StoredReport { recorded_at: NOW, octets: b"report".to_vec() }));
        assert_eq!(store.validation_report(id, &ChallengeType::DNS_01).await.unwrap(), None);
    }

    async fn two_results_recorded_at_once_make_the_order_ready(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example", "b.example"]).await;
        let mut leases = Vec::new();
        for id in &order.authorizations {
            leases.push(begin(store, owner, *id).await);
        }
        // On PostgreSQL both transactions are open, with their challenges written, before either may end.
        let mut raw = database.raw();
        if !store.is_sqlite() {
            raw.execute(HOLD_UPDATES).unwrap();
        }
        let tasks: Vec<_> = leases
            .into_iter()
            .map(|lease| {
                let store = store.clone();
                tokio::spawn(async move { record(&store, lease, VALID).await })
            })
            .collect();
        if !store.is_sqlite() {
            until_blocked(&mut database.raw(), 2).await;
            raw.execute("SELECT pg_advisory_unlock(1)").unwrap();
        }
        for task in tasks {
            assert!(matches!(task.await.unwrap(), ValidationRecorded::Recorded(_)));
        }
        assert_eq!(reread(store, &order).await.status, OrderStatus::Ready);
    }
}
