//! `cargo xtask determinism`: one table of answers and bills, to which several builds and processors are held.
//!
//! The tests `determinism::` of core/vm compare what they find with `core/vm/src/determinism/golden.txt`, wherever they run. This
//! runs them in a release build, in a debug build, and in one for aarch64 on an emulated processor (qemu): our engine, compiled
//! for that processor, compiles the guests there. What each found is kept as a file beside the build, to be compared with `diff`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cargo::{alone, root};

const USAGE: &str = "usage: cargo xtask determinism [release] [debug] [aarch64] [first] [write]";
const TABLE: &str = "core/vm/src/determinism/golden.txt";
const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Where Debian's cross compiler keeps the other processor's libraries.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// A way to build and run the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Build {
    Release,
    Debug,
    Aarch64,
}

impl Build {
    fn name(self) -> &'static str {
        match self {
            Build::Release => "release",
            Build::Debug => "debug",
            Build::Aarch64 => "aarch64",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Build::Release => "this machine",
            Build::Debug => "debugging",
            Build::Aarch64 => "aarch64 (by qemu)",
        }
    }
}

/// What was asked for.
struct Wish {
    builds: Vec<Build>,
    /// Without the ten thousand modules: the first of them are in tests of their own.
    is_first: bool,
    /// Make the table instead of comparing with it.
    is_write: bool,
}

fn wish(words: &[String]) -> Result<Wish> {
    let mut wish = Wish { builds: Vec::new(), is_first: false, is_write: false };
    for word in words {
        match word.as_str() {
            "release" => wish.builds.push(Build::Release),
            "debug" => wish.builds.push(Build::Debug),
            "aarch64" => wish.builds.push(Build::Aarch64),
            "first" => wish.is_first = true,
            "write" => wish.is_write = true,
            _ => bail!(USAGE),
        }
    }
    if wish.builds.is_empty() {
        wish.builds = vec![Build::Release, Build::Debug, Build::Aarch64];
    }
    ensure!(!(wish.is_write && wish.is_first), "half a table cannot be written");
    Ok(wish)
}

/// Runs the builds that are named, or all.
pub fn determinism(words: &[String]) -> Result<()> {
    let wish = wish(words)?;
    let (mut found, mut failed) = (BTreeSet::new(), Vec::new());
    for build in &wish.builds {
        let Some(run) = run(*build, wish.is_first)? else { continue };
        println!("{}: {} lines, {}; {}", build.name(), run.lines.len(), run.verdict(), run.notes.join("; "));
        if !run.is_right {
            failed.push(build.name());
        }
        found.extend(run.lines);
    }
    if wish.is_write {
        return write(found);
    }
    ensure!(failed.is_empty(), "not as the table says: {}\nhint: diff the files named above", failed.join(", "));
    Ok(())
}

/// What the builds that the usual tests do not make are worth to the table of bars. The emulated one runs the smaller part.
pub fn bars() -> Result<Vec<Value>> {
    let mut bars = Vec::new();
    for (build, is_first) in [(Build::Debug, false), (Build::Aarch64, true)] {
        let Some(run) = run(build, is_first)? else { continue };
        ensure!(run.is_right, "{}: {}", build.name(), run.verdict());
        bars.push(json!({
            "bar": "determinism",
            "what": format!("answers and fuels of a build for {}, and those in the table of the release build: lines that differ", build.words()),
            "runs": run.lines.len(),
            "control": "code without the pass differs between the processors",
            "note": run.notes.join("; "),
        }));
    }
    Ok(bars)
}

/// What a run of the tests found.
struct Run {
    lines: BTreeSet<String>,
    notes: Vec<String>,
    is_right: bool,
}

impl Run {
    fn verdict(&self) -> &'static str {
        if self.is_right { "equal to the table" } else { "NOT equal to the table" }
    }
}

