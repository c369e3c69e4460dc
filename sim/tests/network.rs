//! Whole networks: what honest machines achieve, and what the others do not get away with.

use glean_protocol::{Defence, Event, Record};
use glean_sim::{FEE_BPS, Forger, Guest, Haggler, Informed, Liar, Link, Shrugger, Staller, Vanisher, World, seeds};
use glean_types::Amount;

#[test]
fn three_machines_finish_a_job_and_are_paid_what_was_promised() {
    let mut world = World::new(1).providers(3);
    let job = world.submit(200, "1");
    world.run();
    assert_eq!(world.right_answers(job), 200);
    let view = world.view(job);
    assert!(view.spent > Amount::ZERO && view.spent <= view.budget);
    world.run_for(30_000);
    let balances: Amount = (0..3).map(|n| world.balance(n)).sum();
    let promised: Amount = (0..3).map(|n| world.promised_to(n)).sum();
    let fee = promised.saturating_sub(balances);
    assert!(fee <= promised.scale(FEE_BPS.into(), 10_000), "every promise is cashed, less the protocol's fee");
    assert_eq!(promised, view.spent);
}

#[test]
fn the_same_seed_is_the_same_world() {
    let trace = |seed| {
        let mut world =
            World::new(seed).providers(12).link(Link::rough()).churn(2_000, 3_000).villain(3, Liar::one_in(3));
        world.submit(300, "2");
        world.run();
        world.trace()
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

/// Goal: the network of the issue. Two hundred machines come and go, one lies, and every task ends rightly.
#[test]
fn two_hundred_machines_with_churn_and_a_liar_finish_every_task() {
    for seed in seeds([1, 2]) {
        let mut world =
            World::new(seed).providers(200).link(Link::rough()).churn(300, 4_000).villain(5, Liar::one_in(2));
        let job = world.submit(4_000, "20");
        world.run();
        assert_eq!(world.right_answers(job), 4_000, "seed {seed}: {:?}", world.view(job));
        assert!(world.is_caught(5), "seed {seed}: the liar was not caught");
    }
}

/// The same liar where nobody checks: it is believed and paid. This is what checks are for.
#[test]
fn without_checks_the_liar_wins() {
    let mut world = World::new(3).providers(5).villain(0, Liar::one_in(2)).without(Defence::Checks);
    let job = world.submit(400, "2");
    world.run();
    assert!(world.wrong_answers(job) > 20, "only {} wrong answers were accepted", world.wrong_answers(job));
    assert!(!world.is_caught(0) && world.promised_to(0) > Amount::ZERO);
}

#[test]
fn a_liar_is_caught_named_and_not_paid_for_the_slice_it_was_caught_on() {
    for seed in seeds(0..10) {
        let mut world = World::new(seed).providers(3).villain(0, Liar::one_in(4));
        let job = world.submit(400, "2");
        world.run();
        assert_eq!(world.right_answers(job), 400, "seed {seed}");
        let liar = world.provider(0);
        let caught =
            world.news().find(|event| matches!(event, Event::LiarCaught { provider, .. } if *provider == liar));
        assert!(
            matches!(caught, Some(Event::LiarCaught { unpaid, .. }) if *unpaid > Amount::ZERO),
            "seed {seed}: {caught:?}"
        );
    }
}

/// The first answers of a stranger are all compared before any of them is paid for, whether they are the job's own or run
/// to check somebody else.
#[test]
fn who_lies_from_the_first_task_on_is_never_paid() {
    for seed in seeds(0..120) {
        let link = if seed % 2 == 0 { Link::lan() } else { Link::rough() };
        let mut world = World::new(seed).providers(3).link(link).villain(seed as usize % 3, Liar::one_in(1));
        let job = world.submit(96, "5");
        world.run();
        assert_eq!(world.right_answers(job), 96, "seed {seed}");
        assert_eq!(world.promised_to(seed as usize % 3), Amount::ZERO, "seed {seed}: it was paid for lies");
    }
}

#[test]
fn a_sleeper_is_caught_and_what_it_sold_is_corrected() {
    for seed in seeds(0..6) {
        let mut world = World::new(seed).providers(6).villain(2, Liar::sleeper(150, 3));
        let job = world.submit(4_000, "20");
        world.run();
        assert!(world.is_caught(2), "seed {seed}");
        assert_eq!(world.wrong_answers(job), 0, "seed {seed}");
    }
}

/// A liar that knows what the requester knows lies only there: no check of an open task ever finds it, a canary does.
#[test]
fn a_canary_catches_a_liar_that_lies_only_about_what_is_known() {
    for seed in seeds(0..4) {
        let world = World::new(seed).providers(4);
        let known = world.accepted();
        let mut world = world.villain(1, Informed::new(known));
        let job = world.submit(6_000, "30");
        world.run();
        assert!(world.is_caught(1), "seed {seed}");
        assert_eq!(world.right_answers(job), 6_000, "seed {seed}: it sold no wrong answer");
    }
}

/// Nobody waits for a lease to run out when a machine is merely late: what it has goes to idle machines, too.
#[test]
fn the_tail_of_a_job_is_copied_to_idle_machines() {
    // Without checks: they send tasks out twice, too.
    let mut world = World::new(13).providers(3).villain(1, Vanisher::new()).without(Defence::Checks);
    let job = world.submit(60, "1");
    world.run();
    assert_eq!(world.right_answers(job), 60);
    let mut out = std::collections::BTreeMap::new();
    let mut copied = 0;
    for record in world.journal() {
        match record {
            Record::Sent { channel, indexes, .. } => {
                for index in indexes {
                    copied += u32::from(out.insert(*index, *channel).is_some_and(|before| before != *channel));
                }
            }
            Record::GivenUp { .. } => break,
            _ => {}
        }
    }
    assert!(copied > 0, "no task went out twice before the first slice was given up");
}

/// What lies with a machine that is gone does not keep the next one out.
#[test]
fn a_newcomer_is_funded_although_a_dead_machine_holds_the_whole_budget() {
    let mut world = World::new(14).providers(1).villain(0, Vanisher::new());
    let job = world.submit(20, "0.05");
    world.run_for(30_000);
    world.kill(0);
    world.run_for(30_000);
    world.join();
    world.run();
    assert_eq!(world.right_answers(job), 20);
}

/// A task too heavy for a slice's price cap goes alone; machines are not made to begin it again and again for nothing.
#[test]
fn heavy_tasks_are_finished_and_cost_little_unpaid_work() {
    let guest = Guest { heavy_one_in: 50, ..Guest::default() };
    let mut world = World::new(15).providers(4).guest(guest);
    let job = world.submit(1_000, "20");
    world.run();
    assert_eq!(world.right_answers(job), 1_000);
    let useful = world.fuel_accepted();
    println!("unpaid: {} % of {useful} fuel", world.unpaid_fuel() * 100 / useful);
    assert!(world.unpaid_fuel() < useful / 2, "{} of {useful}", world.unpaid_fuel());
}

/// One that says of every slice that its price cap is too low raises the caps of nobody else.
#[test]
fn a_machine_that_finds_every_cap_too_low_prices_nobody_out() {
    let mut world = World::new(16).providers(3).villain(0, Haggler::new());
    let job = world.submit(300, "0.04");
    world.run();
    assert_eq!(world.right_answers(job), 300, "{:?}", world.view(job));
    assert_eq!(world.promised_to(0), Amount::ZERO);
}

/// Machines that have no verdict on anything may all be one owner's: they cannot fail a task, our own worker has the last word.
#[test]
fn machines_without_a_verdict_cannot_fail_a_job() {
    let mut world = World::new(17).providers(7);
    for n in 0..7 {
        world = world.villain(n, Shrugger::new());
    }
    let job = world.submit(5, "1");
    world.run();
    assert_eq!(world.right_answers(job), 5, "{:?}", world.view(job));
    assert_eq!(world.view(job).spent, Amount::ZERO, "and nobody is paid for shrugging");
}

#[test]
fn one_task_alone_is_checked_by_our_own_worker_and_costs_nothing_more() {
    let mut world = World::new(4).providers(2);
    let job = world.submit(1, "1");
    world.run();
    let view = world.view(job);
    assert_eq!((view.succeeded, view.rechecked), (1, 1));
    let sent = world.news().filter(|event| matches!(event, Event::SliceSent { .. })).count();
    assert_eq!(sent, 1, "one slice, one payment");
}

#[test]
fn a_vanisher_costs_time_and_nothing_else() {
    let mut world = World::new(5).providers(4).villain(1, Vanisher::new());
    let job = world.submit(200, "1");
    world.run();
    assert_eq!(world.right_answers(job), 200);
    assert_eq!(world.promised_to(1), Amount::ZERO);
}

#[test]
fn a_forged_bill_is_not_paid_and_ends_the_relation() {
    let mut world = World::new(6).providers(3).villain(2, Forger::new());
    let job = world.submit(200, "1");
    world.run();
    assert_eq!(world.right_answers(job), 200);
    assert_eq!(world.promised_to(2), Amount::ZERO);
    let forger = world.provider(2);
    let why = world.news().find_map(|event| match event {
        Event::SliceLost { provider, why, .. } if *provider == forger => Some(why.clone()),
        _ => None,
    });
    assert_eq!(why.as_deref(), Some("its bill is wrong"));
}

#[test]
fn a_requester_that_stops_signing_gets_one_slice() {
    let mut world = World::new(7).providers(3).villain_requester(Staller::new());
    world.submit(200, "1");
    world.run_for(120_000);
    for n in 0..3 {
        let delivered = world.news_of(n).filter(|event| matches!(event, Event::Delivered { .. })).count();
        assert!(delivered <= 1, "provider {n} delivered {delivered} slices for nothing");
    }
}

#[test]
fn a_budget_too_small_fails_the_rest_and_is_never_passed() {
    let mut world = World::new(8).providers(3);
    let job = world.submit(500, "0.01");
    world.run();
    let view = world.view(job);
    assert!(view.succeeded > 20 && view.failed > 0 && view.spent <= view.budget, "{view:?}");
}

#[test]
fn failing_programs_are_answers_too() {
    let guest = Guest { fails_one_in: 5, ..Guest::default() };
    let mut world = World::new(9).providers(3).guest(guest);
    let job = world.submit(300, "1");
    world.run();
    let view = world.view(job);
    assert_eq!(world.right_answers(job), 300);
    assert!(view.failed > 30 && view.succeeded + view.failed == 300);
}

/// What checking costs: the figures of the issue, on a fresh requester and on one that knows its machines.
#[test]
fn checking_costs_at_most_ten_percent_and_half_of_that_once_clean() {
    let mut world = World::new(10).providers(20);
    let first = world.submit(10_000, "100");
    world.run();
    let overhead = |job| {
        let view = world.view(job);
        (view.tasks + view.rechecked) * 10_000 / view.tasks
    };
    let new = overhead(first);
    // Jobs until every machine has 200 right answers behind it.
    while world.requester().machines().iter().any(|machine| machine.history.right < 200) {
        world.submit(10_000, "100");
        world.run();
    }
    let last = world.submit(10_000, "100");
    world.run();
    let view = world.view(last);
    let clean = (view.tasks + view.rechecked) * 10_000 / view.tasks;
    println!(
        "overhead of checking, 10,000 tasks on 20 machines: {}.{:04}x first job, {}.{:04}x once clean",
        new / 10_000,
        new % 10_000,
        clean / 10_000,
        clean % 10_000
    );
    assert!(new <= 11_000, "{new}");
    assert!(clean <= 10_550, "{clean}");
}

/// Everything at once, on many seeds: rough links, crashes of both sides, and villains among the machines.
#[test]
fn no_order_of_messages_and_crashes_breaks_an_invariant() {
    let (mut worlds, mut crashes, mut unpaid) = (0, 0, 0);
    for seed in seeds(100..300) {
        worlds += 1;
        let mut world = World::new(seed)
            .providers(12)
            .link(Link::rough())
            .churn(700, 3_000)
            .villain(0, Liar::one_in(3))
            .villain(1, Vanisher::new())
            .villain(2, Forger::new())
            .villain(3, Liar::sleeper(30, 2));
        let first = world.submit(300, "1");
        let second = world.submit(40, "0.1");
        world.run();
        (crashes, unpaid) = (crashes + world.crashes(), unpaid + world.written_off());
        assert!(world.written_off() <= world.crashes(), "seed {seed}: more slices unpaid than crashes");
        for (job, tasks) in [(first, 300), (second, 40)] {
            let view = world.view(job);
            assert_eq!(view.succeeded, tasks, "seed {seed}: {view:?}");
            let liars = [0, 3];
            let unseen: u32 = liars.iter().map(|liar| world.wrong_answers_of(job, *liar)).sum();
            assert_eq!(world.wrong_answers(job), unseen, "seed {seed}: only liars are wrong");
            for liar in liars.into_iter().filter(|liar| world.is_caught_before_end(job, *liar)) {
                assert_eq!(world.wrong_answers_of(job, liar), 0, "seed {seed}: what liar {liar} sold is corrected");
            }
        }
    }
    println!(
        r#"BAR {{"bar":"worlds","what":"simulated networks of 12 machines with crashes, broken links, two liars, a vanisher and a forger: tasks lost, promises broken, books that do not add up","runs":{worlds},"control":"without checks the liar wins","note":"{crashes} crashes, {unpaid} delivered slices never paid; each world replays from its seed"}}"#
    );
}

/// Among very many machines an index node's answer will hardly name those that we work with. Here none answers at all after the first
/// seconds: those at work say themselves that their offer stands, and those with our money are called.
#[test]
fn who_works_together_needs_no_index_node() {
    let guest = Guest { fuel_min: 8_000_000_000, fuel_max: 9_000_000_000, ..Guest::default() };
    let mut world = World::new(13).providers(4).guest(guest);
    let first = world.submit(800, "40");
    world.run_for(20_000);
    world.close_index();
    world.run();
    let took_ms = world.now_ms();
    assert!(took_ms > 2 * 180_000, "{took_ms} ms: no offer of the beginning stood at the end");
    assert_eq!(world.right_answers(first), 800);
    // No session is left, and no offer.
    world.run_for(300_000);
    assert!(world.requester().machines().iter().all(|machine| !machine.connected));
    let second = world.submit(40, "2");
    world.run();
    assert_eq!(world.right_answers(second), 40);
}

/// Long tasks on few machines: a check is another machine's second run, and ours only when that fails.
#[test]
fn long_tasks_are_not_run_a_third_time() {
    let guest = Guest { fuel_min: 8_000_000_000, fuel_max: 9_000_000_000, ..Guest::default() };
    let mut world = World::new(11).providers(4).guest(guest);
    let job = world.submit(100, "5");
    world.run();
    let view = world.view(job);
    assert_eq!(world.right_answers(job), 100);
    // Ten of each unknown machine, and one in ten of the rest: each once.
    assert!(view.rechecked <= 50, "{view:?}");
}

/// What nobody needs any more is asked back, waits out the grace period and comes home; a restart in between forgets nothing.
#[test]
fn an_idle_deposit_comes_home_also_over_a_restart() {
    for restarts in [false, true] {
        let mut world = World::new(12).providers(3);
        let job = world.submit(60, "1");
        world.run();
        let spent = world.view(job).spent;
        let channels: Vec<_> = world.requester().channels().iter().filter(|c| c.ours).map(|c| c.channel).collect();
        assert!(!channels.is_empty() && spent > Amount::ZERO);
        world.run_for(700_000);
        assert!(channels.iter().all(|id| world.channel(*id).is_some_and(|view| view.closing)), "asked back when idle");
        if restarts {
            world.restart_requester();
        }
        world.run_for(3_700_000);
        assert!(channels.iter().all(|id| world.channel(*id).is_none()), "closed after the grace period");
        assert_eq!(world.requester_balance(), Amount::whole(1_000).saturating_sub(spent), "all but the price is home");
    }
}
