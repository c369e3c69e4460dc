//! Worker processes, from the node's side: started when there is work, fed in batches, killed when they misbehave.
//!
//! What must stay true:
//!
//! 1. Guests compile and run only in these children, which have no keys and no sockets and stand behind a wall.
//! 2. The node believes nothing a worker says beyond "this task, this answer": frames are limited and answers
//!    come in the order of the orders, or the worker is replaced.
//! 3. A worker that is late, dead or talks garbage costs the one task it was at (no verdict); the rest of its batch
//!    goes to a fresh one.
//! 4. Compiled programs are loaded only if this node compiled them, from a folder that nobody else can write.

mod child;
pub(crate) mod frames;
mod outbox;
mod wall;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use glean_protocol::NoVerdict;
use glean_types::{Hash, Outcome, decode, encode, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;

pub use child::child_main;
pub use wall::WallReport;
use wire::{FromWorker, Order, STOPPED_MAX, Start, ToWorker, Why};

/// Longest compile. The processor time it may take is limited in the worker; this is for a machine that is busy otherwise.
const COMPILE_PATIENCE: Duration = Duration::from_secs(1_200);
/// Largest compiled program.
const COMPILED_BYTES_MAX: u64 = 2 << 30;
/// Compiled programs kept, all together; beyond it the oldest go.
const CACHE_BYTES_MAX: u64 = 8 << 30;
/// Until a worker is ready, and until an idle one takes an order.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Beyond a task's own timeout, for pipes.
const PATIENCE: Duration = Duration::from_secs(1);
/// A worker without work is let go after this long.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// Orders sent ahead of the answers, so that a worker never waits for the pipe; more follow in these steps.
const AHEAD: usize = 64;
const AHEAD_STEP: usize = 16;
/// Input files kept by one worker; beyond it, it forgets them all.
const FILES_KEPT_BYTES_MAX: u64 = 2 << 30;
/// Memory of a worker besides the guest's, its files and its output: the engine, stacks, orders sent ahead.
const OWN_BYTES: u64 = 256 << 20;
/// Largest output of a task that fits a frame.
const OUTPUT_BYTES_MAX: u64 = 1 << 30;
/// An answer besides the output itself: names of files.
const ANSWER_BYTES: u64 = 64 << 20;
/// A frame that is not an answer: a few words.
const WORDS_BYTES_MAX: u64 = 1 << 20;

/// How workers are started.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The program: our own binary, run as `EXE worker`.
    pub exe: PathBuf,
    /// Workers at the same time.
    pub slots: usize,
    /// Where compiled programs are kept.
    pub cache: PathBuf,
    /// The machine's owner waits for the work: see [`Settings::is_awaited`](crate::settings::Settings::is_awaited).
    pub is_awaited: bool,
}

/// An input file of a task.
#[derive(Debug, Clone)]
pub struct RunFile {
    /// Absolute path inside the guest.
    pub guest: String,
    /// BLAKE3 of the bytes.
    pub hash: Hash,
    /// The content.
    pub bytes: Bytes,
}

