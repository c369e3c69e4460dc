//! What survives a crash: every [`Record`] of the brain, in order, in one redb file.
//!
//! What must stay true: [`Journal::append`] returns only after the records are on the disk, all of a call or
//! none; an error from the disk stops the node (the caller must not go on as if it were written). Accepted
//! results are indexed by task, so that reading one does not read the rest.

use std::path::Path;
use std::sync::Arc;

use glean_protocol::Record;
use glean_types::{JobId, NodeId, TaskResult, decode, encode, params};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
/// Job and task index to the record that accepted it.
const ACCEPTED: TableDefinition<([u8; 32], u32), u64> = TableDefinition::new("accepted");

/// A record is a frame's content plus little else.
const RECORD_BYTES_MAX: usize = 4 * params::FRAME_MAX;

/// The journal cannot be used any more; the node must stop and start again from what is on the disk.
#[derive(Debug, thiserror::Error)]
#[error(
    "the journal {path} could not be {what}: {source}\nhint: check free disk space and the disk's health, then start the node again: nothing acknowledged is lost"
)]
pub struct JournalError {
    path: String,
    what: &'static str,
    #[source]
    source: Box<redb::Error>,
}

/// The open journal: the only one who writes.
#[derive(Debug)]
pub struct Journal {
    reader: Reader,
    next: u64,
}

/// Reads beside the writer, always a state between two appends. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    db: Arc<Database>,
    path: String,
}

impl Journal {
    /// Opens or creates it.
    pub fn open(path: &Path) -> Result<Journal, JournalError> {
        let name = path.display().to_string();
        let fail = |source: redb::Error| JournalError { path: name.clone(), what: "opened", source: Box::new(source) };
        let db = Database::create(path).map_err(|e| fail(e.into()))?;
        let next = first_free(&db).map_err(fail)?;
        Ok(Journal { reader: Reader { db: Arc::new(db), path: name }, next })
    }

    /// For reading beside it.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Appends records; when it returns they survive a power cut.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let written = write(&self.reader.db, self.next, records).map_err(|e| self.reader.error("written", e))?;
        self.next += written;
        Ok(())
    }
}

impl Reader {
    /// All records, oldest first. Stops at the first that does not decode: that is damage, not an old format.
    pub fn records(&self) -> Result<Vec<Record>, JournalError> {
        read_all(&self.db).map_err(|e| self.error("read", e))
    }

    /// The accepted result of one task, and whose it is.
    pub fn accepted(&self, job: JobId, index: u32) -> Result<Option<(TaskResult, NodeId)>, JournalError> {
        match read_accepted(&self.db, job, index).map_err(|e| self.error("read", e))? {
            Some(Record::Accepted { result, provider, .. }) => Ok(Some((result, provider))),
            _ => Ok(None),
        }
    }

    fn error(&self, what: &'static str, source: redb::Error) -> JournalError {
        JournalError { path: self.path.clone(), what, source: Box::new(source) }
    }
}

fn first_free(db: &Database) -> Result<u64, redb::Error> {
    let tx = db.begin_write()?;
    let next = {
        tx.open_table(ACCEPTED)?;
        let records = tx.open_table(RECORDS)?;
        records.last()?.map_or(0, |(key, _)| key.value() + 1)
    };
    tx.commit()?;
    Ok(next)
}

fn write(db: &Database, first: u64, records: &[Record]) -> Result<u64, redb::Error> {
    let tx = db.begin_write()?;
    {
        let mut table = tx.open_table(RECORDS)?;
        let mut accepted = tx.open_table(ACCEPTED)?;
        for (number, record) in (first..).zip(records) {
            table.insert(number, encode(record).as_slice())?;
            if let Record::Accepted { job, result, .. } = record {
                accepted.insert((job.0, result.index), number)?;
            }
        }
    }
    tx.commit()?;
    Ok(records.len() as u64)
}

fn read_all(db: &Database) -> Result<Vec<Record>, redb::Error> {
    let tx = db.begin_read()?;
    let table = tx.open_table(RECORDS)?;
    table.iter()?.map(|row| row.map_err(redb::Error::from).and_then(|(_, bytes)| read(bytes.value()))).collect()
}

fn read_accepted(db: &Database, job: JobId, index: u32) -> Result<Option<Record>, redb::Error> {
    let tx = db.begin_read()?;
    let Some(number) = tx.open_table(ACCEPTED)?.get((job.0, index))? else { return Ok(None) };
    let row = tx.open_table(RECORDS)?.get(number.value())?;
    row.map(|bytes| read(bytes.value())).transpose()
}

fn read(bytes: &[u8]) -> Result<Record, redb::Error> {
    decode(bytes, RECORD_BYTES_MAX).map_err(|e| redb::Error::Corrupted(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use glean_types::{B256, Outcome, Output};

    fn accepted(index: u32) -> Record {
        let result = TaskResult {
            index,
            outcome: Outcome::Exit(0),
            fuel: 7,
            stdout: Output::Inline(format!("{index}\n").into_bytes()),
            stderr: Output::Inline(vec![]),
            files: vec![],
        };
        Record::Accepted { job: JobId([1; 32]), result, provider: NodeId([2; 32]), receipt: B256::ZERO }
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.redb");
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&[accepted(0), accepted(1)]).unwrap();
        journal.append(&[Record::OfferSeq(9)]).unwrap();
        drop(journal);
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&[accepted(2)]).unwrap();
        let journal = journal.reader();
        let all = [accepted(0), accepted(1), Record::OfferSeq(9), accepted(2)];
        assert_eq!(journal.records().unwrap(), all);
        let (result, _) = journal.accepted(JobId([1; 32]), 2).unwrap().unwrap();
        assert_eq!(result.stdout, Output::Inline(b"2\n".to_vec()));
        assert_eq!(journal.accepted(JobId([1; 32]), 3).unwrap(), None);
    }

    #[test]
    fn two_processes_cannot_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.redb");
        let _first = Journal::open(&path).unwrap();
        assert!(Journal::open(&path).is_err());
    }
}
