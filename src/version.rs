//! What `--version` says.

/// The version and the commit it was built from, as in `0.1.0 (0123456789ab)`; the version alone
/// where the source does not say.
pub const VERSION: &str = env!("VIRTFIT_VERSION");

/// The version alone, as in `0.1.0`.
pub const NUMBER: &str = env!("CARGO_PKG_VERSION");

/// The day of that commit, `YYYY-MM-DD`; empty where the source does not say.
pub const DATE: &str = env!("VIRTFIT_DATE");
