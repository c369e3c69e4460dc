//! `glean wallet`: the account's key, its words and its money.
//!
//! The node must be able to start unattended, so its key file is locked with a random password that lies
//! beside it, readable by its owner only. A person's password protects what leaves the machine: exports.
//! A replaced account is put aside, never deleted: its channels may still hold money.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use glean_node::api::types::Status;
use glean_node::wallet::{Wallet, write_private};
use glean_types::{AccountKey, Address};
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Context;
use crate::args::{WalletArgs, WalletCmd};
use crate::client::lock_is_free;
use crate::fail::Fail;
use crate::text;
use crate::ui::Ui;

/// Shortest password for an export.
const PASSWORD_LEN_MIN: usize = 8;

/// `glean wallet show --json`.
#[derive(Debug, Serialize)]
struct WalletInfo {
    account: Address,
    keystore: PathBuf,
}

/// `glean wallet ...`.
pub async fn wallet(context: &Context, args: WalletArgs) -> Result<u8> {
    let ui = &context.ui;
    match args.action {
        WalletCmd::New { replace } => new(context, replace)?,
        WalletCmd::Import { keystore, secret_file, replace } => import(context, keystore, secret_file, replace)?,
        WalletCmd::Show => show(context)?,
        WalletCmd::Balance => {
            let status: Status = context.node().await?.get("/status").await?;
            ui.answer(&status, |status| say_balance(ui, status))?;
        }
        WalletCmd::Export { file, password_file } => export(context, &file, password_file)?,
    }
    Ok(0)
}

/// `glean faucet`.
pub async fn faucet(context: &Context) -> Result<u8> {
    let ui = &context.ui;
    let status: Status = context.node().await?.post("/faucet", &Value::Null).await?;
    ui.answer(&status, |status| say_balance(ui, status))?;
    Ok(0)
}

fn say_balance(ui: &Ui, status: &Status) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let balance = or_dash(status.balance.map(|amount| amount.to_string()));
    let gas = or_dash(status.gas.map(Ui::money));
    text!(ui, "wallet-balance", balance = balance, channels = status.in_channels.to_string(), gas = gas)
}

/// Where a home keeps its account.
fn keystore(home: &Path) -> PathBuf {
    home.join("keys/account.json")
}

/// The random password that opens it.
fn password_file(home: &Path) -> PathBuf {
    home.join("keys/password")
}

fn show(context: &Context) -> Result<()> {
    let keystore = keystore(&context.home);
    if !keystore.exists() {
        return Err(Fail::new("no_account", context.home.display().to_string()).into());
    }
    let info = WalletInfo { account: Wallet::address_of(&keystore)?, keystore };
    context.ui.answer(&info, |info| format!("{}\n{}", info.account, info.keystore.display()))?;
    Ok(())
}

fn new(context: &Context, replace: bool) -> Result<()> {
    let ui = &context.ui;
    check_replaceable(&context.home, replace)?;
    let (words, key) = Wallet::create()?;
    // The words are the only thing of value here: they are data, shown once.
    ui.tell("wallet-words");
    ui.out(&words)?;
    confirm_word(ui, &words)?;
    keep(context, &key)
}

/// Asks for one of the words, so that nobody goes on without having written them down.
fn confirm_word(ui: &Ui, words: &str) -> Result<()> {
    if !ui.can_ask {
        return Ok(());
    }
    let words: Vec<&str> = words.split(' ').collect();
    let mut pick = [0u8];
    getrandom::fill(&mut pick).map_err(|e| Fail::new("no_randomness", e.to_string()))?;
    let place = usize::from(pick[0]) % words.len();
    let typed = Zeroizing::new(ui.ask(&text!(ui, "ask-word", n = place + 1), "")?);
    if *typed == words[place] { Ok(()) } else { Err(Fail::new("wrong_word", (place + 1).to_string()).into()) }
}

fn import(context: &Context, file: Option<PathBuf>, secret: Option<PathBuf>, replace: bool) -> Result<()> {
    let ui = &context.ui;
    check_replaceable(&context.home, replace)?;
    let key = match file {
        Some(file) => {
            let password = secret_from(ui, secret, "ask-password")?;
            Wallet::load(&file, &password)?
        }
        None => Wallet::from_words(&secret_from(ui, secret, "ask-words")?)?,
    };
    keep(context, &key)
}

fn export(context: &Context, file: &Path, secret: Option<PathBuf>) -> Result<()> {
    let ui = &context.ui;
    let home = &context.home;
    if file.exists() {
        return Err(Fail::new("file_exists", file.display().to_string()).into());
    }
    let own = read_secret(&password_file(home))?;
    let key = Wallet::load(&keystore(home), &own)?;
    let is_typed = secret.is_none();
    let password = secret_from(ui, secret, "ask-new-password")?;
    if password.chars().count() < PASSWORD_LEN_MIN {
        return Err(Fail::new("short_password", PASSWORD_LEN_MIN.to_string()).into());
    }
    if is_typed && *password != *secret_from(ui, None, "ask-again")? {
        return Err(Fail::new("passwords_differ", "").into());
    }
    let spinner = ui.spinner(text!(ui, "wallet-sealing"));
    let saved = Wallet::save(file, &key, &password);
    spinner.finish_and_clear();
    saved?;
    ui.done(&text!(ui, "wallet-exported", account = key.address().to_string(), file = file.display().to_string()));
    Ok(())
}

/// An account in use is not replaced by accident, nor under a running node.
fn check_replaceable(home: &Path, replace: bool) -> Result<()> {
    if keystore(home).exists() && !replace {
        return Err(Fail::new("account_exists", Wallet::address_of(&keystore(home))?.to_string()).into());
    }
    if lock_is_free(home)? { Ok(()) } else { Err(Fail::new("node_running", home.display().to_string()).into()) }
}

/// Makes `key` the home's account, the former one put aside under its address.
fn keep(context: &Context, key: &AccountKey) -> Result<()> {
    let (ui, home) = (&context.ui, &context.home);
    let (file, password_file) = (keystore(home), password_file(home));
    if file.exists() {
        let old = Wallet::address_of(&file)?;
        for path in [&file, &password_file] {
            put_aside(path, &old).with_context(|| format!("could not put {} aside", path.display()))?;
        }
        ui.say(&text!(ui, "wallet-aside", account = old.to_string()));
    }
    let password = Wallet::random_password()?;
    let spinner = ui.spinner(text!(ui, "wallet-sealing"));
    // The password first: a key file without one could never be opened again.
    let saved = write_private(&password_file, password.as_bytes()).and_then(|()| Wallet::save(&file, key, &password));
    spinner.finish_and_clear();
    saved?;
    let info = WalletInfo { account: key.address(), keystore: file };
    ui.done(&text!(ui, "wallet-kept", account = info.account.to_string(), file = info.keystore.display().to_string()));
    if ui.json {
        ui.out_json(&info)?;
    }
    Ok(())
}

fn put_aside(path: &Path, account: &Address) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    std::fs::rename(path, path.with_file_name(format!("{account}-{name}")))
}

/// A secret from a file or typed without echo; never from arguments or the environment.
fn secret_from(ui: &Ui, file: Option<PathBuf>, question: &str) -> Result<Zeroizing<String>> {
    match file {
        Some(file) => read_secret(&file),
        None if ui.can_ask => {
            let typed = rpassword::prompt_password(format!("{}: ", ui.text(question, &[])));
            Ok(Zeroizing::new(typed.context("could not read from the terminal")?))
        }
        None => Err(Fail::new("nobody_to_ask", "").into()),
    }
}

fn read_secret(file: &Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()));
    let text = Zeroizing::new(text?);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}
