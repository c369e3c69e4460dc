//! Real kernels on the network, metered and with canonical NaNs, beside the same C by `gcc -O2`.
//!
//! Both are processor time of the process that computes (ours: the provider's worker), and both take turns, so that a
//! busy machine disturbs them alike. Ours includes everything between order and answer; compiling is not in it (it
//! happens once per program and machine).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::network::Lab;
use super::{example, root};
use crate::figure::{Bar, Figure};
use crate::machine;

/// Turns of each; the best counts.
const TURNS: usize = 7;

struct Kernel {
    name: &'static str,
    wasm: &'static str,
    args: &'static [&'static str],
    /// Folder that the guest sees as `/data`; the native program is told where it is.
    data: Option<&'static str>,
}

const KERNELS: [Kernel; 3] = [
    Kernel {
        name: "path-tracer",
        wasm: "path-tracer/path-tracer.wasm",
        args: &["--tile", "2,1", "--tiles", "4x4", "--size", "1200x800", "--spp", "16"],
        data: None,
    },
    Kernel { name: "climate", wasm: "climate/climate.wasm", args: &["feedback=2.07"], data: Some("climate/data") },
    Kernel { name: "integer", wasm: "kernels/integer.wasm", args: &["8"], data: None },
];

/// Ratios of processor time, ours over native, and their geometric mean.
pub fn kernels() -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let native = Command::new("python3")
        .arg(root().join("examples/build.py"))
        .arg("--native")
        .arg(folder.path())
        .stdout(Stdio::null())
        .status()?;
    ensure!(native.success(), "gcc could not build the kernels");
    let lab = Lab::start(1)?;
    let (mut figures, mut product) = (Vec::new(), 1.0);
    for kernel in &KERNELS {
        // The first run compiles, and brings program and files over.
        worker_s(&lab, kernel)?;
        let (mut ours_s, mut theirs_s) = (f64::MAX, f64::MAX);
        for _ in 0..TURNS {
            theirs_s = theirs_s.min(native_s(folder.path(), kernel)?);
            ours_s = ours_s.min(worker_s(&lab, kernel)?);
        }
        product *= ours_s / theirs_s;
        figures.push(Figure::new(format!("{}: gcc -O2", kernel.name), theirs_s * 1e3, "ms CPU"));
        figures.push(Figure::new(format!("{}: worker / gcc -O2", kernel.name), ours_s / theirs_s, "x"));
    }
    let mean = f64::powf(product, 1.0 / KERNELS.len() as f64);
    figures.push(Figure::new("kernels, geometric mean", mean, "x").bar(Bar::AtMost(1.35)));
    Ok(figures)
}

/// Processor seconds of the provider's workers for one task.
fn worker_s(lab: &Lab, kernel: &Kernel) -> Result<f64> {
    let wasm = example(kernel.wasm)?;
    let mut args = vec!["run".to_owned(), wasm.to_str().context("path is not text")?.to_owned()];
    if let Some(data) = kernel.data {
        args.extend(["--input".to_owned(), format!("{}:/data", example(data)?.display())]);
    }
    args.push("--".to_owned());
    args.extend(kernel.args.iter().map(|arg| (*arg).to_owned()));
    let before = workers(lab)?;
    lab.glean("buyer", &args.iter().map(String::as_str).collect::<Vec<_>>())?;
    let spent = workers(lab)?.into_iter().map(|(pid, cpu_s)| cpu_s - before.get(&pid).copied().unwrap_or(0.0));
    Ok(spent.sum())
}

fn workers(lab: &Lab) -> Result<BTreeMap<u32, f64>> {
    let pids = machine::children_with(lab.pid("seller")?, "serve");
    Ok(pids.into_iter().map(|pid| (pid, machine::cpu_s(pid))).collect())
}

/// Processor seconds of the native program, start to end.
fn native_s(folder: &Path, kernel: &Kernel) -> Result<f64> {
    let before = children_cpu_s();
    let mut command = Command::new(folder.join(kernel.name));
    command.args(kernel.args).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(data) = kernel.data {
        command.arg(format!("data={}", example(data)?.display()));
    }
    ensure!(command.status()?.success(), "{} failed natively", kernel.name);
    Ok(children_cpu_s() - before)
}

/// Processor seconds of children that have ended and were waited for.
fn children_cpu_s() -> f64 {
    // SAFETY: an all-zero `rusage` is a valid value, and the call only writes into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
