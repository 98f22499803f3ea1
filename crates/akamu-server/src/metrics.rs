//! What the server counts, for /metrics: the one list of its metrics, and how each part reports to it.
//!
//! Held by the server, not by the process: two servers in one process do not count together.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use akamu_proto::{ChallengeType, ErrorType, Timestamp};
use akamu_store::{Expired, OperationRun};
use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 11] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

/// What a client was waited for too long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// The TLS handshake.
    Handshake,
    /// The first octet of the first request.
    FirstOctet,
    /// A request's header; also the next request of an idle connection.
    Request,
    /// A request's body.
    Body,
}

/// Work that a replica has from another one that did not finish it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Validation,
    Issuance,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    route: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ValidationLabels {
    r#type: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkLabel {
    work: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// The classes of status codes, and one more for none of them.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// A route's counters, looked up by its path without making a label.
struct Route {
    answers: [Counter; CLASSES.len()],
    duration: Histogram,
}

/// What is removed from the database once it is of no more use.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Removed {
    Order,
    Authorization,
    Certificate,
    /// A redeemed one, on PostgreSQL.
    Nonce,
    Crl,
}

impl From<Expired> for Removed {
    fn from(expired: Expired) -> Self {
        match expired {
            Expired::Orders => Self::Order,
            Expired::Authorizations => Self::Authorization,
            Expired::Certificates => Self::Certificate,
        }
    }
}

/// The server's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    routes: RwLock<HashMap<String, Arc<Route>>>,
    requests: Family<AnswerLabels, Counter>,
    request_durations: Family<RouteLabel, Histogram>,
    refusals: Family<TypeLabel, Counter>,
    connections: Gauge,
    timeouts: Family<PhaseLabel, Counter>,
    out_of_room: Counter,
    held_polls: Gauge,
    validations: Family<ValidationLabels, Histogram>,
    certificates: Counter,
    leases: Family<WorkLabel, Counter>,
    operations: Family<OperationLabel, Histogram>,
    statements: Family<OperationLabel, Counter>,
    operation_errors: Family<OperationLabel, Counter>,
    removals: Family<KindLabel, Counter>,
    crl_number: Gauge,
    crl_this_update: Gauge,
    issuer_not_after: Gauge,
}

fn durations() -> Histogram {
    Histogram::new(BUCKETS)
}

