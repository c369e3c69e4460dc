//! Everything final, in one redb file: blocks, tx_receipts, indices, the flat state and the trie nodes.
//!
//! What must stay true:
//! - one block is one transaction, durable when [`Store::commit`] returns;
//! - blocks are committed in order, exactly once (a repeated block is refused by number);
//! - a [`Snapshot`] never changes: it is redb's own MVCC read transaction, so recent states stay readable while
//!   newer ones are written.

use std::path::Path;
use std::sync::Arc;

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{Address, B256, U256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use crate::block::SealedBlock;

/// Version of the tables below.
const SCHEMA: u64 = 1;
/// Memory redb may use for pages.
const CACHE_BYTES: usize = 32 << 20;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const BLOCKS: TableDefinition<u64, &[u8]> = TableDefinition::new("blocks");
const NUMBERS: TableDefinition<&[u8; 32], u64> = TableDefinition::new("numbers");
const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
const TRANSACTIONS: TableDefinition<&[u8; 32], (u64, u32)> = TableDefinition::new("transactions");
const ACCOUNTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("accounts");
const SLOTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("slots");
const CODE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("code");
const NODES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("nodes");

const META_SCHEMA: &str = "schema";
const META_HEAD: &str = "head";
/// The sum of all balances after the head.
const META_SUPPLY: &str = "supply";
const META_VALIDATOR: &str = "validator";

/// Why the database refused. Every one of these stops the node: an unknown state must not be built upon.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("database: {0}")]
    Redb(#[from] Box<redb::Error>),
    #[error("database holds a damaged {what} of block {number}")]
    Damaged { what: &'static str, number: u64 },
    #[error("database has schema {0}, this program knows {SCHEMA}")]
    Schema(u64),
    #[error("block {number} does not follow head {head}")]
    OutOfOrder { number: u64, head: u64 },
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Redb(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(redb::DatabaseError, redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

/// What execution says about a block's transactions, kept beside the block.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct Record {
    pub(crate) senders: Vec<Address>,
    pub(crate) tx_receipts: Vec<ReceiptEnvelope>,
}

/// One changed row: key and new value, `None` to delete.
pub(crate) type Row = (Vec<u8>, Option<Vec<u8>>);

/// The state changes of a block as rows, in the order they are applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) accounts: Vec<Row>,
    pub(crate) slots: Vec<Row>,
    pub(crate) code: Vec<Row>,
    pub(crate) nodes: Vec<Row>,
}

/// The database.
pub(crate) struct Store {
    db: Database,
}

impl Store {
    /// Opens or creates `dir/ledger.redb`.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let mut db = Database::builder().set_cache_size(CACHE_BYTES).create(dir.join("ledger.redb"))?;
        // Pages carry checksums, which nobody looks at after a clean stop unless asked. Balances are worth reading it all once.
        if !db.check_integrity()? {
            tracing::warn!("the ledger's free pages were counted anew");
        }
        Self::known(db)
    }

    /// One that is gone with the process, for simulated validators.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        let backend = redb::backends::InMemoryBackend::new();
        let db = Database::builder().set_cache_size(1 << 20).create_with_backend(backend);
        Self::known(db.expect("memory is no disk")).expect("it is empty")
    }

    fn known(db: Database) -> Result<Self, StoreError> {
        let store = Self { db };
        if let Some(schema) = store.meta(META_SCHEMA)? {
            let schema = schema.try_into().map(u64::from_be_bytes).unwrap_or(0);
            if schema != SCHEMA {
                return Err(StoreError::Schema(schema));
            }
        }
        Ok(store)
    }

    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let txn = self.db.begin_read()?;
        let table = match txn.open_table(META) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    /// The validator key this database was created by; `None` while it is empty.
    pub(crate) fn validator(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.meta(META_VALIDATOR)
    }

    /// Writes the genesis block and everything the tables need to exist.
    pub(crate) fn create(
        &self,
        validator: &[u8],
        genesis: &SealedBlock,
        supply: U256,
        rows: &Rows,
    ) -> Result<(), StoreError> {
        let txn = self.begin()?;
        {
            let mut meta = txn.open_table(META)?;
            meta.insert(META_SCHEMA, SCHEMA.to_be_bytes().as_slice())?;
            meta.insert(META_VALIDATOR, validator)?;
        }
        write_block(&txn, genesis, &Record::default(), supply, rows)?;
        txn.commit()?;
        Ok(())
    }

    /// Makes a block and all it changed durable, or changes nothing.
    pub(crate) fn commit(
        &self,
        block: &SealedBlock,
        record: &Record,
        supply: U256,
        rows: &Rows,
    ) -> Result<(), StoreError> {
        let txn = self.begin()?;
        let head = {
            let meta = txn.open_table(META)?;
            let head = meta.get(META_HEAD)?;
            head.and_then(|value| value.value().try_into().map(u64::from_be_bytes).ok())
        };
        if let Some(head) = head
            && block.number() != head + 1
        {
            return Err(StoreError::OutOfOrder { number: block.number(), head });
        }
        write_block(&txn, block, record, supply, rows)?;
        txn.commit()?;
        Ok(())
    }

    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        // redb's default durability is Immediate: commit returns after fsync.
        Ok(self.db.begin_write()?)
    }

    /// The state after the last committed block; `None` while the database is empty.
    pub(crate) fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let txn = self.db.begin_read()?;
        let meta = match txn.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = |what| StoreError::Damaged { what, number: 0 };
        let Some(head) = meta.get(META_HEAD)? else { return Ok(None) };
        let number = head.value().try_into().map(u64::from_be_bytes);
        let supply = meta.get(META_SUPPLY)?.ok_or(damaged("supply"))?;
        let supply = U256::try_from_be_slice(supply.value()).ok_or(damaged("supply"))?;
        Snapshot::open(&txn, number.map_err(|_| damaged("head"))?, supply).map(Some)
    }

    /// A final block by number.
    pub(crate) fn block(&self, number: u64) -> Result<Option<Arc<SealedBlock>>, StoreError> {
        let table = self.db.begin_read()?.open_table(BLOCKS)?;
        let Some(rlp) = table.get(number)? else { return Ok(None) };
        let rlp = bytes::Bytes::copy_from_slice(rlp.value());
        let block = SealedBlock::decode(rlp).map_err(|_| StoreError::Damaged { what: "block", number })?;
        Ok(Some(Arc::new(block)))
    }

    /// The number of a final block.
    pub(crate) fn number(&self, hash: &B256) -> Result<Option<u64>, StoreError> {
        let table = self.db.begin_read()?.open_table(NUMBERS)?;
        Ok(table.get(&hash.0)?.map(|number| number.value()))
    }

    /// Senders and tx_receipts of a final block.
    pub(crate) fn record(&self, number: u64) -> Result<Option<Record>, StoreError> {
        let table = self.db.begin_read()?.open_table(RECORDS)?;
        let Some(rlp) = table.get(number)? else { return Ok(None) };
        let record = Record::decode(&mut rlp.value()).map_err(|_| StoreError::Damaged { what: "record", number })?;
        Ok(Some(record))
    }

    /// Block number and index of a final transaction.
    pub(crate) fn transaction(&self, hash: &B256) -> Result<Option<(u64, u32)>, StoreError> {
        let table = self.db.begin_read()?.open_table(TRANSACTIONS)?;
        Ok(table.get(&hash.0)?.map(|place| place.value()))
    }
}

