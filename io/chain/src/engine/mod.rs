//! The BFT engine: commonware simplex (votes) over marshal (order and delivery), with as many validators as
//! the committee has. One validator is the same engine with a committee of one.
//!
//! The engine runs in **sessions** on its own thread and runtime. A session is one epoch's committee with one
//! set of timeouts; it ends when the epoch's last block is on disk, when we are told to stop, or when patience
//! is wrong (below). Everything durable lives in the engine's own journals and in redb, so a session's end and
//! a power cut are the same thing to the next session.
//!
//! Patience. A lone validator waits for transactions without any timeout, or else an idle chain would write an
//! empty vote every few seconds. But a validator that was killed between its two votes relies on timeouts to
//! leave that view. So a session whose engine does not ask for a proposal soon is replaced by a hurried one,
//! and the hurried one, once it asks, by a patient one.

mod app;
pub(crate) mod codec;
mod committee;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use commonware_broadcast::buffered;
use commonware_consensus::marshal::core::Actor as Marshal;
use commonware_consensus::marshal::resolver::p2p as backfill;
use commonware_consensus::marshal::standard::Inline;
use commonware_consensus::marshal::{self, Start};
use commonware_consensus::simplex::elector::RoundRobin;
use commonware_consensus::simplex::{self, Floor, ForwardPolicy, SkipPolicy};
use commonware_consensus::types::{Epoch, Epocher, FixedEpocher, Height, ViewDelta};
use commonware_cryptography::certificate::Verifier as _;
use commonware_cryptography::{ChaCha20Poly1305, Digested, Sha256};
use commonware_p2p::authenticated::lookup;
use commonware_p2p::utils::mux::{MuxHandle, Muxer};
use commonware_p2p::{Address, AddressableManager};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::tokio::{Config as RuntimeConfig, Context as Runtime, Runner};
use commonware_runtime::{Quota, Runner as _, Spawner, Storage, Supervisor};
use commonware_storage::archive::prunable;
use commonware_storage::translator::TwoCap;
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::ordered::Map;
use commonware_utils::{NZDuration, NZU16, NZU32, NZU64, NZUsize};
use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

use app::{App, Final, Proposing, write_finals};
use committee::{Committee, PublicKey, Scheme};
pub(crate) use committee::{new_secret, public_key};

use crate::block::{BLOCK_BYTES_MAX, SealedBlock};
use crate::keeper::Keeper;

/// Blocks of one consensus_epoch unless a test says otherwise.
pub(crate) const EPOCH_BLOCKS: NonZeroU64 = NZU64!(16_384);

const PAGE_BYTES: NonZeroU16 = NZU16!(4_096);
const PAGE_CACHE_PAGES: NonZeroUsize = NZUsize!(512);
const IO_BUFFER_BYTES: NonZeroUsize = NZUsize!(64 * 1024);
const MAILBOX_SIZE: NonZeroUsize = NZUsize!(256);
const ARCHIVE_ITEMS_PER_SECTION: NonZeroU64 = NZU64!(1_024);
/// Final blocks handed over before the first of them is on disk.
const FINALS_UNWRITTEN_MAX: NonZeroUsize = NZUsize!(16);
/// Views kept behind the last final one, for peers that lag.
const VIEW_RETENTION: ViewDelta = ViewDelta::new(64);
/// Identities per peer set. It sizes queues, so it is a limit, not a wish.
const PEERS_MAX: NonZeroUsize = NZUsize!(32);
/// Largest message: a block and the certificate that travels with it.
const MESSAGE_BYTES_MAX: u32 = BLOCK_BYTES_MAX as u32 + 64 * 1024;

/// Longest wait for the engine to leave recovery before it is hurried; doubled at each failure, up to a minute.
const RECOVERY_PATIENCE: Duration = Duration::from_millis(500);
const RECOVERY_PATIENCE_MAX: Duration = Duration::from_secs(60);
/// With company, an empty block proves at least this often that the leader lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time that actors get to finish when a session ends.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What the engine needs to run.
pub(crate) struct EngineConfig {
    pub(crate) dir: PathBuf,
    pub(crate) secret: Zeroizing<[u8; 32]>,
    pub(crate) epoch_blocks: NonZeroU64,
    pub(crate) keeper: Arc<Keeper>,
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

/// How a session's views time out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Alone and waiting for work: never.
    Patient,
    /// Alone and recovering from a crash between two votes: at once.
    Hurried,
    /// With other validators: after seconds, and with heartbeats.
    Company,
}

