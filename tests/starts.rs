//! What virtfit writes must start: what libvirt or QEMU would refuse at start is left out, or the guest is refused.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A host: a topology, and files below a root.
struct Host(TempDir);

const TOPOLOGY: &str = "numa:1(memory=64GB) core:8 pu:1";

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(root)
    }

    fn rewrite(&self, keys: &str, domain: &str) -> Output {
        let policy = self.0.path().join("policy.toml");
        let text = format!("[profile.p]\ninherits = \"fit\"\n{keys}\n");
        fs::write(&policy, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_virtfit"))
            .arg("--root")
            .arg(self.0.path())
            .args(["--topology", TOPOLOGY, "--policy"])
            .arg(&policy)
            .args(["rewrite", "--profile", "p", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(domain.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn tuned(&self, keys: &str, domain: &str) -> String {
        let output = self.rewrite(keys, domain);
        assert!(output.status.success(), "{keys}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn domain(memory: &str, inside: &str) -> String {
    format!(
        "<domain type='kvm'>\n  <name>g</name>\n  {memory}\n  <vcpu>2</vcpu>\n  <os>\n    <type>hvm</type>\n  \
         </os>\n{inside}</domain>\n"
    )
}

#[test]
fn memory_is_not_locked_where_libvirt_may_not() {
    let limits = "Limit  Soft Limit  Hard Limit  Units\nMax locked memory  65536  67108864  bytes\n";
    let daemon = |capabilities: &str| format!("Name:\tlibvirtd\nCapEff:\t{capabilities}\n");
    let host = |capabilities: &str| {
        Host::new(&[
            ("run/libvirtd.pid", "77\n"),
            ("proc/77/status", &daemon(capabilities)),
            ("proc/77/limits", limits),
        ])
    };
    let guest = domain("<memory unit='GiB'>2</memory>", "");
    let keys = "locked = true";
    assert!(host("000001ffffffffff").tuned(keys, &guest).contains("<locked/>"));
    let without = host("000001fffeffffff");
    let tuned = without.tuned(keys, &guest);
    assert!(
        !tuned.contains("<locked/>") && tuned.contains("<vcpupin"),
        "{tuned}"
    );
    let refused = without.rewrite("locked = true\non_no_fit = \"refuse\"", &guest);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.status.code() == Some(3) && refused.stdout.is_empty() && stderr.contains("CAP_SYS_RESOURCE"),
        "{stderr}"
    );
}
