//! Whatever peers say, in whatever order: a step never panics, a budget is never passed, a voucher never
//! shrinks, and a task ends once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::collections::BTreeMap;

use glean_protocol::{
    ChannelView, CommitMsg, Identity, Input, NoVerdict, Node, Output, Record, Refusal, RunId, Settings, ShareTerms,
    SliceDoneMsg, SliceMsg, Submission, WorkMsg,
};
use glean_types::{
    AccountKey, Address, Agreement, Amount, B256, ChannelId, Class, Domain, Hash, Job, JobId, Manifest, NodeId, Offer,
    Outcome, Output as Bytes, Paper, Receipt, Signed, TaskResult, TaskSpec, Voucher, merkle,
};
use proptest::prelude::*;

const TASKS: u32 = 30;
const NOW_MS: u64 = 1_800_000_000_000;
/// The budget: enough for about a third of the tasks.
const BUDGET: u64 = 40_000;

fn identity(n: u8) -> Identity {
    Identity {
        node: NodeId([n; 32]),
        key: AccountKey::from_bytes(&[n; 32]).unwrap(),
        domain: domain(),
        class: Hash([1; 32]),
        secret: [n; 32],
    }
}

fn domain() -> Domain {
    Domain { chain_id: 7, channels: Address::repeat_byte(0xcc) }
}

fn units(n: u64) -> Amount {
    Amount::from_units(n.into()).unwrap()
}

fn job_of(n: u8, budget: u64) -> Signed<Job> {
    let me = identity(n);
    let job = Job {
        requester: me.key.address(),
        node: me.node,
        program: Hash([1; 32]),
        manifest: Hash([2; 32]),
        tasks: TASKS,
        budget: units(budget),
        fuel_max: 10_000_000,
        mem_max: 1 << 20,
        output_max: 1 << 20,
        timeout_ms: 1_000,
        class: Class::Exact,
        seed: Hash([3; 32]),
        created_ms: NOW_MS,
    };
    job.sign(&me.key, &me.domain)
}

fn spec(index: u32) -> TaskSpec {
    TaskSpec { index, args: vec![], stdin: vec![] }
}

fn submission() -> Submission {
    let specs = (0..TASKS).map(spec).collect();
    Submission { job: job_of(1, BUDGET), manifest: Manifest::default(), specs, max_fails: None }
}

fn answer(index: u32, byte: u8) -> TaskResult {
    TaskResult {
        index,
        outcome: Outcome::Exit(0),
        fuel: 900_000,
        stdout: Bytes::Inline(vec![byte]),
        stderr: Bytes::Inline(vec![]),
        files: vec![],
    }
}

fn offer(n: u8, seq: u64) -> Signed<Offer> {
    let me = identity(n);
    let offer = Offer {
        node: me.node,
        provider: me.key.address(),
        seq,
        issued_ms: NOW_MS,
        ttl_ms: 900_000,
        price_per_gfuel: units(1_000_000),
        slots: 2,
        slots_free: 2,
        mem_max: 1 << 30,
        mfuel_per_s: 100,
        machine: 0,
        class: Hash([1; 32]),
        region: String::new(),
        peer: vec![],
    };
    offer.sign(&me.key, &me.domain)
}

/// One thing a stranger, a villain or the world does. Numbers are folded onto what exists.
#[derive(Debug, Clone)]
struct Deed {
    kind: u8,
    who: u8,
    a: u64,
    b: u64,
    lie: bool,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = (0u8..22, 2u8..5, 0u64..8, any::<u64>(), prop::bool::weighted(0.2))
        .prop_map(|(kind, who, a, b, lie)| Deed { kind, who, a, b, lie });
    prop::collection::vec(deed, 1..160)
}

/// A small number, now and then as large as they come.
fn wild(small: u64, chance: u64) -> u64 {
    if chance.is_multiple_of(13) { u64::MAX - small } else { small }
}

/// The world around node 1: what it has asked for and not been given yet.
#[derive(Default)]
struct World {
    fund: Vec<(NodeId, Option<ChannelId>, Amount)>,
    opens: Vec<(NodeId, Signed<Agreement>)>,
    slices: Vec<(NodeId, SliceMsg)>,
    runs: Vec<(RunId, Vec<u32>)>,
    promised: BTreeMap<ChannelId, Amount>,
    ended: BTreeMap<u32, u32>,
    price: BTreeMap<ChannelId, Amount>,
}

fn take<T>(list: &mut Vec<T>, at: u64) -> Option<T> {
    if list.is_empty() { None } else { Some(list.remove(at as usize % list.len())) }
}

