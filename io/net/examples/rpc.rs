//! How fast two nodes on this machine talk, and what a node costs that only waits.
//!
//! `cargo run --release -p glean-net --example rpc [SECONDS_PER_ROW]`. Both ends share this process and its
//! cores, so two machines will show other figures. Everything goes over QUIC on 127.0.0.1.

use std::error::Error;
use std::time::{Duration, Instant};

use futures::future::join_all;
use glean_net::{Alpn, BlobsAt, Incoming, Net, NetConfig, NetLimits};
use glean_types::NodeId;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ANSWER_MAX: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
const BLOB_BYTES: usize = 256 << 20;

#[tokio::main]
async fn main() -> Outcome<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(3), |arg| arg.parse())?;
    let row = Duration::from_secs(seconds);
    idle_memory().await?;
    let (a, b) = (bind(1, BlobsAt::Nowhere).await?, bind(2, BlobsAt::Nowhere).await?);
    a.add_peer(b.addr());
    tokio::spawn(echo(b.clone()));
    println!("{:<44} {:>10} {:>10} {:>10}", "what", "per s", "p50 us", "p99 us");
    for (concurrency, bytes) in [(1, 128), (16, 128), (64, 128), (256, 128), (64, 4 << 10), (64, 32 << 10)] {
        requests(&a, b.id(), concurrency, bytes, row).await?;
    }
    for bytes in [128, 4 << 10, 256 << 10] {
        // As a task of its own, like every loop of a node: the main thread is woken up more slowly.
        tokio::spawn(ping_pong(a.clone(), b.id(), bytes, row)).await??;
    }
    one_way(&a, b.id(), 128, row).await?;
    one_way(&a, b.id(), 256 << 10, row).await?;
    a.close().await;
    b.close().await;
    blobs().await?;
    flood(row).await
}

async fn bind(seed: u8, blobs: BlobsAt) -> Outcome<Net> {
    let limits = NetLimits { requests_per_second: u32::MAX, requests_burst: u32::MAX, ..NetLimits::default() };
    let bind = vec!["127.0.0.1:0".parse()?];
    Ok(Net::bind(NetConfig { bind, limits, blobs, ..NetConfig::new([seed; 32]) }).await?)
}

