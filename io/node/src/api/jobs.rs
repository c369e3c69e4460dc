//! The job routes.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use futures::Stream;
use glean_protocol::Input;
use glean_types::{JobId, Output};
use serde::Deserialize;
use serde_json::Value;

use crate::api::error::Failure;
use crate::api::types::{
    JobAccepted, JobRequest, JobSummary, OUTPUT_LINES_MAX, OutputLine, Quote, ReceiptBundle, TaskLine,
};
use crate::app::App;
use crate::events::Events;

/// Lines sent to a follower at a time.
const EVENT_LINES: usize = 1_000;

type Answer<T> = Result<Json<T>, Failure>;

pub async fn submit(State(app): State<Arc<App>>, Json(request): Json<JobRequest>) -> Answer<JobAccepted> {
    app.submit(&request).await.map(Json)
}

pub async fn list(State(app): State<Arc<App>>) -> Answer<Vec<JobSummary>> {
    app.jobs().await.map(Json)
}

pub async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<JobSummary> {
    let job = app.find(&id)?;
    app.job(job).await.map(Json)
}

#[derive(Deserialize)]
pub struct Follow {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    follow: bool,
}

pub async fn events(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(query): Query<Follow>,
) -> Result<impl IntoResponse, Failure> {
    let job = app.find(&id)?;
    let ended = app.job(job).await?.state != "running";
    let lines = follow(app.events.clone(), job, query.from, query.follow && !ended);
    Ok(([("content-type", "application/x-ndjson")], Body::from_stream(lines)))
}

/// The job's lines; with `follow`, until the job's last.
fn follow(events: Events, job: JobId, from: u64, follow: bool) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    let news = events.news();
    futures::stream::unfold((events, news, from, false), move |(events, mut news, mut from, over)| async move {
        if over {
            return None;
        }
        loop {
            news.mark_unchanged();
            let lines = events.since(job, from, EVENT_LINES);
            if let Some(last) = lines.last() {
                from = last.seq + 1;
                let over = lines.iter().any(|line| matches!(line.event, glean_protocol::Event::JobEnded { .. }));
                let mut text = Vec::new();
                for line in &lines {
                    serde_json::to_writer(&mut text, line).expect("our types serialise");
                    text.push(b'\n');
                }
                return Some((Ok(Bytes::from(text)), (events, news, from, over)));
            }
            if !follow || news.changed().await.is_err() {
                return None;
            }
        }
    })
}

pub async fn tasks(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Vec<TaskLine>> {
    let job = app.find(&id)?;
    app.tasks(job).await.map(Json)
}

#[derive(Deserialize)]
pub struct Tasks {
    from: u32,
    to: u32,
}

/// At most [`OUTPUT_LINES_MAX`] of them: ask on from where the answer ends.
pub async fn outputs(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(tasks): Query<Tasks>,
) -> Answer<Vec<OutputLine>> {
    let job = app.find(&id)?;
    let to = tasks.to.min(tasks.from.saturating_add(OUTPUT_LINES_MAX - 1));
    app.outputs(job, tasks.from..=to).await.map(Json)
}

pub async fn stdout(State(app): State<Arc<App>>, Path((id, index)): Path<(String, u32)>) -> Result<Bytes, Failure> {
    let job = app.find(&id)?;
    let result = app.result(job, index)?;
    app.output(&result.stdout).await
}

pub async fn stderr(State(app): State<Arc<App>>, Path((id, index)): Path<(String, u32)>) -> Result<Bytes, Failure> {
    let job = app.find(&id)?;
    let result = app.result(job, index)?;
    app.output(&result.stderr).await
}

#[derive(Deserialize)]
pub struct FilePath {
    path: String,
}

pub async fn file(
    State(app): State<Arc<App>>,
    Path((id, index)): Path<(String, u32)>,
    Query(query): Query<FilePath>,
) -> Result<Bytes, Failure> {
    let job = app.find(&id)?;
    let result = app.result(job, index)?;
    let found: Option<&Output> = result.files.iter().find(|(path, _)| *path == query.path).map(|(_, output)| output);
    let Some(output) = found else {
        return Err(Failure::not_found(
            "no_file",
            format!("the task left no file {}", query.path),
            "see `glean jobs JOB`",
        ));
    };
    app.output(output).await
}

pub async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<JobSummary> {
    let job = app.find(&id)?;
    app.inbox.send(Input::Cancel(job)).await;
    app.job(job).await.map(Json)
}

pub async fn rerun(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<JobSummary> {
    let job = app.find(&id)?;
    app.inbox.send(Input::RerunFailed(job)).await;
    app.job(job).await.map(Json)
}

pub async fn explain_job(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Value> {
    let job = app.find(&id)?;
    app.explain_job(job).await.map(Json)
}

pub async fn explain_task(State(app): State<Arc<App>>, Path((id, index)): Path<(String, u32)>) -> Answer<Value> {
    let job = app.find(&id)?;
    app.explain_task(job, index).await.map(Json)
}

pub async fn receipts(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<ReceiptBundle> {
    let job = app.find(&id)?;
    app.receipts(job).await.map(Json)
}

#[derive(Deserialize)]
pub struct QuoteRequest {
    job: JobRequest,
    #[serde(default)]
    samples: Option<u32>,
}

pub async fn quote(State(app): State<Arc<App>>, Json(request): Json<QuoteRequest>) -> Answer<Quote> {
    app.quote(&request.job, request.samples.unwrap_or(3)).await.map(Json)
}
