//! What is let in, what is turned away, and with which words.

use super::*;
use crate::testing::{LIMITS, program, vm};
use crate::{Invocation, wasi};

const START: &str = r#"(func (export "_start"))"#;

fn reject(text: &str) -> Reject {
    reject_with(text, &ModuleLimits::default())
}

fn reject_with(text: &str, limits: &ModuleLimits) -> Reject {
    prepare(&wat::parse_str(text).unwrap(), limits).unwrap_err()
}

fn invalid(text: &str) -> String {
    match reject(&format!("(module {text} {START})")) {
        Reject::Invalid(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_module_is_told_apart() {
    let limits = ModuleLimits::default();
    assert_eq!(prepare(b"", &limits), Err(Reject::NotWasm));
    assert_eq!(prepare(b"\x7fELF", &limits), Err(Reject::NotWasm));
    assert_eq!(prepare(&wat::parse_str("(component)").unwrap(), &limits), Err(Reject::Component));
    assert!(matches!(prepare(b"\0asm\x01\0\0", &limits), Err(Reject::Invalid(_))));
    assert_eq!(reject("(module)"), Reject::NoStart);
    assert_eq!(reject(r#"(module (func (export "_start") (param i32)))"#), Reject::NoStart);
    assert_eq!(reject(r#"(module (memory (export "_start") 1))"#), Reject::NoStart);
}

#[test]
fn imports_are_named_when_refused() {
    let unknown = |module: &str, name: &str| Reject::UnknownImport { module: module.into(), name: name.into() };
    assert_eq!(reject(r#"(module (import "env" "log" (func)))"#), unknown("env", "log"));
    assert_eq!(
        reject(r#"(module (import "wasi_snapshot_preview1" "sock_open" (func)))"#),
        unknown(wasi::MODULE, "sock_open")
    );
    assert_eq!(
        reject(r#"(module (import "wasi_snapshot_preview1" "fd_write" (memory 1)))"#),
        unknown(wasi::MODULE, "fd_write")
    );
    let wrong = Reject::ImportType { module: wasi::MODULE.into(), name: "fd_write".into() };
    assert_eq!(
        reject(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param f64) (result i32))))"#),
        wrong
    );
}

#[test]
fn everything_offered_can_be_imported_and_linked() {
    let import = |name: &&str| {
        let (params, result) = wasi::signature(name).unwrap().text();
        format!(r#"(import "wasi_snapshot_preview1" "{name}" (func (param {params}) {result}))"#)
    };
    let imports: String = wasi::NAMES.iter().map(import).collect();
    assert_eq!(wasi::NAMES.len(), 46, "all of preview 1");
    let compiled = vm().compile(&program(&format!("(module {imports} {START})"))).unwrap();
    assert!(vm().run(&compiled, Invocation::default(), &LIMITS).unwrap().outcome.is_success());
}

#[test]
fn features_outside_the_class_are_refused() {
    for text in [
        "(memory 1 1 shared)",
        "(memory i64 1)",
        "(memory 1) (memory 1)",
        "(func (param externref))",
        "(func $f (return_call $f))",
        "(tag) (func (throw 0))",
        "(type (struct))",
        "(func (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))",
    ] {
        let why = invalid(text);
        assert!(!why.is_empty(), "{text}");
    }
}

#[test]
fn bombs_are_refused_by_their_size_before_anything_is_compiled() {
    let small = ModuleLimits {
        bytes_max: 4_000,
        functions_max: 3,
        body_bytes_max: 1_000,
        locals_max: 10,
        nesting_max: 8,
        globals_max: 2,
        entries_max: 5,
    };
    let nested = format!("(func {} {})", "block ".repeat(9), "end ".repeat(9));
    let cases = [
        ("module size in bytes", format!("(memory 1) (data (i32.const 0) \"{}\")", "x".repeat(4_000))),
        ("functions", "(func)".repeat(3)),
        ("bytes of a function", format!("(func {})", "nop ".repeat(1_001))),
        ("locals of a function", format!("(func (local {}))", "i32 ".repeat(11))),
        ("nested blocks", nested),
        ("globals", "(global i32 (i32.const 0))".repeat(3)),
        ("exports", (0..6).map(|n| format!("(export \"{n}\" (func 0))")).collect()),
        ("data segments", format!("(memory 1) {}", "(data \"x\")".repeat(6))),
        ("element segments", "(elem func)".repeat(6)),
        ("types", (0..6).map(|n| format!("(type (func (param {})))", "i32 ".repeat(n))).collect()),
        ("tables", "(table 1 funcref)".repeat(5)),
        ("elements of a table", "(table 1048577 funcref)".to_owned()),
    ];
    for (what, text) in cases {
        match reject_with(&format!("(module {text} {START})"), &small) {
            Reject::TooMuch { what: got, .. } => assert_eq!(got, what),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_local_count_that_lies_allocates_nothing() {
    let mut wasm = wat::parse_str(format!("(module {START})")).unwrap();
    let code = [10, 4, 1, 2, 0, 0x0b];
    assert!(wasm.ends_with(&code), "the code section of one empty function");
    wasm.truncate(wasm.len() - code.len());
    // Its one group of locals claims 2^32 - 1 of them.
    wasm.extend([10, 10, 1, 8, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b]);
    assert!(prepare(&wasm, &ModuleLimits::default()).is_err());
}

#[test]
fn only_prepared_bytes_are_adopted() {
    let raw = wat::parse_str(format!(
        "(module $named {START} (func (result i64) (i64.reinterpret_f64 (f64.sqrt (f64.const -1)))))"
    ))
    .unwrap();
    let limits = ModuleLimits::default();
    let ours = prepare(&raw, &limits).unwrap();
    assert_eq!(Program::adopt(raw, &limits), Err(Reject::NotPrepared));
    assert_eq!(Program::adopt(ours.bytes.clone(), &limits).unwrap(), ours);
    assert_eq!(ours.id, Hash::of(&ours.bytes));
}

#[test]
fn any_damage_is_a_refusal_or_another_program_but_never_a_panic() {
    let good = program(&format!(
        "(module (memory 1) (table 2 funcref) (elem (i32.const 0) 0) {START} (func (result f32) (f32.sqrt (f32.const 2))))"
    ));
    for place in 0..good.bytes.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut bad = good.bytes.clone();
            bad[place] ^= flip;
            if let Ok(other) = prepare(&bad, &ModuleLimits::default()) {
                assert_ne!(other.id, good.id);
                vm().compile(&other).expect("what is let in compiles");
            }
        }
        assert!(prepare(&good.bytes[..place], &ModuleLimits::default()).is_err());
    }
}
