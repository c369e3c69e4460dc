//! The worker's own side. It serves one program, behind the wall, until its pipe closes.
//!
//! Three threads: this one reads orders and ends the process the moment the node closes the pipe or dies, whatever the
//! guest is doing; one runs guests; one sees to it that no answer waits for the task after it. The program is opened
//! first, then the wall goes up, then orders are read.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Stdout, Write, stdin, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use glean_types::Hash;
use glean_types::params::FUEL_PER_TASK;
use glean_vm::{Compiled, Execution, Files, Invocation, Limits, ModuleLimits, NoVerdict, Program, Vm, VmConfig};

use super::outbox::Outbox;
use super::wall;
use super::wire::{FromWorker, Order, Reply, STOPPED_MAX, Start, ToWorker, Why, read_frame, write_frame};

/// Stack of a guest: what a C program expects on a desktop.
const GUEST_STACK_BYTES: usize = 8 << 20;
/// Its thread's: the host's calls run on top.
const THREAD_STACK_BYTES: usize = GUEST_STACK_BYTES + (4 << 20);
/// Memory and processor time of a compile: the largest programs that we know take a quarter of it.
const COMPILE_DATA_BYTES_MAX: u64 = 8 << 30;
const COMPILE_CPU_S_MAX: u64 = 600;

/// A sum of the compiled program stands behind it.
const SUM_BYTES: usize = blake3::OUT_LEN;

/// What `glean worker MODE` runs. Never returns.
pub fn child_main(mode: Option<&str>) -> ! {
    // A worker that has lost a thread is of no use: the node sees it end and starts another.
    std::panic::set_hook(Box::new(|_| std::process::exit(101)));
    let done = match mode {
        Some("compile") => compile(),
        Some("probe") => probe(true),
        Some("probe-unwalled") => probe(false),
        Some("report") => report(),
        Some("serve") => serve(),
        _ => Err(io::Error::other("not a command for people")),
    };
    std::process::exit(i32::from(done.is_err()));
}

fn report() -> io::Result<()> {
    let report = wall::raise_and_seal(&wall::Allowance::default());
    serde_json::to_writer(stdout(), &report)?;
    Ok(())
}

/// Says what the wall lets through; without the wall, that the attempts are real.
fn probe(walled: bool) -> io::Result<()> {
    if walled {
        wall::raise_and_seal(&wall::Allowance::default());
    }
    write_frame(&mut stdout(), &FromWorker::Holes(wall::probe()))
}

/// Compiles the module on standard input, once.
fn compile() -> io::Result<()> {
    let vm = Vm::new(VmConfig { pooling: false, ..VmConfig::default() }).map_err(io::Error::other)?;
    wall::raise_and_seal(&wall::Allowance { data_bytes: Some(COMPILE_DATA_BYTES_MAX), cpu_s: Some(COMPILE_CPU_S_MAX) });
    let mut wasm = Vec::new();
    stdin().take(glean_types::params::PROGRAM_BYTES_MAX as u64 + 1).read_to_end(&mut wasm)?;
    let compiled = Program::adopt(wasm, &ModuleLimits::default())
        .map_err(|e| e.to_string())
        .and_then(|program| vm.compile_to_bytes(&program).map_err(|e| e.to_string()));
    let mut to = stdout().lock();
    match compiled {
        Ok(bytes) => {
            write_frame(&mut to, &FromWorker::Compiled(Ok((bytes.len() + SUM_BYTES) as u64)))?;
            to.write_all(&bytes)?;
            to.write_all(blake3::hash(&bytes).as_bytes())
        }
        Err(why) => write_frame(&mut to, &FromWorker::Compiled(Err(why))),
    }
}

/// Machine code that rotted on the disk would compute something else, and its honest owner would be a liar to all.
fn ensure_whole(path: &Path) -> Result<(), String> {
    let tried = |e: io::Error| format!("could not read {}: {e}", path.display());
    let file = std::fs::File::open(path).map_err(tried)?;
    let code = file.metadata().map_err(tried)?.len().saturating_sub(SUM_BYTES as u64);
    let (mut hasher, mut sum) = (blake3::Hasher::new(), Vec::new());
    hasher.update_reader((&file).take(code)).map_err(tried)?;
    (&file).read_to_end(&mut sum).map_err(tried)?;
    match hasher.finalize().as_bytes().as_slice() == sum {
        true => Ok(()),
        false => Err(format!("{} is damaged", path.display())),
    }
}

/// Runs orders until the node closes the pipe.
fn serve() -> io::Result<()> {
    let mut from = BufReader::with_capacity(1 << 16, stdin().lock());
    let Some(start) = read_frame::<Start>(&mut from)? else { return Ok(()) };
    let loaded = load(&start);
    let allowance = wall::Allowance { data_bytes: Some(start.data_max), cpu_s: None };
    wall::raise(&allowance);
    // The wall's layers pass from a thread to those it starts, except the last, which then takes in both.
    let (orders, queue) = channel();
    let (is_up, up) = channel();
    let outbox = Arc::new(Outbox::new(stdout()));
    let (answers, writer_is_up) = (outbox.clone(), is_up.clone());
    std::thread::Builder::new().spawn(move || {
        let _ = writer_is_up.send(());
        let code = i32::from(answers.write_lingering().is_err());
        std::process::exit(code)
    })?;
    std::thread::Builder::new().stack_size(THREAD_STACK_BYTES).spawn(move || {
        let _ = is_up.send(());
        let done = work(loaded, &queue, &outbox);
        outbox.close();
        if done.is_err() {
            std::process::exit(1)
        }
    })?;
    for _ in 0..2 {
        up.recv().map_err(io::Error::other)?;
    }
    wall::seal();
    while let Some(message) = read_frame::<ToWorker>(&mut from)? {
        orders.send(message).map_err(io::Error::other)?;
    }
    // Nobody waits for answers any more: no need to let a guest finish.
    std::process::exit(0)
}

