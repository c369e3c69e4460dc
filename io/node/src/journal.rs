//! What survives a crash: every [`Record`] of the brain, in order, in one redb file.
//!
//! What must stay true: [`Journal::append`] returns only after the records are on the disk, all of a call or
//! none; an error from the disk stops the node (the caller must not go on as if it were written).
//!
//! The records of one call are one batch, so that a slice of hundreds of answers costs the tree one insertion. A batch
//! begins with a hash over itself and its predecessor's hash: a flipped bit, a lost or a misplaced batch is found before
//! anything of it is believed. Accepted results are indexed by job and batch, so that reading one does not read the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use glean_protocol::Record;
use glean_types::{JobId, NodeId, TaskResult, decode, decode_head, encode, params};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

/// A chained hash, then the records of one call of [`Journal::append`], one after the other.
const BATCHES: TableDefinition<u64, &[u8]> = TableDefinition::new("batches");
/// Job and batch, big-endian, to the [`Place`]s of the results that the batch accepted.
const ACCEPTED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("accepted");

/// A record is a frame's content plus little else.
const RECORD_BYTES_MAX: usize = 4 * params::FRAME_MAX;
/// Results of one batch that one row of the index may name.
const PLACES_BYTES_MAX: usize = 1 << 24;

/// The chained hash of a batch.
type Link = [u8; 32];
/// A task, and where in its batch the record begins that accepted it.
type Place = (u32, u32);

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
    link: Link,
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
        let (next, link) = end(&db).map_err(fail)?;
        Ok(Journal { reader: Reader { db: Arc::new(db), path: name }, next, link })
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
        self.link =
            write(&self.reader.db, self.next, &self.link, records).map_err(|e| self.reader.error("written", e))?;
        self.next += 1;
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
        let mut found = self.accepted_of(job, Some(index))?;
        Ok(found.remove(&index))
    }

    /// The accepted results of a job by task, or of one `task` of it.
    pub fn accepted_of(
        &self,
        job: JobId,
        task: Option<u32>,
    ) -> Result<BTreeMap<u32, (TaskResult, NodeId)>, JournalError> {
        read_accepted(&self.db, job, task).map_err(|e| self.error("read", e))
    }

    fn error(&self, what: &'static str, source: redb::Error) -> JournalError {
        JournalError { path: self.path.clone(), what, source: Box::new(source) }
    }
}

/// The number of the next batch, and the hash that it continues.
fn end(db: &Database) -> Result<(u64, Link), redb::Error> {
    let tx = db.begin_write()?;
    let end = {
        tx.open_table(ACCEPTED)?;
        let batches = tx.open_table(BATCHES)?;
        match batches.last()? {
            None => (0, [0; 32]),
            Some((number, row)) => (number.value() + 1, parts(row.value())?.0),
        }
    };
    tx.commit()?;
    Ok(end)
}

fn write(db: &Database, number: u64, before: &Link, records: &[Record]) -> Result<Link, redb::Error> {
    let mut row = vec![0; size_of::<Link>()];
    let mut accepted: BTreeMap<JobId, Vec<Place>> = BTreeMap::new();
    for record in records {
        if let Record::Accepted { job, result, .. } = record {
            let at = u32::try_from(row.len() - size_of::<Link>()).map_err(|_| redb::Error::ValueTooLarge(row.len()))?;
            accepted.entry(*job).or_default().push((result.index, at));
        }
        row.extend(encode(record));
    }
    let (head, records) = row.split_at_mut(size_of::<Link>());
    let link = chained(before, number, records);
    head.copy_from_slice(&link);
    let tx = db.begin_write()?;
    tx.open_table(BATCHES)?.insert(number, row.as_slice())?;
    for (job, places) in accepted {
        tx.open_table(ACCEPTED)?.insert(key(job, number).as_slice(), encode(&places).as_slice())?;
    }
    tx.commit()?;
    Ok(link)
}

fn chained(before: &Link, number: u64, records: &[u8]) -> Link {
    *blake3::Hasher::new().update(before).update(&number.to_le_bytes()).update(records).finalize().as_bytes()
}

/// A row's hash and its records.
fn parts(row: &[u8]) -> Result<(Link, &[u8]), redb::Error> {
    row.split_first_chunk().map(|(link, records)| (*link, records)).ok_or_else(|| damaged("a batch is cut short"))
}

/// The records of a row, if its hash says so.
fn checked<'r>(row: &'r [u8], number: u64, before: &Link) -> Result<(Link, &'r [u8]), redb::Error> {
    let (link, records) = parts(row)?;
    match chained(before, number, records) == link {
        true => Ok((link, records)),
        false => Err(damaged(format!("batch {number} is not what was written"))),
    }
}

/// Rows of one job stand together, in the order of writing.
fn key(job: JobId, batch: u64) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(&job.0);
    key[32..].copy_from_slice(&batch.to_be_bytes());
    key
}

fn read_all(db: &Database) -> Result<Vec<Record>, redb::Error> {
    let tx = db.begin_read()?;
    let table = tx.open_table(BATCHES)?;
    let mut records = Vec::new();
    let mut before = [0; 32];
    for (number, row) in (0..).zip(table.iter()?) {
        let row = row?.1;
        let (link, mut rest) = checked(row.value(), number, &before)?;
        before = link;
        while !rest.is_empty() {
            let (record, after) = read(rest)?;
            records.push(record);
            rest = after;
        }
    }
    Ok(records)
}

/// Later rows correct earlier ones.
fn read_accepted(
    db: &Database,
    job: JobId,
    task: Option<u32>,
) -> Result<BTreeMap<u32, (TaskResult, NodeId)>, redb::Error> {
    let tx = db.begin_read()?;
    let batches = tx.open_table(BATCHES)?;
    let index = tx.open_table(ACCEPTED)?;
    let mut found = BTreeMap::new();
    for row in index.range::<&[u8]>(key(job, 0).as_slice()..=key(job, u64::MAX).as_slice())? {
        let (at, places) = row?;
        let places: Vec<Place> = decode(places.value(), PLACES_BYTES_MAX).map_err(damaged)?;
        let wanted: Vec<&Place> = places.iter().filter(|(index, _)| task.is_none_or(|task| task == *index)).collect();
        if wanted.is_empty() {
            continue;
        }
        let number = at.value().last_chunk().map(|number| u64::from_be_bytes(*number)).unwrap_or_default();
        let row = |number| batches.get(number)?.ok_or_else(|| damaged(format!("batch {number} is missing")));
        let before = if number == 0 { [0; 32] } else { parts(row(number - 1)?.value())?.0 };
        let row = row(number)?;
        let (_, records) = checked(row.value(), number, &before)?;
        for (index, at) in wanted {
            let record = records.get(*at as usize..).ok_or_else(|| damaged("a batch is cut short"))?;
            if let Record::Accepted { result, provider, .. } = read(record)?.0 {
                found.insert(*index, (result, provider));
            }
        }
    }
    Ok(found)
}

/// The record at the head of these bytes, and the rest.
fn read(bytes: &[u8]) -> Result<(Record, &[u8]), redb::Error> {
    decode_head(bytes, RECORD_BYTES_MAX).map_err(damaged)
}

fn damaged(why: impl ToString) -> redb::Error {
    redb::Error::Corrupted(why.to_string())
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
        assert_eq!(journal.accepted_of(JobId([1; 32]), None).unwrap().into_keys().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(journal.accepted_of(JobId([2; 32]), None).unwrap().is_empty());
    }

    #[test]
    fn two_processes_cannot_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.redb");
        let _first = Journal::open(&path).unwrap();
        assert!(Journal::open(&path).is_err());
    }
}
