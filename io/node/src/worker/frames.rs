//! What goes through a worker's pipe, as bytes: see [`crate::decoders`].

use glean_types::Outcome;

use super::wire::{FromWorker, Reply, Start, ToWorker, read_frame, write_frame};

/// Whether some bytes begin with a frame of either direction.
pub(crate) fn is_frame(bytes: &[u8]) -> bool {
    read_frame::<FromWorker>(&mut &*bytes).is_ok_and(|frame| frame.is_some())
        || read_frame::<ToWorker>(&mut &*bytes).is_ok_and(|frame| frame.is_some())
        || read_frame::<Start>(&mut &*bytes).is_ok_and(|frame| frame.is_some())
}

/// An answer.
pub(crate) fn example(outcome: Outcome) -> Vec<u8> {
    let reply =
        Reply { outcome, fuel: 7, stdout: b"out".to_vec(), stderr: vec![], files: vec![("/out/a".into(), vec![1])] };
    let mut bytes = Vec::new();
    write_frame(&mut bytes, &FromWorker::Done { number: 0, reply: Box::new(reply) }).expect("memory takes everything");
    bytes
}
