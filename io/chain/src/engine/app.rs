//! What the engine asks of us: a block to propose, a verdict on a proposed block, and what to do with a final
//! one. The answers come from [`Keeper`]; this file only speaks the engine's language.
//!
//! What must stay true:
//! - a proposal waits for work, so an idle chain writes nothing;
//! - a block is executed on its own parent, final or not: `ready` walks back to the first ancestor whose state
//!   is known and executes forward (after a restart nothing unfinalised is known);
//! - a final block is acknowledged only after its redb transaction was fsynced;
//! - the ledger is never ahead of the engine: a block is handed over after the votes for it were fsynced. So a lone engine that
//!   builds on a block below the ledger's head has lost files, or has got older ones, and it must not vote again.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use commonware_actor::Feedback;
use commonware_consensus::marshal::Update;
use commonware_consensus::marshal::ancestry::Ancestry;
use commonware_consensus::simplex::types::Context;
use commonware_consensus::{Application, Reporter};
use commonware_cryptography::Digested;
use commonware_utils::Acknowledgement;
use commonware_utils::acknowledgement::Exact;
use futures::StreamExt;
use tokio::sync::{mpsc, watch};

use super::codec::{Digest, EngineBlock};
use super::committee::{PublicKey, Scheme};
use super::ground::Ground;
use crate::block::SealedBlock;
use crate::keeper::Keeper;

/// How long a parent may take to become final by itself.
const PARENT_PATIENCE: Duration = Duration::from_millis(500);

/// With company, the first leader of a session waits so long: what it said earlier, others who still end the epoch before would
/// not hear, and the view would be lost.
const ASSEMBLY: Duration = Duration::from_millis(200);
/// How far a block's time may lie beyond our clock, s. Beyond it, one validator could push the time of all that follow.
const FUTURE_MAX_S: u64 = 15;

/// Why a block is proposed.
enum Work {
    /// The pool has something; the number goes back to the keeper when it cannot run.
    Pool(u64),
    /// An empty block is due.
    Empty,
}

/// A final block on its way to disk, with the promise to answer the engine.
pub(super) type Final = (Arc<SealedBlock>, Exact);

/// Where proposing stands in this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proposing {
    /// The engine has not asked for a block yet: it may be in recovery.
    NotAsked,
    /// The engine asked: it is past recovery.
    Asked,
    /// We declined, so this view can only time out.
    Declined,
}

/// The application handed to the engine.
#[derive(Clone)]
pub(super) struct App {
    pub(super) keeper: Arc<Keeper>,
    /// How long a proposal may wait for work before an empty block is due; `None`: for ever.
    pub(super) heartbeat: Option<Duration>,
    /// Where proposing stands.
    pub(super) proposing: watch::Sender<Proposing>,
    /// The queue to the thread that writes final blocks.
    pub(super) finals: mpsc::UnboundedSender<Final>,
}

impl App {
    /// Whether nobody else votes: then there is no heartbeat.
    fn is_alone(&self) -> bool {
        self.heartbeat.is_none()
    }

    /// Makes the state after `tip` known, executing unknown ancestors oldest first.
    async fn ready(
        &self,
        runtime: &impl Ground,
        tip: Arc<SealedBlock>,
        mut ancestry: impl Ancestry<EngineBlock>,
    ) -> Result<(), String> {
        let mut missing = Vec::new();
        let mut block = tip;
        while !self.keeper.knows(block.hash()) {
            missing.push(block);
            block = match ancestry.next().await {
                Some(parent) => parent.inner().0.clone(),
                None => return Err("ancestry ended before a known state".into()),
            };
        }
        for block in missing.into_iter().rev() {
            self.execute(runtime, block).await?;
        }
        Ok(())
    }

    /// Waits for a reason to propose on `parent`; `None` when the reason to hurry went away.
    ///
    /// A parent that does not become final by itself (its validator died between two votes) becomes final with
    /// its child, so then an empty child is due although nobody has work.
    async fn wait(&self, runtime: &impl Ground, parent: &SealedBlock) -> Option<Work> {
        let parent_final = || self.keeper.head_number() >= parent.number();
        let was_final = parent_final();
        let patience = if was_final { self.heartbeat } else { Some(PARENT_PATIENCE) };
        let over = async {
            match patience {
                Some(patience) => runtime.sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            seen = self.keeper.wait_for_work() => Some(Work::Pool(seen)),
            () = over => (was_final || !parent_final()).then_some(Work::Empty),
        }
    }

    /// Executes one block whose parent's state is known, off the engine's own threads. Never returns when the
    /// fault is this node's: then no vote is better than a wrong one.
    async fn execute(&self, runtime: &impl Ground, block: Arc<SealedBlock>) -> Result<(), String> {
        let keeper = self.keeper.clone();
        let executed = blocking(runtime, move || keeper.execute(block)).await;
        match executed.ok_or("stopping")? {
            Err(error) if error.is_ours() => {
                self.keeper.fail(error.to_string());
                std::future::pending().await
            }
            executed => executed.map_err(|error| error.to_string()),
        }
    }
}

/// Runs `work` where it may take milliseconds without holding up votes.
async fn blocking<T: Send + 'static>(runtime: &impl Ground, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let task = runtime.child("execute").shared(true);
    task.spawn(|_| async move { work() }).await.ok()
}

