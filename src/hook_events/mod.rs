//! Doors that libvirt's qemu hook opens: virtfit's answer to each operation, in the process that
//! works it out (the daemon, or `virtfit hook` without one). `docs/design.md` section 1 has the
//! table.
//!
//! ```text
//! prepare     a guest starts: verify, reserve, veto         claims    pins and memory of the guest's own XML
//! incoming    a migration or restore: filter, reserve       reserve   lock, second look, write
//! release     a guest is gone: free its reservation         leftover  virtfit's settings where no rule matches
//! reconnect   a restarted libvirt has the guest again       lines     the lines for the log and the user
//!                                                           start     the line on one start: place and reason
//! ```
//!
//! No function here calls libvirt or waits for a process that does, and none fails: a broken input,
//! a bug or a late decision is an [`Outcome`] that lets the guest go on (`docs/design.md` section
//! 7).

pub(crate) mod claims;
pub(crate) mod incoming;
pub(crate) mod leftover;
pub mod lines;
pub(crate) mod prepare;
pub(crate) mod reconnect;
pub(crate) mod release;
pub(crate) mod reserve;
pub mod start;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::{Decision, EngineError, Question};
use crate::hook_events::start::StartLine;
use crate::host::libvirt_process::Parent;
use crate::hostfs::HostFs;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::reader;
use crate::ledger::reader::LedgerError;
use crate::ledger::reader::promises::Promises;
use crate::ledger::store::Store;
use crate::ledger::undecided::Undecided;
use crate::panics::guarded;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::types::idset::CpuSet;
use crate::types::plan::Verdict;
use crate::xml::XmlError;
use virtfit_hook::messages;
use virtfit_hook::operation::HookAction;

/// Call of libvirt's hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Guest's name.
    pub guest: String,
    /// Second word of the call: `prepare`, `start`, …
    pub operation: String,
    /// Third word of the call: `begin`, `end` or `-`.
    pub suboperation: String,
    /// Free text; since libvirt 10.5 the reason for which a guest is released.
    pub extra: String,
    /// Process that ran the hook.
    pub parent: Parent,
    /// Domain's XML.
    pub xml: String,
}

impl Call {
    /// Finds the action for this call.
    pub(crate) fn action(&self) -> HookAction {
        HookAction::of(&self.operation, &self.suboperation)
    }
}

/// Output and exit code of the hook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Text for libvirt on stdout: empty, or a complete XML.
    pub stdout: String,
    /// Lines for stderr; the first reaches the user of `virsh start`.
    pub stderr: Vec<String>,
    /// Exit code.
    pub exit: u8,
}

/// Answer with the facts behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Answer for libvirt.
    pub answer: Answer,
    /// CPUs that are reserved now; `None`: no reservation was written.
    pub reserved: Option<CpuSet>,
    /// Verdict of the engine; `None` if the engine was not asked or failed.
    pub verdict: Option<Verdict>,
    /// `true` if the guest starts with other pins than it is to have: these are in its reservation
    /// but not in its XML.
    pub moved: bool,
    /// `true` for a veto: the definition must be decided again after the guest's `release`.
    pub vetoed: bool,
    /// Reason for which no decision was made.
    pub undecided: Option<String>,
    /// Place of a guest that starts, as logged; `None`: it does not start, or was not decided.
    pub told: Option<Box<StartLine>>,
}

impl Outcome {
    /// Makes the outcome of a veto: libvirt shows the line to the user.
    fn veto(line: String, exit: u8) -> Self {
        Self {
            answer: Answer {
                stderr: vec![line],
                exit,
                ..Answer::default()
            },
            vetoed: true,
            ..Self::default()
        }
    }

    /// Makes the outcome of a failure that stops nothing.
    fn failed(line: String, why: String) -> Self {
        Self {
            answer: Answer {
                stderr: vec![line],
                ..Answer::default()
            },
            undecided: Some(why),
            ..Self::default()
        }
    }
}

/// Source of decisions.
pub trait Source {
    /// Returns policy, host and ledger as they are now. After another guest was quicker this is
    /// called again; the ledger then has the CPUs that guest took.
    ///
    /// # Errors
    /// The errors of [`Snapshot::read_with`].
    fn current(&self) -> Result<Arc<Snapshot>, SnapshotError>;

    /// Reads what does not change while other guests start, so that it is not read under the lock.
    ///
    /// # Errors
    /// The errors of [`Source::current`].
    fn get_ready(&self) -> Result<(), SnapshotError> {
        Ok(())
    }

