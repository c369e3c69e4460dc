//! Checks a job's papers again from nothing but themselves: what `glean receipt --verify` trusts is
//! arithmetic and signatures, not the node that wrote the file.
//!
//! A [`ReceiptBundle`] holds, if all is well: the job as its requester signed it; per channel an agreement
//! signed by the provider; per slice a receipt signed by that provider, the leaves of its results, and the
//! running total that paid it. What is recomputed is listed by [`Fault`], one variant per way to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use glean_node::api::types::{ReceiptBundle, SliceProof};
use glean_types::{Address, Agreement, Amount, B256, ChannelId, Hash, Paper, Receipt, Signed, encode, merkle, params};
use serde::Serialize;

/// What is wrong with a paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The signature is not the one of whoever the paper names.
    Signature,
    /// The manifest is not the one the job names.
    Manifest,
    /// The agreement is for another requester or node.
    Requester,
    /// The receipt's channel has no agreement, or another provider's.
    Agreement,
    /// The receipt is for another job.
    Job,
    /// The leaves do not make the signed root, or are not as many as the receipt says.
    Root,
    /// A task that the job does not have, or the same task twice in a slice.
    Task,
    /// The billed fuel is outside what so many tasks can use.
    Fuel,
    /// The price is not the agreement's price of the fuel.
    Price,
    /// Times that cannot be.
    Time,
    /// The same slice number twice in a channel.
    Slice,
    /// The running totals of the channel do not grow by the prices.
    Voucher,
    /// More was paid than the job's cap.
    Budget,
    /// A verdict that does not fit the receipt it judges.
    Verdict,
    /// A receipt that was found wrong was paid.
    PaidLiar,
}

impl Fault {
    /// Its sentence in the message files.
    pub fn key(self) -> &'static str {
        match self {
            Fault::Signature => "fault-signature",
            Fault::Manifest => "fault-manifest",
            Fault::Requester => "fault-requester",
            Fault::Agreement => "fault-agreement",
            Fault::Job => "fault-job",
            Fault::Root => "fault-root",
            Fault::Task => "fault-task",
            Fault::Fuel => "fault-fuel",
            Fault::Price => "fault-price",
            Fault::Time => "fault-time",
            Fault::Slice => "fault-slice",
            Fault::Voucher => "fault-voucher",
            Fault::Budget => "fault-budget",
            Fault::Verdict => "fault-verdict",
            Fault::PaidLiar => "fault-paid-liar",
        }
    }
}

/// One paper that fails, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// `receipt 0x12..:3`: the channel and the slice; or `job`, `agreement 0x12..`, `verdict 0x12..`.
    pub paper: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What one provider was paid under these receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderTotal {
    /// Its account.
    pub provider: Address,
    /// Its receipts that were paid.
    pub receipts: u32,
    /// The tasks in them.
    pub tasks: u32,
    /// Their prices.
    pub paid: Amount,
}

/// The outcome of checking a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Nothing is wrong.
    pub ok: bool,
    /// Receipts checked.
    pub receipts: u32,
    /// Tasks in them, checks included.
    pub tasks: u32,
    /// Fuel in them.
    pub fuel: u64,
    /// Prices of the paid ones.
    pub paid: Amount,
    /// The job's cap.
    pub budget: Amount,
    /// Paid, by provider.
    pub providers: Vec<ProviderTotal>,
    /// Machines found wrong.
    pub verdicts: u32,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

/// Checks everything that can be checked.
pub fn verify(bundle: &ReceiptBundle) -> VerifyReport {
    let mut check = Check { bundle, findings: BTreeSet::new(), agreements: BTreeMap::new() };
    check.job();
    check.agreements();
    bundle.slices.iter().for_each(|slice| check.slice(slice));
    check.totals();
    check.verdicts();
    let paid: Vec<&SliceProof> = bundle.slices.iter().filter(|slice| slice.paid.is_some()).collect();
    let sum = |count: fn(&Receipt) -> u64| {
        bundle.slices.iter().map(|slice| count(&slice.receipt.paper)).fold(0u64, u64::saturating_add)
    };
    VerifyReport {
        ok: check.findings.is_empty(),
        receipts: bundle.slices.len() as u32,
        tasks: u32::try_from(sum(|receipt| receipt.tasks.into())).unwrap_or(u32::MAX),
        fuel: sum(|receipt| receipt.fuel),
        paid: paid.iter().map(|slice| slice.receipt.paper.price).sum(),
        budget: bundle.job.paper.budget,
        providers: providers(&paid),
        verdicts: bundle.verdicts.len() as u32,
        findings: check.findings.into_iter().collect(),
    }
}

