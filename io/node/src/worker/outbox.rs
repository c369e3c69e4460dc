//! Answers on their way out of a worker: gathered into few writes, and never kept waiting by the task after them.
//!
//! The thread that runs guests puts answers in. While tasks follow each other quickly one write carries many answers;
//! when nothing more is to do the same thread writes them, and when a task takes its time a second thread does, [`LINGER`]
//! after the first of them. An answer that is as large as a write leaves before the next task starts, so that no more
//! than one large output is ever waiting.

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
    /// The first of them may have to wait for a task.
    lingers: bool,
    closed: bool,
}

/// Between the thread that runs guests and the pipe.
pub struct Outbox<W> {
    waiting: Mutex<Waiting>,
    /// There is something to write, or it became due.
    news: Condvar,
    /// Held from before frames are taken until they are written: that keeps them in order.
    to: Mutex<W>,
}

impl<W: Write> Outbox<W> {
    /// An empty box before this pipe.
    pub fn new(to: W) -> Outbox<W> {
        Outbox { waiting: Mutex::default(), news: Condvar::new(), to: Mutex::new(to) }
    }

    /// Puts an answer in.
    pub fn put(&self, message: &impl Serialize) -> io::Result<()> {
        let mut waiting = self.lock();
        write_frame(&mut waiting.frames, message)?;
        let is_due = waiting.frames.len() >= WRITE_BYTES;
        drop(waiting);
        if is_due { self.write() } else { Ok(()) }
    }

    /// Another task is begun before what waits is written.
    pub fn linger(&self) {
        let mut waiting = self.lock();
        if !waiting.frames.is_empty() && !std::mem::replace(&mut waiting.lingers, true) {
            drop(waiting);
            self.news.notify_one();
        }
    }

    /// Writes what waits.
    pub fn write(&self) -> io::Result<()> {
        let mut to = self.to.lock().expect("no panic while held");
        let frames = {
            let mut waiting = self.lock();
            waiting.lingers = false;
            std::mem::take(&mut waiting.frames)
        };
        if frames.is_empty() {
            return Ok(());
        }
        to.write_all(&frames)?;
        to.flush()
    }

    /// Nothing will follow.
    pub fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// Writes what has lingered, until the box is closed and empty, or the pipe is closed.
    pub fn write_lingering(&self) -> io::Result<()> {
        loop {
            let waiting = self.lock();
            let waiting = self.news.wait_while(waiting, |w| !w.lingers && !w.closed).expect("no panic while held");
            let (waiting, _) =
                self.news.wait_timeout_while(waiting, LINGER, |w| !w.closed).expect("no panic while held");
            let is_over = waiting.closed;
            drop(waiting);
            self.write()?;
            if is_over {
                return Ok(());
            }
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

    fn with_writer(story: impl FnOnce(&Outbox<Pipe>, Receiver<Vec<u8>>)) {
        let (to, pipe) = channel();
        let outbox = Outbox::new(Pipe(to));
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.write_lingering().expect("the pipe is open"));
            story(&outbox, pipe);
            outbox.close();
        });
    }

    #[test]
    fn an_answer_leaves_although_the_task_after_it_takes_long() {
        with_writer(|outbox, pipe| {
            outbox.put(&7u32).unwrap();
            outbox.linger();
            let write = pipe.recv().unwrap();
            assert_eq!(read_frame::<u32>(&mut write.as_slice()).unwrap(), Some(7));
        });
    }

    #[test]
    fn all_answers_leave_in_order_and_share_writes() {
        with_writer(|outbox, pipe| {
            for n in 0..10_000u32 {
                outbox.put(&n).unwrap();
                outbox.linger();
            }
            outbox.write().unwrap();
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
