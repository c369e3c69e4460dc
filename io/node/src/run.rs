//! From a folder to a running node, and the two ways a folder gets its network: `network init` and `join`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use glean_chain::{Chain, ChainConfig};
use glean_ledger::Genesis;
use glean_net::{BlobsAt, Incoming, IndexConfig, IndexNode, Net, NetConfig, PeerAddr, validate_offers};
use glean_protocol::{Identity, Node};
use glean_types::{AccountKey, NodeId};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::api::types::ApiFile;
use crate::api::{self, client_file};
use crate::app::{App, Parts};
use crate::brain::{self, Inbox};
use crate::clock::now_ms;
use crate::core_files::no_core_files;
use crate::events::Events;
use crate::home::{Home, HomeError};
use crate::journal::{Journal, JournalError};
use crate::ledger::{Ledger, LedgerError};
use crate::network::{JoinError, JoinLine, Network, network_of, private_genesis};
use crate::offers::{Offers, keep_shelf, save_shelf};
use crate::past;
#[cfg(feature = "planted")]
use crate::plant;
use crate::reach;
use crate::runner::Runner;
use crate::sessions::Sessions;
use crate::settings::{Machine, Settings};
use crate::wallet;
use crate::worker::{WorkerConfig, WorkerPool};
use crate::world::NodeWorld;

/// Largest output of one task that is fetched from a peer.
const OUTPUT_BYTES_MAX: u64 = 1 << 30;
/// A requester silent for so long has likely nothing more for us: time to cash its voucher. Gas is cheap here.
const CLAIM_IDLE_MS: u64 = 1_000;
/// Goodbyes to peers that no longer answer are not waited for any longer.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its folder.
    pub home: PathBuf,
    /// The program to start workers from: our own binary.
    pub exe: PathBuf,
}

/// Why a node could not be set up or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The join line.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A home that came back from an archive.
    #[error(transparent)]
    Past(#[from] crate::past::PastError),
    /// The ledger of the network cannot be asked.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// This home has no network yet.
    #[error(
        "{0} belongs to no network yet\nhint: start one with `glean network init`, or enter one with `glean join LINE`"
    )]
    NoNetwork(PathBuf),
    /// This home has a network already.
    #[error("{home} belongs to the network `{name}` already\nhint: use another folder with --home")]
    OtherNetwork {
        /// The folder.
        home: PathBuf,
        /// Its network.
        name: String,
    },
    /// The network that answered is not the one of the join line.
    #[error(
        "the network that answered has another first block than the join line says\nhint: somebody may be in between; get a fresh join line by a channel you trust"
    )]
    WrongGenesis,
    /// The genesis cannot be built.
    #[error("the network's first block cannot be built: {0}")]
    Genesis(String),
    /// The keys.
    #[error("could not open the account of {home}: {why}\nhint: see keys/account.json and keys/password in it")]
    Account {
        /// The folder.
        home: PathBuf,
        /// Why.
        why: String,
    },
    /// The network socket.
    #[error("could not open the network: {0}")]
    Net(#[from] glean_net::BindError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] glean_chain::OpenError),
    /// A local port.
    #[error(
        "could not listen on 127.0.0.1:{port}: {source}\nhint: is another program using the port? 0 takes a free one"
    )]
    Port {
        /// Which.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The workers.
    #[error("could not prepare the workers: {0}")]
    Workers(String),
    /// The ledger cannot go on.
    #[error(
        "the ledger of this node stopped: {0}\nhint: check free disk space and the disk's health, then start the node again"
    )]
    Ended(String),
    /// Our own mistake. What was acknowledged is on the disk.
    #[error("the node's loop ended by a bug: {0}\nhint: start the node again; please report this with log/node.log")]
    Bug(String),
    /// The runtime.
    #[error("could not start: {0}")]
    Runtime(std::io::Error),
}

