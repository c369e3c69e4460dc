//! Answers on their way out of a worker: gathered into few writes, and never kept waiting by the task after them.
//!
//! A guest thread puts answers in, a thread of its own writes them. While tasks follow each other quickly one write
//! carries many answers; as soon as nothing more is to do, or [`LINGER`] after the first one, they leave. An answer that
//! is as large as a write leaves before the next task starts, so that no more than one large output is ever waiting.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;

use super::wire::write_frame;

/// A write carries about this much.
const WRITE_BYTES: usize = 1 << 15;
/// An answer waits for others at most so long.
const LINGER: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Waiting {
    frames: Vec<u8>,
    /// Nothing will follow soon.
    urgent: bool,
    /// The writer is at a write.
    writing: bool,
    closed: bool,
}

impl Waiting {
    fn is_due(&self) -> bool {
        self.urgent || self.closed || self.frames.len() >= WRITE_BYTES
    }
}

/// Between the thread that runs guests and the one that writes.
#[derive(Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    /// There is something to write, or it became due.
    news: Condvar,
    /// A write is over.
    written: Condvar,
}

impl Outbox {
    /// Puts an answer in; waits while there is no room for it.
    pub fn put(&self, message: &impl Serialize) -> io::Result<()> {
        let mut waiting = self.lock();
        while waiting.frames.len() >= WRITE_BYTES {
            waiting = self.written.wait(waiting).expect("no panic while held");
        }
        let before = waiting.frames.len();
        write_frame(&mut waiting.frames, message)?;
        let is_large = waiting.frames.len() - before >= WRITE_BYTES;
        if before == 0 || waiting.is_due() {
            self.news.notify_one();
        }
        while is_large && (waiting.writing || !waiting.frames.is_empty()) {
            waiting = self.written.wait(waiting).expect("no panic while held");
        }
        Ok(())
    }

    /// Nothing will follow soon: what waits leaves now.
    pub fn hurry(&self) {
        let mut waiting = self.lock();
        waiting.urgent = !waiting.frames.is_empty();
        self.news.notify_one();
    }

    /// Nothing will follow at all.
    pub fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// Writes until the box is closed and empty, or the pipe is.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        loop {
            let waiting = self.lock();
            let waiting =
                self.news.wait_while(waiting, |w| w.frames.is_empty() && !w.closed).expect("no panic while held");
            let (mut waiting, _) =
                self.news.wait_timeout_while(waiting, LINGER, |w| !w.is_due()).expect("no panic while held");
            if waiting.frames.is_empty() {
                return Ok(());
            }
            let frames = std::mem::take(&mut waiting.frames);
            (waiting.urgent, waiting.writing) = (false, true);
            drop(waiting);
            to.write_all(&frames)?;
            to.flush()?;
            drop(frames);
            self.lock().writing = false;
            self.written.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::read_frame;
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Hands on what is written, write by write.
    struct Pipe(Sender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn with_writer(story: impl FnOnce(&Outbox, Receiver<Vec<u8>>)) {
        let outbox = Outbox::default();
        let (to, pipe) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.write_to(&mut Pipe(to)).expect("the pipe is open"));
            story(&outbox, pipe);
            outbox.close();
        });
    }

    #[test]
    fn an_answer_leaves_although_nothing_follows_it() {
        with_writer(|outbox, pipe| {
            outbox.put(&7u32).unwrap();
            let write = pipe.recv().unwrap();
            assert_eq!(read_frame::<u32>(&mut write.as_slice()).unwrap(), Some(7));
        });
    }

    #[test]
    fn all_answers_leave_in_order_and_share_writes() {
        with_writer(|outbox, pipe| {
            (0..10_000u32).for_each(|n| outbox.put(&n).unwrap());
            outbox.hurry();
            let (mut bytes, mut writes) = (Vec::new(), 0);
            let whole: usize = {
                let mut all = Vec::new();
                (0..10_000u32).for_each(|n| write_frame(&mut all, &n).unwrap());
                all.len()
            };
            while bytes.len() < whole {
                bytes.extend(pipe.recv().unwrap());
                writes += 1;
            }
            let mut from = bytes.as_slice();
            (0..10_000u32).for_each(|n| assert_eq!(read_frame::<u32>(&mut from).unwrap(), Some(n)));
            assert!(writes < 1_000, "{writes} writes");
        });
    }

    #[test]
    fn a_large_answer_is_gone_before_the_next_task_starts() {
        with_writer(|outbox, pipe| {
            outbox.put(&vec![1u8; 1 << 20]).unwrap();
            assert!(pipe.try_recv().is_ok_and(|write| write.len() > 1 << 20));
        });
    }
}
