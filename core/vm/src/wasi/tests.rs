//! Path tricks, file habits of real libraries, and the sealed clock and chance.

use std::sync::Arc;

use glean_types::Outcome;

use super::abi::{OFLAG_CREAT, OFLAG_DIRECTORY, OFLAG_EXCL, OFLAG_TRUNC, RIGHT_FD_READ, RIGHT_FD_WRITE};
use super::*;
use crate::testing::{LIMITS, run_with, vm};
use crate::{Execution, Limits, ModuleLimits, prepare};

const ROOT: u32 = 3;

fn files(list: &[(&str, &str)]) -> Arc<Files> {
    let list = list.iter().map(|(path, text)| ((*path).to_owned(), Arc::new(text.as_bytes().to_vec())));
    Arc::new(Files::new(list).unwrap())
}

fn fs() -> Fs {
    Fs::new(files(&[("/data/a.txt", "alpha"), ("/data/sub/b.txt", "beta"), ("/top", "top")]), b"in".to_vec(), 100)
}

fn open(fs: &mut Fs, path: &str) -> Result<u32, Fault> {
    fs.open(ROOT, path, 0, RIGHT_FD_READ, false)
}

fn create(fs: &mut Fs, path: &str) -> Result<u32, Fault> {
    fs.open(ROOT, path, OFLAG_CREAT, RIGHT_FD_READ | RIGHT_FD_WRITE, false)
}

