//! Search for the guest that a name or a UUID means.

use std::io;
use std::path::PathBuf;

use crate::domain::parse::{uuid_in, uuid_of as uuid_of_element};
use crate::hostfs::HostFs;
use crate::hostfs::stems::stems;
use crate::ledger::{claims, status};
use crate::libvirt::definitions::names;
use crate::policy::suggest::did_you_mean;
use crate::types::guest_word::guest_word;
use crate::types::uuid;
use crate::xml::Document;

/// Reason why no guest was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// The word is empty.
    #[error("'' is no guest")]
    Nothing,
    /// The guest runs without a definition.
    #[error("{word}: runs but has no definition (transient)")]
    Transient {
        /// Word that was searched for: its name.
        word: String,
        /// Word by which an advised command names it.
        guest: String,
    },
    /// There is no guest of this name or UUID.
    #[error("{word}: {}no such guest in {}{guess}", if *.or_file { "no such file, and " } else { "" }, folder.display())]
    Unknown {
        /// Word that was searched for.
        word: String,
        /// The word could have named a file, too.
        or_file: bool,
        /// Folder of the definitions.
        folder: PathBuf,
        /// Names that are similar, as the end of a sentence; may be empty.
        guess: String,
    },
    /// The word is the name of one guest and the ID of another.
    #[error("{word}: the name of one guest, and the ID of another that runs ({other}): give a UUID")]
    Ambiguous {
        /// Word that was searched for.
        word: String,
        /// Name of the guest that runs with this ID.
        other: String,
    },
    /// Definitions cannot be read; the error names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Returns the name of the guest with this UUID, else with this name, else running with this ID,
/// that has a definition. A guest that bears another's UUID as its name is found by its own. virsh
/// takes a number for an ID before a name; here a number that is both is an error.
///
/// # Errors
/// There is no such guest, a number means two, or definitions cannot be read.
pub(crate) fn name(root: &HostFs, word: &str) -> Result<String, LookupError> {
    if word.is_empty() {
        return Err(LookupError::Nothing);
    }
    let all = names(root)?;
    if let Some(uuid) = uuid::normal(word) {
        for name in &all {
            if uuid_of(root, name)?.as_deref() == Some(uuid.as_str()) {
                return Ok(name.clone());
            }
        }
    }
    let named = all.iter().any(|name| name == word);
    let with_id = with_id(root, word);
    match with_id.filter(|other| other != word) {
        Some(other) if named => {
            return Err(LookupError::Ambiguous {
                word: word.into(),
                other,
            });
        }
        Some(other) if all.contains(&other) => return Ok(other),
        Some(other) => return Err(transient(root, &other)),
        None if named => return Ok(word.to_string()),
        None => {}
    }
    let running = stems(root, status::FOLDER, "xml").unwrap_or_default();
    if running.iter().any(|name| name == word) {
        return Err(transient(root, word));
    }
    Err(LookupError::Unknown {
        word: word.into(),
        or_file: false,
        folder: root.path(claims::FOLDER),
        guess: did_you_mean(word, all.iter().map(String::as_str)),
    })
}

/// Returns the name of the guest that runs with an ID, libvirt's number of a guest that runs.
pub(crate) fn with_id(root: &HostFs, word: &str) -> Option<String> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let running = stems(root, status::FOLDER, "xml").unwrap_or_default();
    running.into_iter().find(|name| {
        let text = root.read(status::path(name)).unwrap_or_default();
        let document = Document::parse(&text).ok();
        let domain = document
            .as_ref()
            .and_then(|document| document.root().child("domain"));
        domain.is_some_and(|domain| domain.attr("id").as_deref() == Some(word))
    })
}

