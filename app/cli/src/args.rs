//! What can be typed. Flags keep the habits of `docker run` and of array jobs; abouts come from the
//! message files, so `glean --lang zh --help` is Chinese.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use glean_types::Amount;

use crate::lang::Messages;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "glean", version, arg_required_else_help = false, subcommand_required = false)]
pub struct Cli {
    /// Settings of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do; nothing: the demo.
    #[command(subcommand)]
    pub command: Option<Cmd>,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Folder of this node: keys, journal, results [default: the user's data folder]
    #[arg(long, global = true, env = "GLEAN_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print data as JSON, one value a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Language of the talk: en or zh
    #[arg(long, global = true, value_name = "LANG")]
    pub lang: Option<String>,
    /// No talk and no bars; data and errors only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Never ask; take defaults
    #[arg(long, global = true)]
    pub no_input: bool,
}

/// Every command. What each does stands in the message files: `cmd-NAME`.
#[derive(Debug, Subcommand)]
pub enum Cmd {
    Demo(DemoArgs),
    Run(RunArgs),
    Quote(QuoteArgs),
    Jobs(JobsArgs),
    Logs(LogsArgs),
    Cancel(JobArg),
    Rerun(RerunArgs),
    Explain(PlaceArg),
    Receipt(ReceiptArgs),
    Share(ShareArgs),
    Machines,
    Network(NetworkArgs),
    Join(JoinArgs),
    Node(NodeArgs),
    Status,
    Doctor,
    Faucet,
    Wallet(WalletArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Debug(DebugArgs),
    Completions(CompletionsArgs),
}

/// `glean demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Where to leave results, picture and receipts
    #[arg(long, default_value = DEMO_DIR, value_name = "DIR")]
    pub dir: PathBuf,
    /// Forget an earlier run and start over
    #[arg(long)]
    pub fresh: bool,
}

/// Where the demo leaves everything.
const DEMO_DIR: &str = "glean-demo";

impl DemoArgs {
    /// What `glean` alone means.
    pub fn by_default() -> DemoArgs {
        DemoArgs { dir: DEMO_DIR.into(), fresh: false }
    }
}

/// A job, for `run` and `quote`.
#[derive(Debug, Clone, Args)]
pub struct JobArgs {
    /// The program: a WebAssembly file built for WASI preview 1
    pub program: PathBuf,
    /// Arguments of the program; {} becomes the line or number of the task
    #[arg(last = true)]
    pub args: Vec<String>,
    /// One task per line of FILE; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "array")]
    pub each_line: Option<PathBuf>,
    /// One task per number, for example 1-1000
    #[arg(long, value_name = "FROM-TO", value_parser = parse_range)]
    pub array: Option<(u64, u64)>,
    /// A file or folder the program may read, and where it sees it
    #[arg(long = "input", short = 'v', value_name = "HOST:GUEST", value_parser = parse_input)]
    pub inputs: Vec<(PathBuf, String)>,
    /// An environment variable of the program
    #[arg(long, short = 'e', value_name = "KEY=VALUE", value_parser = parse_env)]
    pub env: Vec<(String, String)>,
    /// Memory of one task
    #[arg(long, default_value = "256MiB", value_name = "SIZE", value_parser = parse_size)]
    pub mem: u64,
    /// Wall clock of one task
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = parse_millis)]
    pub timeout: u32,
    /// Fuel of one task [default: what a fast machine burns within the timeout]
    #[arg(long, value_name = "FUEL")]
    pub fuel: Option<u64>,
    /// Output of one task
    #[arg(long, default_value = "64MiB", value_name = "SIZE", value_parser = parse_size)]
    pub output_max: u64,
    /// Never spend more than this many gUSD [default: the balance]
    #[arg(long, value_name = "AMOUNT")]
    pub max: Option<Amount>,
}

/// `glean run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArgs,
    /// Write each task's output into DIR, with manifest.json
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Hand the job in, print its id and return
    #[arg(long, short, conflicts_with = "out")]
    pub detach: bool,
    /// Stop the job after this many failed tasks
    #[arg(long, value_name = "N")]
    pub max_fails: Option<u32>,
}

