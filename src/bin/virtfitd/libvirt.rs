//! Calls to libvirt through its client library.

use virt::connect::Connect;
use virt::domain::{Domain, NUMAParameters};
use virt::error::{Error, ErrorDomain, ErrorDomainEnum, ErrorNumber, ErrorNumberEnum};
use virt::sys;
use virtfit::apply::identity;
use virtfit::domain;
use virtfit::libvirt::child::{Found, Request, Response};
use virtfit::libvirt::{Hypervisor, HypervisorError, LiveChange};
use virtfit::panics;
use virtfit::types::idset::CpuSet;

/// Connection to libvirt, made with the first call and made again after it broke.
pub struct Libvirt {
    uri: String,
    connection: Option<Connect>,
}

impl Libvirt {
    /// Creates the state without a connection.
    pub fn new(uri: &str) -> Self {
        // libvirt's default callback prints every error on stderr, XML included, before it can be
        // filtered.
        virt::error::clear_error_callback();
        Self {
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
    pub fn answer(&mut self, request: Request) -> Response {
        match request {
            Request::Open => self.open().into(),
            Request::Close => {
                self.close();
                Ok::<(), HypervisorError>(()).into()
            }
            Request::Define { xml, before: None } => self.define(&xml).into(),
            Request::Define {
                xml,
                before: Some(before),
            } => self.redefine(&before, &xml).into(),
            Request::Undefine { uuid } => self.undefine(&uuid).into(),
            Request::Rename { uuid, name } => self.rename(&uuid, &name).into(),
            Request::Live { uuid, change } => self.live(&uuid, &change).into(),
            Request::SetMetadata { uuid, key, uri, xml } => {
                self.set_metadata(&uuid, &key, &uri, xml.as_deref()).into()
            }
            Request::Lookup { guest } => self.lookup(&guest).into(),
        }
    }

    fn set_metadata(
        &mut self,
        uuid: &str,
        key: &str,
        uri: &str,
        xml: Option<&str>,
    ) -> Result<(), HypervisorError> {
        self.with(|connection| {
            let domain = connection.lookup_domain_by_uuid_string(uuid)?;
            let mut flags = 0;
            if domain.is_persistent()? {
                flags |= sys::VIR_DOMAIN_AFFECT_CONFIG;
            }
            if domain.is_active()? {
                flags |= sys::VIR_DOMAIN_AFFECT_LIVE;
            }
            let element = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
            let key = xml.is_some().then_some(key);
            let result = domain.set_metadata(element, xml, key, Some(uri), flags);
            match result {
                // The element was removed already.
                Err(error) if xml.is_none() && error.code() == known(ErrorNumber::NoDomainMetadata) => Ok(()),
                result => result.map(drop),
            }
        })
    }

    fn lookup(&mut self, guest: &str) -> Result<Option<Found>, HypervisorError> {
        panics::fault_point("call", guest);
        self.with(|connection| {
            let found = connection
                .lookup_domain_by_name(guest)
                .or_else(|_| connection.lookup_domain_by_uuid_string(guest));
            let domain = match found {
                Ok(domain) => domain,
                Err(error) if error.code() == known(ErrorNumber::NoDomain) => return Ok(None),
                // The word is not a UUID either.
                Err(error) if error.code() == known(ErrorNumber::InvalidArg) => return Ok(None),
                Err(error) => return Err(error),
            };
            Ok(Some(Found {
                name: domain.name()?,
                uuid: domain.uuid_string()?,
                active: domain.is_active()?,
                persistent: domain.is_persistent()?,
            }))
        })
    }
}

impl Hypervisor for Libvirt {
    /// Defines without `VIR_DOMAIN_DEFINE_VALIDATE`: a definition that libvirt took before must be
    /// taken again.
    fn define(&mut self, xml: &str) -> Result<(), HypervisorError> {
        self.with(|connection| connection.define_domain_xml(xml).map(drop))
    }

    /// Checks and defines in two calls: a change between them is noticed by its file, which libvirt
    /// writes first.
    fn redefine(&mut self, before: &str, xml: &str) -> Result<(), HypervisorError> {
        let uuid = domain::parse::from_text(before)
            .map(|domain| domain.uuid)
            .map_err(|error| HypervisorError::Said(error.to_string()))?;
        let uri = self.uri.clone();
        let there = self.with(|connection| {
            let found = connection.lookup_domain_by_uuid_string(&uuid);
            match found {
                // Read without secrets: these are not compared, and stay as they are.
                Ok(domain) if domain.is_persistent()? => {
                    domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE).map(Some)
                }
                Ok(_) => Ok(None),
                Err(error) if error.code() == known(ErrorNumber::NoDomain) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        let Some(there) = there else {
            return Err(HypervisorError::Said(format!(
                "{uri} has no definition with UUID {uuid}: it is not the libvirt whose files were read"
            )));
        };
        if let Some(what) = identity::difference(before, &there) {
            return Err(HypervisorError::Said(format!(
                "{uri} has another definition of this guest ({what} differs): nothing was written"
            )));
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
