//! One file per family of commands. Each reads its arguments, calls the node, and prints.

pub mod backup;
pub mod debug;
pub mod doctor;
pub mod jobs;
pub mod network;
pub mod receipt;
pub mod run;
pub mod share;
pub mod wallet;

use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub use self::network::{join_blocking, stop_node};
pub use self::receipt::{read_bundle, say_report, write_bundle};
pub use self::run::{Sink, deliver, request_id, watch};
use crate::client::Client;
use crate::fail::Fail;
use crate::ui::Ui;

/// What every command knows.
pub struct Context {
    /// The terminal.
    pub ui: Ui,
    /// The node's folder.
    pub home: PathBuf,
}

impl Context {
    /// The node of this home, started if need be.
    pub async fn node(&self) -> Result<Client> {
        Client::ensure(&self.home, &self.ui).await
    }
}

/// Runs the asynchronous part of a command on this thread: a client needs no more.
pub fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("could not start the event loop")?.block_on(work)
}

/// The node's folder: the flag or GLEAN_HOME, else the user's data folder.
pub fn home(flag: Option<PathBuf>) -> Result<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = if cfg!(windows) {
        env("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        env("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        env("XDG_DATA_HOME").or_else(|| env("HOME").map(|home| home.join(".local/share")))
    };
    let home = flag.or_else(|| data.map(|data| data.join("gleaner")));
    let home = home.ok_or_else(|| Fail::new("no_home", "no HOME"))?;
    absolute(&home)
}

/// The path as the node, whose working folder is another, must be told it.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("could not find {}", path.display()))
}

/// A part of a URL that holds whatever a person typed.
pub fn escape(text: &str) -> String {
    let keep = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|byte| if keep(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_cannot_change_the_url_it_is_put_into() {
        assert_eq!(escape("last"), "last");
        assert_eq!(escape("../a?b=1#c d"), "..%2Fa%3Fb%3D1%23c%20d");
    }
}
