//! The real binary, without a network: what it prints where, in which language, and with which exit code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::path::Path;
use std::process::{Command, Output};

/// A call in an empty home, with a plain environment.
fn glean(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_glean"))
        .args(args)
        .env_clear()
        .env("GLEAN_HOME", home)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// Exit code, stdout, stderr.
fn ran(home: &Path, args: &[&str]) -> (i32, String, String) {
    let output = glean(home, args);
    (output.status.code().expect("not killed"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_is_data_and_lists_every_command_in_both_languages() {
    let home = tempfile::tempdir().unwrap();
    let (code, english, talk) = ran(home.path(), &["--help"]);
    assert_eq!((code, talk.as_str()), (0, ""));
    let (_, chinese, _) = ran(home.path(), &["--lang", "zh", "--help"]);
    for command in ["demo", "run", "quote", "jobs", "logs", "share", "receipt", "network", "wallet", "doctor"] {
        assert!(english.contains(command) && chinese.contains(command), "{command}");
    }
    assert!(english.contains("Run a WebAssembly program on shared machines"), "{english}");
    assert!(chinese.contains("在共享的机器上运行 WebAssembly 程序"), "{chinese}");
    assert!(!english.contains('\u{1b}'), "no colours off a terminal");
}

#[test]
fn bad_flags_are_our_failure_and_say_what_was_meant() {
    let home = tempfile::tempdir().unwrap();
    for (args, said) in [
        (vec!["recipt"], "receipt"),
        (vec!["run", "a.wasm", "--arrya", "1-2"], "--array"),
        (vec!["run", "a.wasm", "--array", "9-1"], "backwards"),
        (vec!["run", "a.wasm", "--input", "./d:/in/../etc"], ".."),
        (vec!["run", "a.wasm", "--mem", "much"], "256MiB"),
        (vec!["run"], "PROGRAM"),
    ] {
        let (code, out, talk) = ran(home.path(), &args);
        assert_eq!((code, out.as_str()), (125, ""), "{args:?}");
        assert!(talk.contains(said), "{args:?}: {talk}");
    }
}

#[test]
fn errors_say_what_why_and_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let (code, out, talk) = ran(home.path(), &["run", "nowhere.wasm"]);
    assert_eq!((code, out.as_str()), (125, ""));
    assert!(talk.starts_with("error: there is no program nowhere.wasm\nhint: "), "{talk}");
    let (_, _, talk) = ran(home.path(), &["--lang", "zh", "run", "nowhere.wasm"]);
    assert!(talk.starts_with("错误： 没有程序 nowhere.wasm\n提示： "), "{talk}");
    let (_, _, json) = ran(home.path(), &["--json", "run", "nowhere.wasm"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["code"].as_str(), json["message"].as_str()), (Some("no_program"), Some("nowhere.wasm")));
}

#[test]
fn a_node_without_a_network_says_how_to_get_one() {
    let home = tempfile::tempdir().unwrap();
    let (code, out, talk) = ran(home.path(), &["status"]);
    assert_eq!((code, out.as_str()), (125, ""));
    assert!(talk.contains("no network") && talk.contains("glean join"), "{talk}");
}

#[test]
fn a_file_that_is_no_receipt_is_refused_without_a_node() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("receipts.json");
    std::fs::write(&file, "{}").unwrap();
    let (code, _, talk) = ran(home.path(), &["receipt", file.to_str().unwrap(), "--verify"]);
    assert_eq!(code, 125);
    assert!(talk.contains("not a job's receipts"), "{talk}");
    assert!(!home.path().join("run").exists(), "no node was started");
}

#[test]
fn the_wallet_keeps_words_and_passwords_out_of_arguments() {
    let home = tempfile::tempdir().unwrap();
    let words = home.path().join("words");
    std::fs::write(&words, "test test test test test test test test test test test junk\n").unwrap();
    let import = ["wallet", "import", "--secret-file", words.to_str().unwrap()];
    let (code, _, talk) = ran(home.path(), &import);
    assert_eq!(code, 0, "{talk}");
    let (_, shown, _) = ran(home.path(), &["wallet", "show"]);
    assert!(shown.starts_with("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n"), "{shown}");

    let (code, _, talk) = ran(home.path(), &import);
    assert_eq!(code, 125, "an account is not replaced unasked");
    assert!(talk.contains("--replace"), "{talk}");

    let (password, wrong) = (home.path().join("password"), home.path().join("wrong"));
    std::fs::write(&password, "correct horse\n").unwrap();
    std::fs::write(&wrong, "battery staple\n").unwrap();
    let copy = home.path().join("copy.json");
    let (copy, password, wrong) = (copy.to_str().unwrap(), password.to_str().unwrap(), wrong.to_str().unwrap());
    let (code, _, talk) = ran(home.path(), &["wallet", "export", copy, "--password-file", password]);
    assert_eq!(code, 0, "{talk}");

    let other = tempfile::tempdir().unwrap();
    let (code, _, talk) = ran(other.path(), &["wallet", "import", copy, "--secret-file", wrong]);
    assert_eq!(code, 125);
    assert!(talk.contains("wrong password"), "{talk}");
    let (code, _, talk) = ran(other.path(), &["wallet", "import", copy, "--secret-file", password]);
    assert_eq!(code, 0, "{talk}");
    assert!(talk.contains("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"), "{talk}");
}

#[test]
fn a_replaced_account_is_put_aside_not_lost() {
    let home = tempfile::tempdir().unwrap();
    let (code, words, _) = ran(home.path(), &["wallet", "new"]);
    assert_eq!((code, words.split_whitespace().count()), (0, 12), "{words}");
    let (_, before, _) = ran(home.path(), &["wallet", "show", "--json"]);
    let before: serde_json::Value = serde_json::from_str(&before).unwrap();
    assert_eq!(ran(home.path(), &["wallet", "new", "--replace"]).0, 0);
    let kept = std::fs::read_dir(home.path().join("keys")).unwrap().map(|entry| entry.unwrap().file_name());
    let kept: Vec<String> = kept.map(|name| name.to_string_lossy().to_lowercase()).collect();
    let old = before["account"].as_str().unwrap().to_lowercase();
    for name in ["account.json", "password"] {
        assert!(kept.contains(&name.to_owned()) && kept.contains(&format!("{old}-{name}")), "{kept:?}");
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, script, _) = ran(home.path(), &["completions", shell]);
        assert!(code == 0 && script.contains("glean"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_glean"))
        .args(["wallet", "new"])
        .env("GLEAN_HOME", home.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
