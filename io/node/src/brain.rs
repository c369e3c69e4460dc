//! The one loop: world -> input, brain, output -> world.
//!
//! Everything that happens arrives in one inbox and is stepped through [`glean_protocol::Node::step`], the same function
//! that the simulator runs. What arrived together is stepped together and its records are written with one
//! fsync (group commit); only then are the effects performed. If the journal cannot be written the loop
//! ends and with it the node: nothing was promised that is not on the disk.

use std::time::{Duration, Instant};

use glean_protocol::{Input, Node, Output, Record};
use tokio::sync::{mpsc, oneshot};

use crate::clock::now_ms;
use crate::journal::{Journal, JournalError};

/// Inputs stepped before one fsync.
const BATCH_MAX: usize = 256;
/// The brain is woken at least this often while it has something to wait for.
const TICK_MS_MIN: u64 = 5;
/// A disk that takes longer than this for a batch gets a thread to itself; for less, the change of threads costs more than
/// the network tasks of this thread can lose.
const SLOW_DISK: Duration = Duration::from_millis(1);

type View = Box<dyn FnOnce(&Node) + Send>;

enum Ask {
    Input(Box<Input>),
    View(View),
}

/// Where inputs go. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    asks: mpsc::Sender<Ask>,
}

impl Inbox {
    /// A new inbox and the end that the loop reads.
    pub fn new() -> (Inbox, Asks) {
        let (asks, queue) = mpsc::channel(4096);
        (Inbox { asks }, Asks { queue })
    }

    /// Hands an input to the brain. Lost only if the node has stopped.
    pub async fn send(&self, input: Input) {
        let _ = self.asks.send(Ask::Input(Box::new(input))).await;
    }

    /// Reads something from the brain, after everything sent before it was stepped and stored. `None` once the node has stopped.
    pub async fn view<T: Send + 'static>(&self, read: impl FnOnce(&Node) -> T + Send + 'static) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let view: View = Box::new(move |node| drop(answer.send(read(node))));
        self.asks.send(Ask::View(view)).await.ok()?;
        answered.await.ok()
    }
}

/// The reading end of an [`Inbox`].
pub struct Asks {
    queue: mpsc::Receiver<Ask>,
}

/// What performs the brain's outputs.
pub trait World: Send {
    /// Performs one output; must not block. Records never come here.
    fn perform(&mut self, output: Output);
}

/// Runs until the inbox is dropped (clean stop) or the journal fails.
pub async fn run(
    mut node: Node,
    mut journal: Journal,
    mut asks: Asks,
    mut world: impl World,
) -> Result<(), JournalError> {
    let mut batch = Vec::new();
    // When the next tick is due: earlier if the brain wants it earlier, never later because something else happened.
    let mut tick_ms = None;
    let mut disk_is_slow = false;
    loop {
        let wanted = node.wake_ms();
        tick_ms = match (tick_ms, wanted) {
            (Some(due), Some(wanted)) => Some(wanted.min(due)),
            (_, wanted) => wanted,
        };
        let count = match tick_ms {
            None => asks.queue.recv_many(&mut batch, BATCH_MAX).await,
            Some(due) => {
                let wait = Duration::from_millis(due.saturating_sub(now_ms()).max(TICK_MS_MIN));
                let timed = tokio::time::timeout(wait, asks.queue.recv_many(&mut batch, BATCH_MAX)).await;
                let is_due = timed.is_err() || now_ms() >= due;
                if is_due {
                    batch.push(Ask::Input(Box::new(Input::Tick)));
                    tick_ms = None;
                }
                timed.unwrap_or(0) + usize::from(is_due)
            }
        };
        if count == 0 {
            return Ok(());
        }
        let (outputs, views) = step_all(&mut node, batch.drain(..));
        let (records, effects) = split(outputs);
        let start = Instant::now();
        match disk_is_slow {
            true => tokio::task::block_in_place(|| journal.append(&records))?,
            false => journal.append(&records)?,
        }
        if !records.is_empty() {
            disk_is_slow = start.elapsed() > SLOW_DISK;
        }
        effects.into_iter().for_each(|output| world.perform(output));
        views.into_iter().for_each(|view| view(&node));
    }
}

fn step_all(node: &mut Node, asks: impl Iterator<Item = Ask>) -> (Vec<Output>, Vec<View>) {
    let (mut outputs, mut views) = (Vec::new(), Vec::new());
    for ask in asks {
        match ask {
            Ask::Input(input) => outputs.extend(node.step(now_ms(), *input)),
            Ask::View(view) => views.push(view),
        }
    }
    (outputs, views)
}

/// What must be on the disk first, and what is done then: people are told after peers, who wait.
fn split(outputs: Vec<Output>) -> (Vec<Record>, Vec<Output>) {
    let (mut records, mut effects, mut reports) = (Vec::new(), Vec::new(), Vec::new());
    for output in outputs {
        match output {
            Output::Record(record) => records.push(record),
            Output::Report(_) => reports.push(output),
            effect => effects.push(effect),
        }
    }
    effects.append(&mut reports);
    (records, effects)
}
