//! The peers, from PyPI, doing the same in the same run. They come into a folder under the user's cache; one that
//! cannot be had is SKIPPED with the reason.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::network::Rate;

/// A peer and a Python script that runs `$TASKS` no-ops and prints tasks a second and CPU microseconds a task.
pub struct Peer {
    pub name: &'static str,
    pub tasks: u32,
    package: &'static str,
    script: &'static str,
}

pub const RAY: Peer = Peer { name: "ray", tasks: 5_000, package: "ray==2.60.0", script: RAY_PY };
pub const HYPERQUEUE: Peer =
    Peer { name: "hyperqueue", tasks: 5_000, package: "hyperqueue==0.27.0", script: HYPERQUEUE_PY };

/// Processor time of the whole machine, as for us.
const BUSY_PY: &str = r"
import os, time
n = int(os.environ['TASKS'])
def busy():
    t = [float(x) for x in open('/proc/stat').readline().split()[1:8]]
    return (t[0] + t[1] + t[2] + t[5] + t[6]) / 100
";

const RAY_PY: &str = r"
import ray
ray.init(num_cpus=2, include_dashboard=False, logging_level='ERROR')
@ray.remote
def noop(): return None
ray.get([noop.remote() for _ in range(200)])
b = busy(); t = time.time(); ray.get([noop.remote() for _ in range(n)]); e = time.time() - t
print(n / e, (busy() - b) * 1e6 / n)
";

const HYPERQUEUE_PY: &str = r"
from hyperqueue import LocalCluster, Job
with LocalCluster() as cluster:
    cluster.start_worker()
    client = cluster.client()
    def go(k):
        job = Job()
        for _ in range(k): job.program(['true'], stdout=None, stderr=None)
        client.wait_for_jobs([client.submit(job)])
    go(50)
    b = busy(); t = time.time(); go(n); e = time.time() - t
    print(n / e, (busy() - b) * 1e6 / n)
";

/// Installs the peer if need be and measures it.
pub fn measure(peer: &Peer) -> Result<Rate> {
    let home = std::env::var("HOME").context("no HOME")?;
    let venv = Path::new(&home).join(".cache/gleaner-peers/venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status()?;
        ensure!(made.success(), "no python venv");
    }
    let installed = Command::new(&python).args(["-m", "pip", "install", "--quiet", peer.package]).status()?;
    ensure!(installed.success(), "pip install {} failed", peer.package);
    let folder = tempfile::tempdir()?;
    let output = Command::new(&python)
        .current_dir(folder.path())
        .arg("-c")
        .arg(format!("{BUSY_PY}{}", peer.script))
        .env("TASKS", peer.tasks.to_string())
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().unwrap_or_default();
    let numbers: Vec<f64> = last.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [per_s, cpu_us] = numbers[..] else { anyhow::bail!("{} printed `{last}`", peer.name) };
    Ok(Rate { per_s, cpu_us })
}