/// `glean quote`.
#[derive(Debug, Clone, Args)]
pub struct QuoteArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArgs,
    /// How many tasks to run here, free, to measure
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub samples: u32,
}

/// A job: its id, the start of its id, or `last`.
#[derive(Debug, Clone, Args)]
pub struct JobArg {
    /// Job id, its first digits, or `last`
    #[arg(default_value = "last")]
    pub job: String,
}

/// A job, or one task of it.
#[derive(Debug, Clone, Args)]
pub struct PlaceArg {
    /// JOB or JOB/TASK; JOB is an id, its first digits, or `last`
    #[arg(default_value = "last", value_name = "JOB[/TASK]", value_parser = parse_place)]
    pub place: Place,
}

/// A job, or one task of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Job id, prefix or `last`.
    pub job: String,
    /// The task.
    pub task: Option<u32>,
}

/// `glean jobs`.
#[derive(Debug, Clone, Args)]
pub struct JobsArgs {
    /// Show the tasks of this job
    pub job: Option<String>,
    /// Show failed tasks only
    #[arg(long, requires = "job")]
    pub failed: bool,
}

/// `glean logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// Whose output.
    #[command(flatten)]
    pub place: PlaceArg,
    /// Go on until the job is over
    #[arg(long, short)]
    pub follow: bool,
    /// What happened to the job, instead of what its tasks wrote
    #[arg(long)]
    pub events: bool,
}

/// `glean rerun`.
#[derive(Debug, Clone, Args)]
pub struct RerunArgs {
    /// Which job.
    #[command(flatten)]
    pub job: JobArg,
    /// Tasks that failed (the only choice so far, and the default)
    #[arg(long)]
    pub failed: bool,
}

/// `glean receipt`.
#[derive(Debug, Clone, Args)]
pub struct ReceiptArgs {
    /// Job id, its first digits, `last`, or a receipts.json file
    #[arg(default_value = "last", value_name = "JOB|FILE")]
    pub job: String,
    /// Check every signature, root, price and total again
    #[arg(long)]
    pub verify: bool,
    /// Write the papers to FILE, to be checked anywhere
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `glean share`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ShareArgs {
    /// Something else than starting.
    #[command(subcommand)]
    pub action: Option<ShareCmd>,
    /// The terms.
    #[command(flatten)]
    pub terms: ShareTermsArgs,
    /// Ask nothing
    #[arg(long, short)]
    pub yes: bool,
    /// Lend in the background
    #[arg(long, short)]
    pub detach: bool,
}

/// What to lend.
#[derive(Debug, Clone, Args)]
pub struct ShareTermsArgs {
    /// Cores to lend [default: half]
    #[arg(long, value_name = "N")]
    pub cores: Option<u32>,
    /// Memory of one guest [default: a quarter of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub mem: Option<u64>,
    /// gUSD for 10^9 fuel
    #[arg(long, value_name = "AMOUNT")]
    pub price: Option<Amount>,
    /// Where the machine is, free text
    #[arg(long, value_name = "TEXT")]
    pub region: Option<String>,
    /// For the demo and for tests of the checks: answer every N-th task wrongly
    #[arg(long, hide = true, value_name = "N")]
    pub lie_every: Option<u32>,
}

/// `glean share ...`: `cmd-share-NAME` in the message files.
#[derive(Debug, Clone, Subcommand)]
pub enum ShareCmd {
    Why,
    Stop,
    Set(ShareTermsArgs),
}

/// `glean network`.
#[derive(Debug, Clone, Args)]
pub struct NetworkArgs {
    /// What.
    #[command(subcommand)]
    pub action: NetworkCmd,
}

/// `glean network ...`: `cmd-network-NAME` in the message files.
#[derive(Debug, Clone, Subcommand)]
pub enum NetworkCmd {
    Init {
        /// Name of the network
        #[arg(default_value = "lab")]
        name: String,
    },
    Show,
}

/// `glean join`.
#[derive(Debug, Clone, Args)]
pub struct JoinArgs {
    /// The line that `glean network init` printed
    pub line: String,
}

/// `glean node`.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Stop the node of this home
    #[arg(long)]
    pub stop: bool,
    /// Stop when standard input ends: a parent's way to never leave a child behind
    #[arg(long, hide = true)]
    pub until_eof: bool,
}

