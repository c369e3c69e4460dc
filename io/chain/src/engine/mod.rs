//! The BFT engine: commonware simplex (votes) over marshal (order and delivery), with as many validators as
//! the committee has. One validator is the same engine with a committee of one.
//!
//! The engine runs in **sessions** on its own thread and runtime. A session is one epoch's committee with one
//! set of timeouts; it ends when the epoch's last block is on disk, when we are told to stop, or when patience
//! is wrong (below). Everything durable lives in the engine's own journals and in redb, so a session's end and
//! a power cut are the same thing to the next session.
//!
//! What an engine is, is generic ([`session`], [`parts`]); this file gives it the real ground: the system's clock and disk, and
//! TCP between validators ([`lines`]).
//!
//! Patience. A lone validator waits for transactions without any timeout, or else an idle chain would write an
//! empty vote every few seconds. But a validator that was killed between its two votes relies on timeouts to
//! leave that view. So a session whose engine does not ask for a proposal soon is replaced by a hurried one,
//! and the hurried one, once it asks, by a patient one.

mod app;
pub(crate) mod codec;
mod committee;
mod gossip;
mod ground;
mod lines;
mod parts;
mod session;
#[cfg(test)]
mod sim;

use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use commonware_runtime::tokio::{Config as RuntimeConfig, Runner};
use commonware_runtime::{Runner as _, Spawner, Supervisor};
use commonware_utils::NZU64;
use tokio::sync::{mpsc, watch};

use app::{Final, write_finals};
pub(crate) use committee::{Committee, new_secret, public_key};
pub use committee::{CommitteeError, Validator};
use ground::Pace;
use lines::Tcp;
use session::{End, STOP_GRACE, Session};

use crate::keeper::Keeper;

/// Blocks of one consensus_epoch unless a test says otherwise.
pub(crate) const EPOCH_BLOCKS: NonZeroU64 = NZU64!(16_384);

/// Longest wait for the engine to leave recovery before it is hurried; doubled at each failure, up to a minute.
const RECOVERY_PATIENCE: Duration = Duration::from_millis(500);
const RECOVERY_PATIENCE_MAX: Duration = Duration::from_secs(60);

/// What the engine needs to run.
pub(crate) struct EngineConfig {
    pub(crate) dir: PathBuf,
    pub(crate) epoch_blocks: NonZeroU64,
    pub(crate) keeper: Arc<Keeper>,
    /// Who votes.
    pub(crate) committee: Committee,
}

/// Who votes, in the eyes of the validator whose secret this is; `None` when it is not a scalar of the curve.
pub(crate) fn committee(secret: &[u8; 32], validators: &[Validator]) -> Option<Result<Committee, CommitteeError>> {
    committee::decode_key(secret).map(|key| Committee::new(key, validators))
}

/// The running engine. Dropping it asks the thread to stop without waiting.
pub(crate) struct Engine {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the engine on its own thread.
    pub(crate) fn start(config: EngineConfig) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("ledger-engine".into()).spawn(move || {
            // Nobody waits for this thread: what it dies of must be said, or the chain stands still in silence.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| supervise(&config, &stopped))) {
                config.keeper.fail(format!("the engine's supervisor stopped: {}", panic_text(&panic)));
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Asks the engine to stop and waits until it has.
    pub(crate) fn join(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // The thread reports its own panics to the keeper; there is nothing to add here.
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Runs session after session; a panic of the engine (a failed fsync, for one) becomes the node's failure.
fn supervise(config: &EngineConfig, stopped: &watch::Receiver<bool>) {
    let lines = Tcp::of(&config.committee);
    let (finals, queue) = mpsc::unbounded_channel();
    let (height, height_seen) = watch::channel(config.keeper.head_number());
    let keeper = config.keeper.clone();
    let writer = std::thread::Builder::new()
        .name("ledger-writer".into())
        .spawn(move || futures::executor::block_on(write_finals(keeper, queue, height)));
    match writer {
        Ok(writer) => {
            run_sessions(config, stopped, &lines, &finals, &height_seen);
            drop(finals);
            // A panic of the writer has already stopped the engine.
            let _ = writer.join();
        }
        Err(error) => config.keeper.fail(format!("cannot start the writer thread: {error}")),
    }
}

fn run_sessions(
    config: &EngineConfig,
    stopped: &watch::Receiver<bool>,
    lines: &Tcp,
    finals: &mpsc::UnboundedSender<Final>,
    height: &watch::Receiver<u64>,
) {
    let mut hurried = false;
    let mut patience = RECOVERY_PATIENCE;
    loop {
        let session = Session {
            keeper: config.keeper.clone(),
            committee: config.committee.clone(),
            epoch_blocks: config.epoch_blocks,
            pace: if hurried { Pace::Hurried } else { Pace::Patient },
            patience,
            finals: finals.clone(),
            height: height.clone(),
            prefix: String::new(),
        };
        let run = AssertUnwindSafe(|| run(session, config, lines, stopped.clone()));
        let end = catch_unwind(run).unwrap_or_else(|panic| {
            config.keeper.fail(format!("the engine stopped: {}", panic_text(&panic)));
            End::Broken
        });
        tracing::debug!(?end, hurried, "engine session ended");
        match end {
            End::EpochOver => {}
            End::Stuck => {
                hurried = true;
                patience = (patience * 2).min(RECOVERY_PATIENCE_MAX);
            }
            End::Recovered => hurried = false,
            End::Broken => {
                if !*stopped.borrow() {
                    config.keeper.fail("the engine stopped by itself".into());
                }
                return;
            }
            End::Stopped => return,
        }
    }
}

fn panic_text(panic: &Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()))
        .unwrap_or_else(|| "unknown panic".to_string())
}

/// Runs one session on a runtime of its own.
fn run(session: Session, config: &EngineConfig, lines: &Tcp, mut stopped: watch::Receiver<bool>) -> End {
    let runtime = RuntimeConfig::new()
        .with_worker_threads(2)
        .with_max_blocking_threads(64)
        .with_storage_directory(config.dir.clone());
    Runner::new(runtime).start(|context| async move {
        let end = session.drive(&context, lines, &mut stopped).await;
        let _ = context.child("stop").stop(0, Some(STOP_GRACE)).await;
        config.keeper.forget_unfinalised();
        end
    })
}
