//! `virtfitd`: the daemon, and libvirt for the other programs (`virtfitd call`).

use std::io::{self, BufReader};
use std::process::ExitCode;

use clap::Parser as _;
use virtfit::cli::logger;
use virtfit::daemon::args::{Args, Command};
use virtfit::daemon::calls;
use virtfit::root::Root;
use virtfit::view::Place;

mod libvirt;
mod serve;

use libvirt::Libvirt;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Some(Command::Call) => {
            logger::to_stderr(args.verbose);
            let mut libvirt = Libvirt::new(&args.connect);
            calls::serve(BufReader::new(io::stdin()), io::stdout(), |request| {
                libvirt.answer(request)
            })
        }
        None => {
            // One line a decision is what a daemon's log is for.
            logger::to_stderr(args.verbose.saturating_add(1));
            let place = Place {
                root: Root::new(&args.root),
                policy: args.policy,
                topology: args.topology,
                assume_empty: false,
            };
            serve::run(place, &args.connect)
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
