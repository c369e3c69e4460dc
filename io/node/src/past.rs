//! The first start of a home that came back from an archive: the past is closed before anything new is signed.
//!
//! An archive is always older than what it is restored for. What this node signed in between is forgotten here and known
//! elsewhere: a larger voucher lies at a provider, a channel was opened of which no record tells, a job went on. So, before the
//! brain begins:
//!
//! 1. the ledger is asked for every channel that this account has open, whatever the journal remembers;
//! 2. [`Record::Restored`] ends all jobs and channels of the journal, and each of those channels is asked back.
//!
//! Then at most what was delivered and not paid at the moment of the loss is lost to each provider, as when a requester
//! vanishes; everything else of each deposit comes home after the grace period. No opening collides with a forgotten one, for
//! `keys/checks`, from which their salts are drawn, is in no archive.
//!
//! Without the ledger the node does not start: nobody else knows what is open.

use std::fs;

use glean_protocol::Record;

use crate::clock::now_ms;
use crate::home::{Home, HomeError};
use crate::journal::{Journal, JournalError};
use crate::ledger::{Ledger, LedgerError};

/// Tells a start that this home came back from an archive.
pub const MARK: &str = "restored.json";

/// Why the past could not be closed: the node does not start.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The ledger did not say what is open.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The folder.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// Closes the past of a restored home; does nothing in any other. A crash in between repeats it.
pub async fn close(
    home: &Home,
    ledger: &Ledger,
    journal: &mut Journal,
    records: &mut Vec<Record>,
) -> Result<(), PastError> {
    let mark = home.path(MARK);
    if !mark.exists() {
        return Ok(());
    }
    let open = ledger.open_channels().await?;
    let of_ledger = open.iter().flat_map(|(channel, provider, rest)| {
        let funded = Record::Funded { provider: *provider, channel: *channel, deposit: *rest };
        [funded, Record::Closing(*channel)]
    });
    let now: Vec<Record> = std::iter::once(Record::Restored { at_ms: now_ms() }).chain(of_ledger).collect();
    journal.append(&now)?;
    records.extend(now);
    tracing::info!(
        channels = open.len(),
        "came back from a backup: open channels are asked back, jobs of then are over"
    );
    fs::remove_file(&mark).map_err(|source| HomeError::Io { what: "remove", path: mark, source })?;
    Ok(())
}
