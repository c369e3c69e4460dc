//! What the API offers, in terms of the running node: the one place where people's wishes meet the brain.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use glean_net::{Net, PeerAddr};
use glean_protocol::{Input, JobView, Record, RunId, RunOrder, ShareTerms, Submission, TaskState};
use glean_types::{AccountKey, Amount, Hash, JobId, NodeId, Output, TaskResult};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::Failure;
use crate::api::types::{
    JobAccepted, JobRequest, JobSummary, MachineLine, NetworkInfo, OutputLine, Quote, ReceiptBundle, ShareRequest,
    ShareStatus, SliceProof, Status, TaskLine,
};
use crate::brain::Inbox;
use crate::clock::now_ms;
use crate::events::Events;
use crate::home::Home;
use crate::import::{self, ImportError, Signer};
use crate::journal::{JournalError, Reader};
use crate::ledger::Ledger;
use crate::network::{JoinLine, Network};
use crate::runner::{Measured, Runner};
use crate::settings::{Machine, Settings, Share};

/// Largest output that the API hands out in one piece.
const OUTPUT_BYTES_MAX: u64 = 1 << 30;
/// A first guess of a slot's speed before anything was measured: a slow core.
const MFUEL_PER_S_GUESS: u64 = 1_000;

/// A status says what is known within this time: it must answer while the ledger does not.
const LEDGER_PATIENCE: Duration = Duration::from_secs(2);

/// A job's face for people, beside what the brain knows.
#[derive(Debug, Clone)]
struct Face {
    name: String,
    created_ms: u64,
    request: Hash,
    accepted: JobAccepted,
}

/// The running node as people see it.
pub struct App {
    /// Its folder.
    pub home: Home,
    /// Its network.
    pub network: Network,
    /// Its place on it.
    pub net: Net,
    /// Its account.
    pub key: AccountKey,
    /// Its brain.
    pub inbox: Inbox,
    /// Its ledger.
    pub ledger: Ledger,
    /// Its journal.
    pub journal: Reader,
    /// Its news.
    pub events: Events,
    /// Its workers.
    pub runner: Runner,
    /// Where its network's relay is, on a ledger node.
    pub relay_url: Option<String>,
    /// Ethereum JSON-RPC, on a ledger node.
    pub rpc_url: Option<String>,
    faces: Mutex<BTreeMap<JobId, Face>>,
    /// Requests being taken on now.
    submitting: Mutex<BTreeMap<Hash, Arc<tokio::sync::Mutex<()>>>>,
    settings: Mutex<Settings>,
    stopping: watch::Sender<bool>,
}

/// See [`App::counts`].
pub struct Counts {
    /// Jobs that are not over.
    pub jobs_running: u64,
    /// Machines offering work.
    pub machines: u64,
    /// The workers' own counts.
    pub work: Measured,
    /// Groups of records on the disk.
    pub journal_frames: u64,
    /// Connections we opened: direct ones, relayed ones.
    pub paths: (u64, u64),
    /// The network's counters by name.
    pub net: Vec<(String, u64)>,
}

/// What an [`App`] is made of.
pub struct Parts {
    /// See [`App`].
    pub home: Home,
    /// See [`App`].
    pub network: Network,
    /// See [`App`].
    pub net: Net,
    /// See [`App`].
    pub key: AccountKey,
    /// See [`App`].
    pub inbox: Inbox,
    /// See [`App`].
    pub ledger: Ledger,
    /// See [`App`].
    pub journal: Reader,
    /// See [`App`].
    pub events: Events,
    /// See [`App`].
    pub runner: Runner,
    /// See [`App`].
    pub relay_url: Option<String>,
    /// See [`App`].
    pub rpc_url: Option<String>,
    /// As read from the home.
    pub settings: Settings,
}

