//! An incremental Merkle-Patricia trie: loads only the nodes on the way, rewrites only those that changed.
//!
//! ```text
//!   state rows ──> insert / remove ──> seal ──> root hash  +  nodes to write and nodes to delete
//!                        │ Ref(hash)?
//!                        └── load(key) ── checked against the hash that names it
//! ```
//!
//! Nodes are stored by their path, not by their hash: one row per node, no garbage, and a row always holds the
//! newest state. All keys of one trie are hashes, hence equally long; so no branch ever holds a value. What must
//! stay true: the root equals that of a trie built anew from the same rows (the tests' oracle), and the rows
//! written and deleted leave exactly the nodes of that trie.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::{Decodable, EMPTY_STRING_CODE};
use alloy_trie::nodes::{BranchNode, ExtensionNode, LeafNode, RlpNode, TrieNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieMask};

use crate::state::{State, StateError};

/// Rows of nodes: what to write, and (`None`) what to delete.
pub(crate) type NodeRows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Which trie of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// All accounts, by the hash of their address.
    Accounts,
    /// The slots of the account whose address has this hash.
    Slots(B256),
}

impl Space {
    /// The row of the node at `path`: a tag, the account, one byte per nibble.
    fn key(&self, path: &Nibbles) -> Vec<u8> {
        let mut key = Vec::with_capacity(33 + path.len());
        match self {
            Space::Accounts => key.push(b'a'),
            Space::Slots(account) => {
                key.push(b's');
                key.extend_from_slice(account.as_slice());
            }
        }
        key.extend(path.iter());
        key
    }

    /// The RLP of the node at `path`, which `reference` names.
    fn load(&self, state: &dyn State, path: &Nibbles, reference: &RlpNode) -> Result<Vec<u8>, StateError> {
        let Some(hash) = reference.as_hash() else { return Ok(reference.to_vec()) };
        let damaged = |what: &str| StateError::Damaged(format!("{self:?}: trie node at {path:?} {what}"));
        let rlp = state.node(&self.key(path))?.ok_or_else(|| damaged("is missing"))?;
        if keccak256(&rlp) != hash {
            return Err(damaged("has another hash than its parent says"));
        }
        Ok(rlp)
    }
}

/// A node, as far as it was looked at.
#[derive(Debug, Clone, Default)]
enum Node {
    #[default]
    Empty,
    /// Not loaded.
    Ref(RlpNode),
    Leaf {
        path: Nibbles,
        value: Vec<u8>,
        clean: Option<RlpNode>,
    },
    Extension {
        path: Nibbles,
        child: Box<Node>,
        clean: Option<RlpNode>,
    },
    Branch {
        children: Box<[Node; 16]>,
        clean: Option<RlpNode>,
    },
}

impl Node {
    fn leaf(path: Nibbles, value: Vec<u8>) -> Node {
        Node::Leaf { path, value, clean: None }
    }

    /// An extension, or what it leads to when there is no path to extend.
    fn extension(path: Nibbles, child: Node) -> Node {
        match child {
            child if path.is_empty() => child,
            Node::Leaf { path: rest, value, .. } => Node::leaf(path.join(&rest), value),
            Node::Extension { path: rest, child, .. } => Node::Extension { path: path.join(&rest), child, clean: None },
            child => Node::Extension { path, child: Box::new(child), clean: None },
        }
    }

    fn decode(rlp: &[u8], reference: RlpNode) -> alloy_rlp::Result<Node> {
        let clean = Some(reference);
        Ok(match TrieNode::decode(&mut &rlp[..])? {
            TrieNode::EmptyRoot => Node::Empty,
            TrieNode::Leaf(leaf) => Node::Leaf { path: leaf.key, value: leaf.value, clean },
            TrieNode::Extension(node) => {
                Node::Extension { path: node.key, child: Box::new(Node::Ref(node.child)), clean }
            }
            TrieNode::Branch(node) => {
                let mut children: Box<[Node; 16]> = Box::default();
                for (nibble, child) in node.as_ref().children() {
                    if let Some(child) = child {
                        children[usize::from(nibble)] = Node::Ref(child.clone());
                    }
                }
                Node::Branch { children, clean }
            }
        })
    }
}

