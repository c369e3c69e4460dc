//! The Channels contract against a small model of it, and the papers it reads against the ones we sign.

#![allow(clippy::unwrap_used, reason = "a test helper that fails, fails the test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall;
use common::*;
use glean_ledger::channels::{self, Channel, Open};
use glean_ledger::{contracts, dollar};
use glean_types::{Amount, ChannelId, Domain, NodeId, Paper, Signed, Voucher};
use proptest::prelude::*;

const GRACE_S: u64 = 3_600;

fn world() -> World {
    let mut world = World::new();
    for who in PEOPLE {
        assert!(world.send(who, world.at.dollar, dollar::approve(world.at.channels, Amount::MAX)));
    }
    world
}

fn opening(world: &World, payee: u8, signer: u8, deposit: Amount, salt: u8) -> Open {
    Open {
        payee: address(payee),
        node: NodeId([payee; 32]),
        token: world.at.dollar,
        deposit,
        signer: address(signer),
        salt: B256::with_last_byte(salt),
    }
}

fn voucher(channel: ChannelId, cumulative: Amount, signer: u8, domain: &Domain) -> Signed<Voucher> {
    Voucher { channel, cumulative }.sign(&key(signer), domain)
}

fn get(world: &World, id: ChannelId) -> Option<Channel> {
    channels::decode(&world.ask(world.at.channels, channels::get(id))).unwrap()
}

#[test]
fn rust_and_solidity_mean_the_same() {
    let world = World::new();
    let open = opening(&world, 4, 5, Amount::whole(7), 1);
    let id = channels::id(&world.domain(), address(3), &open);
    let sol = contracts::Channels::Opening {
        payee: open.payee,
        node: open.node.into(),
        token: open.token,
        deposit: alloy_primitives::aliases::U96::from(open.deposit.units()),
        signer: open.signer,
        salt: open.salt,
    };
    let asked =
        world.ask(world.at.channels, contracts::Channels::idOfCall { payer: address(3), o: sol }.abi_encode().into());
    assert_eq!(asked[..], id.0[..]);
    let voucher = Voucher { channel: id, cumulative: Amount::whole(3) };
    let cumulative = alloy_primitives::aliases::U96::from(voucher.cumulative.units());
    let digest = contracts::Channels::voucherDigestCall { channel: id.into(), cumulative }.abi_encode();
    assert_eq!(world.ask(world.at.channels, digest.into())[..], voucher.digest(&world.domain())[..]);
}

#[test]
fn a_channels_life() {
    let mut world = world();
    let (at, domain) = (world.at, world.domain());
    let open = opening(&world, 4, 3, Amount::whole(10), 0);
    let id = channels::id(&domain, address(3), &open);
    assert_eq!(get(&world, id), None);
    assert!(world.send(3, at.channels, channels::open(&open)));
    let fresh = Channel {
        payer: address(3),
        payee: address(4),
        signer: address(3),
        deposit: Amount::whole(10),
        settled: Amount::ZERO,
        closing: false,
        close_at_s: 0,
        token: at.dollar,
        fee_bps: 500,
    };
    assert_eq!(get(&world, id), Some(fresh));
    // Anybody may cash; the payee is paid 95 %, the treasury 5 %.
    assert!(world.send(6, at.channels, channels::settle(&[voucher(id, Amount::whole(4), 3, &domain)])));
    assert_eq!(world.dollars(address(4)), "53.8".parse::<Amount>().unwrap().units());
    assert_eq!(world.dollars(address(TREASURY)), "0.2".parse::<Amount>().unwrap().units());
    // A voucher above the deposit pays the deposit, and the rest after a top-up.
    let large = voucher(id, Amount::whole(12), 3, &domain);
    assert!(world.send(4, at.channels, channels::settle(&[large])));
    assert_eq!(get(&world, id).unwrap().settled, Amount::whole(10));
    assert!(world.send(3, at.channels, channels::top_up(id, Amount::whole(5))));
    assert!(world.send(4, at.channels, channels::settle(&[large])));
    assert_eq!(get(&world, id).unwrap().settled, Amount::whole(12));
    // The payer waits out the grace; then anybody may close, and the id is dead for ever.
    assert!(world.send(3, at.channels, channels::request_close(id)));
    assert_eq!(get(&world, id).unwrap().close_at_s, world.now + GRACE_S);
    assert!(!world.send(3, at.channels, channels::close(id)));
    world.now += GRACE_S;
    assert!(world.send(6, at.channels, channels::close(id)));
    assert_eq!((get(&world, id), world.dollars(address(3))), (None, Amount::whole(38).units()));
    assert!(!world.send(3, at.channels, channels::open(&open)));
    assert!(!world.send(3, at.channels, channels::top_up(id, Amount::whole(1))));
    // Stale, so skipped: nothing moves.
    assert!(world.send(4, at.channels, channels::settle(&[voucher(id, Amount::whole(15), 3, &domain)])));
    assert_eq!(world.dollars(at.channels), 0);
}

