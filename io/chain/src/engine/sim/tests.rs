//! What four validators promise, seed by seed.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use commonware_runtime::deterministic::{self, Context};
use commonware_runtime::{Clock as _, Runner as _};
use commonware_utils::NZU64;

use super::evil::Evil;
use super::*;

/// Longest a world may take, simulated.
const WORLD_MAX: Duration = Duration::from_secs(600);
/// Trouble lasts so long.
const TROUBLE: Duration = Duration::from_secs(12);
/// The bar: blocks are final again so soon after the trouble is over.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// Blocks of an epoch: several pass in one world.
const SHORT_EPOCH: NonZeroU64 = NZU64!(20);
/// More than a world has blocks.
const ONE_EPOCH: NonZeroU64 = NZU64!(1_000_000);

/// Runs a world under a seed; what it came to, and the hash of all that happened.
fn under<T>(seed: u64, world: impl AsyncFnOnce(Context) -> T) -> (T, String) {
    let config = deterministic::Config::new().with_seed(seed).with_timeout(Some(WORLD_MAX));
    deterministic::Runner::new(config).start(|context| async move {
        let auditor = context.auditor();
        let came = world(context).await;
        (came, auditor.state())
    })
}

fn passed(context: &Context, since: SystemTime) -> Duration {
    context.current().duration_since(since).unwrap_or_default()
}

