//! Words of the commands that show guests and host: `status`, `map`, `measure`, `check`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::interval;

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
