//! `glean run` and `glean quote`: from typed flags to a job, and its output back to where it was wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Read};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use glean_node::api::types::{
    JobAccepted, JobRequest, JobSummary, OUTPUT_LINES_MAX, OutputLine, Quote, TaskLine, TaskList,
};
use glean_protocol::Event;
use glean_types::params;
use hyper::Method;
use hyper::body::Bytes;
use indicatif::ProgressBar;

use super::{Context, absolute, escape};
use crate::args::{JobArgs, QuoteArgs, RunArgs};
use crate::client::Client;
use crate::fail::{EXIT_INTERRUPTED, EXIT_TOOL, Fail};
use crate::follow::{Follow, Interrupts, Next, Progress};
use crate::out_dir::{ManifestTask, OutDir, OutManifest};
use crate::text;
use crate::ui::Ui;

/// How long a second Ctrl-C means "cancel".
const CANCEL_WINDOW: Duration = Duration::from_secs(2);
/// The largest list of tasks or standard input we read, bytes.
const STDIN_BYTES_MAX: u64 = 16 << 20;

/// `glean run`.
pub async fn run(context: &Context, args: RunArgs) -> Result<u8> {
    let ui = &context.ui;
    let request = request(&args.job, args.max_fails)?;
    let out = args.out.as_deref().map(OutDir::create).transpose()?;
    let node = context.node().await?;
    let accepted: JobAccepted = node.post("/jobs", &request).await?;
    if args.detach {
        ui.answer(&accepted, |job| job.job.to_string())?;
        ui.say(&text!(ui, "run-detached", job = accepted.job.short()));
        return Ok(0);
    }
    let budget = Ui::money(accepted.budget);
    ui.say(&text!(ui, "run-accepted", job = accepted.job.short(), tasks = accepted.tasks, budget = budget));
    let sink = match out {
        Some(dir) => Sink::Folder(dir.for_tasks(accepted.tasks)),
        None if ui.json => Sink::Nowhere,
        None => Sink::Stream(Stream::default()),
    };
    attend(context, &node, &accepted.job.to_string(), accepted.tasks, sink).await
}

/// `glean quote`.
pub async fn quote(context: &Context, args: QuoteArgs) -> Result<u8> {
    let ui = &context.ui;
    let request = request(&args.job, None)?;
    let node = context.node().await?;
    let spinner = ui.spinner(text!(ui, "quote-running", n = args.samples));
    let body = serde_json::json!({ "job": request, "samples": args.samples });
    let quote: Result<Quote> = node.post("/quote", &body).await;
    spinner.finish_and_clear();
    ui.answer(&quote?, |quote| say_quote(ui, quote))?;
    Ok(0)
}

fn say_quote(ui: &Ui, quote: &Quote) -> String {
    let tasks = text!(
        ui,
        "quote-tasks",
        tasks = quote.tasks,
        sampled = quote.sampled,
        each = Ui::duration(quote.ms_mean),
        fuel = quote.fuel_mean,
    );
    let price = text!(
        ui,
        "quote-price",
        low = Ui::money(quote.price_low),
        high = Ui::money(quote.price_high),
        checks = format!("{}.{}", quote.check_permille / 10, quote.check_permille % 10),
        balance = Ui::money(quote.balance),
    );
    let machines = match quote.machines {
        0 => text!(ui, "quote-nobody"),
        n => {
            let time = Ui::duration(quote.seconds.saturating_mul(1000));
            text!(ui, "quote-machines", machines = n, slots = quote.slots, time = time)
        }
    };
    [tasks, price, machines].join("\n")
}

/// The job as the node wants it.
fn request(args: &JobArgs, max_fails: Option<u32>) -> Result<JobRequest> {
    let inputs = args.inputs.iter().map(|(host, guest)| {
        let host = absolute(host)?;
        match host.try_exists() {
            Ok(true) => Ok((host, guest.clone())),
            _ => Err(Fail::new("no_input", host.display().to_string()).into()),
        }
    });
    if !args.program.is_file() {
        return Err(Fail::new("no_program", args.program.display().to_string()).into());
    }
    Ok(JobRequest {
        program: absolute(&args.program)?,
        args: args.args.clone(),
        tasks: tasks(args)?,
        env: args.env.clone(),
        inputs: inputs.collect::<Result<_>>()?,
        mem_max: args.mem,
        timeout_ms: args.timeout,
        fuel_max: args.fuel,
        output_max: args.output_max,
        max: args.max,
        max_fails,
        request_id: request_id()?,
    })
}

/// A fresh id, so that a request repeated by this process is one job.
pub fn request_id() -> Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| Fail::new("no_randomness", e.to_string()))?;
    Ok(hex::encode(bytes))
}

