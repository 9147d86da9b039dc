//! Version of the programs, as `--version` prints it.

/// Version and commit of the source, as in `0.1.0 (0123456789ab)`; the version alone where the
/// commit is not known.
pub const VERSION: &str = env!("VIRTFIT_VERSION");

/// Version alone, as in `0.1.0`.
pub const NUMBER: &str = env!("CARGO_PKG_VERSION");

/// Day of the commit, `YYYY-MM-DD`; empty where the commit is not known.
pub const DATE: &str = env!("VIRTFIT_DATE");
