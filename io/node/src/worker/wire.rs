//! What a node and its worker say to each other over the worker's pipes: length-prefixed postcard frames.
//!
//! The node trusts nothing a worker says: frames are limited, numbers are checked, garbage ends the worker.

use std::io::{self, Read, Write};

use glean_types::{Hash, Outcome, decode, encode};
use serde::{Deserialize, Serialize};

/// Largest frame to a worker: one input file or one order.
pub const FRAME_BYTES_MAX: usize = 1 << 30;

/// After so many tasks that the fuel paid for was not enough for, the rest is not even tried.
pub const STOPPED_MAX: u32 = 2;

/// What a worker must know before it walls itself in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// The compiled program that it will run, and no other.
    pub module: String,
    /// Memory that the whole process may use.
    pub data_max: u64,
}

/// Node to worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// Here is an input file.
    File { hash: Hash, bytes: Vec<u8> },
    /// Forget all input files.
    ForgetFiles,
    /// All that the orders from here on may burn together.
    Fuel(u64),
    /// Run this.
    Run(Box<Order>),
}

/// One task.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    pub number: u32,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub stdin: Vec<u8>,
    pub files: Vec<(String, Hash)>,
    pub seed: [u8; 32],
    pub clock_ns: u64,
    pub fuel_max: u64,
    pub mem_max: u64,
    pub output_max: u64,
}

/// Worker to node.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// The program is loaded and the wall is up; or why not.
    Ready(Result<(), String>),
    /// The answer to one order, in the order they came.
    Done { number: u32, reply: Box<Reply> },
    /// No verdict on one order.
    NoVerdict { number: u32, why: Why },
    /// Compile mode: how many bytes of compiled program follow this frame, bare.
    Compiled(Result<u64, String>),
    /// Self-test mode: what the wall let through.
    Holes(Vec<String>),
}

/// What came of a task.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub outcome: Outcome,
    pub fuel: u64,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub files: Vec<(String, Vec<u8>)>,
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    HostMemory,
    StackOverflow,
    Unusable(String),
    Engine(String),
    FuelCap,
}

/// Writes one frame.
pub fn write_frame(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = encode(message);
    let len = u32::try_from(body.len()).map_err(|_| io::Error::other("frame over 4 GiB"))?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(&body)
}

/// Reads one frame; `None` when the other side has closed the pipe.
pub fn read_frame<T: serde::de::DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut len = [0u8; 4];
    if let Err(error) = from.read_exact(&mut len) {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let len = u32::from_le_bytes(len) as usize;
    if len > FRAME_BYTES_MAX {
        return Err(io::Error::other("frame too long"));
    }
    // Grown as bytes arrive: a lying length alone costs nothing.
    let mut body = Vec::new();
    from.take(len as u64).read_to_end(&mut body)?;
    if body.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    decode(&body, FRAME_BYTES_MAX).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_and_lies_are_refused() {
        let mut pipe = Vec::new();
        write_frame(&mut pipe, &ToWorker::File { hash: Hash::of(b"x"), bytes: b"x".to_vec() }).unwrap();
        let mut from = pipe.as_slice();
        assert!(matches!(read_frame::<ToWorker>(&mut from).unwrap(), Some(ToWorker::File { .. })));
        assert!(read_frame::<ToWorker>(&mut from).unwrap().is_none());
        assert!(read_frame::<ToWorker>(&mut [0xff; 4].as_slice()).is_err());
        assert!(read_frame::<ToWorker>(&mut [8, 0, 0, 0, 1].as_slice()).is_err());
    }
}
