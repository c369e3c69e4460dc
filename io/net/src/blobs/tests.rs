//! Content between real nodes on loopback: kept across restarts, fetched from whoever has it, resumed, and refused when
//! one byte is wrong.

use std::sync::Mutex;

use iroh_blobs::api::blobs::AddBytesOptions;
use iroh_blobs::protocol::{ChunkRangesSeq, GetManyRequest, PushRequest};

use super::*;
use crate::testing::{config, introduce, soon};
use crate::{Net, NetConfig};

const MIB: usize = 1 << 20;

async fn keeper(seed: u8, blobs: BlobsAt, limits: NetLimits) -> Net {
    Net::bind(NetConfig { blobs, limits, ..config(seed) }).await.unwrap()
}

async fn in_memory(seed: u8) -> Net {
    keeper(seed, BlobsAt::Memory, NetLimits::default()).await
}

async fn in_folder(seed: u8, folder: &tempfile::TempDir) -> Net {
    keeper(seed, BlobsAt::Folder(folder.path().to_owned()), NetLimits::default()).await
}

fn blobs(net: &Net) -> &Blobs {
    net.blobs().expect("configured to keep content")
}

/// Bytes without a pattern that storage could fold.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

async fn fetch(to: &Net, hash: Hash, from: &[&Net]) -> Result<u64, FetchError> {
    let providers: Vec<_> = from.iter().map(|net| net.addr()).collect();
    soon(blobs(to).fetch(hash, &providers, u64::MAX, |_| {})).await
}

async fn close(nets: impl IntoIterator<Item = Net>) {
    for net in nets {
        soon(net.close()).await;
    }
}

#[tokio::test]
async fn content_is_kept_by_its_hash_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let (small, large) = (noise(100, 1), noise(3 * MIB + 17, 2));
    std::fs::write(files.path().join("in"), &large).unwrap();
    let a = in_folder(1, &folder).await;
    let small_hash = blobs(&a).put(small.clone()).await.unwrap();
    let large_hash = blobs(&a).put_file(&files.path().join("in")).await.unwrap();
    assert_eq!((small_hash, large_hash), (Hash::of(&small), Hash::of(&large)));
    std::fs::write(files.path().join("in"), "changed afterwards").unwrap();
    close([a]).await;
    let a = in_folder(1, &folder).await;
    assert_eq!(blobs(&a).get(small_hash, 100).await.unwrap(), small);
    assert_eq!(blobs(&a).size(large_hash).await.unwrap(), Some(large.len() as u64));
    blobs(&a).export(large_hash, &files.path().join("out")).await.unwrap();
    assert_eq!(std::fs::read(files.path().join("out")).unwrap(), large);
    let over = blobs(&a).get(small_hash, 99).await.unwrap_err();
    assert!(matches!(over, BlobError::TooLarge { size: 100, size_max: 99, .. }), "{over:?}");
    let missing = Hash::of(b"never put");
    assert!(!blobs(&a).has(missing).await.unwrap());
    assert!(matches!(blobs(&a).get(missing, 1).await, Err(BlobError::Missing(_))));
    assert!(matches!(blobs(&a).export(missing, &files.path().join("no")).await, Err(BlobError::Missing(_))));
    assert!(matches!(blobs(&a).put_file(&files.path().join("no")).await, Err(BlobError::File { .. })));
    close([a]).await;
}

#[tokio::test]
async fn one_folder_belongs_to_one_node() {
    let folder = tempfile::tempdir().unwrap();
    let a = in_folder(1, &folder).await;
    let at = BlobsAt::Folder(folder.path().to_owned());
    let second = Net::bind(NetConfig { blobs: at, ..config(2) }).await.unwrap_err();
    assert!(format!("{:#?}", second).contains("Open"), "{second:?}");
    close([a]).await;
    let again = in_folder(2, &folder).await;
    close([again]).await;
}

