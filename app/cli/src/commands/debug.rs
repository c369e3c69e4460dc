//! `glean debug`: what lies on the disk, for those who look for a mistake.

use anyhow::Result;
use glean_node::{Frame, inspect_journal};

use super::Context;
use crate::args::DebugCmd;
use crate::fail::Fail;
use crate::text;

/// `glean debug journal`: every group of records, whether or not the node runs. 0 when all of it is whole, else 1.
pub fn debug(context: &Context, what: &DebugCmd) -> Result<u8> {
    let DebugCmd::Journal { full } = what;
    let ui = &context.ui;
    let path = context.home.join("journal.log");
    if !path.exists() {
        return Err(Fail::new("no_journal", path.display().to_string()).into());
    }
    let (mut frames, mut records, mut failed) = (0u64, 0u64, Ok(()));
    let read = inspect_journal(&path, |frame| {
        frames += 1;
        records += frame.records.len() as u64;
        let shown = if ui.json { ui.out_json(&frame) } else { ui.out(&line(&frame, *full)) };
        if failed.is_ok() {
            failed = shown;
        }
    });
    failed?;
    match read {
        Ok(()) => ui.say(&text!(ui, "debug-journal", frames = frames, records = records)),
        Err(error) => {
            ui.say(&error.to_string());
            return Ok(1);
        }
    }
    Ok(0)
}

/// One line: the number, and the kinds of its records, or each record in full below it.
fn line(frame: &Frame, full: bool) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for record in &frame.records {
        let kind = record.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        match kinds.last_mut() {
            Some((last, count)) if *last == kind => *count += 1,
            _ => kinds.push((kind, 1)),
        }
    }
    let times =
        |(kind, count): &(&str, usize)| if *count == 1 { (*kind).to_owned() } else { format!("{kind}×{count}") };
    let head = kinds.iter().map(times).collect::<Vec<_>>().join(" ");
    let head = format!("{:>6}  {:>9}  {head}", frame.number, frame.offset);
    match full {
        true => [head]
            .into_iter()
            .chain(frame.records.iter().map(|r| format!("        {r}")))
            .collect::<Vec<_>>()
            .join("\n"),
        false => head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_records_in_a_row_are_counted() {
        let records = ["Sent { slice: 1 }", "Accepted { index: 1 }", "Accepted { index: 2 }", "OfferSeq(3)"];
        let frame = Frame { number: 3, offset: 16, bytes: 9, records: records.map(String::from).to_vec() };
        assert_eq!(line(&frame, false), "     3         16  Sent Accepted×2 OfferSeq");
        assert_eq!(line(&frame, true).lines().count(), 5);
    }
}