/// Makes a private network with this home as its ledger node. Idempotent: a home that has made one keeps it.
pub fn network_init(home: &Path, name: &str) -> Result<(), SetupError> {
    let home = Home::open(home)?;
    let _lock = home.lock()?;
    if let Some(network) = home.read_json::<Network>("network.json")? {
        return match network.ledger {
            None => Ok(()),
            Some(_) => Err(SetupError::OtherNetwork { home: home.root().to_owned(), name: network.name }),
        };
    }
    let faucet = faucet_key(&home)?;
    let genesis = private_genesis(chain_id(), now_ms() / 1000, faucet.address());
    let network = network_of(name, &genesis, None).map_err(|e| SetupError::Genesis(e.to_string()))?;
    account(&home)?;
    home.write_json("genesis.json", &genesis)?;
    home.write_json("network.json", &network)?;
    Ok(())
}

/// Enters the network of a join line: fetches its genesis, computes its first block, compares.
pub fn join(home: &Path, line: &str) -> Result<Network, SetupError> {
    let line: JoinLine = line.parse()?;
    let home = Home::open(home)?;
    let _lock = home.lock()?;
    if let Some(network) = home.read_json::<Network>("network.json")? {
        return match network.genesis == line.genesis {
            true => Ok(network),
            false => Err(SetupError::OtherNetwork { home: home.root().to_owned(), name: network.name }),
        };
    }
    let secret = node_secret(&home)?;
    let genesis = runtime(1)?.block_on(async {
        let mut config = NetConfig::new(*secret);
        config.relays = line.ledger.relay.iter().cloned().collect();
        let net = Net::bind(config).await?;
        net.add_peer(line.ledger.clone());
        let genesis = Ledger::genesis(&net, line.ledger.node).await;
        net.close().await;
        Ok::<Genesis, SetupError>(genesis?)
    })?;
    let network =
        network_of(&line.name, &genesis, Some(line.ledger)).map_err(|e| SetupError::Genesis(e.to_string()))?;
    if network.genesis != line.genesis {
        return Err(SetupError::WrongGenesis);
    }
    account(&home)?;
    home.write_json("network.json", &network)?;
    Ok(network)
}

/// Runs a node in the foreground until it is asked to stop (API, SIGINT, SIGTERM) or its disk fails.
pub fn run_node(options: NodeOptions) -> Result<(), SetupError> {
    let home = Home::open(&options.home)?;
    let _lock = home.lock()?;
    if let Err(error) = no_core_files() {
        tracing::warn!(%error, "core files could not be turned off");
    }
    let network: Network =
        home.read_json("network.json")?.ok_or_else(|| SetupError::NoNetwork(home.root().to_owned()))?;
    let result = runtime(2)?.block_on(run(home.clone(), network, options.exe));
    client_file::remove(&home);
    result
}