/// Seeds to run: those named here, so many as `GLEAN_SEEDS` says, or the one in `GLEAN_SEED`.
fn seeds(usual: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match (number("GLEAN_SEED"), number("GLEAN_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, many) => (1..=many.unwrap_or(usual)).collect(),
    }
}

/// What became of a world.
#[derive(Debug, Default)]
struct Fate {
    blocks: u64,
    receipts: u64,
    crashes: u64,
    cuts: u64,
    healed_ms: u64,
}

impl World {
    fn keepers(&self, nodes: &[usize]) -> Vec<Arc<Keeper>> {
        nodes.iter().map(|node| self.nodes[*node].keeper.clone()).collect()
    }

    /// Some of these crash and are started again, and links are cut, one way, for a while.
    async fn trouble(&mut self, fallible: &[usize], fate: &mut Fate) {
        let start = self.context.current();
        while passed(&self.context, start) < TROUBLE {
            let pause = 100 + self.chance(900) as u64;
            self.context.sleep(Duration::from_millis(pause)).await;
            match self.chance(10) {
                0..2 => fate.crashes += self.crash_one(fallible),
                2..5 => self.start_all(fallible),
                5..8 => {
                    let (from, to) = (self.chance(VALIDATORS), self.chance(VALIDATORS));
                    self.cut(from, to).await;
                    fate.cuts += 1;
                }
                _ => self.join_all().await,
            }
        }
    }

    /// Crashes one of these, if it lives; how many did.
    fn crash_one(&mut self, fallible: &[usize]) -> u64 {
        let node = fallible[self.chance(fallible.len())];
        let lives = self.nodes[node].life.is_some();
        self.crash(node);
        lives.into()
    }

    fn start_all(&mut self, nodes: &[usize]) {
        for node in nodes {
            if self.nodes[*node].life.is_none() {
                self.start(*node);
            }
        }
    }

    /// All links are there and lose nothing, and all of these live; how soon each of them has final blocks of after that, ms.
    async fn heal(&mut self, honest: &[usize], receipts: &mut [mpsc::UnboundedReceiver<u64>], fate: &mut Fate) {
        self.ground.arrive_percent = 100;
        for from in 0..VALIDATORS {
            for to in 0..VALIDATORS {
                self.cut(from, to).await;
            }
        }
        self.join_all().await;
        self.start_all(honest);
        let start = self.context.current();
        let keepers = self.keepers(honest);
        let before = keepers.iter().map(|keeper| keeper.head_number()).max().unwrap_or(0);
        for receipts in &mut *receipts {
            while receipts.try_recv().is_ok() {
                fate.receipts += 1;
            }
        }
        let is_well = |keeper: &Arc<Keeper>| keeper.head_number() > before + 1;
        let mut served = vec![false; receipts.len()];
        while !(keepers.iter().all(is_well) && served.iter().all(|served| *served)) {
            let heights: Vec<u64> = keepers.iter().map(|keeper| keeper.head_number()).collect();
            assert!(
                passed(&self.context, start) < HEALED_WITHIN,
                "after {before} blocks, and {} s after the trouble: {heights:?}, clients served: {served:?}",
                HEALED_WITHIN.as_secs()
            );
            self.context.sleep(Duration::from_millis(10)).await;
            for (receipts, served) in receipts.iter_mut().zip(&mut served) {
                *served |= receipts.try_recv().is_ok();
            }
        }
        fate.healed_ms = passed(&self.context, start).as_millis() as u64;
        fate.blocks = keepers[0].head_number();
    }

    /// Clients send, trouble comes and goes; what these validators made of it, if all is as it must be.
    async fn ordeal(&mut self, honest: &[usize]) -> Fate {
        let mut receipts: Vec<_> = (0..CLIENTS).map(|n| self.client(n, self.keepers(honest))).collect();
        let mut fate = Fate::default();
        self.trouble(honest, &mut fate).await;
        self.heal(honest, &mut receipts, &mut fate).await;
        self.check(honest);
        fate
    }

    /// What must be true at every end.
    fn check(&self, honest: &[usize]) {
        let keepers = self.keepers(honest);
        let forks = forks(&keepers.iter().map(|keeper| &**keeper).collect::<Vec<_>>());
        assert!(forks.is_empty(), "two final blocks at heights {forks:?}");
        for (node, keeper) in honest.iter().zip(&keepers) {
            assert_eq!(*keeper.failure().borrow(), None, "validator {node}");
        }
    }
}

/// A world of honest validators in trouble: lost messages, cut links, crashes.
async fn honest_world(context: Context, arrive_percent: u64) -> Fate {
    let ground = Ground { epoch_blocks: SHORT_EPOCH, arrive_percent };
    let mut world = World::lay(context, ground).await;
    let all: Vec<usize> = (0..VALIDATORS).collect();
    world.start_all(&all);
    world.ordeal(&all).await
}

/// The same with one of them evil; the others crash, too.
async fn evil_world(context: Context, arrive_percent: u64, evil: Evil) -> Fate {
    let ground = Ground { epoch_blocks: ONE_EPOCH, arrive_percent };
    let mut world = World::lay(context, ground).await;
    let liar = world.chance(VALIDATORS);
    let honest: Vec<usize> = (0..VALIDATORS).filter(|node| *node != liar).collect();
    world.start_all(&honest);
    let _evil = evil.start(&world.context, &world.committee(liar), &world.lines(liar)).await;
    world.ordeal(&honest).await
}

/// The same with twins in the place of one.
async fn twin_world(context: Context, arrive_percent: u64) -> Fate {
    let ground = Ground { epoch_blocks: ONE_EPOCH, arrive_percent };
    let mut world = World::lay(context, ground).await;
    let twin = world.chance(VALIDATORS);
    let honest: Vec<usize> = (0..VALIDATORS).filter(|node| *node != twin).collect();
    let mut friends = [BTreeSet::new(), BTreeSet::new()];
    for node in &honest {
        let who = world.chance(3);
        friends[0].extend((who != 1).then_some(*node));
        friends[1].extend((who != 0).then_some(*node));
    }
    world.start_all(&honest);
    let mut twins = Vec::new();
    for (number, lines) in world.twins(twin, friends).await.into_iter().enumerate() {
        let context = world.context.child("twin").with_attribute("number", number);
        twins.push(world.live(context, twin, keeper(&world.keys[twin]), lines, format!("twin{number}-")));
    }
    world.ordeal(&honest).await
}

/// Messages that arrive, of 100, by seed: between 70 and 100.
fn arrive(seed: u64) -> u64 {
    70 + seed * 7 % 31
}

/// How long each of a hundred transactions takes that are sent one by one where there is no trouble, ms, sorted.
async fn calm_world(context: Context, epoch_blocks: NonZeroU64) -> Vec<u64> {
    let mut world = World::lay(context, Ground { epoch_blocks, arrive_percent: 100 }).await;
    let all: Vec<usize> = (0..VALIDATORS).collect();
    world.start_all(&all);
    let mut receipts = world.client(0, world.keepers(&all));
    // Before the first, they find each other.
    receipts.recv().await.expect("the client lives");
    let mut took = Vec::new();
    while took.len() < 100 {
        took.push(receipts.recv().await.expect("the client lives"));
    }
    world.check(&all);
    took.sort_unstable();
    took
}

/// Four validators on links of 25 ms.
#[test]
fn four_validators_are_final_in_a_fraction_of_a_second() {
    let of = |epoch_blocks| {
        let (took, _) = under(1, async |context| calm_world(context, epoch_blocks).await);
        println!(
            "100 transactions one by one, epochs of {epoch_blocks} blocks: final after p50 {} ms, p99 {} ms",
            took[49], took[98]
        );
        (took[49], took[98])
    };
    let (p50, p99) = of(ONE_EPOCH);
    assert!(p50 <= 200 && p99 <= 600, "the bars of simulated links of 25 ms");
    // Every twentieth block waits until all have gathered in the next epoch.
    let (_, p99) = of(SHORT_EPOCH);
    assert!(p99 <= 1_000, "an epoch's change takes {p99} ms");
}

#[test]
fn the_same_seed_is_the_same_history() {
    let of = |seed| under(seed, async |context| honest_world(context, 90).await).1;
    assert_eq!(of(3), of(3));
    assert_ne!(of(3), of(4));
}

/// One seed's world: all honest, one evil, or one twinned, in turn.
fn troubled_world(seed: u64) -> Fate {
    let arrive = arrive(seed);
    let (fate, _) = under(seed, async |context| match seed % 3 {
        0 => honest_world(context, arrive).await,
        1 => evil_world(context, arrive, Evil::ALL[seed as usize / 3 % Evil::ALL.len()]).await,
        _ => twin_world(context, arrive).await,
    });
    fate
}

/// Runs the worlds of these seeds on all processors. One that fails names its seed.
fn troubled_worlds(seeds: &[u64]) -> Vec<Fate> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut fates = Vec::new();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let fate = catch_unwind(|| troubled_world(*seed));
            fates.push(fate.unwrap_or_else(|_| panic!("seed {seed}: replay it with GLEAN_SEED={seed}")));
        }
        fates
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("see above")).collect()
    })
}