fn providers(paid: &[&SliceProof]) -> Vec<ProviderTotal> {
    let mut totals: BTreeMap<Address, ProviderTotal> = BTreeMap::new();
    for receipt in paid.iter().map(|slice| &slice.receipt.paper) {
        let provider = receipt.provider;
        let empty = ProviderTotal { provider, receipts: 0, tasks: 0, paid: Amount::ZERO };
        let total = totals.entry(provider).or_insert(empty);
        total.receipts += 1;
        total.tasks = total.tasks.saturating_add(receipt.tasks);
        total.paid = total.paid.saturating_add(receipt.price);
    }
    totals.into_values().collect()
}

struct Check<'a> {
    bundle: &'a ReceiptBundle,
    findings: BTreeSet<Finding>,
    agreements: BTreeMap<ChannelId, &'a Agreement>,
}

impl<'a> Check<'a> {
    /// Notes a fault of `paper` unless `holds`.
    fn must(&mut self, holds: bool, paper: &str, fault: Fault) {
        if !holds {
            self.findings.insert(Finding { paper: paper.to_owned(), fault });
        }
    }

    fn signed<P: Paper>(&mut self, paper: &Signed<P>, by: Address, name: &str) {
        let holds = paper.check(&self.bundle.domain, by).is_ok();
        self.must(holds, name, Fault::Signature);
    }

    fn job(&mut self) {
        let bundle = self.bundle;
        self.signed(&bundle.job, bundle.job.paper.requester, "job");
        self.must(Hash::of(&encode(&bundle.manifest)) == bundle.job.paper.manifest, "job", Fault::Manifest);
    }

    fn agreements(&mut self) {
        let (bundle, job) = (self.bundle, &self.bundle.job.paper);
        for signed in &bundle.agreements {
            let agreement = &signed.paper;
            let name = format!("agreement {}", agreement.channel.short());
            self.signed(signed, agreement.provider, &name);
            let ours = agreement.requester == job.requester && agreement.requester_node == job.node;
            self.must(ours, &name, Fault::Requester);
            let again = self.agreements.insert(agreement.channel, agreement);
            self.must(again.is_none_or(|other| other == agreement), &name, Fault::Agreement);
        }
    }

    fn slice(&mut self, slice: &SliceProof) {
        let (job, receipt) = (&self.bundle.job.paper, &slice.receipt.paper);
        let name = &receipt_name(receipt);
        self.signed(&slice.receipt, receipt.provider, name);
        self.must(receipt.job == job.id(), name, Fault::Job);
        self.must(receipt.issued_ms >= job.created_ms && receipt.expiry_ms > receipt.issued_ms, name, Fault::Time);

        let leaves: Vec<B256> = slice.leaves.iter().map(|(_, leaf)| B256::from(leaf.0)).collect();
        let root = leaves.len() == receipt.tasks as usize && merkle::root(&leaves) == receipt.results_root;
        self.must(root, name, Fault::Root);
        let indices: BTreeSet<u32> = slice.leaves.iter().map(|(index, _)| *index).collect();
        let known = indices.len() == slice.leaves.len() && indices.iter().all(|index| *index < job.tasks);
        self.must(known, name, Fault::Task);

        let tasks = u64::from(receipt.tasks);
        let least = tasks.saturating_mul(params::FUEL_PER_TASK);
        let most = tasks.saturating_mul(job.fuel_max.saturating_add(params::FUEL_PER_TASK));
        self.must((least..=most).contains(&receipt.fuel), name, Fault::Fuel);

        let agreement = self.agreements.get(&receipt.channel).copied();
        let same = agreement.is_some_and(|a| a.provider == receipt.provider && a.provider_node == slice.provider);
        self.must(same, name, Fault::Agreement);
        let price = agreement.and_then(|a| a.price_per_gfuel.price_of(receipt.fuel));
        self.must(agreement.is_none() || price == Some(receipt.price), name, Fault::Price);
    }

