//! The program with one of the faults of `io/node/src/plant.rs` in it, built beside the one that is shipped.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What tells a process which fault it has.
pub const VARIABLE: &str = "GLEAN_PLANT";

/// Built from what the build of the tests has left, so that only the two crates on top are compiled again, and laid elsewhere: the
/// shipped program stays as it is. `Err`: why it cannot be had here.
pub fn program() -> Result<PathBuf, String> {
    let shipped = Path::new(env!("CARGO_BIN_EXE_glean"));
    let profile = shipped.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let built = shipped.ancestors().nth(2).unwrap();
    let planted = built.join("planted");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--offline", "--features", "planted", "--bin", "glean"])
        .args(["--profile", if profile == "debug" { "dev" } else { profile }])
        .arg("--target-dir")
        .arg(&planted)
        .env("CARGO_BUILD_BUILD_DIR", built)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    // What cargo tells a test about its crate, a build script of another crate would take for a change.
    let is_of_this_test =
        |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_"].iter().any(|start| name.starts_with(start));
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| is_of_this_test(name))
    {
        cargo.env_remove(name);
    }
    let output = cargo.output().map_err(|why| format!("no cargo: {why}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(planted.join(profile).join(shipped.file_name().unwrap()))
}

/// Whether the text stands in a file.
pub fn names(program: &Path, text: &str) -> bool {
    std::fs::read(program).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
}