#[test]
fn no_trouble_makes_two_final_blocks_or_keeps_them_away_for_long() {
    let fates = troubled_worlds(&seeds(500));
    let sum = |part: fn(&Fate) -> u64| fates.iter().map(part).sum::<u64>();
    let slowest = fates.iter().map(|fate| fate.healed_ms).max().unwrap_or(0);
    println!(
        r#"BAR {{"bar":"validators","what":"simulated networks of 4 validators in trouble, one of them evil or twinned in two of three: two final blocks at one height, a validator stopped, no final block and receipt within 30 s after","runs":{},"control":"two of four evil make two final chains","note":"up to 30 % of messages lost; {} links cut one way, {} crashes, {} blocks, {} receipts in the trouble; final again after at most {slowest} ms"}}"#,
        fates.len(),
        sum(|fate| fate.cuts),
        sum(|fate| fate.crashes),
        sum(|fate| fate.blocks),
        sum(|fate| fate.receipts),
    );
}

/// Control: with two of four evil there are two final chains, and the look at the ends sees it.
#[test]
fn two_of_four_evil_make_two_chains() {
    under(1, async |context| {
        let ground = Ground { epoch_blocks: ONE_EPOCH, arrive_percent: 100 };
        // The evil ones lead two lives, in one network with the first honest one, in another with the second.
        let mut lives =
            [World::lay(context.child("one"), ground).await, World::lay(context.child("other"), ground).await];
        let mut heads = Vec::new();
        for (honest, world) in lives.iter_mut().enumerate() {
            for node in [honest, 2, 3] {
                let context = world.context.child("validator").with_attribute("number", node);
                let keeper = world.nodes[node].keeper.clone();
                let life = world.live(context, node, keeper, world.lines(node), format!("{honest}-{node}-"));
                world.nodes[node].life = Some(life);
            }
            let keeper = world.nodes[honest].keeper.clone();
            let mut receipts = world.client(honest as u8, vec![keeper.clone()]);
            receipts.recv().await.expect("the client lives");
            heads.push(keeper);
        }
        let forks = forks(&heads.iter().map(|keeper| &**keeper).collect::<Vec<_>>());
        assert!(!forks.is_empty(), "two of four could not fork: then what do the other tests show?");
        println!("two of four evil: two final blocks at {} heights", forks.len());
    });
}
