//! The few numbers both ends of a connection must agree on.

use iroh::endpoint::{ConnectionError, VarInt};

/// First byte of a work stream: the version of the framing that follows.
pub(crate) const SESSION_VERSION: u8 = 1;
/// First byte of an answer: what follows is the answer.
pub(crate) const REPLY_OK: u8 = 0;
/// First byte of an answer: what follows is why there is none.
pub(crate) const REPLY_REFUSED: u8 = 1;
/// Longest reason that is sent or shown.
pub(crate) const REASON_BYTES_MAX: usize = 512;

/// Why we end a stream or a connection, as the peer will see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    Full,
    PeerFull,
    NotAdmitted,
    Unused,
    Protocol,
    TooLarge,
    Stalled,
    NoReply,
    SessionsFull,
    RateLimited,
    NotServed,
    IpFull,
    Silent,
    Crowded,
}

const REFUSALS: [(Refusal, u32, &str); 15] = [
    (Refusal::Closed, 0, "closed"),
    (Refusal::Full, 1, "this node has no room for more connections"),
    (Refusal::PeerFull, 2, "too many connections from this node"),
    (Refusal::NotAdmitted, 3, "this node is not admitted"),
    (Refusal::Unused, 4, "the connection was not used for a while"),
    (Refusal::Protocol, 5, "not the protocol that was agreed"),
    (Refusal::TooLarge, 6, "the message is too large"),
    (Refusal::Stalled, 7, "the message did not arrive in time"),
    (Refusal::NoReply, 8, "the request was dropped without an answer"),
    (Refusal::SessionsFull, 9, "too many sessions from this node"),
    (Refusal::RateLimited, 10, "too many requests; slow down"),
    (Refusal::NotServed, 11, "this node does not serve that"),
    (Refusal::IpFull, 12, "too many connections from this address"),
    (Refusal::Silent, 13, "nothing was heard on this connection while the peer answered on another"),
    (Refusal::Crowded, 14, "too much is on its way here from this address; try again later"),
];

impl Refusal {
    fn row(self) -> (u32, &'static str) {
        let row = REFUSALS.iter().find(|(refusal, _, _)| *refusal == self);
        row.map(|(_, code, text)| (*code, *text)).expect("every refusal has a row")
    }

    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(self.row().0)
    }

    pub(crate) fn text(self) -> &'static str {
        self.row().1
    }
}

/// The reason behind a stream's error code.
pub(crate) fn stream_reason(code: VarInt) -> String {
    let known = REFUSALS.iter().find(|(_, c, _)| u64::from(*c) == code.into_inner());
    known.map_or_else(|| format!("error {code}"), |(_, _, text)| (*text).to_owned())
}

/// The peer's code and reason for closing a connection, if it was the peer who closed it.
pub(crate) fn close_reason(e: &ConnectionError) -> Option<(VarInt, String)> {
    match e {
        ConnectionError::ApplicationClosed(close) if close.reason.is_empty() => {
            Some((close.error_code, stream_reason(close.error_code)))
        }
        ConnectionError::ApplicationClosed(close) => Some((close.error_code, readable(&close.reason))),
        _ => None,
    }
}

/// A stranger's text, made safe to print.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(REASON_BYTES_MAX)];
    String::from_utf8_lossy(cut).chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_meaning() {
        for (at, (refusal, code, text)) in REFUSALS.iter().enumerate() {
            assert_eq!(*code as usize, at);
            assert_eq!(stream_reason(refusal.code()), *text);
        }
        assert_eq!(stream_reason(VarInt::from_u32(999)), "error 999");
        assert_eq!(readable(b"a\x1b[31mb\n\xff"), "a[31mb\u{fffd}");
    }
}
