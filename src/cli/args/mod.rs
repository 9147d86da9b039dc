//! The words of the command line.

mod hook;
mod plan;
mod policy;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::libvirt::connection::this_host;

pub use hook::HookArgs;
pub(crate) use hook::{ask_for_help, is_hook, protect_guest};
pub use plan::{Options, PlanArgs, RewriteArgs, ScopeArg};
pub use policy::{PolicyCommand, ProfileCommand};
pub use show::{CheckArgs, MapArgs, MeasureArgs, StatusArgs};

/// Fits each libvirt guest to the host it runs on.
#[derive(Debug, Parser)]
#[command(name = "virtfit", version = crate::version::VERSION, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 an input, the host or virtfit is broken; 2 wrong usage; 3 refused, something would change \
                  (--exit-code), something is wrong (status), a check fails (check), or a guest is worse than before (measure)"
)]
pub struct Args {
    /// Options every command has.
    #[command(flatten)]
    pub global: Global,
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Options every command has.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Options everywhere")]
pub struct Global {
    /// Read the host (/sys, /proc, /etc, /run) below this folder [default: VIRTFIT_ROOT, else /]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Use this policy instead of all policy folders; - is stdin
    #[arg(long, global = true, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Use this topology (hwloc XML or a synthetic line); without --root: an empty host without
    /// rules, see --profile
    #[arg(long, global = true, value_name = "FILE|LINE", allow_hyphen_values = false)]
    pub topology: Option<String>,
    /// libvirt URI to write definitions to: this host's system libvirt [default:
    /// LIBVIRT_DEFAULT_URI, else qemu:///system]
    #[arg(short, long, global = true, value_name = "URI", value_parser = this_host)]
    pub connect: Option<String>,
    /// Say more on stderr; twice for developers
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,
    /// Ignore what running guests hold
    #[arg(long, global = true)]
    pub assume_empty: bool,
}

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what would change for guests, and why
    #[command(
        after_help = "Examples:\n  virtfit plan\n  virtfit plan 'db-*'\n  virtfit plan db-1 --profile local --diff\n  virtfit plan guest.xml --topology host.xml --profile fit"
    )]
    Plan(PlanArgs),
    /// Print a guest's tuned XML
    #[command(
        after_help = "Examples:\n  virtfit rewrite guest.xml > tuned.xml\n  virsh dumpxml --inactive db-1 | virtfit rewrite -"
    )]
    Rewrite(RewriteArgs),
    /// Restore a guest's XML as it was before virtfit
    #[command(
        after_help = "Examples:\n  virtfit revert db-1\n  virtfit revert --all --yes\n  virtfit revert tuned.xml > guest.xml"
    )]
    Revert(RevertArgs),
    /// Bring definitions in line with policy and host
    #[command(
        after_help = "Examples:\n  virtfit apply --dry-run --all\n  virtfit apply db-1\n  virtfit apply 'db-*' --yes"
    )]
    Apply(ApplyArgs),
    /// Show what each guest holds, where its threads run, what is pending, and what is free
    #[command(
        after_help = "Examples:\n  virtfit status\n  virtfit status db-1\n  virtfit status --json | jq '.guests[] | select(.pending != [])'"
    )]
    Status(StatusArgs),
    /// Draw the host: nodes, caches, cores, CPUs, and who sits where
    #[command(
        after_help = "Examples:\n  virtfit map\n  virtfit map db-1\n  virtfit map --svg host.svg\n  virtfit map --json | jq '.guests[] | {name, held}'"
    )]
    Map(MapArgs),
    /// Measure how long guests wait for CPUs and where they run, and compare it with before
    #[command(
        after_help = "Examples:\n  virtfit measure --save before.json\n  virtfit measure --compare before.json\n  virtfit measure db-1 --for 2m --json | jq '.guests[].figures'"
    )]
    Measure(MeasureArgs),
    /// Print guests and host as numbers, for Prometheus
    #[command(
        after_help = "Examples:\n  virtfit metrics\n  virtfit metrics > virtfit.prom.new && mv virtfit.prom.new virtfit.prom"
    )]
    Metrics,
    /// Check if this host is ready for the guests of its profiles, with a cure for what is not
    #[command(
        after_help = "Examples:\n  virtfit check\n  virtfit check --for realtime\n  virtfit check -v --json | jq '.checks[] | select(.verdict == \"fail\")'"
    )]
    Check(CheckArgs),
    /// Write a policy for this host and its guests as they are, with the reason of each line
    #[command(
        after_help = "Examples:\n  virtfit recommend\n  virtfit recommend | virtfit plan --all --policy -\n  virtfit recommend > /etc/virtfit/policy.toml"
    )]
    Recommend,
    /// Answer libvirt's qemu hook (called by libvirt, with the guest's XML on stdin)
    Hook(HookArgs),
    /// Run as virtfitd without libvirt in the process
    #[command(hide = true)]
    Daemon {
        /// The virtfitd that calls libvirt
        #[arg(long, value_name = "FILE")]
        caller: PathBuf,
    },
    /// List names for a shell's completion, one a line
    #[command(hide = true)]
    Complete {
        /// The kind of names
        names: Names,
    },
    /// List and show profiles; set one for a guest
    #[command(
        subcommand,
        after_help = "Examples:\n  virtfit profile list\n  virtfit profile show fit\n  virtfit profile set db-1 local\n  virtfit profile unset db-1"
    )]
    Profile(ProfileCommand),
    /// Check, show or print the policy
    #[command(
        subcommand,
        after_help = "Examples:\n  virtfit policy check\n  virtfit policy check ./policy.toml\n  virtfit policy show"
    )]
    Policy(PolicyCommand),
}