impl App {
    /// Puts the parts together and remembers the jobs of the journal.
    pub fn new(parts: Parts, records: &[Record]) -> App {
        let faces = records.iter().filter_map(|record| match record {
            Record::Submitted(submission) => Some(face(submission)),
            _ => None,
        });
        App {
            home: parts.home,
            network: parts.network,
            net: parts.net,
            key: parts.key,
            inbox: parts.inbox,
            ledger: parts.ledger,
            journal: parts.journal,
            events: parts.events,
            runner: parts.runner,
            relay_url: parts.relay_url,
            rpc_url: parts.rpc_url,
            faces: Mutex::new(faces.collect()),
            submitting: Mutex::default(),
            settings: Mutex::new(parts.settings),
            stopping: watch::Sender::new(false),
        }
    }

    /// Turns true when the node is to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Asks the node to stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    // --- jobs ---

    /// Takes on a job; the same request twice is one job.
    pub async fn submit(&self, request: &JobRequest) -> Result<JobAccepted, Failure> {
        let request_hash = Hash::of(request.request_id.as_bytes());
        // A client that tries again while its first try is still being read waits for that one.
        let turn = self.submitting.lock().expect("no panic while held").entry(request_hash).or_default().clone();
        let _turn = turn.lock().await;
        let accepted = self.submit_once(request, request_hash).await;
        self.submitting.lock().expect("no panic while held").remove(&request_hash);
        accepted
    }

    async fn submit_once(&self, request: &JobRequest, request_hash: Hash) -> Result<JobAccepted, Failure> {
        let known = self.faces().values().find(|face| face.request == request_hash).map(|face| face.accepted.clone());
        #[cfg(feature = "planted")]
        let known = known.filter(|_| !crate::plant::forgets_requests());
        if let Some(known) = known {
            return Ok(known);
        }
        let budget = self.budget(request.max).await?;
        let submission = self.import(request, budget).await?;
        let (job, face) = face(&submission);
        let accepted = face.accepted.clone();
        self.faces().insert(job, face);
        self.inbox.send(Input::Submit(Box::new(submission))).await;
        // Answered only once the brain has it on disk, or has refused it.
        if self.ask(move |node| node.job_view(job)).await?.is_none() {
            self.faces().remove(&job);
            return Err(Failure::bad("job_refused", "the job was refused", "see log/node.log in the home folder"));
        }
        Ok(accepted)
    }

    async fn import(&self, request: &JobRequest, budget: Amount) -> Result<Submission, Failure> {
        let signer =
            Signer { key: &self.key, node: self.net.id(), domain: self.network.domain, budget, now_ms: now_ms() };
        let blobs = self.net.blobs().ok_or_else(Failure::stopping)?;
        let submission = import::import(request, &signer, blobs).await.map_err(import_failure)?;
        blobs.sync().await.map_err(|e| Failure::unavailable("disk", e, "check free disk space"))?;
        Ok(submission)
    }

    /// The cap of a job: what was asked for if we have it, else all we have.
    async fn budget(&self, max: Option<Amount>) -> Result<Amount, Failure> {
        let unreachable = |e| Failure::unavailable("ledger_unreachable", e, "check the network, then `glean doctor`");
        let have = self.ledger.balance().await.map_err(unreachable)?;
        let have = have.saturating_add(self.in_channels().await?);
        match max {
            Some(max) if max > have => Err(Failure::bad(
                "insufficient_balance",
                format!("the cap is {max} gUSD and the account has {have}: {} gUSD missing", max.saturating_sub(have)),
                "lower --max, or get credits: `glean faucet` on a private network",
            )),
            None if have == Amount::ZERO => Err(Failure::bad(
                "insufficient_balance",
                "the account has no gUSD",
                "get credits: `glean faucet` on a private network",
            )),
            max => Ok(max.unwrap_or(have)),
        }
    }

