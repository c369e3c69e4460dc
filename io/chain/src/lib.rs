//! The ledger as a running thing: BFT engine, mempool, block store and Ethereum JSON-RPC in one value, [`Chain`].
//!
//! ```text
//!  JSON-RPC bytes ──> RpcHandler ──> pool ──┐            (HTTP on loopback, or any other transport)
//!                        │                  v
//!                        │        keeper: build / execute on known states ──> glean-ledger (revm, pure)
//!                        v                  ^        │
//!                      store  <── finalize ─┘        v
//!                     (redb)                engine: simplex votes, marshal order (commonware)
//! ```
//!
//! What must stay true:
//! - a consensus block is an Ethereum block and its digest is the Ethereum block hash;
//! - state, block, receipts and trie nodes of a block enter redb in ONE transaction, and the engine hears of it
//!   only after the fsync; recovery is the normal start path;
//! - one process per directory;
//! - nothing of the engine's types leaves this crate;
//! - after every block the sum of balances equals what the block minted and burned, or the node stops.

mod block;
pub mod decoders;
mod engine;
pub mod import;
mod keeper;
mod pool;
mod rpc;
mod states;
mod store;
#[cfg(test)]
mod testing;

pub use block::{BlockError, SealedBlock, Transaction};
pub use engine::{CommitteeError, Validator};
pub use rpc::{HttpError, HttpServer, RpcHandler};

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use tokio::sync::{broadcast, watch};
use zeroize::Zeroizing;

use engine::{Committee, Engine, EngineConfig};
use keeper::{Keeper, KeeperError};
use store::Store;

/// Blocks a slow subscriber may fall behind before it is told that it lagged.
const SUBSCRIPTION_BLOCKS: usize = 256;

/// What a ledger node is started with.
pub struct ChainConfig {
    /// Where everything lives; created when absent; locked while open.
    pub dir: PathBuf,
    /// The first block and the rules. Must be the one the directory was created with.
    pub genesis: glean_ledger::Genesis,
    /// The validator's secp256r1 secret. `None`: one is made at the first start and kept in
    /// `dir/validator.key`, readable by the owner only.
    pub validator_key: Option<Zeroizing<[u8; 32]>>,
    /// Who votes; empty: this node alone. The same on every node of the network and at every start.
    pub validators: Vec<Validator>,
    /// The secp256k1 secret that signs faucet grants; `None` on networks without a faucet.
    pub faucet_key: Option<Zeroizing<[u8; 32]>>,
}

/// The public half of a validator's secret, compressed; `None` when the secret is not a scalar of the curve.
pub fn validator_public_key(secret: &[u8; 32]) -> Option<Vec<u8>> {
    engine::public_key(secret)
}

/// Why a ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the directory.
    #[error(
        "the ledger in {dir} is already open in another process\nhint: stop the other node, or give this one another directory"
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("cannot use {path}: {source}\nhint: check that the disk has space and that you may write there")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The directory belongs to another network.
    #[error(
        "the ledger in {dir} was started from genesis {found}, not {expected}\nhint: use another directory for another network"
    )]
    OtherGenesis {
        /// The directory.
        dir: PathBuf,
        /// The hash of the genesis block on disk.
        found: B256,
        /// The hash of the genesis block asked for.
        expected: B256,
    },
    /// The directory belongs to another validator.
    #[error(
        "the ledger in {dir} was kept by another validator key\nhint: restore validator.key, or use another directory"
    )]
    OtherValidator {
        /// The directory.
        dir: PathBuf,
    },
    /// A secret is not a valid key.
    #[error("the {0} key is not valid\nhint: a key is 32 bytes, neither zero nor above the order of its curve")]
    BadKey(&'static str),
    /// Who votes cannot vote together.
    #[error(
        "the validators of this network cannot be used: {0}\nhint: name each validator once, and this node among them"
    )]
    Validators(#[from] CommitteeError),
    /// The faucet key is another account's.
    #[error(
        "the faucet key belongs to {found}, the genesis names {expected}\nhint: restore the faucet key that the network was made with"
    )]
    OtherFaucet {
        /// The key's account.
        found: Address,
        /// The account in the genesis.
        expected: Address,
    },
    /// The genesis cannot be turned into a block.
    #[error("the genesis is not usable: {0}")]
    Genesis(#[from] glean_ledger::GenesisError),
    /// The balances on disk do not add up.
    #[error(
        "the balances in {dir} sum up to {found}, not {expected}\nhint: restore the directory from a backup, or sync it again"
    )]
    Supply {
        /// The directory.
        dir: PathBuf,
        /// Sum of all balances.
        found: U256,
        /// What genesis and all blocks since should leave.
        expected: U256,
    },
    /// The database is damaged or of another version.
    #[error("the ledger's database cannot be read: {0}\nhint: restore the directory from a backup, or sync it again")]
    Store(String),
}

/// A final block, as told to subscribers.
#[derive(Clone, Debug)]
pub struct FinalBlock {
    /// The block.
    pub block: Arc<SealedBlock>,
    /// The hash of its state.
    pub state_root: B256,
}

/// A ledger as it lies on the disk, looked at page by page and sum by sum as every start does, and then only asked: nothing
/// is proposed, signed or written.
pub struct Still {
    dir: PathBuf,
    committee: Committee,
    keeper: Arc<Keeper>,
    rpc: RpcHandler,
    lock: File,
}

