//! Notes on virtfit itself: whether its daemon answers, its hook is called and its policy can be
//! read, and whether it is switched off.

use std::time::SystemTime;

use crate::ledger::running::Running;
use crate::snapshot::Snapshot;
use crate::status::hook;
use crate::status::note::{Code, Note};
use virtfit_hook::wire::DISABLED;

/// State of the daemon and the policy, as found by the process that asks for a status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// No daemon answers.
    pub no_daemon: bool,
    /// Result of reading the policy.
    pub policy: PolicyRead,
}

/// Result of reading the policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PolicyRead {
    /// The files are without errors.
    #[default]
    Whole,
    /// The files have errors; the last policy without any is used.
    LastGood,
    /// The files have errors, and no earlier policy is known.
    None,
}

/// Returns notes on the parts of virtfit that do not work. `guests`: those that run.
pub(crate) fn notes(view: &Snapshot, guests: &[Running], found: Found, now: SystemTime) -> Vec<Note> {
    let root = &view.root;
    let disabled = root.exists(DISABLED);
    let mut out = Vec::new();
    if disabled {
        let said = format!("virtfit is disabled: {DISABLED} exists; to switch it on");
        out.push(Note::with_command(Code::Disabled, said, format!("rm {DISABLED}")));
    }
    if view.policy.host.observe {
        let text = "mode = observe: virtfit only reports what it would do";
        out.push(Note::new(Code::Observe, text));
    }
    match found.policy {
        PolicyRead::Whole => {}
        PolicyRead::LastGood => {
            let said = "the policy has errors, and the last good policy is used";
            out.push(Note::with_command(
                Code::PolicyBroken,
                said,
                "virtfit policy check",
            ));
        }
        PolicyRead::None => {
            let said =
                "the policy has errors, and no good policy is known from before: shown as without a policy";
            out.push(Note::with_command(
                Code::PolicyBroken,
                said,
                "virtfit policy check",
            ));
        }
    }
    let sets = view.sets.notes.iter();
    out.extend(sets.map(|note| Note::new(Code::CpuSets, note.to_string())));
    if found.no_daemon {
        let said = "virtfitd does not answer: guests start by the hook alone, and nothing is pinned or moved while they run. \
                    Start it";
        out.push(Note::with_command(
            Code::NoDaemon,
            said,
            "systemctl start virtfitd",
        ));
    }
    // A switch that is on makes the hook return at once, without a mark.
    let called =
        |note: &Note| !disabled || !matches!(note.code, Code::HookNotCalled | Code::HookNotCalledYet);
    out.extend(hook::note(root, guests, now).filter(called));
    out.sort_by_key(|note| !note.wrong);
    out
}