    /// Parses a domain's XML.
    ///
    /// # Errors
    /// The text is not XML, or not a domain.
    fn guest(&self, xml: &str) -> Result<Arc<GuestXml>, XmlError> {
        GuestXml::parse(xml).map(Arc::new)
    }

    /// Decides for one guest.
    ///
    /// # Errors
    /// The errors of [`Snapshot::decide`].
    fn decide(&self, view: &Snapshot, xml: &str, ask: Question<'_>) -> Result<Arc<Decision>, EngineError> {
        view.decide(xml, ask).map(Arc::new)
    }

    /// Reads running guests and reservations as they are now. Called under the lock.
    ///
    /// # Errors
    /// They cannot be read.
    fn under_lock(&self, root: &HostFs, now: SystemTime) -> Result<Promises, LedgerError> {
        reader::promises(root, now)
    }

    /// Returns `true` if running guests and reservations are known to be those of the view, so that
    /// [`Source::under_lock`] would show nothing new. Called under the lock.
    fn unchanged(&self, _view: &Snapshot) -> bool {
        false
    }
}

/// Means of answering a call.
pub struct Context<'a> {
    /// Source of decisions. `release` and `reconnect` ask it for no view, because they must work
    /// with a broken policy too.
    pub source: &'a dyn Source,
    /// Store that reservations are written to.
    pub store: &'a Store,
    /// Moment at which the asker stops listening. Nothing is written after it.
    pub deadline: Instant,
    /// Time of day.
    pub now: SystemTime,
    /// `true` if a daemon runs, which finds a vetoed guest another place by itself.
    pub daemon: bool,
}

/// Time after its deadline in which a decision may still mark a guest as undecided: a thread that
/// waits for the lock notices the deadline only then.
const GRACE: Duration = Duration::from_millis(20);

impl Context<'_> {
    /// Returns `true` after the deadline: the asker has given up, and another process has decided,
    /// so nothing may be changed any more.
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

/// Exit code of a veto.
const NO: u8 = 3;
/// Exit code for a guest that may not start undecided.
const BROKEN: u8 = 1;

/// Answers one call. A bug leaves the guest undecided, as every failure does.
pub fn answer(call: &Call, context: &Context<'_>) -> Outcome {
    let answered = guarded(|| match call.action() {
        HookAction::Prepare => prepare::answer(call, context),
        HookAction::Filter => incoming::answer(call, context),
        HookAction::Release => release::answer(call, context),
        HookAction::Reconnect => reconnect::answer(call, context),
        HookAction::Started | HookAction::Nothing => Outcome::default(),
    });
    answered.unwrap_or_else(|bug| {
        let guest = GuestXml::parse(&call.xml).ok();
        give_up(call, context, guest.as_ref(), &format!("failed: {bug}"))
    })
}

/// Answers as [`undecided`] does, without the mark if it is so late that another process has
/// decided.
fn give_up(call: &Call, context: &Context<'_>, guest: Option<&GuestXml>, why: &str) -> Outcome {
    let late = Instant::now() >= context.deadline + GRACE;
    let nowhere = Store::new(&HostFs::none());
    let store = if late { &nowhere } else { context.store };
    undecided(call, guest, why, store, context.now)
}

/// Answers if no decision was made: the guest goes on and is marked. A guest about to start whose
/// provenance says refuse is stopped instead. `guest` is its XML, as far as that could be read.
pub(crate) fn undecided(
    call: &Call,
    guest: Option<&GuestXml>,
    why: &str,
    store: &Store,
    now: SystemTime,
) -> Outcome {
    let why = lines::one_line(why);
    let action = call.action();
    // The provenance asks that the guest not run without its placement, so it is stopped.
    if action == HookAction::Prepare && guest.is_some_and(|guest| guest.refuses) {
        let line = messages::refused_undecided(&call.guest, &why);
        return Outcome {
            undecided: Some(why),
            ..Outcome::veto(line, BROKEN)
        };
    }
    let line = messages::nothing_changed(&call.guest, &call.operation, action, &why);
    // Other operations take no CPUs, so nothing is uncertain after them.
    if matches!(action, HookAction::Prepare | HookAction::Filter) {
        let uuid = guest.map(|guest| guest.domain.uuid.as_str()).unwrap_or_default();
        let mark = Undecided {
            uuid: uuid.into(),
            name: call.guest.clone(),
            why: why.clone(),
            written_at: reader::seconds(now),
        };
        if !uuid.is_empty()
            && let Err(error) = store.mark(&mark)
        {
            log::debug!("{}: no mark for status: {error}", call.guest);
        }
    }
    Outcome::failed(line, why)
}
