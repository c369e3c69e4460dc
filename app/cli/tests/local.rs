//! What a web page gets from the node's local address, and what anybody who reads logs and process tables gets:
//! nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::hosts::eventually;
use common::load::{JOB_PATIENCE, all_done, job, jobs, pid_of};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use common::{LEDGER, Network, PROVIDER, REQUESTER, api, files, guest, page};

/// Every route of the API that reads or changes something, as a page would have to name it.
const ROUTES: [(&str, &str); 16] = [
    ("GET", "/v1/status"),
    ("GET", "/v1/jobs"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/last/events"),
    ("GET", "/v1/jobs/last/outputs"),
    ("GET", "/v1/jobs/last/receipts"),
    ("POST", "/v1/jobs/last/cancel"),
    ("POST", "/v1/jobs/last/rerun"),
    ("POST", "/v1/quote"),
    ("GET", "/v1/share"),
    ("PUT", "/v1/share"),
    ("DELETE", "/v1/share"),
    ("GET", "/v1/machines"),
    ("POST", "/v1/faucet"),
    ("GET", "/v1/network"),
    ("POST", "/v1/stop"),
];

/// Sends one request with exactly these header lines, and reads the whole answer.
fn ask(host: &str, method: &str, path: &str, headers: &[String]) -> String {
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let body = r#"{"price":"auto"}"#;
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\n{lines}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = Vec::new();
    // A server that hangs up on nonsense has answered, too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Every way for a page to ask that we know of: simple requests across sites, rebound names, upgrades; with whatever a
/// page can put beside them. What it cannot is to set `Authorization` on somebody else's address.
#[test]
fn a_web_page_reads_nothing_and_changes_nothing() {
    let network = Network::start();
    network.ok(REQUESTER, &["run", &guest("clock"), "--array", "1-3", "--max", "1"]);
    let (host, token) = api(&network, REQUESTER);
    let port = host.rsplit(':').next().unwrap();
    let jobs = || network.ok(REQUESTER, &["jobs", "--json"]);
    let before = jobs();
    let hosts = [
        vec![format!("Host: {host}")],
        vec![format!("Host: evil.test:{port}")],
        vec!["Host: 127.0.0.1".into()],
        vec![format!("Host: 127.0.0.1:{port}.evil.test")],
        vec![format!("Host: {host}"), format!("Host: evil.test:{port}")],
        vec![],
    ];
    let origins = ["", "Origin: null", "Origin: http://evil.test", "Origin: http://localhost:3000"];
    let kinds = [
        "Content-Type: text/plain",
        "Content-Type: application/json",
        "Content-Type: application/x-www-form-urlencoded",
    ];
    let others = [
        String::new(),
        "Authorization: Bearer guess".into(),
        format!("Authorization: Basic {token}"),
        format!("Cookie: token={token}"),
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==".into(),
    ];
    let mut asked = 0;
    for (method, path) in ROUTES {
        for (at, hosts) in hosts.iter().enumerate() {
            for (by, origin) in origins.iter().enumerate() {
                for (nth, other) in others.iter().enumerate() {
                    let mut headers = hosts.clone();
                    headers.push(kinds[(at + by + nth) % kinds.len()].to_owned());
                    headers.extend([(*origin).to_owned(), other.clone()].into_iter().filter(|line| !line.is_empty()));
                    let answer = ask(&host, method, path, &headers);
                    let status = answer.split(' ').nth(1).unwrap_or("none");
                    assert!(
                        matches!(status, "400" | "403" | "none"),
                        "{method} {path} with {headers:?} is answered {answer}"
                    );
                    assert!(!answer.contains(&token), "{method} {path} tells the token");
                    asked += 1;
                }
            }
        }
    }
    // The token in the query opens nothing either.
    let in_query = ask(&host, "GET", &format!("/v1/status?token={token}"), &[format!("Host: {host}")]);
    assert!(in_query.starts_with("HTTP/1.1 403"), "{in_query}");
    assert_eq!(jobs(), before, "and nothing has changed");
    // Control: who has the token, and says where it wants to be, is answered.
    let right = [format!("Host: {host}"), format!("Authorization: Bearer {token}")];
    assert!(ask(&host, "GET", "/v1/status", &right).starts_with("HTTP/1.1 200"));
    println!(
        r#"BAR {{"bar":"pages","what":"requests that a web page could make to the node's local address, by route, Host, Origin, content type and whatever it sends for a token: answers, state changes, secrets told","runs":{asked},"control":"with token and Host the same route answers","note":"raw HTTP; the next line is a browser"}}"#
    );
}

/// All that must stay in its own file, as bytes and as it would be printed.
fn secrets(network: &Network) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for node in [LEDGER, PROVIDER, REQUESTER] {
        for entry in std::fs::read_dir(network.home(node).join("keys")).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            if !path.ends_with("password") {
                // Behind a secret stands its sum.
                bytes.truncate(32);
            }
            let name = format!("{node}'s {}", path.file_name().unwrap().to_string_lossy());
            if name.ends_with(".json") {
                continue;
            }
            let text = String::from_utf8(bytes.clone()).unwrap_or_default().trim().to_owned();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            if !text.is_empty() {
                found.push((name.clone(), text.into_bytes()));
            }
            found.push((name.clone(), hex.into_bytes()));
            found.push((name, bytes));
        }
        found.push((format!("{node}'s token"), api(network, node).1.into_bytes()));
    }
    found
}

