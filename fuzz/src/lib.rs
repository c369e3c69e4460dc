//! Every decoder of foreign bytes, as a function that must neither panic, nor hang, nor grow without bound.
//!
//! A target is `fn(&[u8])`: any fuzzer can drive it. `cargo test` runs each over mutations of its seeds; set
//! `GLEAN_FUZZ_RUNS` for more. `app/cli/tests/tidy.rs` fails when a file that decodes is named by no target here.

use std::sync::LazyLock;

use glean_net::{IndexConfig, IndexNode, PeerAddr, validate_offers};
use glean_protocol::WorkMsg;
use glean_types::{
    Address, Amount, Domain, Hash, Manifest, NodeId, Offer, Receipt, Signed, TaskResult, Voucher, decode,
};

/// A decoder under attack.
pub struct Target {
    /// For people and for picking one.
    pub name: &'static str,
    /// Files whose decoding it reaches.
    pub covers: &'static [&'static str],
    /// Feeds it.
    pub run: fn(&[u8]),
}

/// Largest input of the message targets.
const LIMIT: usize = 1 << 20;
/// What the server itself promises, and its envelope.
const RPC_ANSWER_BYTES_MAX: usize = 26 << 20;
/// The smallest network: nobody has anything.
const GENESIS: &[u8] = br#"{"chain_id":1,"timestamp":1,"gas_limit":30000000,"base_fee_per_gas":1000000000,
    "owner":"0x0000000000000000000000000000000000000001","fee_recipient":"0x0000000000000000000000000000000000000001",
    "fee_bps":500,"grace_s":60,"gln":{},"dollars":{},"minters":{},"faucet":null}"#;

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "papers",
        covers: &["core/types/src/codec.rs", "core/types/src/papers.rs", "core/types/src/ids.rs"],
        run: papers,
    },
    Target { name: "text", covers: &["core/types/src/amount.rs", "io/net/src/text.rs"], run: text },
    Target { name: "work_message", covers: &["core/protocol/src/wire.rs"], run: work_message },
    Target { name: "stored", covers: &["io/node/src/offers.rs", "io/node/src/runner.rs"], run: stored },
    Target {
        name: "worker_frame",
        covers: &["io/node/src/worker/wire.rs", "io/node/src/worker/mod.rs"],
        run: |bytes| _ = glean_node::decoders::worker_frame(bytes),
    },
    Target {
        name: "journal_frame",
        covers: &["io/node/src/journal/mod.rs"],
        run: |bytes| _ = glean_node::decoders::journal_frame(bytes),
    },
    Target {
        name: "keystore",
        covers: &["io/node/src/wallet.rs"],
        run: |bytes| _ = glean_node::decoders::keystore(bytes),
    },
    Target {
        name: "join_line",
        covers: &["io/node/src/network.rs"],
        run: |bytes| _ = glean_node::decoders::join_line(bytes),
    },
    Target {
        name: "ledger_reply",
        covers: &["io/node/src/ledger.rs"],
        run: |bytes| _ = glean_node::decoders::ledger_reply(bytes),
    },
    Target {
        name: "backup",
        covers: &["io/node/src/backup/archive.rs"],
        run: |bytes| _ = glean_node::decoders::backup(bytes),
    },
    Target {
        name: "transaction",
        covers: &["io/chain/src/pool.rs"],
        run: |bytes| _ = glean_chain::decoders::transaction(bytes),
    },
    Target { name: "block", covers: &["io/chain/src/block.rs"], run: |bytes| _ = glean_chain::decoders::block(bytes) },
    Target {
        name: "subscription",
        covers: &["io/chain/src/rpc/socket.rs"],
        run: |bytes| _ = glean_chain::decoders::subscription(bytes),
    },
    Target { name: "rpc", covers: &["io/chain/src/rpc/mod.rs"], run: rpc },
    Target { name: "program", covers: &["core/vm/src/program.rs"], run: program },
    Target { name: "generated", covers: &["core/vm/src/nan.rs"], run: generated },
    Target {
        name: "channel_view",
        covers: &["core/ledger/src/channels.rs", "core/ledger/src/trie.rs"],
        run: channel_view,
    },
    Target { name: "index", covers: &["io/net/src/index_node.rs", "io/net/src/address.rs"], run: index },
    Target { name: "json", covers: &["io/node/src/home.rs"], run: json },
];

fn papers(bytes: &[u8]) {
    let domain = Domain { chain_id: 1, channels: Address::ZERO };
    if let Ok(paper) = decode::<Signed<Voucher>>(bytes, LIMIT) {
        let _ = paper.signer(&domain);
    }
    if let Ok(paper) = decode::<Signed<Receipt>>(bytes, LIMIT) {
        let _ = paper.signer(&domain);
    }
    if let Ok(paper) = decode::<Signed<Offer>>(bytes, LIMIT) {
        let _ = (paper.signer(&domain), paper.paper.is_sane(), paper.paper.expires_ms());
    }
}

fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (text.parse::<Amount>(), text.parse::<Hash>(), text.parse::<PeerAddr>());
    let _ = glean_net::text::decode("glean", &text, 2048);
}

fn work_message(bytes: &[u8]) {
    if let Ok(message) = WorkMsg::from_frame(bytes) {
        assert_eq!(
            WorkMsg::from_frame(&message.to_frame()),
            Ok(message),
            "what was read can be written and read again"
        );
    }
}

fn stored(bytes: &[u8]) {
    let _ = decode::<glean_protocol::Record>(bytes, LIMIT);
    let _ = decode::<Manifest>(bytes, LIMIT);
    if let Ok(result) = decode::<TaskResult>(bytes, LIMIT) {
        let _ = (result.is_well_formed(), result.leaf(Default::default(), Hash::default()));
    }
}

fn program(bytes: &[u8]) {
    let limits = glean_vm::ModuleLimits::default();
    if let Ok(program) = glean_vm::prepare(bytes, &limits) {
        let again = glean_vm::Program::adopt(program.bytes.clone(), &limits);
        assert_eq!(again.map(|p| p.id), Ok(program.id), "a prepared program prepares to itself");
    }
}

/// Well-formed modules: the bytes are only what they are made of. What the pass writes, another house's validator accepts.
fn generated(bytes: &[u8]) {
    let config = wasm_smith::Config { max_imports: 0, gc_enabled: false, ..wasm_smith::Config::default() };
    let Ok(module) = wasm_smith::Module::new(config, &mut arbitrary::Unstructured::new(bytes)) else { return };
    if let Ok(program) = glean_vm::prepare(&module.to_bytes(), &glean_vm::ModuleLimits::default()) {
        wasmi::Module::new(&wasmi::Engine::default(), &program.bytes).expect("a prepared program is a valid module");
    }
}

fn channel_view(bytes: &[u8]) {
    let _ = glean_ledger::channels::decode(bytes);
    let payer = glean_ledger::channels::opened_by(Address::ZERO).map(Option::unwrap_or_default);
    let _ = glean_ledger::channels::decode_opened(&payer, bytes);
}

fn index(bytes: &[u8]) {
    let domain = Domain { chain_id: 1, channels: Address::ZERO };
    let node = IndexNode::new(IndexConfig::default(), validate_offers(domain));
    let _ = node.on_message(NodeId([1; 32]), bytes, 1);
    let _ = PeerAddr::from_bytes(bytes);
}

/// A body for the JSON-RPC of a real ledger with one block.
fn rpc(bytes: &[u8]) {
    static LEDGER: LazyLock<(tokio::runtime::Runtime, glean_chain::Chain, tempfile::TempDir)> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("the system has threads");
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        let genesis: glean_ledger::Genesis = serde_json::from_slice(GENESIS).expect("pinned by a test");
        let dir = folder.path().join("ledger");
        let config =
            glean_chain::ChainConfig { dir, genesis, validator_key: None, validators: Vec::new(), faucet_key: None };
        let chain = {
            let _inside = runtime.enter();
            glean_chain::Chain::open(config).expect("a ledger opens in a fresh folder")
        };
        (runtime, chain, folder)
    });
    let (runtime, chain, _) = &*LEDGER;
    let answer = runtime.block_on(chain.rpc().handle(bytes.to_vec().into()));
    assert!(answer.len() <= RPC_ANSWER_BYTES_MAX, "an answer of {} bytes", answer.len());
}

fn json(bytes: &[u8]) {
    let _ = serde_json::from_slice::<glean_ledger::Genesis>(bytes);
    let _ = serde_json::from_slice::<Signed<Receipt>>(bytes);
}

