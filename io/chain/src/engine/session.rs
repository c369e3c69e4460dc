//! One epoch's committee with one pace: from the start of its engine to the reason for its end.
//!
//! Generic over the ground it stands on, so that what the simulator runs is what ships.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use commonware_consensus::types::{Epocher, FixedEpocher, Height};
use commonware_runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::app::{App, Final, Proposing};
use super::committee::Committee;
use super::ground::{Ground, Pace};
use super::lines::Lines;
use super::parts::{Plan, forget_old_epoch};
use crate::keeper::Keeper;

/// With company, an empty block proves at least this often that the leader lives.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Time that actors get to finish when a session ends.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(2);

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Stopped,
    EpochOver,
    /// A patient engine can only be helped by timeouts.
    Stuck,
    /// A hurried engine is out of recovery.
    Recovered,
    /// An actor of the engine ended by itself.
    Broken,
}

/// See the head of this file.
pub(super) struct Session {
    pub(super) keeper: Arc<Keeper>,
    pub(super) committee: Committee,
    pub(super) epoch_blocks: NonZeroU64,
    pub(super) pace: Pace,
    pub(super) patience: Duration,
    pub(super) finals: mpsc::UnboundedSender<Final>,
    pub(super) height: watch::Receiver<u64>,
    /// Before the name of each file of the engine.
    pub(super) prefix: String,
}

impl Session {
    /// Runs the engine until there is a reason to end it, and ends it.
    pub(super) async fn drive<E: Ground, L: Lines<E>>(
        self,
        context: &E,
        lines: &L,
        stopped: &mut watch::Receiver<bool>,
    ) -> End {
        let epocher = FixedEpocher::new(self.epoch_blocks);
        let keeper = self.keeper.clone();
        let head = Height::new(keeper.head_number() + 1);
        let epoch = epocher.containing(head).expect("every height lies in a fixed epoch").epoch();
        let last = epocher.last(epoch).expect("a known epoch has a last block").get();
        let pace = match self.committee.at(epoch).len() {
            1 => self.pace,
            _ => Pace::Company,
        };
        let (proposing, mut recovered) = watch::channel(Proposing::NotAsked);
        let mut stuck_watch = recovered.clone();
        let mut height = self.height;
        let heartbeat = (pace == Pace::Company).then_some(HEARTBEAT);
        let app = App { keeper: keeper.clone(), heartbeat, proposing, finals: self.finals };
        forget_old_epoch(context, &self.prefix, epoch).await;
        let floor = keeper
            .block_hash(epocher.first(epoch).map_or(0, |first| first.get().saturating_sub(1)))
            .expect("the block before the current epoch is on disk");
        let plan = Plan {
            committee: self.committee,
            epoch,
            epocher,
            pace,
            app,
            genesis: keeper.genesis_block(),
            floor: floor.into(),
            prefix: self.prefix,
        };
        let mut engine: Handle<()> = plan.start(context, lines).await;
        // In this order, for one seed must be one history.
        let end = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => End::Stopped,
            _ = height.wait_for(|height| *height >= last) => End::EpochOver,
            _ = recovered.wait_for(|now| *now == Proposing::Asked), if pace == Pace::Hurried => End::Recovered,
            () = stuck(context, &mut stuck_watch, self.patience), if pace == Pace::Patient => End::Stuck,
            _ = &mut engine => End::Broken,
        };
        engine.abort();
        end
    }
}

/// Resolves when only a timeout can help: the engine has not asked for a proposal within `patience`, or was
/// declined one.
async fn stuck(context: &impl Ground, proposing: &mut watch::Receiver<Proposing>, patience: Duration) {
    let asked = proposing.wait_for(|now| *now != Proposing::NotAsked);
    let was_asked = tokio::select! {
        biased;
        asked = asked => asked.is_ok(),
        () = context.sleep(patience) => false,
    };
    if was_asked {
        let declined = proposing.wait_for(|now| *now == Proposing::Declined);
        if declined.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