fn holds(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn no_key_password_or_token_is_anywhere_but_in_its_file() {
    allow_core_files();
    let network = Network::start();
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    for args in [
        &["run", "CLOCK", "--array", "1-5", "--max", "1"][..],
        &["status", "--json"],
        &["wallet", "show", "--json"],
        &["wallet", "balance"],
        &["jobs", "last", "--json"],
        &["logs", "last", "--events"],
        &["receipt", "last", "--verify"],
        &["debug", "journal"],
        &["doctor"],
        &["network", "show"],
        // And what goes wrong says no more.
        &["run", "no-such-file.wasm"],
        &["explain", "nothing"],
    ] {
        let clock = guest("clock");
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "CLOCK" { clock.as_str() } else { arg }).collect();
        let output = network.ran(REQUESTER, &args);
        seen.push((format!("output of {args:?}"), [output.stdout, output.stderr].concat()));
    }
    for node in [LEDGER, PROVIDER, REQUESTER] {
        seen.push((format!("{node}'s metrics"), page(&network, node, "/metrics", None).into_bytes()));
        let status = network.json(node, &["status"]);
        let pid = status["pid"].as_u64().unwrap();
        for name in ["cmdline", "environ"] {
            // Where even the owner may not look, nobody sees anything.
            seen.push((format!("{node}'s {name}"), std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default()));
        }
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert!(core.split_whitespace().nth(4) == Some("0"), "{node} may leave its memory in a core file: {core}");
    }
    let secrets = secrets(&network);
    let folder = network.folder.path();
    seen.extend(files(folder).into_iter().map(|name| (format!("/{name}"), std::fs::read(folder.join(&name)).unwrap())));
    let own = ["/keys/", "/run/api.json"];
    let (mut places, mut in_own) = (0, 0);
    for (place, bytes) in &seen {
        let is_own = own.iter().any(|own| place.contains(own));
        places += usize::from(!is_own);
        for (name, secret) in &secrets {
            let is_there = holds(bytes, secret);
            assert!(is_own || !is_there, "{name} is in {place}");
            in_own += usize::from(is_there);
        }
    }
    // Control: the same look finds each of them where it belongs.
    assert!(in_own >= secrets.len() / 3, "the look is blind: {in_own} of {}", secrets.len());
    println!(
        r#"BAR {{"bar":"secrets","what":"files, outputs, metrics, command lines and environments of a network at work, searched for every key, password and token: places with one","runs":{places},"control":"the same search finds them in their own files","note":"{} forms of them; core files have a line of their own"}}"#,
        secrets.len()
    );
}

/// As on a machine whose owner collects core files. Whether that is possible here.
fn allow_core_files() -> bool {
    let most = rustix::process::getrlimit(Resource::Core).maximum;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: most, maximum: most }).unwrap();
    most != Some(0)
}

/// Where the kernel puts core files, if not into the folder that a process works in, or the program that gets them.
fn core_pattern() -> String {
    std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default().trim().to_owned()
}

