//! A home in one file and back, with the real binary: whole or refused, and an old copy that does no harm.
//!
//! Control of the second story: the same with a plain copy of the folder, which is what people do without these commands. It
//! must show the damage, or the first half proves nothing.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{LEDGER, Network, PROVIDER, REQUESTER, code, files, guest, talk};
use serde_json::Value;

/// Places hurt in each archive. `GLEAN_FLIPS` for more.
const FLIPS: usize = 40;
/// Damage in it may show in what it says of others.
const MANIFEST: &str = "manifest.json";
/// What a private network gives a newcomer.
const GRANT: f64 = 100.0;
/// Beyond this a job hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const JOB: [&str; 6] = ["run", NOOP, "--array", "1-300", "--max", "1"];
const NOOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guests/noop.wasm");

fn stop(network: &Network, node: &str) {
    network.ok(node, &["node", "--stop"]);
}

/// The disk of that node is lost.
fn lose(network: &Network, node: &str) {
    std::fs::remove_dir_all(network.home(node)).unwrap();
}

fn path(network: &Network, name: &str) -> String {
    network.folder.path().join(name).to_str().unwrap().to_owned()
}

fn copy(from: &Path, to: &Path) {
    for name in files(from) {
        let target = to.join(&name);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(from.join(&name), target).unwrap();
    }
}

fn money(value: &Value) -> f64 {
    value.as_str().unwrap_or_else(|| panic!("no money: {value}")).parse().unwrap()
}

/// What the lender holds in vouchers or has cashed.
fn earned(network: &Network) -> f64 {
    let status = network.json(PROVIDER, &["status"]);
    money(&status["share"]["held"]) + money(&status["share"]["settled"])
}

fn newest(network: &Network) -> Value {
    network.json(REQUESTER, &["jobs"])[0].clone()
}

/// Asks again until it is so; the limit is only there to fail.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
    }
}

/// Where each file of an archive has its content, by what tar says.
fn members(archive: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while archive[at] != 0 {
        let field = |from: usize, length: usize| {
            let bytes = &archive[at + from..at + from + length];
            String::from_utf8_lossy(bytes).trim_end_matches(['\0', ' ']).to_owned()
        };
        let (name, prefix) = (field(0, 100), field(345, 155));
        let size = usize::from_str_radix(&field(124, 12), 8).unwrap();
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        found.push((name, at + 512..at + 512 + size));
        at += 512 + size.next_multiple_of(512);
    }
    found
}

/// Hurts places all over an archive, one at a time: how many were tried, and how many of them traced to their file.
fn hurt(network: &Network, archive: &str) -> (usize, usize) {
    let whole = std::fs::read(archive).unwrap();
    let members = members(&whole);
    let all = std::env::var("GLEAN_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(FLIPS);
    // Half of them spread over the file, half in turn in each member: most of the file is one or two large ones.
    let spread = (0..all / 2).map(|nth| whole.len() * nth / (all / 2).max(1) + nth * 37);
    let each = (0..all - all / 2).map(|nth| {
        let (_, content) = &members[nth % members.len()];
        content.start + nth * 7919 % content.len().max(1)
    });
    let hurt = path(network, "hurt");
    let (mut tried, mut named) = (0, 0);
    for place in spread.chain(each).map(|place| place % whole.len()) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        std::fs::write(&hurt, bytes).unwrap();
        let refused = network.ran(REQUESTER, &["restore", &hurt, "--check"]);
        assert_eq!(code(&refused), 125, "byte {place} of {archive} was hurt and nobody noticed");
        let said = talk(&refused);
        assert!(said.contains("hint:"), "{said}");
        let is_there =
            |(name, content): &&(String, std::ops::Range<usize>)| name != MANIFEST && content.contains(&place);
        if let Some((name, _)) = members.iter().find(is_there) {
            assert!(said.contains(name.as_str()), "byte {place} is in {name}: {said}");
            named += 1;
        }
        tried += 1;
    }
    (tried, named)
}

