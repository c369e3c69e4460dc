//! One bit wrong anywhere in what a node keeps: it says so, or it does not matter. It never tells another story.
//!
//! A network does a job and stops. Then, for each file of the ledger's and the requester's home and for places spread over it, the
//! home is laid out anew with one bit flipped there, the network started, and people's questions asked again: who has how much,
//! what became of the job, what the answers are, whether the receipts hold.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;

use std::path::{Path, PathBuf};

use common::load::end;
use common::{LEDGER, Network, PROVIDER, REQUESTER, files, guest, talk};

/// Places in one file. `GLEAN_FLIPS` for more.
const FLIPS: usize = 2;
/// Made anew at each start, or nobody's memory.
const NO_MEMORY: [&str; 3] = ["run/", "log/", "cache/"];

/// How often the requester is asked for its balance until it has found the ledger.
const ASKED_MAX: usize = 20;

/// Why nobody tells a story.
#[derive(Debug, PartialEq)]
enum Silence {
    /// A command failed, with these words.
    Declined(String),
    /// The requester's node works, but shows no balance: it has not found its ledger.
    NoLedger,
}

/// What a node answers, or how it declines.
fn answer(network: &Network, node: &str, question: &[&str]) -> Result<String, Silence> {
    let answer = network.ran(node, question);
    match answer.status.success() {
        true => Ok(String::from_utf8_lossy(&answer.stdout).into_owned()),
        false => Err(Silence::Declined(talk(&answer))),
    }
}

/// What people would ask of the requester. An error is an answer too, as long as it is one.
fn story(network: &Network) -> Result<String, Silence> {
    let mut story = String::new();
    for _ in 0..ASKED_MAX {
        // A ledger that has stopped in the meantime says why when it is asked again.
        answer(network, LEDGER, &["wallet", "balance", "--json"])?;
        let status = answer(network, REQUESTER, &["wallet", "balance", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        if !status["balance"].is_null() {
            story = format!("{} {} {}\n", status["account"], status["balance"], status["in_channels"]);
            break;
        }
    }
    if story.is_empty() {
        return Err(Silence::NoLedger);
    }
    let questions: [&[&str]; 3] =
        [&["jobs", "last", "--json"], &["logs", "last"], &["receipt", "last", "--verify", "--json"]];
    for question in questions {
        story += &answer(network, REQUESTER, question)?;
    }
    Ok(story)
}

/// At once: what they were about to say to each other does not matter here.
fn stop(network: &Network) {
    for node in [REQUESTER, PROVIDER, LEDGER] {
        end(network, node);
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    for name in files(from) {
        let target = to.join(&name);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(from.join(&name), target).unwrap();
    }
}

/// Turns one bit of a file round.
fn flip(path: &PathBuf, place: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], place).unwrap();
}

#[test]
fn a_flipped_bit_is_found_or_changes_nothing() {
    let network = Network::start();
    network.ok(REQUESTER, &["run", &guest("clock"), "--array", "1-12", "--max", "1"]);
    let told = story(&network).unwrap();
    stop(&network);
    assert_eq!(story(&network), Ok(told.clone()), "a restart alone changes nothing");
    stop(&network);

    let kept = tempfile::tempdir().unwrap();
    for node in [LEDGER, PROVIDER, REQUESTER] {
        copy(&network.home(node), &kept.path().join(node));
    }
    let flips = std::env::var("GLEAN_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(FLIPS);
    let (mut tried, mut refused, mut lost, mut same) = (0, 0, 0, 0);
    for node in [LEDGER, REQUESTER] {
        let whole = kept.path().join(node);
        for name in files(&whole).into_iter().filter(|name| !NO_MEMORY.iter().any(|skip| name.starts_with(skip))) {
            let length = std::fs::metadata(whole.join(&name)).unwrap().len();
            for nth in 0..flips as u64 {
                // Spread over the file, and not always at the same place of a page.
                let place = (length * nth / flips as u64 + nth * 37) % length;
                for node in [LEDGER, PROVIDER, REQUESTER] {
                    copy(&kept.path().join(node), &network.home(node));
                }
                flip(&network.home(node).join(&name), place);
                let tells = story(&network);
                stop(&network);
                tried += 1;
                match tells {
                    Ok(story) => {
                        assert_eq!(story, told, "{node}: another story after byte {place} of {name} was hurt");
                        same += 1;
                    }
                    Err(Silence::Declined(why)) => {
                        assert!(why.contains("hint:"), "{node}: byte {place} of {name}: {why}");
                        refused += 1;
                    }
                    Err(Silence::NoLedger) => {
                        println!("{node}: byte {place} of {name}: the ledger is not found any more");
                        lost += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 0, "no hurt file was noticed: the test flips nothing that matters");
    println!(
        r#"BAR {{"bar":"flips","what":"one bit flipped in files of the ledger's and the requester's home, real processes: another story told than before","runs":{tried},"control":"{refused} of them are refused with a hint","note":"{same} do not matter; {lost} make the ledger unreachable, which shows as no balance"}}"#
    );
}
