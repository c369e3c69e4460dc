//! `glean receipt`: a job's papers, kept, shown, and checked again from nothing but themselves.

use std::path::Path;

use anyhow::{Context as _, Result};
use glean_node::api::types::ReceiptBundle;

use super::{Context, escape};
use crate::args::ReceiptArgs;
use crate::fail::Fail;
use crate::text;
use crate::ui::Ui;
use crate::verify::{VerifyReport, receipt_name, verify};

/// Largest file of papers we read: a million tasks' leaves in JSON.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// `glean receipt JOB|FILE [--verify] [--out FILE]`.
pub async fn receipt(context: &Context, args: ReceiptArgs) -> Result<u8> {
    let ui = &context.ui;
    let path = Path::new(&args.job);
    let bundle = if path.is_file() {
        read_bundle(path)?
    } else {
        context.node().await?.get(&format!("/jobs/{}/receipts", escape(&args.job))).await?
    };
    if let Some(file) = &args.out {
        write_bundle(file, &bundle)?;
        ui.done(&text!(ui, "receipt-written", file = file.display().to_string()));
    }
    if !args.verify {
        ui.answer(&bundle, |bundle| bundle_table(ui, bundle))?;
        return Ok(0);
    }
    let report = verify(&bundle);
    ui.answer(&report, |report| say_report(ui, report))?;
    Ok(u8::from(!report.ok))
}

/// Reads papers from disk.
pub fn read_bundle(path: &Path) -> Result<ReceiptBundle> {
    let tried = || format!("could not read the receipts {}", path.display());
    let len = std::fs::metadata(path).with_context(tried)?.len();
    if len > FILE_BYTES_MAX {
        return Err(Fail::new("not_receipts", format!("{len}")).into());
    }
    let bytes = std::fs::read(path).with_context(tried)?;
    serde_json::from_slice(&bytes).map_err(|e| Fail::new("not_receipts", e.to_string())).with_context(tried)
}

/// Writes papers to disk.
pub fn write_bundle(path: &Path, bundle: &ReceiptBundle) -> Result<()> {
    let json = serde_json::to_vec_pretty(bundle)?;
    std::fs::write(path, json).with_context(|| format!("could not write {}", path.display()))
}

fn bundle_table(ui: &Ui, bundle: &ReceiptBundle) -> String {
    let rows = bundle.slices.iter().map(|slice| {
        let receipt = &slice.receipt.paper;
        let paid = if slice.paid.is_some() { "word-paid" } else { "word-unpaid" };
        vec![
            receipt_name(receipt),
            slice.provider.short(),
            receipt.tasks.to_string(),
            receipt.fuel.to_string(),
            receipt.price.to_string(),
            text!(ui, paid),
        ]
    });
    let heads = ["head-receipt", "head-machine", "head-tasks", "head-fuel", "head-price", "head-state"];
    ui.table(&heads, &rows.collect::<Vec<_>>())
}

/// What was found, one line per failing paper.
pub fn say_report(ui: &Ui, report: &VerifyReport) -> String {
    let mut lines: Vec<String> = report
        .findings
        .iter()
        .map(|finding| format!("{} {}: {}", ui.red("✗"), finding.paper, ui.text(finding.fault.key(), &[])))
        .collect();
    let (paid, budget) = (report.paid.to_string(), report.budget.to_string());
    let verdict = if report.ok { "receipt-ok" } else { "receipt-bad" };
    lines.push(text!(ui, verdict, receipts = report.receipts, tasks = report.tasks, papers = report.findings.len()));
    lines.push(text!(ui, "receipt-paid", paid = paid, budget = budget, providers = report.providers.len()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::Lang;

    #[test]
    fn a_failing_paper_is_named_in_either_language() {
        let mut bundle = crate::verify::tests::bundle();
        bundle.slices[1].leaves.pop();
        let report = verify(&bundle);
        for lang in [Lang::En, Lang::Zh] {
            let said = say_report(&Ui::new(lang, false, true, true), &report);
            assert!(said.contains("receipt 02020202:1"), "{said}");
        }
    }
}