async fn echo(net: Net) {
    while let Some(incoming) = net.accept().await {
        match incoming {
            Incoming::Rpc { request, reply, .. } | Incoming::Index { request, reply, .. } => {
                tokio::spawn(async move { reply.send(&request).await });
            }
            Incoming::Work(mut session) => {
                tokio::spawn(async move {
                    while let Ok(Some(message)) = session.recv().await {
                        if session.send(&message).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    }
}

async fn requests(a: &Net, to: NodeId, concurrency: usize, bytes: usize, row: Duration) -> Outcome<()> {
    let begun = Instant::now();
    let askers = (0..concurrency).map(|_| {
        let (a, body) = (a.clone(), vec![7; bytes]);
        tokio::spawn(async move {
            let mut took = Vec::new();
            while begun.elapsed() < row {
                let asked = Instant::now();
                a.request(to, Alpn::Rpc, &body, ANSWER_MAX, PATIENCE).await?;
                took.push(asked.elapsed());
            }
            Outcome::Ok(took)
        })
    });
    let mut took = Vec::new();
    for asker in join_all(askers).await {
        took.extend(asker??);
    }
    print_row(&format!("request, {concurrency} at once, {bytes} B"), took, begun.elapsed());
    Ok(())
}

async fn ping_pong(a: Net, to: NodeId, bytes: usize, row: Duration) -> Outcome<()> {
    let mut session = a.open_work(to).await?;
    let body = vec![7; bytes];
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < row {
        let sent = Instant::now();
        session.send(&body).await?;
        session.recv().await?.ok_or("the session ended")?;
        took.push(sent.elapsed());
    }
    print_row(&format!("session, ping-pong, {bytes} B"), took, begun.elapsed());
    Ok(())
}

async fn one_way(a: &Net, to: NodeId, bytes: usize, row: Duration) -> Outcome<()> {
    let (mut sender, mut receiver) = a.open_work(to).await?.split();
    let begun = Instant::now();
    let sending = tokio::spawn(async move {
        let body = vec![7; bytes];
        while begun.elapsed() < row {
            sender.send(&body).await?;
        }
        sender.finish().await?;
        Outcome::Ok(())
    });
    let mut messages = 0u32;
    while let Ok(Some(_)) = receiver.recv().await {
        messages += 1;
    }
    sending.await??;
    let per_second = f64::from(messages) / begun.elapsed().as_secs_f64();
    let mib = per_second * bytes as f64 / f64::from(1 << 20);
    println!(
        "{:<44} {:>10.0} {:>10} {mib:>6.0} MiB/s each way",
        format!("session, echoed stream, {bytes} B"),
        per_second,
        ""
    );
    Ok(())
}

fn print_row(what: &str, mut took: Vec<Duration>, elapsed: Duration) {
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).map_or(0, |d| d.as_micros());
    let per_second = took.len() as f64 / elapsed.as_secs_f64();
    println!("{what:<44} {per_second:>10.0} {:>10} {:>10}", at(50), at(99));
}

/// Resident memory of endpoints that only wait.
async fn idle_memory() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let start = resident_kib();
    println!("{:<44} {start:>10} KiB resident", "this process before any network");
    let plain = bind(3, BlobsAt::Nowhere).await?;
    println!("{:<44} {:>10} KiB more", "an idle endpoint", resident_kib() - start);
    let before = resident_kib();
    let keeper = bind(4, BlobsAt::Folder(folder.path().to_owned())).await?;
    println!("{:<44} {:>10} KiB more", "an idle endpoint with a store on disk", resident_kib() - before);
    plain.close().await;
    keeper.close().await;
    Ok(())
}

async fn blobs() -> Outcome<()> {
    let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let a = bind(5, BlobsAt::Folder(from.path().to_owned())).await?;
    let b = bind(6, BlobsAt::Folder(to.path().to_owned())).await?;
    let (here, there) = (a.blobs().ok_or("no store")?, b.blobs().ok_or("no store")?);
    let mut took = Vec::new();
    let begun = Instant::now();
    for i in 0..200u32 {
        let put = Instant::now();
        here.put(vec![(i % 251) as u8; 1000 + i as usize]).await?;
        took.push(put.elapsed());
    }
    print_row("put of 1 KB, one after the other", took, begun.elapsed());
    let mut took = Vec::new();
    let begun = Instant::now();
    let providers = [a.addr()];
    for i in 0..200u32 {
        let hash = glean_types::Hash::of(&vec![(i % 251) as u8; 1000 + i as usize]);
        let fetch = Instant::now();
        there.fetch(hash, &providers, u64::MAX, |_| {}).await?;
        took.push(fetch.elapsed());
    }
    print_row("fetch of 1 KB, one after the other", took, begun.elapsed());
    let mut large = vec![0; BLOB_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut large);
    let begun = Instant::now();
    let hash = here.put(large).await?;
    mib_per_second("put of 256 MiB", begun.elapsed());
    let begun = Instant::now();
    there.fetch(hash, &providers, u64::MAX, |_| {}).await?;
    mib_per_second("fetch of 256 MiB, disk to disk, checked", begun.elapsed());
    a.close().await;
    b.close().await;
    Ok(())
}

/// What an honest node notices of a stranger that floods the same node with requests.
async fn flood(row: Duration) -> Outcome<()> {
    let server = Net::bind(NetConfig { bind: vec!["127.0.0.1:0".parse()?], ..NetConfig::new([7; 32]) }).await?;
    let (honest, stranger) = (bind(8, BlobsAt::Nowhere).await?, bind(9, BlobsAt::Nowhere).await?);
    honest.add_peer(server.addr());
    stranger.add_peer(server.addr());
    tokio::spawn(echo(server.clone()));
    let to = server.id();
    let calm = tokio::spawn(paced(honest.clone(), to, row)).await??;
    print_row("request, paced, nobody else there", calm, row);
    let flooding = tokio::spawn(async move {
        let body = vec![7; 512];
        let askers = (0..64).map(|_| async {
            loop {
                // Refusals are what the flood is meant to get.
                let _ = stranger.request(to, Alpn::Rpc, &body, ANSWER_MAX, PATIENCE).await;
            }
        });
        join_all(askers).await;
    });
    let flooded = tokio::spawn(paced(honest.clone(), to, row)).await??;
    print_row("request, paced, beside a flood", flooded, row);
    flooding.abort();
    println!("{:<44} {:>10}", "of the flood's requests were refused", server.stats().rate_limited);
    honest.close().await;
    server.close().await;
    Ok(())
}

/// One request every two milliseconds: an honest node, not a load.
async fn paced(a: Net, to: NodeId, row: Duration) -> Outcome<Vec<Duration>> {
    let (begun, mut took) = (Instant::now(), Vec::new());
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    while begun.elapsed() < row {
        tick.tick().await;
        let asked = Instant::now();
        a.request(to, Alpn::Rpc, &[7; 128], ANSWER_MAX, PATIENCE).await?;
        took.push(asked.elapsed());
    }
    Ok(took)
}

fn mib_per_second(what: &str, took: Duration) {
    println!("{what:<44} {:>10.0} MiB/s", BLOB_BYTES as f64 / f64::from(1 << 20) / took.as_secs_f64());
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
