//! What survives a crash: every [`Record`] of the brain, in order.
//!
//! What must stay true: [`Journal::append`] returns only after the records are on the disk, all of a call or
//! none; an error from the disk stops the node (the caller must not go on as if it were written).
//!
//! - `log`: the file. One call's records are one frame: one write, one fsync, a few tens of microseconds. (They were rows of
//!   a redb table once: copying its tree cost four times as much as the fsync, twice on the way of every task.)
//!
//! What concerns a job is found by an index in memory, made while the file is read at the start.

mod log;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use glean_protocol::Record;
use glean_types::{DecodeError, JobId, NodeId, TaskResult, decode_head, encode, params};

use log::{Frames, Log, LogError};
use serde::Serialize;

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
    source: Cause,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("frame {0} holds what is no record")]
    Record(usize, #[source] DecodeError),
}

/// The open journal: the only one who writes.
#[derive(Debug)]
pub struct Journal {
    log: Log,
    reader: Reader,
}

/// Reads beside the writer, always a state between two appends. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    frames: Frames,
    index: Arc<Mutex<Index>>,
    path: String,
}

/// Where what concerns a job stands.
#[derive(Debug, Default)]
struct Index {
    jobs: BTreeMap<JobId, Places>,
    /// Frames with agreements: a channel serves many jobs.
    agreements: Vec<u32>,
}

#[derive(Debug, Default)]
struct Places {
    frames: Vec<u32>,
    /// By task: the frame, and where in it the last record begins that accepted an answer.
    accepted: BTreeMap<u32, (u32, u32)>,
}

impl Journal {
    /// Opens or creates it; gives all records, oldest first.
    pub fn open(path: &Path) -> Result<(Journal, Vec<Record>), JournalError> {
        let name = path.display().to_string();
        let (mut records, mut index) = (Vec::new(), Index::default());
        let opened = Log::open::<Cause>(path, |number, content| {
            each_record(number, content, |at, record| {
                index.note(number, at, &record);
                records.push(record);
            })
        });
        let (log, frames) = opened.map_err(|source| JournalError { path: name.clone(), what: "opened", source })?;
        let reader = Reader { frames, index: Arc::new(Mutex::new(index)), path: name };
        Ok((Journal { log, reader }, records))
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
        let mut content = Vec::new();
        let mut starts = Vec::with_capacity(records.len());
        for record in records {
            starts.push(content.len());
            content.extend(encode(record));
        }
        let written = self.log.append(&content, &self.reader.frames);
        let number = written.map_err(|e| self.reader.error("written", e.into()))?;
        let mut index = self.reader.index();
        starts.into_iter().zip(records).for_each(|(at, record)| index.note(number, at, record));
        Ok(())
    }
}

/// One call's records, as they lie on the disk.
#[derive(Debug, Clone, Serialize)]
pub struct Frame {
    /// Counted from 0.
    pub number: usize,
    /// Bytes from the beginning of the file.
    pub offset: u64,
    /// Bytes of its content.
    pub bytes: usize,
    /// Its records, in the words of the code: for people who look for a mistake, and stable for nobody.
    pub records: Vec<String>,
}

/// Shows the journal of a home, frame by frame, whether or not its node runs; nothing is changed.
pub fn inspect(path: &Path, mut show: impl FnMut(Frame)) -> Result<(), JournalError> {
    let shown = log::inspect::<Cause>(path, |number, offset, content| {
        let mut records = Vec::new();
        each_record(number, content, |_, record| records.push(format!("{record:?}")))?;
        show(Frame { number, offset, bytes: content.len(), records });
        Ok(())
    });
    shown.map_err(|source| JournalError { path: path.display().to_string(), what: "read", source })
}