/// All core files in and below a folder, and where the kernel's pattern points.
fn core_files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found: Vec<PathBuf> = files(folder).into_iter().map(|name| folder.join(name)).collect();
    if let Some(there) = Path::new(&core_pattern()).parent().filter(|path| path.is_absolute()) {
        found.extend(std::fs::read_dir(there).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    found.retain(|path| is_core(path));
    found.into_iter().collect()
}

/// ELF, and of the type of core files.
fn is_core(path: &Path) -> bool {
    let mut head = [0; 18];
    let read = path.is_file() && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok();
    read && head.starts_with(b"\x7fELF") && head[16] == 4
}

/// Ends a process with a signal that makes core files. The first one may be taken for a fault of its own by a handler
/// that then lets the next one through.
fn crash(pid: u32, signal: Signal) {
    let process = Pid::from_raw(pid.cast_signed()).unwrap();
    let is_there = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    let start = Instant::now();
    while is_there() {
        // One that has just ended is as good.
        let _ = rustix::process::kill_process(process, signal);
        assert!(start.elapsed() < Duration::from_secs(30), "process {pid} survives {signal:?}");
        std::thread::yield_now();
    }
}

/// Control: what a process that is not ours leaves in that folder.
fn core_of_another(folder: &Path, signal: Signal, is_possible: bool) -> String {
    if !is_possible || core_pattern().starts_with('|') {
        return format!("SKIPPED: no core files in plain places here: {}", core_pattern());
    }
    let before = core_files(folder);
    let mut other = Command::new("sleep").arg("1000").current_dir(folder).spawn().unwrap();
    crash(other.id(), signal);
    assert!(other.wait().unwrap().core_dumped());
    let left: Vec<_> = core_files(folder).difference(&before).cloned().collect();
    assert!(!left.is_empty(), "a core file of another process is not seen: the look is blind");
    left.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    "another process that ends the same way in the same folder leaves one".to_owned()
}

/// Nodes, a worker and a command at work, ended by the signals that leave core files.
#[test]
fn a_crash_leaves_no_memory_in_a_file() {
    let is_possible = allow_core_files();
    let network = Network::start();
    let folder = network.folder.path();
    let before = core_files(folder);
    let closed = memory_is_closed(&network);
    let (mut crashes, mut control) = (0, String::new());
    for signal in [Signal::SEGV, Signal::ABORT] {
        control = core_of_another(folder, signal, is_possible);
        for victim in [LEDGER, PROVIDER, REQUESTER, "worker"] {
            all_done(&network, JOB_PATIENCE).unwrap();
            crash(at_work(&network, victim), signal);
            assert_eq!(core_files(folder), before, "{victim} ended by {signal:?}");
            crashes += 1;
        }
        crash_a_command(&network, signal);
        assert_eq!(core_files(folder), before, "a command ended by {signal:?}");
        crashes += 1;
    }
    all_done(&network, JOB_PATIENCE).unwrap();
    println!(
        r#"BAR {{"bar":"crashes","what":"ledger, lender, buyer, worker and command at work on a machine that collects core files, ended by SIGSEGV and SIGABRT: core files left","runs":{crashes},"control":"{control}","note":"the kernel holds the memory of {closed} kinds of process to be nobody's, so that programs which collect core files get none either"}}"#
    );
}

/// The process of a victim that has just got work.
fn at_work(network: &Network, victim: &str) -> u32 {
    let job = job();
    network.ok(REQUESTER, &job.iter().map(String::as_str).collect::<Vec<_>>());
    let found = std::iter::repeat_with(|| pid_of(network, victim)).take(100_000).flatten().next();
    found.expect("it is at work")
}

/// Not every machine writes core files to plain places; but everywhere the files in `/proc` of what is not dumpable
/// belong to root, not to its user and group, and it is dumped neither into a file nor to a program. Control: those of
/// another process are its own. How many kinds of process were looked at.
fn memory_is_closed(network: &Network) -> usize {
    // Root's own processes would look the same, if not for their group.
    let group = if rustix::process::getuid().is_root() { 65_534 } else { rustix::process::getgid().as_raw() };
    let mut other = Command::new("sleep").arg("1000").gid(group).spawn().unwrap();
    assert!(!is_closed(other.id()), "the look is blind");
    other.kill().unwrap();
    other.wait().unwrap();
    let victims = [LEDGER, PROVIDER, REQUESTER];
    for node in victims {
        network.ok(node, &["node", "--stop"]);
        assert!(network.command(node, &["status"]).gid(group).output().unwrap().status.success());
    }
    for victim in victims {
        assert!(is_closed(at_work(network, victim)), "{victim} is dumpable");
    }
    at_work(network, "worker");
    // It raises its wall before it takes the first order, but not as its first act.
    eventually("a worker is not dumpable", || pid_of(network, "worker").is_some_and(is_closed));
    victims.len() + 1
}

fn is_closed(pid: u32) -> bool {
    let seen = std::fs::metadata(format!("/proc/{pid}/environ"));
    seen.is_ok_and(|seen| (seen.uid(), seen.gid()) == (0, 0))
}

/// A command that waits for its job.
fn crash_a_command(network: &Network, signal: Signal) {
    let known = jobs(network).len();
    let mut command = network.command(REQUESTER, &["run", &guest("spin"), "--max", "1"]);
    let mut command = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while jobs(network).len() == known {
        assert!(command.try_wait().unwrap().is_none(), "it has ended before its time");
    }
    crash(command.id(), signal);
    assert!(!command.wait().unwrap().core_dumped());
    network.ok(REQUESTER, &["cancel", "last"]);
}
