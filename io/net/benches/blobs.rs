//! Content between two nodes beside a plain copy of the same file over TCP, in the same process: read from a file, sent over
//! loopback, written to a file, synced. Ours is encrypted and checked against its hash on the way.
//!
//! `cargo bench --bench blobs`; `GLEAN_BLOB_MIB` for another size. Paired: each round measures both, in turn.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops here")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use glean_net::{BlobsAt, Net, NetConfig};
use tokio::io::AsyncWriteExt;

const ROUNDS: u8 = 3;

async fn node(seed: u8, folder: &Path) -> Net {
    let mut config = NetConfig::new([seed; 32]);
    config.bind = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    config.blobs = BlobsAt::Folder(folder.to_owned());
    Net::bind(config).await.unwrap()
}

/// Ours: from one node's folder into another's.
async fn ours(seed: u8, from: &Path, to: &Path) -> Duration {
    let (sender, receiver) = (node(seed, &to.join("sender")).await, node(seed + 1, &to.join("receiver")).await);
    let hash = sender.blobs().unwrap().put_file(from).await.unwrap();
    let start = Instant::now();
    receiver.blobs().unwrap().fetch(hash, &[sender.addr()], u64::MAX, |_| {}).await.unwrap();
    receiver.blobs().unwrap().sync().await.unwrap();
    let took = start.elapsed();
    sender.close().await;
    receiver.close().await;
    took
}

/// A plain copy.
async fn tcp(from: &Path, to: &Path) -> Duration {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (mut source, mut target) =
        (tokio::fs::File::open(from).await.unwrap(), tokio::fs::File::create(to.join("copy")).await.unwrap());
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::copy_buf(&mut tokio::io::BufReader::with_capacity(1 << 20, &mut source), &mut stream).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::io::copy_buf(&mut tokio::io::BufReader::with_capacity(1 << 20, &mut stream), &mut target).await.unwrap();
    target.sync_all().await.unwrap();
    let took = start.elapsed();
    sending.await.unwrap();
    took
}

fn main() {
    let mib: u64 = std::env::var("GLEAN_BLOB_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(1024);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("content");
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut out = std::fs::File::create(&file).unwrap();
    std::io::copy(&mut std::io::Read::take(&mut noise, mib << 20), &mut out).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let to = tempfile::tempdir_in(folder.path()).unwrap();
            let (ours, tcp) =
                runtime.block_on(async { (ours(2 * round + 1, &file, to.path()).await, tcp(&file, to.path()).await) });
            println!("round {round}: {mib} MiB in {ours:.2?}, plain TCP in {tcp:.2?}");
            tcp.as_secs_f64() / ours.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("blobs: {mib} MiB at {:.3} of plain TCP", ratios[ratios.len() / 2]);
}