/// `glean wallet`.
#[derive(Debug, Clone, Args)]
pub struct WalletArgs {
    /// What.
    #[command(subcommand)]
    pub action: WalletCmd,
}

/// `glean wallet ...`: `cmd-wallet-NAME` in the message files.
#[derive(Debug, Clone, Subcommand)]
pub enum WalletCmd {
    New {
        /// Put the present account aside and use the new one
        #[arg(long)]
        replace: bool,
    },
    Import {
        /// A Web3 keystore file; without it, 12 words are asked for
        keystore: Option<PathBuf>,
        /// File with the keystore's password, or with the words
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// Put the present account aside and use this one
        #[arg(long)]
        replace: bool,
    },
    Show,
    Balance,
    Export {
        /// Where to write the keystore
        file: PathBuf,
        /// File with the new password; without it, it is asked for
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

/// `glean backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// Where to write it: a new file, outside the home
    pub file: PathBuf,
}

/// `glean restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// What `glean backup` wrote
    pub file: PathBuf,
    /// Only read it, compare every hash and open a copy; nothing is changed
    #[arg(long)]
    pub check: bool,
}

/// `glean debug`.
#[derive(Debug, Clone, Args)]
pub struct DebugArgs {
    #[command(subcommand)]
    pub what: DebugCmd,
}

/// `glean debug ...`: `cmd-debug-NAME` in the message files.
#[derive(Debug, Clone, Subcommand)]
pub enum DebugCmd {
    Journal {
        /// Every record in full
        #[arg(long)]
        full: bool,
    },
}

/// `glean completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
}

impl Cli {
    /// The command line with every about in the right language.
    pub fn command_in(messages: &Messages) -> Command {
        let about = messages.text("cmd-glean", &[]);
        describe(Cli::command().about(about), "cmd", messages)
    }

    /// Reads arguments.
    pub fn read(messages: &Messages, args: impl Iterator<Item = String>) -> Result<Cli, clap::Error> {
        let matches = Cli::command_in(messages).try_get_matches_from(args)?;
        Cli::from_arg_matches(&matches)
    }
}

fn describe(command: Command, path: &str, messages: &Messages) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        let path = format!("{path}-{name}");
        command.mut_subcommand(name, |sub| {
            let sub = match messages.find(&path, &[]) {
                Some(about) => sub.about(about),
                None => sub,
            };
            describe(sub, &path, messages)
        })
    })
}

/// The language flag, found before anything is parsed so that even a parse error knows its language.
pub fn lang_flag(args: &[String]) -> Option<String> {
    let ours: Vec<&String> = args.iter().take_while(|arg| *arg != "--").collect();
    ours.iter().enumerate().find_map(|(i, arg)| match arg.strip_prefix("--lang=") {
        Some(value) => Some(value.to_owned()),
        None if *arg == "--lang" => ours.get(i + 1).map(|value| value.to_string()),
        None => None,
    })
}

/// `256MiB`, `1.5 GB`, `4096`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let fail = || format!("`{text}` is not a size: write it like 256MiB, 2GiB or 500MB");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(fail()),
    };
    let number: u64 = number.parse().map_err(|_| fail())?;
    number.checked_mul(factor).ok_or_else(fail)
}

/// `500ms`, `30s`, `5m`, `1h`.
fn parse_millis(text: &str) -> Result<u32, String> {
    let fail = || format!("`{text}` is not a time: write it like 500ms, 30s, 5m or 1h");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
    let (number, unit) = text.split_at(split);
    let factor: u32 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(fail()),
    };
    let number: u32 = number.parse().map_err(|_| fail())?;
    number.checked_mul(factor).filter(|ms| *ms > 0).ok_or_else(fail)
}

