//! The words of the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use virtfit_hook::operation::OPERATIONS;

use clap::{Parser, Subcommand, ValueEnum};

use crate::cli::interval;
use crate::libvirt::connection::this_host;
use crate::types::plan::Scope;

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

/// Options that `plan` and `rewrite` share.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Print the plan as JSON: an object for one named guest or file, else an array
    #[arg(long, conflicts_with = "diff")]
    pub json: bool,
    /// Print the change of the XML as a unified diff
    #[arg(long)]
    pub diff: bool,
    /// Use this profile, whatever rules and the guest's request say
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Plan for a definition to start, or for a migration or restore coming in
    #[arg(long, value_name = "SCOPE", default_value = "boot")]
    pub scope: ScopeArg,
    /// Exit with 3 when something would change
    #[arg(long)]
    pub exit_code: bool,
}

/// `--scope`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ScopeArg {
    /// A definition that is started next
    #[default]
    Boot,
    /// A migration or restore coming in: host-side settings only
    Incoming,
}

impl From<ScopeArg> for Scope {
    fn from(scope: ScopeArg) -> Self {
        match scope {
            ScopeArg::Boot => Self::Boot,
            ScopeArg::Incoming => Self::Incoming,
        }
    }
}

/// `plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// Names, patterns (db-*), UUIDs or IDs of guests, XML files, or - for stdin; none: all guests
    #[arg(value_name = "GUEST|FILE|-", conflicts_with = "all")]
    pub inputs: Vec<OsString>,
    /// Plan for all guests of the host, as without names
    #[arg(long)]
    pub all: bool,
    /// Options of the plan.
    #[command(flatten)]
    pub options: Options,
}

/// `rewrite`.
#[derive(Debug, clap::Args)]
pub struct RewriteArgs {
    /// A guest's name, UUID or ID, an XML file, or - for stdin
    #[arg(value_name = "GUEST|FILE|-")]
    pub input: Option<OsString>,
    /// Options of the plan.
    #[command(flatten)]
    pub options: Options,
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

/// `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Names, patterns (db-*), UUIDs or IDs of guests; none: all guests, and what is free
    #[arg(value_name = "GUEST")]
    pub guests: Vec<OsString>,
    /// Print it as JSON, with every thread
    #[arg(long)]
    pub json: bool,
    /// List the names of all guests that have a definition, one a line
    #[arg(long, conflicts_with_all = ["json", "guests"])]
    pub names: bool,
}

/// `map`.
#[derive(Debug, clap::Args)]
pub struct MapArgs {
    /// A guest's name or UUID: the host as it is, and with this guest as it is planned
    #[arg(value_name = "GUEST")]
    pub guest: Option<OsString>,
    /// Print it as JSON
    #[arg(long, conflicts_with = "svg")]
    pub json: bool,
    /// Write it as an SVG image to this file; -: to stdout
    #[arg(long, value_name = "FILE|-")]
    pub svg: Option<PathBuf>,
}

/// `measure`.
#[derive(Debug, clap::Args)]
pub struct MeasureArgs {
    /// Names, patterns (db-*), UUIDs or IDs of guests that run; none: all guests that run
    #[arg(value_name = "GUEST")]
    pub guests: Vec<OsString>,
    /// Measure for so long: 30s, 2m; one second to one hour
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = interval::parse)]
    pub interval: Duration,
    /// Write the measurement to this file
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Compare with the measurement in this file; exit 3 if a guest is worse than before
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Check for this profile; without it: for the profiles of the policy's rules, else for fit
    #[arg(long = "for", value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Print all checks as JSON
    #[arg(long)]
    pub json: bool,
}

/// `hook`. Words are taken as they come: nothing libvirt says is a usage error.
#[derive(Debug, clap::Args)]
pub struct HookArgs {
    /// The guest's name
    #[arg(allow_hyphen_values = true)]
    pub guest: OsString,
    /// The operation: prepare, start, started, stopped, release, migrate, restore, reconnect,
    /// attach
    #[arg(value_name = "OP", allow_hyphen_values = true)]
    pub operation: Option<OsString>,
    /// begin, end or -
    #[arg(value_name = "SUBOP", allow_hyphen_values = true)]
    pub suboperation: Option<OsString>,
    /// More of it; not looked at
    #[arg(value_name = "EXTRA", allow_hyphen_values = true)]
    pub extra: Option<OsString>,
    /// Milliseconds another process has spent on this call already.
    #[arg(long, hide = true, value_name = "MS")]
    pub spent: Option<u64>,
    /// Read the host and keep it for later hooks; nothing else.
    #[arg(long, hide = true)]
    pub keep_host: bool,
    /// The process libvirt's hook was run by, where it is not the parent of this one.
    #[arg(long, hide = true, value_name = "PID")]
    pub parent: Option<u32>,
    /// Words that a later libvirt may add.
    #[arg(hide = true)]
    pub rest: Vec<OsString>,
}

/// Puts `--` before a guest whose name looks like an option (`-v`, `--help`): where the word after
/// the guest of `virtfit hook` is an operation, the guest's word is a name. (libvirt gives the
/// words without options; those come before `hook` or after it.)
pub(crate) fn protect_guest(mut words: Vec<OsString>) -> Vec<OsString> {
    let is = |at: usize, text: &str| words.get(at).is_some_and(|word: &OsString| word == text);
    let is_operation = |at: usize| OPERATIONS.iter().any(|row| is(at, row.operation));
    let odd = words
        .get(2)
        .is_some_and(|word| word.as_encoded_bytes().starts_with(b"-"));
    if is(1, "hook") && odd && is_operation(3) {
        words.insert(2, "--".into());
    }
    words
}

/// Returns whether these are the words of a hook: an error in them must not keep a guest from
/// starting.
pub(crate) fn is_hook(words: &[OsString]) -> bool {
    let mut words = words.iter().skip_while(|word| *word != "hook").skip(1);
    words.any(|word| OPERATIONS.iter().any(|row| word == row.operation))
}

/// `profile`.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// List all profiles, built-in and from the policy
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show every key of a profile, and where it comes from
    Show {
        /// The profile's name
        name: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a guest ask for a profile itself, in its own metadata; `off`: leave it alone
    Set {
        /// A guest's name, UUID or ID
        guest: OsString,
        /// The profile's name
        name: String,
    },
    /// Remove a guest's own request, so that the policy's rules decide
    Unset {
        /// A guest's name, UUID or ID
        guest: OsString,
    },
}

/// `policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Report every error of the policy, or of these files, at once
    Check {
        /// Policy files, read as the whole policy; -: stdin, as the new text of
        /// /etc/virtfit/policy.toml, beside the other files
        #[arg(value_name = "FILE|-")]
        files: Vec<PathBuf>,
        /// Read the one file given as the new text of this policy file, beside the other files
        #[arg(long = "as", value_name = "FILE", conflicts_with = "policy")]
        stands_for: Option<PathBuf>,
        /// Print errors and warnings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the merged policy with the place of each value
    Show {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the policy files as they are
    Cat,
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
