//! `glean jobs | logs | cancel | rerun | explain`: looking at jobs and steering them.

use anyhow::Result;
use glean_node::api::types::{EventLine, JobSummary, TaskLine};
use glean_protocol::{Event, FailReason, TaskState};
use hyper::Method;

use super::run::{Sink, Stream, attend};
use super::{Context, escape};
use crate::args::{JobArg, JobsArgs, LogsArgs, Place, PlaceArg, RerunArgs};
use crate::client::Client;
use crate::follow::{Follow, Next};
use crate::text;
use crate::ui::Ui;

/// `glean jobs [JOB]`.
pub async fn jobs(context: &Context, args: JobsArgs) -> Result<u8> {
    let (ui, node) = (&context.ui, context.node().await?);
    let Some(job) = args.job else {
        let jobs: Vec<JobSummary> = node.get("/jobs").await?;
        ui.answer(&jobs, |jobs| jobs_table(ui, jobs))?;
        return Ok(0);
    };
    let mut tasks: Vec<TaskLine> = node.get(&format!("/jobs/{}/tasks", escape(&job))).await?;
    tasks.retain(|task| !args.failed || task.state == TaskState::Failed);
    ui.answer(&tasks, |tasks| tasks_table(ui, tasks))?;
    Ok(0)
}

fn jobs_table(ui: &Ui, jobs: &[JobSummary]) -> String {
    if jobs.is_empty() {
        return text!(ui, "jobs-none");
    }
    let row = |job: &JobSummary| {
        vec![
            job.job.short(),
            job.name.clone(),
            job.state.clone(),
            format!("{}/{}", job.succeeded, job.tasks),
            job.failed.to_string(),
            Ui::money(job.spent),
            ui.age(job.created_ms),
        ]
    };
    let heads = ["head-job", "head-name", "head-state", "head-done", "head-failed", "head-spent", "head-age"];
    ui.table(&heads, &jobs.iter().map(row).collect::<Vec<_>>())
}

fn tasks_table(ui: &Ui, tasks: &[TaskLine]) -> String {
    let dash = || "-".to_owned();
    let row = |task: &TaskLine| {
        let state = serde_json::to_value(task.state).ok().and_then(|state| state.as_str().map(str::to_owned));
        vec![
            task.index.to_string(),
            state.unwrap_or_else(dash),
            task.outcome.clone().unwrap_or_else(dash),
            task.fuel.to_string(),
            task.provider.map_or_else(dash, |node| node.short()),
            task.stdout_len.to_string(),
            task.files.len().to_string(),
        ]
    };
    let heads = ["head-task", "head-state", "head-outcome", "head-fuel", "head-machine", "head-stdout", "head-files"];
    ui.table(&heads, &tasks.iter().map(row).collect::<Vec<_>>())
}

/// `glean logs [-f] JOB[/TASK]`.
pub async fn logs(context: &Context, args: LogsArgs) -> Result<u8> {
    let node = context.node().await?;
    let Place { job, task } = args.place.place;
    let job = escape(&job);
    match task {
        _ if args.events => events(context, &node, &job, task, args.follow).await,
        Some(index) => task_output(&context.ui, &node, &job, index).await,
        None => output(context, &node, &job, args.follow).await,
    }
}

/// What a job's tasks wrote: what is there, or with `live` until the end.
async fn output(context: &Context, node: &Client, job: &str, live: bool) -> Result<u8> {
    let summary: JobSummary = node.get(&format!("/jobs/{job}")).await?;
    if live {
        let sink = if context.ui.json { Sink::Nowhere } else { Sink::Stream(Stream::default()) };
        return attend(context, node, &summary.job.to_string(), summary.tasks, sink).await;
    }
    let tasks: Vec<TaskLine> = node.get(&format!("/jobs/{job}/tasks")).await?;
    for task in tasks.iter().filter(|task| task.exit_code.is_some()) {
        task_output(&context.ui, node, job, task.index).await?;
    }
    Ok(0)
}

async fn task_output(ui: &Ui, node: &Client, job: &str, index: u32) -> Result<u8> {
    let stderr = node.bytes(&format!("/jobs/{job}/tasks/{index}/stderr")).await?;
    let stdout = node.bytes(&format!("/jobs/{job}/tasks/{index}/stdout")).await?;
    std::io::Write::write_all(&mut std::io::stderr().lock(), &stderr)?;
    ui.out_bytes(&stdout)?;
    Ok(0)
}

async fn events(context: &Context, node: &Client, job: &str, task: Option<u32>, live: bool) -> Result<u8> {
    let ui = &context.ui;
    let mut follow = Follow::start(node, job, live, None).await?;
    loop {
        let line = match follow.next().await? {
            Next::Event(line, _) => line,
            Next::Silence | Next::Interrupt => continue,
            Next::End => break,
        };
        if task.is_some() && task != task_of(&line.event) {
            continue;
        }
        ui.answer(&line, |line| say_event(ui, line))?;
        if matches!(line.event, Event::JobEnded { .. }) {
            break;
        }
    }
    Ok(0)
}