/// One task for a worker.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Input files; the same for all tasks of a batch.
    pub files: Arc<Vec<RunFile>>,
    /// Seed of the guest's randomness.
    pub seed: [u8; 32],
    /// Start of the guest's clock.
    pub clock_ns: u64,
    /// Fuel limit.
    pub fuel_max: u64,
    /// Memory limit, bytes.
    pub mem_max: u64,
    /// Output limit, bytes.
    pub output_max: u64,
    /// Wall clock limit.
    pub timeout_ms: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReply {
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel used.
    pub fuel: u64,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Files under `/out`.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Why the workers cannot help at all.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A child could not be started.
    #[error(
        "could not start a worker process from {exe}: {source}\nhint: is the file still there, and may this user start more processes?"
    )]
    Start {
        /// The program.
        exe: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The module was refused or took too long.
    #[error("the program could not be compiled: {0}")]
    Compile(String),
    /// The cache folder.
    #[error("could not use {path}: {source}")]
    Cache {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The child broke.
    #[error("the worker broke: {0}")]
    Broken(String),
}

/// A set of workers. Cheap to clone.
#[derive(Clone)]
pub struct WorkerPool {
    inner: Arc<Inner>,
}

struct Inner {
    config: WorkerConfig,
    idle: Mutex<Vec<(Instant, Worker)>>,
    /// One compile at a time.
    compiling: tokio::sync::Mutex<()>,
}

/// A running child: for one program, within a memory limit that is fixed when it starts.
struct Worker {
    child: Child,
    to: BufWriter<ChildStdin>,
    from: BufReader<ChildStdout>,
    program: Hash,
    data_max: u64,
    files: BTreeMap<Hash, u64>,
}

impl WorkerPool {
    /// A pool; no worker is started yet. To be called inside a tokio runtime.
    pub fn new(config: WorkerConfig) -> Result<WorkerPool, WorkerError> {
        private_dir(&config.cache)?;
        let inner = Inner { config, idle: Mutex::default(), compiling: tokio::sync::Mutex::default() };
        let pool = WorkerPool { inner: Arc::new(inner) };
        pool.let_go_when_idle();
        Ok(pool)
    }

    /// Whether the program can run without having been given again.
    pub fn has_program(&self, id: Hash) -> bool {
        self.cached(id).exists()
    }

    /// Compiles a program unless it is in the cache. `bytes` are the instrumented module.
    pub async fn ensure_program(&self, id: Hash, bytes: Bytes) -> Result<(), WorkerError> {
        if self.has_program(id) {
            return Ok(());
        }
        let _one = self.inner.compiling.lock().await;
        if self.has_program(id) {
            return Ok(());
        }
        let compiled = tokio::time::timeout(COMPILE_PATIENCE, self.compile(id, &bytes)).await;
        compiled.unwrap_or_else(|_| {
            Err(WorkerError::Compile(format!("it took longer than {} s", COMPILE_PATIENCE.as_secs())))
        })
    }

    /// Compiles in a process of its own, straight into the cache.
    async fn compile(&self, id: Hash, wasm: &[u8]) -> Result<(), WorkerError> {
        let mut child = self.spawn("compile")?;
        let (mut to, mut from) = pipes(&mut child)?;
        // A worker that gives up early closes the pipe; then its answer, or its silence, says why.
        let _ = to.write_all(wasm).await;
        drop(to);
        let len = match read::<FromWorker>(&mut from, WORDS_BYTES_MAX).await {
            Ok(Some(FromWorker::Compiled(Ok(len)))) if len <= COMPILED_BYTES_MAX => len,
            Ok(Some(FromWorker::Compiled(Err(why)))) => return Err(WorkerError::Compile(why)),
            Ok(None) => {
                let why = "it took more memory or processor time than a compile may";
                return Err(WorkerError::Compile(why.into()));
            }
            other => return Err(WorkerError::Broken(format!("the compile worker answered {other:?}"))),
        };
        let path = self.cached(id);
        let scratch = path.with_extension("new");
        let fail = |source| WorkerError::Cache { path: scratch.clone(), source };
        let mut file = tokio::fs::File::create(&scratch).await.map_err(fail)?;
        let copied = tokio::io::copy(&mut (&mut from).take(len), &mut file).await.map_err(fail)?;
        if copied < len {
            return Err(WorkerError::Broken("the compile worker stopped in the middle".into()));
        }
        file.sync_all().await.map_err(fail)?;
        prune(&self.inner.config.cache, CACHE_BYTES_MAX.saturating_sub(len));
        std::fs::rename(&scratch, &path).map_err(fail)
    }

    /// Runs tasks one after the other in one worker; answers in the order of the requests.
    pub async fn run_batch(&self, program: Hash, requests: Vec<RunRequest>) -> Vec<Result<RunReply, NoVerdict>> {
        self.run_within(program, requests, &FuelLeft::new(u64::MAX)).await
    }

    /// The same, as far as the fuel goes that somebody pays for: a task that it is not enough for is stopped there, and is
    /// [`NoVerdict::FuelCap`].
    pub async fn run_within(
        &self,
        program: Hash,
        requests: Vec<RunRequest>,
        fuel: &FuelLeft,
    ) -> Vec<Result<RunReply, NoVerdict>> {
        let mut replies = Vec::with_capacity(requests.len());
        while replies.len() < requests.len() {
            let rest = &requests[replies.len()..];
            let broken = match self.worker(program, data_max(rest)).await {
                Ok(mut worker) => match worker.run(rest, &mut replies, fuel).await {
                    Ok(()) => {
                        self.give_back(worker);
                        continue;
                    }
                    Err(why) => why,
                },
                Err(why) => {
                    // No worker at all: trying once for every task of the batch would not help.
                    replies.resize(requests.len(), Err(why));
                    continue;
                }
            };
            // The task it was at: no verdict. The others get a fresh worker.
            replies.push(Err(broken));
        }
        replies
    }

    /// What the wall around a worker looks like on this machine: asks a real one.
    pub async fn wall_report(&self) -> Result<WallReport, WorkerError> {
        let mut child = self.spawn("report")?;
        let (_, mut from) = pipes(&mut child)?;
        let mut text = Vec::new();
        from.read_to_end(&mut text).await.map_err(|e| WorkerError::Broken(e.to_string()))?;
        serde_json::from_slice(&text).map_err(|e| WorkerError::Broken(e.to_string()))
    }

    /// What a worker that tries to get out gets through to: nothing, if the wall stands.
    pub async fn holes(&self) -> Result<Vec<String>, WorkerError> {
        self.probe("probe").await
    }

    /// The same attempts without a wall: all of them get through, or [`WorkerPool::holes`] proves nothing.
    pub async fn holes_without_wall(&self) -> Result<Vec<String>, WorkerError> {
        self.probe("probe-unwalled").await
    }

    async fn probe(&self, mode: &str) -> Result<Vec<String>, WorkerError> {
        let mut child = self.spawn(mode)?;
        let (_, mut from) = pipes(&mut child)?;
        match tokio::time::timeout(START_PATIENCE, read::<FromWorker>(&mut from, WORDS_BYTES_MAX)).await {
            Ok(Ok(Some(FromWorker::Holes(holes)))) => Ok(holes),
            other => Err(WorkerError::Broken(format!("{other:?}"))),
        }
    }

    /// A worker that has this program open and may use that much memory: an idle one, or a new one.
    async fn worker(&self, program: Hash, data_max: u64) -> Result<Worker, NoVerdict> {
        let fits = |worker: &Worker| worker.program == program && worker.data_max >= data_max;
        {
            let mut idle = self.inner.idle.lock().expect("no panic while held");
            if let Some(place) = idle.iter().rposition(|(_, worker)| fits(worker)) {
                return Ok(idle.swap_remove(place).1);
            }
        }
        let started = tokio::time::timeout(START_PATIENCE, self.start(program, data_max)).await;
        started.unwrap_or_else(|_| Err(NoVerdict::Worker("a new worker was not ready in time".into())))
    }

    async fn start(&self, program: Hash, data_max: u64) -> Result<Worker, NoVerdict> {
        let broken = |e: String| NoVerdict::Worker(e);
        let path = self.cached(program);
        let mut child = self.spawn("serve").map_err(|e| broken(e.to_string()))?;
        let (to, from) = pipes(&mut child).map_err(|e| broken(e.to_string()))?;
        let mut worker = Worker { child, to: BufWriter::new(to), from, program, data_max, files: BTreeMap::new() };
        let module = path.to_str().ok_or_else(|| broken("the cache folder's name is not UTF-8".into()))?.to_owned();
        worker.send(&Start { module, data_max }).await.map_err(broken)?;
        worker.to.flush().await.map_err(|e| broken(e.to_string()))?;
        match read::<FromWorker>(&mut worker.from, WORDS_BYTES_MAX).await.map_err(broken)? {
            Some(FromWorker::Ready(Ok(()))) => Ok(worker),
            Some(FromWorker::Ready(Err(why))) => {
                // Compiled by another version or for another processor: the next time it is compiled again.
                let _ = std::fs::remove_file(&path);
                Err(broken(why))
            }
            other => Err(broken(format!("a new worker answered {other:?}"))),
        }
    }

    fn give_back(&self, worker: Worker) {
        let mut idle = self.inner.idle.lock().expect("no panic while held");
        if idle.len() >= self.inner.config.slots {
            // The one that has waited longest: its program is the least likely to be wanted next.
            let oldest = (0..idle.len()).min_by_key(|place| idle[*place].0);
            oldest.map(|place| idle.swap_remove(place));
        }
        idle.push((Instant::now(), worker));
    }

    fn spawn(&self, mode: &str) -> Result<Child, WorkerError> {
        let exe = &self.inner.config.exe;
        let mut command = Command::new(exe);
        command.args(["worker", mode]).env_clear();
        if self.inner.config.is_awaited {
            command.env(wall::AWAITED, "1");
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| WorkerError::Start { exe: exe.clone(), source })
    }

    /// Ends workers that have had nothing to do for a while, for as long as the pool lives.
    fn let_go_when_idle(&self) {
        let weak = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE_MAX / 4).await;
                let Some(inner) = weak.upgrade() else { return };
                inner.idle.lock().expect("no panic while held").retain(|(since, _)| since.elapsed() < IDLE_MAX);
            }
        });
    }

    /// The name binds the program, our version and the rules; engine and processor are checked when it is loaded.
    fn cached(&self, id: Hash) -> PathBuf {
        let parts = [id.as_bytes().as_slice(), env!("CARGO_PKG_VERSION").as_bytes(), glean_vm::CLASS.as_bytes()];
        self.inner.config.cache.join(format!("{}.cwasm", Hash::of(&parts.concat())))
    }
}

