//! The index under honest use, floods and lies: whoever shouts is slowed down, whoever lies is found out.

use std::sync::atomic::{AtomicUsize, Ordering};

use glean_types::params::CLOCK_SKEW_MS;
use glean_types::{AccountKey, Address, Amount, Hash, Paper};
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{introduce, key_of, limited, net, soon};
use crate::{Incoming, NetLimits};

const NOW: u64 = 1_800_000_000_000;

fn domain() -> Domain {
    Domain { chain_id: 7, channels: Address::repeat_byte(3) }
}

fn account(seed: u8) -> AccountKey {
    AccountKey::from_bytes(&[seed; 32]).unwrap()
}

/// An offer of the machine with this seed, at this address, paid to the account with the same seed.
fn offer(seed: u8, seq: u64, peer: &PeerAddr) -> Offer {
    Offer {
        node: key_of(seed),
        provider: account(seed).address(),
        seq,
        issued_ms: NOW,
        ttl_ms: 60_000,
        price_per_gfuel: Amount::whole(1),
        slots: 4,
        slots_free: 4,
        mem_max: 1 << 30,
        mfuel_per_s: 1000,
        machine: 0,
        class: Hash([1; 32]),
        region: "test".to_owned(),
        peer: encode(peer),
    }
}

fn signed(seed: u8, seq: u64) -> Vec<u8> {
    encode(&offer(seed, seq, &PeerAddr::of(key_of(seed))).sign(&account(seed), &domain()))
}

fn publish_of(offer: Vec<u8>) -> Vec<u8> {
    encode(&Ask::Publish(offer))
}

fn everything() -> Query {
    Query { class: Hash([1; 32]), offers_max: u16::MAX, ..Query::default() }
}

