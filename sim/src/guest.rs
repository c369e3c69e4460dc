//! A stand-in for guest programs: an answer that follows from the task, with given fuel and virtual run time.

use glean_types::{Hash, Job, Outcome, Output, TaskResult, TaskSpec};

/// How the world's programs behave.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    /// Fuel of a task, between these two.
    pub fuel_min: u64,
    /// Most fuel of a task.
    pub fuel_max: u64,
    /// One task in so many exits with code 1; 0 for none.
    pub fails_one_in: u64,
    /// One task in so many takes a hundred times as much; 0 for none.
    pub heavy_one_in: u64,
}

impl Default for Guest {
    fn default() -> Guest {
        Guest { fuel_min: 50_000_000, fuel_max: 150_000_000, fails_one_in: 0, heavy_one_in: 0 }
    }
}

impl Guest {
    /// The one right answer to a task.
    pub fn run(&self, job: &Job, spec: &TaskSpec) -> TaskResult {
        let hash = Hash::of(&glean_types::encode(&(job.program, job.manifest, spec)));
        let mut low = [0u8; 8];
        low.copy_from_slice(&hash.0[..8]);
        let number = u64::from_le_bytes(low);
        let fails = self.fails_one_in > 0 && number.is_multiple_of(self.fails_one_in);
        let is_heavy = self.heavy_one_in > 0 && (number >> 32).is_multiple_of(self.heavy_one_in);
        let usual = self.fuel_min + number % (self.fuel_max - self.fuel_min + 1);
        TaskResult {
            index: spec.index,
            outcome: Outcome::Exit(u32::from(fails)),
            fuel: if is_heavy { usual.saturating_mul(100).min(job.fuel_max) } else { usual },
            stdout: Output::Inline(hash.0[8..16].to_vec()),
            stderr: Output::Inline(Vec::new()),
            files: Vec::new(),
        }
    }
}