    /// Running totals per channel, and the cap over all. A channel outlives a job, so between two slices of
    /// this one others may have been paid: then the total may have grown by more, never by less.
    fn totals(&mut self) {
        let bundle = self.bundle;
        let mut channels: BTreeMap<(ChannelId, u64), &SliceProof> = BTreeMap::new();
        for slice in &bundle.slices {
            let receipt = &slice.receipt.paper;
            let again = channels.insert((receipt.channel, receipt.slice), slice);
            self.must(again.is_none(), &receipt_name(receipt), Fault::Slice);
        }
        let mut last: Option<(ChannelId, u64, Amount)> = None;
        for ((channel, number), slice) in channels {
            let Some(total) = slice.paid else { continue };
            let (before, is_next) = match last {
                Some((same, slice, total)) if same == channel => (total, slice + 1 == number),
                _ => (Amount::ZERO, number == 0),
            };
            let price = slice.receipt.paper.price;
            let holds = total.checked_sub(before).is_some_and(|grown| grown == price || (!is_next && grown > price));
            self.must(holds, &receipt_name(&slice.receipt.paper), Fault::Voucher);
            last = Some((channel, number, total));
        }
        let paid = bundle.slices.iter().filter(|slice| slice.paid.is_some());
        let paid: Amount = paid.map(|slice| slice.receipt.paper.price).sum();
        self.must(paid <= bundle.job.paper.budget, "job", Fault::Budget);
    }

    fn verdicts(&mut self) {
        let bundle = self.bundle;
        for (verdict, receipt) in &bundle.verdicts {
            let digest = receipt.paper.digest(&bundle.domain);
            let name = format!("verdict {}", &hex::encode(digest)[..8]);
            self.signed(verdict, bundle.job.paper.requester, &name);
            self.signed(receipt, receipt.paper.provider, &receipt_name(&receipt.paper));
            let judged = bundle.slices.iter().find(|slice| slice.receipt.paper == receipt.paper);
            let committed =
                judged.is_none_or(|slice| slice.leaves.contains(&(verdict.paper.index, Hash(verdict.paper.got.0))));
            let fits = verdict.paper.receipt == digest && verdict.paper.got != verdict.paper.expected && committed;
            self.must(fits, &name, Fault::Verdict);
            self.must(judged.is_none_or(|slice| slice.paid.is_none()), &name, Fault::PaidLiar);
        }
    }
}