    /// The job of a full id, a unique prefix of one, or `last`.
    pub fn find(&self, id: &str) -> Result<JobId, Failure> {
        let faces = self.faces();
        if id == "last" {
            let last = faces.iter().max_by_key(|(_, face)| face.created_ms).map(|(job, _)| *job);
            return last
                .ok_or_else(|| Failure::not_found("no_job", "there are no jobs yet", "start one: glean run app.wasm"));
        }
        let fits = |job: &&JobId| !id.is_empty() && hex::Buffer::<32>::new().format(&job.0).starts_with(id);
        let matching: Vec<JobId> = faces.keys().filter(fits).copied().collect();
        match matching[..] {
            [job] => Ok(job),
            [] => Err(Failure::not_found("no_job", format!("there is no job `{id}`"), "list them: glean jobs")),
            _ => Err(Failure::bad("ambiguous_job", format!("`{id}` fits {} jobs", matching.len()), "give more digits")),
        }
    }

    /// All jobs, newest first.
    pub async fn jobs(&self) -> Result<Vec<JobSummary>, Failure> {
        let views = self.ask(|node| node.jobs()).await?;
        let faces = self.faces();
        let mut jobs: Vec<JobSummary> =
            views.iter().filter_map(|view| Some(summary(faces.get(&view.job)?, view))).collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.created_ms));
        Ok(jobs)
    }

    /// One job.
    pub async fn job(&self, job: JobId) -> Result<JobSummary, Failure> {
        let view = self.view(job).await?;
        let faces = self.faces();
        let face = faces.get(&job).ok_or_else(Failure::stopping)?;
        Ok(summary(face, &view))
    }

    async fn view(&self, job: JobId) -> Result<JobView, Failure> {
        let missing = || Failure::not_found("no_job", format!("there is no job {job}"), "list them: glean jobs");
        self.ask(move |node| node.job_view(job)).await?.ok_or_else(missing)
    }

    /// A job's tasks.
    pub async fn tasks(&self, job: JobId) -> Result<Vec<TaskLine>, Failure> {
        let states = self.ask(move |node| node.task_states(job)).await?.unwrap_or_default();
        let journal = self.journal.clone();
        let read = tokio::task::spawn_blocking(move || journal.accepted_of(job, 0..=u32::MAX)).await;
        let mut accepted = read.map_err(|_| Failure::stopping())?.map_err(disk_failure)?;
        let line = |(index, state)| match state {
            TaskState::Succeeded | TaskState::Failed => task_line(index, state, accepted.remove(&index)),
            _ => task_line(index, state, None),
        };
        Ok((0..).zip(states).map(line).collect())
    }

    /// The accepted answer of a task.
    pub fn result(&self, job: JobId, index: u32) -> Result<TaskResult, Failure> {
        self.journal.accepted(job, index).map_err(disk_failure)?.map(|(result, _)| result).ok_or_else(|| {
            let message = format!("task {}/{index} has no accepted answer (yet)", job.short());
            Failure::not_found("no_result", message, "see where it stands: glean explain JOB/TASK")
        })
    }

    /// What some tasks wrote, those of them that have an accepted answer; what is large is left to [`App::output`].
    pub async fn outputs(&self, job: JobId, tasks: RangeInclusive<u32>) -> Result<Vec<OutputLine>, Failure> {
        let journal = self.journal.clone();
        let read = tokio::task::spawn_blocking(move || journal.accepted_of(job, tasks)).await;
        let accepted = read.map_err(|_| Failure::stopping())?.map_err(disk_failure)?;
        let small = |output: &Output| match output {
            Output::Inline(bytes) => Some(hex::encode(bytes)),
            Output::Blob { .. } => None,
        };
        let line = |(index, (result, _)): (u32, (TaskResult, NodeId))| OutputLine {
            index,
            stdout: small(&result.stdout),
            stderr: small(&result.stderr),
        };
        Ok(accepted.into_iter().map(line).collect())
    }

    /// The bytes of an output.
    pub async fn output(&self, output: &Output) -> Result<Bytes, Failure> {
        match output {
            Output::Inline(bytes) => Ok(Bytes::copy_from_slice(bytes)),
            Output::Blob { hash, .. } => {
                let blobs = self.net.blobs().ok_or_else(Failure::stopping)?;
                blobs.get(*hash, OUTPUT_BYTES_MAX).await.map_err(|e| {
                    Failure::unavailable("no_output", e, "the store lost it or it is too large: run the job again")
                })
            }
        }
    }

    /// Why a job is where it is.
    pub async fn explain_job(&self, job: JobId) -> Result<Value, Failure> {
        let view = self.view(job).await?;
        let states = self.ask(move |node| node.task_states(job)).await?.unwrap_or_default();
        let waiting = (0..).zip(states).find(|(_, state)| *state == TaskState::Waiting).map(|(index, _)| index);
        let mut text = vec![format!(
            "{} tasks: {} waiting, {} at machines, {} being checked, {} succeeded, {} failed, {} cancelled",
            view.tasks, view.waiting, view.leased, view.checking, view.succeeded, view.failed, view.cancelled
        )];
        if let Some(index) = waiting {
            let why = self.ask(move |node| node.explain_task(job, index)).await?;
            text.extend(why.map(|why| why.text).unwrap_or_default());
        }
        let machines = self.ask(|node| node.machines()).await?;
        text.extend(machines.into_iter().filter_map(|m| Some(format!("machine {}: {}", m.node.short(), m.obstacle?))));
        Ok(json!({ "job": view, "text": text }))
    }

    /// Why a task is where it is, or how it got there.
    pub async fn explain_task(&self, job: JobId, index: u32) -> Result<Value, Failure> {
        let explanation = self.ask(move |node| node.explain_task(job, index)).await?;
        match explanation {
            Some(explanation) => serde_json::to_value(explanation).map_err(|_| Failure::stopping()),
            None => Err(Failure::not_found(
                "no_task",
                format!("there is no task {}/{index}", job.short()),
                "tasks count from 0",
            )),
        }
    }

    /// All papers of a job, enough to check it again without us.
    pub async fn receipts(&self, job: JobId) -> Result<ReceiptBundle, Failure> {
        // What was sent before us is on the disk once this view is answered.
        self.view(job).await?;
        let (journal, domain) = (self.journal.clone(), self.network.domain);
        let read = tokio::task::spawn_blocking(move || bundle(&journal, domain, job)).await;
        read.map_err(|_| Failure::stopping())?.map_err(disk_failure)?.ok_or_else(Failure::stopping)
    }

    /// Runs a few samples here and prices the whole from the offers that stand.
    pub async fn quote(&self, request: &JobRequest, samples: u32) -> Result<Quote, Failure> {
        let balance = self.ledger.balance().await.unwrap_or(Amount::ZERO);
        let submission = self.import(request, balance).await?;
        let picked = pick(&submission, samples.clamp(1, 16));
        let sampled = u32::try_from(picked.len()).unwrap_or(u32::MAX);
        let order = RunOrder {
            run: RunId(u64::MAX),
            job: Arc::new(submission.job.paper.clone()),
            specs: picked,
            others: Vec::new(),
            holders: vec![],
            fuel_cap: u64::MAX,
            is_check: true,
        };
        let start = std::time::Instant::now();
        let results = self.runner.run(order).await;
        let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let no_sample = |why: String| {
            Failure::bad(
                "no_sample",
                format!("a sample task gave no result: {why}"),
                "run it on this machine with --array 1-1 to see why",
            )
        };
        let results = results.map_err(|e| no_sample(e.to_string()))?;
        let fuel: Vec<u64> = results
            .into_iter()
            .map(|r| r.map(|r| r.fuel + glean_types::params::FUEL_PER_TASK).map_err(|e| no_sample(e.to_string())))
            .collect::<Result<_, _>>()?;
        let machines = self.machines().await?;
        Ok(price(&submission, sampled, &fuel, elapsed_ms, &machines, balance))
    }

    // --- lending ---

    /// Starts or changes lending.
    pub async fn share(&self, request: &ShareRequest) -> Result<(), Failure> {
        let share = Share::from_request(request, Machine::probe());
        self.keep_settings(Some(share.clone()))?;
        self.apply_share(&share).await;
        Ok(())
    }

    /// Stops lending.
    pub async fn unshare(&self) -> Result<(), Failure> {
        self.keep_settings(None)?;
        self.inbox.send(Input::Share(None)).await;
        Ok(())
    }

    /// Lends as the settings say, at the start of the node.
    pub async fn resume_share(&self) {
        let share = self.settings().share.clone();
        if let Some(share) = share {
            self.apply_share(&share).await;
        }
    }

    async fn apply_share(&self, share: &Share) {
        self.runner.set_slots(share.slots as usize);
        let terms = ShareTerms {
            price_per_gfuel: share.price_per_gfuel,
            slots: share.slots,
            mem_max: share.mem_max,
            mfuel_per_s: self.runner.measured().mfuel_per_s().unwrap_or(MFUEL_PER_S_GUESS),
            region: share.region.clone(),
            machine: 0,
            peer: glean_types::encode(&self.net.addr()),
        };
        self.inbox.send(Input::Share(Some(terms))).await;
    }

    fn keep_settings(&self, share: Option<Share>) -> Result<(), Failure> {
        let mut settings = self.settings();
        settings.share = share;
        self.home
            .write_json("settings.json", &*settings)
            .map_err(|e| Failure::unavailable("disk", e, "free some space"))
    }

    /// How lending goes; `None` when this node does not lend.
    pub async fn share_status(&self) -> Result<Option<ShareStatus>, Failure> {
        let Some(share) = self.settings().share.clone() else { return Ok(None) };
        let measured = self.runner.measured();
        let (channels, offer) = self.ask(|node| (node.channels(), node.explain_offer())).await?;
        let theirs = || channels.iter().filter(|channel| !channel.ours);
        let held: Amount = theirs().map(|channel| channel.open).sum();
        let promised: Amount = theirs().map(|channel| channel.promised).sum();
        Ok(Some(ShareStatus {
            slots: share.slots,
            running: measured.running,
            mem_max: share.mem_max,
            price_per_gfuel: share.price_per_gfuel,
            mfuel_per_s: measured.mfuel_per_s(),
            tasks_done: measured.tasks,
            held,
            settled: promised.saturating_sub(held),
            why_idle: (offer.busy == 0).then(|| offer.text.join("; ")),
        }))
    }

    // --- the rest ---

    /// Machines known to us.
    pub async fn machines(&self) -> Result<Vec<MachineLine>, Failure> {
        let machines = self.ask(|node| node.machines()).await?;
        Ok(machines
            .into_iter()
            .map(|machine| MachineLine {
                node: machine.node,
                price_per_gfuel: machine.price_per_gfuel,
                slots: machine.slots,
                connected: machine.connected,
                path: machine.connected.then(|| self.net.path(machine.node)).flatten(),
                clean: machine.history.right,
                faults: machine.history.faults,
                mfuel_per_s: machine.history.mfuel_per_s,
                paid: machine.history.paid,
                obstacle: machine.obstacle,
            })
            .collect())
    }

    /// All about this node.
    pub async fn status(&self) -> Result<Status, Failure> {
        let jobs = self.jobs().await?;
        let machines = self.machines().await?;
        let patience = LEDGER_PATIENCE;
        let (height, balance, gas) = tokio::join!(
            tokio::time::timeout(patience, self.ledger.height()),
            tokio::time::timeout(patience, self.ledger.balance()),
            tokio::time::timeout(patience, self.ledger.gas()),
        );
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            home: self.home.root().to_owned(),
            pid: std::process::id(),
            node: self.net.id(),
            account: self.key.address(),
            network: self.network.name.clone(),
            chain_id: self.network.domain.chain_id,
            is_ledger: self.network.ledger.is_none(),
            rpc_url: self.rpc_url.clone(),
            height: height.ok().and_then(Result::ok),
            balance: balance.ok().and_then(Result::ok),
            gas: gas.ok().and_then(Result::ok),
            in_channels: self.in_channels().await?,
            coming_home: self.ask(|node| node.coming_home()).await?,
            share: self.share_status().await?,
            machines: u32::try_from(machines.iter().filter(|m| m.price_per_gfuel.is_some()).count())
                .unwrap_or(u32::MAX),
            jobs_running: u32::try_from(jobs.iter().filter(|job| job.state == "running").count()).unwrap_or(u32::MAX),
        })
    }

    async fn in_channels(&self) -> Result<Amount, Failure> {
        let channels = self.ask(|node| node.channels()).await?;
        Ok(channels
            .iter()
            .filter(|channel| channel.ours && !channel.closing)
            .map(|c| c.deposit.saturating_sub(c.promised))
            .sum())
    }

    /// The network, and how others join it.
    pub fn network_info(&self) -> NetworkInfo {
        let ledger = self.network.ledger.clone().unwrap_or_else(|| {
            // A relay that was opened just now may not be in use yet.
            let ours = self.net.addr();
            PeerAddr { relay: ours.relay.clone().or_else(|| self.relay_url.clone()), ..ours }
        });
        let line = JoinLine { name: self.network.name.clone(), genesis: self.network.genesis, ledger };
        NetworkInfo {
            name: self.network.name.clone(),
            chain_id: self.network.domain.chain_id,
            join_line: line.to_string(),
            rpc_url: self.rpc_url.clone(),
        }
    }

    /// Counts for metrics, from the loop itself: if it hangs, there are none.
    pub async fn counts(&self) -> Result<Counts, Failure> {
        let read = |node: &glean_protocol::Node| {
            let running = node.jobs().iter().filter(|job| !job.ended).count();
            let offering = node.machines().iter().filter(|machine| machine.price_per_gfuel.is_some()).count();
            (running as u64, offering as u64)
        };
        let (jobs_running, machines) = self.ask(read).await?;
        let net = serde_json::to_value(self.net.stats()).unwrap_or_default();
        let net = net.as_object().into_iter().flatten();
        Ok(Counts {
            jobs_running,
            machines,
            work: self.runner.measured(),
            journal_frames: self.journal.frames() as u64,
            paths: self.net.paths(),
            net: net.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect(),
        })
    }

    async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&glean_protocol::Node) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        self.inbox.view(read).await.ok_or_else(Failure::stopping)
    }

    fn faces(&self) -> std::sync::MutexGuard<'_, BTreeMap<JobId, Face>> {
        self.faces.lock().expect("no panic while held")
    }

    fn settings(&self) -> std::sync::MutexGuard<'_, Settings> {
        self.settings.lock().expect("no panic while held")
    }
}

