//! `virtfitd`: the daemon, and libvirt for other programs (`virtfitd call`).

use std::io::{self, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use clap::Parser as _;
use virtfit::daemon::args::{Args, Command};
use virtfit::daemon::run;
use virtfit::hostfs::HostFs;
use virtfit::libvirt::child;
use virtfit::logging;
use virtfit::panics;
use virtfit::snapshot::Sources;
use virtfit_hook::program;

mod libvirt;

use libvirt::Libvirt;

fn main() -> ExitCode {
    panics::quiet();
    panics::guarded(run).unwrap_or_else(|bug| fail(&bug.to_string()))
}

fn run() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Some(Command::Call) => {
            logging::to_stderr("virtfitd", args.verbose);
            let mut libvirt = Libvirt::new(HostFs::new(&args.root), &args.connect);
            child::serve(BufReader::new(io::stdin()), io::stdout(), |request| {
                libvirt.answer(request)
            })
        }
        None => {
            // A daemon's log has one line about each decision.
            logging::to_stderr("virtfitd", args.verbose.saturating_add(1));
            light();
            let place = Sources {
                root: HostFs::new(&args.root),
                policy: args.policy,
                topology: args.topology,
                assume_empty: false,
            };
            let (root, uri) = (place.root.clone(), args.connect);
            run::run(
                place,
                Box::new(move || Box::new(Libvirt::new(root.clone(), &uri))),
            )
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the program with a line on stderr, also while there is no logger yet.
fn fail(text: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "virtfitd: {text}");
    ExitCode::FAILURE
}

/// Replaces this process by `virtfit daemon`, the same daemon in a program that does not link
/// libvirt: libvirt's client library brings some fifty others with it, and takes more memory than
/// everything else. That daemon calls libvirt through a child, `virtfitd call`, without a
/// connection while there is nothing to call. Where the program is not found, this process is the
/// daemon.
fn light() {
    let Ok(own) = std::env::current_exe() else {
        return;
    };
    let program = program::installed_at("/usr/bin/virtfit");
    let error = std::process::Command::new(&program)
        .arg0("virtfitd")
        .args(["daemon", "--caller"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .exec();
    log::debug!("{}: {error}", program.display());
}