/// How people and findings name a receipt.
pub fn receipt_name(receipt: &Receipt) -> String {
    format!("receipt {}:{}", receipt.channel.short(), receipt.slice)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use glean_types::{AccountKey, Class, Domain, Job, Manifest, NodeId, Verdict};

    const PRICE: Amount = Amount::whole(1);
    const REQUESTER_NODE: NodeId = NodeId([7; 32]);

    fn key(n: u8) -> AccountKey {
        AccountKey::from_bytes(&[n; 32]).unwrap()
    }

    fn domain() -> Domain {
        Domain { chain_id: 1337, channels: Address::repeat_byte(0xcc) }
    }

    fn leaf(index: u32) -> Hash {
        Hash::of(&index.to_be_bytes())
    }

    fn job(manifest: &Manifest) -> Job {
        Job {
            requester: key(1).address(),
            node: REQUESTER_NODE,
            program: Hash([3; 32]),
            manifest: Hash::of(&encode(manifest)),
            tasks: 8,
            budget: Amount::whole(5),
            fuel_max: 1_000_000_000,
            mem_max: 1 << 20,
            output_max: 1 << 20,
            timeout_ms: 1000,
            class: Class::Exact,
            seed: Hash([4; 32]),
            created_ms: 1_000,
        }
    }

    fn agreement(provider: u8) -> Agreement {
        Agreement {
            channel: ChannelId([provider; 32]),
            requester: key(1).address(),
            requester_node: REQUESTER_NODE,
            provider: key(provider).address(),
            provider_node: NodeId([provider; 32]),
            price_per_gfuel: PRICE,
            created_ms: 1_500,
        }
    }

    fn receipt(job: &Job, provider: u8, slice: u64, tasks: &[u32]) -> Receipt {
        let leaves: Vec<B256> = tasks.iter().map(|index| B256::from(leaf(*index).0)).collect();
        let fuel = 500_000_000 + tasks.len() as u64 * params::FUEL_PER_TASK;
        Receipt {
            channel: ChannelId([provider; 32]),
            job: job.id(),
            slice,
            tasks: tasks.len() as u32,
            results_root: merkle::root(&leaves),
            fuel,
            price: PRICE.price_of(fuel).unwrap(),
            provider: key(provider).address(),
            issued_ms: 2_000,
            expiry_ms: 3_000,
        }
    }

    fn proof(receipt: Receipt, provider: u8, tasks: &[u32], paid: Option<Amount>) -> SliceProof {
        SliceProof {
            receipt: receipt.sign(&key(provider), &domain()),
            provider: NodeId([provider; 32]),
            leaves: tasks.iter().map(|index| (*index, leaf(*index))).collect(),
            paid,
        }
    }

    /// Two honest slices of machine 2, one of liar 3 that was caught on task 5 and not paid.
    pub(crate) fn bundle() -> ReceiptBundle {
        let manifest =
            Manifest { name: "a".into(), args: vec![], env: vec![], files: vec![], tasks_root: Hash([5; 32]) };
        let job = job(&manifest);
        let (first, second) = (receipt(&job, 2, 0, &[0, 1, 2]), receipt(&job, 2, 1, &[3, 4]));
        let lie = receipt(&job, 3, 0, &[5, 6, 7]);
        let total = first.price.checked_add(second.price).unwrap();
        let verdict = Verdict {
            receipt: lie.digest(&domain()),
            index: 5,
            got: B256::from(leaf(5).0),
            expected: B256::repeat_byte(9),
            issued_ms: 2_500,
        };
        ReceiptBundle {
            domain: domain(),
            agreements: [2, 3].map(|n| agreement(n).sign(&key(n), &domain())).to_vec(),
            verdicts: vec![(verdict.sign(&key(1), &domain()), lie.clone().sign(&key(3), &domain()))],
            slices: vec![
                proof(first.clone(), 2, &[0, 1, 2], Some(first.price)),
                proof(second, 2, &[3, 4], Some(total)),
                proof(lie, 3, &[5, 6, 7], None),
            ],
            job: job.sign(&key(1), &domain()),
            manifest,
        }
    }

    /// Signs slice 0 again after a change, as a dishonest provider would.
    fn resign(bundle: &mut ReceiptBundle, change: impl FnOnce(&mut Receipt)) {
        let mut receipt = bundle.slices[0].receipt.paper.clone();
        change(&mut receipt);
        bundle.slices[0].receipt = receipt.sign(&key(2), &domain());
    }

    #[test]
    fn an_honest_bundle_verifies_and_adds_up() {
        let report = verify(&bundle());
        assert_eq!(report.findings, []);
        assert!(report.ok);
        assert_eq!((report.receipts, report.tasks, report.verdicts), (3, 8, 1));
        assert_eq!(report.providers.len(), 1);
        assert_eq!(report.providers[0].paid, report.paid);
        assert_eq!(report.providers[0].tasks, 5);
    }

    #[test]
    fn it_still_verifies_after_a_trip_through_the_disk() {
        let json = serde_json::to_string(&bundle()).unwrap();
        let again: ReceiptBundle = serde_json::from_str(&json).unwrap();
        assert_eq!(verify(&again), verify(&bundle()));
    }

    /// One tampering, its expected fault, and the start of the paper's name.
    type Control = (fn(&mut ReceiptBundle), Fault, &'static str);

    /// One tampering per line: each must be found, and be found as what it is.
    const CONTROLS: &[Control] = &[
        (|b| b.job.paper.budget = Amount::whole(6), Fault::Signature, "job"),
        (|b| b.domain.chain_id = 1, Fault::Signature, "job"),
        (|b| b.manifest.args.push("x".into()), Fault::Manifest, "job"),
        (|b| b.agreements[0].paper.price_per_gfuel = Amount::whole(2), Fault::Signature, "agreement"),
        (
            |b| {
                b.agreements[0] = {
                    let a = Agreement { requester: key(9).address(), ..agreement(2) };
                    a.sign(&key(2), &domain())
                }
            },
            Fault::Requester,
            "agreement",
        ),
        (|b| b.agreements.clear(), Fault::Agreement, "receipt"),
        (|b| b.slices[0].provider = NodeId([9; 32]), Fault::Agreement, "receipt"),
        (|b| b.slices[0].receipt.paper.price = Amount::ZERO, Fault::Signature, "receipt"),
        (|b| b.slices[0].receipt.paper.fuel += 1, Fault::Signature, "receipt"),
        (|b| b.slices[0].receipt.paper.issued_ms += 1, Fault::Signature, "receipt"),
        (|b| b.slices[0].leaves[0].1 = Hash([9; 32]), Fault::Root, "receipt"),
        (|b| b.slices[0].leaves.truncate(2), Fault::Root, "receipt"),
        (|b| b.slices[0].leaves[0].0 = 99, Fault::Task, "receipt"),
        (|b| b.slices[0].leaves[0].0 = 1, Fault::Task, "receipt"),
        (|b| resign(b, |r| r.job = glean_types::JobId([9; 32])), Fault::Job, "receipt"),
        (|b| resign(b, |r| r.issued_ms = 1), Fault::Time, "receipt"),
        (|b| resign(b, |r| r.fuel = 1), Fault::Fuel, "receipt"),
        (|b| resign(b, |r| r.fuel = u64::MAX), Fault::Fuel, "receipt"),
        (|b| resign(b, |r| r.price = Amount::whole(1)), Fault::Price, "receipt"),
        (|b| resign(b, |r| r.slice = 1), Fault::Slice, "receipt"),
        (|b| b.slices[0].paid = Some(Amount::ZERO), Fault::Voucher, "receipt"),
        (|b| b.slices[1].paid = b.slices[0].paid, Fault::Voucher, "receipt"),
        (|b| b.slices[1].paid = Some(Amount::whole(4)), Fault::Voucher, "receipt"),
        (|b| b.slices[2].paid = Some(b.slices[2].receipt.paper.price), Fault::PaidLiar, "verdict"),
        (|b| b.verdicts[0].0.paper.index = 6, Fault::Signature, "verdict"),
        (
            |b| {
                let mut v = b.verdicts[0].0.paper.clone();
                v.got = B256::ZERO;
                b.verdicts[0].0 = v.sign(&key(1), &domain())
            },
            Fault::Verdict,
            "verdict",
        ),
        (
            |b| {
                let mut v = b.verdicts[0].0.paper.clone();
                v.expected = v.got;
                b.verdicts[0].0 = v.sign(&key(1), &domain())
            },
            Fault::Verdict,
            "verdict",
        ),
        (|b| b.verdicts[0].1.paper.fuel += 1, Fault::Verdict, "verdict"),
        (
            |b| {
                b.job = {
                    let j = Job { budget: Amount::ZERO, ..b.job.paper.clone() };
                    j.sign(&key(1), &domain())
                }
            },
            Fault::Budget,
            "job",
        ),
    ];

    #[test]
    fn every_tampering_is_found_and_named() {
        for (n, (tamper, fault, paper)) in CONTROLS.iter().enumerate() {
            let mut bad = bundle();
            tamper(&mut bad);
            let report = verify(&bad);
            let found = report.findings.iter().any(|f| f.fault == *fault && f.paper.starts_with(paper));
            assert!(found && !report.ok, "control {n}: wanted {fault:?} of {paper}, got {:?}", report.findings);
        }
    }
}