#[test]
fn any_token_will_do() {
    let mut world = world();
    let (at, domain) = (world.at, world.domain());
    let wrap = world.tx(3, 0, at.gln, U256::from(GLN), Default::default());
    world.push(&[wrap]);
    assert!(world.send(3, at.gln, dollar::approve(at.channels, Amount::MAX)));
    let open = Open { token: at.gln, ..opening(&world, 4, 3, Amount::whole(1), 0) };
    let id = channels::id(&domain, address(3), &open);
    assert!(world.send(3, at.channels, channels::open(&open)));
    let other = Open { salt: B256::with_last_byte(9), ..open };
    assert!(!world.send(3, at.channels, channels::open(&other)), "the wrapped GLN is all in the first channel");
    assert!(world.send(4, at.channels, channels::settle(&[voucher(id, Amount::whole(1), 3, &domain)])));
    let held = world.ask(at.gln, dollar::balance_of(address(4)));
    assert_eq!(U256::from_be_slice(&held), U256::from(GLN / 20 * 19));
    // A token that is no contract moves nothing, so no channel comes to be.
    let void = Open { token: Address::repeat_byte(0xaa), ..open };
    assert!(!world.send(3, at.channels, channels::open(&void)));
}

/// Fifty claims of one payee cost what the research promised, or less.
#[test]
fn a_batch_is_cheap() {
    let mut world = world();
    let (at, domain) = (world.at, world.domain());
    let opens: Vec<_> = (0..50).map(|salt| opening(&world, 4, 3, Amount::whole(1), salt)).collect();
    assert_eq!(opens.len(), 50);
    for part in opens.chunks(10) {
        assert!(world.send(3, at.channels, channels::open_many(part)));
    }
    let cash = |units| -> Vec<_> {
        let amount = Amount::from_units(units).unwrap();
        opens.iter().map(|open| voucher(channels::id(&domain, address(3), open), amount, 3, &domain)).collect()
    };
    assert!(world.send(4, at.channels, channels::settle(&cash(1_000))));
    let tx = world.tx(4, 0, at.channels, U256::ZERO, channels::settle(&cash(2_000)));
    let (block, ..) = world.push(&[tx]);
    let gas_each = block.header.gas_used / 50;
    assert!(gas_each < 25_600, "{gas_each} gas for each of 50 claims");
}

/// What the contract should do, in as few words as possible.
#[derive(Default)]
struct Model {
    open: BTreeMap<ChannelId, Channel>,
    graves: BTreeSet<ChannelId>,
    dollars: BTreeMap<Address, u128>,
    fee_bps: u16,
}

impl Model {
    fn new() -> Model {
        let dollars = PEOPLE.iter().map(|who| (address(*who), Amount::whole(50).units())).collect();
        Model { dollars, fee_bps: 500, ..Model::default() }
    }

    fn take(&mut self, from: Address, amount: Amount) -> bool {
        let held = self.dollars.entry(from).or_default();
        let enough = *held >= amount.units();
        *held -= if enough { amount.units() } else { 0 };
        enough
    }

    fn give(&mut self, to: Address, amount: u128) {
        *self.dollars.entry(to).or_default() += amount;
    }

    fn open(&mut self, id: ChannelId, payer: Address, o: &Open) -> bool {
        if self.open.contains_key(&id) || self.graves.contains(&id) || !self.take(payer, o.deposit) {
            return false;
        }
        let channel = Channel {
            payer,
            payee: o.payee,
            signer: o.signer,
            deposit: o.deposit,
            settled: Amount::ZERO,
            closing: false,
            close_at_s: 0,
            token: o.token,
            fee_bps: self.fee_bps,
        };
        self.open.insert(id, channel);
        true
    }

    fn top_up(&mut self, id: ChannelId, from: Address, amount: Amount) -> bool {
        let live = self.open.get(&id).is_some_and(|c| !c.closing);
        if !live || !self.take(from, amount) {
            return false;
        }
        let channel = self.open.get_mut(&id).unwrap();
        channel.deposit = channel.deposit.checked_add(amount).unwrap();
        true
    }