fn face(submission: &Submission) -> (JobId, Face) {
    let job = &submission.job.paper;
    let accepted = JobAccepted { job: job.id(), tasks: job.tasks, budget: job.budget, program: job.program };
    let face = Face { name: submission.manifest.name.clone(), created_ms: job.created_ms, request: job.seed, accepted };
    (face.accepted.job, face)
}

fn summary(face: &Face, view: &JobView) -> JobSummary {
    JobSummary {
        job: view.job,
        name: face.name.clone(),
        created_ms: face.created_ms,
        state: state_word(view).to_owned(),
        tasks: view.tasks,
        waiting: view.waiting,
        running: view.leased,
        checking: view.checking,
        succeeded: view.succeeded,
        failed: view.failed,
        cancelled: view.cancelled,
        rechecked: view.rechecked,
        spent: view.spent,
        budget: view.budget,
    }
}

fn state_word(view: &JobView) -> &'static str {
    match view {
        JobView { ended: false, .. } => "running",
        JobView { cancelled: 1.., .. } => "cancelled",
        JobView { failed: 1.., .. } => "failed",
        _ => "succeeded",
    }
}

fn task_line(index: u32, state: TaskState, accepted: Option<(TaskResult, NodeId)>) -> TaskLine {
    let provider = accepted.as_ref().map(|(_, provider)| *provider);
    let result = accepted.as_ref().map(|(result, _)| result);
    TaskLine {
        index,
        state,
        outcome: result.map(|r| r.outcome.to_string()),
        exit_code: result.map(|r| r.outcome.exit_code()),
        fuel: result.map_or(0, |r| r.fuel),
        provider,
        stdout_len: result.map_or(0, |r| r.stdout.len()),
        stderr_len: result.map_or(0, |r| r.stderr.len()),
        files: result.map_or_else(Vec::new, |r| r.files.iter().map(|(path, out)| (path.clone(), out.len())).collect()),
    }
}