/// Memory that a worker needs for any of these tasks.
fn data_max(requests: &[RunRequest]) -> u64 {
    let need = |request: &RunRequest| {
        let files: u64 = request.files.iter().map(|file| file.bytes.len() as u64).sum();
        // Files twice: being received, and kept. Output twice: as written, and as sent.
        [request.mem_max, files, files, request.output_max, request.output_max]
            .into_iter()
            .fold(OWN_BYTES, u64::saturating_add)
    };
    let most = requests.iter().map(need).max().unwrap_or(OWN_BYTES);
    // In coarse steps, so that jobs of about the same size share a worker.
    most.checked_next_power_of_two().unwrap_or(u64::MAX)
}

impl Worker {
    /// Sends orders ahead and reads answers, both at once: each side may have to wait for the other to read. An error is
    /// the fate of the first unanswered task.
    async fn run(
        &mut self,
        requests: &[RunRequest],
        replies: &mut Vec<Result<RunReply, NoVerdict>>,
        fuel: &FuelLeft,
    ) -> Result<(), NoVerdict> {
        let (window, sent) = (Semaphore::new(AHEAD), Semaphore::new(0));
        let Worker { to, from, files, .. } = self;
        let mut sender = Sender { to, files };
        let sending = async {
            // If the worker hangs up, reading its answers finds out.
            let _ = sender.send_all(requests, fuel, &window, &sent).await;
            std::future::pending::<()>().await;
        };
        let receiving = receive_all(from, requests, fuel, &window, &sent, replies);
        tokio::select! {
            done = receiving => done,
            () = sending => Ok(()),
        }
    }