fn write_block(
    txn: &WriteTransaction,
    block: &SealedBlock,
    record: &Record,
    supply: U256,
    rows: &Rows,
) -> Result<(), StoreError> {
    let number = block.number();
    let mut meta = txn.open_table(META)?;
    meta.insert(META_HEAD, number.to_be_bytes().as_slice())?;
    meta.insert(META_SUPPLY, supply.to_be_bytes::<32>().as_slice())?;
    txn.open_table(BLOCKS)?.insert(number, block.rlp().as_ref())?;
    txn.open_table(NUMBERS)?.insert(&block.hash().0, number)?;
    let mut rlp = Vec::with_capacity(record.length());
    record.encode(&mut rlp);
    txn.open_table(RECORDS)?.insert(number, rlp.as_slice())?;
    let mut transactions = txn.open_table(TRANSACTIONS)?;
    for (index, tx) in (0u32..).zip(&block.body().transactions) {
        transactions.insert(&tx.tx_hash().0, (number, index))?;
    }
    write_rows(&mut txn.open_table(ACCOUNTS)?, &rows.accounts)?;
    write_rows(&mut txn.open_table(SLOTS)?, &rows.slots)?;
    write_rows(&mut txn.open_table(CODE)?, &rows.code)?;
    write_rows(&mut txn.open_table(NODES)?, &rows.nodes)?;
    Ok(())
}

