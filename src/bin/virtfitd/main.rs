//! `virtfitd`: the daemon, and libvirt for the other programs (`virtfitd call`).

use std::io::{self, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use virtfit::cli::logger;
use virtfit::daemon::calls;
use virtfit::root::Root;
use virtfit::view::Place;

mod libvirt;
mod serve;

use libvirt::Libvirt;

/// Fits libvirt guests to this host, before they start and while they run.
#[derive(Debug, Parser)]
#[command(name = "virtfitd", version)]
struct Args {
    /// The host's files are below this folder
    #[arg(long, value_name = "DIR", env = "VIRTFIT_ROOT", default_value = "/")]
    root: PathBuf,
    /// Read this policy file instead of the host's folders
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// An hwloc XML file or a synthetic line instead of the host's own topology
    #[arg(long, value_name = "FILE|LINE")]
    topology: Option<String>,
    /// The libvirt to talk to
    #[arg(long, value_name = "URI", default_value = "qemu:///system", global = true)]
    connect: String,
    /// Say more; twice, still more
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Call libvirt for another program: JSON lines in, JSON lines out
    Call,
}

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