fn import_failure(error: ImportError) -> Failure {
    Failure::bad(error.code(), &error, error.hint())
}

fn disk_failure(error: JournalError) -> Failure {
    Failure::unavailable("disk", error, "check the disk, then start the node again")
}

/// Samples spread over the whole job: the first tasks are often not typical.
fn pick(submission: &Submission, samples: u32) -> Vec<glean_types::TaskSpec> {
    let count = submission.specs.len();
    let samples = (samples as usize).min(count);
    (0..samples).map(|i| submission.specs[i * count / samples].clone()).collect()
}

fn price(
    submission: &Submission,
    sampled: u32,
    fuel: &[u64],
    elapsed_ms: u64,
    machines: &[MachineLine],
    balance: Amount,
) -> Quote {
    let tasks = submission.job.paper.tasks;
    let fuel_mean = fuel.iter().sum::<u64>() / u64::from(sampled.max(1));
    let fuel_max = fuel.iter().copied().max().unwrap_or(0);
    let fit: Vec<&MachineLine> = machines.iter().filter(|m| m.price_per_gfuel.is_some() && m.faults == 0).collect();
    let cheapest = fit.iter().filter_map(|m| m.price_per_gfuel).min().unwrap_or(Amount::ZERO);
    let dearest = fit.iter().filter_map(|m| m.price_per_gfuel).max().unwrap_or(Amount::ZERO);
    let slots: u32 = fit.iter().map(|m| m.slots).sum();
    let ms_mean = elapsed_ms / u64::from(sampled.max(1));
    let check_permille = 100;
    let whole = |per_task: u64, price: Amount| {
        let all = u128::from(per_task) * u128::from(tasks) * u128::from(1000 + check_permille) / 1000;
        u64::try_from(all).ok().and_then(|fuel| price.price_of(fuel)).unwrap_or(Amount::MAX)
    };
    Quote {
        tasks,
        sampled,
        fuel_mean,
        fuel_max,
        ms_mean,
        price_low: whole(fuel_mean, cheapest),
        price_high: whole(fuel_max, dearest),
        machines: u32::try_from(fit.len()).unwrap_or(u32::MAX),
        slots,
        seconds: ms_mean * u64::from(tasks) * u64::from(1000 + check_permille) / 1000 / u64::from(slots.max(1)) / 1000,
        balance,
        check_permille,
    }
}