fn read_all(fs: &mut Fs, fd: u32) -> String {
    let mut bytes = [0; 64];
    let count = fs.read(fd, &mut bytes, None).unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

#[test]
fn paths_cannot_climb_out() {
    let mut fs = fs();
    for trick in ["..", "../etc/passwd", "data/../../x", "/etc/passwd", "/data/a.txt", "./..", "data/sub/../../../top"]
    {
        assert_eq!(open(&mut fs, trick), Err(Errno::NOTCAPABLE.into()), "{trick}");
    }
    let data = fs.open(ROOT, "data", OFLAG_DIRECTORY, 0, false).unwrap();
    assert_eq!(
        fs.open(data, "../top", 0, RIGHT_FD_READ, false),
        Err(Errno::NOTCAPABLE.into()),
        "a folder is a root of its own"
    );
    assert!(fs.open(data, "sub/../a.txt", 0, RIGHT_FD_READ, false).is_ok());
}

#[test]
fn paths_mean_what_they_say() {
    let mut fs = fs();
    for (path, error) in [
        ("", Errno::NOENT),
        ("nothing", Errno::NOENT),
        ("nothing/../top", Errno::NOENT),
        ("top/", Errno::NOTDIR),
        ("top/x", Errno::NOTDIR),
        ("data/a.txt/..", Errno::NOTDIR),
    ] {
        assert_eq!(open(&mut fs, path), Err(error.into()), "{path}");
    }
    let long = "x".repeat(256);
    assert_eq!(open(&mut fs, &long), Err(Errno::NAMETOOLONG.into()));
    for path in ["top", "./top", "data/./sub//..//../top", "data/"] {
        assert!(open(&mut fs, path).is_ok(), "{path}");
    }
}

#[test]
fn inputs_are_read_only_whatever_is_tried() {
    let mut fs = fs();
    let denied = |result: Result<u32, Fault>| assert_eq!(result, Err(Errno::ROFS.into()));
    denied(fs.open(ROOT, "top", 0, RIGHT_FD_READ | RIGHT_FD_WRITE, false));
    denied(fs.open(ROOT, "top", OFLAG_TRUNC, RIGHT_FD_READ, false));
    denied(create(&mut fs, "new"));
    denied(create(&mut fs, "data/new"));
    let rofs = Err(Errno::ROFS);
    assert_eq!(fs.unlink(ROOT, "top"), rofs);
    assert_eq!(fs.create_dir(ROOT, "data/x"), rofs);
    assert_eq!(fs.remove_dir(ROOT, "data/sub"), rofs);
    assert_eq!(fs.remove_dir(ROOT, "out"), rofs);
    assert_eq!(fs.rename(ROOT, "top", ROOT, "out/top"), rofs);
    assert_eq!(fs.rename(ROOT, "out", ROOT, "tmp/out"), rofs);
    let top = open(&mut fs, "top").unwrap();
    assert_eq!(fs.write(top, b"x", None), Err(Errno::BADF.into()));
    assert_eq!(read_all(&mut fs, top), "top");
}

#[test]
fn what_is_written_under_out_is_the_result() {
    let mut fs = fs();
    fs.create_dir(ROOT, "out/deep").unwrap();
    let file = create(&mut fs, "out/deep/x").unwrap();
    fs.write(file, b"hello", None).unwrap();
    fs.write(file, b"J", Some(0)).unwrap();
    fs.seek(file, 2, 2).unwrap();
    fs.write(file, b"!", None).unwrap();
    let scratch = create(&mut fs, "tmp/y").unwrap();
    fs.write(scratch, b"gone", None).unwrap();
    fs.write(1, b"said", None).unwrap();
    let written = fs.finish();
    assert_eq!(written.stdout, b"said");
    assert_eq!(written.files, [("/out/deep/x".to_owned(), b"Jello\0\0!".to_vec())]);
}

#[test]
fn creating_and_appending_follow_the_rules() {
    let mut fs = fs();
    let file = create(&mut fs, "out/log").unwrap();
    fs.write(file, b"one", None).unwrap();
    let again = fs.open(ROOT, "out/log", OFLAG_CREAT | OFLAG_EXCL, RIGHT_FD_WRITE, false);
    assert_eq!(again, Err(Errno::EXIST.into()));
    let append = fs.open(ROOT, "out/log", 0, RIGHT_FD_WRITE, true).unwrap();
    fs.write(append, b"two", None).unwrap();
    fs.seek(file, 0, 0).unwrap();
    assert_eq!(read_all(&mut fs, file), "onetwo");
    fs.open(ROOT, "out/log", OFLAG_TRUNC, RIGHT_FD_WRITE, false).unwrap();
    assert_eq!(fs.stat_fd(file).unwrap().size, 0);
    assert_eq!(create(&mut fs, "out/no/such"), Err(Errno::NOENT.into()));
    assert_eq!(create(&mut fs, "out/log/inside"), Err(Errno::NOTDIR.into()));
}

#[test]
fn renaming_takes_the_whole_tree_along() {
    let mut fs = fs();
    fs.create_dir(ROOT, "out/a").unwrap();
    fs.create_dir(ROOT, "out/a/b").unwrap();
    create(&mut fs, "out/a/b/c").unwrap();
    create(&mut fs, "out/ab").unwrap();
    assert_eq!(fs.rename(ROOT, "out/a", ROOT, "out/a/b/a"), Err(Errno::INVAL));
    fs.rename(ROOT, "out/a", ROOT, "tmp/z").unwrap();
    assert!(open(&mut fs, "tmp/z/b/c").is_ok() && open(&mut fs, "out/ab").is_ok());
    assert_eq!(open(&mut fs, "out/a/b/c"), Err(Errno::NOENT.into()));
    fs.create_dir(ROOT, "out/full").unwrap();
    create(&mut fs, "out/full/x").unwrap();
    assert_eq!(fs.rename(ROOT, "tmp/z", ROOT, "out/full"), Err(Errno::NOTEMPTY));
    assert_eq!(fs.remove_dir(ROOT, "out/full"), Err(Errno::NOTEMPTY));
}

#[test]
fn a_removed_file_lives_as_long_as_it_is_open_and_then_gives_its_room_back() {
    let mut fs = fs();
    for _ in 0..10 {
        let file = create(&mut fs, "tmp/x").unwrap();
        fs.write(file, &[1; 90], None).unwrap();
        fs.unlink(ROOT, "tmp/x").unwrap();
        assert_eq!(fs.stat_fd(file).unwrap().size, 90);
        fs.close(file).unwrap();
    }
}

#[test]
fn a_hole_in_a_file_counts_as_written() {
    let mut fs = fs();
    let file = create(&mut fs, "out/x").unwrap();
    assert_eq!(fs.write(file, b"x", Some(10 << 30)), Err(Stop::OutputLimit.into()));
    let node = fs.writable(file).unwrap();
    assert_eq!(fs.set_size(node, u64::MAX), Err(Stop::OutputLimit.into()));
    fs.set_size(node, 100).unwrap();
    assert_eq!(fs.write(1, b"x", None), Err(Stop::OutputLimit.into()), "one limit for everything");
}

#[test]
fn descriptors_and_names_run_out_politely() {
    let mut fs = fs();
    let all: Vec<_> = std::iter::from_fn(|| open(&mut fs, "top").ok()).collect();
    assert_eq!(all.len(), 1024 - 4);
    assert_eq!(open(&mut fs, "top"), Err(Errno::MFILE.into()));
    fs.close(500).unwrap();
    assert_eq!(open(&mut fs, "top"), Ok(500));
    assert_eq!(fs.close(5_000), Err(Errno::BADF));
    let made = (0..20_000).take_while(|n| fs.create_dir(ROOT, &format!("tmp/{n}")).is_ok()).count();
    assert_eq!(made, 10_000 - 2);
}

#[test]
fn listing_shows_both_worlds_and_survives_deleting() {
    let mut fs = fs();
    let root = open(&mut fs, ".").unwrap();
    let names: Vec<_> = fs.list(root, 0).unwrap().iter().map(|listed| listed.name.clone()).collect();
    assert_eq!(names, [".", "..", "out", "tmp", "data", "top"]);
    for n in 0..9 {
        create(&mut fs, &format!("out/{n}")).unwrap();
    }
    let out = open(&mut fs, "out").unwrap();
    fs.list(out, 0).unwrap();
    let mut deleted = 0;
    while let Some(listed) = fs.list(out, 2 + deleted).unwrap().first().cloned() {
        fs.unlink(ROOT, &format!("out/{}", listed.name)).unwrap();
        deleted += 1;
    }
    assert_eq!((deleted, fs.list(out, 0).unwrap().len()), (9, 2));
}

#[test]
fn trees_that_cannot_be_are_refused() {
    let content = || Arc::new(Vec::new());
    for bad in ["", "/", "a", "/a/", "/a//b", "/a/../b", "/./a", "/out/x", "/tmp/x", "/out", "/a\0b"] {
        assert!(Files::new([(bad.to_owned(), content())]).is_err(), "{bad}");
    }
    for pair in [["/a", "/a"], ["/a", "/a/b"], ["/a/b", "/a"]] {
        assert!(Files::new(pair.map(|path| (path.to_owned(), content()))).is_err(), "{pair:?}");
    }
    assert!(Files::new([("/a-b".to_owned(), content()), ("/a/b".to_owned(), content())]).is_ok());
}

fn guest(wasm: &[u8], task: Invocation) -> Execution {
    let program = prepare(wasm, &ModuleLimits::default()).unwrap();
    vm().run(&vm().compile(&program).unwrap(), task, &Limits { output_max: 8 << 20, ..LIMITS }).unwrap()
}

macro_rules! example {
    ($name:literal) => {
        include_bytes!(concat!("../../../../examples/guests/", $name, ".wasm"))
    };
}

fn args(list: &[&str]) -> Vec<String> {
    list.iter().map(|arg| (*arg).to_owned()).collect()
}

#[test]
fn c_programs_see_arguments_files_and_environment() {
    let task = Invocation { stdin: b"abc".to_vec(), ..Invocation::default() };
    assert_eq!(guest(example!("echo"), task).stdout, b"abc");
    let env = vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "two words".to_owned())];
    let seen = guest(example!("env"), Invocation { args: args(&["env", "x y", ""]), env, ..Invocation::default() });
    let text = String::from_utf8(seen.stdout).unwrap();
    assert!(text.contains("A=1") && text.contains("B=two words") && text.contains("x y"), "{text}");
    let tree = Invocation { files: files(&[("/in/x/y", "12345"), ("/in/z", "")]), ..Invocation::default() };
    let text = String::from_utf8(guest(example!("tree"), tree).stdout).unwrap();
    assert!(text.ends_with("2 files in 2 folders, 5 bytes\n"), "{text}");
    let written = guest(example!("write"), Invocation::default());
    assert_eq!(written.files.len(), 3, "{:?}", written.files);
    assert_eq!(
        guest(example!("exit"), Invocation { args: args(&["exit", "42"]), ..Invocation::default() }).outcome,
        Outcome::Exit(42)
    );
}

