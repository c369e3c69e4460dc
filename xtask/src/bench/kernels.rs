//! Real kernels in the shipped worker process, metered and with canonical NaNs, beside the same C by `gcc -O2`.
//!
//! Both are processor time, and both take turns, so that a busy machine disturbs them alike. The worker's includes
//! everything between order and answer; compiling is not in it (it happens once per program and machine).

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use glean_node::worker::{RunFile, RunRequest, WorkerConfig, WorkerPool};
use glean_types::{Hash, Outcome};

use super::{example, glean_exe, root};
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
        args: &["--tile", "6,4", "--tiles", "4x4", "--size", "1200x800", "--spp", "16"],
        data: None,
    },
    Kernel { name: "climate", wasm: "climate/climate.wasm", args: &["feedback=2.07"], data: Some("climate/data") },
    Kernel { name: "integer", wasm: "kernels/integer.wasm", args: &["4"], data: None },
];

/// Ratios of processor time, ours over native, and their geometric mean.
pub fn kernels() -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let native = folder.path().join("native");
    let built = Command::new("python3").arg(root().join("examples/build.py")).arg("--native").arg(&native).status()?;
    ensure!(built.success(), "gcc could not build the kernels");
    let runtime = tokio::runtime::Runtime::new()?;
    let _inside = runtime.enter();
    let config = WorkerConfig { exe: glean_exe()?, slots: 1, cache: folder.path().join("cache") };
    let pool = WorkerPool::new(config)?;
    let mut figures = Vec::new();
    let mut product = 1.0;
    for kernel in &KERNELS {
        let program = runtime.block_on(open(&pool, kernel))?;
        let (mut ours_s, mut theirs_s) = (f64::MAX, f64::MAX);
        for _ in 0..TURNS {
            theirs_s = theirs_s.min(native_s(&native, kernel)?);
            ours_s = ours_s.min(runtime.block_on(worker_s(&pool, program, kernel))?);
        }
        product *= ours_s / theirs_s;
        figures.push(Figure::new(format!("{}: gcc -O2", kernel.name), theirs_s * 1e3, "ms CPU"));
        figures.push(Figure::new(format!("{}: worker / gcc -O2", kernel.name), ours_s / theirs_s, "x"));
    }
    let mean = f64::powf(product, 1.0 / KERNELS.len() as f64);
    figures.push(Figure::new("kernels, geometric mean", mean, "x").bar(Bar::AtMost(1.35)));
    Ok(figures)
}

async fn open(pool: &WorkerPool, kernel: &Kernel) -> Result<Hash> {
    let wasm = std::fs::read(example(kernel.wasm)?)?;
    let program = glean_vm::prepare(&wasm, &glean_vm::ModuleLimits::default()).map_err(anyhow::Error::msg)?;
    pool.ensure_program(program.id, program.bytes.into()).await?;
    Ok(program.id)
}

/// Processor seconds of the worker for one task; the worker is there before and after.
async fn worker_s(pool: &WorkerPool, program: Hash, kernel: &Kernel) -> Result<f64> {
    let request = request(kernel)?;
    // The first task of a worker also loads the program.
    run(pool, program, request.clone()).await?;
    let pids = machine::children_with("serve");
    let before: f64 = pids.iter().map(|pid| machine::cpu_s(*pid)).sum();
    run(pool, program, request).await?;
    Ok(pids.iter().map(|pid| machine::cpu_s(*pid)).sum::<f64>() - before)
}

async fn run(pool: &WorkerPool, program: Hash, request: RunRequest) -> Result<()> {
    let reply = pool.run_batch(program, vec![request]).await.pop().context("no reply")?;
    let reply = reply.map_err(|why| anyhow::anyhow!("no verdict: {why}"))?;
    ensure!(reply.outcome == Outcome::Exit(0), "{}: {}", reply.outcome, String::from_utf8_lossy(&reply.stderr));
    Ok(())
}

fn request(kernel: &Kernel) -> Result<RunRequest> {
    Ok(RunRequest {
        args: std::iter::once(kernel.name).chain(kernel.args.iter().copied()).map(str::to_owned).collect(),
        env: Vec::new(),
        stdin: Vec::new(),
        files: Arc::new(files(kernel)?),
        seed: [0; 32],
        clock_ns: 0,
        fuel_max: u64::MAX / 2,
        mem_max: 1 << 30,
        output_max: 64 << 20,
        timeout_ms: 600_000,
    })
}

fn files(kernel: &Kernel) -> Result<Vec<RunFile>> {
    let Some(data) = kernel.data else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(example(data)?)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a name is not text")?;
        let bytes = std::fs::read(&path)?;
        files.push(RunFile { guest: format!("/data/{name}"), hash: Hash::of(&bytes), bytes: bytes.into() });
    }
    files.sort_by(|a, b| a.guest.cmp(&b.guest));
    Ok(files)
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
    let usage = children_usage();
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn children_usage() -> libc::rusage {
    // SAFETY: an all-zero `rusage` is a valid value, and the call only writes into it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    }
}
