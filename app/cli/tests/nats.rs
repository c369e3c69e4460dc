//! Networks as they are: hosts behind routers of every kind, a line that loses one packet in five, a relay that is killed,
//! and a stranger who floods.
//!
//! Every story has an internet of its own: a bridge in a namespace, on it the ledger node (which keeps relay and index), the
//! outer sides of routers, and behind these a lender and a buyer. nft does the routers' address translation, drops what is to
//! be dropped, and counts, so that what the program says about its paths is compared with what the routers saw.
//!
//! Needs root, iproute2 and nftables on Linux; elsewhere it prints SKIPPED with the reason.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;
#[path = "nats/stranger.rs"]
mod stranger;

use std::fmt;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use glean_net::NetLimits;
use serde_json::Value;

use common::hosts::{Host, Namespace, books_agree, eventually, example, join_line, spent, watch};
use stranger::Manner;

/// Tasks of a short job.
const TASKS: u64 = 40;
/// The figures of a story are its own, not of everything at once.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// How long a thing that must not happen is waited for.
const NOT_WITHIN: Duration = Duration::from_secs(15);
/// How long two hosts may take to find a direct path.
const PATH_WITHIN: Duration = Duration::from_secs(60);
/// How long a line is cut.
const CUT: Duration = Duration::from_secs(30);
/// What had come across before it was cut is told within this.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// A flood has begun when a node has seen so many handshakes, and has so many half open.
const HANDSHAKES_MIN: u64 = 100;
const HALF_OPEN_MIN: u64 = 32;
/// What the transport keeps of its own for one connection, amply.
const CONNECTION_BYTES: u64 = 256 << 10;
/// A node without limits has outgrown those of others by then.
const FLOOD_PATIENCE: Duration = Duration::from_secs(90);
/// Tasks of a job with outputs.
const TILES: u64 = 24;
/// What one of them brings.
const TILE_BYTES: u64 = 100 * 100 * 3;
/// Tasks of a job that is long enough for trouble.
const LONG: u64 = 96;

/// What stands between a host and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing.
    Open,
    /// A router that keeps port numbers, and lets in only answers.
    Home,
    /// One that takes another port number for every peer: nobody can say in advance which.
    Symmetric,
    /// A home router behind one of the carrier.
    Carrier,
    /// A home router that lets no UDP out.
    NoUdp,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Open => "open",
            Place::Home => "home",
            Place::Symmetric => "symmetric",
            Place::Carrier => "carrier's",
            Place::NoUdp => "no UDP",
        })
    }
}

/// Lender and buyer, and whether they can have a direct path.
const PAIRS: [(Place, Place, &str); 7] = [
    (Place::Home, Place::Home, "direct"),
    (Place::Home, Place::Symmetric, "relayed"),
    (Place::Symmetric, Place::Home, "relayed"),
    (Place::Symmetric, Place::Symmetric, "relayed"),
    (Place::Carrier, Place::Home, "direct"),
    (Place::Carrier, Place::Carrier, "direct"),
    (Place::NoUdp, Place::Home, "relayed"),
];

/// A host and the routers between it and the internet, the outermost first.
struct Site {
    host: Host,
    routers: Vec<Namespace>,
}

/// An internet with three hosts on it.
struct World {
    buyer: Site,
    lender: Site,
    ledger: Site,
    internet: Namespace,
    name: String,
    /// Goes last: the nodes live in it.
    folder: tempfile::TempDir,
}

const LEDGER: u8 = 1;
const LENDER: u8 = 2;
const BUYER: u8 = 3;
const STRANGER: u8 = 9;
const MUTE: u8 = 10;
const BARE: u8 = 11;

fn public(number: u8) -> String {
    format!("203.0.113.{number}")
}

impl World {
    fn lay(name: &str, lender: Place, buyer: Place) -> Result<World, String> {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("glean-{}-{name}", std::process::id());
        let internet = Namespace::add(format!("{name}-net"))?;
        internet.ip(&["link", "add", "bridge", "type", "bridge"])?;
        internet.ip(&["link", "set", "bridge", "up"])?;
        let site = |who: &str, place, number, peer| {
            let home = folder.path().join(who);
            let host = Host { namespace: Namespace::add(format!("{name}-{who}"))?, home };
            let routers = connect(&internet, &host.namespace, place, number, peer)?;
            Ok::<Site, String>(Site { host, routers })
        };
        let ledger = site("ledger", Place::Open, LEDGER, 0)?;
        let lender = site("lender", lender, LENDER, BUYER)?;
        let buyer = site("buyer", buyer, BUYER, LENDER)?;
        Ok(World { buyer, lender, ledger, internet, name, folder })
    }

