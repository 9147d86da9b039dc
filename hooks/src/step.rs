//! Step of a guest's life that libvirt is at, with the answers that it allows. `docs/design.md`
//! section 1 has the table.

use std::ffi::{OsStr, OsString};

use crate::answer::Answer;
use virtfit_hook::messages;
use virtfit_hook::operation::HookAction;
use virtfit_hook::wire::Reply;

/// Forms of `on_no_fit = "refuse"` in the provenance that virtfit writes into a domain.
const REFUSES: [&[u8]; 2] = [b"on-no-fit='refuse'", b"on-no-fit=\"refuse\""];

/// Call of libvirt's hook that has an action.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    words: &'a [OsString],
    action: HookAction,
}

impl<'a> Step<'a> {
    /// Reads the command line; `None`: there is no action, also for operations of a later libvirt.
    pub(crate) fn of(words: &'a [OsString]) -> Option<Self> {
        let word = |at: usize| words.get(at).and_then(|word| word.to_str());
        let action = HookAction::of(word(1)?, word(2)?);
        (action != HookAction::Nothing).then_some(Self { words, action })
    }

    /// Returns guest, operation, suboperation and the further words of libvirt's call.
    pub(crate) fn words(&self) -> &'a [OsString] {
        self.words
    }

    /// Returns a word for the daemon; a missing word is `-`, as libvirt writes it.
    pub(crate) fn word(&self, at: usize) -> &'a OsStr {
        self.words.get(at).map_or(OsStr::new("-"), OsString::as_os_str)
    }

    /// Returns `true` if only the daemon can carry out the step.
    pub(crate) fn needs_daemon(&self) -> bool {
        self.action == HookAction::Started
    }

    /// Returns whether this step may end with an exit code.
    pub(crate) fn may_end_with(&self, exit: u8) -> bool {
        self.action.may_end_with(exit)
    }

    /// Converts the reply to an answer, as far as this step may give it.
    pub(crate) fn answer(&self, reply: Reply) -> Answer {
        let prints = self.action.may_print() && reply.exit == 0;
        Answer {
            exit: if self.may_end_with(reply.exit) {
                reply.exit
            } else {
                0
            },
            stdout: if prints { reply.stdout } else { Vec::new() },
            stderr: reply.stderr,
        }
    }

    /// Answers if no decision was made: one line, and the guest goes on; but a guest that is about
    /// to start and whose own provenance says refuse is stopped.
    pub(crate) fn broken(&self, why: &str, xml: &[u8]) -> Answer {
        let shown = |at: usize| self.word(at).to_string_lossy().into_owned();
        let (guest, operation) = (shown(0), shown(1));
        if self.action == HookAction::Prepare && refuses(xml) {
            return Answer {
                exit: 1,
                ..Answer::line(&messages::refused_undecided(&guest, why))
            };
        }
        Answer::line(&messages::nothing_changed(&guest, &operation, self.action, why))
    }
}

/// Returns whether the XML has a provenance that says refuse. This is a search for bytes, because
/// there may be no time to parse, and the XML may be incomplete.
fn refuses(xml: &[u8]) -> bool {
    REFUSES
        .iter()
        .any(|wanted| xml.windows(wanted.len()).any(|bytes| bytes == *wanted))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn what_asks_for_nothing_is_no_step() {
        for (text, expected) in [
            ("g prepare begin -", Some(HookAction::Prepare)),
            ("g start begin -", None),
            ("g release end from snapshot", Some(HookAction::Release)),
            ("--help prepare begin -", Some(HookAction::Prepare)),
            ("prepare begin", None),
            ("g levitate begin -", None),
            ("g", None),
        ] {
            let words = words(text);
            assert_eq!(Step::of(&words).map(|step| step.action), expected, "{text}");
        }
        assert!(Step::of(&[]).is_none());
    }

    #[test]
    fn what_may_come_of_it() {
        // step, exit code of the reply, exit code given, stdout given
        for (text, said, exit, prints) in [
            ("g prepare begin -", 0, 0, true),
            ("g prepare begin -", 1, 1, false),
            ("g prepare begin -", 3, 3, false),
            ("g prepare begin -", 101, 0, false),
            ("g migrate begin -", 0, 0, true),
            ("g restore begin -", 3, 3, false),
            ("g started begin -", 0, 0, false),
            ("g started begin -", 1, 0, false),
            ("g reconnect begin -", 3, 0, false),
            ("g release end -", 1, 0, false),
        ] {
            let words = words(text);
            let reply = Reply {
                exit: said,
                stdout: b"<domain/>".to_vec(),
                stderr: b"line\n".to_vec(),
            };
            let answer = Step::of(&words).unwrap().answer(reply);
            assert_eq!(
                (answer.exit, !answer.stdout.is_empty()),
                (exit, prints),
                "{text} {said}"
            );
            assert_eq!(answer.stderr, b"line\n");
        }
    }

    #[test]
    fn only_a_guest_that_refuses_and_is_about_to_start_is_stopped() {
        let refusing = "<domain><metadata><f:virtfit on-no-fit='refuse'/></metadata></domain>";
        const UNRESERVED: &str = "the moon is full; other guests may run on its CPUs\n";
        for (text, xml, exit) in [
            ("g prepare begin -", refusing, 1),
            ("g prepare begin -", &refusing.replace('\'', "\""), 1),
            ("g prepare begin -", &refusing[..60], 1),
            ("g prepare begin -", &refusing.replace("refuse", "run-shared"), 0),
            ("g prepare begin -", "", 0),
            ("g migrate begin -", refusing, 0),
            ("g started begin -", refusing, 0),
            ("g reconnect begin -", refusing, 0),
        ] {
            let words = words(text);
            let answer = Step::of(&words)
                .unwrap()
                .broken("the moon is full", xml.as_bytes());
            assert_eq!(answer.exit, exit, "{text} {xml}");
            let line = String::from_utf8(answer.stderr).unwrap();
            // The CPUs matter only for a guest that comes to run here.
            let ends = match words[1].to_str().unwrap() {
                "prepare" | "migrate" if exit == 0 => UNRESERVED,
                _ => "the moon is full\n",
            };
            assert!(line.starts_with("virtfit: g") && line.ends_with(ends), "{line}");
            assert!(answer.stdout.is_empty());
        }
    }
}
