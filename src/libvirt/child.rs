//! `virtfitd call`: libvirt for programs that do not link it. One [`Request`] as JSON a line on
//! stdin, one [`Response`] a line on stdout, in order, until stdin ends.
//!
//! ```text
//! {"call":"define","xml":"<domain>…"}                        {"ok":true}
//! {"call":"live","uuid":"…","change":{"pin-vcpu":[0,[1,17]]}}  {"gone":"why libvirt does not answer"}
//! {"call":"lookup","guest":"db"}                             {"ok":true,"domain":{"name":"db","uuid":"…","active":true,…}}
//! {"call":"nonsense"}                                        {"said":"what libvirt, or `call` itself, said"}
//! ```
//! The connection is made with the first request that needs it, or `open`, and lives until `close`
//! or as long as the child. XML may hold passwords: neither side logs it.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::libvirt::{Hypervisor, HypervisorError, LiveChange};
use crate::panics::guarded;

/// Where the program is when it is not beside the one that asks.
const INSTALLED: &str = "/usr/bin/virtfitd";

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// [`Hypervisor::open`].
    Open,
    /// [`Hypervisor::close`].
    Close,
    /// [`Hypervisor::define`], or, with `before`, [`Hypervisor::redefine`].
    Define {
        /// The whole `<domain>`.
        xml: String,
        /// The definition as it was read from its file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<String>,
    },
    /// [`Hypervisor::undefine`].
    Undefine {
        /// The domain's UUID.
        uuid: String,
    },
    /// [`Hypervisor::rename`].
    Rename {
        /// The domain's UUID.
        uuid: String,
        /// Its new name.
        name: String,
    },
    /// [`Hypervisor::live`].
    Live {
        /// The domain's UUID.
        uuid: String,
        /// What to change.
        change: LiveChange,
    },
    /// `virDomainSetMetadata` for an element: in the definition and, where the guest runs, in the
    /// running one too.
    SetMetadata {
        /// The domain's UUID.
        uuid: String,
        /// The prefix libvirt stores the element with.
        key: String,
        /// The namespace.
        uri: String,
        /// The element without a prefix and without its namespace; absent or null: it is taken
        /// away.
        #[serde(default)]
        xml: Option<String>,
    },
    /// Whether there is such a domain.
    Lookup {
        /// Its name, else its UUID.
        guest: String,
    },
}

/// A domain that [`Request::Lookup`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its UUID, lower case with dashes.
    pub uuid: String,
    /// It runs.
    pub active: bool,
    /// It has a definition.
    pub persistent: bool,
}

/// The answer to one request: exactly one of `ok`, `gone`, `said`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// It is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ok: bool,
    /// There is no libvirt to talk to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<String>,
    /// libvirt said no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// What [`Request::Lookup`] found; with `ok` and without this: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Found>,
}

impl From<Result<(), HypervisorError>> for Response {
    fn from(result: Result<(), HypervisorError>) -> Self {
        result.map(|()| None).into()
    }
}

impl From<Result<Option<Found>, HypervisorError>> for Response {
    fn from(result: Result<Option<Found>, HypervisorError>) -> Self {
        let mut response = Self::default();
        match result {
            Ok(domain) => {
                response.ok = true;
                response.domain = domain;
            }
            Err(HypervisorError::Gone(why)) => response.gone = Some(why),
            Err(HypervisorError::Said(why)) => response.said = Some(why),
        }
        response
    }
}

impl From<Response> for Result<Option<Found>, HypervisorError> {
    fn from(response: Response) -> Self {
        match response {
            Response { gone: Some(why), .. } => Err(HypervisorError::Gone(why)),
            Response { said: Some(why), .. } => Err(HypervisorError::Said(why)),
            Response { ok: true, domain, .. } => Ok(domain),
            Response { .. } => Err(HypervisorError::Gone("virtfitd call gave an empty answer".into())),
        }
    }
}

/// Answers requests until `from` ends; `answer` does one.
///
/// # Errors
/// A stream that breaks.
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
            // A bug met with one request is its answer: the child goes on, and nobody asks the same
            // again and again.
            Ok(request) => guarded(|| answer(request)).unwrap_or_else(|bug| Response {
                said: Some(bug.to_string()),
                ..Response::default()
            }),
            // serde quotes unknown names and wrong types, which are ours, but never a text's
            // content.
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

/// libvirt by way of a `virtfitd call` child, started with the first call.
#[derive(Debug)]
pub struct ChildHypervisor {
    program: PathBuf,
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
    /// libvirt at this URI (`None`: `qemu:///system`), by the program beside the running one, else
    /// the installed one.
    pub fn new(uri: Option<&str>) -> Self {
        let beside = std::env::current_exe()
            .ok()
            .and_then(|own| Some(own.parent()?.join("virtfitd")))
            .filter(|path| path.is_file());
        Self::with_program(beside.as_deref().unwrap_or(Path::new(INSTALLED)), uri)
    }

