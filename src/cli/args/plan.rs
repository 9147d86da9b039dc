//! Words of `virtfit plan` and `virtfit rewrite`.

use clap::ValueEnum;
use std::ffi::OsString;

use crate::types::plan::Scope;

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
