//! The world around the nodes: events in order of time, and who answers which output.
//!
//! Node 0 is the requester, the others are providers; all run the shipped [`Node::step`]. Everything that
//! happens (delivery, run time, crash) is an event in one queue, ordered by virtual time and then by number,
//! and every decision falls from one stream of chance: the same seed gives the same world, byte for byte.
//!
//! `build.rs`: how a world is made. `ask.rs`: what a story may ask of it afterwards.

mod ask;
mod build;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpu_time::ThreadTime;
use glean_protocol::{
    Event, Identity, Input, JobView, NoVerdict, Node, Output, Record, RunId, RunOrder, Settings, ShareTerms,
};
use glean_types::params::FUEL_PER_TASK;
use glean_types::{AccountKey, Amount, ChannelId, Hash, JobId, NodeId, TaskSpec, encode};

use crate::guest::Guest;
use crate::index::Index;
use crate::invariants::Invariants;
use crate::ledger::{Ledger, LedgerError, domain};
use crate::link::Link;
use crate::random::Random;
use crate::villains::Villain;

/// When the world begins, Unix milliseconds.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// A world that is not done by then has stalled.
const END_US: u64 = 6 * 3_600 * 1_000_000;
/// How long until a session is seen to be gone.
const GONE_US: u64 = 800_000;
/// How long until silence is taken for the end, as a real node takes it.
const SILENCE_US: u64 = 75_000_000;
/// How long a direction stays deaf.
const DEAF_US_MAX: u64 = 120_000_000;
/// How long the requester is down at most.
const REQUESTER_DOWN_MS_MAX: u64 = 5_000;
/// How long the ledger takes.
const BLOCK_US: u64 = 1_000_000;

type HostIx = usize;

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    Tick(HostIx),
    Input {
        to: HostIx,
        life: u32,
        input: Input,
    },
    /// A session is being set up.
    Dial {
        from: HostIx,
        life: u32,
        to: NodeId,
    },
    /// A message in a session; lost if that has ended.
    Message {
        from: HostIx,
        to: HostIx,
        session: u64,
        message: glean_protocol::WorkMsg,
    },
    /// Nobody has heard anything in a session for too long.
    Silence {
        from: HostIx,
        to: HostIx,
        session: u64,
    },
    /// A session has ended, and now this end notices.
    Gone {
        at: HostIx,
        life: u32,
        peer: NodeId,
    },
    Pay {
        from: HostIx,
        life: u32,
        output: Output,
    },
    Crash(HostIx),
    Restart(HostIx),
}

/// A machine in the world.
struct Host {
    me: Identity,
    settings: Settings,
    terms: Option<ShareTerms>,
    mfuel_per_s: u64,
    node: Option<Node>,
    villain: Option<Box<dyn Villain>>,
    journal: Vec<Record>,
    /// Grows with each crash: what was meant for an earlier life is lost.
    life: u32,
    /// What its clock shows at the beginning of the world.
    begins_ms: u64,
    fuel_run: u64,
    /// When each slot is free again, and runs that were stopped.
    slots_us: Vec<u64>,
    stopped: BTreeSet<RunId>,
    next_tick_us: Option<u64>,
}

/// A simulated network.
pub struct World {
    seed: u64,
    random: Random,
    now_us: u64,
    /// Boxed: a tree of large things spends its time moving them.
    queue: BTreeMap<(u64, u64), Box<Happening>>,
    number: u64,
    hosts: Vec<Host>,
    by_node: BTreeMap<NodeId, HostIx>,
    sessions: BTreeMap<(HostIx, HostIx), u64>,
    last_delivery_us: BTreeMap<(HostIx, HostIx), u64>,
    /// Until when nothing arrives that way.
    deaf_until_us: BTreeMap<(HostIx, HostIx), u64>,
    deaf_links: u32,
    index: Index,
    /// CPU time inside the requester's brain and the index: a figure, which decides nothing.
    matching: Duration,
    ledger: Ledger,
    invariants: Invariants,
    link: Link,
    guest: Guest,
    settings: Settings,
    churn: Option<(u64, u64)>,
    jobs: Vec<(JobId, Vec<TaskSpec>)>,
    events: Vec<(HostIx, Event)>,
    trace: blake3::Hasher,
    /// Burnt by all runs of all machines.
    fuel_run: u64,
    /// Burnt for tasks that were stopped at a price cap.
    unpaid_fuel: u64,
    /// When machines came and went, and their speed, 10^6 fuel per second.
    capacity: Vec<(u64, i64)>,
    /// Tasks whose answers the requester has accepted.
    accepted: Arc<Mutex<BTreeSet<u32>>>,
}

