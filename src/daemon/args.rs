//! Command line of `virtfitd`. The arguments are here and not beside `main`, as the manual page is
//! made from them.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::libvirt::connection::{SYSTEM, this_host};

/// Fits libvirt guests to this host, before they start and while they run.
#[derive(Debug, Parser)]
#[command(name = "virtfitd", version = crate::version::VERSION, disable_help_subcommand = true)]
pub struct Args {
    /// Read the host's files below this folder
    #[arg(long, value_name = "DIR", env = "VIRTFIT_ROOT", default_value = "/")]
    pub root: PathBuf,
    /// Read this policy file instead of the host's folders
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Use this topology (hwloc XML or a synthetic line) instead of the host's own
    #[arg(long, value_name = "FILE|LINE")]
    pub topology: Option<String>,
    /// libvirt URI: this host's system libvirt
    #[arg(long, value_name = "URI", default_value = SYSTEM, value_parser = this_host, global = true)]
    pub connect: String,
    /// Log each hook and what is put off; twice: each event
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Job of the program; without one: the daemon, in the foreground.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Jobs of the program besides the daemon.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Call libvirt for another program: JSON lines in, JSON lines out
    #[command(hide = true)]
    Call,
}