fn task_of(event: &Event) -> Option<u32> {
    match event {
        Event::TaskAccepted { index, .. }
        | Event::TaskFailed { index, .. }
        | Event::CheckPassed { index, .. }
        | Event::LiarCaught { index, .. }
        | Event::TaskCorrected { index, .. } => Some(*index),
        _ => None,
    }
}

fn say_event(ui: &Ui, line: &EventLine) -> String {
    let said = match &line.event {
        Event::JobRefused { why, .. } => text!(ui, "event-job-refused", why = why.clone()),
        Event::TaskCorrected { index, provider, .. } => {
            text!(ui, "event-corrected", task = *index, machine = provider.short())
        }
        Event::TaskAccepted { index, outcome, provider, .. } => {
            text!(ui, "event-accepted", task = *index, outcome = outcome.to_string(), machine = provider.short())
        }
        Event::TaskFailed { index, reason, .. } => {
            text!(ui, "event-failed", task = *index, why = say_reason(ui, reason))
        }
        Event::SliceSent { provider, slice, tasks, .. } => {
            text!(ui, "event-sent", slice = *slice, tasks = *tasks, machine = provider.short())
        }
        Event::SlicePaid { provider, price, .. } => {
            text!(ui, "event-paid", amount = price.to_string(), machine = provider.short())
        }
        Event::CheckPassed { index, provider, checker, .. } => {
            let checker = checker.map_or_else(|| text!(ui, "word-here"), |node| node.short());
            text!(ui, "event-checked", task = *index, machine = provider.short(), checker = checker)
        }
        Event::LiarCaught { index, provider, unpaid, .. } => {
            text!(ui, "run-caught", machine = provider.short(), task = *index, unpaid = unpaid.to_string())
        }
        Event::SliceLost { provider, why, .. } => {
            text!(ui, "event-lost", machine = provider.short(), why = why.clone())
        }
        Event::RefusedBy { provider, refusal } => {
            text!(ui, "event-refused", machine = provider.short(), why = refusal.to_string())
        }
        Event::JobEnded { succeeded, failed, spent, .. } => {
            text!(ui, "event-ended", done = *succeeded, failed = *failed, spent = spent.to_string())
        }
        Event::FundsMissing { why } => text!(ui, "event-funds", why = why.clone()),
        Event::Delivered { requester, tasks, price } => {
            text!(ui, "event-delivered", tasks = *tasks, amount = price.to_string(), machine = requester.short())
        }
        Event::Earned { requester, amount } => {
            text!(ui, "event-earned", amount = amount.to_string(), machine = requester.short())
        }
    };
    format!("{:>6}  {said}", ui.age(line.at_us / 1_000))
}

fn say_reason(ui: &Ui, reason: &FailReason) -> String {
    match reason {
        FailReason::Outcome(outcome) => outcome.to_string(),
        FailReason::NoVerdict(why) => why.to_string(),
        FailReason::Budget => text!(ui, "word-budget"),
    }
}

/// `glean cancel JOB`.
pub async fn cancel(context: &Context, args: JobArg) -> Result<u8> {
    steer(context, &args.job, "cancel", "job-cancelled").await
}

/// `glean rerun JOB --failed`.
pub async fn rerun(context: &Context, args: RerunArgs) -> Result<u8> {
    steer(context, &args.job.job, "rerun", "job-rerun").await
}

/// Tells the node, then shows where the job stands.
async fn steer(context: &Context, job: &str, verb: &str, said: &'static str) -> Result<u8> {
    let (ui, node) = (&context.ui, context.node().await?);
    let job = escape(job);
    node.act(Method::POST, &format!("/jobs/{job}/{verb}")).await?;
    let summary: JobSummary = node.get(&format!("/jobs/{job}")).await?;
    ui.say(&text!(ui, said, job = summary.job.short()));
    if ui.json {
        ui.out_json(&summary)?;
    }
    Ok(0)
}

/// `glean explain JOB[/TASK]`.
pub async fn explain(context: &Context, args: PlaceArg) -> Result<u8> {
    let (ui, node) = (&context.ui, context.node().await?);
    let Place { job, task } = args.place;
    let task = task.map(|index| format!("/{index}")).unwrap_or_default();
    let answer: serde_json::Value = node.get(&format!("/jobs/{}/explain{task}", escape(&job))).await?;
    ui.answer(&answer, |answer| {
        let lines = answer["text"].as_array().into_iter().flatten().filter_map(|line| line.as_str());
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(0)
}