#[test]
fn clock_and_chance_follow_from_the_task_alone() {
    let look = |seed: u8, clock_ns: u64| {
        let task = Invocation { seed: [seed; 32], clock_ns, args: args(&["clock"]), ..Invocation::default() };
        guest(example!("clock"), task).stdout
    };
    let first = look(1, 1_000_000_000);
    assert_eq!(first, look(1, 1_000_000_000));
    assert_ne!(first, look(1, 2_000_000_000_000_000_000));
}

#[test]
fn random_bytes_come_from_the_seed() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (drop (call $random (i32.const 100) (i32.const 16))) (drop (call $random (i32.const 116) (i32.const 16)))
            (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 32))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let draw =
        |seed: u8| run_with(text, Invocation { seed: [seed; 32], ..Invocation::default() }, &LIMITS).unwrap().stdout;
    let one = draw(1);
    assert_eq!(one, draw(1));
    assert_ne!(one, draw(2));
    assert_ne!(one[..16], one[16..], "a stream, not a constant");
}

#[test]
fn pointers_from_hell_are_error_numbers() {
    // Every offered function with every argument at its maximum, then at zero: an error number, an end, but no panic.
    for value in ["-1", "0", "65535", "0x7fffffff"] {
        for name in NAMES.iter().filter(|name| **name != "proc_exit") {
            let (params, result) = signature(name).unwrap().text();
            let given: String = params.split_whitespace().map(|ty| format!("({ty}.const {value})")).collect();
            let text = format!(
                r#"(module (import "wasi_snapshot_preview1" "{name}" (func $f (param {params}) {result}))
                (memory (export "memory") 1) (func (export "_start") (drop (call $f {given}))))"#
            );
            let done = run_with(&text, Invocation::default(), &LIMITS).unwrap();
            assert!(
                matches!(done.outcome, Outcome::Exit(0) | Outcome::OutOfFuel | Outcome::OutputLimit),
                "{name}({value}): {:?}",
                done.outcome
            );
        }
    }
}
