//! The account key on disk and on paper: a Web3 keystore file (version 3) and twelve BIP-39 words.
//!
//! Both forms are the ones every Ethereum wallet reads, so nobody is locked in: the words give the same
//! account in MetaMask (path `m/44'/60'/0'/0/0`), the file the same key in geth, cast and eth-account.
//! What must stay true:
//!
//! 1. A key file appears whole or not at all, readable by its owner only.
//! 2. Secrets live in memory that is zeroed when dropped, and never in an error's text.
//! 3. A wrong password is told apart from a broken file, and neither file can make us burn unbounded
//!    memory: scrypt's cost is read from the file and therefore limited.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aes::cipher::{KeyIvInit, StreamCipher};
use alloy_primitives::keccak256;
use coins_bip39::{English, Entropy, Mnemonic};
use glean_types::{AccountKey, Address};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// Where Ethereum wallets keep their first account.
const DERIVATION_PATH: &str = "m/44'/60'/0'/0/0";
/// Cost for a password that a person chose, as geth uses it: about a second and 256 MiB for each guess.
const LOG_N_CHOSEN: u8 = 18;
/// Cost for a password of 32 random bytes: nobody guesses that, so stretching it would only slow the start.
const LOG_N_RANDOM: u8 = 12;
/// scrypt's block size; with [`LOG_N_CHOSEN`] it makes 256 MiB.
const SCRYPT_R: u32 = 8;
/// The most memory a foreign key file may ask scrypt for, bytes.
const SCRYPT_BYTES_MAX: u64 = 1 << 30;
/// The most passes a foreign key file may ask for: the standard's own example has 8.
const SCRYPT_P_MAX: u32 = 16;
/// A key file has some 500 bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a wallet could not be read, made or kept. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The file could not be read.
    #[error("could not read the key file {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("could not write the key file {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a keystore.
    #[error("{path} is not a Web3 keystore (version 3): {why}")]
    NotAKeystore {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The password opens nothing.
    #[error("wrong password for {path}")]
    WrongPassword {
        /// Which.
        path: PathBuf,
    },
    /// The words are not a BIP-39 phrase.
    #[error("these are not 12 to 24 English BIP-39 words: {why}")]
    BadWords {
        /// What is wrong, without the words.
        why: &'static str,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    NoRandomness(getrandom::Error),
}

/// Makes, keeps and opens account keys.
#[derive(Debug)]
pub struct Wallet;

impl Wallet {
    /// Twelve new words and their key. The words are the only backup: show them once.
    pub fn create() -> Result<(Zeroizing<String>, AccountKey), WalletError> {
        let mut entropy = random::<16>()?;
        let phrase = Mnemonic::<English>::new_from_entropy(Entropy::Sixteen(*entropy)).to_phrase();
        entropy.zeroize();
        let words = Zeroizing::new(phrase);
        let key = Wallet::from_words(&words)?;
        Ok((words, key))
    }

    /// The key that these words stand for. Case and extra blanks do not matter.
    pub fn from_words(words: &str) -> Result<AccountKey, WalletError> {
        let bad = |why| WalletError::BadWords { why };
        let tidy: Vec<Zeroizing<String>> =
            words.split_whitespace().map(|word| Zeroizing::new(word.to_lowercase())).collect();
        if !matches!(tidy.len(), 12 | 15 | 18 | 21 | 24) {
            return Err(bad("the count of words is not 12, 15, 18, 21 or 24"));
        }
        let phrase = Zeroizing::new(tidy.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" "));
        // The crate's own errors quote the phrase, so they are replaced, not wrapped.
        let mnemonic = Mnemonic::<English>::new_from_phrase(&phrase)
            .map_err(|_| bad("a word is misspelt, missing or out of order"))?;
        let derived = mnemonic.derive_key(DERIVATION_PATH, None).map_err(|_| bad("they give no valid key"))?;
        let secret: &k256::ecdsa::SigningKey = derived.as_ref();
        let bytes = Zeroizing::new(<[u8; 32]>::from(secret.to_bytes()));
        AccountKey::from_bytes(&bytes).map_err(|_| bad("they give no valid key"))
    }

    /// Keeps the key under a password that a person chose. Takes about a second, by design.
    pub fn save(path: &Path, key: &AccountKey, password: &str) -> Result<(), WalletError> {
        write_private(path, &seal(key, password, LOG_N_CHOSEN)?)
    }

    /// Keeps the key of an unattended node under [`Wallet::random_password`]: nothing to guess, so nothing to slow.
    pub fn save_unattended(path: &Path, key: &AccountKey, password: &str) -> Result<(), WalletError> {
        write_private(path, &seal(key, password, LOG_N_RANDOM)?)
    }

    /// 32 random bytes as hex: a password for a machine to keep.
    pub fn random_password() -> Result<Zeroizing<String>, WalletError> {
        Ok(Zeroizing::new(hex::encode(*random::<32>()?)))
    }

    /// Opens a key file.
    pub fn load(path: &Path, password: &str) -> Result<AccountKey, WalletError> {
        open(path, &read(path)?, password)
    }

    /// The account of a key file, as the file itself says, without opening it.
    pub fn address_of(path: &Path) -> Result<Address, WalletError> {
        let bad = |why| WalletError::NotAKeystore { path: path.into(), why };
        let address = parse(path, &read(path)?)?.address.ok_or_else(|| bad("it names no address"))?;
        address.parse().map_err(|_| bad("its address is malformed"))
    }
}