#[tokio::test]
async fn a_provider_passes_on_what_it_fetched_when_the_first_is_gone() {
    let (a, b, c) = (in_memory(1).await, in_memory(2).await, in_memory(3).await);
    let content = noise(MIB, 3);
    let hash = blobs(&a).put(content.clone()).await.unwrap();
    assert_eq!(fetch(&b, hash, &[&a]).await.unwrap(), MIB as u64);
    let first = a.addr();
    close([a]).await;
    // The first named provider is gone, the second has it.
    let seen = Mutex::new(Vec::new());
    let providers = [first, b.addr()];
    let impatient =
        keeper(4, BlobsAt::Memory, NetLimits { dial_timeout: Duration::from_secs(2), ..NetLimits::default() }).await;
    let got = blobs(&impatient).fetch(hash, &providers, u64::MAX, |progress| seen.lock().unwrap().push(progress));
    assert_eq!(soon(got).await.unwrap(), MIB as u64);
    assert_eq!(blobs(&impatient).get(hash, u64::MAX).await.unwrap(), content);
    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted_by_key(|p| p.have) && seen.iter().all(|p| p.size == MIB as u64 && p.have <= p.size));
    assert_eq!(fetch(&c, hash, &[&impatient]).await.unwrap(), MIB as u64);
    let nobody = fetch(&c, Hash::of(b"nowhere"), &[&b]).await.unwrap_err();
    assert!(matches!(nobody, FetchError::AllFailed { .. }), "{nobody:?}");
    assert!(matches!(fetch(&c, Hash::of(b"nowhere"), &[]).await, Err(FetchError::NoProvider(_))));
    assert_eq!(fetch(&c, hash, &[]).await.unwrap(), MIB as u64, "what is here needs nobody");
    close([b, c, impatient]).await;
}

/// Goal: a receiver that dies half way through does not start again. Method: a slow sender; the fetch is
/// dropped once half has arrived, and the receiver's store is closed and opened again.
#[tokio::test]
async fn a_fetch_goes_on_where_it_was_broken_off() {
    let size = 8 * MIB;
    let slow = NetLimits { blob_bytes_per_second: 16 * MIB as u64, ..NetLimits::default() };
    let a = keeper(1, BlobsAt::Memory, slow).await;
    let content = noise(size, 4);
    let hash = blobs(&a).put(content.clone()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let b = in_folder(2, &folder).await;
    let (half_way, mut half) = tokio::sync::mpsc::channel(1);
    let providers = [a.addr()];
    let fetching = blobs(&b).fetch(hash, &providers, u64::MAX, |progress| {
        if progress.have >= size as u64 / 2 {
            let _ = half_way.try_send(progress.have);
        }
    });
    let had = tokio::select! {
        done = fetching => panic!("ended before half way: {done:?}"),
        had = half.recv() => had.unwrap(),
    };
    assert!(!blobs(&b).has(hash).await.unwrap());
    close([b]).await;
    let b = in_folder(2, &folder).await;
    let first = Mutex::new(None);
    let going_on = blobs(&b).fetch(hash, &providers, u64::MAX, |progress| {
        first.lock().unwrap().get_or_insert(progress.have);
    });
    assert_eq!(soon(going_on).await.unwrap(), size as u64);
    assert_eq!(blobs(&b).get(hash, u64::MAX).await.unwrap(), content);
    let fetched = b.stats().blob_bytes_fetched;
    assert!(fetched < size as u64 / 2 + MIB as u64, "{fetched} bytes again although {had} were there");
    assert!(first.into_inner().unwrap().unwrap() > size as u64 / 2 - MIB as u64, "progress counts what was there");
    close([a, b]).await;
}

/// Goal: not one wrong byte is ever delivered. Method: flip a byte in the sender's file behind its back.
#[tokio::test]
async fn one_wrong_byte_at_the_sender_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let content = noise(MIB, 5);
    let a = in_folder(1, &folder).await;
    let hash = blobs(&a).put(content.clone()).await.unwrap();
    close([a]).await;
    let file = folder.path().join("data").join(format!("{hash}.data"));
    let mut stored = std::fs::read(&file).unwrap();
    assert_eq!(stored, content);
    stored[700_000] ^= 1;
    std::fs::write(&file, stored).unwrap();
    let (a, honest, b) = (in_folder(1, &folder).await, in_memory(2).await, in_memory(3).await);
    let refused = fetch(&b, hash, &[&a]).await.unwrap_err();
    assert!(matches!(refused, FetchError::AllFailed { .. }), "{refused:?}");
    assert!(!blobs(&b).has(hash).await.unwrap());
    assert!(matches!(blobs(&b).get(hash, u64::MAX).await, Err(BlobError::Missing(_))));
    blobs(&honest).put(content.clone()).await.unwrap();
    fetch(&b, hash, &[&a, &honest]).await.unwrap();
    assert_eq!(blobs(&b).get(hash, u64::MAX).await.unwrap(), content);
    close([a, honest, b]).await;
}

