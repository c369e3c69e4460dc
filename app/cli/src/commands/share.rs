//! `glean share`: three questions, then a status line until the owner has had enough.

use std::io::BufRead;
use std::time::Duration;

use anyhow::Result;
use glean_node::api::types::{ShareRequest, ShareStatus, Status};
use glean_types::Amount;
use hyper::Method;
use tokio::sync::mpsc;

use super::Context;
use crate::args::{ShareArgs, ShareCmd, ShareTermsArgs};
use crate::client::Client;
use crate::fail::Fail;
use crate::follow::Interrupts;
use crate::text;
use crate::ui::Ui;

/// How often the status line is renewed.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// `glean share ...`.
pub async fn share(context: &Context, args: ShareArgs) -> Result<u8> {
    let (ui, node) = (&context.ui, context.node().await?);
    match args.action {
        Some(ShareCmd::Why) => why(ui, &node).await,
        Some(ShareCmd::Stop) => stop(ui, &node).await,
        Some(ShareCmd::Set(terms)) => {
            let status = put(&node, &terms).await?;
            ui.answer(&status, |status| say_terms(ui, status))?;
            Ok(0)
        }
        None => start(ui, &node, args).await,
    }
}

async fn start(ui: &Ui, node: &Client, args: ShareArgs) -> Result<u8> {
    let terms = if args.yes || !ui.can_ask { args.terms } else { ask(ui, args.terms)? };
    let status = put(node, &terms).await?;
    ui.done(&say_terms(ui, &status));
    if args.detach {
        if ui.json {
            ui.out_json(&status)?;
        }
        ui.tell("share-detached");
        return Ok(0);
    }
    watch(ui, node).await?;
    stop(ui, node).await
}

/// Sets the terms; what is not given keeps the node's default.
async fn put(node: &Client, terms: &ShareTermsArgs) -> Result<ShareStatus> {
    let request = ShareRequest {
        slots: terms.cores,
        mem_max: terms.mem,
        price_per_gfuel: terms.price,
        region: terms.region.clone(),
        lie_every: terms.lie_every,
    };
    node.put("/share", &request).await
}

/// The three questions, for what the flags left open.
fn ask(ui: &Ui, mut terms: ShareTermsArgs) -> Result<ShareTermsArgs> {
    let all = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    if terms.cores.is_none() {
        let half = (all / 2).max(1).to_string();
        let answer = ui.ask(&text!(ui, "ask-cores", all = all), &half)?;
        terms.cores = Some(answer.parse().map_err(|_| Fail::new("bad_number", answer))?);
    }
    if terms.mem.is_none() {
        let answer = ui.ask(&text!(ui, "ask-mem"), "auto")?;
        terms.mem = auto(&answer, |text| crate::args::parse_size(text).ok())?;
    }
    if terms.price.is_none() {
        let answer = ui.ask(&text!(ui, "ask-price"), "auto")?;
        terms.price = auto(&answer, |text| text.parse::<Amount>().ok())?;
    }
    Ok(terms)
}

fn auto<T>(answer: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
    match answer {
        "auto" => Ok(None),
        other => Ok(Some(read(other).ok_or_else(|| Fail::new("bad_number", other))?)),
    }
}

/// Shows how lending goes until `q` or Ctrl-C.
async fn watch(ui: &Ui, node: &Client) -> Result<()> {
    let line = ui.spinner(String::new());
    let (mut interrupts, mut quit) = (Interrupts::listen(), typed_q(ui));
    let mut said = None;
    loop {
        let Some(status) = node.get::<Option<ShareStatus>>("/share").await? else { break };
        line.set_message(say_status(ui, &status));
        if ui.json {
            ui.out_json(&status)?;
        } else if !ui.lively && said != Some(status.tasks_done) {
            // A log file gets a line when something was done, not one a second.
            ui.say(&say_status(ui, &status));
            said = Some(status.tasks_done);
        }
        tokio::select! {
            () = tokio::time::sleep(STATUS_EVERY) => {}
            () = interrupts.next() => break,
            Some(()) = quit.recv() => break,
        }
    }
    line.finish_and_clear();
    Ok(())
}

/// `q` and Enter. The thread waits on stdin and ends with the process.
fn typed_q(ui: &Ui) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    if ui.can_ask {
        std::thread::spawn(move || {
            let lines = std::io::stdin().lock().lines().map_while(Result::ok);
            if lines.into_iter().any(|line| line.trim() == "q") {
                // The receiver is gone when Ctrl-C was faster.
                let _ = sender.blocking_send(());
            }
        });
    }
    receiver
}

async fn stop(ui: &Ui, node: &Client) -> Result<u8> {
    node.act(Method::DELETE, "/share").await?;
    ui.done(&text!(ui, "share-stopped"));
    Ok(0)
}

async fn why(ui: &Ui, node: &Client) -> Result<u8> {
    let status: Status = node.get("/status").await?;
    ui.answer(&status.share, |share| match share {
        None => text!(ui, "share-off"),
        Some(ShareStatus { why_idle: Some(why), .. }) => why.clone(),
        Some(share) => text!(ui, "share-busy", n = share.running),
    })?;
    Ok(0)
}

fn say_terms(ui: &Ui, status: &ShareStatus) -> String {
    text!(
        ui,
        "share-terms",
        slots = status.slots,
        mem = status.mem_max >> 20,
        price = status.price_per_gfuel.to_string(),
    )
}

fn say_status(ui: &Ui, status: &ShareStatus) -> String {
    let mut line = text!(
        ui,
        "share-status",
        running = status.running,
        slots = status.slots,
        done = status.tasks_done,
        held = Ui::money(status.held),
        settled = Ui::money(status.settled),
    );
    if let Some(why) = status.why_idle.as_ref().filter(|_| status.running == 0) {
        line += &format!(" · {why}");
    }
    if ui.can_ask { format!("{line} · {}", text!(ui, "share-quit")) } else { line }
}