fn identity(seed: u64, n: usize) -> Identity {
    let secret = Hash::of(&encode(&("node", seed, n as u64))).0;
    Identity {
        node: NodeId(Hash::of(&secret).0),
        key: AccountKey::from_bytes(&secret).expect("a hash is a valid key but once in 2^128"),
        domain: domain(),
        class: Hash([0xc1; 32]),
        secret,
    }
}

impl World {
    /// A world with one requester and nobody to work for it.
    pub fn new(seed: u64) -> World {
        let mut world = World {
            seed,
            random: Random::new(seed),
            now_us: 0,
            queue: BTreeMap::new(),
            number: 0,
            hosts: Vec::new(),
            by_node: BTreeMap::new(),
            sessions: BTreeMap::new(),
            last_delivery_us: BTreeMap::new(),
            deaf_until_us: BTreeMap::new(),
            deaf_links: 0,
            index: Index::new(1),
            matching: Duration::ZERO,
            ledger: Ledger::new(&identity(seed, 0).key, Amount::whole(1_000)),
            invariants: Invariants::new(domain()),
            link: Link::lan(),
            guest: Guest::default(),
            settings: Settings::default(),
            churn: None,
            jobs: Vec::new(),
            events: Vec::new(),
            trace: blake3::Hasher::new(),
            fuel_run: 0,
            unpaid_fuel: 0,
            capacity: Vec::new(),
            accepted: Arc::default(),
        };
        world.add_host(None);
        world
    }

    // ---- running ----

    /// Runs until all jobs have ended and all money that was earned is claimed; panics if the world stalls.
    pub fn run(&mut self) {
        self.start_churn();
        while !self.is_done() {
            assert!(
                self.now_us < END_US,
                "seed {}: the world stalls: {:?}\n{}",
                self.seed,
                self.job_views(),
                self.last_news()
            );
            assert!(self.advance(), "seed {}: nothing happens any more: {:?}", self.seed, self.job_views());
        }
        self.churn = None;
        self.ledger.check_sum();
    }

    /// Sets the first crash going.
    pub fn start_churn(&mut self) {
        if let Some((every_ms, _)) = self.churn {
            let delay_us = self.random.range(0, every_ms * 1_000);
            let victim = self.victim();
            self.after(delay_us, Happening::Crash(victim));
        }
    }

