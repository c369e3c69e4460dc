//! A whole network of real processes for the end-to-end stories.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]
#![allow(dead_code, reason = "each story file uses its own part of this")]

pub mod hosts;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

#[cfg(target_os = "linux")]
pub mod disk;
pub mod load;
pub mod planted;

/// Three nodes that have joined one network; stopped when dropped.
pub struct Network {
    pub folder: tempfile::TempDir,
    /// What else a node's processes find in their environment: node, name, value.
    pub env: Vec<(&'static str, &'static str, String)>,
    /// Nodes that run another program than the one that is shipped.
    pub programs: Vec<(&'static str, PathBuf)>,
}

pub const LEDGER: &str = "ledger";
pub const PROVIDER: &str = "provider";
pub const REQUESTER: &str = "requester";

impl Network {
    pub fn start() -> Network {
        let network = Network::nobody();
        network.found();
        network
    }

    /// A folder for three homes.
    pub fn nobody() -> Network {
        Network { folder: tempfile::tempdir().unwrap(), env: Vec::new(), programs: Vec::new() }
    }

    /// The ledger begins, the others join, one lends.
    pub fn found(&self) {
        let made = self.ok(LEDGER, &["network", "init", "lab"]);
        let line = made.trim().strip_prefix("glean join ").expect("the join line is data").to_owned();
        for node in [PROVIDER, REQUESTER] {
            self.ok(node, &["join", &line]);
        }
        self.ok(PROVIDER, &["share", "--yes", "--cores", "1", "--detach"]);
    }

    pub fn home(&self, node: &str) -> PathBuf {
        self.folder.path().join(node)
    }

    pub fn command(&self, node: &str, args: &[&str]) -> Command {
        let other = self.programs.iter().find(|(of, _)| *of == node);
        let program = other.map_or(Path::new(env!("CARGO_BIN_EXE_glean")), |(_, program)| program);
        let mut command = Command::new(program);
        command.args(args).env("GLEAN_HOME", self.home(node)).env("GLEAN_LANG", "en").stdin(Stdio::null());
        command.current_dir(self.folder.path());
        command.envs(self.env.iter().filter(|(of, ..)| *of == node).map(|(_, name, value)| (name, value)));
        command
    }

    pub fn ran(&self, node: &str, args: &[&str]) -> Output {
        self.command(node, args).output().expect("the binary starts")
    }

    /// Standard output of a call that must succeed.
    pub fn ok(&self, node: &str, args: &[&str]) -> String {
        let output = self.ran(node, args);
        let talk = String::from_utf8_lossy(&output.stderr);
        let log = std::fs::read_to_string(self.home(node).join("log/node.log")).unwrap_or_default();
        assert!(output.status.success(), "{node}: glean {args:?}: {talk}\n--- node.log\n{log}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, node: &str, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(node, &args)).unwrap()
    }
}

/// A node's local address and the token that opens it.
pub fn api(network: &Network, node: &str) -> (String, String) {
    let file: Value = serde_json::from_slice(&std::fs::read(network.home(node).join("run/api.json")).unwrap()).unwrap();
    let host = file["url"].as_str().unwrap().trim_start_matches("http://").to_owned();
    (host, file["token"].as_str().unwrap().to_owned())
}

/// All files below a folder that have something in them, by their names from there. Those of a running node come and
/// go.
pub fn files(folder: &Path) -> Vec<String> {
    let (mut found, mut left) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = left.pop() {
        for entry in std::fs::read_dir(folder.join(&below)).into_iter().flatten().flatten() {
            let name = below.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => left.push(name),
                false if entry.metadata().is_ok_and(|data| data.len() > 0) => {
                    found.push(name.to_str().unwrap().to_owned())
                }
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// A page of a node's local address that needs no token.
pub fn page(network: &Network, node: &str, path: &str, said_host: Option<&str>) -> String {
    let (host, _) = api(network, node);
    let mut stream = std::net::TcpStream::connect(&host).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", said_host.unwrap_or(&host)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A number of a node's metrics.
pub fn metric(network: &Network, node: &str, name: &str) -> u64 {
    let metrics = page(network, node, "/metrics", None);
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in [REQUESTER, PROVIDER, LEDGER] {
            // A node that is gone already is as good.
            let _ = self.ran(node, &["node", "--stop"]);
        }
    }
}

pub fn guest(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/guests/{name}.wasm"));
    path.to_str().unwrap().to_owned()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

pub fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
