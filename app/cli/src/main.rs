//! `glean`: the one binary. Everything a person types becomes calls to the local node's API; this program
//! decides nothing about work or money.
//!
//! ```text
//!   main ── args ──> commands/* ──> client ──HTTP──> the node (its own process: `glean node`)
//!             │          │  └─────> verify           receipts, checked from disk without any node
//!             └ lang ────┴─ ui, fail                 every sentence; data on stdout, talk on stderr
//! ```
//!
//! What must stay true: `--json` prints only the types of `glean_node::api::types` (and the few defined beside
//! their command); exit codes are docker's (125: `glean` failed; a single task's own code passes through);
//! no secret is ever read from arguments or the environment.

mod args;
mod client;
mod commands;
mod demo;
mod fail;
mod follow;
mod lang;
mod out_dir;
mod picture;
mod ui;
mod verify;

use std::io;
use std::process::ExitCode;

use args::{Cli, Cmd};
use clap::CommandFactory;
use commands::{Context, backup, debug, doctor, jobs, network, receipt, share, wait, wallet};
use fail::EXIT_TOOL;
use lang::{Lang, Messages};
use ui::Ui;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    // Not a command for people: the node starts its workers so, and they must start fast.
    if args.get(1).map(String::as_str) == Some("worker") {
        glean_node::worker::child_main(args.get(2).map(String::as_str));
    }
    // Commands hold keys and passwords, too. Where this cannot be done a node says so in its log.
    let _ = glean_node::no_core_files();
    let env = |name: &str| std::env::var(name).ok();
    let lang = Lang::choose(args::lang_flag(&args).as_deref(), env);
    let cli = match Cli::read(&Messages::new(lang), args.into_iter()) {
        Ok(cli) => cli,
        Err(refused) => return usage(&refused),
    };
    let global = &cli.global;
    let ui = Ui::new(lang, global.json, global.quiet, global.no_input);
    match run(cli, ui) {
        Ok(code) => ExitCode::from(code),
        Err((ui, error)) => report(&ui, &error),
    }
}

#[allow(clippy::result_large_err, reason = "once per process")]
fn run(cli: Cli, ui: Ui) -> Result<u8, (Ui, anyhow::Error)> {
    let home = match commands::home(cli.global.home) {
        Ok(home) => home,
        Err(error) => return Err((ui, error)),
    };
    let context = Context { ui, home };
    let command = cli.command.unwrap_or_else(|| Cmd::Demo(args::DemoArgs::by_default()));
    dispatch(&context, command).map_err(|error| (context.ui, error))
}

/// Runs a command; the answer is the process's exit code.
fn dispatch(context: &Context, command: Cmd) -> anyhow::Result<u8> {
    match command {
        Cmd::Demo(args) => wait(demo::demo(context, args)),
        Cmd::Run(args) => wait(commands::run::run(context, args)),
        Cmd::Quote(args) => wait(commands::run::quote(context, args)),
        Cmd::Jobs(args) => wait(jobs::jobs(context, args)),
        Cmd::Logs(args) => wait(jobs::logs(context, args)),
        Cmd::Cancel(args) => wait(jobs::cancel(context, args)),
        Cmd::Rerun(args) => wait(jobs::rerun(context, args)),
        Cmd::Explain(args) => wait(jobs::explain(context, args)),
        Cmd::Receipt(args) => wait(receipt::receipt(context, args)),
        Cmd::Share(args) => wait(share::share(context, args)),
        Cmd::Machines => wait(network::machines(context)),
        Cmd::Network(args) => wait(network::network(context, args)),
        Cmd::Join(args) => wait(network::join(context, args)),
        Cmd::Node(args) => network::node(context, args),
        Cmd::Status => wait(network::status(context)),
        Cmd::Doctor => wait(doctor::doctor(context)),
        Cmd::Faucet => wait(wallet::faucet(context)),
        Cmd::Wallet(args) => wait(wallet::wallet(context, args)),
        Cmd::Backup(args) => backup::backup(context, &args),
        Cmd::Restore(args) => backup::restore(context, &args),
        Cmd::Debug(args) => debug::debug(context, &args.what),
        Cmd::Completions(args) => {
            clap_complete::generate(args.shell, &mut Cli::command(), "glean", &mut std::io::stdout());
            Ok(0)
        }
    }
}

/// clap's own text: help is data and a success, anything else is our failure.
fn usage(refused: &clap::Error) -> ExitCode {
    let shown = refused.print().is_ok();
    if !refused.use_stderr() && shown { ExitCode::SUCCESS } else { ExitCode::from(EXIT_TOOL) }
}

fn report(ui: &Ui, error: &anyhow::Error) -> ExitCode {
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    // Whoever read our output has seen enough (`glean jobs | head`).
    if error.chain().any(broken_pipe) {
        return ExitCode::SUCCESS;
    }
    match ui.json {
        true => eprintln!("{}", serde_json::to_string(&fail::as_json(error)).unwrap_or_default()),
        false => eprintln!("{}", fail::render(ui, error)),
    }
    ExitCode::from(EXIT_TOOL)
}
