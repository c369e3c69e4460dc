//! The official JSON-RPC cases of ethereum/execution-apis, put to our handler.
//!
//! Their chain of 54 blocks, from Homestead to Osaka, is executed by our executor and kept in our store
//! (`glean_chain::import` says what is special about that); every block must give the state root, receipts root,
//! logs bloom and gas that its header names. Then every case is asked as a file says, in the order of their names.
//!
//! What fails is listed in `expected_failures.txt`, each with its reason. The list stays true: a case that is not in
//! it must pass, and one that is must not.
//!
//! The cases are not in this repository. They are looked for at `../shared/data` from the project's root, or at
//! `GLEANER_TEST_DATA`; where they are absent the test prints SKIPPED with the reason.

mod cases;
mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cases::Case;

/// Cases that are known to fail, one a line: the name, then the reason.
const EXPECTED_FAILURES: &str = include_str!("expected_failures.txt");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_cases_pass_or_are_listed() {
    let data = data_dir();
    if !data.join("genesis.json").is_file() {
        println!("SKIPPED: no JSON-RPC cases at {}", data.display());
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let chain = history::import(&data, dir.path());
    println!("{} foreign blocks replayed", chain.head().number());
    let mut failures = BTreeMap::new();
    let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for case in Case::all(&data) {
        let (passed, of) = counts.entry(case.method().to_string()).or_default();
        *of += 1;
        match case.run(&chain.rpc()).await {
            Ok(()) => *passed += 1,
            Err(difference) => drop(failures.insert(case.name.clone(), difference)),
        }
    }
    report(&counts, &failures);
    compare(&failures);
}

fn data_dir() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    std::env::var_os("GLEANER_TEST_DATA").map_or_else(beside, PathBuf::from).join("execution-apis/tests")
}

fn report(counts: &BTreeMap<String, (u32, u32)>, failures: &BTreeMap<String, String>) {
    for (method, (passed, of)) in counts {
        println!("{passed:>3} of {of:>3}  {method}");
    }
    for (name, difference) in failures {
        println!("fails: {name}: {difference}");
    }
    let (passed, of) = counts.values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    println!("{passed} of {of} official JSON-RPC cases pass");
}

/// Holds what failed against the list.
fn compare(failures: &BTreeMap<String, String>) {
    let listed: BTreeMap<&str, &str> = EXPECTED_FAILURES
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(": ").expect("a name and a reason"))
        .collect();
    let failed: BTreeSet<&str> = failures.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = listed.into_keys().collect();
    let broken: Vec<&&str> = failed.difference(&listed).collect();
    let mended: Vec<&&str> = listed.difference(&failed).collect();
    assert!(broken.is_empty(), "these fail and are not in expected_failures.txt: {broken:#?}");
    assert!(mended.is_empty(), "these pass (or are gone): take them out of expected_failures.txt: {mended:#?}");
}
