//! The open work sessions, one writer and one reader loop each.
//!
//! A session is known by the node at its other end. When two nodes dial each other at the same moment both
//! sessions live; messages are taken from either and sent on the newer. A message that names blobs is
//! handed on only after the blobs are here: an answer without its bytes is no answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use glean_net::{Net, PeerAddr, Receiver, Sender, Session};
use glean_protocol::{Input, SliceDoneMsg, WorkMsg};
use glean_types::{Hash, NodeId, Output, TaskResult};
use tokio::sync::mpsc;

use crate::brain::Inbox;

/// Frames waiting to be written to one peer. The brain keeps few messages in flight per peer, so a full
/// queue means that the peer has stopped reading.
const QUEUE_FRAMES_MAX: usize = 256;

struct Open {
    id: u64,
    frames: mpsc::Sender<Vec<u8>>,
}

/// Sessions by peer, oldest first, and the number of the newest.
#[derive(Default)]
struct Table {
    newest: u64,
    by_peer: BTreeMap<NodeId, Vec<Open>>,
}

/// All open sessions of this node.
#[derive(Clone)]
pub struct Sessions {
    net: Net,
    inbox: Inbox,
    open: Arc<Mutex<Table>>,
    blob_bytes_max: u64,
}

impl Sessions {
    /// None open yet. Outputs fetched from peers are limited to `blob_bytes_max` each.
    pub fn new(net: Net, inbox: Inbox, blob_bytes_max: u64) -> Sessions {
        Sessions { net, inbox, open: Arc::default(), blob_bytes_max }
    }

    /// Dials; the brain hears of the outcome.
    pub fn dial(&self, node: NodeId, peer: Vec<u8>) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Ok(addr) = PeerAddr::from_bytes(&peer)
                && addr.node == node
            {
                this.net.add_peer(addr);
            }
            match this.net.open_work(node).await {
                Ok(session) => this.adopt(session).await,
                Err(error) => {
                    tracing::info!(peer = %node.short(), %error, "could not open a work session");
                    this.inbox.send(Input::Disconnected(node)).await;
                }
            }
        });
    }

    /// Takes over a session, dialled or accepted, until it ends.
    pub async fn adopt(&self, session: Session) {
        let peer = session.peer();
        let (sender, receiver) = session.split();
        let (frames, queue) = mpsc::channel(QUEUE_FRAMES_MAX);
        let id = self.add(peer, frames);
        self.inbox.send(Input::Connected(peer)).await;
        let this = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = write_frames(sender, queue) => {}
                () = this.read_frames(peer, receiver) => {}
            }
            if this.remove(peer, id) {
                this.inbox.send(Input::Disconnected(peer)).await;
            }
        });
    }

    /// Queues a message; without a session, or with a stuck one, the brain is told that the peer is gone.
    pub fn send(&self, to: NodeId, message: &WorkMsg) {
        let sent = {
            let open = self.open.lock().expect("no panic while held");
            let newest = open.by_peer.get(&to).and_then(|sessions| sessions.last());
            newest.is_some_and(|session| session.frames.try_send(message.to_frame()).is_ok())
        };
        if !sent {
            self.hang_up(to);
            let inbox = self.inbox.clone();
            tokio::spawn(async move { inbox.send(Input::Disconnected(to)).await });
        }
    }

    /// Ends all sessions with a peer.
    pub fn hang_up(&self, peer: NodeId) {
        self.open.lock().expect("no panic while held").by_peer.remove(&peer);
    }

    fn add(&self, peer: NodeId, frames: mpsc::Sender<Vec<u8>>) -> u64 {
        let mut open = self.open.lock().expect("no panic while held");
        open.newest += 1;
        let id = open.newest;
        open.by_peer.entry(peer).or_default().push(Open { id, frames });
        id
    }

    /// Whether it was the last one with this peer.
    fn remove(&self, peer: NodeId, id: u64) -> bool {
        let mut open = self.open.lock().expect("no panic while held");
        let Some(sessions) = open.by_peer.get_mut(&peer) else { return true };
        sessions.retain(|session| session.id != id);
        let last = sessions.is_empty();
        if last {
            open.by_peer.remove(&peer);
        }
        last
    }

    async fn read_frames(&self, peer: NodeId, mut receiver: Receiver) {
        loop {
            let frame = match receiver.recv().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => {
                    tracing::info!(peer = %peer.short(), %error, "work session ended");
                    return;
                }
            };
            let message = match WorkMsg::from_frame(&frame) {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(peer = %peer.short(), %error, "garbage in a work session: hanging up");
                    return;
                }
            };
            if let WorkMsg::Done(done) = &message
                && let Err(error) = self.fetch_outputs(peer, done).await
            {
                tracing::warn!(peer = %peer.short(), %error, "outputs were promised but not delivered: hanging up");
                return;
            }
            self.inbox.send(Input::Message { from: peer, message }).await;
        }
    }

    /// Fetches what an answer names: only one that was asked for, only as much as its tasks may put out, and for keeps.
    async fn fetch_outputs(&self, peer: NodeId, done: &SliceDoneMsg) -> Result<(), String> {
        let Some(blobs) = self.net.blobs() else { return Ok(()) };
        let named = blobs_of(&done.results);
        if named.is_empty() {
            return Ok(());
        }
        let (channel, slice) = (done.receipt.paper.channel, done.receipt.paper.slice);
        let awaited = self.inbox.view(move |node| node.awaits(&peer, channel, slice)).await.flatten();
        // The brain ignores what it did not ask for, or answers it without looking at the outputs.
        let Some(bytes_max) = awaited else { return Ok(()) };
        let bytes = named.iter().fold(0u64, |sum, (_, len)| sum.saturating_add(*len));
        if bytes > bytes_max {
            return Err(format!("{bytes} bytes of output, {bytes_max} allowed"));
        }
        for (hash, len) in named {
            let from = [PeerAddr::of(peer)];
            let size =
                blobs.fetch(hash, &from, self.blob_bytes_max.min(len), |_| {}).await.map_err(|e| e.to_string())?;
            if size != len {
                return Err(format!("{hash} has {size} bytes, not {len}"));
            }
        }
        blobs.sync().await.map_err(|e| e.to_string())
    }
}

/// The outputs that did not travel inside the results.
fn blobs_of(results: &[TaskResult]) -> Vec<(Hash, u64)> {
    let outputs = results.iter().flat_map(|r| [&r.stdout, &r.stderr].into_iter().chain(r.files.iter().map(|f| &f.1)));
    let blob = |output: &Output| match output {
        Output::Blob { hash, len } => Some((*hash, *len)),
        Output::Inline(_) => None,
    };
    outputs.filter_map(blob).collect()
}

async fn write_frames(mut sender: Sender, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = sender.send(&frame).await {
            tracing::info!(peer = %sender.peer().short(), %error, "work session broke while sending");
            return;
        }
    }
    // The queue was dropped: we hung up. What was written still arrives.
    let _ = sender.finish().await;
}
