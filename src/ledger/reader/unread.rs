//! Reasons for which a file of the ledger does not count.

use std::io;
use std::sync::Arc;

use crate::hostfs::at_path;
use crate::hostfs::records::RecordError;
use crate::panics::Bug;
use crate::xml::XmlError;

/// Largest size in bytes of a file that is read for other guests' sake. A guest of 4,096 vCPUs,
/// each pinned and recorded, has about 1 MiB; a guest with a larger file would make others wait.
pub const MAX_BYTES: u64 = 2 * 1024 * 1024;

/// Reason why a file of the ledger does not count. The file is named beside it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unread {
    /// Size in bytes of a file that is left to the next reading.
    #[error("not read yet: {0} bytes, beside smaller files of many guests")]
    LeftOver(u64),
    /// Size in bytes of a file that is larger than [`MAX_BYTES`].
    #[error("not read: {0} bytes, more than any guest needs ({MAX_BYTES})")]
    TooLarge(u64),
    /// The file cannot be read; the words of the error, without the path.
    #[error("{0}")]
    File(Arc<str>),
    /// Parsing failed by a bug.
    #[error("failed: {0}")]
    Bug(#[from] Bug),
    /// The file is no XML of its kind.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The file is no record of its kind.
    #[error(transparent)]
    Record(Arc<RecordError>),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::File(at_path::io_words_alone(&error).into())
    }
}

impl From<RecordError> for Unread {
    fn from(error: RecordError) -> Self {
        Self::Record(Arc::new(error))
    }
}
