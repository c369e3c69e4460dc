# Names for the usual things. Anything longer than a line is `cargo xtask`.
default:
    @just --list

# the demo network on this machine
demo:
    cargo run --release

test *args:
    cargo test --release {{args}}

# one crate, fast: just t glean-vm
t crate:
    cargo nextest run --release -p {{crate}}

# replay one simulated network: just sim 42
sim seed:
    GLEAN_SEED={{seed}} cargo test --release -p glean-sim -- --nocapture

fmt:
    cargo fmt --all

lint:
    cargo clippy --release --workspace --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --workspace

deny:
    cargo deny --all-features check bans licenses sources

# the figures of the README, ours and the peers' in one run
bench:
    cargo xtask bench

# the same answers and fuel in release and debug, on x86-64 and aarch64
determinism:
    cargo xtask determinism

# what CI runs
pre-pr: fmt lint test deny doc
