//! The demo: a whole network on this machine, one liar in it, a picture, and receipts that are checked from disk.
//!
//! ```text
//! glean-demo/net/{ledger,p1,p2,p3,you}   homes of five real nodes, each a process of its own
//!            job.json                    the request's id: a second run goes on with the same job
//!            results/                    a tile per task, manifest.json
//!            picture.png  receipts.json
//! ```
//!
//! What must stay true: every number on the screen is read from the node, the ledger or a receipt; the exit code
//! is 0 only if every receipt verifies again from the file; Ctrl-C at any moment leaves a folder that the next
//! run goes on with.

mod house;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use glean_node::api::types::{JobAccepted, JobRequest, JobSummary, ReceiptBundle, Status, TaskLine, TaskList};
use glean_types::{Address, Amount, B256, Hash};

use self::house::{House, PROVIDERS};
use crate::args::DemoArgs;
use crate::client::Client;
use crate::commands::{Context, Sink, deliver, read_bundle, request_id, say_report, watch, write_bundle};
use crate::fail::EXIT_INTERRUPTED;
use crate::follow::{Follow, Interrupts};
use crate::out_dir::OutDir;
use crate::picture;
use crate::text;
use crate::ui::Ui;
use crate::verify::{VerifyReport, verify};

/// The showcase program: a path tracer, C, built by the script beside it.
const PROGRAM: &[u8] = include_bytes!("../../../../examples/path-tracer/path-tracer.wasm");
/// How the picture is cut.
const TILES: (u64, u64) = (12, 8);
/// Its size and the light samples of a pixel.
const ARGS: [&str; 8] = ["--tile", "{}", "--tiles", "12x8", "--size", "1200x800", "--spp", "4"];
/// The cap: far above what it costs.
const MAX: Amount = Amount::whole(5);
/// How long to wait for the first credits, and for the last payments.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often to look.
const POLL_EVERY: Duration = Duration::from_millis(25);

/// `glean` and `glean demo`.
pub async fn demo(context: &Context, args: DemoArgs) -> Result<u8> {
    let ui = &context.ui;
    let mut interrupts = Interrupts::listen();
    if args.fresh {
        forget(&args.dir)?;
    }
    let mut house = House::open(&args.dir).await?;
    let played = tokio::select! {
        played = play(context, &args.dir, &mut house) => played,
        () = interrupts.next() => Ok(EXIT_INTERRUPTED),
    };
    house.close().await;
    if matches!(played, Ok(EXIT_INTERRUPTED)) {
        ui.say(&text!(ui, "demo-left", dir = args.dir.display().to_string()));
    }
    played
}

/// Removes what an earlier demo made, and nothing else.
fn forget(dir: &Path) -> Result<()> {
    for name in ["net", "results"].map(|name| dir.join(name)) {
        if name.exists() {
            fs::remove_dir_all(&name).with_context(|| format!("could not remove {}", name.display()))?;
        }
    }
    for name in ["job.json", "picture.png", "receipts.json"].map(|name| dir.join(name)) {
        if name.exists() {
            fs::remove_file(&name).with_context(|| format!("could not remove {}", name.display()))?;
        }
    }
    Ok(())
}

async fn play(context: &Context, dir: &Path, house: &mut House) -> Result<u8> {
    let ui = &context.ui;
    ui.say(&text!(ui, "demo-title", version = env!("CARGO_PKG_VERSION")));
    let clock = Instant::now();
    let nodes = started(ui, house, clock).await?;
    let names = names(&nodes).await?;
    let you = &nodes[1];
    opened(ui, you, clock).await?;

    let accepted: JobAccepted = you.post("/jobs", &request(dir)?).await?;
    let (job, budget) = (accepted.job.to_string(), Ui::money(accepted.budget));
    ui.say(&text!(ui, "demo-job", job = accepted.job.short(), tasks = accepted.tasks, budget = budget));
    let mut follow = Follow::start(you, &job, true, None).await?;
    watch(ui, you, &job, accepted.tasks, &mut Sink::Nowhere, &mut follow).await?;

    let summary: JobSummary = you.get(&format!("/jobs/{job}")).await?;
    let tasks: Vec<TaskLine> = you.get(&format!("/jobs/{job}/tasks")).await?;
    let results = OutDir::create(&dir.join("results"))?.for_tasks(summary.tasks);
    deliver(ui, you, &summary, &tasks, &results).await?;
    checked(ui, &summary);

    let file = dir.join("receipts.json");
    write_bundle(&file, &settled(you, &job).await?)?;
    let bundle = read_bundle(&file)?;
    let report = verify(&bundle);
    named(ui, &bundle, &names);
    paid(ui, &report, &names);
    cashed(ui, &nodes[2..], &names).await?;
    pictured(ui, dir, &tasks, &results)?;
    match report.ok {
        true => done(ui, "demo-receipts", say_report(ui, &report).lines().next().unwrap_or_default()),
        false => ui.say(&ui.red(&say_report(ui, &report))),
    }
    ui.say(&text!(
        ui,
        "demo-next",
        file = file.display().to_string(),
        home = house.home(house::REQUESTER).display().to_string()
    ));
    if ui.json {
        ui.out_json(&report)?;
    }
    Ok(u8::from(!report.ok || summary.succeeded != summary.tasks))
}

