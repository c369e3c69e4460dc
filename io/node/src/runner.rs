//! Runs the brain's orders in the worker processes: fetch what is missing, run, hand back the answers.
//!
//! A provider's paid work and a requester's own checks go through the same path, so they cannot differ. Checks
//! go first: a payment waits for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use glean_net::{Net, PeerAddr};
use glean_protocol::{Input, NoVerdict, RunId, RunOrder};
use glean_types::{FileRef, Hash, Job, Manifest, NodeId, Outcome, Output, TaskResult, TaskSpec, decode, params};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::brain::Inbox;
use crate::worker::{FuelLeft, RunFile, RunReply, RunRequest, WorkerPool};

/// Tasks that one worker takes at a time: enough to hide the pipe, few enough to share a slice out evenly.
const CHUNK_TASKS_MAX: usize = 64;
/// All input files of one job together.
const FILES_BYTES_MAX: u64 = 4 << 30;
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Files from this size on are asked of other machines first.
const SHARED_BYTES_MIN: u64 = 1 << 20;
/// Inputs unused at two looks this far apart are forgotten.
const INPUTS_IDLE: Duration = Duration::from_secs(10);
/// A guest's clock starts here: 2024-01-01, the same for everyone.
pub const GUEST_CLOCK_NS: u64 = 1_704_067_200_000_000_000;

/// Measured speed of this machine, and how much it has done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// Tasks run.
    pub tasks: u64,
    /// Fuel burnt.
    pub fuel: u64,
    /// Busy time of all slots, microseconds.
    pub busy_us: u64,
    /// Running now.
    pub running: u32,
}

impl Measured {
    /// 10^6 fuel per second and slot; `None` before the first second of work.
    pub fn mfuel_per_s(&self) -> Option<u64> {
        (self.busy_us > 1_000_000).then(|| self.fuel / self.busy_us)
    }
}

/// Runs orders; cheap to clone.
#[derive(Clone)]
pub struct Runner {
    net: Net,
    inbox: Inbox,
    pool: WorkerPool,
    slots: Arc<Semaphore>,
    slots_now: Arc<Mutex<usize>>,
    running: Arc<Mutex<BTreeMap<RunId, AbortHandle>>>,
    measured: Arc<Mutex<Measured>>,
    /// What the last order needed: the slices of a job follow each other.
    last: Arc<Mutex<Option<Inputs>>>,
    /// Demo and tests only: one answer in this many is wrong on purpose.
    lie_every: Option<u32>,
}

/// What all tasks of a job share.
#[derive(Clone)]
struct Inputs {
    of: Hash,
    manifest: Arc<Manifest>,
    files: Arc<Vec<RunFile>>,
}

/// Where blobs come from.
struct Holders {
    /// The requester: it has everything, and is waiting for us.
    sure: Vec<PeerAddr>,
    /// Machines that have worked on the job.
    others: Vec<PeerAddr>,
}

/// What is known of a blob before it is here.
#[derive(Clone, Copy)]
enum Size {
    AtMost(u64),
    Is(u64),
}

impl Holders {
    /// Whom to ask first. What is large spares the requester's line, if another machine has it.
    fn for_bytes(&self, size: Size) -> Vec<PeerAddr> {
        let is_large = matches!(size, Size::Is(bytes) if bytes >= SHARED_BYTES_MIN);
        let (first, then) = if is_large { (&self.others, &self.sure) } else { (&self.sure, &self.others) };
        first.iter().chain(then).cloned().collect()
    }
}

impl Runner {
    /// A runner over a pool with that many slots.
    pub fn new(net: Net, inbox: Inbox, pool: WorkerPool, slots: usize, lie_every: Option<u32>) -> Runner {
        Runner {
            net,
            inbox,
            pool,
            slots: Arc::new(Semaphore::new(slots)),
            slots_now: Arc::new(Mutex::new(slots)),
            running: Arc::default(),
            measured: Arc::default(),
            last: Arc::default(),
            lie_every,
        }
    }

    /// Runs so many tasks at the same time from now on; fewer once what runs is done.
    pub fn set_slots(&self, slots: usize) {
        let mut now = self.slots_now.lock().expect("no panic while held");
        let before = std::mem::replace(&mut *now, slots);
        if slots >= before {
            self.slots.add_permits(slots - before);
            return;
        }
        let (slots, fewer) = (self.slots.clone(), u32::try_from(before - slots).unwrap_or(u32::MAX));
        tokio::spawn(async move { slots.acquire_many(fewer).await.expect("never closed").forget() });
    }

    /// What was measured so far.
    pub fn measured(&self) -> Measured {
        *self.measured.lock().expect("no panic while held")
    }

