//! Performs what the brain asks for. Decides nothing: every branch here is one output.

use std::time::Duration;

use glean_protocol::{Event, Input, Output};
use glean_types::NodeId;

use crate::brain::{Inbox, World};
use crate::events::Events;
use crate::ledger::{FundError, Ledger, LedgerError};
use crate::offers::Offers;
use crate::runner::Runner;
use crate::sessions::Sessions;

/// Pauses between attempts to reach the ledger.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Everything a node can touch.
pub struct NodeWorld {
    /// Where answers go.
    pub inbox: Inbox,
    /// Work sessions.
    pub sessions: Sessions,
    /// The index nodes.
    pub offers: Offers,
    /// The ledger.
    pub ledger: Ledger,
    /// The workers.
    pub runner: Runner,
    /// News for people.
    pub events: Events,
}

impl World for NodeWorld {
    fn perform(&mut self, output: Output) {
        match output {
            Output::Record(_) => unreachable!("the loop keeps records to itself"),
            Output::QueryOffers => self.query_offers(),
            Output::Publish(offer) => {
                let offers = self.offers.clone();
                tokio::spawn(async move { offers.publish(offer).await });
            }
            Output::Dial { node, peer } => self.sessions.dial(node, peer),
            Output::Hangup(node) => self.sessions.hang_up(node),
            Output::Send { to, message } => self.sessions.send(to, &message),
            Output::FundChannel { provider, payee, channel, deposit, salt } => {
                self.answer(move |ledger| async move {
                    let funded = match channel {
                        None => ledger.open_channel(payee, provider, deposit, salt).await,
                        Some(channel) => ledger.top_up(channel, deposit).await,
                    };
                    funded_input(provider, funded)
                });
            }
            Output::LookUpChannel(channel) => self.answer(move |ledger| async move {
                // A ledger that cannot be asked proves nothing, neither that there is a channel nor that there is none.
                let view = patiently("could not look up a channel", || ledger.channel(channel)).await;
                Input::ChannelSeen { channel, view }
            }),
            Output::Claim(voucher) => {
                let (ledger, inbox) = (self.ledger.clone(), self.inbox.clone());
                tokio::spawn(async move {
                    let channel = voucher.paper.channel;
                    match ledger.claim(voucher).await {
                        Ok(Some(settled)) => inbox.send(Input::Claimed { channel, settled }).await,
                        Ok(None) => inbox.send(Input::ChannelSeen { channel, view: None }).await,
                        Err(error) => tracing::warn!(%error, "could not claim a voucher: it stays good"),
                    }
                });
            }
            Output::CloseChannel(channel) => self.answer(move |ledger| async move {
                let again_ms = patiently("could not close a channel", || ledger.close_channel(channel)).await;
                Input::ChannelClosing { channel, again_ms }
            }),
            Output::Run(order) => self.runner.start(order),
            Output::StopRun(run) => self.runner.stop(run),
            Output::Report(event) => self.report(event),
        }
    }
}

impl NodeWorld {
    fn query_offers(&self) {
        let (offers, inbox) = (self.offers.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let found = offers.query().await;
            inbox.send(Input::Offers(found)).await;
        });
    }

    /// Asks the ledger and tells the brain.
    fn answer<F>(&self, ask: impl FnOnce(Ledger) -> F)
    where
        F: Future<Output = Input> + Send + 'static,
    {
        let inbox = self.inbox.clone();
        let asking = ask(self.ledger.clone());
        tokio::spawn(async move { inbox.send(asking.await).await });
    }

    fn report(&self, event: Event) {
        match &event {
            // What happens with every slice is for `logs`, not for the log of the node.
            Event::TaskAccepted { .. }
            | Event::CheckPassed { .. }
            | Event::SliceSent { .. }
            | Event::SlicePaid { .. }
            | Event::Delivered { .. }
            | Event::Earned { .. } => tracing::debug!(?event),
            Event::LiarCaught { .. } | Event::FundsMissing { .. } => tracing::warn!(?event),
            _ => tracing::info!(?event),
        }
        self.events.add(event);
    }
}

/// Asks the ledger until it answers; between two attempts it has time to come back.
async fn patiently<T, F>(what: &str, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, LedgerError>>,
{
    let mut pause = RETRY_FIRST;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => tracing::warn!(%error, "{what}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

fn funded_input(provider: NodeId, funded: Result<(glean_types::ChannelId, glean_types::Amount), FundError>) -> Input {
    match funded {
        Ok((channel, deposit)) => Input::ChannelReady { provider, channel, deposit },
        Err(error) => {
            let no_funds = matches!(error, FundError::NoFunds { .. });
            Input::ChannelFailed { provider, why: error.to_string(), no_funds }
        }
    }
}
