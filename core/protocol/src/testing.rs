//! Small honest papers for this crate's tests.

use glean_types::{
    AccountKey, Address, Amount, Class, Domain, Hash, Job, Manifest, NodeId, Outcome, Output, Paper, TaskResult,
    TaskSpec,
};

use crate::io::{Identity, Submission};

pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

pub(crate) fn identity(n: u8) -> Identity {
    Identity {
        node: NodeId([n; 32]),
        key: AccountKey::from_bytes(&[n; 32]).unwrap(),
        domain: Domain { chain_id: 7, channels: Address::repeat_byte(0xcc) },
        class: Hash([0xcc; 32]),
        secret: [n; 32],
    }
}

/// A job of node 1.
pub(crate) fn submission(tasks: u32, budget: Amount, fuel_max: u64) -> Submission {
    let me = identity(1);
    let job = Job {
        requester: me.key.address(),
        node: me.node,
        program: Hash([1; 32]),
        manifest: Hash([2; 32]),
        tasks,
        budget,
        fuel_max,
        mem_max: 1 << 26,
        output_max: 1 << 20,
        timeout_ms: 10_000,
        class: Class::Exact,
        seed: Hash([3; 32]),
        created_ms: NOW_MS,
    };
    Submission {
        job: job.sign(&me.key, &me.domain),
        manifest: Manifest::default(),
        specs: (0..tasks).map(|index| TaskSpec { index, ..TaskSpec::default() }).collect(),
        max_fails: None,
    }
}

pub(crate) fn result(index: u32, fuel: u64) -> TaskResult {
    TaskResult {
        index,
        outcome: Outcome::Exit(0),
        fuel,
        stdout: Output::Inline(format!("answer {index}").into_bytes()),
        stderr: Output::Inline(vec![]),
        files: vec![],
    }
}