    /// The same, and all have joined one network, in which the lender lends.
    fn open(name: &str, lender: Place, buyer: Place) -> World {
        let world = World::lay(name, lender, buyer).unwrap();
        world.open_lab();
        world
    }

    fn open_lab(&self) {
        let line = join_line(&self.ledger.host);
        self.lender.host.ok(&["join", &line]);
        self.lender.host.ok(&["share", "--yes", "--cores", "1", "--detach"]);
        self.buyer.host.ok(&["join", &line]);
    }

    /// A short job, run to its end; what it cost.
    fn short_job(&self) -> f64 {
        self.buyer.host.ok(&short_job());
        self.finished(TASKS)
    }

    /// A long one.
    fn long_job(&self) -> f64 {
        self.buyer.host.ok(&tiles(LONG, &["--max", "1"]));
        self.finished(LONG)
    }

    /// The newest job has all its answers, some of them were checked, and its receipts hold. What it cost.
    fn finished(&self, tasks: u64) -> f64 {
        let buyer = &self.buyer.host;
        let job = buyer.job();
        assert_eq!((job["state"].as_str(), job["succeeded"].as_u64()), (Some("succeeded"), Some(tasks)), "{job}");
        buyer.ok(&["receipt", "last", "--verify"]);
        spent(&job)
    }

    fn path(&self) -> Value {
        self.buyer.host.json(&["machines"])[0]["path"].clone()
    }

    /// Bytes that came by UDP to the outer routers of lender and buyer straight from the other one, and were let through.
    fn direct_bytes(&self) -> [u64; 2] {
        [&self.lender, &self.buyer].map(|site| counter(&site.routers[0], "from_peer").1)
    }
}

fn short_job() -> Vec<String> {
    ["run", &example("guests/echo.wasm"), "--array", "1-40", "--max", "1"].map(str::to_owned).to_vec()
}

/// Puts a host in its place; its routers, the outermost first.
fn connect(
    internet: &Namespace,
    host: &Namespace,
    place: Place,
    number: u8,
    peer: u8,
) -> Result<Vec<Namespace>, String> {
    let router = |kind: &str| Namespace::add(format!("{}-{kind}", host.name));
    let mut routers = match place {
        Place::Open => {
            plug(internet, host, "eth0", number)?;
            return Ok(Vec::new());
        }
        Place::Carrier => {
            let (carrier, home) = (router("carrier")?, router("home")?);
            plug(internet, &carrier, "wan", number)?;
            behind(&carrier, &home, "wan", "100.64.0")?;
            vec![carrier, home]
        }
        Place::Home | Place::Symmetric | Place::NoUdp => {
            let home = router("home")?;
            plug(internet, &home, "wan", number)?;
            vec![home]
        }
    };
    behind(routers.last().unwrap(), host, "eth0", &format!("10.0.{number}"))?;
    for router in &mut routers {
        router.tool("nft", &["-f", "-"], &rules(place, peer))?;
        router.tool("tee", &["/proc/sys/net/ipv4/ip_forward"], "1")?;
    }
    Ok(routers)
}

/// Gives this end an address on the internet.
fn plug(internet: &Namespace, there: &Namespace, end: &str, number: u8) -> Result<(), String> {
    let port = format!("port{number}");
    there.cable(end, internet, &port)?;
    internet.ip(&["link", "set", &port, "master", "bridge"])?;
    there.address(end, &format!("{}/24", public(number)))
}

/// Puts this end behind a router.
fn behind(router: &Namespace, there: &Namespace, end: &str, net: &str) -> Result<(), String> {
    there.cable(end, router, "lan")?;
    router.address("lan", &format!("{net}.1/24"))?;
    there.address(end, &format!("{net}.2/24"))?;
    there.ip(&["route", "add", "default", "via", &format!("{net}.1")])
}