/// Our clock, seconds since 1970. One before 1970 still gives valid, non-decreasing block times.
fn now_s(runtime: &impl Ground) -> u64 {
    runtime.current().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl<E: Ground> Application<E> for App {
    type SigningScheme = Scheme;
    type Context = Context<Digest, PublicKey>;
    type Block = EngineBlock;
    type Input = ();

    async fn propose(
        &mut self,
        (runtime, _): (E, Self::Context),
        mut ancestry: impl Ancestry<EngineBlock>,
        (): (),
    ) -> Option<Digested<EngineBlock>> {
        let before = self.proposing.send_replace(Proposing::Asked);
        if before == Proposing::NotAsked && !self.is_alone() {
            runtime.sleep(ASSEMBLY).await;
        }
        let parent = ancestry.next().await?.inner().0.clone();
        let (stands, head) = (parent.number(), self.keeper.head_number());
        if self.is_alone() && stands < head {
            self.keeper.fail(format!(
                "the engine stands at block {stands} and the ledger at block {head}: files in the folder `engine` were lost, or \
                 are an older copy; hint: put back a backup of the whole node"
            ));
            return std::future::pending().await;
        }
        if let Err(reason) = self.ready(&runtime, parent.clone(), ancestry).await {
            tracing::warn!(number = parent.number(), reason, "no proposal");
            self.proposing.send_replace(Proposing::Declined);
            return None;
        }
        loop {
            let Some(work) = self.wait(&runtime, &parent).await else { continue };
            let (keeper, on, now_s) = (self.keeper.clone(), parent.clone(), now_s(&runtime));
            let built = blocking(&runtime, move || keeper.build(&on, now_s)).await?;
            match (built, work) {
                // What waits in the pool cannot run on this parent: not work yet.
                (Ok(block), Work::Pool(seen)) if block.body().transactions.is_empty() => {
                    self.keeper.rest(seen);
                }
                (Ok(block), _) => {
                    let digest = block.hash().into();
                    let block = EngineBlock(block);
                    return Some(Digested::precomputed(block, digest));
                }
                (Err(error), _) => {
                    self.keeper.fail(format!("cannot build a block: {error}"));
                    return std::future::pending().await;
                }
            }
        }
    }

    async fn verify(&mut self, (runtime, _): (E, Self::Context), mut ancestry: impl Ancestry<EngineBlock>) -> bool {
        let (Some(block), Some(parent)) = (ancestry.next().await, ancestry.next().await) else {
            return false;
        };
        let (block, parent) = (block.inner().0.clone(), parent.inner().0.clone());
        if block.header().timestamp > now_s(&runtime).max(parent.header().timestamp) + FUTURE_MAX_S {
            tracing::warn!(
                number = block.number(),
                time_s = block.header().timestamp,
                "proposed block is of the future"
            );
            return false;
        }
        if let Err(reason) = self.ready(&runtime, parent, ancestry).await {
            tracing::warn!(number = block.number(), reason, "cannot verify on this parent");
            return false;
        }
        match self.execute(&runtime, block.clone()).await {
            Ok(()) => true,
            Err(reason) => {
                tracing::warn!(number = block.number(), reason, "proposed block is invalid");
                false
            }
        }
    }
}

impl Reporter for App {
    type Activity = Update<EngineBlock>;

    fn report(&mut self, update: Update<EngineBlock>) -> Feedback {
        if let Update::Block(block, ack) = update
            && let Err(unsent) = self.finals.send((block.inner().0.clone(), ack))
        {
            // The writer has stopped; dropping the acknowledgement stops the engine too.
            drop(unsent);
            return Feedback::Closed;
        }
        Feedback::Ok
    }
}

/// Writes final blocks in order until the queue closes or a write fails.
///
/// After a failure nothing more is acknowledged: the engine keeps the block and hands it over again at the
/// next start.
pub(super) async fn write_finals(
    keeper: Arc<Keeper>,
    mut finals: mpsc::UnboundedReceiver<Final>,
    height: watch::Sender<u64>,
) {
    while let Some((block, ack)) = finals.recv().await {
        if let Err(error) = keeper.finalize(&block) {
            keeper.fail(error.to_string());
            // Keep the promise unanswered but alive until the engine is stopped.
            while finals.recv().await.is_some() {}
            drop(ack);
            return;
        }
        ack.acknowledge();
        height.send_replace(block.number());
    }
}
