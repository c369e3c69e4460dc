//! The wiring board: how network, marshal and votes of one epoch are joined. Each wire is drawn once, here, for
//! whatever ground the engine stands on and whatever lines lead to the other validators.

use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use commonware_broadcast::buffered;
use commonware_consensus::marshal::core::Actor as Marshal;
use commonware_consensus::marshal::resolver::p2p as backfill;
use commonware_consensus::marshal::standard::{Inline, Standard};
use commonware_consensus::marshal::{self, Start};
use commonware_consensus::simplex::elector::RoundRobin;
use commonware_consensus::simplex::{self, Floor, ForwardPolicy, SkipPolicy};
use commonware_consensus::types::{Epoch, Epocher as _, FixedEpocher, Height, ViewDelta};
use commonware_cryptography::certificate::Verifier as _;
use commonware_cryptography::{Digested, Sha256};
use commonware_p2p::utils::mux::{Builder as _, MuxHandle, Muxer, SubReceiver, SubSender};
use commonware_p2p::{Message, Receiver, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::Handle;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_storage::archive::prunable;
use commonware_storage::translator::TwoCap;
use commonware_utils::channel::mpsc;
use commonware_utils::vec::NonEmptyVec;
use commonware_utils::{NZDuration, NZU16, NZU64, NZUsize};

use super::app::App;
use super::codec;
use super::committee::{Committee, PublicKey, Scheme};
use super::gossip::gossip;
use super::ground::{Ground, Pace};
use super::lines::{Lines, MAILBOX_SIZE};
use crate::block::SealedBlock;

const PAGE_BYTES: NonZeroU16 = NZU16!(4_096);
const PAGE_CACHE_PAGES: NonZeroUsize = NZUsize!(512);
const IO_BUFFER_BYTES: NonZeroUsize = NZUsize!(64 * 1024);
const ARCHIVE_ITEMS_PER_SECTION: NonZeroU64 = NZU64!(1_024);
/// Final blocks handed over before the first of them is on disk.
const FINALS_UNWRITTEN_MAX: NonZeroUsize = NZUsize!(16);
/// Views kept behind the last final one, for peers that lag.
const VIEW_RETENTION: ViewDelta = ViewDelta::new(64);

/// What the engine of one epoch is made from.
pub(super) struct Plan {
    pub(super) committee: Committee,
    pub(super) epoch: Epoch,
    pub(super) epocher: FixedEpocher,
    pub(super) pace: Pace,
    pub(super) app: App,
    pub(super) genesis: Arc<SealedBlock>,
    /// The last block of the epoch before.
    pub(super) floor: codec::Digest,
    /// Before the name of each of its files.
    pub(super) prefix: String,
}

impl Plan {
    /// Starts network, marshal and votes; the returned handle ends when any part of the engine does.
    pub(super) async fn start<E: Ground, L: Lines<E>>(self, context: &E, lines: &L) -> Handle<()> {
        let Self { committee, epoch, epocher, pace, app, genesis, floor, prefix } = self;
        let me = committee.me();
        let page_cache = CacheRef::new(PAGE_BYTES, PAGE_CACHE_PAGES);
        let (peers, blocker, channels) = lines.open(context.child("network"), epoch, committee.at(epoch)).await;
        let [votes, certificates, resolver, blocks, fetches, transactions] = channels;
        gossip(context.child("gossip"), app.keeper.clone(), transactions);
        let backfill = backfill::init(
            context.child("backfill"),
            backfill::Config {
                public_key: me.clone(),
                peer_provider: peers.clone(),
                blocker: blocker.clone(),
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
                peer_provider: peers,
                strategy: Sequential,
            },
        );
        broadcast.start(blocks);

        let certificate_codec = Scheme::certificate_codec_config_unbounded();
        let finalizations = prunable::Archive::init(
            context.child("finalizations"),
            archive_config(format!("{prefix}finalizations"), &page_cache, certificate_codec),
        )
        .await
        .expect("the archive of finalizations opens");
        let finalized = prunable::Archive::init(
            context.child("finalized"),
            archive_config(format!("{prefix}finalized"), &page_cache, ()),
        )
        .await
        .expect("the archive of final blocks opens");
        let anchor = Digested::precomputed(codec::EngineBlock(genesis.clone()), genesis.hash().into());
        let (marshal, mailbox, _) = Marshal::init(
            context.child("marshal"),
            finalizations,
            finalized,
            marshal::Config {
                provider: committee.clone(),
                epocher: epocher.clone(),
                start: Start::Genesis(anchor),
                partition_prefix: format!("{prefix}marshal"),
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
        let last = epocher.last(epoch).expect("a known epoch has a last block");
        let inline = Inline::new(context.child("inline"), app.clone(), mailbox.clone(), epocher);
        let marshal = marshal.start(app, buffer, backfill);

        let (votes, of_other_epochs) = mux_and_rest(context, votes, epoch).await;
        context.child("lagging").spawn(move |_| catch_up(mailbox, of_other_epochs, epoch, last));
        let certificates = mux(context, "certificates", certificates, epoch).await;
        let resolver = mux(context, "resolver", resolver, epoch).await;
        let engine = simplex::Engine::new(
            context.child("simplex"),
            simplex::Config {
                scheme: committee.scheme(epoch),
                elector: RoundRobin::<Sha256>::default(),
                blocker,
                automaton: inline.clone(),
                relay: inline.clone(),
                reporter: inline,
                track_historical_votes: false,
                strategy: Sequential,
                partition: votes_partition(&prefix, epoch),
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
                biased;
                _ = marshal => {}
                _ = engine => {}
            }
        })
    }
}

/// Narrows a channel to one epoch, so that a lagging validator's votes for an older epoch reach nobody
/// instead of being taken for an attack.
pub(super) async fn mux<E, S, R>(
    context: &E,
    name: &'static str,
    (sender, receiver): (S, R),
    epoch: Epoch,
) -> (SubSender<S>, SubReceiver<S::PublicKey>)
where
    E: Ground,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let (muxer, mut handle): (_, MuxHandle<S>) = Muxer::new(context.child(name), sender, receiver);
    muxer.start();
    handle.register(epoch.get()).await.expect("a fresh multiplexer has no subchannels")
}

/// The same for votes, and what comes for other epochs.
async fn mux_and_rest<E, S, R>(
    context: &E,
    (sender, receiver): (S, R),
    epoch: Epoch,
) -> ((SubSender<S>, SubReceiver<S::PublicKey>), Rest<R>)
where
    E: Ground,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let (muxer, mut handle, rest): (_, MuxHandle<S>, _) =
        Muxer::builder(context.child("votes"), sender, receiver).with_backup().build();
    muxer.start();
    (handle.register(epoch.get()).await.expect("a fresh multiplexer has no subchannels"), rest)
}

