//! What every handler has at hand.

use std::sync::Arc;
use std::time::Duration;

use akamu_ca::Issuer;
use akamu_challenge::{Clock, ValidatorSet};
use akamu_proto::{AuthorizationId, DirectoryMeta};
use akamu_store::{Chain, Store, StoreError};
use bytes::Bytes;

use crate::admission::Admission;
use crate::base_url::BaseUrl;
use crate::hold::{Held, Holds, News};
use crate::key_cache::KeyCache;
use crate::metrics::Metrics;
use crate::random::Random;
use crate::request_body::BodyMemory;
use crate::revocation_list::RevocationList;
use crate::validation::Validations;

/// The parts of the server, injected, and what it was configured to do.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) base_url: BaseUrl,
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) issuer: Arc<Issuer>,
    /// What is sent after the issuer's leaves.
    pub(crate) chain: Chain,
    pub(crate) validators: ValidatorSet,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) keys: KeyCache,
    pub(crate) holds: Arc<Holds>,
    pub(crate) validations: Arc<Validations>,
    pub(crate) revocation_list: RevocationList,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) body_memory: Arc<BodyMemory>,
    pub(crate) admission: Arc<Admission>,
    /// The directory, made once.
    pub(crate) directory: Bytes,
}

/// The part of the configuration that requests depend on.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) meta: DirectoryMeta,
    pub(crate) order_expiry: Duration,
    pub(crate) authorization_expiry: Duration,
    pub(crate) max_body_bytes: usize,
    pub(crate) poll_hold: Duration,
    pub(crate) issuer_domains: Vec<String>,
    pub(crate) crl_validity: Duration,
}

impl App {
    /// Those of `authorizations` whose validation runs here, or else at another replica or soon.
    pub(crate) async fn processing_among(
        &self,
        authorizations: &[AuthorizationId],
    ) -> Result<Vec<AuthorizationId>, StoreError> {
        let here = self.validations.running_among(authorizations);
        if !here.is_empty() {
            return Ok(here);
        }
        Ok(self.store.authorizations_processing(authorizations).await?.into_iter().collect())
    }

    /// Returns when one of the held poll's authorizations changes, or when the time for which polls are held is over:
    /// the authorization, where it is known and need not be read.
    pub(crate) async fn wait_for(&self, held: &mut Held) -> News {
        let (_held, _resting) = (self.metrics.held_poll(), self.admission.rest());
        tokio::select! {
            news = held.changed() => news,
            () = self.clock.sleep(self.settings.poll_hold) => None,
        }
    }
}