fn tasks(args: &JobArgs) -> Result<TaskList> {
    match (&args.each_line, args.array) {
        (Some(file), _) => lines(file),
        (None, Some((from, to))) => Ok(TaskList::Range { from, to }),
        (None, None) => Ok(TaskList::One { stdin: piped_stdin()? }),
    }
}

fn lines(file: &Path) -> Result<TaskList> {
    let tried = || format!("could not read the task list {}", file.display());
    let bytes = if file == Path::new("-") {
        read_stdin().with_context(tried)?
    } else {
        std::fs::read(file).with_context(tried)?
    };
    let text = String::from_utf8(bytes).context("it is not UTF-8 text").with_context(tried)?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match lines.len() {
        0 => Err(Fail::new("no_tasks", file.display().to_string()).into()),
        n if n > params::JOB_TASKS_MAX as usize => Err(Fail::new("too_many_tasks", n.to_string()).into()),
        _ => Ok(TaskList::Lines { lines }),
    }
}

/// Standard input for the program: what is piped in, nothing from a terminal.
fn piped_stdin() -> Result<Vec<u8>> {
    if std::io::stdin().is_terminal() { Ok(Vec::new()) } else { read_stdin() }
}

fn read_stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(STDIN_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .context("could not read standard input")?;
    if bytes.len() as u64 > STDIN_BYTES_MAX {
        return Err(Fail::new("stdin_too_large", (STDIN_BYTES_MAX >> 20).to_string()).into());
    }
    Ok(bytes)
}

/// Where outputs go.
pub enum Sink {
    /// To a folder, when the job is over.
    Folder(OutDir),
    /// To stdout and stderr, in the order of tasks, as they come.
    Stream(Stream),
    /// Events only.
    Nowhere,
}

/// Tasks that are over and the next one to be printed.
#[derive(Debug, Default)]
pub struct Stream {
    ready: BTreeSet<u32>,
    next: u32,
}

impl Stream {
    /// Takes note of tasks that are over; gives those whose turn has come.
    fn take(&mut self, over: &[u32]) -> Range<u32> {
        self.ready.extend(over.iter().filter(|index| **index >= self.next));
        let from = self.next;
        while self.ready.remove(&self.next) {
            self.next += 1;
        }
        from..self.next
    }
}

/// Follows a job to its end (or until Ctrl-C), delivering its outputs.
pub async fn attend(context: &Context, node: &Client, job: &str, tasks: u32, mut sink: Sink) -> Result<u8> {
    let ui = &context.ui;
    let mut follow = Follow::start(node, job, true, Some(Interrupts::listen())).await?;
    match watch(ui, node, job, tasks, &mut sink, &mut follow).await? {
        Some(progress) => conclude(ui, node, job, &progress, sink).await,
        None => detach_or_cancel(ui, node, job, &mut follow).await,
    }
}

/// Shows a job's progress until it is over; `None` when Ctrl-C came first.
pub async fn watch(
    ui: &Ui,
    node: &Client,
    job: &str,
    tasks: u32,
    sink: &mut Sink,
    follow: &mut Follow,
) -> Result<Option<Progress>> {
    let bar = ui.bar(tasks.into());
    let (mut why_quiet, mut said) = (String::new(), Vec::new());
    let mut progress = Progress::recall(&node.get::<Vec<TaskLine>>(&format!("/jobs/{job}/tasks")).await?);
    let mut over: Vec<u32> = progress.succeeded.union(&progress.failed).copied().collect();
    deliver_turn(ui, node, job, &mut over, sink, &bar).await?;
    bar.set_position(progress.done());
    loop {
        match follow.next().await? {
            Next::Event(line, raw) => {
                if ui.json {
                    said.extend_from_slice(&raw);
                }
                progress.apply(&line.event);
                over.extend(finished(&line.event));
                // One look, and one question for outputs, at all the news that came together.
                if !follow.has_next() {
                    ui.out_bytes(&said)?;
                    said.clear();
                    bar.set_position(progress.done());
                    bar.set_message(progress.note(ui));
                    deliver_turn(ui, node, job, &mut over, sink, &bar).await?;
                }
            }
            Next::Silence => {
                let why = explanation(node, job).await?;
                bar.set_message(why.clone());
                // A log file gets each reason once, not every few seconds.
                if !ui.lively && why != why_quiet {
                    ui.say(&why);
                }
                why_quiet = why;
            }
            Next::End if is_running(node, job).await? => follow.resume(node, job).await?,
            Next::End => break,
            Next::Interrupt => {
                ui.out_bytes(&said)?;
                bar.finish_and_clear();
                return Ok(None);
            }
        }
    }
    bar.finish_and_clear();
    Ok(Some(progress))
}

