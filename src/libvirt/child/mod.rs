//! `virtfitd call`: libvirt for programs that do not link it. Requests come as JSON on stdin, one
//! [`Request`] a line; each is answered in order by one [`Response`], a line on stdout, until stdin
//! ends.
//!
//! ```text
//! {"call":"define","xml":"<domain>…"}                        {"ok":true}
//! {"call":"live","uuid":"…","change":{"pin-vcpu":[0,[1,17]]}}  {"gone":"why libvirt does not answer"}
//! {"call":"define","xml":"…","before":"…"}                   {"other":"how libvirt's definition is another one"}
//! {"call":"nonsense"}                                        {"said":"what libvirt, or `call` itself, said"}
//! ```
//! The connection is made by `open` or by the first request that needs it, and lasts until `close`
//! or the end of the child. XML may contain passwords: neither side logs it.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::hostfs::HostFs;
use crate::hostfs::at_path::io_words;
use crate::libvirt::{Hypervisor, HypervisorError, LiveChange};
use crate::panics::guarded;
use virtfit_hook::program;

/// Path of the program where there is none beside the running program.
const INSTALLED: &str = "/usr/bin/virtfitd";

/// Request to `virtfitd call`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// [`Hypervisor::open`].
    Open,
    /// [`Hypervisor::close`].
    Close,
    /// [`Hypervisor::define`], or, with `before`, [`Hypervisor::redefine`].
    Define {
        /// Whole `<domain>` to define.
        xml: String,
        /// Definition as it was read from its file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<String>,
    },
    /// [`Hypervisor::undefine`].
    Undefine {
        /// UUID of the domain.
        uuid: String,
    },
    /// [`Hypervisor::rename`].
    Rename {
        /// UUID of the domain.
        uuid: String,
        /// New name of the domain.
        name: String,
    },
    /// [`Hypervisor::live`].
    Live {
        /// UUID of the domain.
        uuid: String,
        /// Change to the running guest.
        change: LiveChange,
    },
}

/// Answer to one request: exactly one of `ok`, `gone`, `said`, `other`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The request was carried out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ok: bool,
    /// There is no libvirt to call; with the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<String>,
    /// libvirt, or `virtfitd call` itself, refused; with the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// libvirt has another definition than the one that was read; with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
}

impl From<Result<(), HypervisorError>> for Response {
    fn from(result: Result<(), HypervisorError>) -> Self {
        let mut response = Self::default();
        match result {
            Ok(()) => response.ok = true,
            Err(HypervisorError::Gone(why)) => response.gone = Some(why),
            Err(HypervisorError::Said(why)) => response.said = Some(why),
            Err(HypervisorError::Other(why)) => response.other = Some(why),
        }
        response
    }
}

impl From<Response> for Result<(), HypervisorError> {
    fn from(response: Response) -> Self {
        match response {
            Response { gone: Some(why), .. } => Err(HypervisorError::Gone(why)),
            Response { said: Some(why), .. } => Err(HypervisorError::Said(why)),
            Response { other: Some(why), .. } => Err(HypervisorError::Other(why)),
            Response { ok: true, .. } => Ok(()),
            Response { .. } => Err(HypervisorError::Gone("virtfitd call gave an empty answer".into())),
        }
    }
}

/// Answers requests with `answer` until `from` ends.
///
/// # Errors
/// One of the streams breaks.
pub fn serve(
    from: impl BufRead,
    mut to: impl Write,
    mut answer: impl FnMut(Request) -> Response,
) -> io::Result<()> {
    for line in from.lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let response = match serde_json::from_str(&line) {
            // A bug met with one request is its answer: the child goes on, and the request is not
            // repeated without end.
            Ok(request) => guarded(|| answer(request)).unwrap_or_else(|bug| Response {
                said: Some(bug.to_string()),
                ..Response::default()
            }),
            // serde quotes unknown names and wrong types, which are virtfit's own, but never the
            // content of a text.
            Err(error) => Response {
                said: Some(format!("not a request: {error}")),
                ..Response::default()
            },
        };
        serde_json::to_writer(&mut to, &response)?;
        to.write_all(b"\n")?;
        to.flush()?;
    }
    Ok(())
}