#[tokio::test]
async fn content_over_the_limit_is_not_begun() {
    let (a, b) = (in_memory(1).await, in_memory(2).await);
    let hash = blobs(&a).put(noise(MIB, 6)).await.unwrap();
    let providers = [a.addr()];
    let refused = soon(blobs(&b).fetch(hash, &providers, MIB as u64 - 1, |_| {})).await.unwrap_err();
    assert!(matches!(refused, FetchError::TooLarge { size, .. } if size == MIB as u64), "{refused:?}");
    assert_eq!(b.stats().blob_bytes_fetched, 0);
    soon(blobs(&b).fetch(hash, &providers, MIB as u64, |_| {})).await.unwrap();
    let late = soon(blobs(&b).fetch(hash, &providers, 5, |_| {})).await.unwrap_err();
    assert!(matches!(late, FetchError::TooLarge { .. }), "the limit holds for what is here, too");
    close([a, b]).await;
}

#[tokio::test]
async fn strangers_read_single_blobs_and_nothing_else() {
    let (a, b) = (in_memory(1).await, in_memory(2).await);
    let hash = blobs(&a).put(noise(1000, 7)).await.unwrap();
    introduce(&b, &a);
    let connection = soon(blobs(&b).pool.connect(a.id(), Alpn::Blobs)).await.unwrap();
    let remote = blobs(&b).store.remote();
    let many = GetManyRequest::from_iter([ours(hash)]);
    assert!(soon(remote.execute_get_many(connection.clone(), many).complete()).await.is_err());
    let options = AddBytesOptions { data: Bytes::from(ours(hash).as_bytes().to_vec()), format: BlobFormat::HashSeq };
    let sequence = *blobs(&a).store.blobs().add_bytes_with_opts(options).temp_tag().await.unwrap().hash().as_bytes();
    let whole = HashAndFormat::hash_seq(iroh_blobs::Hash::from_bytes(sequence));
    assert!(soon(remote.fetch(connection.clone(), whole).complete()).await.is_err());
    // What b has, it cannot push onto a.
    let planted = blobs(&b).put(noise(1000, 8)).await.unwrap();
    let push = PushRequest::new(ours(planted), ChunkRangesSeq::root());
    let _ = soon(remote.execute_push(connection.clone(), push).complete()).await;
    fetch(&b, hash, &[&a]).await.expect("one blob is served");
    assert!(!blobs(&a).has(planted).await.unwrap());
    // One request to learn the size, one for the content; of the refused, only the sequence got as far as us.
    assert_eq!((a.stats().blob_requests, a.stats().blob_requests_refused), (2, 1));
    close([a, b]).await;
}

#[tokio::test]
async fn no_more_requests_at_once_than_there_is_room_for() {
    let closed = keeper(1, BlobsAt::Memory, NetLimits { blob_requests_max: 0, ..NetLimits::default() }).await;
    let hash = blobs(&closed).put(noise(1000, 9)).await.unwrap();
    let b = in_memory(2).await;
    assert!(matches!(fetch(&b, hash, &[&closed]).await, Err(FetchError::AllFailed { .. })));
    let without = Net::bind(config(3)).await.unwrap();
    assert!(without.blobs().is_none());
    assert!(
        matches!(fetch(&b, hash, &[&without]).await, Err(FetchError::AllFailed { .. })),
        "who keeps nothing serves nothing"
    );
    assert_eq!(closed.stats().blob_requests_refused, 1);
    close([closed, b, without]).await;
}

