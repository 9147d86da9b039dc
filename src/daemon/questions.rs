//! Questions of programs other than hooks: about the ledger, the state of guests, and definitions.
//! No question changes anything, and secrets are left out: root and group `libvirt` may ask.
//!
//! | question | words | answer |
//! |---|---|---|
//! | `ledger` | | a [`Reading`](crate::ledger::reader::Reading) as JSON |
//! | `failed-starts` | | [`FailedStarts`](crate::host::FailedStarts) as JSON |
//! | `status` | | a [`Status`](crate::status::Status) as JSON |
//! | `alive` | | nothing: the daemon answers |
//! | `definition` | a guest's name or UUID | its XML |

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::daemon::server::Services;
use crate::ledger::claims;
use crate::ledger::reader::unread::{MAX_BYTES, Unread};
use crate::libvirt::definitions::DefinitionError;
use crate::libvirt::lookup::{self, LookupError};
use crate::snapshot::cache::SnapshotCache;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::status::{self, Found, PolicyRead};
use crate::xml::{Document, Element, XmlError};
use virtfit_hook::wire::Reply;

/// Registers the answers to all these questions.
pub(crate) fn answer_all(services: &mut Services, memory: &Arc<SnapshotCache>) {
    let view = |memory: &SnapshotCache| memory.current(SystemTime::now()).map_err(QuestionError::from);
    let known = Arc::clone(memory);
    services.on(
        "ledger",
        Box::new(move |_| reply(view(&known).and_then(|view| json(&*view.reading)))),
    );
    let known = Arc::clone(memory);
    let failed = move |_: &[Vec<u8>]| reply(view(&known).and_then(|view| json(&view.host.failed)));
    services.on("failed-starts", Box::new(failed));
    let known = Arc::clone(memory);
    let status = move |_: &[Vec<u8>]| {
        let found = |memory: &SnapshotCache| Found {
            no_daemon: false,
            policy: match memory.policy_problem() {
                None => PolicyRead::Whole,
                Some(_) => PolicyRead::LastGood,
            },
        };
        let answer = view(&known).map(|view| status::answer(&view, found(&known)));
        reply(answer.and_then(|status| Ok(status.to_json()?)))
    };
    services.on("status", Box::new(status));
    services.on("alive", Box::new(|_| Reply::default()));
    let known = Arc::clone(memory);
    let definition = move |words: &[Vec<u8>]| reply(view(&known).and_then(|view| definition(&view, words)));
    services.on("definition", Box::new(definition));
}

/// Reason why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum QuestionError {
    Snapshot(#[from] SnapshotError),
    Lookup(#[from] LookupError),
    Definition(#[from] DefinitionError),
    Xml(#[from] XmlError),
    Json(#[from] serde_json::Error),
    TooLarge(#[from] Unread),
}

fn json(value: &impl serde::Serialize) -> Result<String, QuestionError> {
    Ok(serde_json::to_string(value)?)
}

fn reply(answer: Result<String, QuestionError>) -> Reply {
    match answer {
        Ok(stdout) => Reply {
            stdout: stdout.into_bytes(),
            ..Reply::default()
        },
        Err(why) => Reply {
            exit: 1,
            stderr: why.to_string().into_bytes(),
            ..Reply::default()
        },
    }
}

/// Returns a guest's definition without secrets.
fn definition(view: &Snapshot, words: &[Vec<u8>]) -> Result<String, QuestionError> {
    // One after the other: whatever many peers ask for, the memory is that of one definition.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let word = words
        .first()
        .map(|word| String::from_utf8_lossy(word))
        .unwrap_or_default();
    let name = lookup::name(&view.root, &word)?;
    let path = claims::path(&name);
    let size = view.root.metadata(&path).map_or(0, |meta| meta.len());
    if size > MAX_BYTES {
        return Err(Unread::TooLarge(size).into());
    }
    Ok(without_secrets(
        &view.root.read(&path).map_err(DefinitionError::from)?,
    )?)
}

/// Removes what libvirt itself leaves out without `--security-info`: `passwd` of graphics and the
/// time at which it ends (`virDomainGraphicsAuthDefFormatAttr`), and the cookies of a disk's source
/// (`virDomainDiskSourceFormatNetworkCookies`).
fn without_secrets(xml: &str) -> Result<String, XmlError> {
    let document = Document::parse(xml)?;
    let devices = document.root().children_named("devices").collect::<Vec<_>>();
    let mut gone: Vec<Range<usize>> = devices
        .iter()
        .flat_map(|devices| devices.children_named("graphics"))
        .flat_map(|graphics| ["passwd", "passwdValidTo"].map(|name| graphics.attr_span(name)))
        .flatten()
        .collect();
    // Sources stand in disks, in their backing stores and in their mirrors.
    let mut below: Vec<Element<'_>> = devices
        .iter()
        .flat_map(|devices| devices.children_named("disk"))
        .collect();
    while let Some(element) = below.pop() {
        match element.name() {
            "cookies" => gone.push(element.span()),
            _ => below.extend(element.children()),
        }
    }
    gone.sort_by_key(|range| range.start);
    let mut out = xml.to_string();
    for range in gone.into_iter().rev() {
        out.replace_range(range, "");
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_here() {
        let disk = "<domain><devices><disk type='network'><source protocol='http'><cookies><cookie name='c'>s3c</cookie></cookies></source>\
                    <backingStore><source><cookies/></source></backingStore></disk></devices></domain>";
        let bare = "<domain><devices><disk type='network'><source protocol='http'></source><backingStore><source></source></backingStore>\
                    </disk></devices></domain>";
        assert_eq!(without_secrets(disk).unwrap(), bare);
        let xml = "<domain><devices><graphics type='vnc' passwd='s3c' port='-1' passwdValidTo='2027'/></devices>\
                   <graphics passwd='not libvirt&apos;s'/></domain>";
        assert_eq!(
            without_secrets(xml).unwrap(),
            "<domain><devices><graphics type='vnc' port='-1'/></devices><graphics passwd='not libvirt&apos;s'/></domain>"
        );
    }
}
