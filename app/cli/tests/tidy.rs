//! The map is true: paths that the documents name exist, crates depend downwards only, decoders are fuzzed,
//! and nothing unfinished hides.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All files of the tree with this ending, outside build and package folders.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                if !["target", "node_modules", ".git", "glean-demo"].contains(&name.as_str()) {
                    todo.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The words in backticks of a document that look like paths of this tree.
fn named_paths(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let first = ["core/", "io/", "app/", "sim/", "fuzz/", "contracts/", "examples/", "xtask/", "docs/"];
    let looks = |word: &&str| first.iter().any(|f| word.starts_with(f)) && !word.contains([' ', '*', '<', '|']);
    quoted.filter(looks).map(str::to_owned).collect()
}

#[test]
fn every_path_that_the_documents_name_exists() {
    let mut checked = 0;
    for document in
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "GLOSSARY.md", "examples/README.md"]
    {
        for path in named_paths(&read(&root().join(document))) {
            assert!(root().join(&path).exists(), "{document} names {path}, which does not exist");
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} paths were found: has the way they are written changed?");
}

/// Floors, from the ground up. A crate may only depend on crates of lower floors.
const FLOORS: [(&str, u32); 9] = [
    ("glean-types", 0),
    ("glean-protocol", 1),
    ("glean-vm", 1),
    ("glean-ledger", 1),
    ("glean-net", 2),
    ("glean-chain", 2),
    ("glean-node", 3),
    ("glean-sim", 3),
    ("glean", 4),
];

#[test]
fn arrows_only_go_down() {
    let floors: BTreeMap<&str, u32> = FLOORS.into();
    for manifest in files("Cargo.toml") {
        let text = read(&manifest);
        let Some(name) =
            text.lines().find_map(|line| line.strip_prefix("name = \"")).map(|rest| rest.trim_end_matches('"'))
        else {
            continue;
        };
        let Some(floor) = floors.get(name) else { continue };
        let dependencies = text.split("[dev-dependencies]").next().unwrap();
        for line in dependencies.lines().filter(|line| line.starts_with("glean-")) {
            let dependency = line.split(['.', ' ']).next().unwrap();
            assert!(floors[dependency] < *floor, "{name} (floor {floor}) must not depend on {dependency}");
        }
    }
}

/// What `cargo run` has built, `cargo test` must be able to use: the same crates with the same features.
#[test]
fn tests_reuse_the_build_of_the_program() {
    let shipped = crates_with_features(&["--package", "glean", "--edges", "normal,build"]);
    let tested = crates_with_features(&["--workspace", "--edges", "normal,build,dev"]);
    assert!(shipped.len() > 400, "only {} crates: has the output of `cargo tree` changed?", shipped.len());
    let rebuilt: Vec<_> = shipped.difference(&tested).filter(|line| !line.contains("(/")).collect();
    assert!(rebuilt.is_empty(), "these are built twice, with other features in tests: {rebuilt:#?}");
}

/// Lines of `name version features`.
fn crates_with_features(args: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--offline", "--prefix", "none", "--format", "{p} {f}"]).args(args).current_dir(root());
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn core_does_not_know_the_world() {
    let banned = ["tokio", "iroh", "axum", "redb", "tracing", "rand", "getrandom", "commonware"];
    for room in ["types", "protocol", "vm", "ledger"] {
        let manifest = read(&root().join(format!("core/{room}/Cargo.toml")));
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
        for line in dependencies.lines() {
            assert!(!banned.iter().any(|crate_name| line.starts_with(crate_name)), "core/{room} depends on {line}");
        }
    }
}

#[test]
fn nothing_unfinished_hides() {
    let marks = ["todo!(", "unimplemented!(", concat!("#[ign", "ore"), concat!("FIX", "ME"), concat!("XX", "X")];
    for file in files(".rs") {
        let text = read(&file);
        for mark in marks {
            let hits = text.lines().filter(|line| line.contains(mark) && !line.contains("let marks")).count();
            assert_eq!(hits, 0, "{} contains {mark}", file.display());
        }
    }
}

/// The README's table is what the tests print (`cargo xtask bars` writes it): a story that was changed or added is in it.
#[test]
fn the_table_of_bars_names_what_is_run() {
    let readme = read(&root().join("README.md"));
    let mut bars = 0;
    for file in files(".rs") {
        for line in read(&file).lines().filter_map(|line| line.trim_start().strip_prefix("r#\"BAR {{\"bar\":")) {
            let what = line.split("\"what\":\"").nth(1).unwrap().split(['{', '"']).next().unwrap();
            assert!(readme.contains(what), "{} runs `{what}`, the README does not say so", file.display());
            bars += 1;
        }
    }
    assert!(bars > 0);
}

#[test]
fn every_file_opens_its_chapter() {
    for file in files(".rs") {
        let text = read(&file);
        assert!(text.starts_with("//!"), "{} has no header", file.display());
    }
}

/// Files that read foreign bytes, and which the fuzz targets name.
#[test]
fn every_decoder_has_a_fuzz_target() {
    let targets = read(&root().join("fuzz/src/lib.rs"));
    for file in files(".rs") {
        let path = file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        if !(path.starts_with("core/") || path.starts_with("io/"))
            || path.contains("/tests")
            || path.contains("/benches")
        {
            continue;
        }
        let text = read(&file);
        let code = text.split("#[cfg(test)]").next().unwrap();
        let decodes = ["decode::<", " decode(", "(decode(", "serde_json::from_slice", "decode_2718", "Parser::new("];
        if decodes.iter().any(|call| code.contains(call)) {
            assert!(targets.contains(&path), "{path} decodes bytes but no target in fuzz/src/lib.rs names it");
        }
    }
}