/// `1-1000`.
fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let fail = || format!("`{text}` is not a range: write it like 1-1000");
    let (from, to) = text.split_once('-').ok_or_else(fail)?;
    let (from, to) = (from.parse().map_err(|_| fail())?, to.parse().map_err(|_| fail())?);
    if from <= to { Ok((from, to)) } else { Err(format!("`{text}` runs backwards: write it like 1-1000")) }
}

/// `data:/in`. The guest's side is absolute and goes nowhere but down.
fn parse_input(text: &str) -> Result<(PathBuf, String), String> {
    let fail = |why: &str| format!("`{text}`: {why}; write it like ./data:/in");
    let (host, guest) = text.rsplit_once(':').ok_or_else(|| fail("no `:` between host and guest path"))?;
    if host.is_empty() {
        return Err(fail("no host path"));
    }
    if !guest.starts_with('/') {
        return Err(fail("the guest path must start with /"));
    }
    if guest.split('/').any(|part| part == "..") {
        return Err(fail("the guest path must not contain .."));
    }
    Ok((host.into(), guest.into()))
}

/// `KEY=VALUE`.
fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// `JOB` or `JOB/TASK`.
fn parse_place(text: &str) -> Result<Place, String> {
    let Some((job, task)) = text.split_once('/') else {
        return Ok(Place { job: text.into(), task: None });
    };
    let task = task.parse().map_err(|_| format!("`{task}` is not a task number"))?;
    Ok(Place { job: job.into(), task: Some(task) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::Lang;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(&Messages::new(Lang::En), line.split(' ').map(str::to_owned))
    }

    fn run(line: &str) -> RunArgs {
        match read(line).unwrap().command {
            Some(Cmd::Run(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound_in_both_languages_and_nothing_is_left_undescribed() {
        for lang in [Lang::En, Lang::Zh] {
            let command = Cli::command_in(&Messages::new(lang));
            command.clone().debug_assert();
            let mut open = vec![command];
            while let Some(command) = open.pop() {
                assert!(command.is_hide_set() || command.get_about().is_some(), "{}", command.get_name());
                open.extend(command.get_subcommands().cloned());
            }
        }
    }

    #[test]
    fn run_reads_as_docker_and_array_jobs_do() {
        let args =
            run("glean run a.wasm --array 1-9 --input ./d:/in -e K=V=W --mem 2GiB --timeout 30s --max 1.5 -- -x {}");
        assert_eq!(args.job.array, Some((1, 9)));
        assert_eq!(args.job.inputs, [("./d".into(), "/in".into())]);
        assert_eq!(args.job.env, [("K".into(), "V=W".into())]);
        assert_eq!((args.job.mem, args.job.timeout), (2 << 30, 30_000));
        assert_eq!(args.job.max, Some("1.5".parse().unwrap()));
        assert_eq!(args.job.args, ["-x", "{}"]);
    }

    #[test]
    fn nonsense_is_refused_where_it_is_typed() {
        for line in [
            "glean run",
            "glean run a.wasm --array 9-1",
            "glean run a.wasm --array x",
            "glean run a.wasm --array 1-2 --each-line f",
            "glean run a.wasm --input ./d",
            "glean run a.wasm --input ./d:in",
            "glean run a.wasm --input ./d:/in/../../etc",
            "glean run a.wasm --env K",
            "glean run a.wasm --mem 12parsecs",
            "glean run a.wasm --timeout 30",
            "glean run a.wasm --timeout 0s",
            "glean run a.wasm --max -1",
            "glean explain last/x",
            "glean rnu",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_language_is_known_before_parsing() {
        let find = |line: &str| lang_flag(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(find("glean --lang zh run").as_deref(), Some("zh"));
        assert_eq!(find("glean run --lang=zh x").as_deref(), Some("zh"));
        assert_eq!(find("glean run x -- --lang zh"), None);
    }
}
