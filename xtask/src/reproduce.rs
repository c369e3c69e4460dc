//! Two builds of one commit in two places: the same file to the bit, or somebody's machine is in it.
//!
//! Each place has its own folder, its own target folder and its own path to cargo's home (the second one's is made of links),
//! so that whatever leaks a path, a time or an order shows. What is done about paths is done here and nowhere else:
//! every prefix that differs is mapped to the same word, for rustc and for the C compiler. Who wants to compare with a
//! published hash needs the same rustc and the same C compiler: both are printed.
//!
//! Control, each time: a small program built in the same two places *without* the maps differs, or the comparison says nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::cargo::{alone, root};

/// Small, and with crates of others in it.
const SMALL: &str = "xtask";
/// What people run.
const SHIPPED: &str = "glean";

/// Where one build happens.
struct Place {
    folder: PathBuf,
    cargo_home: PathBuf,
}

/// Builds the commit that is checked out twice; fails when the two differ. What is not committed is not built.
pub fn reproduce() -> Result<()> {
    let commit = git(&root(), &["rev-parse", "HEAD"])?;
    let time = git(&root(), &["show", "--no-patch", "--format=%ct", &commit])?;
    let scratch = tempfile::tempdir()?;
    let places =
        ["a", "another-and-longer-name"].map(|name| Place::lay(&scratch.path().join(name), &commit, name != "a"));
    let places = places.into_iter().collect::<Result<Vec<Place>>>()?;
    println!("commit  {commit}\nrustc   {}\ncc      {}", first_line("rustc", "-V"), first_line("cc", "--version"));
    let built = |package: &str, is_mapped: bool| {
        let of = |place: &Place| place.build(package, is_mapped, &time);
        places.iter().map(of).collect::<Result<Vec<String>>>()
    };
    let bare = built(SMALL, false)?;
    ensure!(bare[0] != bare[1], "{SMALL} is the same without the maps: this comparison cannot see a difference");
    println!("control {SMALL} without the maps differs: {} {}", &bare[0][..16], &bare[1][..16]);
    for package in [SMALL, SHIPPED] {
        let hashes = built(package, true)?;
        hashes.iter().for_each(|hash| println!("sha256  {hash}  {package}"));
        ensure!(
            hashes[0] == hashes[1],
            "{package} differs between two places\nhint: `diffoscope` on the two files shows where"
        );
    }
    Ok(())
}

impl Place {
    /// A clone of the commit, and a path to cargo's home that no other place shares.
    fn lay(folder: &Path, commit: &str, with_own_home: bool) -> Result<Place> {
        std::fs::create_dir(folder)?;
        let source = folder.join("source");
        let (from, to) = (root(), source.display().to_string());
        git(&from, &["clone", "--quiet", "--no-checkout", ".", &to])?;
        git(&source, &["checkout", "--quiet", "--detach", commit])?;
        let cargo_home = cargo_home()?;
        let cargo_home = if with_own_home { linked(&cargo_home, &folder.join("cargo"))? } else { cargo_home };
        Ok(Place { folder: folder.to_owned(), cargo_home })
    }

    /// Builds a package's program; its SHA-256.
    fn build(&self, package: &str, is_mapped: bool, time: &str) -> Result<String> {
        let target = self.folder.join(if is_mapped { "target" } else { "target-bare" });
        eprintln!("building {package} in {}", target.display());
        let mut cargo = alone();
        cargo.args(["build", "--quiet", "--release", "--locked", "--package", package]);
        cargo.current_dir(self.folder.join("source")).env("CARGO_TARGET_DIR", &target);
        cargo.env("CARGO_HOME", &self.cargo_home).env("CARGO_INCREMENTAL", "0").env("SOURCE_DATE_EPOCH", time);
        cargo.env_remove("RUSTFLAGS");
        if is_mapped {
            let maps = self.maps(&target);
            let flags = |flag: &str| maps.iter().map(|map| format!("{flag}={map}")).collect::<Vec<_>>();
            cargo.env("CARGO_ENCODED_RUSTFLAGS", flags("--remap-path-prefix").join("\x1f"));
            let for_c = flags("-ffile-prefix-map").join(" ");
            cargo.env("CFLAGS", &for_c).env("CXXFLAGS", &for_c);
        }
        let status = cargo.status()?;
        ensure!(status.success(), "{package} could not be built in {}", self.folder.display());
        let file = target.join("release").join(format!("{package}{}", std::env::consts::EXE_SUFFIX));
        let bytes = std::fs::read(&file).with_context(|| format!("no program {}", file.display()))?;
        Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// What is called what.
    fn maps(&self, target: &Path) -> Vec<String> {
        let source = self.folder.join("source");
        let all = [(source.as_path(), "/gleaner"), (target, "/target"), (&self.cargo_home, "/cargo")];
        all.iter().map(|(path, word)| format!("{}={word}", path.display())).collect()
    }
}

fn cargo_home() -> Result<PathBuf> {
    let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let found =
        home("CARGO_HOME").or_else(|| Some(home(if cfg!(windows) { "USERPROFILE" } else { "HOME" })?.join(".cargo")));
    found.context("neither CARGO_HOME nor HOME is set")
}

/// Another path to the same things.
#[cfg(unix)]
fn linked(home: &Path, other: &Path) -> Result<PathBuf> {
    std::fs::create_dir(other)?;
    for entry in std::fs::read_dir(home)? {
        let entry = entry?;
        std::os::unix::fs::symlink(entry.path(), other.join(entry.file_name()))?;
    }
    Ok(other.to_owned())
}

#[cfg(not(unix))]
fn linked(home: &Path, _other: &Path) -> Result<PathBuf> {
    Ok(home.to_owned())
}

fn git(folder: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new("git").args(args).current_dir(folder).output().context("git is needed here")?;
    ensure!(output.status.success(), "git {args:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn first_line(program: &str, flag: &str) -> String {
    let said = Command::new(program).arg(flag).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).lines().next().unwrap_or("not found").to_owned()
}
