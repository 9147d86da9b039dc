//! Input of a command: stdin, a file, or a guest's definition.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::{daemon_client, guest};
use crate::hostfs::HostFs;
use crate::ledger::{claims, status};
use crate::xml::tree::MAX_BYTES;
use crate::xml::{Document, XmlError};

/// Source of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// `-`.
    Stdin,
    /// Word with `/`, or the name of an existing file.
    File(PathBuf),
    /// Any other word: a name or UUID.
    Guest(String),
}

/// Text with the label that messages use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// Label: `stdin`, or the file's path.
    pub label: String,
    /// Content.
    pub text: String,
    /// The text came from stdin.
    pub stdin: bool,
}

impl Source {
    /// Returns the source that a word means.
    pub(crate) fn of(word: &OsStr) -> Self {
        if word == "-" {
            return Self::Stdin;
        }
        let path = Path::new(word);
        let has_slash = word.as_encoded_bytes().contains(&b'/');
        // A folder with a guest's name is not meant.
        let is_file = || fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir());
        if has_slash || is_file() {
            return Self::File(path.to_path_buf());
        }
        Self::Guest(word.to_string_lossy().into_owned())
    }

    /// Returns the word that means this source.
    pub(crate) fn word(&self) -> String {
        match self {
            Self::Stdin => "-".into(),
            Self::File(path) => path.to_string_lossy().into_owned(),
            Self::Guest(word) => word.clone(),
        }
    }

    /// Reads the input. Definitions are looked up below `root`, unless there is none.
    ///
    /// # Errors
    /// The input does not exist, may not be read, is larger than [`MAX_BYTES`] or not UTF-8.
    pub(crate) fn read(&self, root: &HostFs) -> Result<Input, Failure> {
        match self {
            Self::Stdin => {
                let text = bounded("stdin", io::stdin().lock())?;
                Ok(Input {
                    label: "stdin".into(),
                    text,
                    stdin: true,
                })
            }
            Self::File(path) => {
                if let Some(name) = shadowed(path, root) {
                    log::warn!(
                        "{name}: this is the file in the working folder; for the guest {name} run it from another folder, or \
                         name its UUID (./{name} names the file alone)"
                    );
                }
                read_file(path)
            }
            Self::Guest(word) if root.is_none() => Err(Failure::at(
                word,
                "no such file; guests are looked up on a host: give --root as well",
            )),
            Self::Guest(word) if daemon_client::has_to(root) => {
                let text = text_of(daemon_client::ask(root, &["definition", word])?)
                    .map_err(|error| Failure::at(word, error))?;
                Ok(Input {
                    label: word.clone(),
                    text,
                    stdin: false,
                })
            }
            Self::Guest(word) => read_file(&guest::find(root, word)?),
        }
    }
}

/// Returns the word, where a file without a path in it is also the name of a guest.
fn shadowed<'p>(path: &'p Path, root: &HostFs) -> Option<&'p str> {
    let name = path.to_str().filter(|name| !name.contains('/'))?;
    let defined = root.exists(claims::path(name)) || root.exists(status::path(name));
    defined.then_some(name)
}

/// Reads a file of XML.
///
/// # Errors
/// As of [`Source::read`].
fn read_file(path: &Path) -> Result<Input, Failure> {
    let label = path.display().to_string();
    let file = fs::File::open(path).map_err(|error| Failure::io(&label, &error))?;
    let text = bounded(&label, file)?;
    Ok(Input {
        label,
        text,
        stdin: false,
    })
}

/// Reads at most [`MAX_BYTES`] of UTF-8.
fn bounded(label: &str, from: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    from.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io(label, &error))?;
    text_of(bytes).map_err(|error| Failure::at(label, error))
}

/// Converts bytes to text.
///
/// # Errors
/// There are more than [`MAX_BYTES`], or they are not UTF-8.
pub(crate) fn text_of(bytes: Vec<u8>) -> Result<String, XmlError> {
    if bytes.len() > MAX_BYTES {
        let problem = format!("more than {} MiB of XML; libvirt takes no more", MAX_BYTES >> 20);
        return Err(XmlError::at("", 0, problem));
    }
    String::from_utf8(bytes).map_err(|error| match Document::parse_bytes(error.as_bytes()) {
        Err(error) => error,
        Ok(_) => XmlError::at("", 0, "not valid UTF-8"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_word_means() {
        assert_eq!(Source::of(OsStr::new("-")), Source::Stdin);
        assert_eq!(Source::of(OsStr::new("./db")), Source::File("./db".into()));
        assert_eq!(
            Source::of(OsStr::new("/nowhere/x")),
            Source::File("/nowhere/x".into())
        );
        assert_eq!(
            Source::of(OsStr::new("Cargo.toml")),
            Source::File("Cargo.toml".into())
        );
        // A folder of the package is no file.
        assert_eq!(Source::of(OsStr::new("src")), Source::Guest("src".into()));
        assert_eq!(Source::of(OsStr::new("db")), Source::Guest("db".into()));
    }

    #[test]
    fn bounds_what_it_reads() {
        assert_eq!(text_of(vec![b' '; MAX_BYTES]).unwrap().len(), MAX_BYTES);
        let error = bounded("x.xml", io::repeat(b' ')).unwrap_err();
        assert!(error.message().contains("more than 4 MiB"), "{error:?}");
        let error = bounded("x.xml", &b"<a>\n\xff"[..]).unwrap_err();
        assert_eq!(error.message(), "x.xml: line 2, column 1: not valid UTF-8");
    }
}
