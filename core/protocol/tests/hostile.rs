//! Whatever peers say, in whatever order: a step never panics, a budget is never passed, a voucher never
//! shrinks, and a task ends once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::collections::{BTreeMap, BTreeSet};

use glean_protocol::{
    ChannelView, CommitMsg, Identity, Input, NoVerdict, Node, Output, Record, Refusal, RunId, Settings, ShareTerms,
    SliceDoneMsg, SliceMsg, Submission, WorkMsg,
};
use glean_types::{
    AccountKey, Address, Agreement, Amount, B256, ChannelId, Class, Domain, Hash, Job, JobId, Manifest, NodeId, Offer,
    Outcome, Output as Bytes, Paper, Receipt, Signed, TaskResult, TaskSpec, Voucher, merkle,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

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

/// What a requester agrees on with node 1.
fn agreement(requester: &Identity, channel: ChannelId) -> Agreement {
    Agreement {
        channel,
        requester: requester.key.address(),
        requester_node: requester.node,
        provider: identity(1).key.address(),
        provider_node: NodeId([1; 32]),
        price_per_gfuel: units(1_000_000),
        created_ms: NOW_MS,
    }
}

/// That requester's channel with node 1 as the ledger shows it.
fn view(requester: &Identity, deposit: u64) -> ChannelView {
    let (payer, payee) = (requester.key.address(), identity(1).key.address());
    let (deposit, settled) = (units(deposit), Amount::ZERO);
    ChannelView { payer, payee, signer: payer, deposit, settled, closing: false }
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
    /// Channels of another life have other ids.
    life: u8,
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
                Output::Send { to, message: WorkMsg::Slice(slice) } => {
                    let is_rising = slice.specs.windows(2).all(|pair| pair[0].index < pair[1].index);
                    assert!(is_rising, "a slice asks for a task twice: {:?}", slice.specs);
                    self.slices.push((to, *slice));
                }
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
            1 if b.is_multiple_of(3) => {
                let whose = if lie { 2 + (who + 1) % 3 } else { who };
                Input::Message { from, message: WorkMsg::Offer(Box::new(offer(whose, a))) }
            }
            1 => Input::Offers(vec![offer(who, a)]),
            2 => Input::Connected(from),
            3 if lie => Input::Disconnected(from),
            3 | 4 => {
                let (provider, id, deposit) = take(&mut self.fund, a)?;
                match id.unwrap_or(ChannelId([provider.0[0] + 16 * self.life; 32])) {
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
                let price_per_gfuel = units(if lie { 1 } else { 1_000_000 });
                let agreement = Agreement { price_per_gfuel, created_ms: a, ..agreement(&them, channel) };
                Input::Message { from, message: WorkMsg::Open(agreement.sign(&them.key, &them.domain)) }
            }
            14 => Input::ChannelSeen {
                channel,
                view: (!lie).then(|| ChannelView { closing: b.is_multiple_of(11), ..view(&them, b % 100_000) }),
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

/// Lets all this happen to a node, from its start; its records.
fn live(node: &mut Node, world: &mut World, work: Option<Submission>, deeds: &[Deed]) -> Vec<Record> {
    let mut inputs =
        vec![Input::Share(Some(terms())), Input::Offers((2..5).map(|n| offer(n, 1 + u64::from(world.life))).collect())];
    inputs.extend(work.map(|work| Input::Submit(Box::new(work))));
    inputs.extend([2, 3].map(|n| Input::Connected(NodeId([n; 32]))));
    let (mut journal, mut now_ms) = (Vec::new(), NOW_MS + LIFE_MS * u64::from(world.life));
    for deed in deeds {
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
    journal
}

/// Vouchers among these records that pay no more than what was promised before.
fn worthless(records: &[Record], promised: &BTreeMap<ChannelId, Amount>) -> usize {
    let is_worthless = |record: &&Record| match record {
        Record::Paid { voucher, .. } => {
            promised.get(&voucher.paper.channel).is_some_and(|had| voucher.paper.cumulative <= *had)
        }
        _ => false,
    };
    records.iter().filter(is_worthless).count()
}

/// Lives that are lost, and what an archive of some moment of each is gone on with.
const PASTS: usize = 500;
/// Longer than any of them, and short enough that offers still stand in the next.
const LIFE_MS: u64 = 300_000;

#[test]
fn nothing_is_signed_on_a_past_that_came_back() {
    let mut chance = proptest::test_runner::TestRunner::deterministic();
    let (mut hurt, mut paid, mut lost) = (0, 0, 0);
    for past in 0..PASTS {
        let mut draw = || deeds().new_tree(&mut chance).expect("no filter").current();
        let (first, second) = ([draw(), draw()].concat(), [draw(), draw()].concat());
        let mut world = World::default();
        let whole = live(&mut Node::new(identity(1), Settings::default()), &mut world, Some(submission()), &first);
        let known: BTreeSet<ChannelId> = (2..5).map(|n| ChannelId([n; 32])).collect();
        let archived = &whole[..whole.len() * (past % 8) / 8];
        let again = |record: Option<Record>, work: Option<Submission>| {
            let records = archived.iter().cloned().chain(record);
            let mut node = Node::restore(identity(1), Settings::default(), records);
            live(&mut node, &mut World { life: 1, ..World::default() }, work, &second)
        };
        let other = Submission { job: job_of(1, BUDGET / 2), ..submission() };
        let after = again(Some(Record::Restored { at_ms: NOW_MS + LIFE_MS }), Some(other));
        let vouchers = after.iter().filter_map(|record| match record {
            Record::Paid { voucher, .. } => Some(voucher.paper.channel),
            _ => None,
        });
        let vouchers: Vec<ChannelId> = vouchers.collect();
        assert!(vouchers.iter().all(|channel| !known.contains(channel)), "past {past}: the past was signed on");
        paid += vouchers.len();
        lost += usize::from(!world.promised.is_empty());
        hurt += usize::from(worthless(&again(None, None), &world.promised) > 0);
    }
    assert!(hurt > 0 && paid > 0, "nothing was at stake: {hurt} hurt, {paid} vouchers");
    println!(
        r#"BAR {{"bar":"pasts","what":"archives of some moment of a requester's life among hostile peers, gone on with: vouchers signed on channels of that life","runs":{PASTS},"control":"without the record of the restore {hurt} of them sign vouchers that pay nothing","note":"{lost} of the lives had paid somebody; {paid} vouchers on new channels"}}"#
    );
}

/// A requester that has lost its books cannot judge what it asked for. Its provider gives up the slice that it had delivered, and
/// only then works for it again.
#[test]
fn who_has_lost_its_books_is_worked_for_again_after_one_slice() {
    let (from, them) = (NodeId([2; 32]), identity(2));
    let mut node = Node::new(identity(1), Settings::default());
    let mut tell = |input: Input| node.step(NOW_MS, input);
    let message = |message: WorkMsg| Input::Message { from, message };
    let open = |n: u8| message(WorkMsg::Open(agreement(&them, ChannelId([n; 32])).sign(&them.key, &them.domain)));
    let seen = |n: u8| Input::ChannelSeen { channel: ChannelId([n; 32]), view: Some(view(&them, 100_000)) };
    let slice = |slice: u64| {
        let (channel, price_max, specs, holders) =
            (ChannelId([7; 32]), units(10_000), vec![spec(slice as u32)], vec![]);
        message(WorkMsg::Slice(Box::new(SliceMsg { channel, slice, job: job_of(2, 10), price_max, specs, holders })))
    };
    tell(Input::Share(Some(terms())));
    tell(Input::Connected(from));
    tell(open(7));
    tell(seen(7));
    for number in 0..2 {
        let ran = tell(slice(number)).into_iter().find_map(|output| match output {
            Output::Run(order) => Some(order.run),
            _ => None,
        });
        tell(Input::Ran { run: ran.expect("it is begun"), results: vec![Ok(answer(number as u32, 0))] });
    }
    let shown = |outputs: &[Output]| {
        let is_done = |output: &&Output| matches!(output, Output::Send { message: WorkMsg::Done(_), .. });
        outputs.iter().filter(is_done).count()
    };
    let is_busy = |outputs: &[Output]| {
        let busy = |output: &Output| {
            matches!(output, Output::Send { message: WorkMsg::Refused { refusal: Refusal::Busy, .. }, .. })
        };
        outputs.iter().any(busy)
    };
    let first = tell(open(8));
    assert!(is_busy(&first) && shown(&first) == 1, "what it owes for is shown: {first:?}");
    assert!(is_busy(&tell(open(8))), "as long as it owes, it is refused");
    let drop = || message(WorkMsg::Drop { channel: ChannelId([7; 32]), slice: 0 });
    assert_eq!(shown(&tell(drop())), 1, "delivered work is paid: once more");
    let given_up = tell(drop());
    assert!(given_up.iter().any(|output| matches!(output, Output::Record(Record::WrittenOff { slice: 0, .. }))));
    assert_eq!(shown(&given_up), 0, "what was held back behind it is not wanted any more, nor delivered: {given_up:?}");
    assert!(!is_busy(&tell(open(8))));
    let agreed = tell(seen(8));
    assert!(agreed.iter().any(|output| matches!(output, Output::Send { message: WorkMsg::Agreed(_), .. })));
}

/// One machine answers, another finds every price cap too low. The other's copies of the first one's tasks are checks that hold up
/// its pay: it is asked for each of them once.
#[test]
fn who_came_back_without_an_answer_is_not_asked_for_that_check_again() {
    let (honest, haggler) = (NodeId([2; 32]), NodeId([3; 32]));
    let mut node = Node::new(identity(1), Settings::default());
    let mut world = World::default();
    let mut inbox = vec![
        Input::Offers(vec![offer(2, 1), offer(3, 1)]),
        Input::Submit(Box::new(submission())),
        Input::Connected(honest),
        Input::Connected(haggler),
    ];
    let is_honest = |kind| Deed { kind, who: 2, a: 0, b: 1, lie: false };
    let (mut answered, mut asked) = (BTreeSet::new(), BTreeMap::<u32, u32>::new());
    for now_ms in (NOW_MS..).step_by(500).take(200) {
        inbox.push(Input::Tick);
        inbox.drain(..).for_each(|input| world.see(node.step(now_ms, input)));
        for kind in [3, 5] {
            inbox.extend(std::iter::from_fn(|| world.input(&is_honest(kind))));
        }
        for (to, slice) in std::mem::take(&mut world.slices) {
            let indexes = slice.specs.iter().map(|spec| spec.index);
            let message = if to == honest {
                answered.extend(indexes);
                WorkMsg::Done(Box::new(world.done(to, &slice, &is_honest(7))))
            } else {
                indexes
                    .filter(|index| answered.contains(index))
                    .for_each(|index| *asked.entry(index).or_default() += 1);
                let (channel, slice, refusal) = (slice.channel, Some(slice.slice), Refusal::PriceCapTooLow);
                WorkMsg::Refused { channel, slice, refusal }
            };
            inbox.push(Input::Message { from: to, message });
        }
    }
    assert!(!asked.is_empty(), "the haggler was asked for no check");
    assert!(asked.values().all(|times| *times == 1), "{asked:?}");
}

/// A promise above the deposit is looked up once after it came, and then dropped: whoever bluffs must not keep us asking the ledger. One
/// that was topped up in the meantime is taken, also when the ledger was being asked already.
#[test]
fn a_bluff_is_looked_up_once() {
    let mut node = Node::new(identity(1), Settings::default());
    let them = identity(2);
    let from = them.node;
    let mut tell = |input: Input| node.step(NOW_MS, input);
    let channel = ChannelId([7; 32]);
    let open = || {
        let agreement = agreement(&them, channel).sign(&them.key, &them.domain);
        Input::Message { from, message: WorkMsg::Open(agreement) }
    };
    let pay = |n: u64| {
        let voucher = Voucher { channel, cumulative: units(n) }.sign(&them.key, &them.domain);
        Input::Message { from, message: WorkMsg::Pay(voucher) }
    };
    let seen = |deposit: u64| Input::ChannelSeen { channel, view: Some(view(&them, deposit)) };
    let asks = |outputs: &[Output]| outputs.iter().any(|output| matches!(output, Output::LookUpChannel(_)));
    let earns = |outputs: &[Output]| outputs.iter().any(|output| matches!(output, Output::Record(Record::Earned(_))));
    tell(Input::Share(Some(terms())));
    tell(Input::Connected(from));
    tell(open());
    tell(seen(100));
    assert!(asks(&tell(pay(1_000))), "perhaps it was topped up");
    let answered = tell(seen(100));
    assert!(!asks(&answered) && !earns(&answered), "a bluff: {answered:?}");
    assert!(asks(&tell(open())), "a question of before the voucher");
    assert!(!asks(&tell(pay(200))));
    assert!(asks(&tell(seen(100))), "the answer may be older than the top-up");
    assert!(earns(&tell(seen(300))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_peer_breaks_a_node(deeds in deeds()) {
        let mut node = Node::new(identity(1), Settings::default());
        let mut world = World::default();
        let journal = live(&mut node, &mut world, Some(submission()), &deeds);
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
