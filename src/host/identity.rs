//! CPU vendor and architecture, from the form of `/proc/cpuinfo`: each architecture's kernel prints
//! its own.

use crate::hostfs::HostFs;

use crate::host::error::HostError;
use crate::host::kernel;

/// Vendor and architecture; empty if unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub vendor: String,
    pub arch: String,
}

pub(super) fn read(root: &HostFs) -> Result<Identity, HostError> {
    let mut identity = kernel::text(root, "/proc/cpuinfo")?
        .map(|text| of_cpuinfo(&text))
        .unwrap_or_default();
    // Since Linux 6.1 the kernel reports the architecture itself.
    if let Some(arch) = kernel::text(root, "/proc/sys/kernel/arch")?.filter(|arch| !arch.is_empty()) {
        identity.arch = arch;
    } else if root.is_real() {
        identity.arch = own_arch().to_string();
    }
    Ok(identity)
}

/// Returns the architecture this program was built for, as `uname -m` names it.
pub(super) fn own_arch() -> &'static str {
    match std::env::consts::ARCH {
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "x86" => "i686",
        "arm" => "armv7l",
        other => other,
    }
}

fn of_cpuinfo(text: &str) -> Identity {
    let field = |wanted: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == wanted).then(|| value.trim().to_string())
        })
    };
    let of = |vendor: String, arch: &str| Identity {
        vendor,
        arch: arch.to_string(),
    };
    // The kernels of x86 and s390x print `vendor_id`.
    if let Some(vendor) = field("vendor_id") {
        if vendor.contains("S390") {
            return of(vendor, "s390x");
        }
        let flags = field("flags").unwrap_or_default();
        let long_mode = flags.is_empty() || flags.split_whitespace().any(|flag| flag == "lm");
        return of(vendor, if long_mode { "x86_64" } else { "i686" });
    }
    if let Some(implementer) = field("CPU implementer") {
        // arm64 prints "8"; the 32-bit kernel "7", "5TEJ" and the like.
        let arm64 =
            field("CPU architecture").is_none_or(|version| version.starts_with('8') || version == "AArch64");
        return of(arm_vendor(&implementer), if arm64 { "aarch64" } else { "armv7l" });
    }
    if let Some(vendor) = field("vendor").filter(|_| text.contains("IA-64") || text.contains("Itanium")) {
        return of(vendor, "ia64");
    }
    let cpu = field("cpu").unwrap_or_default();
    if cpu.starts_with("POWER") || cpu.starts_with("PPC") {
        // Since POWER8, practically all hosts of guests are little endian.
        let after = cpu.strip_prefix("POWER").unwrap_or_default();
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let little = after[..digits]
            .parse::<u32>()
            .is_ok_and(|generation| generation >= 8);
        return of(String::new(), if little { "ppc64le" } else { "ppc64" });
    }
    let isa = field("isa").unwrap_or_default();
    if isa.starts_with("rv") {
        let arch = if isa.starts_with("rv32") {
            "riscv32"
        } else {
            "riscv64"
        };
        return of(String::new(), arch);
    }
    if text.contains("Loongson") && field("ISA").is_some_and(|isa| isa.contains("loongarch")) {
        return of("Loongson".into(), "loongarch64");
    }
    Identity::default()
}

/// Returns the vendor of an arm64 CPU by its implementer code (kernel:
/// `arch/arm64/include/asm/cputype.h`), named as libvirt names it; an unknown code is returned
/// unchanged.
pub(super) fn arm_vendor(implementer: &str) -> String {
    match implementer {
        "0x41" => "ARM",
        "0x42" => "Broadcom",
        "0x43" => "Cavium",
        "0x46" => "Fujitsu",
        "0x48" => "HiSilicon",
        "0x4e" => "NVIDIA",
        "0x50" => "APM",
        "0x51" => "Qualcomm",
        "0x61" => "Apple",
        "0x70" => "Phytium",
        "0xc0" => "Ampere",
        other => other,
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_prints_its_own_shape() {
        let table = [
            (
                "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu lm vmx\n",
                "GenuineIntel",
                "x86_64",
            ),
            ("vendor_id\t: AuthenticAMD\n", "AuthenticAMD", "x86_64"),
            (
                "vendor_id\t: GenuineIntel\nflags\t\t: fpu pae\n",
                "GenuineIntel",
                "i686",
            ),
            (
                "vendor_id       : IBM/S390\n# processors    : 4\n",
                "IBM/S390",
                "s390x",
            ),
            (
                "processor\t: 0\nCPU implementer\t: 0x48\nCPU architecture: 8\n",
                "HiSilicon",
                "aarch64",
            ),
            ("CPU implementer\t: 0x7f\nCPU architecture: 7\n", "0x7f", "armv7l"),
            (
                "processor\t: 0\ncpu\t\t: POWER9, altivec supported\n",
                "",
                "ppc64le",
            ),
            ("cpu\t\t: POWER8NVL (raw), altivec supported\n", "", "ppc64le"),
            ("cpu\t\t: POWER7 (architected)\n", "", "ppc64"),
            ("cpu\t\t: PPC970FX, altivec supported\n", "", "ppc64"),
            ("hart\t: 0\nisa\t: rv64imafdc\n", "", "riscv64"),
            (
                "vendor     : GenuineIntel\narch       : IA-64\n",
                "GenuineIntel",
                "ia64",
            ),
            ("", "", ""),
            ("nonsense", "", ""),
        ];
        for (text, vendor, arch) in table {
            let found = of_cpuinfo(text);
            assert_eq!(
                (found.vendor.as_str(), found.arch.as_str()),
                (vendor, arch),
                "{text:?}"
            );
        }
    }
}