/// The last thing the node says about where a job stands: the reason when nothing moves.
async fn explanation(node: &Client, job: &str) -> Result<String> {
    let answer: serde_json::Value = node.get(&format!("/jobs/{job}/explain")).await?;
    let lines = answer["text"].as_array().cloned().unwrap_or_default();
    Ok(lines.iter().skip(1).chain(&lines).find_map(|line| line.as_str()).unwrap_or_default().to_owned())
}

async fn is_running(node: &Client, job: &str) -> Result<bool> {
    Ok(node.get::<JobSummary>(&format!("/jobs/{job}")).await?.state == "running")
}

/// Prints the tasks whose turn has come, now that these are over.
async fn deliver_turn(
    ui: &Ui,
    node: &Client,
    job: &str,
    over: &mut Vec<u32>,
    sink: &mut Sink,
    bar: &ProgressBar,
) -> Result<()> {
    let over = std::mem::take(over);
    let Sink::Stream(stream) = sink else { return Ok(()) };
    let mut turn = stream.take(&over);
    while !turn.is_empty() {
        let part = turn.start..turn.end.min(turn.start.saturating_add(OUTPUT_LINES_MAX));
        turn.start = part.end;
        print_tasks(ui, node, job, part, bar).await?;
    }
    Ok(())
}

fn finished(event: &Event) -> Option<u32> {
    match event {
        Event::TaskAccepted { index, .. } | Event::TaskFailed { index, .. } => Some(*index),
        _ => None,
    }
}

/// The first Ctrl-C leaves the job alone; a second one soon after ends it.
async fn detach_or_cancel(ui: &Ui, node: &Client, job: &str, follow: &mut Follow) -> Result<u8> {
    let short = job.get(..8).unwrap_or(job);
    ui.say(&text!(ui, "run-left", job = short));
    if follow.interrupted_within(CANCEL_WINDOW).await {
        node.act(Method::POST, &format!("/jobs/{job}/cancel")).await?;
        ui.say(&text!(ui, "job-cancelled", job = short));
    }
    Ok(EXIT_INTERRUPTED)
}

/// Prints what these tasks wrote. One that no machine gave a verdict on has written nothing.
async fn print_tasks(ui: &Ui, node: &Client, job: &str, tasks: Range<u32>, bar: &ProgressBar) -> Result<()> {
    for (index, (stdout, stderr)) in outputs_of(node, job, tasks.start, tasks.end - 1).await? {
        let stdout = output(node, job, index, "stdout", stdout).await?;
        let stderr = output(node, job, index, "stderr", stderr).await?;
        if stdout.is_empty() && stderr.is_empty() {
            continue;
        }
        bar.suspend(|| {
            std::io::Write::write_all(&mut std::io::stderr().lock(), &stderr)?;
            ui.out_bytes(&stdout)
        })?;
    }
    Ok(())
}

/// What these tasks wrote to standard output and error; `None` where it is large.
async fn outputs_of(
    node: &Client,
    job: &str,
    from: u32,
    to: u32,
) -> Result<BTreeMap<u32, (Option<String>, Option<String>)>> {
    let lines: Vec<OutputLine> = node.get(&format!("/jobs/{job}/outputs?from={from}&to={to}")).await?;
    Ok(lines.into_iter().map(|line| (line.index, (line.stdout, line.stderr))).collect())
}

/// What a task wrote: as it came, or fetched alone because it is large.
async fn output(node: &Client, job: &str, index: u32, name: &str, inline: Option<String>) -> Result<Bytes> {
    match inline {
        Some(digits) => Ok(hex::decode(digits).context("an output of the node is not hexadecimal")?.into()),
        None => node.bytes(&format!("/jobs/{job}/tasks/{index}/{name}")).await,
    }
}

async fn conclude(ui: &Ui, node: &Client, job: &str, progress: &Progress, sink: Sink) -> Result<u8> {
    let summary: JobSummary = node.get(&format!("/jobs/{job}")).await?;
    let lines: Vec<TaskLine> = node.get(&format!("/jobs/{job}/tasks")).await?;
    if let Sink::Folder(dir) = &sink {
        let files = deliver(ui, node, &summary, &lines, dir).await?;
        ui.done(&text!(ui, "run-written", n = files));
    }
    if ui.json {
        ui.out_json(&summary)?;
    }
    let spent = Ui::money(summary.spent);
    ui.done(&text!(ui, "run-over", done = summary.succeeded, tasks = summary.tasks, spent = spent));
    for caught in &progress.caught {
        let (machine, unpaid) = (caught.provider.short(), Ui::money(caught.unpaid));
        ui.say(&text!(ui, "run-caught", machine = machine, task = caught.task, unpaid = unpaid));
    }
    if summary.failed > 0 {
        ui.say(&text!(ui, "run-failed", n = summary.failed, job = summary.job.short()));
    }
    Ok(exit_code(&summary, &lines))
}

