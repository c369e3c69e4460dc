//! `cargo xtask bench`: the figures we claim, ours and the peers' in one run on one machine. `cargo xtask bars`: the promises,
//! and what was run to break them. `cargo xtask reproduce`: two builds in two places, equal to the bit. `cargo xtask sbom`:
//! what is in the program. `cargo xtask determinism`: the same answers and bills from other builds and processors.

mod bars;
mod bench;
mod cargo;
mod determinism;
mod figure;
mod machine;
mod reproduce;
mod sbom;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask bench [noop|roundtrip|kernels|engine|checking|blobs|idle|scale|build ...]   (all but the last two when none is named)
       cargo xtask bars [LOG] | reproduce | sbom
       cargo xtask determinism [release] [debug] [aarch64] [first] [write]   (all builds when none is named)";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((word, wanted)) if word == "bench" => bench::bench(wanted),
        Some((word, [])) if word == "bars" => bars::bars(None),
        Some((word, [log])) if word == "bars" => bars::bars(Some(log)),
        Some((word, [])) if word == "reproduce" => reproduce::reproduce(),
        Some((word, [])) if word == "sbom" => sbom::sbom(),
        Some((word, wanted)) if word == "determinism" => determinism::determinism(wanted),
        _ => bail!(USAGE),
    }
}