impl World {
    /// Keeps what was asked for, and checks what was decided.
    fn see(&mut self, outputs: Vec<Output>) {
        let mut corrected = Vec::new();
        for output in &outputs {
            if let Output::Report(glean_protocol::Event::TaskCorrected { index, .. }) = output {
                corrected.push(*index);
            }
        }
        for output in outputs {
            match output {
                Output::FundChannel { provider, channel, deposit, .. } => self.fund.push((provider, channel, deposit)),
                Output::Send { to, message: WorkMsg::Open(agreement) } => {
                    self.price.insert(agreement.paper.channel, agreement.paper.price_per_gfuel);
                    self.opens.push((to, agreement));
                }
                Output::Send { to, message: WorkMsg::Slice(slice) } => self.slices.push((to, *slice)),
                Output::Run(order) => self.runs.push((order.run, order.specs.iter().map(|spec| spec.index).collect())),
                Output::Record(Record::Paid { voucher, .. }) => {
                    let total = self.promised.entry(voucher.paper.channel).or_default();
                    assert!(voucher.paper.cumulative >= *total, "a voucher shrinks");
                    *total = voucher.paper.cumulative;
                }
                Output::Record(Record::Accepted { result, .. }) => {
                    let count = self.ended.entry(result.index).or_default();
                    *count += 1;
                    assert!(*count == 1 || corrected.contains(&result.index), "task {} ended twice", result.index);
                }
                _ => {}
            }
        }
        let spent: Amount = self.promised.values().copied().sum();
        assert!(spent <= units(BUDGET), "{spent} of {BUDGET} units");
    }

    /// The answer of a machine to a slice it was sent: right, wrong, partial, or badly billed.
    fn done(&self, who: NodeId, slice: &SliceMsg, deed: &Deed) -> SliceDoneMsg {
        let me = identity(who.0[0]);
        let job = slice.job.paper.id();
        let keep = if deed.b.is_multiple_of(3) { slice.specs.len().div_ceil(2) } else { slice.specs.len() };
        let byte = u8::from(deed.lie);
        let results: Vec<TaskResult> = slice.specs[..keep].iter().map(|spec| answer(spec.index, byte)).collect();
        let leaves: Vec<B256> = results
            .iter()
            .zip(&slice.specs)
            .map(|(result, spec)| {
                let input = glean_types::TaskInput { manifest: Hash([2; 32]), spec: spec.clone() };
                result.leaf(job, input.hash())
            })
            .collect();
        let fuel = results.len() as u64 * 1_000_000 + deed.b % 7 / 6;
        let price = self.price.get(&slice.channel).and_then(|price| price.price_of(fuel)).unwrap_or_default();
        let receipt = Receipt {
            channel: slice.channel,
            job,
            slice: slice.slice,
            tasks: results.len() as u32,
            results_root: merkle::root(&leaves),
            fuel,
            price,
            provider: me.key.address(),
            issued_ms: NOW_MS,
            expiry_ms: NOW_MS + if deed.b.is_multiple_of(17) { 1 } else { glean_types::params::RECEIPT_LIFE_MS },
        };
        let unanswered = slice.specs[keep..].iter().map(|spec| (spec.index, NoVerdict::HostMemory)).collect();
        SliceDoneMsg { receipt: receipt.sign(&me.key, &me.domain), results, unanswered }
    }

    fn refusal(n: u64) -> Refusal {
        match n % 9 {
            0 => Refusal::Busy,
            1 => Refusal::NotLending,
            2 => Refusal::BadChannel,
            3 => Refusal::OutOfOrder { expected: n },
            4 => Refusal::PriceCapTooLow,
            5 => Refusal::Dropped,
            6 => Refusal::DepositTooSmall,
            7 => Refusal::NoVerdict("no".into()),
            _ => Refusal::Unusable("no".into()),
        }
    }

