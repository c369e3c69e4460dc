//! `cargo xtask bench`: the figures we claim, ours and the peers' in one run on one machine.

mod bench;
mod figure;
mod machine;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask bench [noop|roundtrip|kernels|engine|checking|idle|build ...]   (all but `build` when none is named)";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((word, wanted)) if word == "bench" => bench::bench(wanted),
        _ => bail!(USAGE),
    }
}
