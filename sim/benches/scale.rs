//! One requester's job among ever more machines: what finding a machine for a task costs, and what every machine costs the
//! others. The same world as `tests/network.rs` (long tasks, machines that vanish, rough links, wrong clocks, villains).
//!
//! `cargo bench --bench scale`, or with sizes and a seed of your own: `GLEAN_MACHINES=1000,5000 GLEAN_SEED=7 cargo bench --bench scale`.
//! `cargo xtask bench scale` draws docs/scale.svg from it.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops here")]

use std::time::Instant;

use allocation_counter::measure;
use glean_sim::{Guest, Link, World, seeds};

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
/// Tasks of the one job, of 10 to 30 s.
const TASKS: u32 = 20_000;
/// Machines for each index node.
const PER_INDEX_NODE: usize = 10_000;

fn world(seed: u64, machines: usize) -> World {
    let guest = Guest { fuel_min: 10_000_000_000, fuel_max: 30_000_000_000, ..Guest::default() };
    World::new(seed)
        .funds(100_000)
        .index_nodes(machines.div_ceil(PER_INDEX_NODE))
        .providers(machines)
        .guest(guest)
        .link(Link::rough())
        .clocks_off_by(3_600_000)
        .mixed_villains(machines / 50)
}

/// One world: what it costs, as a line that `cargo xtask bench` reads.
fn run(seed: u64, machines: usize) {
    let started = Instant::now();
    let mut made = None;
    // Until every machine has offered.
    let offered = measure(|| {
        let mut world = world(seed, machines);
        world.run_for(1_000);
        made = Some(world);
    });
    let mut world = made.unwrap().churn((2_000_000 / machines as u64).max(1), 600_000);
    let job = world.submit(TASKS, "20000");
    world.run();
    let view = world.view(job);
    assert_eq!((view.succeeded, view.tasks), (TASKS, TASKS), "{view:?}");
    let answers = TASKS + view.rechecked;
    let match_us = world.matching().as_micros() / u128::from(answers);
    let (shelf, took_s, known) = (world.shelf_len_max(), world.now_ms() / 1_000, world.requester().machines().len());
    let mut requester = Some(world.into_requester());
    let node = measure(|| drop(requester.take()));
    println!(
        "scale: machines {machines} match_us {match_us} machine_bytes {} requester_bytes {} shelf {shelf} known {known} \
         answers {answers} took_s {took_s} wall_s {}",
        offered.bytes_current / machines as i64,
        -node.bytes_current,
        started.elapsed().as_secs()
    );
}

fn main() {
    let sizes = std::env::var("GLEAN_MACHINES").ok();
    let sizes: Vec<usize> =
        sizes.map_or(SIZES.into(), |sizes| sizes.split(',').filter_map(|size| size.trim().parse().ok()).collect());
    for seed in seeds([1]) {
        sizes.iter().for_each(|machines| run(seed, *machines));
    }
}