/// Builds the error about a guest that runs without a definition.
fn transient(root: &HostFs, name: &str) -> LookupError {
    let uuid = root.read(status::path(name)).ok().and_then(|text| {
        let document = Document::parse(&text).ok()?;
        uuid_of_element(&document.root().child("domain")?)
    });
    LookupError::Transient {
        word: name.into(),
        guest: guest_word(name, uuid.as_deref().unwrap_or_default()).into(),
    }
}

/// Returns the UUID in a definition, in its normal form. A definition that is broken or vanished
/// has none, nor has a file that libvirt does not load, as it is called otherwise than its guest.
fn uuid_of(root: &HostFs, name: &str) -> io::Result<Option<String>> {
    let text = match root.read(claims::path(name)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        Err(_) => return Ok(None),
    };
    let Ok(document) = Document::parse(&text) else {
        return Ok(None);
    };
    let of = document.root().child("name").map(|element| element.text());
    if of.is_none_or(|of| of != name) {
        return Ok(None);
    }
    Ok(uuid_in(&document))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_found_by_name_and_uuid() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let uuid = "8c1f6f0e-0000-4000-8000-00000000000a";
        let named = "8c1f6f0e-0000-4000-8000-00000000000b";
        put(
            "etc/libvirt/qemu/db-1.xml",
            &format!("<domain><name>db-1</name><uuid> {uuid}\n</uuid></domain>"),
        );
        // A copy beside the definitions is no guest.
        put(
            "etc/libvirt/qemu/copy.xml",
            &format!("<domain><name>db-1</name><uuid>{uuid}</uuid></domain>"),
        );
        put("etc/libvirt/qemu/broken.xml", "<domain");
        let other_form = "8C1F6F0E-0000-4000-8000-00000000000B";
        // A guest whose name is the UUID of another.
        put(&format!("etc/libvirt/qemu/{named}.xml"), "<domain/>");
        put(
            "etc/libvirt/qemu/other.xml",
            &format!("<domain><name>other</name><uuid>{named}</uuid></domain>"),
        );
        put("run/libvirt/qemu/moves.xml", "<domstatus/>");
        put(
            "run/libvirt/qemu/x;id.xml",
            &format!("<domstatus><domain><name>x;id</name><uuid>{uuid}</uuid></domain></domstatus>"),
        );
        for (word, expected) in [("x;id", uuid), ("moves", "moves")] {
            assert!(
                matches!(name(&root, word), Err(LookupError::Transient { guest, .. }) if guest == expected),
                "{word}"
            );
        }
        // Guests that run have IDs; `7` is a guest's name, too.
        for (name, id) in [("db-1", "3"), ("alone", "4"), ("other", "7"), ("8", "8")] {
            put(
                &format!("run/libvirt/qemu/{name}.xml"),
                &format!("<domstatus><domain id='{id}'><name>{name}</name></domain></domstatus>"),
            );
        }
        for name in ["7", "8", "9"] {
            put(&format!("etc/libvirt/qemu/{name}.xml"), "<domain/>");
        }
        // word, name found, else part of the error
        for (word, expected) in [
            ("db-1", Ok("db-1")),
            ("broken", Ok("broken")),
            (uuid, Ok("db-1")),
            ("8C1F6F0E00004000800000000000000A", Ok("db-1")),
            (named, Ok("other")),
            (other_form, Ok("other")),
            ("8c1f6f0e000040008000-00000000000b", Ok("other")),
            ("", Err("'' is no guest")),
            ("moves", Err("moves: runs but has no definition")),
            ("db-2", Err("db-2: no such guest in ")),
            ("db-2", Err("db-1")),
            ("3", Ok("db-1")),
            ("4", Err("alone: runs but has no definition")),
            (
                "7",
                Err("7: the name of one guest, and the ID of another that runs (other)"),
            ),
            ("8", Ok("8")),
            ("9", Ok("9")),
            ("5", Err("5: no such guest")),
        ] {
            match (name(&root, word), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{word}"),
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{word}: {error}");
                }
                (found, _) => panic!("{word}: {found:?}"),
            }
        }
    }
}
