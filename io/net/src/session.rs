//! A work session: two nodes exchanging messages over one stream for as long as they have business.
//!
//! A message is four bytes of length (little endian) and that many bytes. Silence between messages is
//! normal: a provider may compute for an hour. Silence *inside* a message is not: a message that began
//! must be complete in a time that depends on its size, and a message we send must be taken in that time.
//!
//! [`Receiver::recv`] may be dropped at any await (for instance in a `select!`) without losing bytes.
//! [`Sender::send`] may not: a half-sent message cannot be taken back, so the sender refuses to go on.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use glean_types::NodeId;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::time::{Instant, timeout, timeout_at};

use crate::errors::{Broken, SessionError};
use crate::gate::{Hold, Slot};
use crate::limits::NetLimits;
use crate::pool::Doubt;
use crate::stats::Counters;
use crate::wire::Refusal;

const LENGTH_BYTES: usize = 4;
/// What one read may bring at most: enough to find many small messages in it.
const READ_BYTES: usize = 64 << 10;
const SLOWEST_BYTES_PER_SECOND: usize = 32_000;

/// Both directions of a work session.
#[derive(Debug)]
pub struct Session {
    sender: Sender,
    receiver: Receiver,
}

/// The sending half of a session. Dropping it unfinished tells the peer that the session broke.
#[derive(Debug)]
pub struct Sender {
    stream: SendStream,
    buffer: Vec<u8>,
    frame_bytes_max: usize,
    patience: Duration,
    state: SendState,
    shared: Arc<Shared>,
}

/// The receiving half of a session.
#[derive(Debug)]
pub struct Receiver {
    stream: RecvStream,
    inbox: Inbox,
    /// When the message that has begun did begin.
    began: Option<Instant>,
    patience: Duration,
    ended: bool,
    /// Room for what has arrived and is not yet a message, where a peer opened the session.
    hold: Option<Hold>,
    shared: Arc<Shared>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendState {
    Ready,
    Sending,
    Finished,
}

/// What a session keeps alive: its place, and the connection it runs on.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) peer: NodeId,
    pub(crate) counters: Arc<Counters>,
    pub(crate) connection: Connection,
    /// On the side that dialled: finds out whether the peer still knows the connection.
    pub(crate) doubt: Option<Doubt>,
    pub(crate) _slot: Option<Slot>,
    /// Held by everything that uses the connection, so that an unused one can be told.
    pub(crate) _in_use: Arc<()>,
}

impl Session {
    pub(crate) fn new(
        stream: (SendStream, RecvStream),
        limits: &NetLimits,
        hold: Option<Hold>,
        shared: Shared,
    ) -> Self {
        let shared = Arc::new(shared);
        shared.counters.sessions.one();
        let (frame_bytes_max, patience) = (limits.frame_bytes_max, limits.message_timeout);
        let sender = Sender {
            stream: stream.0,
            buffer: Vec::new(),
            frame_bytes_max,
            patience,
            state: SendState::Ready,
            shared: shared.clone(),
        };
        let receiver = Receiver {
            stream: stream.1,
            inbox: Inbox { pending: BytesMut::new(), frame_bytes_max },
            began: None,
            patience,
            ended: false,
            hold,
            shared,
        };
        Self { sender, receiver }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.sender.peer()
    }

    /// Sends one message; returns once the transport has taken it. Not to be dropped half way.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SessionError> {
        self.sender.send(message).await
    }

    /// The next message, or nothing once the peer has finished. May be dropped half way.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, SessionError> {
        self.receiver.recv().await
    }

    /// The two directions, to be used by two loops.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

impl Sender {
    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.shared.peer
    }

    /// Sends one message; returns once the transport has taken it. Not to be dropped half way.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SessionError> {
        let limit = self.frame_bytes_max;
        let length = u32::try_from(message.len()).ok().filter(|_| message.len() <= limit);
        let length = length.ok_or(SessionError::TooLarge { got: message.len(), limit })?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(message);
        let sent = self.write(&buffer).await;
        // Small messages reuse the buffer; a large one must not stay in memory for an idle session.
        if buffer.capacity() <= READ_BYTES {
            self.buffer = buffer;
        }
        sent?;
        self.shared.counters.messages_sent.one();
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        if self.state != SendState::Ready {
            return Err(SessionError::Torn);
        }
        self.state = SendState::Sending;
        if let Some(doubt) = &self.shared.doubt {
            doubt.arises(&self.shared.connection, self.shared.peer);
        }
        let allowed = time_for(bytes.len(), self.patience);
        match timeout(allowed, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => {
                self.state = SendState::Ready;
                Ok(())
            }
            Ok(Err(e)) => Err(Broken::from(e).into()),
            Err(_) => {
                self.shared.counters.stalled.one();
                Err(stalled(allowed))
            }
        }
    }

    /// Says that nothing more will be sent, and waits until the peer has received everything.
    pub async fn finish(mut self) -> Result<(), SessionError> {
        if self.state != SendState::Ready {
            return Err(SessionError::Torn);
        }
        self.state = SendState::Finished;
        // Fails only for a stream that the peer has already stopped, which `stopped` reports.
        let _ = self.stream.finish();
        match timeout(self.patience, self.stream.stopped()).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(code))) => Err(SessionError::Refused { reason: crate::wire::stream_reason(code) }),
            Ok(Err(e)) => Err(SessionError::Lost { reason: e.to_string() }),
            Err(_) => Err(stalled(self.patience)),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.state != SendState::Finished {
            // Otherwise the transport would finish the stream, and the peer take a break for an end.
            let _ = self.stream.reset(Refusal::Closed.code());
        }
    }
}

