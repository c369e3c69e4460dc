//! Whole networks: what honest machines achieve, and what the others do not get away with.

use glean_protocol::Event;
use glean_sim::{Forger, Guest, Liar, Link, Staller, Vanisher, World, seeds};
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
    assert_eq!(balances, promised, "every promise is cashed");
    assert_eq!(promised, view.spent);
}

#[test]
fn the_same_seed_is_the_same_world() {
    let trace = |seed| {
        let mut world = World::new(seed).providers(12).link(Link::rough()).churn(2_000, 3_000).villain(3, Liar::one_in(3));
        world.submit(300, "2");
        world.run();
        world.trace()
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
