//! How others reach this node: a relay beside the ledger, a look in its mirror, and an offer that follows when our address
//! changes.
//!
//! A machine whose router lets nobody in keeps a connection to the relay of its network, and is reached through it until
//! the two have found a direct way, for which each must know the address that its router gives it: the ledger node sees it
//! and says so. The relay's address travels in the join line, as part of the ledger node's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use glean_net::{Net, Relay, RelayConfig};
use glean_types::NodeId;

use crate::app::App;
use crate::network::Network;
use crate::settings::Settings;

/// How long others may be told an address that a router has taken from us.
const MIRROR_EVERY: Duration = Duration::from_secs(30);

/// Opens this network's relay on its ledger node, under the number of the UDP port if that is free for TCP, too. A network
/// without one works where machines reach each other directly: so no relay is no reason to stop.
pub async fn open_relay(net: &Net, network: &Network, settings: &Settings) -> Option<Relay> {
    if network.ledger.is_some() {
        return None;
    }
    let direct = net.addr().direct;
    let port = direct.first().map_or(0, SocketAddr::port);
    let Some(shown) = direct.iter().find(|addr| addr.is_ipv4() && !addr.ip().is_loopback()).or(direct.first()) else {
        tracing::warn!("no relay: this machine has no address");
        return None;
    };
    let shown = shown.ip();
    let bind = settings.bind.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |addr| addr.ip());
    for port in [port, 0] {
        let url = settings.relay_url.clone();
        match spawn(SocketAddr::new(bind, port), shown, url).await {
            Ok(relay) => {
                if let Err(error) = net.use_relay(relay.url()).await {
                    tracing::warn!(%error, "our own relay cannot be used");
                }
                tracing::info!(url = relay.url(), "relay open");
                return Some(relay);
            }
            Err(error) => tracing::warn!(%error, port, "no relay"),
        }
    }
    None
}

async fn spawn(bind: SocketAddr, shown: IpAddr, url: Option<String>) -> Result<Relay, glean_net::RelayError> {
    let mut config = RelayConfig::new(bind);
    config.public_url = url;
    if config.public_url.is_none() && bind.ip().is_unspecified() {
        config.shown = Some(shown);
    }
    Relay::spawn(config).await
}

/// Keeps asking the ledger node under which address it sees us, which also keeps the way through our router open. Ends with
/// the process.
pub async fn look_in_mirror(net: Net, ledger: NodeId) {
    let mut turn = tokio::time::interval(MIRROR_EVERY);
    loop {
        turn.tick().await;
        if let Err(error) = net.look_in_mirror(ledger).await {
            tracing::debug!(%error, "the ledger node does not say where it sees us");
        }
    }
}

/// Offers the machine anew whenever it is reached under other addresses than before. Ends with the network.
pub async fn follow_address(net: Net, app: Arc<App>) {
    net.on_addr_change(|| app.resume_share()).await;
}
