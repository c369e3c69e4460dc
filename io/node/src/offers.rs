//! Offers in and out: published to the index nodes of the network, asked from them, or, on an index node,
//! from its own shelf.

use std::sync::Arc;

use glean_net::index::Query;
use glean_net::{IndexNode, Net, Validate, publish, query};
use glean_types::{Hash, NodeId, Offer, Signed, decode, encode};

use crate::clock::now_ms;

const OFFER_BYTES_MAX: usize = 4096;
/// Machines asked for in one query: plenty for one job, little enough for one message.
const OFFERS_MAX: u16 = 256;

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
        if !self.index_nodes.is_empty()
            && let Err(error) = publish(&self.net, &self.index_nodes, &bytes).await
        {
            tracing::warn!(%error, "no index node took our offer");
        }
    }

    /// Offers of our class, other machines' only.
    pub async fn query(&self) -> Vec<Signed<Offer>> {
        let wanted = Query { class: Some(self.class), offers_max: OFFERS_MAX, ..Query::default() };
        let mut found = Vec::new();
        if let Some(own) = &self.own {
            found.extend(own.find(&wanted, now_ms()));
        }
        if !self.index_nodes.is_empty() {
            match query(&self.net, &self.index_nodes, &wanted, &self.validate, now_ms()).await {
                Ok(offers) => found.extend(offers.into_iter().map(|(_, bytes)| bytes)),
                Err(error) => tracing::warn!(%error, "no index node answered"),
            }
        }
        let offers = found.iter().filter_map(|bytes| decode::<Signed<Offer>>(bytes, OFFER_BYTES_MAX).ok());
        offers.filter(|offer| offer.paper.node != self.net.id()).collect()
    }
}
