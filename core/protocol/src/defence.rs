//! What keeps honest parties from losing to the others, by name.
//!
//! Every one of them can be taken away, one at a time, in a simulated world: the villain that it is there for must
//! then win (`sim/tests/villains.rs`). A defence that nobody misses is none. Shipped nodes have all of them. (Signatures,
//! roots and what the ledger itself refuses cannot be taken away; they have tests of their own.)

/// One defence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Defence {
    /// Answers are run again in secret. Without it a liar is believed.
    Checks,
    /// Machines with a clean history are still checked. Without it a sleeper is believed once it wakes.
    CheckFloor,
    /// Some checks are tasks whose answer is known. Without it one who knows what is known is never caught.
    Canaries,
    /// A check goes to another owner's machine. Without it an owner confirms its own lies.
    OtherOwner,
    /// A machine found wrong takes its owner's others with it. Without it they go on.
    OwnerBan,
    /// Bills are added up again. Without it a forger is paid what it asks.
    Bills,
    /// A slice without answer goes elsewhere after a while. Without it a vanisher holds a job up for ever.
    Leases,
    /// A machine's word that a price cap is too low counts for itself. Without it a haggler prices all others out.
    OwnCaps,
    /// Our own worker has the last word on what nobody had an answer for. Without it shruggers fail a job.
    LastResort,
    /// One delivered slice unpaid, no more. Without it one who never pays gets all its work for nothing.
    OneUnpaid,
    /// A slice's number is used once. Without it one who replays paid slices gets them run again for nothing.
    SliceNumbers,
    /// No work before the ledger has shown the channel. Without it made-up channels are worked for.
    LedgerFirst,
    /// Vouchers stay within the deposit. Without it promises are taken that the ledger will not pay.
    VoucherDeposit,
}