    /// Starts an order; the brain hears of its end.
    pub fn start(&self, order: RunOrder) {
        let this = self.clone();
        let run = order.run;
        let task = tokio::spawn(async move {
            let count = order.specs.len();
            let results = match this.run(order).await {
                Ok(results) => results,
                Err(why) => vec![Err(why); count],
            };
            this.running.lock().expect("no panic while held").remove(&run);
            this.inbox.send(Input::Ran { run, results }).await;
        });
        self.running.lock().expect("no panic while held").insert(run, task.abort_handle());
    }

    /// Forgets an order. What a worker has begun it finishes, unheard.
    pub fn stop(&self, run: RunId) {
        if let Some(task) = self.running.lock().expect("no panic while held").remove(&run) {
            task.abort();
        }
    }

    /// Runs an order to its end.
    pub async fn run(&self, order: RunOrder) -> Result<Vec<Result<TaskResult, NoVerdict>>, NoVerdict> {
        let holders = Holders {
            sure: order.holders.iter().map(|node| PeerAddr::of(*node)).collect(),
            others: order.others.iter().filter_map(|peer| PeerAddr::from_bytes(peer).ok()).collect(),
        };
        self.prepare(&order.job, &holders).await?;
        let Inputs { manifest, files, .. } = self.inputs(&order.job, &holders).await?;
        let chunk = order.specs.len().div_ceil(self.slots.available_permits().max(1)).clamp(1, CHUNK_TASKS_MAX);
        let fuel = FuelLeft::new(order.fuel_cap);
        let chunks = order.specs.chunks(chunk).map(|specs| {
            let (this, job, manifest, files) = (self.clone(), order.job.clone(), manifest.clone(), files.clone());
            let (specs, fuel) = (specs.to_vec(), fuel.clone());
            async move { this.run_chunk(&job, &manifest, &files, specs, &fuel).await }
        });
        let done = futures::future::join_all(chunks).await;
        Ok(done.into_iter().flatten().collect())
    }

    async fn run_chunk(
        &self,
        job: &Job,
        manifest: &Manifest,
        files: &Arc<Vec<RunFile>>,
        specs: Vec<TaskSpec>,
        fuel: &FuelLeft,
    ) -> Vec<Result<TaskResult, NoVerdict>> {
        let _slot = self.slots.acquire().await.expect("never closed");
        let requests: Vec<RunRequest> = specs.iter().map(|spec| request(job, manifest, files, spec)).collect();
        self.began(1);
        let start = Instant::now();
        let replies = self.pool.run_within(job.program, requests, fuel).await;
        let busy_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.ended(&replies, busy_us);
        let mut results = Vec::with_capacity(specs.len());
        for (spec, reply) in specs.iter().zip(replies) {
            results.push(match reply {
                Ok(reply) => self.result(spec.index, reply).await,
                Err(why) => Err(why),
            });
        }
        results
    }

    fn began(&self, chunks: u32) {
        self.measured.lock().expect("no panic while held").running += chunks;
    }

    fn ended(&self, replies: &[Result<RunReply, NoVerdict>], busy_us: u64) {
        let mut measured = self.measured.lock().expect("no panic while held");
        measured.running -= 1;
        measured.tasks += replies.len() as u64;
        let fuel = replies.iter().flatten().map(|reply| reply.fuel).fold(0, u64::saturating_add);
        measured.fuel = measured.fuel.saturating_add(fuel);
        measured.busy_us += busy_us;
    }

