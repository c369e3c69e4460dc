//! What the network did so far, for metrics and `glean doctor`.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// A reading of all counters. They only grow, except `connections_live`, `handshakes_live`
        /// and `unfinished_bytes`.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct NetStats {
            $($(#[$doc])* pub $name: u64,)+
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn read(&self) -> NetStats {
                NetStats { $($name: self.$name.0.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Incoming connections that are open now.
    connections_live,
    /// Room that messages and requests take now that are not complete, or not answered.
    unfinished_bytes,
    /// Incoming connections that were let in.
    connections_accepted,
    /// Incoming connections that were turned away.
    connections_refused,
    /// Handshakes that were begun.
    handshakes,
    /// Handshakes in progress now.
    handshakes_live,
    /// Connections we opened.
    connections_dialled,
    /// Dials that failed.
    dials_failed,
    /// Work sessions opened by either side.
    sessions,
    /// Messages sent in sessions.
    messages_sent,
    /// Messages received in sessions.
    messages_received,
    /// Requests we made.
    requests_made,
    /// Requests we were asked.
    requests_received,
    /// Requests and sessions refused for their rate or number.
    rate_limited,
    /// Messages and requests refused for their size.
    too_large,
    /// Messages and requests refused because too much was on its way from where they came.
    crowded,
    /// Messages and requests that did not arrive in time.
    stalled,
    /// Blob requests served.
    blob_requests,
    /// Blob requests refused.
    blob_requests_refused,
    /// Blob bytes fetched from others.
    blob_bytes_fetched,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn less(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub(crate) fn less_one(&self) {
        self.less(1);
    }
}