impl Receiver {
    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.shared.peer
    }

    /// The next message, or nothing once the peer has finished. May be dropped half way.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, SessionError> {
        loop {
            match self.inbox.take() {
                Ok(Some(message)) => {
                    self.began = None;
                    self.keep_room()?;
                    self.shared.counters.messages_received.one();
                    return Ok(Some(message));
                }
                Ok(None) if !self.ended => self.read_more().await?,
                Ok(None) if self.inbox.is_empty() => return Ok(None),
                Ok(None) => return Err(SessionError::Malformed),
                Err(got) => {
                    self.shared.counters.too_large.one();
                    let _ = self.stream.stop(Refusal::TooLarge.code());
                    return Err(SessionError::TooLarge { got, limit: self.inbox.frame_bytes_max });
                }
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), SessionError> {
        let chunk = if self.inbox.is_empty() {
            self.stream.read_chunk(READ_BYTES).await
        } else {
            let began = *self.began.get_or_insert_with(Instant::now);
            let allowed = time_for(self.inbox.announced().unwrap_or(0), self.patience);
            match timeout_at(began + allowed, self.stream.read_chunk(READ_BYTES)).await {
                Ok(chunk) => chunk,
                Err(_) => {
                    self.shared.counters.stalled.one();
                    let _ = self.stream.stop(Refusal::Stalled.code());
                    return Err(stalled(allowed));
                }
            }
        };
        match chunk.map_err(Broken::from)? {
            Some(bytes) => {
                self.inbox.pending.extend_from_slice(&bytes);
                self.keep_room()
            }
            None => {
                self.ended = true;
                Ok(())
            }
        }
    }

    /// Takes or gives back room, as much as is pending now.
    fn keep_room(&mut self) -> Result<(), SessionError> {
        let Some(hold) = &mut self.hold else { return Ok(()) };
        hold.set(self.inbox.pending.len()).map_err(|refusal| {
            self.shared.counters.crowded.one();
            let _ = self.stream.stop(refusal.code());
            SessionError::Crowded
        })
    }
}

/// What has arrived and is not yet a whole message, or not yet taken.
#[derive(Debug)]
struct Inbox {
    pending: BytesMut,
    frame_bytes_max: usize,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The size of the message that has begun, once its prefix is here.
    fn announced(&self) -> Option<usize> {
        self.pending.first_chunk::<LENGTH_BYTES>().map(|prefix| u32::from_le_bytes(*prefix) as usize)
    }

    /// A whole message if one is here; its announced size if that is over the limit.
    fn take(&mut self) -> Result<Option<Bytes>, usize> {
        let Some(length) = self.announced() else { return Ok(None) };
        if length > self.frame_bytes_max {
            return Err(length);
        }
        if self.pending.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.pending.advance(LENGTH_BYTES);
        Ok(Some(self.pending.split_to(length).freeze()))
    }
}

/// How long a message of some size may take: any line that is worth using is faster than this.
pub(crate) fn time_for(bytes: usize, patience: Duration) -> Duration {
    patience + Duration::from_millis((bytes / (SLOWEST_BYTES_PER_SECOND / 1000)) as u64)
}

fn stalled(patience: Duration) -> SessionError {
    SessionError::Stalled { after_ms: patience.as_millis() as u64 }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_the_bytes_arrive(
            messages in vec(vec(any::<u8>(), 0..300), 0..20),
            cuts in vec(1usize..200, 1..100),
        ) {
            let sent: Vec<u8> = messages.iter().flat_map(|m| [&(m.len() as u32).to_le_bytes()[..], m].concat()).collect();
            let mut inbox = Inbox { pending: BytesMut::new(), frame_bytes_max: 300 };
            let (mut rest, mut received) = (&sent[..], Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                inbox.pending.extend_from_slice(now);
                rest = later;
                while let Some(message) = inbox.take().unwrap() {
                    received.push(message.to_vec());
                }
            }
            prop_assert_eq!(received, messages);
            prop_assert!(inbox.is_empty());
        }

        #[test]
        fn no_bytes_make_a_message_over_the_limit(bytes in vec(any::<u8>(), 0..400)) {
            let mut inbox = Inbox { pending: BytesMut::from(&bytes[..]), frame_bytes_max: 100 };
            loop {
                match inbox.take() {
                    Ok(Some(message)) => prop_assert!(message.len() <= 100),
                    Ok(None) => break,
                    Err(announced) => {
                        prop_assert!(announced > 100);
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_large_message_may_take_longer() {
        assert_eq!(time_for(0, Duration::from_secs(30)), Duration::from_secs(30));
        assert_eq!(time_for(16 << 20, Duration::from_secs(30)), Duration::from_millis(30_000 + 524_288));
    }
}