impl Reader {
    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.frames.count()
    }

    /// The accepted result of one task, and whose it is.
    pub fn accepted(&self, job: JobId, index: u32) -> Result<Option<(TaskResult, NodeId)>, JournalError> {
        let mut found = self.accepted_of(job, index..=index)?;
        Ok(found.remove(&index))
    }

    /// The accepted results of these tasks of a job.
    pub fn accepted_of(
        &self,
        job: JobId,
        tasks: RangeInclusive<u32>,
    ) -> Result<BTreeMap<u32, (TaskResult, NodeId)>, JournalError> {
        let places = self.index().accepted(job, tasks);
        let mut found = BTreeMap::new();
        for (frame, wanted) in places {
            let content = self.frames.content(frame as usize).map_err(|e| self.error("read", e.into()))?;
            for at in wanted {
                let bytes = content.get(at as usize..).unwrap_or_default();
                let (record, _) = read(frame as usize, bytes).map_err(|e| self.error("read", e))?;
                if let Record::Accepted { result, provider, .. } = record {
                    found.insert(result.index, (result, provider));
                }
            }
        }
        Ok(found)
    }

    /// The records that name a job, and all agreements; others may be among them. Oldest first.
    pub fn records_about(&self, job: JobId) -> Result<Vec<Record>, JournalError> {
        let frames = self.index().frames_about(job);
        let mut records = Vec::new();
        for frame in frames {
            let number = frame as usize;
            let content = self.frames.content(number).map_err(|e| self.error("read", e.into()))?;
            each_record(number, &content, |_, record| records.push(record)).map_err(|e| self.error("read", e))?;
        }
        Ok(records)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, what: &'static str, source: Cause) -> JournalError {
        JournalError { path: self.path.clone(), what, source }
    }
}

impl Index {
    fn note(&mut self, frame: usize, at: usize, record: &Record) {
        let (frame, at) = (frame as u32, at as u32);
        let add = |frames: &mut Vec<u32>| {
            if frames.last() != Some(&frame) {
                frames.push(frame);
            }
        };
        if let Record::Agreed { .. } = record {
            add(&mut self.agreements);
        }
        let Some(job) = job_of(record) else { return };
        let places = self.jobs.entry(job).or_default();
        add(&mut places.frames);
        if let Record::Accepted { result, .. } = record {
            places.accepted.insert(result.index, (frame, at));
        }
    }

    /// By frame, in order: where its records begin that accepted what is asked for.
    fn accepted(&self, job: JobId, tasks: RangeInclusive<u32>) -> BTreeMap<u32, Vec<u32>> {
        let mut places: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let of_job = self.jobs.get(&job).into_iter().flat_map(|places| places.accepted.range(tasks.clone()));
        of_job.for_each(|(_, (frame, at))| places.entry(*frame).or_default().push(*at));
        places
    }

    fn frames_about(&self, job: JobId) -> Vec<u32> {
        let mut frames = self.agreements.clone();
        frames.extend(self.jobs.get(&job).map_or(&[][..], |places| &places.frames));
        frames.sort_unstable();
        frames.dedup();
        frames
    }
}

/// Whose papers a record is part of.
fn job_of(record: &Record) -> Option<JobId> {
    match record {
        Record::Submitted(submission) => Some(submission.job.paper.id()),
        Record::Accepted { job, .. } | Record::Paid { job, .. } | Record::Ended { job, .. } => Some(*job),
        Record::Received { receipt, .. } | Record::Caught { receipt, .. } => Some(receipt.paper.job),
        _ => None,
    }
}

/// Shows the records of a frame, and where each begins.
pub(crate) fn each_record(number: usize, content: &[u8], mut show: impl FnMut(usize, Record)) -> Result<(), Cause> {
    let mut rest = content;
    while !rest.is_empty() {
        let at = content.len() - rest.len();
        let (record, after) = read(number, rest)?;
        show(at, record);
        rest = after;
    }
    Ok(())
}

/// The record at the head of these bytes, and the rest.
fn read(number: usize, bytes: &[u8]) -> Result<(Record, &[u8]), Cause> {
    decode_head(bytes, RECORD_BYTES_MAX).map_err(|source| Cause::Record(number, source))
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
        let path = dir.path().join("journal.log");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&[accepted(0), accepted(1)]).unwrap();
        journal.append(&[Record::OfferSeq(9)]).unwrap();
        drop(journal);
        let (mut journal, records) = Journal::open(&path).unwrap();
        assert_eq!(records, [accepted(0), accepted(1), Record::OfferSeq(9)]);
        journal.append(&[accepted(2)]).unwrap();
        let journal = journal.reader();
        let about = [accepted(0), accepted(1), accepted(2)];
        assert_eq!(journal.records_about(JobId([1; 32])).unwrap(), about);
        let (result, _) = journal.accepted(JobId([1; 32]), 2).unwrap().unwrap();
        assert_eq!(result.stdout, Output::Inline(b"2\n".to_vec()));
        assert_eq!(journal.accepted(JobId([1; 32]), 3).unwrap(), None);
        assert_eq!(journal.accepted_of(JobId([1; 32]), 0..=9).unwrap().into_keys().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(journal.accepted_of(JobId([2; 32]), 0..=9).unwrap().is_empty());
    }

    #[test]
    fn two_processes_cannot_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.log");
        let _first = Journal::open(&path).unwrap();
        assert!(Journal::open(&path).is_err());
    }
}