fn histograms<L: Clone + std::hash::Hash + Eq>() -> Family<L, Histogram> {
    Family::new_with_constructor(durations)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("akamu"),
            routes: RwLock::default(),
            requests: Family::default(),
            request_durations: histograms(),
            refusals: Family::default(),
            connections: Gauge::default(),
            timeouts: Family::default(),
            out_of_room: Counter::default(),
            held_polls: Gauge::default(),
            validations: histograms(),
            certificates: Counter::default(),
            leases: Family::default(),
            operations: histograms(),
            statements: Family::default(),
            operation_errors: Family::default(),
            removals: Family::default(),
            crl_number: Gauge::default(),
            crl_this_update: Gauge::default(),
            issuer_not_after: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests answered", metrics.requests.clone());
        registry.register("request_duration_seconds", "How long answers took", metrics.request_durations.clone());
        registry.register("refusals", "Requests refused with a problem document", metrics.refusals.clone());
        registry.register("connections", "Connections open now", metrics.connections.clone());
        registry.register(
            "connection_timeouts",
            "Times that a client was waited for too long",
            metrics.timeouts.clone(),
        );
        registry.register(
            "connections_out_of_room",
            "Connections closed to make room for another one",
            metrics.out_of_room.clone(),
        );
        registry.register("held_polls", "Polls held now", metrics.held_polls.clone());
        registry.register("validation_duration_seconds", "How long validations took", metrics.validations.clone());
        registry.register("certificates_issued", "Certificates issued", metrics.certificates.clone());
        registry.register("leases_taken_over", "Work taken over that was not finished", metrics.leases.clone());
        registry.register(
            "store_operation_duration_seconds",
            "How long operations had the database",
            metrics.operations.clone(),
        );
        registry.register("store_statements", "Statements that operations sent", metrics.statements.clone());
        registry.register(
            "store_operation_errors",
            "Operations that the database did not do",
            metrics.operation_errors.clone(),
        );
        registry.register("housekeeping_removed", "What was removed from the database", metrics.removals.clone());
        registry.register("crl_number", "Number of the CRL that is served", metrics.crl_number.clone());
        registry.register("crl_this_update_timestamp_seconds", "When it was made", metrics.crl_this_update.clone());
        registry.register(
            "issuer_not_after_timestamp_seconds",
            "When the issuing certificate expires",
            metrics.issuer_not_after.clone(),
        );
        metrics
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// One of the things that a gauge counts; until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn in_gauge(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// All metrics in Prometheus' text format, version 0.0.4.
    pub(crate) fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A request was answered. `route` is its pattern, never its path, which is the client's choice.
    pub(crate) fn answered(&self, route: Option<&str>, status: StatusCode, duration: Duration) {
        let route = self.route(route.unwrap_or("none"));
        let [informational, success, redirection, client_error, server_error, other] = &route.answers;
        let counter = match status.as_u16() / 100 {
            1 => informational,
            2 => success,
            3 => redirection,
            4 => client_error,
            5 => server_error,
            _ => other,
        };
        counter.inc();
        route.duration.observe(duration.as_secs_f64());
    }

    fn route(&self, path: &str) -> Arc<Route> {
        if let Some(known) = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(path) {
            return known.clone();
        }
        let counter = |status| self.requests.get_or_create_owned(&AnswerLabels { route: path.to_owned(), status });
        let route = Arc::new(Route {
            answers: CLASSES.map(counter),
            duration: self.request_durations.get_or_create_owned(&RouteLabel { route: path.to_owned() }),
        });
        self.routes.write().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), route.clone());
        route
    }

    /// A request was refused.
    pub(crate) fn refused(&self, error_type: ErrorType) {
        self.refusals.get_or_create(&TypeLabel { r#type: error_type.name() }).inc();
    }

    /// A connection was accepted; it counts as long as this lives.
    pub(crate) fn connection(&self) -> Counted {
        Counted::in_gauge(&self.connections)
    }

    /// A client was waited for too long.
    pub(crate) fn timed_out(&self, phase: Phase) {
        let phase = match phase {
            Phase::Handshake => "handshake",
            Phase::FirstOctet => "first_octet",
            Phase::Request => "request",
            Phase::Body => "body",
        };
        self.timeouts.get_or_create(&PhaseLabel { phase }).inc();
    }

    /// A connection was told to make room for another one.
    pub(crate) fn out_of_room(&self) {
        self.out_of_room.inc();
    }

    /// A poll is held as long as this lives.
    pub(crate) fn held_poll(&self) -> Counted {
        Counted::in_gauge(&self.held_polls)
    }

    /// A validation ended: `result` is `valid` or `invalid`.
    pub(crate) fn validated(&self, challenge_type: &ChallengeType, result: &'static str, duration: Duration) {
        let labels = ValidationLabels { r#type: challenge_type.as_str().to_owned(), result };
        self.validations.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// A certificate was issued.
    pub(crate) fn issued(&self) {
        self.certificates.inc();
    }

    /// Work was taken over whose lease had run out.
    pub(crate) fn taken_over(&self, work: Work) {
        let work = match work {
            Work::Validation => "validation",
            Work::Issuance => "issuance",
        };
        self.leases.get_or_create(&WorkLabel { work }).inc();
    }

    /// The store ran an operation.
    pub(crate) fn operation_run(&self, run: OperationRun) {
        let label = OperationLabel { operation: run.name };
        self.operations.get_or_create(&label).observe(run.duration.as_secs_f64());
        self.statements.get_or_create(&label).inc_by(run.statements);
        if !run.is_done {
            self.operation_errors.get_or_create(&label).inc();
        }
    }

    /// So many of a kind were removed.
    pub(crate) fn removed(&self, kind: Removed, count: usize) {
        let kind = match kind {
            Removed::Order => "order",
            Removed::Authorization => "authorization",
            Removed::Certificate => "certificate",
            Removed::Nonce => "nonce",
            Removed::Crl => "crl",
        };
        self.removals.get_or_create(&KindLabel { kind }).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A CRL was made, and is served from now on.
    pub(crate) fn crl_made(&self, number: i64, this_update: Timestamp) {
        self.crl_number.set(number);
        self.crl_this_update.set(this_update.unix_secs());
    }

    /// The issuing certificate is this long valid.
    pub(crate) fn issuer_valid_until(&self, not_after: Timestamp) {
        self.issuer_not_after.set(not_after.unix_secs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SECOND: Duration = Duration::from_secs(1);

    /// Metrics in which each has a sample.
    fn touched() -> Metrics {
        let metrics = Metrics::default();
        metrics.answered(Some("/acme/order/{id}"), StatusCode::OK, SECOND);
        metrics.refused(ErrorType::Malformed);
        metrics.timed_out(Phase::Body);
        metrics.validated(&ChallengeType::HTTP_01, "valid", SECOND);
        metrics.taken_over(Work::Issuance);
        metrics.removed(Removed::Order, 1);
        metrics.operation_run(OperationRun { name: "order", duration: SECOND, statements: 3, is_done: false });
        metrics
    }

    /// Name, kind and labels of each metric.
    type Metric = (String, String, BTreeSet<String>);

    fn exported(text: &str) -> BTreeSet<Metric> {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types
            .map(|(name, kind)| {
                let samples = text.lines().filter(|line| line.starts_with(name));
                let labels = samples.filter_map(|line| Some(line.split_once('{')?.1.split_once("} ")?.0));
                let names = labels.flat_map(|it| it.split("\",").filter_map(|it| it.split_once('=')));
                let names = names.map(|(name, _)| name.to_owned()).filter(|it| it != "le");
                (name.to_owned(), kind.to_owned(), names.collect())
            })
            .collect()
    }

    /// The table of the book's page.
    fn documented() -> BTreeSet<Metric> {
        let page = include_str!("../../../docs/src/metrics.md");
        let rows = page.lines().filter(|line| line.starts_with("| `akamu_"));
        let columns = rows.map(|row| row.split('|').map(|it| it.trim().replace('`', "")).collect::<Vec<_>>());
        columns
            .map(|row| {
                let labels = row[3].split(", ").filter(|it| !it.is_empty()).map(str::to_owned).collect();
                (row[1].clone(), row[2].clone(), labels)
            })
            .collect()
    }

    #[test]
    fn the_book_lists_what_is_exported() {
        assert_eq!(exported(&touched().render().unwrap()), documented());
    }

    #[test]
    fn two_servers_do_not_count_together() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.issued();
        assert!(one.render().unwrap().contains("akamu_certificates_issued_total 1\n"));
        assert!(other.render().unwrap().contains("akamu_certificates_issued_total 0\n"));
    }

    #[test]
    fn a_gauge_counts_what_lives() {
        let metrics = Metrics::default();
        let held = (metrics.held_poll(), metrics.held_poll());
        drop(held.0);
        assert_eq!(metrics.held_polls.get(), 1);
        drop(held.1);
        assert_eq!(metrics.held_polls.get(), 0);
    }
}
