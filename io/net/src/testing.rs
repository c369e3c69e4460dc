//! Small networks on 127.0.0.1 for the tests.

use std::future::Future;
use std::time::Duration;

use crate::{Net, NetConfig};

/// How long any single step of a test may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration on a free port of the loopback interface.
pub(crate) fn config(seed: u8) -> NetConfig {
    NetConfig { bind: vec!["127.0.0.1:0".parse().unwrap()], ..NetConfig::new([seed; 32]) }
}

pub(crate) async fn net(seed: u8) -> Net {
    Net::bind(config(seed)).await.unwrap()
}

/// Tells `a` where `b` is.
pub(crate) fn introduce(a: &Net, b: &Net) {
    a.add_peer(b.addr());
}

/// Fails the test instead of hanging it.
pub(crate) async fn soon<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, step).await.expect("the step to end in time")
}