/// A single task's own code; otherwise 0 only if every task succeeded.
fn exit_code(summary: &JobSummary, lines: &[TaskLine]) -> u8 {
    match lines {
        _ if summary.state == "cancelled" => EXIT_INTERRUPTED,
        [task] => task.exit_code.map_or(EXIT_TOOL, |code| u8::try_from(code).unwrap_or(EXIT_TOOL)),
        _ if summary.succeeded == summary.tasks => 0,
        _ => 1,
    }
}

/// Writes a job's outputs below a folder; answers how many files.
pub async fn deliver(ui: &Ui, node: &Client, job: &JobSummary, lines: &[TaskLine], dir: &OutDir) -> Result<usize> {
    let bar = ui.bar(lines.len() as u64);
    let mut tasks = Vec::new();
    let mut count = 0;
    let id = job.job.to_string();
    let mut outputs = BTreeMap::new();
    for line in lines {
        if line.index % OUTPUT_LINES_MAX == 0 {
            outputs = outputs_of(node, &id, line.index, line.index.saturating_add(OUTPUT_LINES_MAX - 1)).await?;
        }
        let mut files = Vec::new();
        let (stdout, stderr) = outputs.remove(&line.index).unwrap_or_default();
        if line.exit_code.is_some() {
            let bytes = output(node, &id, line.index, "stdout", stdout).await?;
            files.push(dir.write(&dir.stdout(line.index), &bytes)?);
        }
        if line.stderr_len > 0 {
            let bytes = output(node, &id, line.index, "stderr", stderr).await?;
            files.push(dir.write(&dir.stderr(line.index), &bytes)?);
        }
        let guest: Vec<String> = line.files.iter().map(|(path, _)| path.clone()).collect();
        for (path, name) in guest.iter().zip(dir.files(line.index, &guest)) {
            let bytes = node.bytes(&format!("/jobs/{id}/tasks/{}/file?path={}", line.index, escape(path))).await?;
            files.push(dir.write(&name, &bytes)?);
        }
        count += files.len();
        tasks.push(ManifestTask::new(line, files));
        bar.inc(1);
    }
    bar.finish_and_clear();
    dir.finish(&OutManifest { job: job.job, tasks })?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use glean_types::{Amount, JobId};

    #[test]
    fn outputs_are_printed_in_the_order_of_tasks() {
        let mut stream = Stream::default();
        assert!(stream.take(&[1, 3]).is_empty());
        assert_eq!(stream.take(&[0]), 0..2);
        assert_eq!(stream.take(&[5, 2]), 2..4);
        assert!(stream.take(&[1]).is_empty(), "an event that comes twice prints once");
    }

    fn summary(tasks: u32, succeeded: u32, state: &str) -> JobSummary {
        JobSummary {
            job: JobId([1; 32]),
            name: "a.wasm".into(),
            created_ms: 0,
            state: state.into(),
            tasks,
            waiting: 0,
            running: 0,
            checking: 0,
            succeeded,
            failed: tasks - succeeded,
            cancelled: 0,
            rechecked: 0,
            spent: Amount::ZERO,
            budget: Amount::ZERO,
        }
    }

    fn task(exit_code: Option<i32>) -> TaskLine {
        TaskLine {
            index: 0,
            state: glean_protocol::TaskState::Failed,
            outcome: None,
            exit_code,
            fuel: 0,
            provider: None,
            stdout_len: 0,
            stderr_len: 0,
            files: vec![],
        }
    }

    #[test]
    fn exit_codes_are_dockers() {
        assert_eq!(exit_code(&summary(1, 0, "failed"), &[task(Some(42))]), 42);
        assert_eq!(exit_code(&summary(1, 0, "failed"), &[task(Some(137))]), 137);
        assert_eq!(exit_code(&summary(1, 0, "failed"), &[task(None)]), EXIT_TOOL);
        assert_eq!(exit_code(&summary(1, 0, "cancelled"), &[task(None)]), EXIT_INTERRUPTED);
        let two = [task(Some(0)), task(Some(3))];
        assert_eq!(exit_code(&summary(2, 1, "failed"), &two), 1);
        assert_eq!(exit_code(&summary(2, 2, "succeeded"), &two), 0);
    }
}