fn done(ui: &Ui, label: &'static str, sentence: &str) {
    ui.done(&format!("{}{sentence}", ui.text(label, &[])));
}

/// All processes run.
async fn started(ui: &Ui, house: &mut House, clock: Instant) -> Result<Vec<Client>> {
    let spinner = ui.spinner(text!(ui, "demo-starting"));
    let nodes = house.start().await;
    spinner.finish_and_clear();
    let nodes = nodes?;
    let time = Ui::duration(clock.elapsed().as_millis() as u64);
    ui.done(&text!(ui, "demo-started", providers = PROVIDERS.len(), processes = nodes.len(), time = time));
    Ok(nodes)
}

/// The ledger answers and money is there.
async fn opened(ui: &Ui, you: &Client, clock: Instant) -> Result<()> {
    let start = Instant::now();
    let status = loop {
        let status: Status = you.get("/status").await?;
        let rich = status.balance.is_some_and(|balance| balance >= MAX) || status.in_channels > Amount::ZERO;
        if rich || start.elapsed() > PATIENCE {
            break status;
        }
        tokio::time::sleep(POLL_EVERY).await;
    };
    ui.done(&text!(
        ui,
        "demo-opened",
        chain = status.chain_id.to_string(),
        height = status.height.unwrap_or(0),
        balance = Ui::money(status.balance.unwrap_or(Amount::ZERO)),
        time = Ui::duration(clock.elapsed().as_millis() as u64),
    ));
    Ok(())
}

/// What people call each account.
async fn names(nodes: &[Client]) -> Result<BTreeMap<Address, &'static str>> {
    let mut names = BTreeMap::new();
    for (name, node) in House::names().zip(nodes) {
        names.insert(node.get::<Status>("/status").await?.account, name);
    }
    Ok(names)
}

/// The job: the same one in every run of the same folder.
fn request(dir: &Path) -> Result<JobRequest> {
    let (program, note) = (dir.join("net/path-tracer.wasm"), dir.join("job.json"));
    if fs::read(&program).ok().as_deref() != Some(PROGRAM) {
        fs::write(&program, PROGRAM).with_context(|| format!("could not write {}", program.display()))?;
    }
    let known = fs::read(&note).ok().and_then(|text| serde_json::from_slice::<String>(&text).ok());
    let id = match known {
        Some(id) => id,
        None => {
            let id = request_id()?;
            fs::write(&note, serde_json::to_vec(&id)?)
                .with_context(|| format!("could not write {}", note.display()))?;
            id
        }
    };
    Ok(JobRequest {
        program: std::path::absolute(&program)?,
        args: ARGS.map(str::to_owned).to_vec(),
        tasks: TaskList::Range { from: 0, to: TILES.0 * TILES.1 - 1 },
        env: vec![],
        inputs: vec![],
        mem_max: 64 << 20,
        timeout_ms: 120_000,
        fuel_max: None,
        output_max: 1 << 20,
        max: Some(MAX),
        max_fails: None,
        request_id: id,
    })
}