/// Whose offers an answer holds.
fn found(reaction: &Reaction) -> Vec<NodeId> {
    let answer = reaction.answer.as_ref().expect("an answer");
    let offers: Vec<Bytes> = decode(answer, ANSWER_BYTES_MAX).unwrap();
    let mut nodes: Vec<_> =
        offers.iter().map(|o| decode::<Signed<Offer>>(o, ASK_BYTES_MAX).unwrap().paper.node).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn only_what_an_honest_machine_would_sign_is_an_offer() {
    let validate = validate_offers(domain());
    let here = PeerAddr::of(key_of(1));
    let check = |offer: Offer, signer: u8, now_ms| validate(&encode(&offer.sign(&account(signer), &domain())), now_ms);
    let good = check(offer(1, 5, &here), 1, NOW).unwrap();
    assert_eq!((good.node, good.seq, good.expires_ms), (key_of(1), 5, NOW + 60_000));
    assert!(check(offer(1, 5, &here), 2, NOW).is_err(), "signed by another account than it pays");
    assert!(check(offer(1, 5, &here), 1, NOW + 60_000 + CLOCK_SKEW_MS).is_err(), "expired by any clock");
    assert!(check(offer(1, 5, &PeerAddr::of(key_of(2))), 1, NOW).is_err(), "another machine's address");
    assert!(check(Offer { slots_free: 5, ..offer(1, 5, &here) }, 1, NOW).is_err(), "more idle slots than slots");
    let elsewhere = Domain { chain_id: 8, ..domain() };
    assert!(validate_offers(elsewhere)(&signed(1, 5), NOW).is_err(), "signed for another network");
    for junk in [&b""[..], b"junk", &signed(1, 5)[1..]] {
        assert!(validate(junk, NOW).is_err());
    }
}

#[test]
fn a_shelf_put_back_holds_what_still_stands_and_no_forgery() {
    let fresh = || IndexNode::new(IndexConfig::default(), validate_offers(domain()));
    let index = fresh();
    for seed in 1..=3 {
        index.keep(key_of(seed), signed(seed, 1), NOW).unwrap();
    }
    let mut kept = index.offers();
    kept.extend([Bytes::from_static(b"junk"), Bytes::from(encode(&offer(4, 1, &PeerAddr::of(key_of(4)))))]);
    let again = fresh();
    assert_eq!(again.put_back(kept.clone(), NOW + 1_000), 3);
    assert_eq!(again.find(&everything(), NOW + 1_000), index.find(&everything(), NOW + 1_000));
    assert_eq!(fresh().put_back(kept, NOW + 60_000 + CLOCK_SKEW_MS), 0, "all expired meanwhile");
}

#[test]
fn nobody_speaks_for_another_machine() {
    let index = IndexNode::new(
        IndexConfig { neighbours: vec![key_of(8)], ..IndexConfig::default() },
        validate_offers(domain()),
    );
    let stolen = index.on_message(key_of(2), &publish_of(signed(1, 1)), NOW);
    assert_eq!(stolen.answer, Err("the offer is for another machine".to_owned()));
    let forward = encode(&Ask::Forward(signed(1, 1)));
    let posing = index.on_message(key_of(2), &forward, NOW);
    assert_eq!(posing.answer, Err("not a neighbour of this index".to_owned()));
    assert!(stolen.forward.is_none() && posing.forward.is_none() && index.is_empty());
    // From a neighbour it is kept, but goes no further; from the machine itself it goes to the neighbours.
    let heard = index.on_message(key_of(8), &forward, NOW);
    assert_eq!(heard, Reaction { answer: Ok(Vec::new()), forward: None });
    let own = index.on_message(key_of(1), &publish_of(signed(1, 2)), NOW);
    assert_eq!(own.forward, Some(encode(&Ask::Forward(signed(1, 2)))));
    assert_eq!(index.len(), 1);
    let late = index.on_message(key_of(8), &encode(&Ask::Forward(signed(1, 3))), NOW);
    assert_eq!(late, Reaction { answer: Ok(Vec::new()), forward: None }, "hearsay is taken without a complaint");
    let answer = index.on_message(key_of(3), &encode(&Ask::Find(everything())), NOW).answer.unwrap();
    assert_eq!(decode::<Vec<Bytes>>(&answer, ANSWER_BYTES_MAX).unwrap(), [signed(1, 2)], "and changes nothing");
}

proptest::proptest! {
    #[test]
    fn no_message_is_a_panic_or_an_offer(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), at in 0usize..500) {
        let index = IndexNode::new(IndexConfig::default(), validate_offers(domain()));
        index.on_message(key_of(1), &bytes, NOW);
        let mut almost = publish_of(signed(1, 1));
        let at = at % almost.len();
        let flip = bytes.first().copied().unwrap_or(1).max(1);
        almost[at] ^= flip;
        index.on_message(key_of(1), &almost, NOW);
        proptest::prop_assert!(index.is_empty(), "a message with byte {} changed was taken", at);
    }
}

/// Goal: whatever a stranger sends, as fast as it can, honest machines are found as before, and the work
/// it causes is bounded. Method: the same flood against an index that guards itself and against one that
/// takes everything; the second shows that the flood would do harm.
#[test]
fn a_flood_changes_nothing_for_honest_queries() {
    let checks = Arc::new(AtomicUsize::new(0));
    let (honest, forwarded) = flood(validating(&checks), IndexConfig::default());
    let mut expected = vec![key_of(1), key_of(2)];
    expected.sort_unstable();
    assert_eq!(honest, expected);
    assert_eq!(forwarded, 2, "the neighbours heard of the honest machines only");
    let checks = checks.load(Ordering::Relaxed);
    assert!(checks < 30, "{checks} signatures were checked for 5000 messages");

    let gullible: Validate = Arc::new(|bytes, now_ms| {
        let forged: Signed<Offer> = decode(bytes, ASK_BYTES_MAX).map_err(|e| e.to_string())?;
        let forged = forged.paper;
        Ok(Notice {
            node: key_of(66),
            signer: forged.provider.into(),
            seq: forged.seq,
            expires_ms: now_ms + 1000,
            class: forged.class,
            price_per_gfuel: forged.price_per_gfuel,
            mem_max: forged.mem_max,
            slots_free: forged.slots_free,
        })
    });
    let endless = Rate { per_second: u32::MAX, burst: u32::MAX };
    let shelf = ShelfLimits { offers_per_node_max: usize::MAX, offers_max: 1000, ..ShelfLimits::default() };
    let open = IndexConfig { peer_rate: endless, shelf, ..IndexConfig::default() };
    let (drowned, forwarded) = flood(gullible, open);
    assert!(forwarded > 900, "the control forwards the flood: {forwarded}");
    assert!(!drowned.contains(&key_of(1)), "the control loses the honest machines");
}

