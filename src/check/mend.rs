//! Cures that work on the distribution of the host, and last over its next boot.

use crate::check::finding::Mend;
use crate::hostfs::HostFs;
use crate::types::shell_word::file_word;

/// Family of distributions whose tools and files are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Debian, Ubuntu and what is like them.
    Debian,
    /// Fedora, RHEL and what is like them.
    Fedora,
    /// SUSE Linux Enterprise, openSUSE.
    Suse,
    /// Any other.
    Other,
}

/// Name of a package in each family; empty: it has none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package {
    pub debian: &'static str,
    pub fedora: &'static str,
    pub suse: &'static str,
}

impl Package {
    /// Makes a package that has one name everywhere.
    pub(super) const fn same(name: &'static str) -> Self {
        Self {
            debian: name,
            fedora: name,
            suse: name,
        }
    }
}

/// Reads the family from `os-release` (os-release(5)): `ID`, else `ID_LIKE`.
pub(super) fn family(root: &HostFs) -> Family {
    let text = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| root.read(path).ok())
        .unwrap_or_default();
    let value = |key: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches(['"', '\'']).to_string()
    };
    let of = |word: &str| match word {
        "debian" | "ubuntu" => Some(Family::Debian),
        "fedora" | "rhel" | "centos" | "almalinux" | "rocky" => Some(Family::Fedora),
        "sles" | "suse" => Some(Family::Suse),
        word if word.starts_with("opensuse") || word.starts_with("sle") => Some(Family::Suse),
        _ => None,
    };
    let words = format!("{} {}", value("ID"), value("ID_LIKE"));
    words.split_whitespace().find_map(of).unwrap_or(Family::Other)
}

impl Family {
    /// Returns the command that installs a package; `None` where its name is not known.
    pub(super) fn install(self, package: Package) -> Option<String> {
        let (tool, name) = match self {
            Self::Debian => ("apt install", package.debian),
            Self::Fedora => ("dnf install", package.fedora),
            Self::Suse => ("zypper install", package.suse),
            Self::Other => return None,
        };
        (!name.is_empty()).then(|| format!("{tool} {name}"))
    }

    /// Returns the cure by options of the kernel's command line, from the next boot on.
    pub(super) fn boot_with(self, options: &str) -> Mend {
        let edit = format!("sed -i 's|^GRUB_CMDLINE_LINUX=\"|&{options} |' /etc/default/grub");
        let commands = match self {
            Self::Debian => vec![edit, "update-grub".into()],
            Self::Fedora => vec![format!("grubby --update-kernel=ALL --args='{options}'")],
            Self::Suse => vec![edit, "grub2-mkconfig -o /boot/grub2/grub.cfg".into()],
            Self::Other => Vec::new(),
        };
        let text = match self {
            Self::Other => {
                format!("add {options} to the kernel's command line in the boot loader, then reboot")
            }
            _ => format!("boot with {options} (with GRUB these commands, then reboot)"),
        };
        Mend { text, commands }
    }

    /// Returns the file with irqbalance's environment.
    pub(super) fn irqbalance_file(self) -> &'static str {
        match self {
            Self::Debian => "/etc/default/irqbalance",
            _ => "/etc/sysconfig/irqbalance",
        }
    }
}

/// Returns the commands that set a sysctl now and at each boot.
pub(super) fn sysctl(key: &str, value: &str) -> Mend {
    let file = format!("/etc/sysctl.d/80-{}.conf", key.replace(['.', '_'], "-"));
    Mend {
        text: "set it now and at each boot".into(),
        commands: vec![
            format!("echo '{key} = {value}' > {file}"),
            format!("sysctl -p {file}"),
        ],
    }
}

/// Returns the commands that write values to files of sysfs now and at each boot, by systemd's
/// tmpfiles (tmpfiles.d(5), `w`; a path may be a pattern).
pub(super) fn write_at_boot(name: &str, values: &[(&str, &str)]) -> Mend {
    let file = format!("/etc/tmpfiles.d/80-{name}.conf");
    let lines = values
        .iter()
        .map(|(path, value)| format!("'w {path} - - - - {value}'"));
    let lines: Vec<String> = lines.collect();
    Mend {
        text: "set it now and at each boot".into(),
        commands: vec![
            format!("printf '%s\\n' {} > {file}", lines.join(" ")),
            format!("systemd-tmpfiles --create {file}"),
        ],
    }
}

/// Returns the command that sets a module's parameter from its next load on.
pub(super) fn module_option(module: &str, option: &str) -> Mend {
    let name = option.split('=').next().unwrap_or(option).replace('_', "-");
    let file = format!("/etc/modprobe.d/80-{}-{name}.conf", module.replace('_', "-"));
    Mend {
        text: "takes effect when the module is loaded again: reboot, or unload it while no guest runs".into(),
        commands: vec![format!("echo 'options {module} {option}' > {file}")],
    }
}

/// Returns a file's path as a word of a command.
pub(super) fn word(path: &str) -> String {
    file_word(path)
}
