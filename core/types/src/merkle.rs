//! A binary Merkle tree over task results, in keccak256 so that a contract can check one task of a receipt.
//!
//! Leaves and inner nodes are hashed under different prefixes (a leaf can never pose as a node), an odd
//! node is carried up unchanged, and the count of leaves is bound into the root by the receipt itself.

use alloy_primitives::{B256, keccak256};

const LEAF: u8 = 0;
const NODE: u8 = 1;

fn leaf(hash: &B256) -> B256 {
    keccak256([&[LEAF], hash.as_slice()].concat())
}

fn node(left: &B256, right: &B256) -> B256 {
    keccak256([&[NODE], left.as_slice(), right.as_slice()].concat())
}

fn parents(level: &[B256]) -> Vec<B256> {
    level.chunks(2).map(|pair| if let [l, r] = pair { node(l, r) } else { pair[0] }).collect()
}

/// The root over `leaves`; zero for none.
pub fn root(leaves: &[B256]) -> B256 {
    let mut level: Vec<B256> = leaves.iter().map(leaf).collect();
    while level.len() > 1 {
        level = parents(&level);
    }
    level.first().copied().unwrap_or_default()
}

/// The path from leaf `index` to the root: what a contract needs to see that one task belongs to a receipt.
/// `None` when there is no such leaf.
pub fn proof(leaves: &[B256], mut index: usize) -> Option<Vec<B256>> {
    leaves.get(index)?;
    let mut level: Vec<B256> = leaves.iter().map(leaf).collect();
    let mut path = Vec::new();
    while level.len() > 1 {
        path.extend(level.get(index ^ 1));
        level = parents(&level);
        index /= 2;
    }
    Some(path)
}

/// Whether `path` leads from `hash`, leaf `index` of `count`, to `root`.
pub fn verify(root: &B256, hash: &B256, mut index: usize, mut count: usize, path: &[B256]) -> bool {
    if index >= count {
        return false;
    }
    let mut path = path.iter();
    let mut at = leaf(hash);
    while count > 1 {
        if index ^ 1 < count {
            let Some(sibling) = path.next() else { return false };
            at = if index.is_multiple_of(2) { node(&at, sibling) } else { node(sibling, &at) };
        }
        index /= 2;
        count = count.div_ceil(2);
    }
    path.next().is_none() && at == *root
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_leaf_proves_itself_and_nothing_else(count in 1usize..40, index in 0usize..40, other: [u8; 32]) {
            let leaves: Vec<B256> = (0..count).map(|i| keccak256([i as u8])).collect();
            let root = root(&leaves);
            match proof(&leaves, index) {
                None => prop_assert!(index >= count),
                Some(path) => {
                    prop_assert!(verify(&root, &leaves[index], index, count, &path));
                    prop_assert!(!verify(&root, &B256::new(other), index, count, &path));
                    prop_assert!(!verify(&root, &leaves[index], index + 1, count, &path) || count == 1 && index > 0);
                }
            }
        }
    }

    #[test]
    fn an_inner_node_is_not_a_leaf() {
        let leaves = [keccak256(b"a"), keccak256(b"b")];
        assert_ne!(root(&[root(&leaves)]), root(&leaves));
        assert_eq!(root(&[]), B256::ZERO);
    }
}