/// A stranger's 5000 forged offers within a second, two honest machines after them; who is found, and how
/// much was forwarded.
fn flood(validate: Validate, config: IndexConfig) -> (Vec<NodeId>, usize) {
    let index = IndexNode::new(config, validate);
    let stranger = key_of(66);
    let template = offer(66, 1, &PeerAddr::of(stranger)).sign(&account(66), &domain());
    let mut forwarded = 0;
    for i in 0..5_000u64 {
        let mut forged = template.clone();
        forged.paper.provider = Address::from_word(Hash::of(&i.to_le_bytes()).into());
        let message = publish_of(encode(&forged));
        forwarded += usize::from(index.on_message(stranger, &message, NOW + i / 5).forward.is_some());
    }
    for seed in [1, 2] {
        let kept = index.on_message(key_of(seed), &publish_of(signed(seed, 1)), NOW + 1000);
        forwarded += usize::from(kept.forward.is_some());
    }
    let found = found(&index.on_message(key_of(3), &encode(&Ask::Find(everything())), NOW + 1000));
    (found, forwarded)
}

/// The real validation, counting how often it runs.
fn validating(checks: &Arc<AtomicUsize>) -> Validate {
    let (checks, real) = (checks.clone(), validate_offers(domain()));
    Arc::new(move |bytes, now_ms| {
        checks.fetch_add(1, Ordering::Relaxed);
        real(bytes, now_ms)
    })
}