    async fn send(&mut self, message: &impl Serialize) -> Result<(), String> {
        send(&mut self.to, message).await
    }
}

/// What the fuel of several batches that are paid together may still be. Cheap to clone: all clones are one.
#[derive(Debug, Clone)]
pub struct FuelLeft(Arc<Mutex<Fuel>>);

#[derive(Debug)]
struct Fuel {
    left: u64,
    /// Tasks that it was not enough for: work that nobody pays.
    stopped: u32,
}

impl FuelLeft {
    /// So much, [`params::FUEL_PER_TASK`] of each task included.
    pub fn new(fuel: u64) -> FuelLeft {
        FuelLeft(Arc::new(Mutex::new(Fuel { left: fuel, stopped: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Fuel> {
        self.0.lock().expect("no panic while held")
    }

    /// What a batch that begins now may burn.
    fn now(&self) -> u64 {
        let fuel = self.lock();
        if fuel.stopped < STOPPED_MAX { fuel.left } else { 0 }
    }

    /// A task is answered and will be paid.
    fn take(&self, burnt: u64) {
        let mut fuel = self.lock();
        fuel.left = fuel.left.saturating_sub(burnt.saturating_add(params::FUEL_PER_TASK));
    }

    /// A task was stopped because of it.
    fn stopped(&self) {
        self.lock().stopped += 1;
    }
}

/// The writing half of a worker.
struct Sender<'w> {
    to: &'w mut BufWriter<ChildStdin>,
    files: &'w mut BTreeMap<Hash, u64>,
}

impl Sender<'_> {
    async fn send_all(
        &mut self,
        requests: &[RunRequest],
        fuel: &FuelLeft,
        window: &Semaphore,
        sent: &Semaphore,
    ) -> Result<(), String> {
        send(self.to, &ToWorker::Fuel(fuel.now())).await?;
        for (number, request) in requests.iter().enumerate() {
            match window.try_acquire() {
                Ok(permit) => permit.forget(),
                Err(_) => {
                    self.to.flush().await.map_err(|e| e.to_string())?;
                    window.acquire().await.map_err(|e| e.to_string())?.forget();
                }
            }
            self.send_files(&request.files).await?;
            self.send_order(number, request).await?;
            sent.add_permits(1);
        }
        self.to.flush().await.map_err(|e| e.to_string())
    }

    async fn send_order(&mut self, number: usize, request: &RunRequest) -> Result<(), String> {
        let order = Order {
            number: u32::try_from(number).map_err(|e| e.to_string())?,
            args: request.args.clone(),
            env: request.env.clone(),
            stdin: request.stdin.clone(),
            files: request.files.iter().map(|file| (file.guest.clone(), file.hash)).collect(),
            seed: request.seed,
            clock_ns: request.clock_ns,
            fuel_max: request.fuel_max,
            mem_max: request.mem_max,
            output_max: request.output_max.min(OUTPUT_BYTES_MAX),
        };
        send(self.to, &ToWorker::Run(Box::new(order))).await
    }

    /// Each file goes to each worker once.
    async fn send_files(&mut self, files: &[RunFile]) -> Result<(), String> {
        if files.iter().all(|file| self.files.contains_key(&file.hash)) {
            return Ok(());
        }
        let more: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
        if self.files.values().sum::<u64>() + more > FILES_KEPT_BYTES_MAX {
            send(self.to, &ToWorker::ForgetFiles).await?;
            self.files.clear();
        }
        for file in files {
            if self.files.insert(file.hash, file.bytes.len() as u64).is_none() {
                send(self.to, &ToWorker::File { hash: file.hash, bytes: file.bytes.to_vec() }).await?;
            }
        }
        Ok(())
    }
}

async fn receive_all(
    from: &mut BufReader<ChildStdout>,
    requests: &[RunRequest],
    fuel: &FuelLeft,
    window: &Semaphore,
    sent: &Semaphore,
    replies: &mut Vec<Result<RunReply, NoVerdict>>,
) -> Result<(), NoVerdict> {
    for (number, request) in requests.iter().enumerate() {
        // The clock runs from when the worker has both the order and nothing else to do.
        match tokio::time::timeout(START_PATIENCE, sent.acquire()).await {
            Ok(Ok(permit)) => permit.forget(),
            _ => return Err(NoVerdict::Worker("it does not take orders".into())),
        }
        let patience = Duration::from_millis(request.timeout_ms).saturating_add(PATIENCE);
        let size_max = request.output_max.min(OUTPUT_BYTES_MAX) + ANSWER_BYTES;
        let answer = match tokio::time::timeout(patience, read::<FromWorker>(from, size_max)).await {
            Err(_) => return Err(NoVerdict::Deadline),
            Ok(Err(error)) => return Err(NoVerdict::Worker(error)),
            Ok(Ok(None)) => return Err(NoVerdict::Worker("it died".into())),
            Ok(Ok(Some(answer))) => answer,
        };
        let answer = checked(answer, number)?;
        match &answer {
            Ok(reply) => fuel.take(reply.fuel),
            Err(NoVerdict::FuelCap) => fuel.stopped(),
            Err(_) => {}
        }
        replies.push(answer);
        if (number + 1) % AHEAD_STEP == 0 {
            window.add_permits(AHEAD_STEP);
        }
    }
    Ok(())
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.start_kill();
    }
}

/// The answer to order `number`, and to no other.
fn checked(answer: FromWorker, number: usize) -> Result<Result<RunReply, NoVerdict>, NoVerdict> {
    let garbage = || NoVerdict::Worker("it answered something else than it was asked".into());
    match answer {
        FromWorker::Done { number: n, reply } if n as usize == number => Ok(Ok(RunReply {
            outcome: reply.outcome,
            fuel: reply.fuel,
            stdout: reply.stdout,
            stderr: reply.stderr,
            files: reply.files,
        })),
        FromWorker::NoVerdict { number: n, why } if n as usize == number => Ok(Err(match why {
            Why::HostMemory => NoVerdict::HostMemory,
            Why::StackOverflow => NoVerdict::StackOverflow,
            Why::Unusable(text) => NoVerdict::Unusable(text),
            Why::Engine(text) => NoVerdict::Worker(text),
            Why::FuelCap => NoVerdict::FuelCap,
        })),
        _ => Err(garbage()),
    }
}

fn pipes(child: &mut Child) -> Result<(ChildStdin, BufReader<ChildStdout>), WorkerError> {
    let missing = || WorkerError::Broken("no pipe".into());
    let to = child.stdin.take().ok_or_else(missing)?;
    let from = child.stdout.take().ok_or_else(missing)?;
    Ok((to, BufReader::with_capacity(1 << 16, from)))
}

async fn send(to: &mut BufWriter<ChildStdin>, message: &impl Serialize) -> Result<(), String> {
    let body = encode(message);
    let len = u32::try_from(body.len()).map_err(|e| e.to_string())?;
    to.write_all(&len.to_le_bytes()).await.map_err(|e| e.to_string())?;
    to.write_all(&body).await.map_err(|e| e.to_string())
}

async fn read<T: DeserializeOwned>(from: &mut BufReader<ChildStdout>, size_max: u64) -> Result<Option<T>, String> {
    let mut len = [0u8; 4];
    match from.read_exact(&mut len).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.to_string()),
    }
    let len = u64::from(u32::from_le_bytes(len));
    if len > size_max {
        return Err("it sent a frame that is too long".into());
    }
    // Grown as bytes arrive: a lying length alone costs nothing.
    let mut body = Vec::new();
    from.take(len).read_to_end(&mut body).await.map_err(|e| e.to_string())?;
    let limit = usize::try_from(size_max).unwrap_or(usize::MAX);
    decode(&body, limit).map(Some).map_err(|e| e.to_string())
}

/// Removes the oldest compiled programs until the folder holds no more than this. What cannot be removed stays.
fn prune(cache: &Path, bytes_max: u64) {
    let Ok(entries) = std::fs::read_dir(cache) else { return };
    let mut files: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "cwasm"))
        .filter_map(|entry| entry.metadata().ok().map(|meta| (meta.modified().ok(), meta.len(), entry.path())))
        .collect();
    files.sort();
    let mut held: u64 = files.iter().map(|(_, len, _)| *len).sum();
    for (_, len, path) in files {
        if held <= bytes_max {
            return;
        }
        if std::fs::remove_file(path).is_ok() {
            held -= len;
        }
    }
}

fn private_dir(path: &Path) -> Result<(), WorkerError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| WorkerError::Cache { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_two_tasks_stopped_no_batch_begins_anything() {
        let fuel = FuelLeft::new(1_000_000);
        fuel.clone().take(100_000);
        assert_eq!(fuel.now(), 800_000, "its own fuel and the fee of each task");
        fuel.stopped();
        assert_eq!(fuel.now(), 800_000);
        fuel.clone().stopped();
        assert_eq!(fuel.now(), 0);
    }
}
