//! Definitions that are read once and decided several times, within a limited time.

use std::time::{Duration, Instant};

use crate::engine::{Decision, EngineError, Question};
use crate::libvirt::definitions::Definition;
use crate::snapshot::{GuestRead, Snapshot};

/// Largest number of bytes of definitions that are kept as they were read. The others are read
/// again for each decision: as a tree, text takes many times its length.
const MOST_KEPT: usize = 4 * 1024 * 1024;

/// Reason why there is no decision for a definition.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undecided {
    /// The engine cannot decide for it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The time for all definitions was used up by those before it.
    #[error(
        "not decided: the others took the {} s there are for all of them; virtfit apply decides for it without that limit",
        .0.as_secs()
    )]
    OutOfTime(Duration),
}

/// Decision for one definition.
pub(crate) type Decided = Result<Decision, Undecided>;

/// Time for the decisions of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Time from which the rest counts.
    pub since: Instant,
    /// Time after which no further definition is decided; `None`: all are.
    pub limit: Option<Duration>,
}

impl Patience {
    /// Returns patience without a limit, from now on.
    pub(crate) fn unlimited() -> Self {
        Self {
            since: Instant::now(),
            limit: None,
        }
    }

    /// Returns the limit, if it is over.
    pub(crate) fn is_over(&self) -> Option<Duration> {
        self.limit.filter(|limit| self.since.elapsed() > *limit)
    }
}

/// Definitions, as far as they can be read beforehand.
pub(crate) struct Guests<'a> {
    pub definitions: &'a [Definition],
    patience: Patience,
    /// Definitions as they were read, as far as they are kept.
    read: Vec<Option<GuestRead<'a>>>,
}

impl<'a> Guests<'a> {
    /// Reads the definitions, and what the host has of their devices.
    pub(crate) fn read(view: &Snapshot, definitions: &'a [Definition], patience: Patience) -> Self {
        let mut kept = 0usize;
        let mut read = |definition: &'a Definition| {
            kept = kept.saturating_add(definition.file.text.len());
            let keeps = kept <= MOST_KEPT && patience.is_over().is_none();
            keeps
                .then(|| view.read_guest(&definition.file.text).ok())
                .flatten()
        };
        Self {
            definitions,
            patience,
            read: definitions.iter().map(&mut read).collect(),
        }
    }

    /// Decides for one definition from this view.
    pub(crate) fn decide(&self, view: &Snapshot, index: usize, ask: Question<'_>) -> Decided {
        if let Some(limit) = self.patience.is_over() {
            return Err(Undecided::OutOfTime(limit));
        }
        Ok(match &self.read[index] {
            Some(read) => view.decide_read(read, ask)?,
            None => view.decide(&self.definitions[index].file.text, ask)?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::hostfs::HostFs;
    use crate::ledger::reader::Reading;
    use crate::snapshot::Sources;
    use crate::types::plan::Scope;

    const XML: &str = "<domain type='kvm'><name>a</name><memory>1</memory><vcpu>1</vcpu></domain>";

    #[test]
    fn nothing_is_decided_when_the_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts");
        let place = Sources {
            root: HostFs::new(hosts.join("paper")),
            ..Sources::default()
        };
        let view = Snapshot::read(&place, SystemTime::now()).unwrap();
        std::fs::create_dir_all(folder.path().join("etc/libvirt/qemu")).unwrap();
        std::fs::write(folder.path().join("etc/libvirt/qemu/a.xml"), XML).unwrap();
        let root = HostFs::new(folder.path());
        let all = [crate::libvirt::definitions::read(&root, "a", &Reading::default()).unwrap()];
        let decided = |patience| {
            let decided = Guests::read(&view, &all, patience).decide(&view, 0, Question::of(Scope::Boot));
            decided.map_err(|error| error.to_string())
        };
        assert!(decided(Patience::unlimited()).is_ok());
        let since = Instant::now().checked_sub(Duration::from_secs(3)).unwrap();
        let in_time = Patience {
            since,
            limit: Some(Duration::from_secs(60)),
        };
        assert!(decided(in_time).is_ok());
        let over = Patience {
            since,
            limit: Some(Duration::from_secs(2)),
        };
        assert_eq!(
            decided(over).unwrap_err(),
            "not decided: the others took the 2 s there are for all of them; virtfit apply decides for it without that limit"
        );
    }
}