#[test]
fn a_backup_comes_back_whole_or_not_at_all() {
    let network = Network::start();
    network.ok(REQUESTER, &["run", &guest("clock"), "--array", "1-12", "--max", "1"]);
    let archives = [LEDGER, REQUESTER].map(|node| (node, path(&network, &format!("{node}.backup"))));
    let running = network.ran(REQUESTER, &["backup", &archives[1].1]);
    assert!(code(&running) == 125 && talk(&running).contains("hint: glean node --stop"), "{}", talk(&running));
    let before = network.json(REQUESTER, &["wallet", "balance"]);
    for node in [REQUESTER, PROVIDER, LEDGER] {
        stop(&network, node);
    }
    let (mut tried, mut named, mut bytes) = (0, 0, 0);
    for (node, archive) in &archives {
        let made = network.json(node, &["backup", archive]);
        let mode = std::fs::metadata(archive).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "keys are in it");
        let checked = network.json(node, &["restore", archive, "--check"]);
        assert_eq!(made, checked, "the control: whole, it passes");
        assert_eq!(checked["ledger"].is_null(), *node == REQUESTER, "{checked}");
        if *node == REQUESTER {
            assert_eq!((checked["jobs"].as_u64(), checked["jobs_open"].as_u64()), (Some(1), Some(0)), "{checked}");
        } else {
            assert!(checked["ledger"]["height"].as_u64() > Some(3), "{checked}");
            assert!(money(&checked["ledger"]["balance"]) > 0.0, "{checked}");
        }
        let refused = network.ran(node, &["restore", archive]);
        assert!(code(&refused) == 125 && talk(&refused).contains("is not empty"), "{}", talk(&refused));
        let again = network.ran(node, &["backup", archive]);
        assert!(code(&again) == 125 && talk(&again).contains("already there"), "{}", talk(&again));
        let (of_it, in_files) = hurt(&network, archive);
        (tried, named, bytes) = (tried + of_it, named + in_files, bytes + std::fs::metadata(archive).unwrap().len());
    }
    for (node, archive) in &archives {
        lose(&network, node);
        network.ok(node, &["restore", archive]);
        let names = files(&network.home(node));
        assert!(names.contains(&"keys/node".to_owned()) && !names.contains(&"keys/checks".to_owned()), "{names:?}");
        let mode = std::fs::metadata(network.home(node).join("keys/password")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for node in [LEDGER, PROVIDER] {
        network.ok(node, &["status"]);
    }
    eventually("the restored node finds the ledger again", || {
        network.json(REQUESTER, &["wallet", "balance"])["balance"].is_string()
    });
    let after = network.json(REQUESTER, &["wallet", "balance"]);
    assert_eq!((&after["account"], &after["balance"]), (&before["account"], &before["balance"]));
    let home = money(&after["in_channels"]) + money(&after["coming_home"]);
    assert!((home - money(&before["in_channels"])).abs() < 1e-12, "{after} {before}");
    assert!(money(&after["coming_home"]) > 0.0, "the deposit was not asked back: {after}");
    network.ok(REQUESTER, &["receipt", "last", "--verify"]);
    network.ok(REQUESTER, &["run", &guest("clock"), "--array", "1-12", "--max", "1"]);
    println!(
        r#"BAR {{"bar":"backup","what":"one bit flipped somewhere in backups of a ledger node and a requester, real binary: not noticed by `restore --check`, or not traced to its file","runs":{tried},"control":"unhurt both pass, are restored into empty folders and work","note":"{named} in files, each named; archives of {} KiB"}}"#,
        bytes >> 10
    );
}

/// A job that the requester is killed in, when some of it is paid.
fn die_at_work(network: &Network) {
    let before = earned(network);
    network.ok(REQUESTER, &["run", NOOP, "--array", "1-100000", "--max", "5", "--detach"]);
    eventually("some of the job is paid", || earned(network) > before);
    let file: Value =
        serde_json::from_slice(&std::fs::read(network.home(REQUESTER).join("run/api.json")).unwrap()).unwrap();
    let pid = file["pid"].as_u64().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    lose(network, REQUESTER);
}

/// What the lender has once it says the same twice in a row, seen from a distance of one block at least.
fn settled(network: &Network) -> f64 {
    let mut last = earned(network);
    eventually("the lender's books come to rest", || network.json(PROVIDER, &["status"])["share"]["running"] == 0);
    loop {
        let now = earned(network);
        if (now - last).abs() < 1e-15 {
            return now;
        }
        last = now;
    }
}

/// What the ways of coming back have in common: a job, a copy of the home, a life that nobody will remember, and its end.
fn lost_life(copied: impl Fn(&Network)) -> Network {
    let network = Network::start();
    network.ok(REQUESTER, &JOB);
    stop(&network, REQUESTER);
    copied(&network);
    network.ok(REQUESTER, &JOB);
    die_at_work(&network);
    network
}

#[test]
fn an_old_backup_pays_nothing_twice_and_leaves_no_job_behind() {
    let archive = |network: &Network| path(network, "old.backup");
    let network = lost_life(|network| drop(network.ok(REQUESTER, &["backup", &archive(network)])));
    let owed = settled(&network);
    network.ok(REQUESTER, &["restore", &archive(&network)]);
    let status = network.json(REQUESTER, &["status"]);
    assert!(money(&status["coming_home"]) > 0.0, "deposits are on their way home: {status}");
    assert_eq!(money(&status["in_channels"]), 0.0, "nothing is signed on them: {status}");
    let start = Instant::now();
    network.ok(REQUESTER, &JOB);
    let took = start.elapsed();
    let spent = money(&newest(&network)["spent"]);
    eventually("the lender has what the new job cost", || (earned(&network) - owed - spent).abs() < 1e-12);
    let status = network.json(REQUESTER, &["status"]);
    let whole = money(&status["balance"]) + money(&status["in_channels"]) + money(&status["coming_home"]);
    // What the forgotten life had promised and its lender had not cashed, nobody here can know yet.
    let least = GRANT - owed - spent;
    assert!(whole >= least - 1e-9 && whole <= GRANT - spent + 1e-9, "{whole}, at least {least}: {status}");
    network.ok(REQUESTER, &["receipt", "last", "--verify"]);

    let (believed, got) = plain_copy();
    println!(
        r#"BAR {{"bar":"old_backup","what":"a requester killed at work, its disk lost, an old backup restored: paid twice, a job stuck, deposits out of sight","runs":1,"control":"a plain copy of the folder promises {believed} gUSD, of which {got} arrive","note":"the next job took {} ms"}}"#,
        took.as_millis()
    );
}

/// The same with the folder laid back by hand: what it believes to have paid, and what of that arrived.
fn plain_copy() -> (f64, f64) {
    let plain = |network: &Network| PathBuf::from(path(network, "plain"));
    let network = lost_life(|network| copy(&network.home(REQUESTER), &plain(network)));
    let before = settled(&network);
    copy(&plain(&network), &network.home(REQUESTER));
    let spent = || network.json(REQUESTER, &["jobs"]).as_array().unwrap().iter().map(|job| money(&job["spent"])).sum();
    let known: f64 = spent();
    network.ok(REQUESTER, &[&JOB[..], &["--detach"]].concat());
    eventually("the copy believes that it has paid", || spent() > known);
    let (believed, got) = (spent() - known, settled(&network) - before);
    assert!(got < believed, "the copy did no harm: {believed} promised, {got} arrived");
    (believed, got)
}
