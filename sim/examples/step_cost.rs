//! What the brain itself costs: CPU time inside `Node::step` per no-op task, on either side, without network,
//! journal or workers. `cargo run --release -p glean-sim --example step_cost`

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use glean_protocol::{ChannelView, Identity, Input, Node, Output, Settings, ShareTerms, Submission};
use glean_types::{
    AccountKey, Address, Amount, ChannelId, Class, Domain, Hash, Job, Manifest, NodeId, Outcome, Output as Bytes,
    Paper, TaskResult, TaskSpec,
};

const TASKS: u32 = 100_000;
const PROVIDERS: u8 = 4;

fn identity(n: u8) -> Identity {
    Identity {
        node: NodeId([n; 32]),
        key: AccountKey::from_bytes(&[n; 32]).expect("a small number is a valid key"),
        domain: Domain { chain_id: 1, channels: Address::repeat_byte(1) },
        class: Hash([1; 32]),
        secret: [n; 32],
    }
}

fn submission(me: &Identity) -> Submission {
    let job = Job {
        requester: me.key.address(),
        node: me.node,
        program: Hash([1; 32]),
        manifest: Hash([2; 32]),
        tasks: TASKS,
        budget: Amount::whole(100),
        fuel_max: 1_000_000_000,
        mem_max: 1 << 26,
        output_max: 1 << 20,
        timeout_ms: 10_000,
        class: Class::Exact,
        seed: Hash([3; 32]),
        created_ms: 1,
    };
    let spec = |index: u32| TaskSpec { index, args: vec![index.to_string()], stdin: Vec::new() };
    let manifest = Manifest::default();
    Submission { job: job.sign(&me.key, &me.domain), manifest, specs: (0..TASKS).map(spec).collect(), max_fails: None }
}

fn no_op(spec: &TaskSpec) -> TaskResult {
    TaskResult {
        index: spec.index,
        outcome: Outcome::Exit(0),
        fuel: 1_000,
        stdout: Bytes::Inline(Vec::new()),
        stderr: Bytes::Inline(Vec::new()),
        files: Vec::new(),
    }
}

/// What the world answers to one output of node `at` (0 is the requester).
fn perform(at: u8, output: Output, nodes: &[Identity], inbox: &mut VecDeque<(u8, Input)>) {
    let index_of = |node: NodeId| node.0[0] - 1;
    match output {
        Output::Send { to, message } => {
            let from = nodes[usize::from(at)].node;
            inbox.push_back((index_of(to), Input::Message { from, message }));
        }
        Output::Publish(offer) => inbox.push_back((0, Input::Offers(vec![offer]))),
        Output::Dial { node, .. } => {
            inbox.push_back((index_of(node), Input::Connected(nodes[usize::from(at)].node)));
            inbox.push_back((at, Input::Connected(node)));
        }
        Output::FundChannel { provider, deposit, .. } => {
            inbox.push_back((at, Input::ChannelReady { provider, channel: ChannelId(provider.0), deposit }));
        }
        Output::LookUpChannel(channel) => {
            let payer = nodes[0].key.address();
            let view = ChannelView {
                payer,
                payee: nodes[usize::from(at)].key.address(),
                signer: payer,
                deposit: Amount::whole(1_000),
                settled: Amount::ZERO,
                closing: false,
            };
            inbox.push_back((at, Input::ChannelSeen { channel, view: Some(view) }));
        }
        Output::Run(order) => {
            let results = order.specs.iter().map(|spec| Ok(no_op(spec))).collect();
            inbox.push_back((at, Input::Ran { run: order.run, results }));
        }
        _ => {}
    }
}

fn main() {
    let ids: Vec<Identity> = (1..=PROVIDERS + 1).map(identity).collect();
    let mut nodes: Vec<Node> = ids.iter().map(|id| Node::new(id.clone(), Settings::default())).collect();
    let mut spent = [Duration::ZERO; 2];
    let mut steps = [0u32; 2];
    let mut inbox = VecDeque::new();
    for (at, id) in (0u8..).zip(&ids).skip(1) {
        let terms = ShareTerms {
            price_per_gfuel: Amount::whole(1).scale(1, 1_000),
            slots: 4,
            mem_max: 1 << 32,
            mfuel_per_s: 50_000,
            region: String::new(),
            machine: 0,
            peer: id.node.0.to_vec(),
        };
        inbox.push_back((at, Input::Share(Some(terms))));
    }
    inbox.push_back((0, Input::Submit(Box::new(submission(&ids[0])))));
    let mut now_ms = 1_800_000_000_000;
    while !nodes[0].jobs().iter().any(|job| job.ended) {
        let (at, input) = inbox.pop_front().unwrap_or((0, Input::Tick));
        now_ms += u64::from(inbox.is_empty());
        let side = usize::from(at > 0);
        let started = Instant::now();
        let outputs = nodes[usize::from(at)].step(now_ms, input);
        spent[side] += started.elapsed();
        steps[side] += 1;
        outputs.into_iter().for_each(|output| perform(at, output, &ids, &mut inbox));
    }
    let job = &nodes[0].jobs()[0];
    assert_eq!(job.succeeded, TASKS, "{job:?}");
    let ran = f64::from(TASKS + job.rechecked);
    for (side, name) in ["requester", "providers"].into_iter().enumerate() {
        let per_task = spent[side].as_secs_f64() * 1e6 / ran;
        println!(
            "{name}: {per_task:.2} us per task, {} steps, {:.1} tasks per step",
            steps[side],
            ran / f64::from(steps[side])
        );
    }
    println!(
        "both: {:.2} us per task, {} re-run as checks",
        (spent[0] + spent[1]).as_secs_f64() * 1e6 / ran,
        job.rechecked
    );
}
