//! What a task comes to on every machine: a table that was measured once, and that every run is compared with.
//!
//! A line is a name, what it cost in fuel and a hash of all that came of it. Lines of `raw` code, which did not go through the
//! pass, are not the same everywhere; they name the processor, and show that there is something for the pass to do.
//! A changed line is a changed answer or bill: a decision (`CLASS`), never an accident. `cargo xtask determinism write`.

/// The table.
const GOLDEN: &str = include_str!("golden.txt");

/// Gathers what one line stands for.
#[derive(Default)]
pub(super) struct Sum {
    hasher: blake3::Hasher,
    fuel: u64,
}

impl Sum {
    /// Bytes and their number, so that no two lists of parts look alike.
    pub(super) fn add(&mut self, part: &[u8]) {
        self.hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }

    /// Fuel is in the hash, too: two bills that are wrong the other way round are two wrong bills.
    pub(super) fn pay(&mut self, fuel: u64) {
        self.add(&fuel.to_le_bytes());
        self.fuel += fuel;
    }

    pub(super) fn line(self, name: &str) -> String {
        format!("{name}: {} fuel, {}", self.fuel, &self.hasher.finalize().to_hex()[..16])
    }
}

/// The name of a line that holds for this processor only.
pub(super) fn raw(name: &str) -> String {
    raw_on(std::env::consts::ARCH, name)
}

pub(super) fn raw_on(processor: &str, name: &str) -> String {
    format!("raw {processor} {name}")
}

/// The lines whose names begin so, in their order.
pub(super) fn lines(prefix: &str) -> Vec<&'static str> {
    GOLDEN.lines().filter(|line| line.starts_with(prefix)).collect()
}

/// Holds lines to the table.
///
/// Every line is printed first, so that the runs of two machines can be compared, and the table be made.
pub(super) fn assert_golden(found: &[String]) {
    found.iter().for_each(|line| println!("GOLDEN {line}"));
    let in_table = |found: &String| {
        let name = found.split_inclusive(": ").next().unwrap_or_default();
        lines(name).first().copied().unwrap_or("has no such line")
    };
    let wrong: Vec<String> = found
        .iter()
        .filter(|found| in_table(found) != *found)
        .map(|found| format!("  here      {found}\n  the table {}", in_table(found)))
        .collect();
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} of {} lines differ from the table:\n{}", found.len(), wrong.join("\n"));
}

/// Like [`assert_golden`], and the table has no other lines that begin so.
pub(super) fn assert_all_golden(prefix: &str, found: &[String]) {
    assert_golden(found);
    assert_eq!(lines(prefix).len(), found.len(), "lines of the table that begin with {prefix:?} and were not run");
}

#[test]
fn one_bit_or_one_fuel_is_another_line() {
    let line = |part: &[u8], fuel: u64| {
        let mut sum = Sum::default();
        sum.add(part);
        sum.pay(fuel);
        sum.line("x")
    };
    assert_ne!(line(&[1], 5), line(&[0], 5));
    assert_ne!(line(&[1], 5), line(&[1], 6));
    let real = lines("kernel ")[0].to_owned();
    assert_golden(std::slice::from_ref(&real));
    let wrong = std::panic::catch_unwind(|| assert_golden(&[real.replace("fuel", "Fuel")]));
    assert!(wrong.is_err(), "a line that is not in the table is taken");
}
