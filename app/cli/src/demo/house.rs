//! The demo's processes: five homes below one folder, five children, and no way to leave one behind.
//!
//! A child stops when its standard input ends, which the operating system sees to however we end. A lock keeps
//! a second demo out of the folder. Homes are kept, so a second run goes on where the first one was.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use glean_node::api::types::{NetworkInfo, ShareRequest};
use glean_node::home::Home;
use glean_node::settings::{Machine, Settings, Share};
use hyper::Method;

use crate::client::{Client, spawn_node, wait_ready};
use crate::commands::{join_blocking, stop_node};
use crate::fail::Fail;

/// The providers, the last of which lies.
pub const PROVIDERS: [&str; 3] = ["p1", "p2", "p3"];
/// The ledger node.
pub const LEDGER: &str = "ledger";
/// The requester.
pub const REQUESTER: &str = "you";
/// One answer in this many of the liar is wrong. All its first ten are run again: with 4 it got through them honestly in one demo of
/// 18 and was paid for a lie before it was caught, with 2 in one of 1,000.
const LIE_EVERY: u32 = 2;
/// gUSD for 10^9 fuel: a thousand times the default, so that the demo's sums can be read.
const PRICE_UNITS: u128 = 10_000_000_000_000_000;
/// How long children may take to stop before they are ended.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// The folder and its running children.
pub struct House {
    dir: PathBuf,
    children: Vec<(PathBuf, Child)>,
    _lock: File,
}

impl House {
    /// Takes the folder, stopping whatever an earlier demo left running in it.
    pub async fn open(dir: &Path) -> Result<House> {
        let tried = || format!("could not use the folder {}", dir.display());
        fs::create_dir_all(dir.join("net")).with_context(tried)?;
        let lock = File::create(dir.join("net/lock")).with_context(tried)?;
        if lock.try_lock().is_err() {
            return Err(Fail::new("demo_running", dir.display().to_string()).into());
        }
        let house = House { dir: dir.to_owned(), children: Vec::new(), _lock: lock };
        for name in House::names() {
            stop_node(&house.home(name)).await?;
        }
        Ok(house)
    }

    /// Everybody.
    pub fn names() -> impl Iterator<Item = &'static str> {
        [LEDGER, REQUESTER].into_iter().chain(PROVIDERS)
    }

    /// The folder of one of them.
    pub fn home(&self, name: &str) -> PathBuf {
        self.dir.join("net").join(name)
    }

    /// Starts everybody and waits until all answer, in the order of [`House::names`].
    pub async fn start(&mut self) -> Result<Vec<Client>> {
        [LEDGER, REQUESTER].iter().try_for_each(|name| self.settle(name, None))?;
        glean_node::network_init(&self.home(LEDGER), "demo")?;
        self.spawn(LEDGER)?;
        if !House::names().all(|name| self.home(name).join("network.json").exists()) {
            self.join_all().await?;
        }
        PROVIDERS.iter().try_for_each(|name| self.lend(name))?;
        House::names().skip(1).try_for_each(|name| self.spawn(name))?;
        let ready = self.children.iter_mut().map(|(home, child)| async move { wait_ready(home, child).await });
        futures::future::try_join_all(ready).await
    }

    /// Everybody but the ledger node enters the network, all at once.
    async fn join_all(&mut self) -> Result<()> {
        let (home, child) = &mut self.children[0];
        let info: NetworkInfo = wait_ready(home, child).await?.get("/network").await?;
        let homes: Vec<PathBuf> = House::names().skip(1).map(|name| self.home(name)).collect();
        let joins = homes.iter().map(|home| join_blocking(home, &info.join_line));
        futures::future::try_join_all(joins).await.map(|_| ())
    }

    /// Settings under which a provider lends as soon as it runs. On purpose, the last one lies.
    fn lend(&self, name: &str) -> Result<()> {
        let machine = Machine::probe();
        let liar = PROVIDERS.last() == Some(&name);
        let request = ShareRequest {
            slots: Some((machine.cores / PROVIDERS.len() as u32).max(1)),
            price_per_gfuel: glean_types::Amount::from_units(PRICE_UNITS),
            region: Some("demo".into()),
            lie_every: liar.then_some(LIE_EVERY),
            ..ShareRequest::default()
        };
        self.settle(name, Some(Share::from_request(&request, machine)))
    }

    /// Nobody in this house can be reached from another machine, and somebody watches it at work.
    fn settle(&self, name: &str, share: Option<Share>) -> Result<()> {
        let bind = Some((Ipv4Addr::LOCALHOST, 0).into());
        let settings = Settings { share, bind, is_awaited: true, ..Settings::default() };
        Ok(Home::open(&self.home(name))?.write_json("settings.json", &settings)?)
    }

    fn spawn(&mut self, name: &str) -> Result<()> {
        let home = self.home(name);
        let child = spawn_node(&home, &["--until-eof"], Stdio::piped())?;
        self.children.push((home, child));
        Ok(())
    }

    /// Asks all to stop, then ends those that did not.
    pub async fn close(mut self) {
        // The ledger last: the others may still want to tell it something.
        for (home, _) in self.children.iter().rev() {
            if let Some(node) = Client::find(home).await {
                // One that cannot be asked is ended below.
                let _ = node.act(Method::POST, "/stop").await;
            }
        }
        let start = Instant::now();
        while start.elapsed() < STOP_TIME_MAX && !self.all_stopped() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn all_stopped(&mut self) -> bool {
        self.children.iter_mut().all(|(_, child)| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            // Already stopped is what we want.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
