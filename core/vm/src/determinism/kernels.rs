//! Programs that people wrote: those of `examples/`, as committed, on every engine.

use std::sync::Arc;

use glean_types::Outcome;

use super::golden::{Sum, assert_all_golden};
use super::{elsewhere, quiet, with_room};
use crate::{Compiled, Execution, Files, Invocation, Limits, ModuleLimits, Program, Vm, VmConfig, prepare};

/// Fuel that all but the endless loop keep within.
const LIMITS: Limits = Limits { fuel_max: 4_000_000_000, mem_max: 64 << 20, output_max: 1 << 20 };
/// Enough to see that a loop is endless.
const SPIN_LIMITS: Limits = Limits { fuel_max: 10_000_000, ..LIMITS };

/// A program, and one task for it.
struct Kernel {
    name: &'static str,
    wasm: &'static [u8],
    args: &'static [&'static str],
    /// Whether the folder of the climate's measurements is there.
    data: bool,
}

macro_rules! kernels {
    ($($name:literal $path:literal $data:literal $args:expr;)*) => {
        [$(Kernel { name: $name, wasm: include_bytes!(concat!("../../../../examples/", $path)), args: &$args, data: $data }),*]
    };
}

/// Float code without and with a libm and files, integer code, and a page of C for every way to end and every kind of call.
const KERNELS: [Kernel; 14] = kernels! {
    "path-tracer" "path-tracer/path-tracer.wasm" false ["--tile", "5,4", "--tiles", "12x8", "--size", "240x160", "--spp", "4"];
    "climate" "climate/climate.wasm" true ["feedback=2.07"];
    "integer" "kernels/integer.wasm" false ["1"];
    "noop" "guests/noop.wasm" false [];
    "echo" "guests/echo.wasm" false ["a", "b"];
    "env" "guests/env.wasm" false [];
    "exit" "guests/exit.wasm" false ["3"];
    "trap" "guests/trap.wasm" false [];
    "tree" "guests/tree.wasm" true ["/data"];
    "write" "guests/write.wasm" false [];
    "clock" "guests/clock.wasm" false [];
    "flood" "guests/flood.wasm" false [];
    "spin" "guests/spin.wasm" false [];
    "bomb" "guests/bomb.wasm" false [];
};

impl Kernel {
    fn program(&self) -> Program {
        prepare(self.wasm, &ModuleLimits::default()).unwrap()
    }

    fn task(&self) -> Invocation {
        let words = std::iter::once(&self.name).chain(self.args);
        Invocation {
            args: words.map(|word| (*word).to_owned()).collect(),
            env: vec![("LANG".into(), "C".into())],
            stdin: b"a line\nand another".to_vec(),
            files: if self.data { Arc::new(measurements()) } else { Arc::default() },
            seed: [7; 32],
            clock_ns: 1_700_000_000_000_000_000,
        }
    }

