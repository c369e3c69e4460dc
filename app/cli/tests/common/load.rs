//! What the stories of sudden ends share: work to interrupt, a victim, and an audit of what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{LEDGER, Network, PROVIDER, REQUESTER, code, guest};

/// What a private network gives a newcomer.
const GRANT: f64 = 100.0;
/// What it keeps of every payment.
const FEE: f64 = 0.05;
/// Beyond this a job hangs: twice what it takes until a connection into nowhere is missed.
pub const JOB_PATIENCE: Duration = Duration::from_secs(150);
/// Tasks of a job.
pub const TASKS: u64 = 300;
/// A wait that takes longer says why.
const SLOW: Duration = Duration::from_secs(8);

pub fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Draws that follow from the seed.
pub struct Chance(u64, u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed, 0)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.1 += 1;
        let hash = splitmix(self.0, self.1);
        hash % n
    }
}

/// SplitMix64: small, and good enough to choose a victim.
fn splitmix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The process of a node, or a worker of the lender.
pub fn pid_of(network: &Network, victim: &str) -> Option<u32> {
    let node = if victim == "worker" { PROVIDER } else { victim };
    let file: Value = serde_json::from_slice(&std::fs::read(network.home(node).join("run/api.json")).ok()?).ok()?;
    let pid = u32::try_from(file["pid"].as_u64()?).ok()?;
    if victim != "worker" {
        return Some(pid);
    }
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let of_threads = threads.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok());
    let all = of_threads.chain([children]).collect::<Vec<_>>().join(" ");
    all.split_whitespace().filter_map(|pid| pid.parse().ok()).next()
}

pub fn kill(pid: u32) -> bool {
    std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// The node's processes of a host, also one that has only just begun.
pub fn nodes_of(network: &Network, node: &str) -> Vec<u32> {
    let of_this_home = format!("--home\0{}\0", network.home(node).display());
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&of_this_home)
    };
    pids.filter(is_one).collect()
}

/// Ends all that runs on a host, and waits until it is gone: only then its locks are free.
pub fn end(network: &Network, node: &str) {
    loop {
        let running = nodes_of(network, node);
        if running.is_empty() {
            return;
        }
        for pid in running {
            kill(pid);
        }
    }
}

/// The command line of a job of many small tasks that nobody waits for.
pub fn job() -> Vec<String> {
    ["run", &guest("noop"), "--array", &format!("1-{TASKS}"), "--detach"].map(str::to_owned).to_vec()
}

pub fn jobs(network: &Network) -> Vec<Value> {
    network.json(REQUESTER, &["jobs"]).as_array().unwrap().clone()
}

/// Brings every node back as its owner would, by any command, and waits until no job runs any more.
pub fn all_done(network: &Network, patience: Duration) -> Result<(), String> {
    let start = Instant::now();
    let mut is_slow = false;
    for node in [LEDGER, PROVIDER, REQUESTER] {
        network.ok(node, &["status"]);
    }
    while jobs(network).iter().any(|job| job["state"] == "running") {
        if start.elapsed() > SLOW && !std::mem::replace(&mut is_slow, true) {
            println!("slow: {:#}", network.json(REQUESTER, &["explain", "last"]));
        }
        if start.elapsed() > patience {
            return Err(format!("a job hangs: {:#?}", jobs(network)));
        }
    }
    Ok(())
}

