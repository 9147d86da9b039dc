//! Calls to libvirt through its client library.

use virt::connect::Connect;
use virt::domain::{Domain, NUMAParameters};
use virt::error::{Error, ErrorDomain, ErrorDomainEnum, ErrorNumber, ErrorNumberEnum};
use virt::sys;
use virtfit::apply::identity;
use virtfit::domain;
use virtfit::hostfs::HostFs;
use virtfit::ledger::claims;
use virtfit::libvirt::child::{Request, Response};
use virtfit::libvirt::definition_file::DefinitionFile;
use virtfit::libvirt::{Hypervisor, HypervisorError, LiveChange};
use virtfit::panics;
use virtfit::types::idset::CpuSet;

/// Connection to libvirt, made with the first call and made again after it broke.
pub(crate) struct Libvirt {
    /// Host whose guests this libvirt has.
    root: HostFs,
    uri: String,
    connection: Option<Connect>,
}

impl Libvirt {
    /// Creates the state without a connection.
    pub(crate) fn new(root: HostFs, uri: &str) -> Self {
        // libvirt's default callback prints every error on stderr, XML included, before it can be
        // filtered.
        virt::error::clear_error_callback();
        Self {
            root,
            uri: uri.into(),
            connection: None,
        }
    }

    /// Makes a call. A connection that broke is dropped, so that the next call makes a new one.
    fn with<T>(&mut self, call: impl FnOnce(&Connect) -> Result<T, Error>) -> Result<T, HypervisorError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connect::open(Some(&self.uri)).map_err(|error| HypervisorError::Gone(text(&error)))?,
        };
        let result = call(&connection);
        match result {
            Err(error) if !connection.is_alive().unwrap_or(false) || is_transport(&error) => {
                Err(HypervisorError::Gone(text(&error)))
            }
            result => {
                self.connection = Some(connection);
                result.map_err(|error| HypervisorError::Said(text(&error)))
            }
        }
    }

    /// Answers one request of `virtfitd call`.
    pub(crate) fn answer(&mut self, request: Request) -> Response {
        match request {
            Request::Open => self.open().into(),
            Request::Close => {
                self.close();
                Ok(()).into()
            }
            Request::Define { xml, before: None } => self.define(&xml).into(),
            Request::Define {
                xml,
                before: Some(before),
            } => self.redefine(&before, &xml).into(),
            Request::Undefine { uuid } => self.undefine(&uuid).into(),
            Request::Rename { uuid, name } => self.rename(&uuid, &name).into(),
            Request::Live { uuid, change } => self.live(&uuid, &change).into(),
        }
    }
}

impl Hypervisor for Libvirt {
    /// Defines without `VIR_DOMAIN_DEFINE_VALIDATE`: a definition that libvirt took before must be
    /// taken again.
    fn define(&mut self, xml: &str) -> Result<(), HypervisorError> {
        self.with(|connection| connection.define_domain_xml(xml).map(drop))
    }