    async fn result(&self, index: u32, reply: RunReply) -> Result<TaskResult, NoVerdict> {
        let mut files = Vec::with_capacity(reply.files.len());
        for (path, bytes) in reply.files {
            files.push((path, self.output(bytes).await?));
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let mut result = TaskResult {
            index,
            outcome: reply.outcome,
            fuel: reply.fuel,
            stdout: self.output(reply.stdout).await?,
            stderr: self.output(reply.stderr).await?,
            files,
        };
        if self.lie_every.is_some_and(|n| index % n == n - 1) {
            falsify(&mut result);
        }
        Ok(result)
    }

    async fn output(&self, bytes: Vec<u8>) -> Result<Output, NoVerdict> {
        if bytes.len() <= params::INLINE_OUTPUT_MAX {
            return Ok(Output::Inline(bytes));
        }
        let len = bytes.len() as u64;
        let hash = self.blobs()?.put(bytes).await.map_err(|e| NoVerdict::Worker(e.to_string()))?;
        Ok(Output::Blob { hash, len })
    }

    async fn prepare(&self, job: &Job, holders: &Holders) -> Result<(), NoVerdict> {
        if self.pool.has_program(job.program) {
            return Ok(());
        }
        let bytes = self.blob(job.program, holders, Size::AtMost(params::PROGRAM_BYTES_MAX as u64)).await?;
        self.pool.ensure_program(job.program, bytes).await.map_err(|e| NoVerdict::Unusable(e.to_string()))
    }

    /// Manifest and input files, in memory for as long as orders for them keep coming.
    async fn inputs(&self, job: &Job, holders: &Holders) -> Result<Inputs, NoVerdict> {
        let last = self.last.lock().expect("no panic while held").clone();
        if let Some(inputs) = last.filter(|inputs| inputs.of == job.manifest) {
            return Ok(inputs);
        }
        let manifest = self.manifest(job, holders).await?;
        let files = self.files(&manifest.files, holders).await?;
        let inputs = Inputs { of: job.manifest, manifest: Arc::new(manifest), files: Arc::new(files) };
        *self.last.lock().expect("no panic while held") = Some(inputs.clone());
        Ok(inputs)
    }

    /// Forgets inputs that nobody has used for a while, for as long as the runner lives.
    pub fn forget_when_idle(&self) {
        let last = Arc::downgrade(&self.last);
        tokio::spawn(async move {
            let mut seen = None;
            loop {
                tokio::time::sleep(INPUTS_IDLE).await;
                let Some(last) = last.upgrade() else { return };
                let mut last = last.lock().expect("no panic while held");
                // Uses hold the files: if only we do, and the same ones as last time, they are idle.
                let idle = last.as_ref().filter(|inputs| Arc::strong_count(&inputs.files) == 1).map(|inputs| inputs.of);
                if idle.is_some() && idle == seen {
                    *last = None;
                }
                seen = idle;
            }
        });
    }

    async fn manifest(&self, job: &Job, holders: &Holders) -> Result<Manifest, NoVerdict> {
        let bytes = self.blob(job.manifest, holders, Size::AtMost(MANIFEST_BYTES_MAX)).await?;
        let limit = usize::try_from(MANIFEST_BYTES_MAX).unwrap_or(usize::MAX);
        decode(&bytes, limit).map_err(|e| NoVerdict::Unusable(format!("manifest: {e}")))
    }

    async fn files(&self, files: &[FileRef], holders: &Holders) -> Result<Vec<RunFile>, NoVerdict> {
        let total: u64 = files.iter().map(|file| file.len).fold(0, u64::saturating_add);
        if total > FILES_BYTES_MAX {
            return Err(NoVerdict::Unusable(format!("{total} bytes of input files, {FILES_BYTES_MAX} allowed")));
        }
        let mut out = Vec::with_capacity(files.len());
        for file in files {
            let bytes = self.blob(file.hash, holders, Size::Is(file.len)).await?;
            out.push(RunFile { guest: file.guest.clone(), hash: file.hash, bytes });
        }
        Ok(out)
    }

    async fn blob(&self, hash: Hash, holders: &Holders, size: Size) -> Result<Bytes, NoVerdict> {
        let (Size::AtMost(size_max) | Size::Is(size_max)) = size;
        let unusable = |e: &dyn std::fmt::Display| NoVerdict::Unusable(e.to_string());
        let blobs = self.blobs()?;
        blobs.fetch(hash, &holders.for_bytes(size), size_max, |_| {}).await.map_err(|e| unusable(&e))?;
        blobs.get(hash, size_max).await.map_err(|e| unusable(&e))
    }

    fn blobs(&self) -> Result<&glean_net::Blobs, NoVerdict> {
        self.net.blobs().ok_or_else(|| NoVerdict::Worker("this node keeps no content".into()))
    }

    /// Whose blobs we can have without asking: our own node's.
    pub fn node(&self) -> NodeId {
        self.net.id()
    }
}

fn request(job: &Job, manifest: &Manifest, files: &Arc<Vec<RunFile>>, spec: &TaskSpec) -> RunRequest {
    let args =
        std::iter::once(manifest.name.clone()).chain(manifest.args.iter().cloned()).chain(spec.args.iter().cloned());
    RunRequest {
        args: args.collect(),
        env: manifest.env.clone(),
        stdin: spec.stdin.clone(),
        files: files.clone(),
        seed: task_seed(job, spec.index),
        clock_ns: GUEST_CLOCK_NS,
        fuel_max: job.fuel_max,
        mem_max: job.mem_max,
        output_max: job.output_max,
        timeout_ms: u64::from(job.timeout_ms),
    }
}

/// Each task's randomness follows from the job's seed and its place: any machine draws the same.
fn task_seed(job: &Job, index: u32) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("gleaner 2026 task seed");
    hasher.update(&job.seed.0).update(&index.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// The demo's liar: a plausible wrong answer, signed like any other.
fn falsify(result: &mut TaskResult) {
    match &mut result.stdout {
        Output::Inline(bytes) if !bytes.is_empty() => {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        _ => result.outcome = Outcome::Exit(1),
    }
}
