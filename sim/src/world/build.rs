//! Making a world: machines, wires, villains, money, and the jobs that are handed in.

use std::collections::BTreeSet;

use glean_protocol::{Defence, Input, Node, Settings, ShareTerms, Submission};
use glean_types::{Amount, Class, Hash, Job, JobId, Manifest, Paper, TaskSpec, encode};

use super::{EPOCH_MS, Host, HostIx, World, identity};
use crate::guest::Guest;
use crate::index::Index;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::villains::{Forger, Haggler, Liar, Vanisher, Villain};

impl World {
    /// Adds providers: four slots each, speeds and clocks that differ.
    pub fn providers(mut self, count: usize) -> World {
        for _ in 0..count {
            self.add_provider();
        }
        self
    }

    /// Gives the requester so many gUSD instead of a thousand. To be called before machines are added.
    pub fn funds(mut self, whole: u64) -> World {
        self.ledger = Ledger::new(&self.hosts[0].me.key, Amount::whole(whole));
        self
    }

    /// Takes a defence away from every node: to show what it is for.
    pub fn without(self, defence: Defence) -> World {
        self.settings(|settings| settings.without = Some(defence))
    }

    /// So many index nodes instead of one.
    pub fn index_nodes(mut self, count: usize) -> World {
        self.index = Index::new(count);
        self
    }

    /// Makes provider `b` another machine of provider `a`'s owner.
    pub fn same_owner(mut self, a: usize, b: usize) -> World {
        self.hosts[b + 1].me.key = self.hosts[a + 1].me.key.clone();
        self.hosts[b + 1].node = Some(Node::new(self.hosts[b + 1].me.clone(), self.settings.clone()));
        self
    }

    /// Makes provider `n` (from 0) a villain.
    pub fn villain(mut self, n: usize, villain: Box<dyn Villain>) -> World {
        self.hosts[n + 1].villain = Some(villain);
        self
    }

    /// Makes the first so many providers villains, by turns of four kinds.
    pub fn mixed_villains(mut self, count: usize) -> World {
        for n in 0..count {
            self = match n % 4 {
                0 => self.villain(n, Liar::one_in(3)),
                1 => self.villain(n, Vanisher::new()),
                2 => self.villain(n, Forger::new()),
                _ => self.villain(n, Haggler::new()),
            };
        }
        self
    }

    /// Makes the requester a villain.
    pub fn villain_requester(mut self, villain: Box<dyn Villain>) -> World {
        self.hosts[0].villain = Some(villain);
        self
    }

    /// Puts other wires in.
    pub fn link(mut self, link: Link) -> World {
        self.link = link;
        self
    }

    /// Every clock is wrong by up to so much, this way or that. To be called after machines are added.
    pub fn clocks_off_by(mut self, most_ms: u64) -> World {
        for host in &mut self.hosts {
            host.begins_ms = EPOCH_MS - most_ms + self.random.range(0, 2 * most_ms);
        }
        self
    }

    /// Puts other programs in.
    pub fn guest(mut self, guest: Guest) -> World {
        self.guest = guest;
        self
    }

    /// Changes every node's settings.
    pub fn settings(mut self, change: impl Fn(&mut Settings)) -> World {
        change(&mut self.settings);
        for host in &mut self.hosts {
            change(&mut host.settings);
            host.node = Some(Node::new(host.me.clone(), host.settings.clone()));
        }
        self
    }

    /// Somebody crashes about every `every_ms`, and is back, from its records, within `down_ms`.
    pub fn churn(mut self, every_ms: u64, down_ms: u64) -> World {
        self.churn = Some((every_ms, down_ms));
        self
    }

    pub(super) fn add_host(&mut self, terms: Option<ShareTerms>) -> HostIx {
        let at = self.hosts.len();
        let me = identity(self.seed, at);
        let mfuel_per_s = terms.as_ref().map_or(1_000, |terms| terms.mfuel_per_s);
        let slots = terms.as_ref().map_or(2, |terms| terms.slots as usize);
        self.by_node.insert(me.node, at);
        self.hosts.push(Host {
            node: Some(Node::new(me.clone(), self.settings.clone())),
            me,
            settings: self.settings.clone(),
            terms,
            mfuel_per_s,
            villain: None,
            journal: Vec::new(),
            life: 0,
            begins_ms: EPOCH_MS + self.random.range(0, 2_000),
            fuel_run: 0,
            slots_us: vec![0; slots],
            stopped: BTreeSet::new(),
            next_tick_us: None,
        });
        at
    }

    fn add_provider(&mut self) -> HostIx {
        let price = Amount::whole(1).scale(self.random.range(8, 12) as u32, 10_000);
        let terms = ShareTerms {
            price_per_gfuel: price,
            slots: 4,
            mem_max: 1 << 32,
            mfuel_per_s: self.random.range(500, 2_000),
            region: "sim".into(),
            machine: 0,
            peer: vec![1],
        };
        let at = self.add_host(Some(terms));
        let delay_us = self.random.range(0, 500_000);
        let terms = self.hosts[at].terms.clone();
        self.count_capacity(at, 1);
        self.give(delay_us, at, Input::Share(terms));
        at
    }

    /// A machine joins while the world runs.
    pub fn join(&mut self) {
        self.add_provider();
    }

    /// From now on no index node takes offers or answers.
    pub fn close_index(&mut self) {
        self.index = Index::new(0);
    }

    // ---- jobs ----

    /// Hands a job with so many tasks and this budget to the requester, in a second from now.
    pub fn submit(&mut self, tasks: u32, budget: &str) -> JobId {
        let specs: Vec<TaskSpec> =
            (0..tasks).map(|index| TaskSpec { index, args: vec![format!("{index}")], stdin: Vec::new() }).collect();
        let me = &self.hosts[0].me;
        let manifest = Manifest { name: "sim".into(), tasks_root: Hash::of(&encode(&specs)), ..Manifest::default() };
        let job = Job {
            requester: me.key.address(),
            node: me.node,
            program: Hash::of(b"a program"),
            manifest: Hash::of(&encode(&manifest)),
            tasks,
            budget: budget.parse().expect("a test's budget is an amount"),
            fuel_max: self.guest.fuel_max.max(5_000_000_000) * 2,
            mem_max: 1 << 26,
            output_max: 1 << 20,
            timeout_ms: 60_000,
            class: Class::Exact,
            seed: Hash::of(&encode(&self.jobs.len())),
            created_ms: EPOCH_MS,
        };
        let id = job.id();
        let submission =
            Submission { job: job.sign(&me.key, &me.domain), manifest, specs: specs.clone(), max_fails: None };
        self.jobs.push((id, specs));
        self.give(1_000_000, 0, Input::Submit(Box::new(submission)));
        id
    }
}