    /// Turns a deed into an input, if there is anything to do it with.
    fn input(&mut self, deed: &Deed) -> Option<Input> {
        let Deed { kind, who, a, b, lie } = *deed;
        let from = NodeId([who; 32]);
        let them = identity(who);
        let channel = ChannelId([who; 32]);
        Some(match kind {
            0 => Input::Tick,
            1 => Input::Offers(vec![offer(who, a)]),
            2 => Input::Connected(from),
            3 if lie => Input::Disconnected(from),
            3 | 4 => {
                let (provider, id, deposit) = take(&mut self.fund, a)?;
                match id.unwrap_or(ChannelId(provider.0)) {
                    _ if lie => Input::ChannelFailed { provider, why: "no".into(), no_funds: b.is_multiple_of(2) },
                    channel => Input::ChannelReady { provider, channel, deposit },
                }
            }
            5 | 6 => {
                let (to, agreement) = take(&mut self.opens, a)?;
                let them = identity(if lie { 4 } else { to.0[0] });
                Input::Message { from: to, message: WorkMsg::Agreed(agreement.paper.sign(&them.key, &them.domain)) }
            }
            7..=10 => {
                let (to, slice) = take(&mut self.slices, a)?;
                let done = self.done(to, &slice, deed);
                if b.is_multiple_of(5) {
                    self.slices.push((to, slice));
                }
                Input::Message { from: to, message: WorkMsg::Done(Box::new(done)) }
            }
            11 => {
                let (run, indexes) = take(&mut self.runs, a)?;
                let results =
                    indexes.into_iter().map(|index| if lie { Err(NoVerdict::Deadline) } else { Ok(answer(index, 0)) });
                Input::Ran { run, results: results.collect() }
            }
            12 => Input::Message {
                from,
                message: WorkMsg::Refused { channel, slice: (!lie).then_some(a), refusal: World::refusal(b) },
            },
            13 => {
                let agreement = Agreement {
                    channel,
                    requester: them.key.address(),
                    requester_node: from,
                    provider: identity(1).key.address(),
                    provider_node: NodeId([1; 32]),
                    price_per_gfuel: units(if lie { 1 } else { 1_000_000 }),
                    created_ms: a,
                };
                Input::Message { from, message: WorkMsg::Open(agreement.sign(&them.key, &them.domain)) }
            }
            14 => Input::ChannelSeen {
                channel,
                view: (!lie).then(|| ChannelView {
                    payer: them.key.address(),
                    payee: identity(1).key.address(),
                    signer: them.key.address(),
                    deposit: units(b % 100_000),
                    settled: Amount::ZERO,
                    closing: b.is_multiple_of(11),
                }),
            },
            15 | 16 => {
                let count = (b % 5) as u32;
                let specs = (0..count).map(|i| spec(if lie { b as u32 } else { i * 3 })).collect();
                let slice = SliceMsg {
                    channel,
                    slice: wild(a, b),
                    job: job_of(who, 10),
                    price_max: units(b % 10_000),
                    specs,
                    holders: vec![],
                };
                Input::Message { from, message: WorkMsg::Slice(Box::new(slice)) }
            }
            17 => {
                let voucher = Voucher { channel, cumulative: units(b % 20_000) };
                let signer = identity(if lie { 4 } else { who });
                Input::Message { from, message: WorkMsg::Pay(voucher.sign(&signer.key, &signer.domain)) }
            }
            18 => Input::Message { from, message: WorkMsg::Drop { channel, slice: a } },
            20 | 21 => {
                let (to, slice) = take(&mut self.slices, a)?;
                let done = self.done(to, &slice, deed);
                let leaf = |result: &TaskResult| {
                    let spec = slice.specs.iter().find(|spec| spec.index == result.index).unwrap().clone();
                    let input = glean_types::TaskInput { manifest: Hash([2; 32]), spec };
                    (result.index, result.leaf(slice.job.paper.id(), input.hash()))
                };
                let leaves = done.results.iter().map(leaf).collect();
                // What was committed to is delivered some time later, perhaps by another deed with another answer.
                self.slices.push((to, slice));
                Input::Message {
                    from: to,
                    message: WorkMsg::Commit(Box::new(CommitMsg { receipt: done.receipt, leaves })),
                }
            }
            _ if lie => Input::RerunFailed(submission().job.paper.id()),
            _ if b.is_multiple_of(5) => Input::ChannelClosing { channel, again_ms: b.is_multiple_of(2).then_some(b) },
            _ => Input::Claimed { channel, settled: units(b % 10_000) },
        })
    }
}

fn terms() -> ShareTerms {
    ShareTerms {
        price_per_gfuel: units(1_000_000),
        slots: 2,
        mem_max: 1 << 30,
        mfuel_per_s: 100,
        region: String::new(),
        machine: 0,
        peer: vec![],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_peer_breaks_a_node(deeds in deeds()) {
        let mut node = Node::new(identity(1), Settings::default());
        let mut world = World::default();
        let mut journal: Vec<Record> = Vec::new();
        let mut now_ms = NOW_MS;
        let start = [
            Input::Share(Some(terms())),
            Input::Offers((2..5).map(|n| offer(n, 1)).collect()),
            Input::Submit(Box::new(submission())),
            Input::Connected(NodeId([2; 32])),
            Input::Connected(NodeId([3; 32])),
        ];
        let mut inputs = Vec::from(start);
        for deed in &deeds {
            inputs.extend(world.input(deed));
            for input in inputs.drain(..) {
                now_ms += deed.b % 700;
                let outputs = node.step(now_ms, input);
                journal.extend(outputs.iter().filter_map(|output| match output {
                    Output::Record(record) => Some(record.clone()),
                    _ => None,
                }));
                world.see(outputs);
            }
        }
        // What is on disk says the same as what is in memory.
        let restored = Node::restore(identity(1), Settings::default(), journal);
        let (before, after) = (node.jobs(), restored.jobs());
        prop_assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            prop_assert_eq!((before.spent, before.succeeded, before.failed), (after.spent, after.succeeded, after.failed));
        }
    }
}

/// Explanations exist for every task in every state, and for what is not there.
#[test]
fn everything_can_be_explained() {
    let mut node = Node::new(identity(1), Settings::default());
    node.step(NOW_MS, Input::Submit(Box::new(submission())));
    let id = submission().job.paper.id();
    let why = node.explain_task(id, 0).unwrap();
    assert_eq!(why.text, vec!["no machine offers its time yet".to_owned()]);
    assert!(node.explain_task(id, TASKS).is_none() && node.explain_task(JobId([9; 32]), 0).is_none());
    assert_eq!(node.explain_offer().text, vec!["this machine is not lent now".to_owned()]);
    node.step(NOW_MS, Input::Share(Some(terms())));
    assert!(node.explain_offer().text[0].starts_with("offered 0 s ago: 2 slots"), "{:?}", node.explain_offer());
}