    /// The same by a program given.
    pub fn with_program(program: &Path, uri: Option<&str>) -> Self {
        Self {
            program: program.to_path_buf(),
            uri: uri.map(str::to_string),
            child: None,
        }
    }

    /// Starts the child, without a connection yet.
    ///
    /// # Errors
    /// There is no such program.
    pub fn start(&mut self) -> Result<(), HypervisorError> {
        self.call(&Request::Close).map(drop)
    }

    /// Sets or takes away a metadata element, as [`Request::SetMetadata`] tells.
    ///
    /// # Errors
    /// What libvirt said.
    pub fn set_metadata(
        &mut self,
        uuid: &str,
        key: &str,
        uri: &str,
        xml: Option<&str>,
    ) -> Result<(), HypervisorError> {
        self.call(&Request::SetMetadata {
            uuid: uuid.into(),
            key: key.into(),
            uri: uri.into(),
            xml: xml.map(str::to_string),
        })
        .map(drop)
    }

    /// The domain of this name, else of this UUID; `None`: there is none.
    ///
    /// # Errors
    /// What libvirt said.
    pub fn lookup(&mut self, guest: &str) -> Result<Option<Found>, HypervisorError> {
        self.call(&Request::Lookup { guest: guest.into() })
    }

    /// One request and its answer. A child that ended is started again with the next call.
    ///
    /// # Errors
    /// What libvirt said, or why there is no child to ask.
    pub fn call(&mut self, request: &Request) -> Result<Option<Found>, HypervisorError> {
        let gone = |error: &dyn std::fmt::Display| {
            HypervisorError::Gone(format!("{} call: {error}", self.program.display()))
        };
        if self.child.is_none() {
            let running = start(&self.program, self.uri.as_deref()).map_err(|error| gone(&error))?;
            self.child = Some(running);
        }
        let Some(running) = &mut self.child else {
            return Err(gone(&"did not start"));
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
        .map(drop)
    }

    fn redefine(&mut self, before: &str, xml: &str) -> Result<(), HypervisorError> {
        self.call(&Request::Define {
            xml: xml.into(),
            before: Some(before.into()),
        })
        .map(drop)
    }

    fn undefine(&mut self, uuid: &str) -> Result<(), HypervisorError> {
        self.call(&Request::Undefine { uuid: uuid.into() }).map(drop)
    }

    fn rename(&mut self, uuid: &str, name: &str) -> Result<(), HypervisorError> {
        self.call(&Request::Rename {
            uuid: uuid.into(),
            name: name.into(),
        })
        .map(drop)
    }

    fn live(&mut self, uuid: &str, change: &LiveChange) -> Result<(), HypervisorError> {
        self.call(&Request::Live {
            uuid: uuid.into(),
            change: change.clone(),
        })
        .map(drop)
    }

    fn open(&mut self) -> Result<(), HypervisorError> {
        self.call(&Request::Open).map(drop)
    }

    /// The child stays: to start it again takes longer than a client needs from define to start.
    fn close(&mut self) {
        if self.child.is_some() {
            // One that does not answer is ended by that.
            let _ = self.call(&Request::Close);
        }
    }
}

fn start(program: &Path, uri: Option<&str>) -> io::Result<Running> {
    let mut command = Command::new(program);
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
        // Its stdin ends only when all fields are dropped, so it is not waited for by that; it
        // holds nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::cpulist;
    use crate::types::ids::VcpuId;

    #[test]
    fn requests_and_answers_are_lines_of_json() {
        let request = Request::Live {
            uuid: "u".into(),
            change: LiveChange::PinVcpu(VcpuId(3), cpulist::parse("1,4-5").unwrap()),
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            text,
            r#"{"call":"live","uuid":"u","change":{"pin-vcpu":[3,[1,4,5]]}}"#
        );
        let input = format!("{text}\n\n{{\"call\":\"define\"}}\n{{\"call\":\"lookup\",\"guest\":\"db\"}}\n");
        let mut output = Vec::new();
        let mut seen = Vec::new();
        serve(input.as_bytes(), &mut output, |request| {
            seen.push(request);
            Err::<(), _>(HypervisorError::Said("no".into())).into()
        })
        .unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen.first(), Some(&request));
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "{\"said\":\"no\"}\n{\"said\":\"not a request: missing field `xml`\"}\n{\"said\":\"no\"}\n"
        );
    }

    #[test]
    fn a_child_that_is_no_virtfitd_is_gone() {
        for program in ["/nonexistent", "/bin/false", "/bin/cat"] {
            let mut child = ChildHypervisor::with_program(Path::new(program), None);
            for _ in 0..2 {
                let got = child.define("<domain/>");
                assert!(matches!(got, Err(HypervisorError::Gone(_))), "{program}: {got:?}");
            }
        }
    }
}
