//! The figures, one section each. Ratios are what counts: machines differ, and none is ever quite idle.

mod kernels;
mod network;
mod peers;
mod scale;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, root};
use crate::figure::{Bar, Figure};

const SECTIONS: [&str; 9] = ["noop", "roundtrip", "kernels", "engine", "checking", "blobs", "idle", "scale", "build"];
/// Measured only when named: they take their time.
const LONG: [&str; 2] = ["scale", "build"];

/// Measures the named sections, or all but the long ones, and prints a table and then a line of JSON for each figure.
pub fn bench(wanted: &[String]) -> Result<()> {
    for name in wanted {
        ensure!(SECTIONS.contains(&name.as_str()), "no section `{name}`\nhint: one of {}", SECTIONS.join(" "));
    }
    let mut figures = Vec::new();
    for section in SECTIONS {
        if wanted.is_empty() && LONG.contains(&section)
            || !wanted.is_empty() && !wanted.iter().any(|name| name == section)
        {
            continue;
        }
        eprintln!("measuring: {section}");
        match measure(section) {
            Ok(measured) => figures.extend(measured),
            Err(error) => eprintln!("FAILED: {section}: {error:#}"),
        }
    }
    println!("| figure | here | bar | holds |\n|---|---|---|---|");
    figures.iter().for_each(|figure| println!("{}", figure.row()));
    println!();
    figures.iter().for_each(|figure| println!("{}", figure.json()));
    Ok(())
}

fn measure(section: &str) -> Result<Vec<Figure>> {
    match section {
        "noop" => noop(),
        "roundtrip" => network::round_trip(),
        "kernels" => kernels::kernels(),
        "engine" => engine(),
        "checking" => checking(),
        "blobs" => blobs(),
        "idle" => network::idle(),
        "scale" => scale::scale(),
        "build" => build(),
        _ => bail!("no section {section}"),
    }
}

/// No-op tasks a second and what each costs, on the real path, beside the peers'.
fn noop() -> Result<Vec<Figure>> {
    let ours = network::noop_tasks()?;
    let mut figures = vec![
        Figure::new(format!("no-op tasks, {} in one job: gleaner", network::TASKS), ours.per_s, "tasks/s"),
        Figure::new("CPU of each: gleaner", ours.cpu_us, "us"),
    ];
    for (peer, least) in [(peers::RAY, 20.0), (peers::HYPERQUEUE, 50.0)] {
        match peers::measure(&peer) {
            Ok(theirs) => figures.extend([
                Figure::new(format!("no-op tasks, {} of them: {}", peer.tasks, peer.name), theirs.per_s, "tasks/s"),
                Figure::new(format!("CPU of each: {}", peer.name), theirs.cpu_us, "us"),
                Figure::new(format!("gleaner / {}", peer.name), ours.per_s / theirs.per_s, "x")
                    .bar(Bar::AtLeast(least)),
            ]),
            Err(error) => eprintln!("SKIPPED: {}: {error:#}", peer.name),
        }
    }
    Ok(figures)
}

/// The engine alone: `cargo bench` of the virtual machine.
fn engine() -> Result<Vec<Figure>> {
    let text = cargo(&["bench", "--bench", "noop"])?;
    let best = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("vm::run/noop/")?.split_once(": ")?;
        Some((name, rest.split_whitespace().next()?.parse::<f64>().ok()?))
    });
    let figures: Vec<Figure> = best
        .map(|(name, per_s)| {
            let figure = Figure::new(format!("no-op tasks, engine alone, one core, {name}"), per_s, "tasks/s");
            if name == "pooling=true" { figure.bar(Bar::AtLeast(40_000.0)) } else { figure }
        })
        .collect();
    ensure!(!figures.is_empty(), "cargo bench printed no figure:\n{text}");
    Ok(figures)
}

/// What checking costs, in the simulated network: the test prints it.
fn checking() -> Result<Vec<Figure>> {
    let text = cargo(&["test", "--release", "--test", "network", "checking_costs", "--", "--nocapture"])?;
    let line =
        text.lines().find(|line| line.starts_with("overhead of checking")).context("the test printed no figure")?;
    let figures: Vec<f64> = line.split_whitespace().filter_map(|word| word.strip_suffix('x')?.parse().ok()).collect();
    let [first, clean] = figures[..] else { bail!("odd line: {line}") };
    Ok(vec![
        Figure::new("checking, 10,000 tasks on 20 machines, first job", first, "x").bar(Bar::AtMost(1.10)),
        Figure::new("checking, once every machine is clean", clean, "x").bar(Bar::AtMost(1.055)),
    ])
}

/// A gibibyte between two nodes, beside a plain copy over TCP.
fn blobs() -> Result<Vec<Figure>> {
    let text = cargo(&["bench", "--bench", "blobs"])?;
    let line = text.lines().find_map(|line| line.strip_prefix("blobs: ")).context("the bench printed no figure")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [mib, _, "at", ratio, ..] = words[..] else { bail!("odd line: {line}") };
    let name = format!("content of {mib} MiB between two nodes, against a plain TCP file copy");
    Ok(vec![Figure::new(name, ratio.parse()?, "x").bar(Bar::AtLeast(0.4))])
}

/// A build from nothing, in a folder of its own.
fn build() -> Result<Vec<Figure>> {
    let target = tempfile::tempdir()?;
    let busy = crate::machine::busy_s()?;
    let start = std::time::Instant::now();
    let output = Command::new("cargo")
        .args(["build", "--release"])
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target.path())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "the build failed:\n{text}");
    let cpu = crate::machine::busy_s()? - busy;
    let crates = text.lines().filter(|line| line.trim_start().starts_with("Compiling ")).count();
    Ok(vec![
        Figure::new("cold build: crates", crates as f64, ""),
        Figure::new("cold build: CPU", cpu, "s"),
        Figure::new("cold build: wall clock here", start.elapsed().as_secs_f64() / 60.0, "min"),
        Figure::new("cold build: CPU / 2 cores", cpu / 120.0, "min").bar(Bar::AtMost(20.0)),
    ])
}

/// Our binary, built from what lies here.
fn glean_exe() -> Result<PathBuf> {
    cargo(&["build", "--release"])?;
    let target = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), PathBuf::from);
    Ok(std::fs::canonicalize(target.join("release/glean"))?)
}

/// A committed file of the examples.
fn example(name: &str) -> Result<PathBuf> {
    let path = root().join("examples").join(name);
    std::fs::canonicalize(&path).with_context(|| format!("no {}", path.display()))
}
