//! A real browser on the user's machine opens a page that means harm: what it gets from the node's local address and from the
//! ledger's JSON-RPC port.
//!
//! The page (`common/attack.html`) tries what pages may try, from a foreign name, and reports to its own server what it
//! read. Rebinding is real, too: the browser is told that the foreign name is this machine, and opens the node's own port by
//! it. Control: the same page against a server that is as careless as many local servers are, where it must get its way.
//!
//! Needs Chromium (`chromium` or `$GLEAN_CHROMIUM`) on Linux; elsewhere it prints SKIPPED with the reason.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{LEDGER, Network, REQUESTER, api, guest};

const PAGE: &str = include_str!("common/attack.html");
/// The whole page is through by then: nineteen attempts of four seconds at most.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a browser may do on a machine without a network, and must not.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP evil.test 127.0.0.1",
];

fn chromium() -> Option<String> {
    let named = std::env::var("GLEAN_CHROMIUM").unwrap_or_else(|_| "chromium".into());
    Command::new(&named).arg("--version").output().is_ok_and(|output| output.status.success()).then_some(named)
}

/// One request as it came, without its head.
struct Asked {
    line: String,
    body: String,
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut piece).ok()? {
            0 => return None,
            n => bytes.extend(&piece[..n]),
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let length = text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    while bytes.len() < head + 4 + length.unwrap_or(0) {
        let n = stream.read(&mut piece).ok()?;
        bytes.extend(&piece[..n]);
    }
    let body = String::from_utf8_lossy(&bytes[head + 4..]).into_owned();
    Some(Asked { line: text.lines().next().unwrap_or_default().to_owned(), body })
}

/// Serves until the test ends; where it listens.
fn serve(answer: impl Fn(Asked) -> String + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                if let Some(asked) = read(&mut stream) {
                    // The browser may have lost interest.
                    let _ = stream.write_all(answer(asked).as_bytes());
                }
            });
        }
    });
    port
}

fn page(kind: &str, extra: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

type Told = BTreeMap<String, String>;

/// The site that the page comes from.
struct Site {
    port: u16,
    told: Receiver<Told>,
}

impl Site {
    fn open() -> Site {
        let (to, told): (Sender<Told>, Receiver<Told>) = channel();
        let to = Mutex::new(to);
        let port = serve(move |asked| {
            if asked.line.starts_with("POST /report") {
                let _ = to.lock().unwrap().send(serde_json::from_str(&asked.body).unwrap());
            }
            page("text/html", "", PAGE)
        });
        Site { port, told }
    }

    /// What the page tells after the browser has opened it against a target.
    fn attack(&self, browser: &str, target: &str) -> Told {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("http://evil.test:{}/?target={target}", self.port);
        let mut child = start(browser, folder.path(), &["--disable-popup-blocking", "--remote-debugging-port=0", &url]);
        let told = self.told.recv_timeout(PATIENCE);
        let _ = child.kill();
        let _ = child.wait();
        told.expect("the page reports")
    }
}

fn start(browser: &str, profile: &std::path::Path, args: &[&str]) -> std::process::Child {
    let mut command = Command::new(browser);
    command.args(FLAGS).arg(format!("--user-data-dir={}", profile.display())).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// What a page of the same origin would see, after its name was bound to this machine.
fn rebound(browser: &str, port: &str, path: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://evil.test:{port}{path}");
    let output = start(browser, folder.path(), &["--dump-dom", &url]).wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn got(told: &Told) -> Vec<&String> {
    told.iter().filter(|(_, what)| what.starts_with("read")).map(|(way, _)| way).collect()
}

#[test]
fn a_real_browser_gets_nothing_from_the_node_or_out_of_the_ledger() {
    let Some(browser) = chromium() else {
        println!("SKIPPED: no Chromium here");
        return;
    };
    let site = Site::open();

    // Control: a careless server.
    let changes = Arc::new(AtomicUsize::new(0));
    let counted = changes.clone();
    let careless = serve(move |asked| {
        let reads = ["GET", "OPTIONS"].iter().any(|method| asked.line.starts_with(method));
        counted.fetch_add(usize::from(!reads), Ordering::SeqCst);
        let all =
            "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: *\r\nAccess-Control-Allow-Methods: *\r\n";
        match asked.line.contains("events") {
            true => page("text/event-stream", all, "data: secret\n\n"),
            false => page("application/javascript", all, "\"secret\""),
        }
    });
    let told = site.attack(&browser, &format!("127.0.0.1:{careless}"));
    let (read, changed) = (got(&told).len(), changes.load(Ordering::SeqCst));
    assert!(read >= 8 && changed >= 5, "the page is harmless: {changed} changes, {told:#?}");
    assert!(rebound(&browser, &careless.to_string(), "/v1/status").contains("secret"), "nothing is rebound");

    let network = Network::start();
    network.ok(REQUESTER, &["run", &guest("clock"), "--array", "1-3", "--max", "1"]);
    let state = || {
        let (jobs, status) = (network.ok(REQUESTER, &["jobs", "--json"]), network.json(REQUESTER, &["status"]));
        (jobs, status["pid"].clone(), status["account"].clone(), status["share"].clone())
    };
    let before = state();
    let (host, token) = api(&network, REQUESTER);
    let told = site.attack(&browser, &host);
    let mut attempts = told.len();
    assert_eq!(got(&told), Vec::<&String>::new(), "{told:#?}");
    let port = host.rsplit(':').next().unwrap();
    for path in ["/", "/v1/status", "/v1/jobs", "/v1/network", "/metrics", "/healthz"] {
        let seen = rebound(&browser, port, path);
        attempts += 1;
        assert!(seen.contains("bad_host") && !seen.contains(&token), "{path}: {seen}");
    }
    assert_eq!(state(), before, "the node is the one it was");

    // The ledger answers pages, as wallets need it, what the whole world may know; it has no keys to sign with.
    let rpc = network.json(LEDGER, &["status"])["rpc_url"].as_str().unwrap().trim_start_matches("http://").to_owned();
    let told = site.attack(&browser, &rpc);
    attempts += told.len();
    assert!(told["accounts of the ledger"].contains(r#""result":[]"#), "{told:#?}");
    for way in ["a transaction of the ledger", "a signature of the ledger"] {
        assert!(told[way].contains("-32601"), "{way}: {told:#?}");
    }
    let seen = rebound(&browser, rpc.rsplit(':').next().unwrap(), "/");
    attempts += 1;
    assert!(seen.contains("invalid host"), "{seen}");
    assert_eq!(state(), before, "the node is the one it was");
    println!(
        r#"BAR {{"bar":"browser","what":"attempts of a hostile page in a real Chromium against the node's local address and the ledger's RPC port, DNS rebinding among them: state changes, secrets read","runs":{attempts},"control":"from a careless server the same page reads {read} times and changes state {changed} times","note":"the ledger's port answers any page what is public, and holds no keys"}}"#
    );
}
