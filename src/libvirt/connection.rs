//! libvirt URIs that name the system libvirt of this host. Definitions, topology and ledger are
//! read on this host, so nothing may be written to another one.

/// The URI of this host's system libvirt.
pub(crate) const SYSTEM: &str = "qemu:///system";

/// Query parameters that choose only the local socket and how it is used.
const LOCAL: &[&str] = &["socket", "mode", "authfile"];

/// Error about a URI that is not the system libvirt of this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}: virtfit reads and changes the host it runs on, through {SYSTEM}; leave the URI out, or run virtfit on the host \
     that is meant (ssh HOST virtfit …)"
)]
pub(crate) struct Foreign(String);

/// Checks the value of `--connect` and returns it, as a value parser for clap.
///
/// # Errors
/// The URI names another host, another user's libvirt, another hypervisor, or leaves the choice to
/// libvirt.
pub(crate) fn this_host(uri: &str) -> Result<String, Foreign> {
    let no = |why: &str| Err(Foreign(why.into()));
    let Some((scheme, rest)) = uri.split_once("://") else {
        // Empty, or an alias from libvirt.conf: libvirt would choose the host.
        return no("not a libvirt URI");
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Some((host, path)) = rest.split_once('/') else {
        return no("a URI without a path");
    };
    match scheme {
        "qemu" | "qemu+unix" => {}
        _ if scheme.starts_with("qemu+") => return no("a remote libvirt"),
        _ => return no("not the libvirt of QEMU guests"),
    }
    if !host.is_empty() {
        // `localhost` may be the end of a tunnel, and a name may resolve to any host.
        return no("a libvirt reached over the network");
    }
    match path {
        "system" => {}
        "session" => return no("an ordinary user's libvirt"),
        _ => return no("not the system libvirt"),
    }
    let names = query.split(['&', ';']).filter(|part| !part.is_empty());
    let mut names = names.map(|part| part.split('=').next().unwrap_or(part));
    match names.find(|name| !LOCAL.contains(name)) {
        // `name=` makes the daemon open another driver, `command=` runs a program.
        Some(_) => {
            no("a URI with parameters that may lead elsewhere (only socket, mode and authfile are taken)")
        }
        None => Ok(uri.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_this_hosts_system_libvirt_is_taken() {
        for uri in [
            "qemu:///system",
            "qemu+unix:///system",
            "qemu:///system?socket=/run/libvirt/virtqemud-sock",
            "qemu+unix:///system?socket=/run/libvirt/libvirt-sock&mode=direct",
        ] {
            assert_eq!(this_host(uri).as_deref(), Ok(uri));
        }
        for (uri, why) in [
            ("", "not a libvirt URI"),
            ("hail", "not a libvirt URI"),
            ("qemu:system", "not a libvirt URI"),
            ("test:///default", "not the libvirt of QEMU"),
            ("xen:///system", "not the libvirt of QEMU"),
            ("QEMU:///system", "not the libvirt of QEMU"),
            ("qemu:///session", "ordinary user"),
            ("qemu:///embed?root=/x", "not the system"),
            ("qemu:///", "not the system"),
            ("qemu:///system/", "not the system"),
            ("qemu://", "without a path"),
            ("qemu+ssh://other/system", "remote"),
            ("qemu+ssh:///system", "remote"),
            ("qemu+tcp://localhost/system", "remote"),
            ("qemu://localhost/system", "over the network"),
            ("qemu+unix://other/system", "over the network"),
            ("qemu:///system?name=test:///default", "lead elsewhere"),
            ("qemu+unix:///system?socket=/x;name=lxc:///", "lead elsewhere"),
            ("qemu+ext:///system?command=/x", "remote"),
            ("qemu:///system?%6eame=test:///default", "lead elsewhere"),
        ] {
            let error = this_host(uri).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(SYSTEM), "{uri}: {error}");
        }
    }
}
