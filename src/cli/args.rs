//! The words of the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::plan::Scope;

/// Fits each libvirt guest to the host it runs on.
#[derive(Debug, Parser)]
#[command(
    name = "virtfit",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(after_help = "Exit codes: 0 done, 1 broken input or host, 2 usage, 3 the answer is no.")]
pub struct Args {
    /// Options every command has.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
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
    /// Use this policy instead of all policy folders
    #[arg(long, global = true, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The host's topology from hwloc XML or a synthetic line; without --root it is an empty host without policy
    #[arg(long, global = true, value_name = "FILE|LINE", allow_hyphen_values = false)]
    pub topology: Option<String>,
    /// The libvirt connection, where libvirt is called
    #[arg(long, global = true, value_name = "URI", default_value = "qemu:///system")]
    pub connect: String,
    /// Say more on stderr; twice for developers
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,
    /// Plan as if no guest held anything
    #[arg(long, global = true)]
    pub assume_empty: bool,
}

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set
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
    /// What would change for a guest, and why
    Plan(PlanArgs),
    /// The tuned XML on stdout
    Rewrite(RewriteArgs),
    /// The XML as it was before virtfit
    Revert(RevertArgs),
    /// What libvirt's qemu hook calls: the guest's XML on stdin
    Hook(HookArgs),
    /// Profiles, with every key
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// The policy: errors, the merged result, the files
    #[command(subcommand)]
    Policy(PolicyCommand),
}

/// What `plan` and `rewrite` share.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// The plan as JSON
    #[arg(long, conflicts_with = "diff")]
    pub json: bool,
    /// The change of the XML as a unified diff
    #[arg(long)]
    pub diff: bool,
    /// Use this profile, whatever rules and the guest's request say
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// What the XML is for: a definition to start, or a migration or restore coming in
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
    /// Names or UUIDs of guests, XML files, or - for stdin; none: stdin, or all guests on a terminal
    #[arg(value_name = "GUEST|FILE|-")]
    pub inputs: Vec<OsString>,
    /// How.
    #[command(flatten)]
    pub options: Options,
}

/// `rewrite`.
#[derive(Debug, clap::Args)]
pub struct RewriteArgs {
    /// A guest's name or UUID, an XML file, or - for stdin
    #[arg(value_name = "GUEST|FILE|-")]
    pub input: Option<OsString>,
    /// How.
    #[command(flatten)]
    pub options: Options,
}

/// `revert`.
#[derive(Debug, clap::Args)]
pub struct RevertArgs {
    /// A guest's name or UUID, an XML file, or - for stdin
    #[arg(value_name = "GUEST|FILE|-", conflicts_with = "all")]
    pub input: Option<OsString>,
    /// All guests of the host
    #[arg(long)]
    pub all: bool,
}

/// `hook`. Words are taken as they come: nothing libvirt says is a usage error.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = false)]
pub struct HookArgs {
    /// What libvirt says: the guest's name, operation, sub-operation, extra
    #[arg(
        value_name = "GUEST OP SUBOP EXTRA",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        num_args = 1..,
        required = true
    )]
    pub words: Vec<OsString>,
}

/// `profile`.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// All profiles, built-in and from the policy
    List,
    /// Every key of a profile, and where it comes from
    Show {
        /// The profile's name
        name: String,
    },
}

/// `policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Every error of the policy, or of these files, at once
    Check {
        /// Policy files
        files: Vec<PathBuf>,
    },
    /// The merged policy with the place of each value
    Show,
    /// The policy files as they are
    Cat,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        super::Args::command().debug_assert();
    }
}
