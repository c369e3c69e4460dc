//! Numbers that change results or money: the same for every node of a network, checked at compile time.
//!
//! A machine's own choices (price, cores, hours) are settings and live in `io/node`.

use crate::Amount;

/// Fuel added to every task's bill: starting a task costs the provider about this much work.
pub const FUEL_PER_TASK: u64 = 100_000;

/// Most tasks in one slice: one receipt and one voucher then cost under a microsecond per task.
pub const SLICE_TASKS_MAX: usize = 512;

/// The most that a slice may cost: all that either side can lose to the other (economy: $0.05 or 30 s).
pub const SLICE_PRICE_MAX: Amount = match Amount::from_units(50_000_000_000_000_000) {
    Some(amount) => amount,
    None => Amount::ZERO,
};

/// The aim for one slice's run time at one provider.
pub const SLICE_MS_AIM: u64 = 2_000;

/// Most tasks in one job.
pub const JOB_TASKS_MAX: u32 = 1_000_000;

/// Every task of an unknown machine is checked until this many have been found right.
pub const CHECK_ALL_FIRST: u32 = 10;
/// Then one in this many is checked,
pub const CHECK_ONE_IN_NEW: u32 = 10;
/// and from [`CHECK_CLEAN_AFTER`] right answers on, one in this many. Without a bond a lower rate
/// would let a machine that behaves first cheat about a thousand times unseen (reliability, section 3).
pub const CHECK_ONE_IN_CLEAN: u32 = 20;
/// Right answers after which a machine counts as clean.
pub const CHECK_CLEAN_AFTER: u32 = 200;
/// One check in this many is a canary: a task whose answer is already known.
pub const CANARY_ONE_IN: u32 = 20;

/// Outputs up to this size travel inside the result; larger ones are blobs fetched by hash.
pub const INLINE_OUTPUT_MAX: usize = 64 * 1024;
/// Inputs (stdin of one task) up to this size travel inside the slice.
pub const INLINE_INPUT_MAX: usize = 64 * 1024;
/// Largest frame of a work session.
pub const FRAME_MAX: usize = 16 * 1024 * 1024;
/// Outputs of one slice that travel inside the frame, all together; the rest become blobs.
pub const INLINE_SLICE_MAX: usize = 8 * 1024 * 1024;

/// The most fuel, output and time that one task may ask for: far beyond sense, and small enough to be added up.
pub const TASK_FUEL_MAX: u64 = 1 << 56;
/// See [`TASK_FUEL_MAX`]; bytes.
pub const TASK_OUTPUT_MAX: u64 = 1 << 30;
/// See [`TASK_FUEL_MAX`]; a week.
pub const TASK_TIMEOUT_MS_MAX: u32 = 7 * 24 * 3_600_000;

/// Largest program, before and after the NaN pass.
pub const PROGRAM_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A receipt can be disputed until this long after it was signed.
pub const RECEIPT_LIFE_MS: u64 = 72 * 3_600_000;
/// Longest life of an offer.
pub const OFFER_TTL_MS_MAX: u32 = 15 * 60_000;
/// How far two honest clocks may be apart: one an hour fast, the other an hour slow. What matters is counted from when it
/// was heard; this only bounds how old a paper may be that somebody shows again.
pub const CLOCK_SKEW_MS: u64 = 2 * 3_600_000;

const _: () = assert!(CHECK_ONE_IN_NEW <= CHECK_ONE_IN_CLEAN, "checking never grows laxer than the floor");
const _: () = assert!(CHECK_ONE_IN_CLEAN <= 20, "5 % is the floor until bonds exist");
const _: () = assert!(INLINE_SLICE_MAX + SLICE_TASKS_MAX * 1024 < FRAME_MAX, "a full slice fits a frame");