    /// All claims or, when one that is not stale has a wrong signature, none.
    fn settle(&mut self, claims: &[Signed<Voucher>], domain: &Domain) -> bool {
        let mut open = self.open.clone();
        let mut payouts = Vec::new();
        for claim in claims {
            let Some(channel) = open.get_mut(&claim.paper.channel) else { continue };
            let due = claim.paper.cumulative.min(channel.deposit);
            if due <= channel.settled {
                continue;
            }
            if claim.signer(domain) != Ok(channel.signer) {
                return false;
            }
            let value = due.units() - channel.settled.units();
            let fee = value * u128::from(channel.fee_bps) / 10_000;
            payouts.extend([(channel.payee, value - fee), (address(TREASURY), fee)]);
            channel.settled = due;
        }
        self.open = open;
        payouts.into_iter().for_each(|(to, amount)| self.give(to, amount));
        true
    }

    fn request_close(&mut self, id: ChannelId, who: Address, now_s: u64) -> bool {
        match self.open.get_mut(&id) {
            Some(c) if c.payer == who && !c.closing => {
                (c.closing, c.close_at_s) = (true, now_s + GRACE_S);
                true
            }
            _ => false,
        }
    }

    fn close(&mut self, id: ChannelId, who: Address, now_s: u64) -> bool {
        let Some(c) = self.open.get(&id).copied() else { return false };
        let may = c.payee == who || (c.closing && now_s >= c.close_at_s);
        if may {
            self.open.remove(&id);
            self.graves.insert(id);
            self.give(c.payer, c.deposit.units() - c.settled.units());
        }
        may
    }
}

/// `pick`s choose among the ids that were ever tried, and one that never was.
#[derive(Debug, Clone)]
enum Step {
    Open {
        who: u8,
        payee: u8,
        signer: u8,
        deposit: Amount,
        salt: u8,
    },
    /// The very same opening as before, by the same payer.
    Again {
        pick: usize,
    },
    TopUp {
        who: u8,
        pick: usize,
        amount: Amount,
    },
    Settle {
        who: u8,
        claims: Vec<Claim>,
    },
    RequestClose {
        who: u8,
        pick: usize,
    },
    Close {
        who: u8,
        pick: usize,
    },
    Pass {
        seconds: u64,
    },
    /// To the second in which anyone may close, less this many.
    Await {
        pick: usize,
        early_s: u64,
    },
    SetFee {
        who: u8,
        bps: u16,
    },
}

#[derive(Debug, Clone)]
struct Claim {
    pick: usize,
    cumulative: Amount,
    /// `None`: by the channel's signer.
    forger: Option<u8>,
    place: Place,
}

/// Where the voucher was signed for.
#[derive(Debug, Clone, Copy)]
enum Place {
    Here,
    OtherChain,
    OtherContract,
    OtherChannel,
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        Just(Amount::ZERO),
        (0u64..80).prop_map(Amount::whole),
        (0u128..1_000).prop_map(|n| Amount::from_units(n).unwrap())
    ]
}

fn who() -> impl Strategy<Value = u8> {
    prop::sample::select(PEOPLE.to_vec())
}

