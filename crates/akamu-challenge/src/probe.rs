//! The place that validators look from: names, connections, time, and what may be dialled.

use std::sync::Arc;

use crate::connection_permits::ConnectionPermits;
use crate::{AddressPolicy, Clock, Connector, Resolver};

/// How many connections to one address are open at once.
const CONNECTIONS_PER_ADDRESS: usize = 32;

/// What http-01 and tls-alpn-01 reach the world through. Made once, and shared: clones share the limit of 32 connections
/// to one address.
#[derive(Clone, Debug)]
pub struct Probe {
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) addresses: AddressPolicy,
    pub(crate) permits: Arc<ConnectionPermits>,
}

impl Probe {
    /// A probe that finds addresses by `resolver`, dials those that `addresses` allows by `connector`, and dates its
    /// reports by `clock`.
    pub fn new(
        resolver: impl Resolver + 'static,
        connector: impl Connector + 'static,
        clock: impl Clock + 'static,
        addresses: AddressPolicy,
    ) -> Self {
        Self {
            resolver: Arc::new(resolver),
            connector: Arc::new(connector),
            clock: Arc::new(clock),
            addresses,
            permits: Arc::new(ConnectionPermits::new(CONNECTIONS_PER_ADDRESS)),
        }
    }

    /// The same probe from another place: clock, policy and the limit of connections to one address are shared.
    #[must_use]
    pub fn elsewhere(&self, resolver: impl Resolver + 'static, connector: impl Connector + 'static) -> Self {
        Self { resolver: Arc::new(resolver), connector: Arc::new(connector), ..self.clone() }
    }
}
