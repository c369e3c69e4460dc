//! Offers in and out: published to the index nodes that keep this machine's, asked from a few index nodes by lot, or, on an
//! index node, from its own shelf, which survives a restart.

use std::sync::Arc;
use std::time::Duration;

use glean_net::index::{Query, asked_by_lot, keepers_of};
use glean_net::{IndexNode, Net, Validate, publish, query};
use glean_types::{Hash, NodeId, Offer, Signed, decode, encode};

use crate::clock::now_ms;
use crate::home::Home;

const OFFER_BYTES_MAX: usize = 4096;
/// Where an index node keeps its shelf, and how large that may be.
const SHELF_FILE: &str = "index.bin";
const SHELF_BYTES_MAX: usize = 64 << 20;
/// How often a changed shelf is written; a large one takes its time.
const SAVE_EVERY: Duration = Duration::from_secs(1);
const SAVE_MORE_PER_MIB: Duration = Duration::from_secs(5);

/// Access to the index.
#[derive(Clone)]
pub struct Offers {
    net: Net,
    class: Hash,
    validate: Validate,
    index_nodes: Vec<NodeId>,
    own: Option<Arc<IndexNode>>,
}

impl Offers {
    /// `own` is set on an index node, `index_nodes` are the others.
    pub fn new(
        net: Net,
        class: Hash,
        validate: Validate,
        index_nodes: Vec<NodeId>,
        own: Option<Arc<IndexNode>>,
    ) -> Offers {
        Offers { net, class, validate, index_nodes, own }
    }

    /// Makes our offer known. A failure is only logged: the brain publishes again before it expires.
    pub async fn publish(&self, offer: Signed<Offer>) {
        let bytes = encode(&offer);
        if let Some(own) = &self.own
            && let Err(reason) = own.keep(self.net.id(), bytes.clone(), now_ms())
        {
            tracing::warn!(reason, "our own index refused our offer");
        }
        let keepers = keepers_of(&self.net.id(), now_ms(), &self.index_nodes);
        if !keepers.is_empty()
            && let Err(error) = publish(&self.net, &keepers, &bytes).await
        {
            tracing::warn!(%error, "no index node took our offer");
        }
    }

    /// Offers of our class, other machines' only: each time another sample, from other index nodes.
    pub async fn query(&self) -> Vec<Signed<Offer>> {
        let mut lot = [0; 8];
        getrandom::fill(&mut lot).expect("the operating system has randomness");
        let lot = u64::from_le_bytes(lot);
        let (asked, wanted) = (asked_by_lot(lot, &self.index_nodes), Query::sample(self.class, lot));
        let mut found = Vec::new();
        if let Some(own) = &self.own {
            found.extend(own.find(&wanted, now_ms()));
        }
        if !asked.is_empty() {
            match query(&self.net, &asked, &wanted, &self.validate, now_ms()).await {
                Ok(offers) => found.extend(offers.into_iter().map(|(_, bytes)| bytes)),
                Err(error) => tracing::warn!(%error, "no index node answered"),
            }
        }
        let offers = found.iter().filter_map(|bytes| decode::<Signed<Offer>>(bytes, OFFER_BYTES_MAX).ok());
        offers.filter(|offer| offer.paper.node != self.net.id()).collect()
    }
}

/// Puts the shelf of the last life back and keeps this one's on the disk: machines speak up once a minute, and until then a
/// market that has forgotten them would have nothing to sell. A damaged file is as good as none.
pub fn keep_shelf(home: Home, index: Arc<IndexNode>) {
    let bytes = std::fs::read(home.path(SHELF_FILE)).unwrap_or_default();
    let mut saved = Hash::of(&bytes);
    let kept = decode(&bytes, SHELF_BYTES_MAX).map_or(0, |offers| index.put_back(offers, now_ms()));
    tracing::debug!(kept, "offers of the last life");
    tokio::spawn(async move {
        let mut wait = SAVE_EVERY;
        loop {
            tokio::time::sleep(wait).await;
            let bytes = encode(&index.offers());
            let now = Hash::of(&bytes);
            if now == saved {
                continue;
            }
            saved = now;
            wait = SAVE_EVERY + SAVE_MORE_PER_MIB * u32::try_from(bytes.len() >> 20).unwrap_or(u32::MAX);
            let (home, index) = (home.clone(), index.clone());
            if tokio::task::spawn_blocking(move || save_shelf(&home, &index)).await.is_err() {
                return;
            }
        }
    });
}

/// Writes the shelf to the disk; without it the next life only starts poorer.
pub fn save_shelf(home: &Home, index: &IndexNode) {
    if let Err(error) = home.write_private(SHELF_FILE, &encode(&index.offers())) {
        tracing::warn!(%error, "the shelf of offers is not kept");
    }
}