async fn run(home: Home, network: Network, exe: PathBuf) -> Result<(), SetupError> {
    let settings: Settings = home.read_json("settings.json")?.unwrap_or_default();
    let key = account(&home)?;
    let net = bind(&home, &network, &settings).await?;
    let relay = reach::open_relay(&net, &network, &settings).await;
    let chain = open_chain(&home, &network)?;
    let rpc = match &chain {
        Some(chain) => {
            Some(chain.serve_http(SocketAddr::from(([127, 0, 0, 1], settings.rpc_port))).await.map_err(|e| {
                SetupError::Port { port: settings.rpc_port, source: std::io::Error::other(e.to_string()) }
            })?)
        }
        None => None,
    };
    let ledger = ledger(&chain, &net, &key, &network);
    let (inbox, asks) = Inbox::new();
    let (mut journal, mut records) = Journal::open(&home.path("journal.log"))?;
    past::close(&home, &ledger, &mut journal, &mut records).await?;
    let machine = Machine::probe();
    let slots = settings.share.as_ref().map_or(machine.cores, |share| share.slots.max(1));
    let pool = worker_pool(&home, exe, slots, &settings)?;
    let lie_every = settings.share.as_ref().and_then(|share| share.lie_every);
    let runner = Runner::new(net.clone(), inbox.clone(), pool, slots as usize, lie_every);
    runner.forget_when_idle();
    let index =
        chain.as_ref().map(|_| Arc::new(IndexNode::new(IndexConfig::default(), validate_offers(network.domain))));
    if let Some(index) = &index {
        keep_shelf(home.clone(), index.clone());
    }
    let index_nodes: Vec<NodeId> = network.ledger.iter().map(|peer| peer.node).collect();
    let offers = Offers::new(net.clone(), glean_vm::CLASS, validate_offers(network.domain), index_nodes, index.clone());
    let events = Events::default();
    let sessions = Sessions::new(net.clone(), inbox.clone(), OUTPUT_BYTES_MAX);
    let app = Arc::new(App::new(
        Parts {
            home: home.clone(),
            network: network.clone(),
            net: net.clone(),
            key: key.clone(),
            inbox: inbox.clone(),
            ledger: ledger.clone(),
            journal: journal.reader(),
            events: events.clone(),
            runner: runner.clone(),
            relay_url: relay.as_ref().map(|relay| relay.url().to_owned()),
            rpc_url: rpc.as_ref().map(|server| format!("http://{}", server.addr())),
            settings: settings.clone(),
        },
        &records,
    ));
    let identity =
        Identity { node: net.id(), key, domain: network.domain, class: glean_vm::CLASS, secret: check_secret(&home)? };
    let choices = glean_protocol::Settings { claim_idle_ms: CLAIM_IDLE_MS, ..glean_protocol::Settings::default() };
    #[cfg(feature = "planted")]
    let (choices, villain) = (plant::settings(choices), identity.clone());
    let node = Node::restore(identity, choices, records);
    let world =
        NodeWorld { inbox: inbox.clone(), sessions: sessions.clone(), offers, ledger: ledger.clone(), runner, events };
    #[cfg(feature = "planted")]
    let world = plant::Villain::new(world, villain);
    let brain = tokio::spawn(brain::run(node, journal, asks, world));
    tokio::spawn(accept(net.clone(), sessions, chain.as_ref().map(Chain::rpc), index.clone()));
    let port = settings.api_port;
    let token = hex::encode(*random_secret());
    let api = api::serve(app.clone(), port, token.clone(), app.stopping())
        .await
        .map_err(|source| SetupError::Port { port, source })?;
    client_file::write(&home, &ApiFile { url: format!("http://{}", api.addr), token, pid: std::process::id() })?;
    tracing::info!(node = %net.id().short(), account = %ledger.account(), api = %api.addr, "ready");
    tokio::spawn(greet(ledger));
    app.resume_share().await;
    tokio::spawn(reach::follow_address(net.clone(), app.clone()));
    if let Some(ledger) = &network.ledger {
        tokio::spawn(reach::look_in_mirror(net.clone(), ledger.node));
    }
    let failed = wait(&app, brain, chain.as_ref().map(Chain::failure)).await;
    client_file::remove(&home);
    if let Some(index) = &index {
        save_shelf(&home, index);
    }
    if tokio::time::timeout(CLOSE_PATIENCE, net.close()).await.is_err() {
        tracing::debug!("some peers did not hear our goodbye");
    }
    if let Some(relay) = relay {
        relay.close().await;
    }
    if let Some(chain) = chain {
        chain.close().await;
    }
    failed
}