#[tokio::test]
async fn an_offer_is_found_through_any_index_node_while_a_stranger_floods() {
    let (one, two) = (net(11).await, net(12).await);
    introduce(&one, &two);
    introduce(&two, &one);
    let (desk_one, _serving) = serve(&one, vec![two.id()]);
    let (desk_two, _serving) = serve(&two, vec![one.id()]);
    let (provider, requester, stranger) = (net(1).await, net(2).await, net(66).await);
    for node in [&provider, &requester, &stranger] {
        introduce(node, &one);
        introduce(node, &two);
    }
    let flooding = tokio::spawn(flood_wire(stranger.clone(), one.id()));
    let address = provider.addr();
    let bytes = encode(&offer(1, 1, &address).sign(&account(1), &domain()));
    assert_eq!(soon(publish(&provider, &[one.id()], &bytes)).await.unwrap(), 1);
    // The second index node hears of it from the first, at some moment.
    let validate = validate_offers(domain());
    soon(async {
        while desk_two.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for index in [one.id(), two.id()] {
        let offers = soon(query(&requester, &[index], &everything(), &validate, NOW)).await.unwrap();
        assert_eq!(offers.len(), 1);
        let (notice, bytes) = &offers[0];
        assert_eq!(notice.node, provider.id());
        let paper = decode::<Signed<Offer>>(bytes, ASK_BYTES_MAX).unwrap().paper;
        assert_eq!(PeerAddr::from_bytes(&paper.peer).unwrap(), address, "whoever finds it can dial");
    }
    let both = soon(query(&requester, &[one.id(), two.id(), key_of(99)], &everything(), &validate, NOW)).await.unwrap();
    assert_eq!(both.len(), 1, "the same offer twice is one, and a dead index node is no harm");
    flooding.abort();
    assert_eq!(desk_one.len(), 1);
    assert!(matches!(soon(query(&requester, &[], &everything(), &validate, NOW)).await, Err(IndexError::NoIndex)));
    let dead = soon(publish(&provider, &[key_of(99)], &bytes)).await.unwrap_err();
    assert!(matches!(dead, IndexError::AllFailed { .. }), "{dead:?}");
    for net in [one, two, provider, requester, stranger] {
        soon(net.close()).await;
    }
}

#[tokio::test]
async fn a_lying_index_node_can_omit_but_not_forge() {
    let (honest, liar, provider, requester) = (net(11).await, net(12).await, net(1).await, net(2).await);
    let (_desk, _serving) = serve(&honest, Vec::new());
    let lying = tokio::spawn({
        let liar = liar.clone();
        async move {
            while let Some(incoming) = liar.accept().await {
                let Incoming::Index { reply, .. } = incoming else { continue };
                let mut forged = decode::<Signed<Offer>>(&signed(1, 9), ASK_BYTES_MAX).unwrap();
                forged.paper.price_per_gfuel = Amount::ZERO;
                let answer: Vec<Bytes> = vec![encode(&forged).into(), Bytes::from_static(b"junk")];
                let _ = reply.send(&encode(&answer)).await;
            }
        }
    });
    for node in [&provider, &requester] {
        introduce(node, &honest);
        introduce(node, &liar);
    }
    soon(publish(&provider, &[honest.id()], &signed(1, 1))).await.unwrap();
    let validate = validate_offers(domain());
    let found = soon(query(&requester, &[liar.id(), honest.id()], &everything(), &validate, NOW)).await.unwrap();
    assert_eq!(found.iter().map(|(n, _)| (n.node, n.seq)).collect::<Vec<_>>(), [(key_of(1), 1)]);
    assert!(soon(query(&requester, &[liar.id()], &everything(), &validate, NOW)).await.unwrap().is_empty());
    for net in [honest, liar, provider, requester] {
        soon(net.close()).await;
    }
    soon(lying).await.unwrap();
}

#[tokio::test]
async fn a_slow_peer_of_the_index_is_only_slow_itself() {
    let index = limited(11, NetLimits { requests_per_second: 1, requests_burst: 2, ..NetLimits::default() }).await;
    let (_desk, _serving) = serve(&index, Vec::new());
    let (hasty, calm) = (net(1).await, net(2).await);
    introduce(&hasty, &index);
    introduce(&calm, &index);
    let validate = validate_offers(domain());
    let mut refused = 0;
    for _ in 0..10 {
        refused += u32::from(soon(query(&hasty, &[index.id()], &everything(), &validate, NOW)).await.is_err());
    }
    assert!(refused >= 5, "{refused}");
    soon(query(&calm, &[index.id()], &everything(), &validate, NOW)).await.unwrap();
    for net in [index, hasty, calm] {
        soon(net.close()).await;
    }
}

/// Runs an index node on a network.
fn serve(net: &Net, neighbours: Vec<NodeId>) -> (Arc<IndexNode>, JoinHandle<()>) {
    let index =
        Arc::new(IndexNode::new(IndexConfig { neighbours, ..IndexConfig::default() }, validate_offers(domain())));
    let (net, serving) = (net.clone(), index.clone());
    let handle = tokio::spawn(async move {
        while let Some(incoming) = net.accept().await {
            let Incoming::Index { peer, request, reply } = incoming else { continue };
            let (net, index) = (net.clone(), serving.clone());
            tokio::spawn(async move { index.serve(&net, peer, &request, reply, NOW).await });
        }
    });
    (index, handle)
}

/// Forged offers, junk and queries, as fast as they are taken.
async fn flood_wire(stranger: Net, index: NodeId) {
    for i in 0u64.. {
        let forged = decode::<Signed<Offer>>(&signed(66, i), ASK_BYTES_MAX).map(|mut forged| {
            forged.paper.provider = Address::repeat_byte(1);
            publish_of(encode(&forged))
        });
        let messages = [forged.unwrap(), b"junk".to_vec(), encode(&Ask::Find(everything()))];
        join_all(messages.iter().map(|m| stranger.request(index, Alpn::Index, m, ANSWER_BYTES_MAX, PATIENCE))).await;
    }
}
