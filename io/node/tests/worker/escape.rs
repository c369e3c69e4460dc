//! Guests that try to get out: none reads or changes anything of the host.
//!
//! Control: on an engine that lets a guest have the file system (Node's own WASI), the same bytes get out.

use std::path::Path;
use std::process::Command;

use glean_types::Outcome;

use super::{Bench, request};

pub const GUEST: &[u8] = include_bytes!("../../../../examples/guests/escape.wasm");
/// Ways to what is not the guest's. The last has no way out on any engine that we know, and is tried all the same.
const WAYS: [&str; 23] = [
    "plain",
    "climb",
    "climb-relative",
    "proc-root",
    "proc-environ",
    "etc-passwd",
    "symlink",
    "symlink-climb",
    "hard-link",
    "steal",
    "descriptors",
    "listing",
    "swap",
    "bad-names",
    "create",
    "create-climb",
    "rename-over",
    "remove",
    "truncate",
    "append",
    "folder",
    "link-out",
    "symlink-out",
];
/// Ways that must lead out where nothing stands in it, or the test proves nothing.
const REAL_MIN: usize = 18;
const CANARY: &str = "nobody in here may know these words";

/// A folder of the host with something to read.
struct Yard(tempfile::TempDir);

impl Yard {
    fn new() -> Yard {
        let yard = Yard(tempfile::tempdir().unwrap());
        std::fs::write(yard.canary(), CANARY).unwrap();
        yard
    }

    fn canary(&self) -> String {
        self.0.path().join("canary").to_str().unwrap().to_owned()
    }

    fn mark(&self) -> String {
        self.0.path().join("mark").to_str().unwrap().to_owned()
    }

    fn is_untouched(&self) -> bool {
        let names: Vec<_> = std::fs::read_dir(self.0.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        names == ["canary"] && std::fs::read_to_string(self.canary()).unwrap() == CANARY
    }
}

/// Whether the guest reached something, by its own words or by what became of the host.
fn got_out(said: &[u8], yard: &Yard) -> bool {
    let said = String::from_utf8_lossy(said);
    said.contains("GOT") || said.contains("DID") || said.contains(CANARY) || !yard.is_untouched()
}

pub async fn no_guest_gets_out_and_the_ways_are_real() {
    let bench = Bench::new();
    let mut out = 0;
    for way in WAYS {
        let yard = Yard::new();
        let reply = bench.run_one(GUEST, request(&[way, &yard.canary(), &yard.mark()])).await.unwrap();
        let said = String::from_utf8_lossy(&reply.stdout).into_owned();
        assert!(!got_out(&reply.stdout, &yard), "{way}: {said}");
        assert_eq!(reply.outcome, Outcome::Exit(1), "{way}: {said}");
        out += usize::from(is_way_out(way));
    }
    let control = match is_there("node") {
        true => format!("{out} of them get out of an engine that is given the file system"),
        false => "SKIPPED: no Node.js here".to_owned(),
    };
    println!("     {} ways; {control}", WAYS.len());
    assert!(out >= REAL_MIN || !is_there("node"), "only {out} ways are real");
    println!(
        r#"BAR {{"bar":"escape","what":"ways of a guest to read or change files of the host: ways that led out","runs":{},"control":"{control}","note":"examples/guests/escape.c; the walls around the worker have probes of their own"}}"#,
        WAYS.len()
    );
}

pub fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Whether the same attempt succeeds where the guest is given the file system.
fn is_way_out(way: &str) -> bool {
    let yard = Yard::new();
    let wasm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/guests/escape.wasm");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worker/escape.mjs");
    let output = Command::new("node")
        .arg("--no-warnings")
        .args([&script, &wasm])
        .args([way, &yard.canary(), &yard.mark()])
        .output();
    for left in ["mine", "link", "way", "hard", "stolen"] {
        // What a way that did not lead far has left in the host's folder for such things.
        let _ = std::fs::remove_file(Path::new("/tmp").join(left));
    }
    output.is_ok_and(|output| got_out(&output.stdout, &yard))
}
