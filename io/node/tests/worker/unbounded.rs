//! A bomb where none of our limits is: on Node's own WASI, until it has taken more than our worker would have granted
//! it.
//!
//! Safe for the machine: it runs in a process group of its own, with a gibibyte, some thousand open files and some
//! seconds of processor time, and is killed as soon as that is seen.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::bombs::{Bomb, MEMORY, OUTPUT, TIME, Threat, kib};

/// The other engine has some of its own.
const ENGINE_MEMORY: u64 = 3 * MEMORY;
/// What the same guests come to behind our limits.
const DESCRIPTORS: u64 = 1_024;
const FILES: u64 = 10_000;
const LENGTH: u64 = 1 << 40;
/// A bomb that has done nothing by then is none.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const BREATH: Duration = Duration::from_millis(10);
/// What the script says as it gives the bomb to the engine.
const GO: &str = "go\n";

/// For the machine that runs this: a gibibyte, 8 MiB of stack, 4,096 open files, 20 s of processor time, no core file.
const BOUNDS: &str =
    "ulimit -d 1048576 && ulimit -s 8192 && ulimit -n 4096 && ulimit -t 20 && ulimit -c 0 && exec node \"$@\"";

/// A bomb on another engine.
struct Explosion {
    child: Child,
    folder: PathBuf,
    written: Arc<AtomicU64>,
    /// Takes what it writes, and keeps the beginning.
    reader: Option<std::thread::JoinHandle<String>>,
    /// When the engine had started and got the bomb.
    lit: Arc<OnceLock<Instant>>,
    /// Goes last: the bomb writes there.
    _yard: tempfile::TempDir,
}

/// Runs a bomb where nothing of ours limits it. What it did that our worker would not have let it do, or how it ended
/// without.
pub fn unbounded(bomb: &Bomb) -> Result<String, String> {
    let mut explosion = Explosion::set_off(bomb);
    let start = Instant::now();
    loop {
        if let Some(done) = explosion.has_done(bomb.threat) {
            return Ok(done);
        }
        if let Some(status) = explosion.child.try_wait().unwrap() {
            return explosion.ended(bomb.threat, status);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("nothing in {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(BREATH);
    }
}

impl Explosion {
    fn set_off(bomb: &Bomb) -> Explosion {
        let yard = tempfile::tempdir().unwrap();
        let (wasm, folder) = (yard.path().join("bomb.wasm"), yard.path().join("tmp"));
        std::fs::write(&wasm, &bomb.wasm).unwrap();
        std::fs::create_dir(&folder).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", BOUNDS, "sh", "--no-warnings"]);
        if bomb.threat == Threat::Stack {
            command.arg("--stack-size=60000");
        }
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worker/bomb.mjs"));
        command.args([&wasm, &folder]).args(&bomb.args).process_group(0);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let written = Arc::<AtomicU64>::default();
        let lit = Arc::<OnceLock<Instant>>::default();
        let (pipe, count, first) = (child.stdout.take().unwrap(), written.clone(), lit.clone());
        let reader = Some(std::thread::spawn(move || drain(pipe, &count, &first)));
        Explosion { child, folder, written, reader, lit, _yard: yard }
    }

    /// Whether it has already taken more than our worker would have granted.
    fn has_done(&self, threat: Threat) -> Option<String> {
        let is_over = |what: u64, most: u64, unit: &str| (what > most).then(|| format!("{what} {unit}"));
        match threat {
            Threat::Time | Threat::Compile => {
                let ran = self.lit.get()?.elapsed();
                (ran > TIME).then(|| format!("still at it after {} ms", ran.as_millis()))
            }
            Threat::Memory => is_over(kib(self.child.id(), "VmHWM:"), (MEMORY + ENGINE_MEMORY) >> 10, "KiB of memory"),
            Threat::Output => is_over(self.written.load(Ordering::Relaxed), OUTPUT, "bytes of output"),
            Threat::Files => {
                is_over(std::fs::read_dir(&self.folder).unwrap().count() as u64, FILES, "files on the host")
            }
            Threat::Length => is_over(longest(&self.folder), LENGTH, "bytes long on the host"),
            Threat::Stack | Threat::Descriptors => None,
        }
    }

    /// What is seen of it once it has ended by itself.
    fn ended(&mut self, threat: Threat, status: ExitStatus) -> Result<String, String> {
        let said = self.reader.take().unwrap().join().unwrap();
        let said = said.strip_prefix(GO).unwrap_or(&said);
        let opened = said.strip_prefix("no: ").and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0);
        match threat {
            Threat::Stack if status.signal() == Some(libc::SIGSEGV) => {
                Ok("the machine's stack ended: SIGSEGV".to_owned())
            }
            Threat::Descriptors if opened > DESCRIPTORS => Ok(format!("{opened} descriptors of the host")),
            Threat::Files | Threat::Length => self.has_done(threat).ok_or(()),
            _ => Err(()),
        }
        .map_err(|()| format!("{status}, {said:?}"))
    }
}

impl Drop for Explosion {
    fn drop(&mut self) {
        // Its process group is its own. One that is gone already is as good.
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Counts what comes, and keeps its beginning and the time of it.
fn drain(mut pipe: ChildStdout, count: &AtomicU64, first: &OnceLock<Instant>) -> String {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(n) = pipe.read(&mut buffer) {
        if n == 0 {
            break;
        }
        first.get_or_init(Instant::now);
        count.fetch_add(n as u64, Ordering::Relaxed);
        kept.extend_from_slice(&buffer[..n.min(80_usize.saturating_sub(kept.len()))]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn longest(folder: &Path) -> u64 {
    let lengths = std::fs::read_dir(folder).unwrap().flatten().filter_map(|entry| Some(entry.metadata().ok()?.len()));
    lengths.max().unwrap_or(0)
}