/// Runs the tests in this build, unless they cannot be had here.
fn run(build: Build, is_first: bool) -> Result<Option<Run>> {
    let mut tests = match tests(build) {
        Ok(tests) => tests,
        Err(reason) => {
            println!("SKIPPED: {}: {reason}", build.name());
            return Ok(None);
        }
    };
    if is_first {
        tests.args(["--skip", "nobody_wrote"]);
    }
    eprintln!("running: {tests:?}");
    let started = Instant::now();
    let output = tests.stderr(std::process::Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_right = output.status.success();
    if !is_right {
        print!("{text}");
    }
    let lines: BTreeSet<String> =
        text.lines().filter_map(|line| line.split_once("GOLDEN ")).map(|(_, line)| line.to_owned()).collect();
    ensure!(!lines.is_empty(), "the {} build found nothing at all", build.name());
    let notes = notes(build, &text, &lines, started.elapsed().as_secs())?;
    Ok(Some(Run { lines, notes, is_right }))
}

/// What is worth saying of a run besides; the lines go into a file.
fn notes(build: Build, text: &str, lines: &BTreeSet<String>, seconds: u64) -> Result<Vec<String>> {
    let path = folder().join(format!("{}.txt", build.name()));
    std::fs::create_dir_all(folder())?;
    std::fs::write(&path, as_text(lines))?;
    let told = |line: &&str| line.starts_with("note: ");
    let mut notes: Vec<String> = text.lines().filter(told).map(|line| line["note: ".len()..].to_owned()).collect();
    notes.sort();
    notes.push(format!("{seconds} s with the build"));
    println!("{}: {}", build.name(), path.display());
    Ok(notes)
}

/// The table of what was found. Of processors that were not asked, their own lines stay.
fn write(mut found: BTreeSet<String>) -> Result<()> {
    let path = root().join(TABLE);
    let old = std::fs::read_to_string(&path)?;
    let processor = |line: &str| Some(line.strip_prefix("raw ")?.split_once(' ')?.0.to_owned());
    let asked: BTreeSet<String> = found.iter().filter_map(|line| processor(line)).collect();
    let stays = |line: &&str| processor(line).is_some_and(|processor| !asked.contains(&processor));
    found.extend(old.lines().filter(stays).map(str::to_owned));
    let mut names = BTreeSet::new();
    for line in &found {
        let (name, _) = line.split_once(": ").context("a line without a name")?;
        ensure!(names.insert(name), "two builds do not agree on {name}: that is no table");
    }
    std::fs::write(&path, as_text(&found))?;
    println!("{TABLE}: {} lines", found.len());
    Ok(())
}

fn as_text(lines: &BTreeSet<String>) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Builds that nobody else needs, and what was found.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("determinism")
}

/// The tests in this build, or why they cannot be had here.
fn tests(build: Build) -> Result<Command, String> {
    let command = |args: &[&str]| {
        let mut command = alone();
        command.args(args);
        command
    };
    let mut tests = match build {
        Build::Release => command(&["test", "--release"]),
        Build::Debug => command(&["test", "--package", "glean-vm", "--target-dir"]),
        Build::Aarch64 => command(&["test", "--release", "--package", "glean-vm", "--target", TARGET, "--target-dir"]),
    };
    if build != Build::Release {
        tests.arg(folder());
    }
    if build == Build::Aarch64 {
        emulate(&mut tests)?;
    }
    tests.args(["--lib", "determinism::", "--", "--nocapture"]);
    Ok(tests)
}

/// Has cargo link for aarch64 and run what comes of it.
fn emulate(tests: &mut Command) -> Result<(), String> {
    if cfg!(target_arch = "aarch64") {
        return Err("this machine is one".into());
    }
    let hint = "hint: on Debian: apt-get install qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross";
    let tool = |names: &[&str]| {
        names.iter().find_map(|name| on_path(name)).ok_or_else(|| format!("there is no {}; {hint}", names[0]))
    };
    let emulator = tool(&["qemu-aarch64-static", "qemu-aarch64"])?;
    tests
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{} -L {LIBRARIES}", emulator.display()))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", tool(&["aarch64-linux-gnu-gcc"])?);
    if rustc(&["--print", "target-libdir", "--target", TARGET]).is_some_and(|folder| Path::new(&folder).exists()) {
        return Ok(());
    }
    let source = standard_library()
        .ok_or("Rust has no standard library for it; hint: rustup target add aarch64-unknown-linux-gnu")?;
    // Cargo builds it from source for nightly toolchains only, or if told that this is as good; and takes the source from
    // elsewhere than its toolchain only by this name. The source is of the compiler's very version.
    tests.arg("-Zbuild-std=std,panic_unwind,proc_macro,test");
    tests.env("RUSTC_BOOTSTRAP", "1").env("__CARGO_TESTS_ONLY_SRC_ROOT", source);
    Ok(())
}

/// The source of the standard library: where rustup keeps it, where we are told, or where Debian's package does.
fn standard_library() -> Option<PathBuf> {
    let version = rustc(&["--version"])?.split(' ').nth(1)?.to_owned();
    let ours = std::env::var_os("GLEAN_RUST_SRC").map(PathBuf::from);
    let debian = Some(PathBuf::from(format!("/usr/src/rustc-{version}/library")));
    let rustup = rustc(&["--print", "sysroot"]).map(|folder| Path::new(&folder).join("lib/rustlib/src/rust/library"));
    [rustup, ours, debian].into_iter().flatten().find(|folder| folder.join("std/Cargo.toml").exists())
}

fn rustc(args: &[&str]) -> Option<String> {
    let output = Command::new("rustc").args(args).current_dir(root()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|_| output.status.success())
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}