#[derive(Serialize, Deserialize)]
struct Keystore {
    version: u32,
    #[serde(default)]
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: serde_json::Value,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Serialize, Deserialize)]
struct ScryptParams {
    dklen: u32,
    n: u64,
    p: u32,
    r: u32,
    salt: String,
}

impl ScryptParams {
    /// The same in the crate's terms, if it is a sane and affordable cost.
    fn checked(&self) -> Option<scrypt::Params> {
        let bytes = 128u64.checked_mul(self.n)?.checked_mul(u64::from(self.r))?;
        let affordable = bytes <= SCRYPT_BYTES_MAX && self.p <= SCRYPT_P_MAX && self.dklen == 32;
        if !affordable || !self.n.is_power_of_two() {
            return None;
        }
        scrypt::Params::new(self.n.trailing_zeros() as u8, self.r, self.p).ok()
    }
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, WalletError> {
    let mut bytes = Zeroizing::new([0u8; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(WalletError::NoRandomness)?;
    Ok(bytes)
}

/// scrypt's 32 bytes: the first half encrypts, the second half authenticates.
fn stretch(password: &str, salt: &[u8], params: &scrypt::Params) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0u8; 32]);
    scrypt::scrypt(password.as_bytes(), salt, params, derived.as_mut_slice())
        .expect("32 bytes are a valid output length");
    derived
}

fn apply_cipher(derived: &[u8; 32], iv: &[u8; 16], bytes: &mut [u8]) {
    let key = <[u8; 16]>::try_from(&derived[..16]).expect("half of 32 bytes");
    ctr::Ctr128BE::<aes::Aes128>::new(&key.into(), iv.into()).apply_keystream(bytes);
}

fn mac(derived: &[u8; 32], ciphertext: &[u8]) -> [u8; 32] {
    keccak256([&derived[16..], ciphertext].concat()).0
}

fn seal(key: &AccountKey, password: &str, log_n: u8) -> Result<Vec<u8>, WalletError> {
    let (salt, iv, id) = (random::<32>()?, random::<16>()?, random::<16>()?);
    let params = scrypt::Params::new(log_n, SCRYPT_R, 1).expect("constants within scrypt's limits");
    let derived = stretch(password, salt.as_slice(), &params);
    let mut secret = key.to_bytes();
    apply_cipher(&derived, &iv, secret.as_mut_slice());
    let kdfparams = ScryptParams { dklen: 32, n: 1 << log_n, p: 1, r: SCRYPT_R, salt: hex::encode(salt.as_slice()) };
    let keystore = Keystore {
        version: 3,
        id: uuid_v4(*id),
        address: Some(hex::encode(key.address())),
        crypto: Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams { iv: hex::encode(iv.as_slice()) },
            ciphertext: hex::encode(secret.as_slice()),
            kdf: "scrypt".into(),
            kdfparams: serde_json::to_value(kdfparams).expect("plain fields"),
            mac: hex::encode(mac(&derived, secret.as_slice())),
        },
    };
    Ok(serde_json::to_vec(&keystore).expect("plain fields"))
}