/// One seed-determined mutation of `seed`: flips, cuts, doublings and wild lengths.
pub fn mutate(seed: &[u8], number: u64) -> Vec<u8> {
    let mut random = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    let mut draw = |below: usize| {
        let mut bytes = [0u8; 8];
        random.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % (below.max(1) as u64)).expect("below a usize")
    };
    let mut out = seed.to_vec();
    for _ in 0..=draw(4) {
        let at = draw(out.len());
        match draw(5) {
            0 if !out.is_empty() => out[at] ^= 1 << draw(8),
            1 => out.truncate(at),
            2 => out.insert(at, draw(256) as u8),
            3 => out.splice(at..at, [0xff; 9]).for_each(drop),
            _ => out.extend_from_within(at..),
        }
        out.truncate(LIMIT);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use allocation_counter::measure;

    /// Nothing that anybody sends may take so long.
    const HANG: Duration = Duration::from_secs(1);
    /// Nor so much memory, however short it is.
    const MEMORY_MAX: u64 = 16 << 20;

    /// The most memory that a decoder held while it read an input, beyond what it held before.
    fn memory(run: fn(&[u8]), bytes: &[u8]) -> u64 {
        measure(|| run(bytes)).bytes_max
    }

    fn seeds() -> Vec<Vec<u8>> {
        let channel = glean_types::ChannelId([7; 32]);
        let key = glean_types::AccountKey::from_bytes(&[7; 32]).unwrap();
        let domain = Domain { chain_id: 1, channels: Address::ZERO };
        let voucher = glean_types::Paper::sign(Voucher { channel, cumulative: Amount::whole(1) }, &key, &domain);
        vec![
            vec![],
            glean_types::encode(&voucher),
            WorkMsg::Pay(voucher).to_frame(),
            WorkMsg::Drop { channel, slice: 3 }.to_frame(),
            b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b".to_vec(),
            b"{\"chain_id\":1,\"gln\":{}}".to_vec(),
            glean_net::text::encode("glean", b"some bytes").into_bytes(),
            b"12.000000000000000001".to_vec(),
            vec![0; 320],
            GENESIS.to_vec(),
            br#"[{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest",true]},
                {"jsonrpc":"2.0","id":2,"method":"eth_call","params":[{"to":"0x0000000000000000000000000000000000000001"},"0x0"]}]"#.to_vec(),
        ]
        .into_iter()
        .chain(glean_node::decoders::examples())
        .chain(glean_chain::decoders::examples())
        .collect()
    }

    #[test]
    fn no_decoder_panics_or_hangs() {
        let runs: u64 = std::env::var("GLEAN_FUZZ_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
        let seeds = seeds();
        let (next, hungriest) = (AtomicUsize::new(0), AtomicU64::new(0));
        let work = || {
            while let Some(target) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
                let start = Instant::now();
                let (mut slowest, mut largest) = (Duration::ZERO, 0);
                for number in 0..runs {
                    let bytes = mutate(&seeds[(number % seeds.len() as u64) as usize], number);
                    let start = Instant::now();
                    largest = largest.max(memory(target.run, &bytes));
                    slowest = slowest.max(start.elapsed());
                }
                let each_us = start.elapsed().as_micros() / u128::from(runs.max(1));
                let kib = largest >> 10;
                println!(
                    "{}: {runs} mutations, {each_us} us each, slowest {slowest:?}, at most {kib} KiB",
                    target.name
                );
                assert!(slowest < HANG, "{} took {slowest:?} for one input", target.name);
                assert!(largest < MEMORY_MAX, "{} took {kib} KiB for one input", target.name);
                hungriest.fetch_max(kib, Ordering::Relaxed);
            }
        };
        let all = std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
            TARGETS.len() as u64 * runs
        });
        println!(
            r#"BAR {{"bar":"decoders","what":"mutated inputs for every decoder of foreign or stored bytes ({} targets): panics, or more than a second or 16 MiB for one","runs":{all},"control":"a decoder that no target names fails the tidy test; every target reads its example; one that trusts a length in its input is caught","note":"{runs} for each; at most {} KiB"}}"#,
            TARGETS.len(),
            hungriest.into_inner()
        );
    }

    /// The control: what the measure is for.
    #[test]
    fn a_decoder_that_trusts_a_length_is_caught() {
        fn trusting(bytes: &[u8]) {
            let length = bytes.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize % (64 << 20));
            std::hint::black_box(Vec::<u8>::with_capacity(length));
        }
        let largest = (0..1_000).map(|number| memory(trusting, &mutate(&[1, 0, 0, 0], number))).max();
        assert!(largest.is_some_and(|largest| largest > MEMORY_MAX), "{largest:?}");
    }

    #[test]
    fn the_seeds_reach_the_decoders() {
        let domain = Domain { chain_id: 1, channels: Address::ZERO };
        let seeds = seeds();
        assert!(decode::<Signed<Voucher>>(&seeds[1], LIMIT).unwrap().signer(&domain).is_ok());
        assert!(WorkMsg::from_frame(&seeds[2]).is_ok());
        assert!(glean_vm::prepare(&seeds[4], &glean_vm::ModuleLimits::default()).is_ok());
        use glean_node::decoders as node;
        let examples = node::examples();
        let readers = [
            node::worker_frame,
            node::journal_frame,
            node::keystore,
            node::join_line,
            node::ledger_reply,
            node::backup,
        ];
        assert!(readers.iter().zip(&examples).all(|(read, example)| read(example)));
        use glean_chain::decoders as chain;
        let examples = chain::examples();
        assert!(
            [chain::transaction, chain::block, chain::subscription]
                .iter()
                .zip(&examples)
                .all(|(read, example)| read(example))
        );
    }
}