    /// Checks and defines in two calls, with the file read in between: libvirt writes the file of
    /// whatever it changes, so the file shows a change up to right before the second call. A change
    /// between the two calls themselves is not noticed, as libvirt has no call for both.
    fn redefine(&mut self, before: &str, xml: &str) -> Result<(), HypervisorError> {
        let domain =
            domain::parse::from_text(before).map_err(|error| HypervisorError::Said(error.to_string()))?;
        let there = self.with(|connection| {
            let found = connection.lookup_domain_by_uuid_string(&domain.uuid);
            match found {
                // With its secrets, as the file has them.
                Ok(domain) if domain.is_persistent()? => {
                    let whole = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
                    domain.xml_desc(whole).map(Some)
                }
                Ok(_) => Ok(None),
                Err(error) if error.code() == known(ErrorNumber::NoDomain) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        let (uri, name) = (&self.uri, &domain.name);
        let Some(there) = there else {
            let uuid = &domain.uuid;
            return Err(HypervisorError::Other(format!(
                "{uri} has no definition with UUID {uuid}: it is not the libvirt whose files were read"
            )));
        };
        let loaded = identity::is_loaded(&self.root, name);
        let difference = identity::difference(before, &there, loaded);
        let file = DefinitionFile::read(&self.root, name);
        let current = matches!(&file, Ok(Some(file)) if file.text == before);
        if !current || DefinitionFile::is_being_written(&self.root, name) {
            return Err(HypervisorError::Other(
                "its definition changed meanwhile: try again".into(),
            ));
        }
        if let Some(what) = difference {
            let path = self.root.path(claims::path(name));
            let said = identity::behind_its_back(&path, &domain, uri, &what);
            return Err(HypervisorError::Other(said));
        }
        self.define(xml)
    }

    fn undefine(&mut self, uuid: &str) -> Result<(), HypervisorError> {
        self.with(|connection| {
            let domain = connection.lookup_domain_by_uuid_string(uuid)?;
            let keep = sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM;
            match domain.undefine_flags(keep | sys::VIR_DOMAIN_UNDEFINE_KEEP_TPM) {
                // libvirt before 8.9 does not know the flag for TPM state.
                Err(error) if error.code() == known(ErrorNumber::InvalidArg) => domain.undefine_flags(keep),
                result => result,
            }
        })
    }

    fn rename(&mut self, uuid: &str, name: &str) -> Result<(), HypervisorError> {
        panics::fault_point("call", name);
        self.with(|connection| connection.lookup_domain_by_uuid_string(uuid)?.rename(name, 0))
    }

    fn live(&mut self, uuid: &str, change: &LiveChange) -> Result<(), HypervisorError> {
        let flags = sys::VIR_DOMAIN_AFFECT_LIVE;
        self.with(|connection| {
            let domain = connection.lookup_domain_by_uuid_string(uuid)?;
            match change {
                LiveChange::PinVcpu(vcpu, cpus) => {
                    domain.pin_vcpu_flags(vcpu.0, &cpumap(cpus), flags).map(drop)
                }
                LiveChange::PinEmulator(cpus) => domain.pin_emulator(&cpumap(cpus), flags).map(drop),
                LiveChange::PinIothread(iothread, cpus) => {
                    pin_iothread(&domain, iothread.0, &mut cpumap(cpus), flags)
                }
                LiveChange::Numa(nodes) => {
                    let params = NUMAParameters {
                        node_set: Some(nodes.to_string()),
                        mode: Some(sys::VIR_DOMAIN_NUMATUNE_MEM_RESTRICTIVE as i32),
                    };
                    domain.set_numa_parameters(params, flags).map(drop)
                }
            }
        })
    }

    fn open(&mut self) -> Result<(), HypervisorError> {
        self.with(|_| Ok(()))
    }

    fn close(&mut self) {
        self.connection = None;
    }
}

/// Pins an iothread by `virDomainPinIOThread`, which the `virt` crate (0.5) does not have.
fn pin_iothread(domain: &Domain, iothread: u32, cpumap: &mut [u8], flags: u32) -> Result<(), Error> {
    // A map is at most 2 KiB long: cpulists end at CPU 16,383.
    let length = i32::try_from(cpumap.len()).unwrap_or(i32::MAX);
    // SAFETY: the domain is alive as long as it is borrowed; libvirt reads `length` bytes of the
    // map and keeps no pointer to it.
    #[allow(unsafe_code)]
    let result =
        unsafe { sys::virDomainPinIOThread(domain.as_ptr(), iothread, cpumap.as_mut_ptr(), length, flags) };
    match result {
        0 => Ok(()),
        _ => Err(Error::last_error()),
    }
}

/// Builds libvirt's bit map: CPU n is bit n % 8 of byte n / 8.
fn cpumap(cpus: &CpuSet) -> Vec<u8> {
    let mut map = Vec::new();
    for cpu in cpus.iter() {
        let byte = (cpu.0 / 8) as usize;
        if map.len() <= byte {
            map.resize(byte + 1, 0);
        }
        if let Some(byte) = map.get_mut(byte) {
            *byte |= 1u8 << (cpu.0 % 8);
        }
    }
    map
}

fn known(number: ErrorNumber) -> ErrorNumberEnum {
    ErrorNumberEnum::from(number)
}

/// Returns whether the connection broke, rather than that the driver refused.
fn is_transport(error: &Error) -> bool {
    let domain = error.domain();
    domain == ErrorDomainEnum::from(ErrorDomain::Rpc) || domain == ErrorDomainEnum::from(ErrorDomain::Remote)
}

/// Longest line of libvirt's that is passed on, in characters: the line may quote a definition.
const LONGEST: usize = 400;

/// Returns libvirt's error without its codes. Only the first line is kept: further lines of a
/// parser's error quote the XML, which may contain passwords.
fn text(error: &Error) -> String {
    let line = error.message().lines().next().unwrap_or_default();
    line.chars().take(LONGEST).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_a_cpu() {
        for (cpus, want) in [
            ("", vec![]),
            ("0", vec![1]),
            ("1,7", vec![0x82]),
            ("8", vec![0, 1]),
            ("0-8,17", vec![255, 1, 2]),
        ] {
            assert_eq!(
                cpumap(&virtfit::types::cpulist::parse(cpus).unwrap()),
                want,
                "{cpus}"
            );
        }
    }
}