/// The names that `complete` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Names {
    /// Guests that have a definition
    Guests,
    /// Profiles, built-in and from the policy
    Profiles,
}

/// `revert`.
#[derive(Debug, clap::Args)]
pub struct RevertArgs {
    /// A guest's name, UUID or ID, a pattern (db-*), an XML file, or - for stdin
    #[arg(value_name = "GUEST|FILE|-", conflicts_with = "all")]
    pub input: Option<OsString>,
    /// Revert all guests of the host that virtfit tuned
    #[arg(long)]
    pub all: bool,
    /// Show which guests would be reverted, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask; needed without a terminal when several guests change
    #[arg(short, long)]
    pub yes: bool,
}

/// `apply`.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// Names, patterns (db-*), UUIDs or IDs of guests
    #[arg(value_name = "GUEST", conflicts_with = "all")]
    pub guests: Vec<OsString>,
    /// Apply to all guests of the host
    #[arg(long)]
    pub all: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write the definitions' files while libvirt does not run; without guests or --all: autostart
    /// guests, and those virtfit tuned before
    #[arg(long)]
    pub offline: bool,
    /// Choose again what the guest sees: topology, cells, CPU mode
    #[arg(long)]
    pub reshape: bool,
    /// Move guests to a better place even where theirs is valid
    #[arg(long)]
    pub improve: bool,
    /// Do not ask; needed without a terminal when several guests change
    #[arg(short, long)]
    pub yes: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use std::ffi::OsString;

    #[test]
    fn the_definition_is_sound() {
        super::Args::command().debug_assert();
    }

    #[test]
    fn a_guest_may_be_called_anything() {
        for (words, expected) in [
            (
                "virtfit hook --help prepare begin -",
                "virtfit hook -- --help prepare begin -",
            ),
            (
                "virtfit hook -v release end -",
                "virtfit hook -- -v release end -",
            ),
            (
                "virtfit hook db prepare begin -",
                "virtfit hook db prepare begin -",
            ),
            (
                "virtfit hook --root x db prepare",
                "virtfit hook --root x db prepare",
            ),
            ("virtfit hook --help", "virtfit hook --help"),
            ("virtfit plan --json prepare", "virtfit plan --json prepare"),
            ("", ""),
        ] {
            let split = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
            assert_eq!(super::protect_guest(split(words)), split(expected));
        }
    }
}