/// libvirt by way of a `virtfitd call` child, which is started with the first call.
#[derive(Debug)]
pub(crate) struct ChildHypervisor {
    program: PathBuf,
    root: Option<PathBuf>,
    uri: Option<String>,
    child: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl ChildHypervisor {
    /// Prepares calls to the libvirt at this URI (`None`: `qemu:///system`), which has this host's
    /// guests, by the program beside the running one, else by the installed one.
    pub(crate) fn new(root: &HostFs, uri: Option<&str>) -> Self {
        Self::with_program(&program::installed_at(INSTALLED), root, uri)
    }

    /// Prepares calls by a given program.
    pub(crate) fn with_program(program: &Path, root: &HostFs, uri: Option<&str>) -> Self {
        Self {
            program: program.to_path_buf(),
            root: root.base().map(Path::to_path_buf),
            uri: uri.map(str::to_string),
            child: None,
        }
    }

    /// Starts the child, without a connection to libvirt.
    ///
    /// # Errors
    /// There is no such program.
    pub(crate) fn start(&mut self) -> Result<(), HypervisorError> {
        self.call(&Request::Close)
    }

    /// Sends one request and returns its answer. A child that ended is started again with the next
    /// call.
    ///
    /// # Errors
    /// libvirt refuses or does not answer, or there is no child to ask.
    fn call(&mut self, request: &Request) -> Result<(), HypervisorError> {
        let gone = |error: &io::Error| {
            HypervisorError::Gone(format!("{} call: {}", self.program.display(), io_words(error)))
        };
        if self.child.is_none() {
            let running = start(&self.program, self.root.as_deref(), self.uri.as_deref())
                .map_err(|error| gone(&error))?;
            self.child = Some(running);
        }
        let Some(running) = &mut self.child else {
            return Err(gone(&io::Error::other("did not start")));
        };
        match running.ask(request) {
            Ok(response) => response.into(),
            Err(error) => {
                let error = gone(&error);
                self.child = None;
                Err(error)
            }
        }
    }
}

impl Hypervisor for ChildHypervisor {
    fn define(&mut self, xml: &str) -> Result<(), HypervisorError> {
        self.call(&Request::Define {
            xml: xml.into(),
            before: None,
        })
    }

    fn redefine(&mut self, before: &str, xml: &str) -> Result<(), HypervisorError> {
        self.call(&Request::Define {
            xml: xml.into(),
            before: Some(before.into()),
        })
    }

    fn undefine(&mut self, uuid: &str) -> Result<(), HypervisorError> {
        self.call(&Request::Undefine { uuid: uuid.into() })
    }

    fn rename(&mut self, uuid: &str, name: &str) -> Result<(), HypervisorError> {
        self.call(&Request::Rename {
            uuid: uuid.into(),
            name: name.into(),
        })
    }

    fn live(&mut self, uuid: &str, change: &LiveChange) -> Result<(), HypervisorError> {
        self.call(&Request::Live {
            uuid: uuid.into(),
            change: change.clone(),
        })
    }

    fn open(&mut self) -> Result<(), HypervisorError> {
        self.call(&Request::Open)
    }

    /// Disconnects from libvirt and keeps the child: starting it again takes longer than a client
    /// needs from define to start.
    fn close(&mut self) {
        if self.child.is_some() {
            // A child that does not answer is ended by the failed call.
            let _ = self.call(&Request::Close);
        }
    }
}

fn start(program: &Path, root: Option<&Path>, uri: Option<&str>) -> io::Result<Running> {
    let mut command = Command::new(program);
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    if let Some(uri) = uri {
        command.args(["--connect", uri]);
    }
    let mut child = command
        .arg("call")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let piped = || io::Error::other("no pipe");
    Ok(Running {
        stdin: child.stdin.take().ok_or_else(piped)?,
        stdout: BufReader::new(child.stdout.take().ok_or_else(piped)?),
        child,
    })
}

impl Running {
    fn ask(&mut self, request: &Request) -> io::Result<Response> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        self.stdin.write_all(line.as_bytes())?;
        self.stdin.flush()?;
        let mut answer = String::new();
        if self.stdout.read_line(&mut answer)? == 0 {
            return Err(io::Error::other("ended without an answer"));
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The child's stdin ends only when all fields are dropped, so a wait for the child would
        // not end; the child holds nothing that could be lost.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