/// A new account on a private network asks for its credits once; a network without a faucet says no.
async fn greet(ledger: Ledger) {
    match ledger.balance().await {
        Ok(balance) if balance == glean_types::Amount::ZERO => {
            if let Err(error) = ledger.faucet().await {
                tracing::info!(%error, "no credits from the faucet");
            }
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the ledger did not answer at the start"),
    }
}

/// Until somebody asks us to stop, or we cannot go on.
async fn wait(
    app: &App,
    brain: tokio::task::JoinHandle<Result<(), JournalError>>,
    chain_failure: Option<watch::Receiver<Option<String>>>,
) -> Result<(), SetupError> {
    let mut stopping = app.stopping();
    let chain_failed = async {
        match chain_failure {
            Some(mut failure) => failure.wait_for(Option::is_some).await.ok().and_then(|report| report.clone()),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = brain => {
            app.stop();
            return match ended {
                Ok(ended) => ended.map_err(SetupError::from),
                Err(bug) => Err(SetupError::Bug(bug.to_string())),
            };
        }
        report = chain_failed => {
            app.stop();
            return Err(SetupError::Ended(report.unwrap_or_default()));
        }
        _ = stopping.wait_for(|stop| *stop) => {}
        () = interrupted() => app.stop(),
    }
    Ok(())
}

#[cfg(unix)]
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Hands what peers begin to whoever handles it.
async fn accept(net: Net, sessions: Sessions, rpc: Option<glean_chain::RpcHandler>, index: Option<Arc<IndexNode>>) {
    while let Some(incoming) = net.accept().await {
        match incoming {
            Incoming::Work(session) => {
                let sessions = sessions.clone();
                tokio::spawn(async move { sessions.adopt(session).await });
            }
            Incoming::Rpc { request, reply, .. } => match rpc.clone() {
                // The peer may have left; then nobody misses the answer.
                Some(rpc) => drop(tokio::spawn(async move { reply.send(&rpc.handle(request).await).await })),
                None => drop(tokio::spawn(async move { reply.refuse("this node does not keep the ledger").await })),
            },
            Incoming::Index { peer, request, reply } => match index.clone() {
                Some(index) => {
                    let net = net.clone();
                    tokio::spawn(async move { index.serve(&net, peer, &request, reply, now_ms()).await });
                }
                None => drop(tokio::spawn(async move { reply.refuse("this node keeps no index").await })),
            },
        }
    }
}

async fn bind(home: &Home, network: &Network, settings: &Settings) -> Result<Net, SetupError> {
    let mut config = NetConfig::new(*node_secret(home)?);
    config.relays = network.ledger.iter().filter_map(|ledger| ledger.relay.clone()).collect();
    config.bind = vec![match (settings.bind, bound_port(home)?) {
        (Some(addr), Some(port)) if addr.port() == 0 => SocketAddr::new(addr.ip(), port),
        (Some(addr), _) => addr,
        (None, Some(port)) => SocketAddr::from(([0, 0, 0, 0], port)),
        (None, None) => SocketAddr::from(([0, 0, 0, 0], 0)),
    }];
    config.blobs = BlobsAt::Folder(home.path("blobs"));
    let net = match Net::bind(config.clone()).await {
        Ok(net) => net,
        // The port of last time is taken: a new one is better than none; join lines will be new, too.
        Err(glean_net::BindError::Listen { .. }) if settings.bind.is_none() => {
            config.bind = vec![SocketAddr::from(([0, 0, 0, 0], 0))];
            Net::bind(config).await?
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(addr) = net.addr().direct.first() {
        home.write_json("run/port.json", &addr.port())?;
    }
    Ok(net)
}

/// The port of last time: a join line stays good over restarts.
fn bound_port(home: &Home) -> Result<Option<u16>, HomeError> {
    home.read_json("run/port.json")
}

fn open_chain(home: &Home, network: &Network) -> Result<Option<Chain>, SetupError> {
    Ok(chain_config(home, network)?.map(Chain::open).transpose()?)
}

/// The ledger of this home, if it keeps one.
pub(crate) fn chain_config(home: &Home, network: &Network) -> Result<Option<ChainConfig>, SetupError> {
    if network.ledger.is_some() {
        return Ok(None);
    }
    let genesis: Genesis =
        home.read_json("genesis.json")?.ok_or_else(|| SetupError::NoNetwork(home.root().to_owned()))?;
    let faucet = faucet_key(home)?;
    let (dir, faucet_key) = (home.path("ledger"), Some(faucet.to_bytes()));
    Ok(Some(ChainConfig { dir, genesis, validator_key: None, validators: Vec::new(), faucet_key }))
}

fn ledger(chain: &Option<Chain>, net: &Net, key: &AccountKey, network: &Network) -> Ledger {
    match (chain, &network.ledger) {
        (Some(chain), _) => Ledger::here(chain.rpc(), key.clone(), net.id(), network.clone()),
        (None, keeper) => {
            let keeper = keeper.clone().unwrap_or_else(|| PeerAddr::of(net.id()));
            let node = keeper.node;
            net.add_peer(keeper);
            Ledger::there(net.clone(), node, key.clone(), network.clone())
        }
    }
}

fn worker_pool(home: &Home, exe: PathBuf, slots: u32, settings: &Settings) -> Result<WorkerPool, SetupError> {
    let is_awaited = settings.is_awaited;
    let config = WorkerConfig { exe, slots: slots as usize, cache: home.path("cache"), is_awaited };
    WorkerPool::new(config).map_err(|e| SetupError::Workers(e.to_string()))
}

pub(crate) fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, SetupError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(SetupError::Runtime)
}

// --- keys ---

/// The node's transport key: made once, 0600.
pub(crate) fn node_secret(home: &Home) -> Result<Zeroizing<[u8; 32]>, SetupError> {
    secret_file(home, "keys/node")
}

/// Seeds the secret choice of checks.
fn check_secret(home: &Home) -> Result<[u8; 32], SetupError> {
    secret_file(home, "keys/checks").map(|secret| *secret)
}

/// Signs the credits of a private network.
fn faucet_key(home: &Home) -> Result<AccountKey, SetupError> {
    let secret = secret_file(home, "keys/faucet")?;
    AccountKey::from_bytes(&secret).map_err(|e| account_error(home, e))
}

/// A secret and its sum: one bit of it turned on the disk would make another machine of us, that nobody knows.
fn secret_file(home: &Home, name: &str) -> Result<Zeroizing<[u8; 32]>, SetupError> {
    match std::fs::read(home.path(name)).map(Zeroizing::new) {
        Ok(bytes) => whole_secret(&bytes)
            .ok_or_else(|| account_error(home, format!("{name} is damaged: put it back from a backup of this folder"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = random_secret();
            let with_sum = Zeroizing::new([*secret, *secret_sum(&secret).as_bytes()].concat());
            home.write_private(name, &with_sum)?;
            Ok(secret)
        }
        Err(error) => Err(account_error(home, error)),
    }
}

fn whole_secret(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let (secret, sum) = bytes.split_first_chunk()?;
    (secret_sum(secret).as_bytes().as_slice() == sum).then(|| Zeroizing::new(*secret))
}

fn secret_sum(secret: &[u8; 32]) -> blake3::Hash {
    blake3::Hasher::new_derive_key("gleaner 2026 sum of a secret file").update(secret).finalize()
}

/// The account: a keystore. Without a person at hand its password is random and lies beside it, 0600: as safe as
/// an SSH key without a passphrase.
pub(crate) fn account(home: &Home) -> Result<AccountKey, SetupError> {
    let (keystore, password) = (home.path("keys/account.json"), home.path("keys/password"));
    if keystore.exists() {
        let words = std::fs::read_to_string(&password).map(Zeroizing::new).map_err(|e| account_error(home, e))?;
        return wallet::Wallet::load(&keystore, words.trim_end()).map_err(|e| account_error(home, e));
    }
    let words = Zeroizing::new(hex::encode(*random_secret()));
    let (_, key) = wallet::Wallet::create().map_err(|e| account_error(home, e))?;
    home.write_private("keys/password", words.as_bytes())?;
    wallet::Wallet::save_unattended(&keystore, &key, &words).map_err(|e| account_error(home, e))?;
    Ok(key)
}

fn account_error(home: &Home, why: impl ToString) -> SetupError {
    SetupError::Account { home: home.root().to_owned(), why: why.to_string() }
}

fn random_secret() -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *secret).expect("the operating system has randomness");
    secret
}

/// A private network's chain id: random, far from the public ones.
fn chain_id() -> u64 {
    let random = u32::from_le_bytes(random_secret()[..4].try_into().expect("4 of 32 bytes"));
    1_000_000_000 + u64::from(random)
}
