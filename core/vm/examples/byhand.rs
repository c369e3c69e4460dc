#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used)]
use glean_vm::*;
use std::sync::Arc;
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let t = Instant::now();
    let p = prepare(&std::fs::read(&args[0]).unwrap(), &ModuleLimits::default()).unwrap();
    println!("prepare {:?} ({} bytes)", t.elapsed(), p.bytes.len());
    let t = Instant::now();
    Program::adopt(p.bytes.clone(), &ModuleLimits::default()).unwrap();
    println!("adopt {:?}", t.elapsed());
    let vm = Vm::new(VmConfig { stack_bytes: 8 << 20, ..VmConfig::default() }).unwrap();
    let t = Instant::now();
    let c = vm.compile(&p).unwrap();
    println!("compile {:?}, {} bytes", t.elapsed(), c.to_bytes().unwrap().len());
    let input = Arc::new(
        b"int f(int x){ int s=0; for(int i=0;i<x;i++) s+=i*x; return s; }\nint main(void){return f(3);}\n".to_vec(),
    );
    let files = Arc::new(Files::new([("/in/a.c".to_owned(), input)]).unwrap());
    let th = std::thread::Builder::new()
        .stack_size(32 << 20)
        .spawn(move || {
            for _ in 0..3 {
                let t = Instant::now();
                let task = Invocation {
                    args: args[1..].to_vec(),
                    files: files.clone(),
                    clock_ns: 1 << 60,
                    ..Invocation::default()
                };
                let r = vm.run(&c, task, &Limits { fuel_max: 1 << 50, mem_max: 2 << 30, output_max: 64 << 20 });
                match r {
                    Ok(e) => println!(
                        "{:?} fuel {} in {:?}; out {} err {:.300} files {:?}",
                        e.outcome,
                        e.fuel,
                        t.elapsed(),
                        e.stdout.len(),
                        String::from_utf8_lossy(&e.stderr),
                        e.files
                            .iter()
                            .map(|f| (f.0.clone(), f.1.len(), blake3::hash(&f.1).to_hex()[..8].to_owned()))
                            .collect::<Vec<_>>()
                    ),
                    Err(e) => println!("{e}"),
                }
            }
        })
        .unwrap();
    th.join().unwrap();
}