/// Like most routers: out goes everything, under the router's own address; in comes what answers it, and nothing else.
fn rules(place: Place, peer: u8) -> String {
    let (ports, udp) = match place {
        Place::Symmetric => ("random,fully-random", ""),
        Place::NoUdp => ("", "meta l4proto udp counter name no_udp drop"),
        _ => ("", ""),
    };
    let peer = public(peer);
    format!(
        r#"table ip router {{
            counter from_peer {{}}
            counter no_udp {{}}
            counter no_relay {{}}
            counter passed {{}}
            counter lost_in {{}}
            counter lost_out {{}}
            chain trouble {{}}
            chain pass {{
                type filter hook forward priority filter; policy drop;
                {udp}
                counter name passed
                jump trouble
                iifname "wan" ip saddr {peer} meta l4proto udp counter name from_peer
                ct state established,related accept
                iifname "lan" accept
            }}
            chain enter {{
                type filter hook input priority filter;
                iifname "wan" ct state new drop
            }}
            chain leave {{
                type nat hook postrouting priority srcnat;
                oifname "wan" masquerade {ports}
            }}
        }}"#
    )
}

/// Packets that a rule has counted.
fn count(place: &Namespace, name: &str) -> u64 {
    counter(place, name).0
}

/// Packets and bytes. (What the kernel handles in one go is one packet, and may be many datagrams.)
fn counter(place: &Namespace, name: &str) -> (u64, u64) {
    let shown = place.tool("nft", &["list", "counter", "ip", "router", name], "").unwrap();
    let number = |after: &str| {
        let rest = shown.split(after).nth(1).unwrap_or_else(|| panic!("no `{after}` in {shown}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    (number("packets "), number(" bytes "))
}

fn trouble(router: &Namespace, rule: &str) {
    router.tool("nft", &["-f", "-"], &format!("add rule ip router trouble {rule}")).unwrap();
}

fn no_trouble(router: &Namespace) {
    router.tool("nft", &["flush", "chain", "ip", "router", "trouble"], "").unwrap();
}

/// One pair: small jobs until it has the path that it is going to have, then one with outputs.
fn pair(number: usize) -> String {
    let (lender, buyer, expected) = PAIRS[number];
    let world = World::open(&format!("p{number}"), lender, buyer);
    let start = Instant::now();
    let mut cost = world.short_job();
    // Without work the two part after some seconds, and look for a path anew with the next job.
    while world.path() != expected {
        assert!(start.elapsed() < PATH_WITHIN, "{lender} x {buyer}: not {expected} within {PATH_WITHIN:?}");
        cost += world.short_job();
    }
    let before = world.direct_bytes();
    world.buyer.host.ok(&tiles(TILES, &["--max", "1"]));
    cost += world.finished(TILES);
    let passed = world.direct_bytes();
    assert_eq!(world.path(), expected, "{lender} x {buyer}: {passed:?}");
    println!("{lender} x {buyer}: {expected}; bytes straight from the other one: {before:?}, then {passed:?}");
    match expected {
        "direct" => assert!(passed[1] - before[1] >= TILES * TILE_BYTES, "{before:?} {passed:?}"),
        _ => assert_eq!(passed, [0, 0], "the routers let through what cannot be: {lender} x {buyer}"),
    }
    if lender == Place::NoUdp {
        assert!(count(&world.lender.routers[0], "no_udp") > 0, "nothing was blocked");
    }
    books_agree(&world.lender.host, cost);
    format!("{lender} x {buyer} {expected}")
}

/// Without UDP and without the relay nothing can work, so it is the relay that makes it work; and it goes on as soon as the
/// relay is there again.
fn no_udp_and_no_relay() -> String {
    let world = World::open("nr", Place::NoUdp, Place::Home);
    let router = &world.lender.routers[0];
    trouble(router, &format!("ip daddr {} meta l4proto tcp counter name no_relay drop", public(LEDGER)));
    let mut run = world.buyer.host.start(&short_job());
    watch(NOT_WITHIN, || {
        let job = world.buyer.host.job();
        assert_eq!(job["succeeded"].as_u64().unwrap_or(0), 0, "answers came without any path: {job}");
        assert!(run.try_wait().unwrap().is_none(), "{job}");
    });
    assert_eq!(world.buyer.host.job()["state"], "running");
    assert!(count(router, "no_relay") > 0, "the relay was never out of reach");
    no_trouble(router);
    assert!(run.wait().unwrap().success());
    books_agree(&world.lender.host, world.finished(TASKS));
    format!("without UDP and relay 0 of {TASKS} tasks in {} s", NOT_WITHIN.as_secs())
}

/// One packet in five is lost, each way, from before the lender joins.
fn loss() -> String {
    let world = World::lay("ls", Place::Home, Place::Home).unwrap();
    let router = &world.lender.routers[0];
    for (from, counter) in [("wan", "lost_in"), ("lan", "lost_out")] {
        trouble(router, &format!("iifname {from} numgen random mod 100 < 20 counter name {counter} drop"));
    }
    world.open_lab();
    let (out, data) = (world.folder.path().join("out"), format!("{}:/data", example("sqlite/data")));
    let out = out.to_str().unwrap();
    let tasks = tiles(TILES, &["--max", "1", "--input", &data, "--out", out]);
    world.buyer.host.ok(&tasks);
    books_agree(&world.lender.host, world.finished(TILES));
    let pictures = common::files(std::path::Path::new(out)).iter().filter(|name| name.ends_with(".out")).count();
    assert_eq!(pictures as u64, TILES);
    let [passed, lost_in, lost_out] = ["passed", "lost_in", "lost_out"].map(|name| count(router, name));
    println!("loss: {lost_in} packets lost on their way in, {lost_out} on their way out, of {passed}");
    let share = (lost_in + lost_out) as f64 / passed as f64;
    assert!(lost_in > 20 && lost_out > 20 && (0.15..0.25).contains(&share), "{share}");
    format!("{lost_in} + {lost_out} of {passed} packets lost")
}

/// A path tracer's picture in so many tiles.
fn tiles(count: u64, options: &[&str]) -> Vec<String> {
    let grid = format!("{}x4", count / 4);
    let tracer = example("path-tracer/path-tracer.wasm");
    let array = format!("0-{}", count - 1);
    let mut args = vec!["run", &tracer, "--array", &array];
    args.extend(options);
    args.extend(["--", "--tile", "{}", "--tiles", &grid, "--size", "600x400", "--spp", "16"]);
    args.into_iter().map(str::to_owned).collect()
}

/// The ledger node, which keeps the relay, is killed while lender and buyer talk over it; its owner's next command starts it
/// again.
fn relay_killed() -> String {
    let world = World::open("rk", Place::NoUdp, Place::Home);
    let again = || drop(world.ledger.host.ok(&["status"]));
    let (before, after) = interrupted(&world, NOT_WITHIN, || kill(&world.ledger.host), again);
    println!("the relay was killed after {before} of {LONG} tasks; over {after} s after its owner's next command");
    format!("relay killed after {before} of {LONG} tasks")
}

/// Somebody trips over the lender's line, and it is mended after half a minute.
fn cut() -> String {
    let world = World::open("ct", Place::Home, Place::Home);
    let set = |state| world.lender.routers[0].ip(&["link", "set", "wan", state]).unwrap();
    let (before, after) = interrupted(&world, CUT, || set("down"), || set("up"));
    println!("the line was cut after {before} of {LONG} tasks; over {after} s after it was mended");
    format!("line cut for {} s after {before} of {LONG} tasks", CUT.as_secs())
}

/// A long job that is stopped for so long after some answers; how many, and how many seconds it took after it could go on.
/// What has come may still be checked by our own worker while nothing comes: it counts from when it is here.
fn interrupted(world: &World, outage: Duration, stop: impl Fn(), go_on: impl Fn()) -> (u64, u64) {
    let tasks = tiles(LONG, &["--max", "1"]);
    let mut run = world.buyer.host.start(&tasks);
    let came =
        |job: &Value| ["succeeded", "checking"].map(|state| job[state].as_u64().unwrap_or(0)).iter().sum::<u64>();
    eventually("some answers are there", || came(&world.buyer.host.job()) >= 4);
    stop();
    watch(ON_ITS_WAY, || ());
    let job = world.buyer.host.job();
    let before = came(&job);
    assert!(before < LONG, "the trouble came too late to mean anything");
    watch(outage, || {
        let now = world.buyer.host.job();
        assert_eq!(came(&now), before, "answers came where nothing can: {job}, then {now}");
    });
    go_on();
    let start = Instant::now();
    assert!(run.wait().unwrap().success());
    let after = start.elapsed().as_secs();
    books_agree(&world.lender.host, world.finished(LONG));
    (before, after)
}

fn api(host: &Host) -> Value {
    serde_json::from_slice(&std::fs::read(host.home.join("run/api.json")).unwrap()).unwrap()
}

fn kill(host: &Host) {
    let pid = api(host)["pid"].as_u64().unwrap();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// A stranger fills a line of 200 Mbit/s with random datagrams to the sockets of lender and ledger.
fn flood() -> String {
    let world = World::open("fl", Place::Open, Place::Home);
    let start = Instant::now();
    let calm = (world.long_job(), start.elapsed());
    let stranger = Namespace::add(format!("{}-stranger", world.name)).unwrap();
    plug(&world.internet, &stranger, "eth0", STRANGER).unwrap();
    let line = ["qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "200mbit", "burst", "64kb", "limit", "256kb"];
    stranger.tool("tc", &line, "").unwrap();
    let victims = [(&world.lender.host, LENDER), (&world.ledger.host, LEDGER)];
    let mut floods = victims.map(|(host, number)| Flood::begin(&stranger, host, number));
    eventually("the flood has begun", || victims.iter().all(|(host, _)| count(&host.namespace, "flood") > 1000));
    let start = Instant::now();
    let cost = world.long_job();
    let took = start.elapsed();
    let came = victims.map(|(host, _)| count(&host.namespace, "flood"));
    assert!(floods.iter_mut().all(|flood| flood.0.try_wait().unwrap().is_none()), "the flood dried up: {came:?}");
    books_agree(&world.lender.host, calm.0 + cost);
    println!(
        "flood: {} datagrams to the lender, {} to the ledger; the job took {} ms, without the flood {} ms",
        came[0],
        came[1],
        took.as_millis(),
        calm.1.as_millis()
    );
    format!("{} random datagrams came", came[0] + came[1])
}

/// A stream of random datagrams; dry when dropped.
struct Flood(Child);

/// The port that a node listens on.
fn port(host: &Host) -> u16 {
    std::fs::read_to_string(host.home.join("run/port.json")).unwrap().trim().parse().unwrap()
}

impl Flood {
    fn begin(stranger: &Namespace, victim: &Host, number: u8) -> Flood {
        let (from, port) = (public(STRANGER), port(victim));
        let rules = format!(
            "table ip router {{
                counter flood {{}}
                chain enter {{
                    type filter hook input priority filter;
                    ip saddr {from} udp dport {port} counter name flood
                }}
            }}"
        );
        victim.namespace.tool("nft", &["-f", "-"], &rules).unwrap();
        let stream = format!("exec dd if=/dev/urandom bs=1200 status=none >/dev/udp/{}/{port}", public(number));
        let mut command = stranger.command("bash");
        command.args(["-c", &stream]).stdin(Stdio::null()).stdout(Stdio::null());
        Flood(command.spawn().unwrap())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // One that is dead already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a flood may make a node keep, bytes: what the limits let the one address have that completes its handshakes.
/// What is not complete grows in buffers by doubling; and the transport keeps something for each connection.
fn growth_max() -> u64 {
    let limits = NetLimits::default();
    let connection = u64::from(limits.unread_bytes_incoming_max) + CONNECTION_BYTES;
    limits.connections_per_ip_max as u64 * connection + 2 * limits.unfinished_bytes_per_ip_max as u64
}

/// A number that a node shows whoever watches it.
fn metric(host: &Host, name: &str) -> u64 {
    let url = api(host)["url"].as_str().unwrap().trim_start_matches("http://").to_owned();
    let ask = format!(
        "exec 3<>/dev/tcp/{}; printf 'GET /metrics HTTP/1.0\\r\\nHost: {url}\\r\\n\\r\\n' >&3; cat <&3",
        url.replace(':', "/")
    );
    let page = host.namespace.tool("bash", &["-c", &ask], "").unwrap();
    let name = format!("glean_net_{name}_total ");
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_else(|| panic!("no {name}in {page}"))
}

/// Memory of a process, bytes.
fn resident(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// A node under flood.
struct Victim<'a> {
    host: &'a Host,
    at: SocketAddr,
    pid: u64,
    handshakes: u64,
    memory: u64,
    memory_most: u64,
}

impl Victim<'_> {
    fn of(host: &Host, number: u8) -> Victim<'_> {
        let pid = api(host)["pid"].as_u64().unwrap();
        let at = format!("{}:{}", public(number), port(host)).parse().unwrap();
        let memory = resident(pid);
        Victim { host, at, pid, handshakes: metric(host, "handshakes"), memory, memory_most: memory }
    }

    fn look(&mut self) {
        self.memory_most = self.memory_most.max(resident(self.pid));
    }

    fn growth(&self) -> u64 {
        self.memory_most - self.memory
    }
}

/// A job of whoever has only just started and knows nobody, and how long it took.
fn job_of_a_newcomer(world: &World, mut look: impl FnMut()) -> (f64, Duration) {
    world.buyer.host.ok(&["node", "--stop"]);
    let start = Instant::now();
    let mut run = world.buyer.host.start(&tiles(TILES, &["--max", "1"]));
    let status = loop {
        if let Some(status) = run.try_wait().unwrap() {
            break status;
        }
        look();
        std::thread::sleep(Duration::from_millis(50));
    };
    let took = start.elapsed();
    assert!(status.success(), "{}", world.buyer.host.job());
    (world.finished(TILES), took)
}

/// Where strangers live. One hears nothing of an answer but that it must prove its address, which it then does.
fn strangers(world: &World) -> [(Manner, Namespace); 2] {
    [(Manner::Rude, STRANGER), (Manner::Mute, MUTE)].map(|(manner, number)| {
        let place = Namespace::add(format!("{}-stranger{number}", world.name)).unwrap();
        plug(&world.internet, &place, "eth0", number).unwrap();
        if manner == Manner::Mute {
            // The first byte of a QUIC packet says of which kind it is.
            let rules = "table ip mute { chain enter { type filter hook input priority filter; \
                         meta l4proto udp @th,64,8 & 0xf0 != 0xf0 drop; }; }";
            place.tool("nft", &["-f", "-"], rules).unwrap();
        }
        (manner, place)
    })
}

fn let_loose(place: &Namespace, orders: &str) -> Flood {
    let mut command = stranger::again(place, orders);
    Flood(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
}

/// Strangers flood lender and ledger with real handshakes under ever new keys: some left half open, some idle ever
/// after, some followed by junk on every protocol.
#[test]
fn a_flood_of_handshakes_costs_time_and_nothing_else() {
    let _alone = ONE_AT_A_TIME.lock();
    if let Err(why) = World::lay("try-hs", Place::Open, Place::Home) {
        println!("SKIPPED: no network of namespaces and routers can be made here: {why}");
        return;
    }
    let world = World::open("hs", Place::Open, Place::Home);
    world.short_job();
    let calm = job_of_a_newcomer(&world, || ());
    let mut victims = [Victim::of(&world.lender.host, LENDER), Victim::of(&world.ledger.host, LEDGER)];
    let strangers = strangers(&world);
    let start = Instant::now();
    let mut floods = Vec::new();
    for victim in &victims {
        let node = victim.host.json(&["status"])["node"].as_str().unwrap().to_owned();
        let orders = |manner| stranger::flood_orders(manner, &node, victim.at);
        floods.extend(strangers.iter().map(|(manner, place)| let_loose(place, &orders(*manner))));
    }
    let live = |victim: &Victim| metric(victim.host, "handshakes_live");
    eventually("the flood has begun", || {
        victims.iter().all(|v| metric(v.host, "handshakes") > v.handshakes + HANDSHAKES_MIN && live(v) >= HALF_OPEN_MIN)
    });
    let (cost, took) = job_of_a_newcomer(&world, || victims.iter_mut().for_each(Victim::look));
    assert!(floods.iter_mut().all(|flood| flood.0.try_wait().unwrap().is_none()), "the flood dried up");
    let per_second =
        victims.each_ref().map(|v| (metric(v.host, "handshakes") - v.handshakes) / start.elapsed().as_secs());
    let half_open = victims.each_ref().map(live);
    drop(floods);
    let grown = victims.each_ref().map(|v| v.growth() >> 20);
    println!(
        "handshakes: {per_second:?} a second at lender and ledger, {half_open:?} half open; the job took {} ms, without the \
         flood {} ms; memory grew by {grown:?} MiB, of at most {} MiB",
        took.as_millis(),
        calm.1.as_millis(),
        growth_max() >> 20
    );
    assert!(victims.iter().all(|v| v.growth() <= growth_max()), "{grown:?} MiB");
    let spent: f64 = world.buyer.host.json(&["jobs"]).as_array().unwrap().iter().map(spent).sum();
    assert!(spent > cost + calm.0);
    books_agree(&world.lender.host, spent);
    let (without, after) = flood_without_limits(&world, &strangers[0].1);
    println!(
        r#"BAR {{"bar":"handshakes","what":"jobs of a newcomer while strangers with ever new keys flood lender and ledger with handshakes, half open, idle and followed by junk: jobs not finished, receipts that do not hold, money amiss, memory beyond the limits","runs":1,"control":"an endpoint without limits grows by {} MiB within {after} s","note":"{} and {} handshakes a second at lender and ledger, {} and {} half open; the job took {} ms, without the flood {} ms; memory grew by {} and {} MiB, of at most {}"}}"#,
        without >> 20,
        per_second[0],
        per_second[1],
        half_open[0],
        half_open[1],
        took.as_millis(),
        calm.1.as_millis(),
        grown[0],
        grown[1],
        growth_max() >> 20
    );
}

/// Control: the same stranger and an endpoint whose limits are lifted. By how much it grows, in how many seconds; it is
/// ended when it has grown too much.
fn flood_without_limits(world: &World, stranger: &Namespace) -> (u64, u64) {
    let place = Namespace::add(format!("{}-bare", world.name)).unwrap();
    plug(&world.internet, &place, "eth0", BARE).unwrap();
    // `ip netns exec` becomes the program that it starts.
    let bare = let_loose(&place, &stranger::victim_orders(false));
    let pid = u64::from(bare.0.id());
    let (node, port) = stranger::victim();
    let before = resident(pid);
    let start = Instant::now();
    let _flood = let_loose(
        stranger,
        &stranger::flood_orders(Manner::Rude, &node, SocketAddr::new(public(BARE).parse().unwrap(), port)),
    );
    while resident(pid) <= before + growth_max() {
        assert!(start.elapsed() < FLOOD_PATIENCE, "limits or none, it is all the same: {} KiB", resident(pid) >> 10);
        std::thread::sleep(Duration::from_millis(20));
    }
    (resident(pid) - before, start.elapsed().as_secs())
}

/// Not a story: what this file is when a story starts it again inside a namespace.
#[test]
fn second_life() {
    if let Ok(orders) = std::env::var(stranger::ORDERS) {
        stranger::obey(&orders);
    }
}

#[test]
fn bad_networks_cost_time_and_nothing_else() {
    let _alone = ONE_AT_A_TIME.lock();
    let possible = World::lay("try", Place::Symmetric, Place::Carrier);
    if let Err(why) = possible.and_then(|world| world.internet.tool("bash", &["-c", "dd --version"], "")) {
        println!("SKIPPED: no network of namespaces and routers can be made here: {why}");
        return;
    }
    let (pairs, stories) = std::thread::scope(|scope| {
        let stories = [no_udp_and_no_relay, loss, relay_killed, cut, flood].map(|story| scope.spawn(story));
        let pairs: Vec<_> = (0..PAIRS.len()).map(|number| scope.spawn(move || pair(number))).collect();
        let told = |thread: std::thread::ScopedJoinHandle<'_, String>| thread.join().unwrap();
        (pairs.into_iter().map(told).collect::<Vec<_>>(), stories.map(told))
    });
    let [without, lost, killed, cut, flooded] = stories;
    // Two jobs a pair and two under the flood, one in each of the other stories.
    let jobs = 2 * PAIRS.len() + 6;
    println!(
        r#"BAR {{"bar":"networks","what":"jobs on networks of routers, UDP blocked, one packet in five lost, the relay killed, the line cut, a stranger flooding: jobs not finished, receipts that do not hold, money amiss","runs":{jobs},"control":"{without}","note":"{}; {lost}; {killed}; {cut}; {flooded}"}}"#,
        pairs.join(", ")
    );
}