fn claim() -> impl Strategy<Value = Claim> {
    let place = prop_oneof![
        12 => Just(Place::Here), 1 => Just(Place::OtherChain), 1 => Just(Place::OtherContract), 1 => Just(Place::OtherChannel)
    ];
    let forger = prop_oneof![12 => Just(None), 1 => who().prop_map(Some)];
    (0usize..8, amount(), forger, place).prop_map(|(pick, cumulative, forger, place)| Claim {
        pick,
        cumulative,
        forger,
        place,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (who(), who(), who(), amount(), 0u8..2)
            .prop_map(|(who, payee, signer, deposit, salt)| Step::Open { who, payee, signer, deposit, salt }),
        2 => (who(), 0usize..8, amount()).prop_map(|(who, pick, amount)| Step::TopUp { who, pick, amount }),
        6 => (who(), prop::collection::vec(claim(), 0..5)).prop_map(|(who, claims)| Step::Settle { who, claims }),
        2 => (who(), 0usize..8).prop_map(|(who, pick)| Step::RequestClose { who, pick }),
        3 => (who(), 0usize..8).prop_map(|(who, pick)| Step::Close { who, pick }),
        2 => (0usize..8).prop_map(|pick| Step::Again { pick }),
        2 => (0usize..8, 0u64..2).prop_map(|(pick, early_s)| Step::Await { pick, early_s }),
        2 => prop::sample::select(vec![1, GRACE_S - 1, GRACE_S]).prop_map(|seconds| Step::Pass { seconds }),
        1 => (prop::sample::select(vec![OWNER, 3]), 0u16..1_200).prop_map(|(who, bps)| Step::SetFee { who, bps }),
    ]
}

struct Pair {
    world: World,
    model: Model,
    ids: Vec<ChannelId>,
    /// What each of them was opened with, and by whom.
    openings: Vec<(u8, Open)>,
}

impl Pair {
    fn id(&self, pick: usize) -> ChannelId {
        let never = ChannelId([0xee; 32]);
        self.ids.get(pick % (self.ids.len() + 1)).copied().unwrap_or(never)
    }

    fn signed(&self, claim: &Claim) -> Signed<Voucher> {
        let id = self.id(claim.pick);
        let domain = self.world.domain();
        let (signed_id, domain) = match claim.place {
            Place::Here => (id, domain),
            Place::OtherChain => (id, Domain { chain_id: 1, ..domain }),
            Place::OtherContract => (id, Domain { channels: self.world.at.dollar, ..domain }),
            Place::OtherChannel => (ChannelId([0xdd; 32]), domain),
        };
        let rightful = self.model.open.get(&id).map_or(Address::ZERO, |c| c.signer);
        let rightful = PEOPLE.into_iter().find(|who| address(*who) == rightful).unwrap_or(3);
        let signature = voucher(signed_id, claim.cumulative, claim.forger.unwrap_or(rightful), &domain).signature;
        Signed { paper: Voucher { channel: id, cumulative: claim.cumulative }, signature }
    }

    fn open(&mut self, who: u8, open: Open) -> (bool, bool) {
        let id = channels::id(&self.world.domain(), address(who), &open);
        self.ids.push(id);
        self.openings.push((who, open));
        let sent = self.world.send(who, self.world.at.channels, channels::open(&open));
        (sent, self.model.open(id, address(who), &open))
    }

    /// Does the same to both; whether each succeeded.
    fn step(&mut self, step: &Step) -> (bool, bool) {
        let (at, now) = (self.world.at.channels, self.world.now);
        match step {
            Step::Open { who, payee, signer, deposit, salt } => {
                let open = opening(&self.world, *payee, *signer, *deposit, *salt);
                self.open(*who, open)
            }
            Step::Again { pick } => match self.openings.get(pick % self.openings.len().max(1)) {
                Some((who, open)) => self.open(*who, *open),
                None => (true, true),
            },
            Step::TopUp { who, pick, amount } => {
                let id = self.id(*pick);
                let sent = self.world.send(*who, at, channels::top_up(id, *amount));
                (sent, self.model.top_up(id, address(*who), *amount))
            }
            Step::Settle { who, claims } => {
                let claims: Vec<_> = claims.iter().map(|claim| self.signed(claim)).collect();
                let sent = self.world.send(*who, at, channels::settle(&claims));
                (sent, self.model.settle(&claims, &self.world.domain()))
            }
            Step::RequestClose { who, pick } => {
                let id = self.id(*pick);
                let sent = self.world.send(*who, at, channels::request_close(id));
                (sent, self.model.request_close(id, address(*who), now))
            }
            Step::Close { who, pick } => {
                let id = self.id(*pick);
                (self.world.send(*who, at, channels::close(id)), self.model.close(id, address(*who), now))
            }
            Step::Pass { seconds } => {
                self.world.now += seconds;
                (true, true)
            }
            Step::Await { pick, early_s } => {
                let close_at_s = self.model.open.get(&self.id(*pick)).map_or(0, |c| c.close_at_s);
                self.world.now = now.max(close_at_s.saturating_sub(*early_s));
                (true, true)
            }
            Step::SetFee { who, bps } => {
                let call = contracts::Channels::setFeeCall { feeBps_: *bps, recipient: address(TREASURY) };
                let allowed = *who == OWNER && *bps <= 1_000;
                self.model.fee_bps = if allowed { *bps } else { self.model.fee_bps };
                (self.world.send(*who, at, call.abi_encode().into()), allowed)
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for id in &self.ids {
            prop_assert_eq!(get(&self.world, *id), self.model.open.get(id).copied());
        }
        let owed: u128 = self.model.open.values().map(|c| c.deposit.units() - c.settled.units()).sum();
        prop_assert_eq!(self.world.dollars(self.world.at.channels), owed);
        let mut held = owed;
        for who in PEOPLE.into_iter().chain([TREASURY]) {
            let model = self.model.dollars.get(&address(who)).copied().unwrap_or_default();
            prop_assert_eq!(self.world.dollars(address(who)), model);
            held += model;
        }
        prop_assert_eq!(held, Amount::whole(200).units());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The contract does what the model does, step by step, and value is conserved at every one.
    #[test]
    fn the_contract_is_its_model(steps in prop::collection::vec(step(), 1..40)) {
        let mut pair = Pair { world: world(), model: Model::new(), ids: Vec::new(), openings: Vec::new() };
        for step in steps {
            let (sent, allowed) = pair.step(&step);
            prop_assert_eq!(sent, allowed, "{:?}", step);
            pair.check()?;
        }
    }
}
