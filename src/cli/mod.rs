//! Command line: arguments and streams at the edge, one file per command. The pages of `docs/man/`
//! describe the commands.
//!
//! A command returns an [`Outcome`] or a [`Failure`]; only [`main`] writes. Therefore stdout has a
//! complete answer or nothing.

pub(crate) mod advice;
pub(crate) mod apply;
pub mod args;
pub(crate) mod check;
pub(crate) mod chosen;
pub(crate) mod complete;
pub(crate) mod confirm;
pub(crate) mod daemon;
pub(crate) mod daemon_client;
pub(crate) mod guest;
pub(crate) mod hook;
pub(crate) mod input;
pub(crate) mod interval;
pub(crate) mod map;
pub(crate) mod measure;
pub(crate) mod metrics;
pub(crate) mod outcome;
pub(crate) mod output;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod profile;
pub(crate) mod recommend;
pub(crate) mod redefine;
pub(crate) mod revert;
pub(crate) mod rewrite;
pub(crate) mod session;
pub(crate) mod status;

use crate::logging;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, FromArgMatches};

pub(crate) use outcome::{Exit, Failure, Outcome};

use args::{Args, Command};

use crate::panics;
use crate::types::printable::is_unsafe;

/// Runs the program: parses the arguments, runs one command, writes its answer, returns the exit
/// code.
pub fn main() -> ExitCode {
    let started = Instant::now();
    panics::quiet();
    let words = args::ask_for_help(args::protect_guest(std::env::args_os().collect()));
    let hook = args::is_hook(&words);
    panics::guarded(|| run(words, hook, started)).unwrap_or_else(|bug| {
        // libvirt takes any exit code but 0 of a hook for a veto, or kills the guest.
        let told = Outcome {
            stderr: vec![format!("virtfit: {bug}")],
            exit: if hook { Exit::Done } else { Exit::Broken },
            ..Outcome::default()
        };
        output::write(&told).into()
    })
}

/// Runs one command.
fn run(words: Vec<OsString>, hook: bool, started: Instant) -> ExitCode {
    let command = Args::command().term_width(output::columns());
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
            // --help and --version are answers (stdout, 0); all others are usage errors (stderr,
            // 2).
            let code = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            // A word that is quoted may come from elsewhere.
            let text = error.to_string();
            if code == Exit::Usage && text.contains(|c| c != '\n' && is_unsafe(c)) {
                let told = Outcome {
                    stderr: vec![text.trim_end().to_string()],
                    exit: code,
                    ..Outcome::default()
                };
                return output::write(&told).into();
            }
            let _ = error.print();
            return code.into();
        }
    };
    // The hook sets up its own logging, and its outcome is never a failure.
    if let Command::Hook(words) = &args.command {
        return output::write(&hook::run(&args.global, words, started)).into();
    }
    if let Command::Daemon { caller } = &args.command {
        // The log of a daemon has one line per decision.
        logging::to_stderr("virtfitd", args.global.verbose.saturating_add(1));
        let result = daemon::run(&args.global, caller);
        let failed = |failure: Failure| failure.into_outcome_of("virtfitd");
        return output::write(&result.unwrap_or_else(failed)).into();
    }
    match args.global.quiet {
        true => logging::errors_to_stderr("virtfit"),
        false => logging::to_stderr("virtfit", args.global.verbose),
    }
    let result = match &args.command {
        Command::Plan(options) => plan::run(&args.global, options),
        Command::Rewrite(options) => rewrite::run(&args.global, options),
        Command::Revert(options) => revert::run(&args.global, options),
        Command::Apply(options) => apply::run(&args.global, options),
        Command::Profile(command) => profile::run(&args.global, command),
        Command::Status(options) => status::run(&args.global, options),
        Command::Map(options) => map::run(&args.global, options),
        Command::Measure(options) => measure::run(&args.global, options),
        Command::Metrics => metrics::run(&args.global),
        Command::Check(options) => check::run(&args.global, options),
        Command::Recommend => recommend::run(&args.global),
        Command::Policy(command) => policy::run(&args.global, command),
        Command::Complete { names } => complete::run(&args.global, *names),
        Command::Hook(_) | Command::Daemon { .. } => Ok(Outcome::default()),
    };
    let mut outcome = result.unwrap_or_else(Failure::into_outcome);
    // What came with an answer that is whole is no error.
    if args.global.quiet && outcome.exit == Exit::Done {
        outcome.stderr.clear();
    }
    output::write(&outcome).into()
}
