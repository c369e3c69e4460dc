//! `glean backup` and `glean restore`: a home in one file, and back. What an old copy may do and may not is
//! `glean_node::backup`'s business; here it is said.

use std::path::Path;

use anyhow::Result;
use glean_node::backup::{self, BackupError, BackupInfo};

use super::{Context, absolute};
use crate::args::{BackupArgs, RestoreArgs};
use crate::fail::Fail;
use crate::text;
use crate::ui::Ui;

/// `glean backup FILE`.
pub fn backup(context: &Context, args: &BackupArgs) -> Result<u8> {
    let ui = &context.ui;
    let file = absolute(&args.file)?;
    let info = backup::take(&context.home, &file).map_err(fail)?;
    ui.answer(&info, |info| inside(ui, info))?;
    ui.done(&text!(ui, "backup-written", file = file.display().to_string()));
    ui.tell("backup-secret");
    Ok(0)
}

/// `glean restore FILE [--check]`.
pub fn restore(context: &Context, args: &RestoreArgs) -> Result<u8> {
    let ui = &context.ui;
    let file = absolute(&args.file)?;
    if args.check {
        let info = backup::check(&file).map_err(fail)?;
        ui.answer(&info, |info| inside(ui, info))?;
        ui.done(&ui.text("backup-whole", &[]));
        return Ok(0);
    }
    let info = backup::restore(&file, &context.home).map_err(fail)?;
    ui.answer(&info, |info| inside(ui, info))?;
    say_restored(ui, &context.home, &info);
    Ok(0)
}

fn say_restored(ui: &Ui, home: &Path, info: &BackupInfo) {
    ui.done(&text!(ui, "restored", home = home.display().to_string()));
    ui.tell("restored-next");
    if let Some(ledger) = &info.ledger {
        ui.say(&ui.yellow(&text!(ui, "restored-ledger", height = ledger.height.to_string())));
    }
}

fn inside(ui: &Ui, info: &BackupInfo) -> String {
    let ledger = match &info.ledger {
        Some(ledger) => {
            text!(ui, "backup-ledger", height = ledger.height.to_string(), balance = ledger.balance.to_string())
        }
        None => ui.text("backup-no-ledger", &[]),
    };
    text!(
        ui,
        "backup-inside",
        age = ui.age(info.made_ms),
        version = info.version.clone(),
        network = info.network.clone(),
        account = info.account.to_string(),
        files = info.files.to_string(),
        mib = info.bytes.div_ceil(1 << 20).to_string(),
        frames = info.journal_frames.to_string(),
        jobs = info.jobs.to_string(),
        open = info.jobs_open.to_string(),
        deposits = info.in_channels.to_string(),
        held = info.held.to_string(),
        ledger = ledger,
    )
}

/// The sentences are the message files'.
fn fail(error: BackupError) -> Fail {
    Fail::new(error.code(), error.to_string())
}
