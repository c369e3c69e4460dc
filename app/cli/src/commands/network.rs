//! `glean network | join | node | status | machines`: this node and the network it belongs to.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use glean_node::NodeOptions;
use glean_node::api::types::{MachineLine, NetPath, NetworkInfo, Status};
use glean_types::Amount;
use hyper::Method;
use unicode_width::UnicodeWidthStr;

use super::{Context, wait};
use crate::args::{JoinArgs, NetworkArgs, NetworkCmd, NodeArgs};
use crate::client::{Client, lock_is_free};
use crate::fail::Fail;
use crate::text;
use crate::ui::Ui;

/// How long a node may take to stop: its journal is always on disk, so this is only good manners.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a new account waits for its first credits.
const CREDITS_TIME_MAX: Duration = Duration::from_secs(5);
/// How often to look.
const POLL_EVERY: Duration = Duration::from_millis(25);

/// `glean network init | show`.
pub async fn network(context: &Context, args: NetworkArgs) -> Result<u8> {
    let ui = &context.ui;
    if let NetworkCmd::Init { name } = &args.action {
        glean_node::network_init(&context.home, name)?;
    }
    let node = context.node().await?;
    let info: NetworkInfo = node.get("/network").await?;
    if matches!(args.action, NetworkCmd::Init { .. }) {
        first_credits(&node).await?;
        ui.done(&text!(ui, "network-made", name = info.name.clone(), chain = info.chain_id.to_string()));
        ui.tell("network-next");
    }
    ui.answer(&info, |info| match args.action {
        NetworkCmd::Init { .. } => format!("glean join {}", info.join_line),
        NetworkCmd::Show => say_network(ui, info),
    })?;
    Ok(0)
}

fn say_network(ui: &Ui, info: &NetworkInfo) -> String {
    let rpc = info.rpc_url.clone().unwrap_or_else(|| "-".into());
    text!(
        ui,
        "network-show",
        name = info.name.clone(),
        chain = info.chain_id.to_string(),
        rpc = rpc,
        line = info.join_line.clone(),
    )
}

/// `glean join LINE`.
pub async fn join(context: &Context, args: JoinArgs) -> Result<u8> {
    let ui = &context.ui;
    join_blocking(&context.home, &args.line).await?;
    let status = first_credits(&context.node().await?).await?;
    let balance = Ui::money(status.balance.unwrap_or(Amount::ZERO));
    ui.done(&text!(
        ui,
        "joined",
        name = status.network.clone(),
        account = status.account.to_string(),
        balance = balance
    ));
    if status.height.is_none() {
        ui.say(&ui.yellow(&text!(ui, "ledger-far")));
    }
    if ui.json {
        ui.out_json(&status)?;
    }
    ui.tell("joined-next");
    Ok(0)
}