impl Pace {
    fn leader_timeout(self) -> Duration {
        match self {
            Self::Patient => Duration::from_secs(365 * 24 * 3600),
            Self::Hurried => Duration::from_millis(250),
            Self::Company => Duration::from_secs(3),
        }
    }

    fn certification_timeout(self) -> Duration {
        self.leader_timeout() * 2
    }

    fn retry(self) -> Duration {
        match self {
            Self::Hurried => Duration::from_millis(250),
            Self::Patient | Self::Company => Duration::from_secs(2),
        }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    EpochOver,
    /// A patient engine can only be helped by timeouts.
    Stuck,
    /// A hurried engine is out of recovery.
    Recovered,
    /// An actor of the engine ended by itself.
    Broken,
}

/// Runs session after session; a panic of the engine (a failed fsync, for one) becomes the node's failure.
fn supervise(config: &EngineConfig, stopped: &watch::Receiver<bool>) {
    let Some(key) = committee::decode_key(&config.secret) else {
        config.keeper.fail("the validator key is not valid".into());
        return;
    };
    let committee = Committee::of_one(key);
    let (finals, queue) = mpsc::unbounded_channel();
    let (height, height_seen) = watch::channel(config.keeper.head_number());
    let keeper = config.keeper.clone();
    let writer =
        std::thread::Builder::new().name("ledger-writer".into()).spawn(move || write_finals(&keeper, queue, &height));
    match writer {
        Ok(writer) => {
            run_sessions(config, stopped, &committee, &finals, &height_seen);
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
    committee: &Committee,
    finals: &mpsc::UnboundedSender<Final>,
    height: &watch::Receiver<u64>,
) {
    let mut hurried = false;
    let mut patience = RECOVERY_PATIENCE;
    loop {
        let session = Session {
            committee: committee.clone(),
            pace: if hurried { Pace::Hurried } else { Pace::Patient },
            patience,
            finals: finals.clone(),
            height: height.clone(),
        };
        let run = AssertUnwindSafe(|| session.run(config, stopped.clone()));
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

/// One epoch's committee with one pace.
struct Session {
    committee: Committee,
    pace: Pace,
    patience: Duration,
    finals: mpsc::UnboundedSender<Final>,
    height: watch::Receiver<u64>,
}

/// The channels between validators, one number each.
mod channel {
    pub(super) const VOTES: u64 = 0;
    pub(super) const CERTIFICATES: u64 = 1;
    pub(super) const RESOLVER: u64 = 2;
    pub(super) const BLOCKS: u64 = 3;
    pub(super) const BACKFILL: u64 = 4;
}

impl Session {
    fn run(&self, config: &EngineConfig, stopped: watch::Receiver<bool>) -> End {
        let runtime = RuntimeConfig::new()
            .with_worker_threads(2)
            .with_max_blocking_threads(64)
            .with_storage_directory(config.dir.clone());
        Runner::new(runtime).start(|context| self.drive(context, config, stopped))
    }

    async fn drive(&self, context: Runtime, config: &EngineConfig, mut stopped: watch::Receiver<bool>) -> End {
        let epocher = FixedEpocher::new(config.epoch_blocks);
        let keeper = config.keeper.clone();
        let head = keeper.head_number();
        let epoch = epocher.containing(Height::new(head + 1)).expect("every height lies in a fixed epoch").epoch();
        let last = epocher.last(epoch).expect("a known epoch has a last block").get();
        let pace = match self.committee.at(epoch).len() {
            1 => self.pace,
            _ => Pace::Company,
        };

        let (proposing, mut recovered) = watch::channel(Proposing::NotAsked);
        let mut stuck_watch = recovered.clone();
        let mut height = self.height.clone();
        let app = App {
            keeper: keeper.clone(),
            heartbeat: (pace == Pace::Company).then_some(HEARTBEAT),
            proposing,
            finals: self.finals.clone(),
        };
        forget_old_epoch(&context, epoch).await;
        let genesis = keeper.genesis_block();
        let floor = keeper
            .block_hash(epocher.first(epoch).map_or(0, |first| first.get().saturating_sub(1)))
            .expect("the block before the current epoch is on disk");
        let mut engine = self.assemble(&context, epoch, epocher, pace, app, genesis, floor.into()).await;

        let end = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => End::Stopped,
            _ = height.wait_for(|height| *height >= last) => End::EpochOver,
            _ = recovered.wait_for(|now| *now == Proposing::Asked), if pace == Pace::Hurried => End::Recovered,
            () = stuck(&mut stuck_watch, self.patience), if pace == Pace::Patient => End::Stuck,
            _ = &mut engine => End::Broken,
        };
        engine.abort();
        let _ = context.child("stop").stop(0, Some(STOP_GRACE)).await;
        drop(engine);
        keeper.forget_unfinalised();
        end
    }

    /// Wires network, marshal and votes; the returned handle ends when any part of the engine does.
    #[allow(clippy::too_many_arguments, reason = "the wiring board: each argument is used once")]
    async fn assemble(
        &self,
        context: &Runtime,
        epoch: Epoch,
        epocher: FixedEpocher,
        pace: Pace,
        app: App,
        genesis: Arc<SealedBlock>,
        floor: codec::Digest,
    ) -> commonware_runtime::Handle<()> {
        let me = self.committee.me();
        let page_cache = CacheRef::new(PAGE_BYTES, PAGE_CACHE_PAGES);
        let (mut network, mut oracle) = lookup::Network::new(context.child("network"), self.network_config());
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let peers: Map<PublicKey, Address> = self
            .committee
            .at(epoch)
            .into_iter()
            .map(|member| (member, Address::from(here)))
            .collect::<Vec<_>>()
            .try_into()
            .expect("members of an epoch are distinct");
        let _ = oracle.track(epoch.get(), peers);
        let rate = Quota::per_second(NZU32!(128));
        let votes = network.register(channel::VOTES, rate);
        let certificates = network.register(channel::CERTIFICATES, rate);
        let resolver = network.register(channel::RESOLVER, rate);
        let blocks = network.register(channel::BLOCKS, rate);
        let fetches = network.register(channel::BACKFILL, rate);
        network.start();

        let backfill = backfill::init(
            context.child("backfill"),
            backfill::Config {
                public_key: me.clone(),
                peer_provider: oracle.clone(),
                blocker: oracle.clone(),
                mailbox_size: MAILBOX_SIZE,
                fetch_timeout: NZDuration!(Duration::from_secs(2)),
                fetch_retry_delay: Duration::from_millis(200),
                priority_requests: false,
                priority_responses: false,
            },
            fetches,
        );
        let (broadcast, buffer) = buffered::Engine::new(
            context.child("broadcast"),
            buffered::Config {
                public_key: me,
                mailbox_size: MAILBOX_SIZE,
                deque_size: 16,
                priority: false,
                codec_config: (),
                peer_provider: oracle.clone(),
                strategy: Sequential,
            },
        );
        broadcast.start(blocks);

        let certificate_codec = Scheme::certificate_codec_config_unbounded();
        let finalizations = prunable::Archive::init(
            context.child("finalizations"),
            archive_config("finalizations", &page_cache, certificate_codec),
        )
        .await
        .expect("the archive of finalizations opens");
        let finalized =
            prunable::Archive::init(context.child("finalized"), archive_config("finalized", &page_cache, ()))
                .await
                .expect("the archive of final blocks opens");
        let anchor = Digested::precomputed(codec::EngineBlock(genesis.clone()), genesis.hash().into());
        let (marshal, mailbox, _) = Marshal::init(
            context.child("marshal"),
            finalizations,
            finalized,
            marshal::Config {
                provider: self.committee.clone(),
                epocher: epocher.clone(),
                start: Start::Genesis(anchor),
                partition_prefix: "marshal".into(),
                mailbox_size: MAILBOX_SIZE,
                view_retention: VIEW_RETENTION,
                prunable_items_per_section: ARCHIVE_ITEMS_PER_SECTION,
                page_cache: page_cache.clone(),
                replay_buffer: IO_BUFFER_BYTES,
                key_write_buffer: IO_BUFFER_BYTES,
                value_write_buffer: IO_BUFFER_BYTES,
                block_codec_config: (),
                max_repair: NZUsize!(32),
                max_pending_acks: FINALS_UNWRITTEN_MAX,
                strategy: Sequential,
            },
        )
        .await;
        let inline = Inline::new(context.child("inline"), app.clone(), mailbox, epocher);
        let marshal = marshal.start(app, buffer, backfill);

        let votes = mux(context, "votes", votes, epoch).await;
        let certificates = mux(context, "certificates", certificates, epoch).await;
        let resolver = mux(context, "resolver", resolver, epoch).await;
        let engine = simplex::Engine::new(
            context.child("simplex"),
            simplex::Config {
                scheme: self.committee.scheme(epoch),
                elector: RoundRobin::<Sha256>::default(),
                blocker: oracle,
                automaton: inline.clone(),
                relay: inline.clone(),
                reporter: inline,
                track_historical_votes: false,
                strategy: Sequential,
                partition: votes_partition(epoch),
                mailbox_size: MAILBOX_SIZE,
                epoch,
                floor: Floor::Genesis(floor),
                replay_buffer: IO_BUFFER_BYTES,
                write_buffer: IO_BUFFER_BYTES,
                page_cache,
                leader_timeout: pace.leader_timeout(),
                certification_timeout: pace.certification_timeout(),
                timeout_retry: pace.retry(),
                view_retention: VIEW_RETENTION,
                skip: SkipPolicy::Disabled,
                fetch_timeout: NZDuration!(Duration::from_secs(2)),
                fetch_retry_delay: Duration::from_millis(200),
                forward: ForwardPolicy::Disabled,
            },
        );
        let engine = engine.start(votes, certificates, resolver);
        context.child("watch").spawn(|_| async move {
            tokio::select! {
                _ = marshal => {}
                _ = engine => {}
            }
        })
    }

    /// The validators' network. With a committee of one it has no peers and listens on a loopback port that
    /// the system picks.
    fn network_config(
        &self,
    ) -> lookup::Config<Cups<Sake<commonware_cryptography::secp256r1::standard::PrivateKey>, ChaCha20Poly1305>> {
        let handshake = Cups::new(
            Sake {
                signer: self.committee.key().clone(),
                synchrony_bound: Duration::from_secs(5),
                max_handshake_age: Duration::from_secs(10),
                version: sake::Version::V1,
            },
            cups::Version::V1,
        );
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = lookup::Config::recommended(
            handshake,
            b"gleaner/validators/1",
            listen,
            PEERS_MAX,
            MESSAGE_BYTES_MAX,
            MAILBOX_SIZE,
        );
        config.tracked_peer_sets = NZUsize!(2);
        config.allow_private_ips = true;
        config
    }
}

/// Resolves when only a timeout can help: the engine has not asked for a proposal within `patience`, or was
/// declined one.
async fn stuck(proposing: &mut watch::Receiver<Proposing>, patience: Duration) {
    let asked = proposing.wait_for(|now| *now != Proposing::NotAsked);
    if matches!(tokio::time::timeout(patience, asked).await, Ok(Ok(_))) {
        let declined = proposing.wait_for(|now| *now == Proposing::Declined);
        if declined.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Narrows a channel to one epoch, so that a lagging validator's votes for an older epoch reach nobody
/// instead of being taken for an attack.
async fn mux<S, R>(
    context: &Runtime,
    name: &'static str,
    (sender, receiver): (S, R),
    epoch: Epoch,
) -> (commonware_p2p::utils::mux::SubSender<S>, commonware_p2p::utils::mux::SubReceiver<S::PublicKey>)
where
    S: commonware_p2p::Sender,
    R: commonware_p2p::Receiver<PublicKey = S::PublicKey>,
{
    let (muxer, mut handle): (_, MuxHandle<S>) = Muxer::new(context.child(name), sender, receiver);
    muxer.start();
    handle.register(epoch.get()).await.expect("a fresh multiplexer has no subchannels")
}

fn votes_partition(epoch: Epoch) -> String {
    format!("votes-{}", epoch.get())
}

/// Removes the journal of the epoch before last: its blocks are final and on disk.
async fn forget_old_epoch(context: &Runtime, epoch: Epoch) {
    if let Some(old) = epoch.previous().and_then(|epoch| epoch.previous()) {
        // Absent after the first time; any other error only costs disk space.
        let _ = context.remove(&votes_partition(old), None).await;
    }
}

fn archive_config<C>(name: &str, page_cache: &CacheRef, codec_config: C) -> prunable::Config<TwoCap, C> {
    prunable::Config {
        translator: TwoCap,
        metadata_partition: format!("{name}-metadata"),
        key_partition: format!("{name}-key"),
        key_page_cache: page_cache.clone(),
        value_partition: format!("{name}-value"),
        compression: None,
        codec_config,
        items_per_section: ARCHIVE_ITEMS_PER_SECTION,
        key_write_buffer: IO_BUFFER_BYTES,
        value_write_buffer: IO_BUFFER_BYTES,
        replay_buffer: IO_BUFFER_BYTES,
    }
}
