//! Building of a topology by hwloc, with its environment and its messages under control.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hwlocality::Topology;
use hwlocality::topology::builder::{BuildFlags, TopologyBuilder, TypeFilter};

use crate::host::error::{HostError, TopologyError};
use crate::host::hwloc::TopologySource;
use crate::host::synthetic;
use crate::hostfs::{HostFs, MAX_BYTES};

/// Lock for one build at a time: hwloc reads its environment while it builds, and no other build
/// may see our `HWLOC_FSROOT`.
static BUILDING: Mutex<()> = Mutex::new(());

pub(super) fn build(source: &TopologySource) -> Result<Topology, HostError> {
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    // The value 2 also hides hwloc's critical messages, which would come before virtfit's first
    // line on a hook's stderr.
    if std::env::var_os("HWLOC_HIDE_ERRORS").is_none() {
        set_environment("HWLOC_HIDE_ERRORS", Some(OsStr::new("2")));
    }
    let wrong = |problem: TopologyError| match source {
        TopologySource::Root(root) => HostError::Hwloc {
            root: base_of(root),
            problem,
        },
        TopologySource::Xml(path) => HostError::Topology {
            given: path.display().to_string(),
            problem,
        },
        TopologySource::Synthetic(line) => HostError::Topology {
            given: (*line).to_string(),
            problem,
        },
    };
    let failed = |error: &dyn std::fmt::Display| wrong(TopologyError::Hwloc(error.to_string()));
    // Each kind of source needs its own preparation; a root other than `/` needs hwloc's
    // environment.
    let mut foreign = None;
    let mut builder = TopologyBuilder::new();
    match source {
        TopologySource::Root(root) if root.is_none() => return Err(HostError::Nothing),
        TopologySource::Root(root) if root.is_real() => {}
        TopologySource::Root(root) => foreign = Some(Scoped::set("HWLOC_FSROOT", base_of(root).as_os_str())),
        TopologySource::Xml(path) => {
            let text = xml_text(path).map_err(wrong)?;
            builder = builder
                .from_xml(&text)
                .map_err(|_| wrong(TopologyError::NoXml))?
                .with_io_type_filter(TypeFilter::KeepAll)
                .map_err(|error| failed(&error))?;
        }
        TopologySource::Synthetic(line) => {
            synthetic::check_size(line).map_err(|error| wrong(error.into()))?;
            synthetic::check_indexes(line).map_err(|error| wrong(error.into()))?;
            builder = builder
                .from_synthetic(line)
                .map_err(|_| wrong(TopologyError::NoLine))?;
        }
    }
    // No cpuid, and CPUs outside this process's cgroup included: the module's documentation says
    // why.
    let topology = builder
        .without_component("x86")
        .map_err(|error| failed(&error))?
        .with_flags(BuildFlags::INCLUDE_DISALLOWED)
        .map_err(|error| failed(&error))?
        .build()
        .map_err(|error| match source {
            TopologySource::Xml(_) => wrong(TopologyError::NoXml),
            _ => failed(&error),
        });
    // The environment gets its old value back as soon as hwloc has read it.
    drop(foreign);
    topology
}

/// Reads the text of an XML file. hwloc gets the text rather than the path, because for a folder it
/// would abort with a fatal bug.
fn xml_text(path: &Path) -> Result<String, TopologyError> {
    let file = File::open(path)?;
    let mut text = String::new();
    match file.take(MAX_BYTES + 1).read_to_string(&mut text) {
        Ok(_) if text.len() as u64 > MAX_BYTES => Err(TopologyError::FileTooLarge(MAX_BYTES >> 20)),
        Ok(_) if !text.contains("<topology") => Err(TopologyError::NoXml),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(TopologyError::NoXml),
        Err(error) => Err(error.into()),
    }
}

fn base_of(root: &HostFs) -> PathBuf {
    root.base().unwrap_or(Path::new("/")).to_path_buf()
}

/// Environment variable that gets its old value back on drop.
struct Scoped {
    name: &'static str,
    was: Option<OsString>,
}

impl Scoped {
    fn set(name: &'static str, value: &OsStr) -> Self {
        let was = std::env::var_os(name);
        set_environment(name, Some(value));
        Self { name, was }
    }
}

impl Drop for Scoped {
    fn drop(&mut self) {
        set_environment(self.name, self.was.as_deref());
    }
}

/// Sets or removes a variable of this process's environment; hwloc takes another root no other way.
#[allow(unsafe_code)]
fn set_environment(name: &str, value: Option<&OsStr>) {
    // SAFETY: changing the environment is unsound only while other code reads it around Rust's own
    // lock, which is C code in another thread. The callers hold BUILDING, so hwloc is not running.
    // For the real root only HWLOC_HIDE_ERRORS is ever set, once, by the first build, which every
    // binary does before it starts threads that run C code (libvirt's); other roots are for trials,
    // where no such thread exists.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}
