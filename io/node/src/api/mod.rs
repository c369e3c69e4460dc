//! The node's local HTTP API: what the command line and the dashboard talk to.
//!
//! What must stay true: it binds to 127.0.0.1; every request (but `/healthz` and `/metrics`, which tell counts only) needs the bearer token of `<home>/run/api.json`
//! (0600) and a Host header that names this machine (a web page that rebinds its name to 127.0.0.1 is refused);
//! answers are JSON of [`types`], errors too.

pub mod client_file;
mod error;
mod jobs;
mod metrics;
mod server;
pub mod types;

pub use error::Failure;
pub use server::{Api, serve};
