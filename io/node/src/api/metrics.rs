//! For machines that watch machines: `/healthz`, and numbers in Prometheus' text format at `/metrics`.
//!
//! Both need no token, for a watcher has none: they tell counts that any process of this machine may know, nothing about money,
//! keys, jobs' names or peers. The Host check holds for them, too.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::api::error::Failure;
use crate::app::App;

/// 200 once the node's loop has answered, 503 otherwise.
pub async fn healthz(State(app): State<Arc<App>>) -> Result<&'static str, Failure> {
    app.counts().await.map(|_| "ok\n")
}

/// Every number, with its kind and meaning.
pub async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Failure> {
    let counts = app.counts().await?;
    let mut page = Page::default();
    page.gauge("jobs_running", "Jobs that are not over", counts.jobs_running);
    page.gauge("machines", "Machines offering work now, as far as this node knows", counts.machines);
    page.gauge("tasks_running", "Batches of tasks in this node's workers now", u64::from(counts.work.running));
    page.counter("tasks_run", "Tasks run by this node's workers since it started", counts.work.tasks);
    page.counter("fuel_burnt", "Fuel burnt by them", counts.work.fuel);
    page.counter("busy_microseconds", "Time that their slots were busy", counts.work.busy_us);
    page.counter("journal_frames", "Groups of records on the disk", counts.journal_frames);
    let (direct, relayed) = counts.paths;
    page.gauge("paths_direct", "Connections that this node opened, whose packets go straight to the peer", direct);
    page.gauge("paths_relayed", "Connections that this node opened, whose packets go through the relay", relayed);
    for (name, value) in counts.net {
        page.counter(&format!("net_{name}"), "See glean_net::NetStats", value);
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], page.0))
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.line(name, "gauge", help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.line(&format!("{name}_total"), "counter", help, value);
    }

    fn line(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        let written = write!(self.0, "# HELP glean_{name} {help}\n# TYPE glean_{name} {kind}\nglean_{name} {value}\n");
        written.expect("a string takes everything");
    }
}