pub fn money(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

/// What the two sides and the ledger say about the money.
#[derive(Debug, Clone)]
pub struct Books {
    /// What the buyer's jobs cost, one by one.
    pub spent: Vec<f64>,
    pub balance: f64,
    pub in_channels: f64,
    pub coming_home: f64,
    /// What the lender holds in vouchers,
    pub held: f64,
    /// what it has cashed,
    pub cashed: f64,
    /// and what the ledger has given it for that.
    pub paid_out: f64,
}

impl Books {
    fn read(network: &Network) -> Books {
        let (buyer, lender) = (network.json(REQUESTER, &["status"]), network.json(PROVIDER, &["status"]));
        let known = |value: &Value| value.as_str().map_or(f64::NAN, |text| text.parse().unwrap());
        Books {
            spent: jobs(network).iter().map(|job| money(&job["spent"])).collect(),
            balance: known(&buyer["balance"]),
            in_channels: known(&buyer["in_channels"]),
            coming_home: known(&buyer["coming_home"]),
            held: known(&lender["share"]["held"]),
            cashed: known(&lender["share"]["settled"]),
            paid_out: known(&lender["balance"]) - GRANT,
        }
    }

    /// What does not add up, or is not known.
    pub fn faults(&self) -> Vec<String> {
        let (spent, earned): (f64, f64) = (self.spent.iter().sum(), self.held + self.cashed);
        let mut faults = self.faults_of_lender();
        if differ(earned, spent, 1e-12) {
            faults.push(format!("the lender has {earned} of the {spent} that was paid"));
        }
        let sum = self.balance + self.in_channels + self.coming_home + spent;
        if differ(sum, GRANT, 1e-9) {
            faults.push(format!("the buyer has {sum} of {GRANT} gUSD"));
        }
        faults
    }

    /// Those that show even where the buyer is not to be believed.
    fn faults_of_lender(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if differ(self.held, 0.0, 0.0) {
            faults.push(format!("the lender holds {} that the ledger does not pay", self.held));
        }
        if differ(self.paid_out, self.cashed * (1.0 - FEE), 1e-9) {
            faults.push(format!(
                "the ledger has paid {} for the {} that the lender has cashed",
                self.paid_out, self.cashed
            ));
        }
        faults
    }
}

/// What is not known, NaN, differs from everything.
fn differ(a: f64, b: f64, most: f64) -> bool {
    (a - b).is_nan() || (a - b).abs() > most
}

/// Whether what was acknowledged is there, was done once, and the money adds up, once all that is on its way has arrived.
pub fn audit(network: &Network, acknowledged: u64, patience: Duration) -> Result<Books, String> {
    let all = jobs(network);
    let lost = |job: &&Value| (job["state"].as_str(), job["succeeded"].as_u64()) != (Some("succeeded"), Some(TASKS));
    if let Some(job) = all.iter().find(lost) {
        return Err(format!("not done: {job}"));
    }
    if (all.len() as u64) < acknowledged {
        return Err(format!("{} jobs of {acknowledged} acknowledged are there", all.len()));
    }
    // One more, so that a voucher whose way was cut is sent again. Refused while the ledger is not found again yet.
    let start = Instant::now();
    while code(&network.ran(REQUESTER, &["run", &guest("noop")])) != 0 {
        if start.elapsed() > patience {
            return Err("no job is taken on any more".into());
        }
    }
    let books = settled(network, Books::faults, patience)?;
    requests_were_done_once(network)?;
    slices_were_billed_once(network)?;
    network.ok(REQUESTER, &["receipt", "last", "--verify"]);
    Ok(books)
}

/// As much of the audit as can be asked of a lender whose buyer is not to be believed.
pub fn audit_of_lender(network: &Network, patience: Duration) -> Result<Books, String> {
    slices_were_billed_once(network)?;
    settled(network, Books::faults_of_lender, patience)
}

/// The books once nothing in them is amiss any more.
fn settled(network: &Network, faults: impl Fn(&Books) -> Vec<String>, patience: Duration) -> Result<Books, String> {
    let start = Instant::now();
    loop {
        let books = Books::read(network);
        let faults = faults(&books);
        if faults.is_empty() {
            return Ok(books);
        }
        if start.elapsed() > patience {
            return Err(format!("{}: {books:?}", faults.join("; ")));
        }
    }
}

/// No request, by its client's id, became two jobs.
fn requests_were_done_once(network: &Network) -> Result<(), String> {
    let mut known = BTreeSet::new();
    for record in records(network, REQUESTER, "Submitted") {
        let request = field(&record, "seed");
        if !known.insert(request.to_owned()) {
            return Err(format!("request {request} became two jobs"));
        }
    }
    match known.is_empty() {
        true => Err("the buyer's records name no job".into()),
        false => Ok(()),
    }
}

/// No slice was billed again once it was paid.
fn slices_were_billed_once(network: &Network) -> Result<(), String> {
    // By channel: what was billed since the last payment, and what before.
    let mut slices: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for record in records(network, PROVIDER, "") {
        let (open, paid) = slices.entry(field(&record, "channel").to_owned()).or_default();
        if record.starts_with("Earned(") {
            paid.append(open);
        } else if record.starts_with("Delivered(") {
            let slice = field(&record, "slice");
            if paid.contains(slice) {
                return Err(format!("slice {slice} was paid, and billed again"));
            }
            open.insert(slice.to_owned());
        }
    }
    match slices.values().all(|(open, paid)| open.is_empty() && paid.is_empty()) {
        true => Err("the lender's records name no slice".into()),
        false => Ok(()),
    }
}

/// The records of a kind that a node has on its disk, oldest first.
fn records(network: &Network, node: &str, kind: &str) -> Vec<String> {
    let shown = network.ok(node, &["debug", "journal", "--json"]);
    let of_frame = |line: &str| serde_json::from_str::<Value>(line).unwrap()["records"].as_array().unwrap().clone();
    let records = shown.lines().flat_map(of_frame).map(|record| record.as_str().unwrap().to_owned());
    records.filter(|record| record.starts_with(kind)).collect()
}

/// What a record says under a name, for the first time.
fn field<'a>(record: &'a str, name: &str) -> &'a str {
    let after = record.split_once(&format!(" {name}: ")).map_or("", |(_, after)| after);
    after.split([',', ' ']).next().unwrap_or_default()
}