/// The job's papers once every slice that will be paid is paid.
async fn settled(you: &Client, job: &str) -> Result<ReceiptBundle> {
    let start = Instant::now();
    loop {
        let bundle: ReceiptBundle = you.get(&format!("/jobs/{job}/receipts")).await?;
        let liars: Vec<Address> = bundle.verdicts.iter().map(|(_, receipt)| receipt.paper.provider).collect();
        let owed = |slice: &&glean_node::api::types::SliceProof| {
            slice.paid.is_none() && !liars.contains(&slice.receipt.paper.provider)
        };
        if bundle.slices.iter().find(owed).is_none() || start.elapsed() > PATIENCE {
            return Ok(bundle);
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

fn checked(ui: &Ui, summary: &JobSummary) {
    let (done, tasks) = (summary.succeeded, summary.tasks);
    // The count of checks is since the node's start: a demo that only goes on has none to tell.
    let said = match summary.rechecked {
        0 => text!(ui, "demo-kept", done = done, tasks = tasks),
        again => text!(ui, "demo-checked", done = done, tasks = tasks, again = again),
    };
    ui.done(&said);
}

/// The liar, by name.
fn named(ui: &Ui, bundle: &ReceiptBundle, names: &BTreeMap<Address, &'static str>) {
    // One line per receipt: a slice with two wrong answers went unpaid once.
    let first: BTreeMap<B256, _> = bundle.verdicts.iter().rev().map(|pair| (pair.0.paper.receipt, pair)).collect();
    for (verdict, receipt) in first.values() {
        let who = names.get(&receipt.paper.provider).copied().unwrap_or("?");
        let price = Ui::money(receipt.paper.price);
        let said =
            text!(ui, "demo-liar", name = who, task = verdict.paper.index, tasks = receipt.paper.tasks, price = price);
        ui.say(&format!(" {} {said}", ui.red("✗")));
    }
    if bundle.verdicts.is_empty() {
        ui.tell("demo-no-liar");
    }
}

/// What each honest machine was promised in vouchers.
fn paid(ui: &Ui, report: &VerifyReport, names: &BTreeMap<Address, &'static str>) {
    let share = |total: &crate::verify::ProviderTotal| {
        let who = names.get(&total.provider).copied().unwrap_or("?");
        format!("{who} {}", Ui::money(total.paid))
    };
    let shares: Vec<String> = report.providers.iter().map(share).collect();
    let (paid, budget) = (Ui::money(report.paid), Ui::money(report.budget));
    ui.done(&text!(ui, "demo-paid", paid = paid, budget = budget, shares = shares.join(" · ")));
}

/// What each machine has on the ledger once it has cashed its last voucher: read from the ledger, fee deducted.
async fn cashed(ui: &Ui, providers: &[Client], names: &BTreeMap<Address, &'static str>) -> Result<()> {
    let start = Instant::now();
    let mut balances = Vec::new();
    let mut height = 0;
    for node in providers {
        let status = loop {
            let status: Status = node.get("/status").await?;
            let held = status.share.as_ref().map_or(Amount::ZERO, |share| share.held);
            if held == Amount::ZERO || start.elapsed() > PATIENCE {
                break status;
            }
            tokio::time::sleep(POLL_EVERY).await;
        };
        let who = names.get(&status.account).copied().unwrap_or("?");
        balances.push(format!("{who} {}", Ui::money(status.balance.unwrap_or(Amount::ZERO))));
        height = height.max(status.height.unwrap_or(0));
    }
    ui.done(&text!(ui, "demo-cashed", height = height, balances = balances.join(" · ")));
    Ok(())
}

/// The tiles become a picture.
fn pictured(ui: &Ui, dir: &Path, tasks: &[TaskLine], results: &OutDir) -> Result<()> {
    let tile = |task: &TaskLine| -> Result<(u32, Vec<u8>)> {
        let path = dir.join("results").join(results.stdout(task.index));
        let bytes = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        Ok((task.index, bytes))
    };
    let png = picture::assemble(tasks.iter().map(tile).collect::<Result<Vec<_>>>()?)?;
    let path: PathBuf = dir.join("picture.png");
    fs::write(&path, &png).with_context(|| format!("could not write {}", path.display()))?;
    let hash = Hash::of(&png).to_string();
    ui.done(&text!(ui, "demo-picture", file = path.display().to_string(), hash = hash[..16].to_owned()));
    Ok(())
}