fn write_rows(table: &mut Table<'_, &[u8], &[u8]>, rows: &[Row]) -> Result<(), StoreError> {
    for (key, value) in rows {
        match value {
            Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
            None => drop(table.remove(key.as_slice())?),
        }
    }
    Ok(())
}

type Bytes2Bytes = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The state after one block.
pub(crate) struct Snapshot {
    number: u64,
    supply: U256,
    accounts: Bytes2Bytes,
    slots: Bytes2Bytes,
    code: Bytes2Bytes,
    nodes: Bytes2Bytes,
    blocks: ReadOnlyTable<u64, &'static [u8]>,
}

impl Snapshot {
    fn open(txn: &ReadTransaction, number: u64, supply: U256) -> Result<Self, StoreError> {
        Ok(Self {
            number,
            supply,
            accounts: txn.open_table(ACCOUNTS)?,
            slots: txn.open_table(SLOTS)?,
            code: txn.open_table(CODE)?,
            nodes: txn.open_table(NODES)?,
            blocks: txn.open_table(BLOCKS)?,
        })
    }

    /// The block whose state this is.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The sum of all balances.
    pub(crate) fn supply(&self) -> U256 {
        self.supply
    }

    /// Hands every account row to `visit`, in key order.
    pub(crate) fn account_rows(&self, mut visit: impl FnMut(&[u8]) -> bool) -> Result<(), StoreError> {
        for row in self.accounts.iter()? {
            let (_, value) = row?;
            if !visit(value.value()) {
                return Err(StoreError::Damaged { what: "account", number: self.number });
            }
        }
        Ok(())
    }

    pub(crate) fn account_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.accounts, key)
    }

    pub(crate) fn slot_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.slots, key)
    }

    pub(crate) fn code_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.code, key)
    }

    pub(crate) fn node_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.nodes, key)
    }

    /// The hash of a block at or below this one.
    pub(crate) fn hash_of(&self, number: u64) -> Result<Option<B256>, StoreError> {
        let Some(rlp) = self.blocks.get(number)? else { return Ok(None) };
        let hash = header_hash(rlp.value());
        hash.map(Some).ok_or(StoreError::Damaged { what: "block", number })
    }
}

fn get(table: &Bytes2Bytes, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}

