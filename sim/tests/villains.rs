//! Each villain against the defence that is there for it: it loses, and where that one defence is missing, it wins.

use glean_protocol::{Defence, Event};
use glean_sim::{
    Bluffer, Copier, Flooder, Forger, Haggler, Informed, Liar, Replayer, Shrugger, Staller, Vanisher, World, seeds,
};
use glean_types::{Amount, JobId};

/// A villain's attempt: the world that it is in, and whether it got what it wanted.
struct Attempt {
    villain: &'static str,
    defence: Defence,
    wins: fn(World) -> bool,
}

const ATTEMPTS: [Attempt; 13] = [
    Attempt { villain: "liar", defence: Defence::Checks, wins: liar },
    Attempt { villain: "sleeper", defence: Defence::CheckFloor, wins: sleeper },
    Attempt { villain: "informed liar", defence: Defence::Canaries, wins: informed },
    Attempt { villain: "copier", defence: Defence::OtherOwner, wins: copier },
    Attempt { villain: "owner of a liar", defence: Defence::OwnerBan, wins: owner },
    Attempt { villain: "forger", defence: Defence::Bills, wins: forger },
    Attempt { villain: "vanisher", defence: Defence::Leases, wins: vanisher },
    Attempt { villain: "haggler", defence: Defence::OwnCaps, wins: haggler },
    Attempt { villain: "shrugger", defence: Defence::LastResort, wins: shrugger },
    Attempt { villain: "stalling requester", defence: Defence::OneUnpaid, wins: staller },
    Attempt { villain: "replayer", defence: Defence::SliceNumbers, wins: replayer },
    Attempt { villain: "flooder", defence: Defence::LedgerFirst, wins: flooder },
    Attempt { villain: "bluffer", defence: Defence::VoucherDeposit, wins: bluffer },
];

#[test]
fn every_villain_loses_and_wins_where_its_defence_is_missing() {
    let seeds = seeds(500..510);
    let (mut runs, mut won) = (0, 0);
    for Attempt { villain, defence, wins } in ATTEMPTS {
        let mut without = 0;
        for seed in &seeds {
            assert!(!wins(World::new(*seed)), "seed {seed}: the {villain} wins");
            without += usize::from(wins(World::new(*seed).without(defence)));
        }
        assert!(2 * without > seeds.len(), "without {defence:?} the {villain} wins {without} times of {}", seeds.len());
        (runs, won) = (runs + seeds.len(), won + without);
    }
    println!(
        r#"BAR {{"bar":"villains","what":"attempts of thirteen villains, each against the defence that is there for it: villains that won","runs":{runs},"control":"without that one defence they win {won} of the {runs}","note":"villains are files in sim/src/villains, defences are named in core/protocol/src/defence.rs"}}"#
    );
}

fn run(world: &mut World, tasks: u32, budget: &str) -> JobId {
    let job = world.submit(tasks, budget);
    world.run();
    job
}

/// Sells wrong answers that stand.
fn liar(world: World) -> bool {
    let mut world = world.providers(4).villain(0, Liar::one_in(2));
    let job = run(&mut world, 400, "2");
    world.wrong_answers(job) > 0
}

/// Sells them once it is trusted.
fn sleeper(world: World) -> bool {
    let mut world = world.providers(5).villain(2, Liar::sleeper(150, 3));
    let job = run(&mut world, 4_000, "20");
    world.wrong_answers(job) > 0
}

/// Is never found out.
fn informed(world: World) -> bool {
    let known = world.accepted();
    let mut world = world.providers(4).villain(1, Informed::new(known));
    run(&mut world, 20_000, "100");
    !world.is_caught(1)
}

/// Has its lies confirmed by another machine of its own.
fn copier(world: World) -> bool {
    let mut world = world.providers(2).same_owner(0, 1).villain(0, Copier::one_in(3)).villain(1, Copier::one_in(3));
    let job = world.submit(200, "1");
    world.run_for(600_000);
    world.wrong_answers(job) > 0
}

/// Goes on earning with another machine after one was caught.
fn owner(world: World) -> bool {
    let mut world = world.providers(3).same_owner(0, 1).villain(0, Liar::one_in(2));
    run(&mut world, 400, "2");
    let (liar, other) = (world.provider(0), world.provider(1));
    let caught = |event: &&Event| !matches!(event, Event::LiarCaught { provider, .. } if *provider == liar);
    world
        .news()
        .skip_while(caught)
        .any(|event| matches!(event, Event::SliceSent { provider, .. } if *provider == other))
}

/// Is paid what it asks.
fn forger(world: World) -> bool {
    let mut world = world.providers(3).villain(2, Forger::new());
    run(&mut world, 200, "1");
    world.promised_to(2) > Amount::ZERO
}

/// Holds a job up by holding its money.
fn vanisher(world: World) -> bool {
    let mut world = world.providers(1).villain(0, Vanisher::new());
    let job = world.submit(20, "0.01");
    world.run_for(30_000);
    world.join();
    world.run_for(1_800_000);
    !world.view(job).ended
}

/// Has the others priced out of a job for which there is a little more money than the same job cost before.
fn haggler(world: World) -> bool {
    let mut world = world.providers(4).villain(0, Haggler::new()).villain(1, Haggler::new());
    let first = run(&mut world, 300, "1");
    // All machines are known, and no channel is open any more.
    world.run_for(1_800_000);
    let cost = world.view(first).spent;
    let job = world.submit(300, &cost.saturating_add(cost.scale(8, 100)).to_string());
    world.run_for(1_800_000);
    world.view(job).succeeded < 300
}

/// Makes tasks fail by having no answer.
fn shrugger(mut world: World) -> bool {
    world = world.providers(7);
    for n in 0..7 {
        world = world.villain(n, Shrugger::new());
    }
    let job = run(&mut world, 5, "1");
    world.view(job).succeeded < 5
}

/// Slices delivered by each of three providers to a requester that is a villain.
fn delivered(world: &mut World, budget: &str) -> usize {
    world.submit(200, budget);
    world.run_for(120_000);
    let of = |n| world.news_of(n).filter(|event| matches!(event, Event::Delivered { .. })).count();
    (0..3).map(of).max().unwrap_or(0)
}

/// Gets more than one slice without paying.
fn staller(world: World) -> bool {
    delivered(&mut world.providers(3).villain_requester(Staller::new()), "1") > 1
}

/// Gets more with promises that the ledger will not keep.
fn bluffer(world: World) -> bool {
    delivered(&mut world.providers(3).villain_requester(Bluffer::new()), "1") > 1
}

/// Gets work done for channels that do not exist.
fn flooder(world: World) -> bool {
    let mut world = world.funds(0).providers(3).villain_requester(Flooder::new(4));
    delivered(&mut world, "1");
    (0..3).any(|n| world.fuel_run_by(n) > 0)
}

/// Gets more work than it pays for.
fn replayer(world: World) -> bool {
    let mut world = world.providers(3).villain_requester(Replayer::new());
    delivered(&mut world, "1");
    let of = |n| {
        let news = || world.news_of(n);
        let delivered = news().filter(|event| matches!(event, Event::Delivered { .. })).count();
        let paid = news().filter(|event| matches!(event, Event::Earned { .. })).count();
        delivered > paid + 1
    };
    (0..3).any(of)
}