/// A private network's faucet pays a new account within a block or two: wait for it, so that what is typed next
/// finds the money there. A network without a faucet costs [`CREDITS_TIME_MAX`] once.
async fn first_credits(node: &Client) -> Result<Status> {
    let start = Instant::now();
    loop {
        let status: Status = node.get("/status").await?;
        let is_there = status.balance.is_some_and(|balance| balance > Amount::ZERO);
        if is_there || start.elapsed() > CREDITS_TIME_MAX {
            return Ok(status);
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// Enters a network. The library runs an event loop of its own for that, so it gets a thread of its own.
pub async fn join_blocking(home: &Path, line: &str) -> Result<()> {
    let (home, line) = (home.to_owned(), line.to_owned());
    tokio::task::spawn_blocking(move || glean_node::join(&home, &line)).await.context("the join was cut short")??;
    Ok(())
}

/// `glean node [--stop]`.
pub fn node(context: &Context, args: NodeArgs) -> Result<u8> {
    if args.stop {
        return wait(stop(context));
    }
    let filter = std::env::var("GLEAN_LOG").unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    log.try_init().map_err(|e| Fail::new("no_log", e.to_string()))?;
    if args.until_eof {
        stop_at_eof(context.home.clone());
    }
    let exe = std::env::current_exe().context("could not find this program's own file")?;
    glean_node::run_node(NodeOptions { home: context.home.clone(), exe })?;
    Ok(0)
}

/// A child whose parent is gone has nobody to work for.
fn stop_at_eof(home: std::path::PathBuf) {
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        // An unreadable stdin means the same as a closed one.
        let _ = std::io::stdin().lock().read_to_end(&mut rest);
        let asked = wait(async { stop_node(&home).await });
        if !matches!(asked, Ok(true)) {
            std::process::exit(1);
        }
    });
}

async fn stop(context: &Context) -> Result<u8> {
    let key = if stop_node(&context.home).await? { "node-stopped" } else { "node-not-running" };
    context.ui.tell(key);
    Ok(0)
}

/// Stops the node of that home and waits until it has let go of it; `false` when none was running.
pub async fn stop_node(home: &Path) -> Result<bool> {
    let Some(node) = Client::find(home).await else { return Ok(false) };
    node.act(Method::POST, "/stop").await?;
    let start = Instant::now();
    while start.elapsed() < STOP_TIME_MAX {
        if lock_is_free(home)? {
            return Ok(true);
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    Err(Fail::new("node_stuck", node.pid.to_string()).into())
}

/// `glean status`.
pub async fn status(context: &Context) -> Result<u8> {
    let ui = &context.ui;
    let status: Status = context.node().await?.get("/status").await?;
    ui.answer(&status, |status| say_status(ui, status))?;
    Ok(0)
}

fn say_status(ui: &Ui, status: &Status) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let mut rows = vec![
        ("row-network", format!("{} ({})", status.network, status.chain_id)),
        ("row-node", status.node.to_string()),
        ("row-account", status.account.to_string()),
        ("row-home", status.home.display().to_string()),
        ("row-ledger", or_dash(status.height.map(|height| text!(ui, "ledger-height", height = height)))),
        ("row-balance", or_dash(status.balance.map(|amount| format!("{amount} gUSD")))),
        ("row-channels", format!("{} gUSD", status.in_channels)),
        ("row-gas", or_dash(status.gas.map(|amount| format!("{} GLN", Ui::money(amount))))),
        ("row-machines", status.machines.to_string()),
        ("row-jobs", status.jobs_running.to_string()),
    ];
    if status.coming_home > Amount::ZERO {
        rows.push(("row-coming-home", format!("{} gUSD", status.coming_home)));
    }
    rows.extend(status.rpc_url.clone().map(|url| ("row-rpc", url)));
    let sharing = match &status.share {
        None => text!(ui, "share-off"),
        Some(share) => text!(ui, "share-brief", running = share.running, slots = share.slots, done = share.tasks_done),
    };
    rows.push(("row-share", sharing));
    let labels: Vec<String> = rows.iter().map(|(key, _)| ui.text(key, &[])).collect();
    let widest = labels.iter().map(|label| label.width()).max().unwrap_or(0);
    let line = |(label, (_, value)): (&String, &(&str, String))| {
        format!("{label}{}  {value}", " ".repeat(widest - label.width()))
    };
    let lines: Vec<String> = labels.iter().zip(&rows).map(line).collect();
    format!("glean {}\n{}", status.version, lines.join("\n"))
}

/// `glean machines`.
pub async fn machines(context: &Context) -> Result<u8> {
    let ui = &context.ui;
    let machines: Vec<MachineLine> = context.node().await?.get("/machines").await?;
    ui.answer(&machines, |machines| machines_table(ui, machines))?;
    Ok(0)
}

fn machines_table(ui: &Ui, machines: &[MachineLine]) -> String {
    if machines.is_empty() {
        return text!(ui, "machines-none");
    }
    let row = |machine: &MachineLine| {
        let price = machine.price_per_gfuel.map_or_else(|| "-".to_owned(), |price| price.to_string());
        vec![
            machine.node.short(),
            machine.slots.to_string(),
            price,
            machine.mfuel_per_s.to_string(),
            path(ui, machine.path),
            machine.clean.to_string(),
            machine.faults.to_string(),
            Ui::money(machine.paid),
            machine.obstacle.clone().unwrap_or_default(),
        ]
    };
    let heads = [
        "head-machine",
        "head-slots",
        "head-price",
        "head-speed",
        "head-path",
        "head-clean",
        "head-faults",
        "head-paid",
        "head-obstacle",
    ];
    ui.table(&heads, &machines.iter().map(row).collect::<Vec<_>>())
}

fn path(ui: &Ui, path: Option<NetPath>) -> String {
    match path {
        Some(NetPath::Direct) => text!(ui, "path-direct"),
        Some(NetPath::Relayed) => text!(ui, "path-relayed"),
        None => "-".to_owned(),
    }
}
