//! What the program is made of, as CycloneDX: every crate, its version, its licence and its hash, for whoever asks whether a
//! new advisory concerns them. Made by `cargo-cyclonedx` (OWASP's), which is installed if it is missing.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo::{alone, root, run};

/// The maintained tool, and the version that this was tried with.
const TOOL: [&str; 3] = ["cargo-cyclonedx", "--version", "0.5.9"];
/// It writes beside the manifest; from there the file is moved.
const WRITTEN: &str = "glean.cdx";
/// A list much shorter than this was read wrongly.
const CRATES_MIN: usize = 400;

/// Writes `target/glean.cdx.json` and says what is in it.
pub fn sbom() -> Result<()> {
    if !Command::new(TOOL[0]).arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("installing {}", TOOL[0]);
        run(alone().args(["install", "--quiet", "--locked"]).args(TOOL))?;
    }
    let mut tool = alone();
    tool.args([
        "cyclonedx",
        "--format",
        "json",
        "--spec-version",
        "1.5",
        "--target",
        "all",
        "--override-filename",
        WRITTEN,
    ]);
    run(tool.args(["--manifest-path", "app/cli/Cargo.toml", "--quiet"]))?;
    let written = collect()?;
    let text = std::fs::read_to_string(&written)?;
    let list: Value = serde_json::from_str(&text).context("the list is no JSON")?;
    let parts = list["components"].as_array().context("the list has no components")?;
    ensure!(parts.len() >= CRATES_MIN, "only {} crates are listed: has the tool's output changed?", parts.len());
    let hashed = parts.iter().filter(|part| !part["hashes"].is_null()).count();
    println!("{}: {} crates, {hashed} with the registry's SHA-256", written.display(), parts.len());
    Ok(())
}

/// The tool leaves a file beside every manifest of the workspace; ours is kept, the others are not wanted.
fn collect() -> Result<PathBuf> {
    let name = format!("{WRITTEN}.json");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let kept = target.join(&name);
    std::fs::create_dir_all(&target)?;
    let ours = root().join("app/cli").join(&name);
    std::fs::copy(&ours, &kept).with_context(|| format!("{} was not written", ours.display()))?;
    for manifest in run(Command::new("git").args(["ls-files", "*Cargo.toml"]).current_dir(root()))?.lines() {
        let beside = root().join(manifest).with_file_name(&name);
        if beside.exists() {
            std::fs::remove_file(beside)?;
        }
    }
    Ok(kept)
}