fn load(start: &Start) -> Result<(Vm, Compiled), String> {
    ensure_whole(Path::new(&start.module))?;
    let vm = Vm::new(VmConfig { stack_bytes: GUEST_STACK_BYTES, ..VmConfig::default() }).map_err(|e| e.to_string())?;
    // SAFETY: the node names only files that its own compile worker produced, in its private folder, where they
    // are never changed, only replaced, and whose sum is right; and this process holds nothing worth protecting from a bad one.
    let program = unsafe { vm.load_file(Path::new(&start.module)) }.map_err(|e| e.to_string())?;
    Ok((vm, program))
}

fn work(loaded: Result<(Vm, Compiled), String>, queue: &Receiver<ToWorker>, outbox: &Outbox<Stdout>) -> io::Result<()> {
    let (vm, program) = match loaded {
        Ok(loaded) => loaded,
        Err(why) => return outbox.put(&FromWorker::Ready(Err(why))),
    };
    outbox.put(&FromWorker::Ready(Ok(())))?;
    let mut guest = Guest { vm, program, fuel_left: 0, stopped: 0, files: BTreeMap::new(), tree: None };
    while let Some(message) = next(queue, outbox)? {
        if let Some(answer) = guest.on(message) {
            outbox.put(&answer)?;
        }
    }
    Ok(())
}

/// The next order; if there is none yet, answers need not wait for it.
fn next(queue: &Receiver<ToWorker>, outbox: &Outbox<Stdout>) -> io::Result<Option<ToWorker>> {
    match queue.try_recv() {
        Ok(message) => {
            outbox.linger();
            Ok(Some(message))
        }
        Err(TryRecvError::Disconnected) => Ok(None),
        Err(TryRecvError::Empty) => {
            outbox.write()?;
            Ok(queue.recv().ok())
        }
    }
}

/// Which files under which paths, and the tree made of them.
type Tree = (Vec<(String, Hash)>, Arc<Files>);

struct Guest {
    vm: Vm,
    program: Compiled,
    /// What this batch may still burn, and how many of its tasks that was not enough for.
    fuel_left: u64,
    stopped: u32,
    files: BTreeMap<Hash, Arc<Vec<u8>>>,
    /// The input tree of the last task: the tasks of a job share it.
    tree: Option<Tree>,
}

impl Guest {
    fn on(&mut self, message: ToWorker) -> Option<FromWorker> {
        match message {
            ToWorker::File { hash, bytes } => {
                self.files.insert(hash, Arc::new(bytes));
                None
            }
            ToWorker::ForgetFiles => {
                self.files.clear();
                self.tree = None;
                None
            }
            ToWorker::Fuel(fuel) => {
                (self.fuel_left, self.stopped) = (fuel, 0);
                None
            }
            ToWorker::Run(order) => {
                let number = order.number;
                Some(match self.run(*order) {
                    Ok(reply) => FromWorker::Done { number, reply: Box::new(reply) },
                    Err(why) => FromWorker::NoVerdict { number, why },
                })
            }
        }
    }

    fn run(&mut self, order: Order) -> Result<Reply, Why> {
        let task = Invocation {
            files: self.tree(&order.files)?,
            args: order.args,
            env: order.env,
            stdin: order.stdin,
            seed: order.seed,
            clock_ns: order.clock_ns,
        };
        let paid = if self.stopped < STOPPED_MAX { self.fuel_left.saturating_sub(FUEL_PER_TASK) } else { 0 };
        let fuel_max = order.fuel_max.min(paid);
        let limits = Limits { fuel_max, mem_max: order.mem_max, output_max: order.output_max };
        let Execution { outcome, fuel, stdout, stderr, files } =
            self.vm.run(&self.program, task, &limits).map_err(why)?;
        // Stopped, or brought down, at a limit that is not the job's: how it would have ended, nobody knows.
        if fuel_max < order.fuel_max && fuel >= fuel_max {
            self.stopped += 1;
            return Err(Why::FuelCap);
        }
        self.fuel_left = self.fuel_left.saturating_sub(fuel.saturating_add(FUEL_PER_TASK));
        Ok(Reply { outcome, fuel, stdout, stderr, files })
    }

    fn tree(&mut self, wanted: &[(String, Hash)]) -> Result<Arc<Files>, Why> {
        if let Some((known, files)) = &self.tree
            && known == wanted
        {
            return Ok(files.clone());
        }
        let find = |(path, hash): &(String, Hash)| {
            let bytes = self.files.get(hash).ok_or_else(|| Why::Unusable(format!("{path} was not sent")))?;
            Ok((path.clone(), bytes.clone()))
        };
        let found = wanted.iter().map(find).collect::<Result<Vec<_>, Why>>()?;
        let files = Arc::new(Files::new(found).map_err(|e| Why::Unusable(e.to_string()))?);
        self.tree = Some((wanted.to_vec(), files.clone()));
        Ok(files)
    }
}

fn why(no_verdict: NoVerdict) -> Why {
    match no_verdict {
        NoVerdict::HostMemory => Why::HostMemory,
        NoVerdict::StackOverflow => Why::StackOverflow,
        NoVerdict::Engine(text) => Why::Engine(text),
    }
}