#[tokio::test]
async fn deleted_content_is_swept_and_kept_content_is_not() {
    let every = Duration::from_millis(20);
    let store = open_store(&BlobsAt::Memory, every).await.unwrap().unwrap();
    let limits = NetLimits::default();
    let net = Net::bind(config(1)).await.unwrap();
    let pool = Pool::new(net.endpoint().clone(), crate::AddressBook::new(1), &limits, Arc::default());
    let blobs = Blobs {
        store,
        pool,
        patience: every,
        events: admission::spawn(&limits, Arc::default()),
        counters: Arc::default(),
    };
    let (kept, given_up) = (blobs.put(noise(1000, 1)).await.unwrap(), blobs.put(noise(1000, 2)).await.unwrap());
    blobs.delete(given_up).await.unwrap();
    soon(async {
        while blobs.has(given_up).await.unwrap() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(blobs.has(kept).await.unwrap());
    blobs.shutdown().await;
    close([net]).await;
}

/// Content that is worth more than one provider; the bar's size comes from outside.
fn large() -> usize {
    std::env::var("GLEAN_BLOB_MIB").ok().and_then(|text| text.parse::<usize>().ok()).unwrap_or(64) * MIB
}

/// Goal: three providers share the work, a liar among them is found out, and who dies half way goes on. Method: three slow
/// senders, one with a wrong byte on its disk; the receiver is closed half way and opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_providers_deliver_at_once_and_one_wrong_byte_is_refused() {
    let size = large();
    let content = noise(size, 9);
    let slow = NetLimits { blob_bytes_per_second: 64 * MIB as u64, ..NetLimits::default() };
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut senders = Vec::new();
    for (seed, folder) in (1..).zip(&folders) {
        senders.push(keeper(seed, BlobsAt::Folder(folder.path().to_owned()), slow.clone()).await);
    }
    let mut hash = Hash::default();
    for sender in &senders {
        hash = blobs(sender).put(content.clone()).await.unwrap();
    }
    // The third goes, and comes back with one byte wrong.
    close(senders.pop()).await;
    let file = folders[2].path().join("data").join(format!("{hash}.data"));
    let mut stored = std::fs::read(&file).unwrap();
    // In every piece: nobody knows which it will be asked for.
    for place in (0..size).step_by(4 * MIB) {
        stored[place] ^= 1;
    }
    std::fs::write(&file, stored).unwrap();
    senders.push(keeper(3, BlobsAt::Folder(folders[2].path().to_owned()), slow.clone()).await);

    let folder = tempfile::tempdir().unwrap();
    let receiver = in_folder(4, &folder).await;
    let providers: Vec<_> = senders.iter().map(Net::addr).collect();
    let (half_way, mut half) = tokio::sync::mpsc::channel(1);
    let fetching = blobs(&receiver).fetch(hash, &providers, u64::MAX, |progress| {
        if progress.have >= size as u64 / 2 {
            let _ = half_way.try_send(progress.have);
        }
    });
    let had = tokio::select! {
        done = fetching => panic!("ended before half way: {done:?}"),
        had = half.recv() => had.unwrap(),
    };
    close([receiver]).await;
    let receiver = in_folder(4, &folder).await;
    let seen = Mutex::new(Vec::new());
    let going_on =
        blobs(&receiver).fetch(hash, &providers, u64::MAX, |progress| seen.lock().unwrap().push(progress.have));
    assert_eq!(soon(going_on).await.unwrap(), size as u64);
    assert!(blobs(&receiver).get(hash, u64::MAX).await.unwrap() == content);
    let again = receiver.stats().blob_bytes_fetched;
    // What was on its way when the receiver closed, and what the liar sent for nothing.
    let spare = 3 * 8 * MIB as u64 + MIB as u64;
    assert!(again < size as u64 - had + spare, "{again} bytes fetched again although {had} of {size} were there");
    let asked: Vec<u64> = senders.iter().map(|sender| sender.stats().blob_requests).collect();
    assert!(asked[0] > 2 && asked[1] > 2, "one did all the work: {asked:?}");
    println!(
        r#"BAR {{"bar":"blobs","what":"content of {} MiB from three providers at once, one with wrong bytes on its disk, the receiver closed half way: bytes that were wrong, or fetched again","runs":1,"control":"what the liar has is refused when it is alone","note":"{had} of {size} bytes were there, {again} came after; requests to each: {asked:?}"}}"#,
        size / MIB
    );
    // Control: alone, the liar cannot deliver.
    let alone = in_memory(5).await;
    assert!(fetch(&alone, hash, &[&senders[2]]).await.is_err());
    close(senders.into_iter().chain([receiver, alone])).await;
}