    /// Runs for so long.
    pub fn run_for(&mut self, ms: u64) {
        let until_us = self.now_us + ms * 1_000;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until_us) {
            self.advance();
        }
        self.now_us = until_us;
    }

    fn is_done(&self) -> bool {
        let submitted = self.hosts[0].node.as_ref().map_or(0, |node| node.jobs().len());
        submitted == self.jobs.len() && self.job_views().iter().all(|view| view.ended)
    }

    fn job_views(&self) -> Vec<JobView> {
        self.hosts[0].node.as_ref().map(Node::jobs).unwrap_or_default()
    }

    /// The last news, for whoever debugs a stalled world.
    pub fn last_news(&self) -> String {
        self.events.iter().rev().take(20).map(|(at, event)| format!("  host {at}: {event:?}\n")).collect()
    }

    /// Kills provider `n` for good.
    pub fn kill(&mut self, n: usize) {
        self.crash(n + 1);
    }

    /// Kills the requester; it is back at once, from its records.
    pub fn restart_requester(&mut self) {
        self.crash(0);
        self.on_restart(0);
    }

    /// A machine comes (`sign` 1) or goes (-1).
    fn count_capacity(&mut self, at: HostIx, sign: i64) {
        let host = &self.hosts[at];
        if at > 0 {
            self.capacity.push((self.now_us, sign * (host.mfuel_per_s * host.slots_us.len() as u64) as i64));
        }
    }

    // ---- the loop ----

    fn after(&mut self, delay_us: u64, happening: Happening) {
        self.number += 1;
        self.queue.insert((self.now_us + delay_us, self.number), Box::new(happening));
    }

    fn give(&mut self, delay_us: u64, to: HostIx, input: Input) {
        let life = self.hosts[to].life;
        self.after(delay_us, Happening::Input { to, life, input });
    }

    fn is_alive(&self, host: HostIx, life: u32) -> bool {
        self.hosts[host].node.is_some() && self.hosts[host].life == life
    }

    fn advance(&mut self) -> bool {
        let Some(((at_us, _), happening)) = self.queue.pop_first() else { return false };
        self.now_us = self.now_us.max(at_us);
        match *happening {
            Happening::Tick(host) => {
                if self.hosts[host].next_tick_us == Some(at_us) {
                    self.hosts[host].next_tick_us = None;
                    self.step(host, Input::Tick);
                }
            }
            Happening::Input { to, life, input } => {
                let is_stopped = matches!(&input, Input::Ran { run, .. } if self.hosts[to].stopped.remove(run));
                if self.is_alive(to, life) && !is_stopped {
                    self.step(to, input);
                } else if matches!(input, Input::Submit(_)) {
                    // A person tries again until the node is there.
                    self.give(1_000_000, to, input);
                }
            }
            Happening::Dial { from, life, to } => self.on_dial(from, life, to),
            Happening::Message { from, to, session, message } => self.on_message(from, to, session, message),
            Happening::Silence { from, to, session } => {
                if self.sessions.get(&pair(from, to)) == Some(&session) {
                    self.end_session(from, to);
                }
            }
            Happening::Gone { at, life, peer } => {
                let other = self.by_node[&peer];
                if self.is_alive(at, life) && !self.sessions.contains_key(&pair(at, other)) {
                    self.step(at, Input::Disconnected(peer));
                }
            }
            Happening::Pay { from, life, output } => self.on_ledger(from, life, output),
            Happening::Crash(host) => self.on_crash(host),
            Happening::Restart(host) => self.on_restart(host),
        }
        true
    }

    /// One step of one node: the brain decides, the watcher looks, the world performs.
    fn step(&mut self, at: HostIx, input: Input) {
        let host = &mut self.hosts[at];
        let Some(node) = &mut host.node else { return };
        let now_ms = host.begins_ms + self.now_us / 1_000;
        let input = match &mut host.villain {
            Some(villain) => villain.on_input(input),
            None => input,
        };
        let started = (at == 0).then(ThreadTime::now);
        let mut outputs = node.step(now_ms, input);
        self.matching += started.map_or(Duration::ZERO, |started| started.elapsed());
        let wake_ms = node.wake_ms();
        // Where a defence is missing, it is for the test to see what that breaks.
        if host.villain.is_none() && self.settings.without.is_none() {
            self.invariants.check_step(host.me.node, &outputs, &self.ledger);
        }
        if let Some(villain) = &mut host.villain {
            outputs = villain.on_outputs(&host.me, outputs);
        }
        self.trace.update(&self.now_us.to_le_bytes()).update(&(at as u64).to_le_bytes());
        // Durable first, then everything else.
        for output in &outputs {
            if let Output::Record(record) = output {
                self.trace.update(&encode(record));
                if let (0, Record::Accepted { result, .. }) = (at, record) {
                    self.accepted.lock().expect("one thread").insert(result.index);
                }
                self.hosts[at].journal.push(record.clone());
            }
        }
        for output in outputs {
            self.perform(at, output);
        }
        if let Some(wake_ms) = wake_ms {
            let local_us = (wake_ms - now_ms.min(wake_ms)) * 1_000;
            let at_us = self.now_us + local_us.max(1_000);
            if self.hosts[at].next_tick_us.is_none_or(|due| due <= self.now_us || at_us < due) {
                self.hosts[at].next_tick_us = Some(at_us);
                self.after(at_us - self.now_us, Happening::Tick(at));
            }
        }
    }

    fn perform(&mut self, at: HostIx, output: Output) {
        let life = self.hosts[at].life;
        match output {
            Output::Record(_) => {}
            Output::QueryOffers => {
                let lot = self.random.range(0, u64::MAX - 1);
                let started = ThreadTime::now();
                let offers = self.index.query(self.hosts[at].me.class, lot, self.ledger_ms());
                self.matching += started.elapsed();
                let delay_us = self.link.latency_us(&mut self.random);
                self.give(delay_us, at, Input::Offers(offers));
            }
            Output::Publish(offer) => {
                let now_ms = self.ledger_ms();
                self.index.publish(&offer, now_ms);
            }
            Output::Dial { node, .. } => {
                let delay_us = self.link.latency_us(&mut self.random);
                self.after(delay_us, Happening::Dial { from: at, life, to: node });
            }
            Output::Hangup(node) => {
                if let Some(other) = self.by_node.get(&node).copied() {
                    self.end_session(at, other);
                }
            }
            Output::Send { to, message } => self.send(at, to, message),
            Output::FundChannel { .. } | Output::Claim(_) | Output::CloseChannel(_) => {
                self.after(BLOCK_US, Happening::Pay { from: at, life, output });
            }
            Output::LookUpChannel(id) => {
                let view = self.ledger.channel(id);
                self.give(2_000, at, Input::ChannelSeen { channel: id, view });
            }
            Output::Run(order) => self.start_run(at, order),
            Output::StopRun(run) => {
                self.hosts[at].stopped.insert(run);
            }
            Output::Report(event) => {
                self.trace.update(&encode(&format!("{event:?}")));
                self.events.push((at, event));
            }
        }
    }

    // ---- links ----

    fn send(&mut self, from: HostIx, to: NodeId, message: glean_protocol::WorkMsg) {
        let other = self.by_node.get(&to).copied();
        let session = other.and_then(|other| self.sessions.get(&pair(from, other)).copied());
        let (Some(other), Some(session)) = (other, session) else {
            let life = self.hosts[from].life;
            self.after(1_000, Happening::Gone { at: from, life, peer: to });
            return;
        };
        self.trace.update(&message.to_frame());
        if self.random.one_in(self.link.break_one_in) {
            self.end_session(from, other);
            return;
        }
        if self.random.one_in(self.link.deaf_one_in) && !self.is_deaf(from, other) {
            self.deaf_links += 1;
            let deaf_us = self.random.range(1, DEAF_US_MAX);
            self.deaf_until_us.insert((from, other), self.now_us + deaf_us);
            if deaf_us > SILENCE_US {
                self.after(SILENCE_US, Happening::Silence { from, to: other, session });
            }
        }
        // What is sent into it is sent again until it arrives, or the session ends.
        let deaf_us = self.deaf_until_us.get(&(from, other)).map_or(0, |until_us| until_us.saturating_sub(self.now_us));
        let copies = 1 + usize::from(self.random.one_in(self.link.duplicate_one_in));
        for _ in 0..copies {
            let mut at_us = self.now_us + deaf_us + self.link.latency_us(&mut self.random);
            if self.link.is_ordered {
                let last = self.last_delivery_us.entry((from, other)).or_default();
                at_us = at_us.max(*last);
                *last = at_us;
            }
            let happening = Happening::Message { from, to: other, session, message: message.clone() };
            self.after(at_us - self.now_us, happening);
        }
    }

    fn is_deaf(&self, from: HostIx, to: HostIx) -> bool {
        self.deaf_until_us.get(&(from, to)).is_some_and(|until_us| *until_us > self.now_us)
    }

    fn on_message(&mut self, from: HostIx, to: HostIx, session: u64, message: glean_protocol::WorkMsg) {
        if self.sessions.get(&pair(from, to)) == Some(&session) && self.hosts[to].node.is_some() {
            let from = self.hosts[from].me.node;
            self.step(to, Input::Message { from, message });
        }
    }

    fn on_dial(&mut self, from: HostIx, life: u32, to: NodeId) {
        if !self.is_alive(from, life) {
            return;
        }
        let Some(other) = self.by_node.get(&to).copied().filter(|other| self.hosts[*other].node.is_some()) else {
            self.after(GONE_US, Happening::Gone { at: from, life, peer: to });
            return;
        };
        if self.sessions.contains_key(&pair(from, other)) {
            self.step(from, Input::Connected(to));
            return;
        }
        if self.is_deaf(from, other) || self.is_deaf(other, from) {
            // A handshake needs both ways.
            self.after(GONE_US, Happening::Gone { at: from, life, peer: to });
            return;
        }
        self.number += 1;
        self.sessions.insert(pair(from, other), self.number);
        let dialler = self.hosts[from].me.node;
        self.step(other, Input::Connected(dialler));
        self.step(from, Input::Connected(to));
    }

    fn end_session(&mut self, a: HostIx, b: HostIx) {
        if self.sessions.remove(&pair(a, b)).is_none() {
            return;
        }
        for (at, peer) in [(a, b), (b, a)] {
            let (life, peer) = (self.hosts[at].life, self.hosts[peer].me.node);
            let delay_us = self.random.range(1_000, GONE_US);
            self.after(delay_us, Happening::Gone { at, life, peer });
        }
    }

    // ---- workers ----

    fn start_run(&mut self, at: HostIx, order: RunOrder) {
        let now_us = self.now_us;
        let host = &mut self.hosts[at];
        let mut done_us = now_us;
        let mut results = Vec::with_capacity(order.specs.len());
        // As a worker does: what is not paid is not run to its end.
        let (mut left, mut stopped) = (order.fuel_cap, 0);
        for spec in &order.specs {
            let result = self.guest.run(&order.job, spec);
            let paid = if stopped < 2 { left.saturating_sub(FUEL_PER_TASK) } else { 0 };
            let fuel = result.fuel.min(paid);
            let result = if result.fuel <= paid {
                left = left.saturating_sub(fuel + FUEL_PER_TASK);
                Ok(result)
            } else {
                stopped += 1;
                self.unpaid_fuel += fuel;
                Err(NoVerdict::FuelCap)
            };
            self.fuel_run += fuel;
            host.fuel_run += fuel;
            let run_us = fuel / host.mfuel_per_s.max(1);
            // The slot that is free first.
            let slot = host.slots_us.iter_mut().min().expect("every host has slots");
            *slot = (*slot).max(now_us) + run_us;
            done_us = done_us.max(*slot);
            results.push(result);
        }
        self.give(done_us - now_us + 100, at, Input::Ran { run: order.run, results });
    }

    // ---- the ledger ----

    /// The time by the clocks of the ledger and of the index nodes, which are right.
    fn ledger_ms(&self) -> u64 {
        EPOCH_MS + self.now_us / 1_000
    }

    fn on_ledger(&mut self, from: HostIx, life: u32, output: Output) {
        let key = self.hosts[from].me.key.clone();
        self.ledger.set_time(self.ledger_ms() / 1_000);
        // Whoever has never been here gets gas money now, and not when the world begins: most of a million machines never come.
        self.ledger.greet(key.address());
        match output {
            Output::FundChannel { provider, payee, channel, deposit, salt } => {
                let funded = match channel {
                    None => self.ledger.open(&key, payee, provider, deposit, salt).map(|id| (id, deposit)),
                    Some(id) => self.ledger.top_up(&key, id, deposit).map(|deposit| (id, deposit)),
                };
                let input = match funded {
                    Ok((channel, deposit)) => Input::ChannelReady { provider, channel, deposit },
                    Err(error) => Input::ChannelFailed {
                        provider,
                        why: format!("{error:?}"),
                        no_funds: error == LedgerError::NoFunds,
                    },
                };
                self.tell(from, life, input);
            }
            Output::Claim(voucher) => {
                if let Ok(settled) = self.ledger.settle(&key, &voucher) {
                    self.tell(from, life, Input::Claimed { channel: voucher.paper.channel, settled });
                }
            }
            Output::CloseChannel(id) => {
                let again_ms = self.ledger.close(&key, id);
                self.tell(from, life, Input::ChannelClosing { channel: id, again_ms });
            }
            _ => {}
        }
    }

    fn tell(&mut self, to: HostIx, life: u32, input: Input) {
        if self.is_alive(to, life) {
            self.step(to, input);
        }
    }

    /// The channel's state on the ledger.
    pub fn channel(&self, id: ChannelId) -> Option<glean_protocol::ChannelView> {
        self.ledger.channel(id)
    }

    // ---- churn ----

    /// Whom the next crash hits: now and then the requester.
    fn victim(&mut self) -> HostIx {
        if self.random.one_in(5 * self.hosts.len() as u64) {
            0
        } else {
            self.random.range(1, self.hosts.len() as u64 - 1) as usize
        }
    }

    fn on_crash(&mut self, at: HostIx) {
        let Some((every_ms, down_ms)) = self.churn else { return };
        self.crash(at);
        // A requester's owner wants its results.
        let down_ms = if at == 0 { down_ms.min(REQUESTER_DOWN_MS_MAX) } else { down_ms };
        let delay_us = self.random.range(0, down_ms * 1_000);
        self.after(delay_us, Happening::Restart(at));
        let next_us = self.random.range(1, 2 * every_ms * 1_000);
        let victim = self.victim();
        self.after(next_us, Happening::Crash(victim));
    }

    /// Kills a node: its memory, its sessions and its runs are gone, its records stay.
    fn crash(&mut self, at: HostIx) {
        if self.hosts[at].node.take().is_none() {
            return;
        }
        self.count_capacity(at, -1);
        let host = &mut self.hosts[at];
        host.life += 1;
        host.stopped.clear();
        host.next_tick_us = None;
        // A slot is busy without a pause until it is free: what it has not burnt by now it never will.
        let now_us = self.now_us;
        let unburnt_us: u64 = host.slots_us.iter_mut().map(|slot| std::mem::take(slot).saturating_sub(now_us)).sum();
        let unburnt = unburnt_us * host.mfuel_per_s;
        host.fuel_run -= unburnt;
        self.fuel_run -= unburnt;
        let peers: Vec<HostIx> =
            self.sessions.keys().filter(|(a, b)| *a == at || *b == at).map(|(a, b)| a + b - at).collect();
        for peer in peers {
            self.end_session(at, peer);
        }
    }

    fn on_restart(&mut self, at: HostIx) {
        let host = &mut self.hosts[at];
        if host.node.is_some() {
            return;
        }
        let node = Node::restore(host.me.clone(), host.settings.clone(), host.journal.iter().cloned());
        if host.villain.is_none() {
            self.invariants.check_restart(&node);
        }
        host.node = Some(node);
        let terms = host.terms.clone();
        self.count_capacity(at, 1);
        if terms.is_some() {
            self.step(at, Input::Share(terms));
        }
        self.step(at, Input::Tick);
    }
}

fn pair(a: HostIx, b: HostIx) -> (HostIx, HostIx) {
    (a.min(b), a.max(b))
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this world came from seed {0}: replay it with GLEAN_SEED={0}", self.seed);
        }
    }
}