impl Still {
    /// Opens it, or says what is wrong with it.
    pub fn open(config: ChainConfig) -> Result<Self, OpenError> {
        let dir = config.dir;
        let lock = lock_dir(&dir)?;
        let secret = match config.validator_key {
            Some(secret) => secret,
            None => validator_key(&dir)?,
        };
        let public = engine::public_key(&secret).ok_or(OpenError::BadKey("validator"))?;
        let committee = engine::committee(&secret, &config.validators).ok_or(OpenError::BadKey("validator"))??;
        let store = Store::open(&dir).map_err(|error| OpenError::Store(error.to_string()))?;
        let keeper = Keeper::open(store, config.genesis, &public);
        let keeper = Arc::new(keeper.map_err(|error| open_error(&dir, error))?);
        let rpc = RpcHandler::new(keeper.clone(), config.faucet_key)?;
        Ok(Self { dir, committee, keeper, rpc, lock })
    }

    /// The JSON-RPC interface.
    pub fn rpc(&self) -> RpcHandler {
        self.rpc.clone()
    }

    /// Its last block.
    pub fn head(&self) -> Arc<SealedBlock> {
        self.keeper.head()
    }
}

/// A running ledger node.
pub struct Chain {
    keeper: Arc<Keeper>,
    engine: Option<Engine>,
    rpc: RpcHandler,
    _lock: File,
}

impl Chain {
    /// Opens or creates the ledger in `config.dir` and starts the engine. Blocking; call it from anywhere.
    pub fn open(config: ChainConfig) -> Result<Self, OpenError> {
        Self::open_with_epochs(config, engine::EPOCH_BLOCKS)
    }

    /// Like [`Chain::open`], with another length of a consensus_epoch than the usual 16,384 blocks. It must be the
    /// same on every node of a network and at every start.
    pub fn open_with_epochs(config: ChainConfig, epoch_blocks: NonZeroU64) -> Result<Self, OpenError> {
        let Still { dir, committee, keeper, rpc, lock } = Still::open(config)?;
        let engine = EngineConfig { dir: dir.join("engine"), epoch_blocks, keeper: keeper.clone(), committee };
        let engine = Engine::start(engine).map_err(io_error(&dir))?;
        Ok(Self { keeper, engine: Some(engine), rpc, _lock: lock })
    }

    /// The JSON-RPC interface, for any transport. Clones are cheap.
    pub fn rpc(&self) -> RpcHandler {
        self.rpc.clone()
    }

    /// Serves JSON-RPC over HTTP on a loopback address (port 0: the system picks) from the caller's tokio
    /// runtime until the returned server is dropped.
    pub async fn serve_http(&self, addr: SocketAddr) -> Result<HttpServer, HttpError> {
        HttpServer::bind(self.rpc(), addr).await
    }

    /// Final blocks from now on. A subscriber that falls behind is told how many it missed.
    pub fn subscribe(&self) -> broadcast::Receiver<FinalBlock> {
        self.keeper.subscribe()
    }

    /// The last final block.
    pub fn head(&self) -> Arc<SealedBlock> {
        self.keeper.head()
    }

    /// Becomes `Some(report)` when the node has stopped itself: a failed fsync, or a block after which the sum
    /// of balances is wrong.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.keeper.failure()
    }

    /// Stops the engine, waits for the last write and releases the directory. Handlers and HTTP servers that
    /// outlive this keep answering from the last state, and keep the database open until they are dropped.
    pub async fn close(mut self) {
        if let Some(engine) = self.engine.take() {
            // Joining blocks; if the task is cancelled, the thread still stops on its own.
            let _ = tokio::task::spawn_blocking(move || engine.join()).await;
        }
    }
}

impl Drop for Chain {
    /// A dropped chain stops like a closed one; the directory is free when this returns.
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.join();
        }
    }
}

fn open_error(dir: &Path, error: KeeperError) -> OpenError {
    let dir = dir.to_path_buf();
    match error {
        KeeperError::Store(error) => OpenError::Store(error.to_string()),
        KeeperError::Genesis(error) => OpenError::Genesis(error),
        KeeperError::State(error) => OpenError::Store(error.to_string()),
        KeeperError::Supply { found, expected } => OpenError::Supply { dir, found, expected },
        KeeperError::OtherValidator => OpenError::OtherValidator { dir },
        KeeperError::OtherGenesis { found, expected } => OpenError::OtherGenesis { dir, found, expected },
    }
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = path.to_path_buf();
    move |source| OpenError::Io { path, source }
}

/// Creates the directory and takes its lock, which the system drops with the process.
fn lock_dir(dir: &Path) -> Result<File, OpenError> {
    std::fs::create_dir_all(dir).map_err(io_error(dir))?;
    let path = dir.join("LOCK");
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

/// Reads `dir/validator.key`, or makes it on the first start.
fn validator_key(dir: &Path) -> Result<Zeroizing<[u8; 32]>, OpenError> {
    let path = dir.join("validator.key");
    match std::fs::read(&path) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            let secret = <[u8; 32]>::try_from(bytes.as_slice());
            secret.map(Zeroizing::new).map_err(|_| OpenError::BadKey("validator"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = Zeroizing::new(engine::new_secret());
            write_secret(&path, &secret[..]).map_err(io_error(&path))?;
            Ok(secret)
        }
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

/// Writes a secret whole or not at all: a synced temporary file of mode 0600, then a rename.
fn write_secret(path: &Path, secret: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let temporary = path.with_extension("tmp");
    let mut options = File::options();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(&temporary)?;
    file.write_all(secret)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    #[cfg(unix)]
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}