/// One trie being changed.
pub(crate) struct Trie<'a> {
    state: &'a dyn State,
    space: Space,
    root: Node,
    /// Paths whose stored node is no longer what belongs there.
    stale: BTreeSet<Nibbles>,
}

impl<'a> Trie<'a> {
    /// The trie with this root hash.
    pub(crate) fn open(state: &'a dyn State, space: Space, root: B256) -> Trie<'a> {
        let root = if root == EMPTY_ROOT_HASH { Node::Empty } else { Node::Ref(RlpNode::word_rlp(&root)) };
        Trie { state, space, root, stale: BTreeSet::new() }
    }

    /// Sets or (`None`) removes the value under a key.
    pub(crate) fn set(&mut self, key: B256, value: Option<Vec<u8>>) -> Result<(), StateError> {
        let key = Nibbles::unpack(key);
        let root = std::mem::take(&mut self.root);
        let at = Nibbles::new();
        self.root = match value {
            Some(value) => self.insert(root, at, key, value)?,
            None => self.remove(root, at, key)?.into_node(),
        };
        Ok(())
    }

    /// The node itself instead of a reference to it.
    fn resolve(&self, node: Node, at: &Nibbles) -> Result<Node, StateError> {
        let Node::Ref(reference) = node else { return Ok(node) };
        let rlp = self.space.load(self.state, at, &reference)?;
        Node::decode(&rlp, reference)
            .map_err(|e| StateError::Damaged(format!("{:?}: trie node at {at:?}: {e}", self.space)))
    }

    /// Marks the node at `at` as about to change.
    fn spoil(&mut self, at: Nibbles, clean: &mut Option<RlpNode>) {
        if clean.take().is_some_and(|reference| reference.as_hash().is_some()) {
            self.stale.insert(at);
        }
    }

    fn insert(&mut self, node: Node, at: Nibbles, key: Nibbles, new: Vec<u8>) -> Result<Node, StateError> {
        match self.resolve(node, &at)? {
            Node::Empty => Ok(Node::leaf(key, new)),
            Node::Ref(_) => unreachable!("resolved above"),
            Node::Leaf { path, value, clean } if path == key && value == new => Ok(Node::Leaf { path, value, clean }),
            Node::Leaf { path, value, mut clean } => {
                self.spoil(at, &mut clean);
                if path == key {
                    return Ok(Node::leaf(key, new));
                }
                let same = path.common_prefix_length(&key);
                Ok(fork(&path, &key, same, Node::leaf(path.slice(same + 1..), value), new))
            }
            Node::Extension { path, child, mut clean } => {
                let same = path.common_prefix_length(&key);
                self.spoil(at, &mut clean);
                if same < path.len() {
                    let rest = path.slice(same + 1..);
                    let old = if rest.is_empty() { *child } else { Node::Extension { path: rest, child, clean: None } };
                    return Ok(fork(&path, &key, same, old, new));
                }
                let child = self.insert(*child, at.join(&path), key.slice(same..), new)?;
                Ok(Node::Extension { path, child: Box::new(child), clean: None })
            }
            Node::Branch { mut children, mut clean } => {
                self.spoil(at, &mut clean);
                let (nibble, rest) = step(&key);
                let child = std::mem::take(&mut children[usize::from(nibble)]);
                children[usize::from(nibble)] = self.insert(child, down(&at, nibble), rest, new)?;
                Ok(Node::Branch { children, clean })
            }
        }
    }

    fn remove(&mut self, node: Node, at: Nibbles, key: Nibbles) -> Result<Removal, StateError> {
        match self.resolve(node, &at)? {
            Node::Leaf { path, mut clean, .. } if path == key => {
                self.spoil(at, &mut clean);
                Ok(Removal::Done(Node::Empty))
            }
            Node::Extension { path, child, mut clean } if key.starts_with(&path) => {
                match self.remove(*child, at.join(&path), key.slice(path.len()..))? {
                    Removal::Absent(child) => {
                        Ok(Removal::Absent(Node::Extension { path, child: Box::new(child), clean }))
                    }
                    Removal::Done(child) => {
                        self.spoil(at, &mut clean);
                        Ok(Removal::Done(Node::extension(path, child)))
                    }
                }
            }
            Node::Branch { mut children, mut clean } => {
                let (nibble, rest) = step(&key);
                let child = std::mem::take(&mut children[usize::from(nibble)]);
                let (child, done) = match self.remove(child, down(&at, nibble), rest)? {
                    Removal::Absent(child) => (child, false),
                    Removal::Done(child) => (child, true),
                };
                children[usize::from(nibble)] = child;
                if !done {
                    return Ok(Removal::Absent(Node::Branch { children, clean }));
                }
                self.spoil(at, &mut clean);
                Ok(Removal::Done(self.shrink(children, at)?))
            }
            other => Ok(Removal::Absent(other)),
        }
    }

    /// A branch that lost a child; with one child left it is no branch any more.
    fn shrink(&mut self, mut children: Box<[Node; 16]>, at: Nibbles) -> Result<Node, StateError> {
        let mut left = (0u8..16).filter(|i| !matches!(children[usize::from(*i)], Node::Empty));
        let (Some(only), None) = (left.next(), left.next()) else {
            return Ok(Node::Branch { children, clean: None });
        };
        let below = down(&at, only);
        let mut child = self.resolve(std::mem::take(&mut children[usize::from(only)]), &below)?;
        // A leaf or an extension moves up into its parent; a branch stays where it is.
        if let Node::Leaf { clean, .. } | Node::Extension { clean, .. } = &mut child {
            self.spoil(below, clean);
        }
        Ok(Node::extension(Nibbles::from_nibbles([only]), child))
    }

    /// The root hash, and the rows that make the store hold this trie.
    pub(crate) fn seal(self) -> (B256, NodeRows) {
        let mut rows: NodeRows = self.stale.iter().map(|path| (self.space.key(path), None)).collect();
        if let Node::Empty = self.root {
            return (EMPTY_ROOT_HASH, rows);
        }
        let root = seal(&self.space, &self.root, &Nibbles::new(), &mut rows);
        (root.as_hash().expect("the root is always named by its hash"), rows)
    }
}

enum Removal {
    /// The key was not there; the node is as it was.
    Absent(Node),
    Done(Node),
}

impl Removal {
    fn into_node(self) -> Node {
        match self {
            Removal::Absent(node) | Removal::Done(node) => node,
        }
    }
}

/// Two ways part after `same` nibbles: `old` goes on along `path`, a new leaf along `key`.
fn fork(path: &Nibbles, key: &Nibbles, same: usize, old: Node, new: Vec<u8>) -> Node {
    let mut children: Box<[Node; 16]> = Box::default();
    children[usize::from(path.get_unchecked(same))] = old;
    children[usize::from(key.get_unchecked(same))] = Node::leaf(key.slice(same + 1..), new);
    Node::extension(key.slice(..same), Node::Branch { children, clean: None })
}

/// The first nibble of a key and what follows it.
fn step(key: &Nibbles) -> (u8, Nibbles) {
    (key.get_unchecked(0), key.slice(1..))
}

fn down(at: &Nibbles, nibble: u8) -> Nibbles {
    let mut path = *at;
    path.push(nibble);
    path
}

/// Encodes what changed below `at`, collects it in `rows`, and gives the reference to put into the parent.
fn seal(space: &Space, node: &Node, at: &Nibbles, rows: &mut NodeRows) -> RlpNode {
    let mut rlp = Vec::new();
    match node {
        Node::Ref(reference) => return reference.clone(),
        Node::Leaf { clean: Some(reference), .. }
        | Node::Extension { clean: Some(reference), .. }
        | Node::Branch { clean: Some(reference), .. } => return reference.clone(),
        Node::Empty => rlp.push(EMPTY_STRING_CODE),
        Node::Leaf { path, value, .. } => drop(LeafNode::new(*path, value.clone()).as_ref().rlp(&mut rlp)),
        Node::Extension { path, child, .. } => {
            let child = seal(space, child, &at.join(path), rows);
            ExtensionNode::new(*path, child).as_ref().rlp(&mut rlp);
        }
        Node::Branch { children, .. } => {
            let mut mask = TrieMask::default();
            let mut stack = Vec::with_capacity(16);
            for (nibble, child) in (0u8..).zip(children.iter()) {
                if !matches!(child, Node::Empty) {
                    mask.set_bit(nibble);
                    stack.push(seal(space, child, &down(at, nibble), rows));
                }
            }
            BranchNode::new(stack, mask).as_ref().rlp(&mut rlp);
        }
    }
    // A short node lives inside its parent; the root has none.
    if rlp.len() < 32 && !at.is_empty() {
        return RlpNode::from_rlp(&rlp);
    }
    let reference = RlpNode::word_rlp(&keccak256(&rlp));
    rows.insert(space.key(at), Some(rlp));
    reference
}

/// The nodes from the root to where `key` is, or to where it would be: a proof that a verifier can follow.
pub(crate) fn prove(state: &dyn State, space: Space, root: B256, key: B256) -> Result<Vec<Bytes>, StateError> {
    let mut proof = Vec::new();
    if root == EMPTY_ROOT_HASH {
        return Ok(proof);
    }
    let key = Nibbles::unpack(key);
    let mut at = Nibbles::new();
    let mut reference = RlpNode::word_rlp(&root);
    loop {
        let rlp = space.load(state, &at, &reference)?;
        let node = TrieNode::decode(&mut &rlp[..])
            .map_err(|e| StateError::Damaged(format!("{space:?}: trie node at {at:?}: {e}")))?;
        if reference.as_hash().is_some() {
            proof.push(rlp.into());
        }
        let rest = key.slice(at.len()..);
        let next = match node {
            TrieNode::EmptyRoot | TrieNode::Leaf(_) => None,
            TrieNode::Extension(node) if rest.starts_with(&node.key) => Some((at.join(&node.key), node.child)),
            TrieNode::Extension(_) => None,
            TrieNode::Branch(node) => {
                let nibble = rest.get_unchecked(0);
                let child = node.as_ref().children().nth(usize::from(nibble)).and_then(|(_, child)| child.cloned());
                child.map(|child| (down(&at, nibble), child))
            }
        };
        let Some(next) = next else { return Ok(proof) };
        (at, reference) = next;
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;
    use alloy_trie::proof::verify_proof;
    use alloy_trie::root::storage_root_unsorted;
    use proptest::prelude::*;

    use super::*;
    use crate::state::{Changes, MemoryState};

    const SPACE: Space = Space::Slots(B256::ZERO);

    /// A key among few, so that keys meet: most differ only at the very end, where nodes are short enough to live
    /// inside their parents, some at the very start.
    fn key(pick: u16) -> B256 {
        let mut key = [0u8; 32];
        key[0] = (pick >> 10) as u8 & 0x13;
        key[29] = (pick >> 8) as u8 & 0x03;
        key[30] = (pick >> 4) as u8 & 0x11;
        key[31] = pick as u8 & 0x3f;
        B256::new(key)
    }

    fn value(units: u64) -> Option<Vec<u8>> {
        (units != 0).then(|| alloy_rlp::encode(U256::from(units)))
    }

    fn oracle(rows: &BTreeMap<B256, u64>) -> B256 {
        storage_root_unsorted(rows.iter().map(|(key, units)| (*key, U256::from(*units))))
    }

    /// Applies a batch to the stored trie and returns the new root.
    fn apply(state: &mut MemoryState, root: B256, batch: &[(B256, u64)]) -> B256 {
        let mut trie = Trie::open(&*state, SPACE, root);
        for (key, units) in batch {
            trie.set(*key, value(*units)).unwrap();
        }
        let (root, nodes) = trie.seal();
        state.apply(0, B256::ZERO, &Changes { nodes, ..Changes::default() });
        root
    }

    /// The store that holds just these rows, built in one go.
    fn anew(rows: &BTreeMap<B256, u64>) -> (MemoryState, B256) {
        let mut state = MemoryState::default();
        let batch: Vec<_> = rows.iter().map(|(key, units)| (*key, *units)).collect();
        let root = apply(&mut state, EMPTY_ROOT_HASH, &batch);
        (state, root)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// After any batches of inserts, changes and removals: the root is the oracle's, the store holds exactly the
        /// nodes of a trie built anew, and every key has a proof, also when it is absent.
        #[test]
        fn equals_a_trie_built_anew(
            batches in prop::collection::vec(prop::collection::vec((any::<u16>(), 0u64..3), 1..24), 1..8),
            long in any::<bool>(),
        ) {
            let (mut state, mut root, mut rows) = (MemoryState::default(), EMPTY_ROOT_HASH, BTreeMap::new());
            for batch in batches {
                let spread = |pick: u16| if long { keccak256(key(pick)) } else { key(pick) };
                let batch: Vec<_> = batch.into_iter().map(|(pick, units)| (spread(pick), units)).collect();
                root = apply(&mut state, root, &batch);
                for (key, units) in &batch {
                    if *units == 0 { rows.remove(key) } else { rows.insert(*key, *units) };
                }
                prop_assert_eq!(root, oracle(&rows));
                prop_assert_eq!(&state, &anew(&rows).0);
                for (key, _) in &batch {
                    let proof = prove(&state, SPACE, root, *key).unwrap();
                    let expected = value(rows.get(key).copied().unwrap_or_default());
                    prop_assert!(verify_proof(root, Nibbles::unpack(key), expected, &proof).is_ok());
                }
            }
        }
    }

    #[test]
    fn taking_all_out_leaves_nothing() {
        let rows: BTreeMap<_, _> = (0..2_000u16).map(|i| (keccak256(key(i)), 1)).collect();
        let (mut state, root) = anew(&rows);
        assert!(state.node_count() > rows.len());
        let batch: Vec<_> = rows.keys().map(|key| (*key, 0)).collect();
        assert_eq!(apply(&mut state, root, &batch), EMPTY_ROOT_HASH);
        assert_eq!(state.node_count(), 0);
    }

    /// A damaged row must stop us, never change a root.
    #[test]
    fn damage_is_seen() {
        let rows: BTreeMap<_, _> = (0..50u16).map(|i| (keccak256(key(i)), 7)).collect();
        let (mut state, root) = anew(&rows);
        let top = SPACE.key(&Nibbles::new());
        let mut rlp = state.node(&top).unwrap().unwrap();
        rlp[40] ^= 1;
        let nodes = NodeRows::from([(top.clone(), Some(rlp))]);
        state.apply(0, B256::ZERO, &Changes { nodes, ..Changes::default() });
        let seen = Trie::open(&state, SPACE, root).set(B256::ZERO, value(1));
        assert!(matches!(seen, Err(StateError::Damaged(_))));
        state.apply(0, B256::ZERO, &Changes { nodes: NodeRows::from([(top, None)]), ..Changes::default() });
        assert!(matches!(prove(&state, SPACE, root, B256::ZERO), Err(StateError::Damaged(_))));
    }
}
