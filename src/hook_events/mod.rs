//! The doors libvirt's qemu hook opens: what each operation comes to, in whichever process it is
//! worked out (the daemon, or `virtfit hook` without one). `docs/design.md` section 1 has the
//! table.
//!
//! ```text
//! operation   what an operation asks for
//! prepare     a guest starts: verify, reserve, veto         own      what the XML itself pins and takes
//! incoming    a migration or restore: filter, reserve       reserve  decided, locked, looked again, written
//! release     what it held is free                          words    the lines for the log and the user
//! leftover    virtfit's settings where no rule matches
//! reconnect   a restarted libvirt has the guest again
//! ```
//!
//! Nothing here calls libvirt or waits for anybody who does, and nothing here fails: what is broken
//! or late is an [`Outcome`] that lets the guest go on (`docs/design.md` section 7).

pub mod claims;
pub mod incoming;
pub mod leftover;
pub mod lines;
pub mod prepare;
pub mod reconnect;
pub mod release;
pub mod reserve;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::{Decision, EngineError};
use crate::host::libvirt_process::Parent;
use crate::hostfs::HostFs;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::reader;
use crate::ledger::reader::LedgerError;
use crate::ledger::reader::promises;
use crate::ledger::reader::promises::Promises;
use crate::ledger::store::Store;
use crate::ledger::undecided::Undecided;
use crate::panics::guarded;
use crate::snapshot::{Question, Snapshot};
use crate::types::idset::CpuSet;
use crate::types::plan::Verdict;
use crate::xml::XmlError;
use virtfit_hook::messages;
use virtfit_hook::operation::HookAction;

/// One call of libvirt's hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The guest's name.
    pub guest: String,
    /// `prepare`, `start`, …
    pub operation: String,
    /// `begin`, `end` or `-`.
    pub suboperation: String,
    /// Free text; since libvirt 10.5 why a guest is released.
    pub extra: String,
    /// Who ran the hook.
    pub parent: Parent,
    /// The domain's XML.
    pub xml: String,
}

impl Call {
    /// Finds what this call asks of virtfit.
    pub fn action(&self) -> HookAction {
        HookAction::of(&self.operation, &self.suboperation)
    }
}

/// What the hook prints and how it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// What libvirt gets on stdout: nothing, or a whole XML.
    pub stdout: String,
    /// Lines for stderr; the first reaches the user of `virsh start`.
    pub stderr: Vec<String>,
    /// Exit code.
    pub exit: u8,
}

/// An answer, and what it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For libvirt.
    pub answer: Answer,
    /// The CPUs that are reserved now; `None`: no reservation was written.
    pub reserved: Option<CpuSet>,
    /// What the engine said; `None` where it was not asked or is broken.
    pub verdict: Option<Verdict>,
    /// It starts with other pins than it is to have: they are in its reservation, and in none of
    /// its XML.
    pub moved: bool,
    /// It was kept from starting: its definition is to be looked at again after its `release`.
    pub vetoed: bool,
    /// Why nothing was decided.
    pub undecided: Option<String>,
}

/// What decisions are made from.
pub trait Source {
    /// Policy, host and ledger as they are now. Asked again where another guest was quicker: what
    /// it took has to be in the ledger then.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn view(&self) -> Result<Arc<Snapshot>, String>;

    /// What a domain's XML says.
    ///
    /// # Errors
    /// It is not XML, or not a domain.
    fn guest(&self, xml: &str) -> Result<Arc<GuestXml>, XmlError> {
        GuestXml::parse(xml).map(Arc::new)
    }

    /// Decides for one guest.
    ///
    /// # Errors
    /// As [`Snapshot::decide`].
    fn decide(&self, view: &Snapshot, xml: &str, ask: Question<'_>) -> Result<Arc<Decision>, EngineError> {
        view.decide(xml, ask).map(Arc::new)
    }

    /// Who runs and what is reserved at this moment, asked under the lock.
    ///
    /// # Errors
    /// It cannot be read.
    fn glance(&self, root: &HostFs, now: SystemTime) -> Result<Promises, LedgerError> {
        promises::glance(root, now)
    }

    /// Whether who runs and what is reserved is known to be what the view says, asked under the
    /// lock: then a glance tells nothing new.
    fn is_as_it_was(&self, _view: &Snapshot) -> bool {
        false
    }
}

/// What a call is answered with.
pub struct Context<'a> {
    /// What decisions are made from. `release` and `reconnect` ask for no view: they have to work
    /// with a broken policy, too.
    pub source: &'a dyn Source,
    /// Where reservations are written.
    pub store: &'a Store,
    /// When whoever asked stops listening. Nothing is written after it.
    pub deadline: Instant,
    /// The time of day.
    pub now: SystemTime,
    /// A daemon runs, which finds a vetoed guest another place by itself.
    pub daemon: bool,
}

/// How long after its deadline a decision may still mark a guest as undecided: what waits for the
/// lock notices only then.
const GRACE: Duration = Duration::from_millis(20);

impl Context<'_> {
    /// Whoever asked has given up, and another process has decided in place of this one: nothing
    /// may be changed any more.
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

/// Exit code of a veto.
const NO: u8 = 3;
/// Exit code of a guest that may not start undecided.
const BROKEN: u8 = 1;

/// Answers one call. A bug met on the way leaves the guest undecided, as anything does that is
/// broken.
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

/// [`undecided`], marked unless this is so late that another process has decided.
fn give_up(call: &Call, context: &Context<'_>, guest: Option<&GuestXml>, why: &str) -> Outcome {
    let late = Instant::now() >= context.deadline + GRACE;
    let nowhere = Store::new(&HostFs::none());
    let store = if late { &nowhere } else { context.store };
    undecided(call, guest, why, store, context.now)
}

/// Where nothing could be decided: the guest goes on and is marked, but one that is about to start
/// and says itself that it shall not run without its placement. `guest` is its XML, as far as that
/// could be read.
pub fn undecided(
    call: &Call,
    guest: Option<&GuestXml>,
    why: &str,
    store: &Store,
    now: SystemTime,
) -> Outcome {
    let why = lines::one_line(why);
    let action = call.action();
    if action == HookAction::Prepare && guest.is_some_and(|guest| guest.refuses) {
        let line = messages::refused_undecided(&call.guest, &why);
        return Outcome {
            answer: Answer {
                stderr: vec![line],
                exit: BROKEN,
                ..Answer::default()
            },
            vetoed: true,
            undecided: Some(why),
            ..Outcome::default()
        };
    }
    let line = messages::nothing_changed(&call.guest, &call.operation, action, &why);
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
    Outcome {
        answer: Answer {
            stderr: vec![line],
            ..Answer::default()
        },
        undecided: Some(why),
        ..Outcome::default()
    }
}