type Rest<R> = mpsc::Receiver<(u64, Message<<R as Receiver>::PublicKey>)>;

/// A validator that missed the end of its epoch hears nothing of it any more: the others are in the next one. Whoever votes
/// there has our epoch's last final block, and all before it.
async fn catch_up(
    mailbox: marshal::core::Mailbox<Scheme, Standard<codec::EngineBlock>>,
    mut of_other_epochs: mpsc::Receiver<(u64, Message<PublicKey>)>,
    epoch: Epoch,
    last: Height,
) {
    while let Some((theirs, (validator, _))) = of_other_epochs.recv().await {
        if theirs > epoch.get() {
            mailbox.hint_finalized(last, NonEmptyVec::new(validator));
        }
    }
}

fn votes_partition(prefix: &str, epoch: Epoch) -> String {
    format!("{prefix}votes-{}", epoch.get())
}

/// Removes the journal of the epoch before last: its blocks are final and on disk.
pub(super) async fn forget_old_epoch(context: &impl Ground, prefix: &str, epoch: Epoch) {
    if let Some(old) = epoch.previous().and_then(|epoch| epoch.previous()) {
        // Absent after the first time; any other error only costs disk space.
        let _ = context.remove(&votes_partition(prefix, old), None).await;
    }
}

fn archive_config<C>(name: String, page_cache: &CacheRef, codec_config: C) -> prunable::Config<TwoCap, C> {
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