/// Everything the journal holds on a job.
fn bundle(journal: &Reader, domain: glean_types::Domain, job: JobId) -> Result<Option<ReceiptBundle>, JournalError> {
    let (mut found, mut agreements, mut slices, mut paid, mut verdicts) =
        (None, Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
    for record in journal.records_about(job)? {
        match record {
            Record::Submitted(submission) if submission.job.paper.id() == job => found = Some(submission),
            Record::Agreed { agreement, ours: true } => agreements.push(agreement),
            Record::Received { provider, receipt, leaves } if receipt.paper.job == job => {
                let leaves = leaves.into_iter().map(|(index, leaf)| (index, Hash(leaf.0))).collect();
                slices.push(SliceProof { receipt, provider, leaves, paid: None });
            }
            Record::Paid { voucher, slice, .. } => {
                paid.insert((voucher.paper.channel, slice), voucher.paper.cumulative);
            }
            Record::Caught { verdict, receipt, .. } if receipt.paper.job == job => verdicts.push((verdict, receipt)),
            _ => {}
        }
    }
    for slice in &mut slices {
        slice.paid = paid.get(&(slice.receipt.paper.channel, slice.receipt.paper.slice)).copied();
    }
    agreements.retain(|agreement| slices.iter().any(|slice| slice.receipt.paper.channel == agreement.paper.channel));
    Ok(found.map(|submission| ReceiptBundle {
        domain,
        job: submission.job,
        manifest: submission.manifest,
        agreements,
        slices,
        verdicts,
    }))
}
