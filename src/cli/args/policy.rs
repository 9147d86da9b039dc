//! Words of `virtfit profile` and `virtfit policy`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Subcommand;

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