fn parse(path: &Path, json: &[u8]) -> Result<Keystore, WalletError> {
    let bad = |why| WalletError::NotAKeystore { path: path.into(), why };
    let keystore: Keystore = serde_json::from_slice(json).map_err(|_| bad("its JSON has other fields"))?;
    if keystore.version == 3 { Ok(keystore) } else { Err(bad("it has another version")) }
}

/// A keystore as it lies there: well formed, and nothing more is known.
struct Locked {
    params: scrypt::Params,
    salt: Vec<u8>,
    iv: [u8; 16],
    secret: Zeroizing<[u8; 32]>,
    mac: [u8; 32],
    address: Option<String>,
}

/// Everything that can be found out without the password.
fn locked(path: &Path, json: &[u8]) -> Result<Locked, WalletError> {
    let bad = |why| WalletError::NotAKeystore { path: path.into(), why };
    let keystore = parse(path, json)?;
    let crypto = keystore.crypto;
    if crypto.cipher != "aes-128-ctr" || crypto.kdf != "scrypt" {
        return Err(bad("only aes-128-ctr under scrypt is supported"));
    }
    let kdf: ScryptParams =
        serde_json::from_value(crypto.kdfparams).map_err(|_| bad("its scrypt parameters are malformed"))?;
    let params = kdf.checked().ok_or_else(|| bad("its scrypt cost is malformed or above 1 GiB"))?;
    let salt = hex::decode(&kdf.salt).map_err(|_| bad("its salt is not hex"))?;
    let mut iv = [0u8; 16];
    hex::decode_to_slice(&crypto.cipherparams.iv, &mut iv).map_err(|_| bad("its iv is not 16 bytes of hex"))?;
    let mut secret = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(&crypto.ciphertext, secret.as_mut_slice())
        .map_err(|_| bad("its ciphertext is not 32 bytes of hex"))?;
    let mut mac = [0u8; 32];
    hex::decode_to_slice(&crypto.mac, &mut mac).map_err(|_| bad("its mac is not 32 bytes of hex"))?;
    Ok(Locked { params, salt, iv, secret, mac, address: keystore.address })
}

fn open(path: &Path, json: &[u8], password: &str) -> Result<AccountKey, WalletError> {
    let bad = |why| WalletError::NotAKeystore { path: path.into(), why };
    let Locked { params, salt, iv, mut secret, mac: expected, address } = locked(path, json)?;
    let derived = stretch(password, &salt, &params);
    if mac(&derived, secret.as_slice()) != expected {
        return Err(WalletError::WrongPassword { path: path.into() });
    }
    apply_cipher(&derived, &iv, secret.as_mut_slice());
    let key = AccountKey::from_bytes(&secret).map_err(|_| bad("it holds no valid key"))?;
    match address {
        Some(address) if address.parse::<Address>() != Ok(key.address()) => Err(bad("its address is not its key's")),
        _ => Ok(key),
    }
}

/// Whether some bytes are a keystore, as far as that shows without its password.
pub fn is_keystore(json: &[u8]) -> bool {
    locked(Path::new(""), json).is_ok()
}

fn read(path: &Path) -> Result<Vec<u8>, WalletError> {
    let read = |source| WalletError::Read { path: path.into(), source };
    if fs::metadata(path).map_err(read)?.len() > FILE_BYTES_MAX {
        return Err(WalletError::NotAKeystore { path: path.into(), why: "it is larger than 64 KiB" });
    }
    fs::read(path).map_err(read)
}