    fn run(&self, vm: &Vm, compiled: &Compiled) -> Execution {
        let limits = if self.name == "spin" { &SPIN_LIMITS } else { &LIMITS };
        vm.run(compiled, self.task(), limits).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    fn line(&self, done: &Execution) -> String {
        let mut sum = Sum::default();
        sum.add(&self.program().id.0);
        sum.add(format!("{:?}", done.outcome).as_bytes());
        sum.add(&done.stdout);
        sum.add(&done.stderr);
        for (path, content) in &done.files {
            sum.add(path.as_bytes());
            sum.add(content);
        }
        sum.pay(done.fuel);
        sum.line(&format!("kernel {} {:?}", self.name, done.outcome))
    }
}

fn measurements() -> Files {
    let file = |name: &str, content: &[u8]| (format!("/data/{name}"), Arc::new(content.to_vec()));
    Files::new([
        file("erf.csv", include_bytes!("../../../../examples/climate/data/erf.csv")),
        file("gistemp.csv", include_bytes!("../../../../examples/climate/data/gistemp.csv")),
    ])
    .unwrap()
}

fn on(vm: &Vm) -> Vec<Execution> {
    KERNELS.iter().map(|kernel| kernel.run(vm, &vm.compile(&kernel.program()).unwrap())).collect()
}

/// The engine as workers have it.
fn ours() -> Vec<Execution> {
    on(&Vm::new(VmConfig::default()).unwrap())
}

#[test]
fn programs_give_the_golden_answers() {
    let done = ours();
    let for_limits = |done: &&Execution| matches!(done.outcome, Outcome::OutOfFuel | Outcome::OutOfMemory);
    assert_eq!(done.iter().filter(for_limits).count(), 2, "the endless loop and the bomb are ended, nothing else");
    let lines: Vec<String> = KERNELS.iter().zip(&done).map(|(kernel, done)| kernel.line(done)).collect();
    assert_all_golden("kernel ", &lines);
}

#[test]
fn programs_run_the_same_on_every_engine() {
    let ours = ours();
    let plain = with_room(|| on(&Vm::new(VmConfig { optimise: false, ..quiet() }).unwrap()));
    let canonical = with_room(|| on(&Vm::with_canonical_nans(quiet()).unwrap()));
    let mut foreign = 0;
    for (at, kernel) in KERNELS.iter().enumerate() {
        assert!(ours[at] == plain[at], "{}: optimised and not", kernel.name);
        assert!(ours[at] == canonical[at], "{}: NaNs as they come and canonical", kernel.name);
        // What fuel or memory ended is not the interpreter's to say: it counts otherwise.
        if !matches!(ours[at].outcome, Outcome::OutOfFuel | Outcome::OutOfMemory) {
            let theirs = elsewhere::run(&kernel.program(), kernel.task(), LIMITS.output_max);
            assert!(Execution { fuel: 0, ..ours[at].clone() } == theirs, "{}: ours and wasmi", kernel.name);
            foreign += 1;
        }
    }
    let [one, other] = two_at_a_time();
    for (at, kernel) in KERNELS.iter().enumerate() {
        assert!(ours[at] == one[at] && ours[at] == other[at], "{}: alone and beside another", kernel.name);
    }
    println!(
        r#"BAR {{"bar":"determinism","what":"programs of examples/ run optimised, plain, with canonical NaNs, two at a time and by another interpreter behind the same WASI: bytes or fuels that differ","runs":{},"control":"another argument is another answer","note":"{foreign} of {} with wasmi"}}"#,
        KERNELS.len() * 4 + foreign,
        KERNELS.len(),
    );
}

/// All programs on two threads of one engine and its pool, one from the front and one from the back.
fn two_at_a_time() -> [Vec<Execution>; 2] {
    let vm = Vm::new(VmConfig { slots: 2, ..VmConfig::default() }).unwrap();
    let compiled: Vec<Compiled> = KERNELS.iter().map(|kernel| vm.compile(&kernel.program()).unwrap()).collect();
    let run = |at: usize| KERNELS[at].run(&vm, &compiled[at]);
    std::thread::scope(|scope| {
        let forth = scope.spawn(|| (0..KERNELS.len()).map(run).collect());
        let back = scope.spawn(|| (0..KERNELS.len()).rev().map(run).collect::<Vec<_>>());
        let mut back = back.join().unwrap();
        back.reverse();
        [forth.join().unwrap(), back]
    })
}

/// The comparisons can fail: a task that differs in one argument or one byte of a file has another line, here and at wasmi.
#[test]
fn another_argument_is_another_answer() {
    let vm = Vm::new(VmConfig::default()).unwrap();
    let [one, two] = ["feedback=2.07", "feedback=2.08"].map(|feedback| {
        let climate = &KERNELS[1];
        let task = Invocation { args: vec!["climate".into(), feedback.into()], ..climate.task() };
        let program = climate.program();
        let ours = vm.run(&vm.compile(&program).unwrap(), task.clone(), &LIMITS).unwrap();
        (climate.line(&ours), elsewhere::run(&program, task, LIMITS.output_max))
    });
    assert_ne!(one.0, two.0);
    assert!(one.1 != two.1);
}