/// The hash of the header inside a stored block, without decoding the body.
fn header_hash(mut rlp: &[u8]) -> Option<B256> {
    let outer = alloy_rlp::Header::decode(&mut rlp).ok()?;
    let start = rlp;
    let mut rest = rlp;
    let header = alloy_rlp::Header::decode(&mut rest).ok()?;
    let length = start.len() - rest.len() + header.payload_length;
    (outer.list && header.list).then_some(())?;
    start.get(..length).map(alloy_primitives::keccak256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::tests::empty_block;

    fn rows(key: &[u8], value: Option<&[u8]>) -> Rows {
        Rows { accounts: vec![(key.to_vec(), value.map(<[u8]>::to_vec))], ..Rows::default() }
    }

    #[test]
    fn a_snapshot_keeps_its_state_while_blocks_follow() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("opens");
        assert!(store.snapshot().expect("reads").is_none());
        store.create(b"me", &empty_block(0), U256::ZERO, &rows(b"a", Some(b"1"))).expect("creates");
        let before = store.snapshot().expect("reads").expect("has a head");
        store.commit(&empty_block(1), &Record::default(), U256::ZERO, &rows(b"a", None)).expect("commits");
        let after = store.snapshot().expect("reads").expect("has a head");
        assert_eq!(before.account_row(b"a").expect("reads"), Some(b"1".to_vec()));
        assert_eq!(after.account_row(b"a").expect("reads"), None);
        assert_eq!((before.number(), after.number()), (0, 1));
        assert_eq!(after.hash_of(1).expect("reads"), Some(empty_block(1).hash()));
    }

    /// Accounts of the story below, and images of their file with one bit wrong.
    const ACCOUNTS_TOLD: u32 = 1_000;
    const IMAGES: u64 = 2_000;

    /// Every account, as a reader of this file would see it. What is not read is an answer, too.
    fn told(read: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
        (0..ACCOUNTS_TOLD).map(|n| read(&n.to_be_bytes())).collect()
    }

    fn by_us(dir: &Path) -> Option<Vec<Vec<u8>>> {
        let store = Store::open(dir).ok()?;
        let snapshot = store.snapshot().ok()??;
        told(|key| snapshot.account_row(key).ok()?)
    }

    /// The same, by somebody who does not look at the pages first.
    fn by_the_careless(dir: &Path) -> Option<Vec<Vec<u8>>> {
        let db = Database::open(dir.join("ledger.redb")).ok()?;
        let accounts = db.begin_read().ok()?.open_table(ACCOUNTS).ok()?;
        told(|key| get(&accounts, key).ok()?)
    }

    #[test]
    fn a_flipped_bit_is_found_before_anything_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let value = |n: u32| alloy_primitives::keccak256(n.to_be_bytes()).to_vec();
        let accounts = (0..ACCOUNTS_TOLD).map(|n| (n.to_be_bytes().to_vec(), Some(value(n)))).collect();
        let rows = Rows { accounts, ..Rows::default() };
        Store::open(dir.path())
            .and_then(|store| store.create(b"me", &empty_block(0), U256::ZERO, &rows))
            .expect("made");
        let whole = std::fs::read(dir.path().join("ledger.redb")).expect("reads");
        let truth = by_us(dir.path()).expect("a whole file is read");
        // Most of the file is room for more: places are taken from where something is.
        let written: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
        let (mut refused, mut missed_by_the_careless) = (0, 0);
        for image in 0..IMAGES {
            let place = written[(image as usize * written.len()) / IMAGES as usize];
            let hurt = tempfile::tempdir().expect("a directory");
            let lay = || {
                let mut bytes = whole.clone();
                bytes[place] ^= 1 << (image % 8);
                std::fs::write(hurt.path().join("ledger.redb"), bytes).expect("writes");
            };
            lay();
            let ours = by_us(hurt.path());
            assert!(ours.is_none() || ours.as_ref() == Some(&truth), "byte {place}, bit {}: another story", image % 8);
            refused += u32::from(ours.is_none());
            lay();
            let careless = std::panic::catch_unwind(|| by_the_careless(hurt.path())).ok().flatten();
            missed_by_the_careless += u32::from(careless.is_some_and(|story| story != truth));
        }
        assert!(missed_by_the_careless > 0, "without the look nothing would be told wrongly either");
        println!(
            r#"BAR {{"bar":"pages_of_the_ledger","what":"images of the ledger's file with one bit wrong: balances told wrongly","runs":{IMAGES},"control":"without the look at the pages {missed_by_the_careless} of them are","note":"{refused} are refused, the others read as before"}}"#
        );
    }

    #[test]
    fn blocks_come_in_order_and_survive_reopening() {
        let dir = tempfile::tempdir().expect("a directory");
        {
            let store = Store::open(dir.path()).expect("opens");
            store.create(b"me", &empty_block(0), U256::ZERO, &Rows::default()).expect("creates");
            let error =
                store.commit(&empty_block(2), &Record::default(), U256::ZERO, &Rows::default()).expect_err("a gap");
            assert!(matches!(error, StoreError::OutOfOrder { number: 2, head: 0 }));
            store.commit(&empty_block(1), &Record::default(), U256::ZERO, &Rows::default()).expect("follows");
        }
        let store = Store::open(dir.path()).expect("opens again");
        let block = store.block(1).expect("reads").expect("is there");
        assert_eq!(*block, empty_block(1));
        assert_eq!(store.number(&block.hash()).expect("reads"), Some(1));
        assert_eq!(store.validator().expect("reads"), Some(b"me".to_vec()));
    }
}