/// Random bytes as RFC 9562 writes a version 4 id.
fn uuid_v4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), WalletError> {
    let write = |source| WalletError::Write { path: path.into(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(write)?;
    let draft = folder.join(format!(".{}.new", hex::encode(*random::<8>()?)));
    let done = write_draft(&draft, bytes).and_then(|()| fs::rename(&draft, path)).and_then(|()| sync_folder(folder));
    if done.is_err() {
        // The draft may not exist; what matters is the error that is returned.
        let _ = fs::remove_file(&draft);
    }
    done.map_err(write)
}

fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The phrase of anvil and hardhat: its first account is known to every Ethereum developer.
    const TEST_WORDS: &str = "test test test test test test test test test test test junk";

    /// The scrypt example of the Web3 Secret Storage definition.
    const OFFICIAL: &str = r#"{
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": { "iv": "83dbcc02d8ccb40e466191a123791e0e" },
            "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": 32, "n": 262144, "p": 8, "r": 1,
                "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"
            },
            "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3
    }"#;

    #[test]
    fn the_words_give_the_account_that_every_wallet_gives() {
        let key = Wallet::from_words(&format!("  {}\n", TEST_WORDS.to_uppercase())).unwrap();
        assert_eq!(key.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    }

    #[test]
    fn bad_words_are_refused_without_repeating_them() {
        let swapped = TEST_WORDS.replace("test junk", "junk test");
        for words in ["", "test junk", swapped.as_str(), &TEST_WORDS.replace("junk", "jnuk")] {
            let text = Wallet::from_words(words).unwrap_err().to_string();
            assert!(!text.contains("junk") && !text.contains("jnuk"), "{text}");
        }
    }

    #[test]
    fn new_words_lead_back_to_their_key_and_are_new_each_time() {
        let (words, key) = Wallet::create().unwrap();
        assert_eq!(words.split(' ').count(), 12);
        assert_eq!(Wallet::from_words(&words).unwrap().address(), key.address());
        assert_ne!(Wallet::create().unwrap().0, words);
    }

    #[test]
    fn reads_the_official_example_and_names_a_wrong_password() {
        let path = Path::new("official.json");
        let key = open(path, OFFICIAL.as_bytes(), "testpassword").unwrap();
        let secret = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
        assert_eq!(hex::encode(key.to_bytes().as_slice()), secret);
        let wrong = open(path, OFFICIAL.as_bytes(), "testpasswore").unwrap_err();
        assert!(matches!(wrong, WalletError::WrongPassword { .. }), "{wrong}");
    }

    #[test]
    fn a_saved_key_is_private_costly_to_guess_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/account.json");
        let (_, key) = Wallet::create().unwrap();
        Wallet::save(&path, &key, "correct horse").unwrap();
        assert_eq!(Wallet::load(&path, "correct horse").unwrap().address(), key.address());
        assert_eq!(Wallet::address_of(&path).unwrap(), key.address());

        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(json["crypto"]["kdfparams"]["n"], 1 << 18);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left behind");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn an_unattended_key_opens_with_its_random_password_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("account.json");
        let (_, key) = Wallet::create().unwrap();
        let password = Wallet::random_password().unwrap();
        assert_eq!(password.len(), 64);
        Wallet::save_unattended(&path, &key, &password).unwrap();
        assert_eq!(Wallet::load(&path, &password).unwrap().address(), key.address());
        assert!(matches!(Wallet::load(&path, ""), Err(WalletError::WrongPassword { .. })));
    }

    #[test]
    fn a_hostile_file_cannot_ask_for_unbounded_work() {
        let path = Path::new("hostile.json");
        for (from, to) in [
            ("262144", "1099511627776"),
            ("262144", "262143"),
            ("262144", "0"),
            ("\"p\": 8", "\"p\": 4000000000"),
            ("\"r\": 1", "\"r\": 0"),
            ("\"dklen\": 32", "\"dklen\": 64"),
            ("aes-128-ctr", "aes-128-cbc"),
            ("83dbcc", "83db"),
            ("\"version\": 3", "\"version\": 1"),
        ] {
            let refused = open(path, OFFICIAL.replace(from, to).as_bytes(), "testpassword").unwrap_err();
            assert!(matches!(refused, WalletError::NotAKeystore { .. }), "{from} -> {to}: {refused}");
        }
    }

    #[test]
    fn an_address_that_is_not_the_keys_is_noticed() {
        let lying =
            OFFICIAL.replace("\"version\"", "\"address\": \"00000000000000000000000000000000000000aa\", \"version\"");
        let refused = open(Path::new("x"), lying.as_bytes(), "testpassword").unwrap_err();
        assert!(matches!(refused, WalletError::NotAKeystore { .. }), "{refused}");
    }
}
