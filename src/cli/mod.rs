//! The command line: argv and streams at the edge, one file a command. `cli.md` is its contract.
//!
//! A command returns an [`Outcome`] or a [`Failure`]; only [`main`] writes. So stdout holds a whole answer or nothing.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

pub mod apply;
pub mod args;
pub mod ask;
pub mod confirm;
pub mod daemon;
pub mod guest;
pub mod hook;
pub mod hypervisor;
pub mod input;
pub mod logger;
pub mod outcome;
pub mod output;
pub mod plan;
pub mod policy;
pub mod profile;
pub mod revert;
pub mod rewrite;
pub mod session;
pub mod status;

pub use outcome::{Exit, Failure, Outcome};

use args::{Args, Command};

/// Runs the program: parses argv, runs one command, writes its answer, tells the exit code.
pub fn main() -> ExitCode {
    let started = std::time::Instant::now();
    let words = args::protect_guest(std::env::args_os().collect());
    let command = Args::command().term_width(output::columns());
    let hook = args::is_hook(&words);
    let parsed = command
        .try_get_matches_from(words)
        .and_then(|matches| Args::from_arg_matches(&matches));
    let args = match parsed {
        Ok(args) => args,
        Err(error) if hook && error.use_stderr() => {
            // libvirt takes any other exit code for a veto, or kills the guest.
            let text = error.to_string();
            let why = text.lines().next().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            let told = Outcome {
                stderr: vec![format!("virtfit: hook: nothing was done: {why}")],
                ..Outcome::default()
            };
            return output::write(&told).into();
        }
        Err(error) => {
            // --help and --version are answers (stdout, 0), all else is a usage error (stderr, 2).
            let code = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            let _ = error.print();
            return code.into();
        }
    };
    if let Command::Hook(words) = &args.command {
        return output::write(&hook::run(&args.global, words, started)).into();
    }
    if let Command::Daemon { caller } = &args.command {
        // One line a decision is what a daemon's log is for.
        logger::to_stderr("virtfitd", args.global.verbose.saturating_add(1));
        let result = daemon::run(&args.global, caller);
        return output::write(&result.unwrap_or_else(Failure::into_outcome)).into();
    }
    logger::to_stderr("virtfit", args.global.verbose);
    let result = match &args.command {
        Command::Plan(options) => plan::run(&args.global, options),
        Command::Rewrite(options) => rewrite::run(&args.global, options),
        Command::Revert(options) => revert::run(&args.global, options),
        Command::Apply(options) => apply::run(&args.global, options),
        Command::Profile(command) => profile::run(&args.global, command),
        Command::Status(options) => status::run(&args.global, options),
        Command::Policy(command) => policy::run(&args.global, command),
        Command::Hook(_) | Command::Daemon { .. } => Ok(Outcome::default()),
    };
    output::write(&result.unwrap_or_else(Failure::into_outcome)).into()
}
