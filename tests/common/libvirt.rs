//! A libvirt of the tests' own: daemons in a private mount and PID namespace, with their own configuration, state and
//! images. The machine's libvirt and its guests are not touched; when the tests end, however they do, the kernel ends
//! everything in the namespace.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// What process 1 of the namespace does. It stays a shell, which reaps the QEMUs that libvirtd leaves to it. The `cpu`
/// controller of cgroup v1 goes, as it gives new groups no real-time budget.
const INIT: &str = r#"set -e
d=$1
mkdir -p /dev/hugepages
for pair in etc/libvirt:etc run/libvirt:run var/lib/libvirt:lib var/log/libvirt:log var/cache/libvirt:cache \
    etc/virtfit:virtfit-etc run/virtfit:virtfit-run var/lib/virtfit:virtfit-lib; do
  mkdir -p "/${pair%%:*}" "$d/${pair##*:}"
  mount --bind "$d/${pair##*:}" "/${pair%%:*}"
done
if mountpoint -q /sys/fs/cgroup/cpu; then umount /sys/fs/cgroup/cpu; fi
mount -t hugetlbfs -o pagesize=2M none /dev/hugepages
PATH=/usr/sbin:/usr/bin:/sbin:/bin
virtlogd -p /run/libvirt/virtlogd.pid &
libvirtd -p /run/libvirt/libvirtd.pid &
while :; do wait; sleep 1; done
"#;

/// The daemons; they end when this is dropped.
pub struct Libvirt {
    unshare: Child,
    /// Process 1 of the namespace, by its number outside.
    init: u32,
    folder: tempfile::TempDir,
    pages_before: String,
}

impl Libvirt {
    /// Starts them, with so many more 2-MiB pages on the machine.
    pub fn start(pages: u64) -> Self {
        Self::start_with(pages, None)
    }

    /// The same with this program as libvirt's hook, by a link as packages make it.
    pub fn with_hook(hook: &str) -> Self {
        Self::start_with(0, Some(hook))
    }

    fn start_with(pages: u64, hook: Option<&str>) -> Self {
        // On a real filesystem, as disk images live there; some machines' /tmp is in memory.
        let folder = tempfile::Builder::new()
            .prefix("virtfit-libvirt.")
            .tempdir_in("/var/tmp")
            .unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("etc/qemu")).unwrap();
        fs::create_dir_all(path.join("lib/images")).unwrap();
        let qemu = "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\n";
        fs::write(path.join("etc/qemu.conf"), qemu).unwrap();
        fs::write(path.join("etc/libvirtd.conf"), "auth_unix_rw = \"none\"\n").unwrap();
        fs::write(path.join("etc/virtlogd.conf"), "").unwrap();
        if let Some(hook) = hook {
            fs::create_dir_all(path.join("etc/hooks/qemu.d")).unwrap();
            std::os::unix::fs::symlink(hook, path.join("etc/hooks/qemu.d/50-virtfit")).unwrap();
        }
        let pages_before = fs::read_to_string(PAGES).unwrap();
        let all = pages_before.trim().parse::<u64>().unwrap() + pages;
        fs::write(PAGES, all.to_string()).unwrap();
        let log = fs::File::create(path.join("daemons.log")).unwrap();
        let unshare = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "--propagation",
                "private",
            ])
            .args(["sh", "-c", INIT, "sh"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut libvirt = Self {
            unshare,
            init: 0,
            folder,
            pages_before,
        };
        libvirt.wait();
        libvirt
    }

    fn wait(&mut self) {
        let id = self.unshare.id();
        let begin = Instant::now();
        let mut last = String::new();
        while begin.elapsed() < Duration::from_secs(60) {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            if let Some(init) = children.split_whitespace().next() {
                self.init = init.parse().unwrap();
                match self.virsh(&["version"]) {
                    Ok(_) => return,
                    Err(error) => last = error,
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = fs::read_to_string(self.folder.path().join("daemons.log")).unwrap_or_default();
        panic!("libvirtd did not start (needs root, unshare and libvirt-daemon-system): {last}\n{log}");
    }

    /// Where a file of the namespace is, seen from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init)).join(path.trim_start_matches('/'))
    }

    /// A fixture host as a root folder, with the namespace's own libvirt and virtfit folders in it.
    pub fn fixture(&self, name: &str) -> String {
        let host = self.folder.path().join("host");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/hosts")
            .join(name);
        let script = r#"set -e
cp -r "$1" "$2"
for path in etc/libvirt run/libvirt etc/virtfit run/virtfit var/lib/virtfit; do
  mkdir -p "$2/$path" "/$path"
  mount --bind "/$path" "$2/$path"
done"#;
        let host = host.to_string_lossy().into_owned();
        self.sh(script, &[&fixture.to_string_lossy(), &host]);
        host
    }

    /// Runs a script inside; its output. It must succeed.
    pub fn sh(&self, script: &str, words: &[&str]) -> String {
        let mut all = vec!["-c", script, "sh"];
        all.extend(words);
        let got = self.run("sh", &all, &[]);
        let stderr = String::from_utf8_lossy(&got.stderr);
        assert!(got.status.success(), "{script}: {stderr}");
        String::from_utf8_lossy(&got.stdout).trim().to_string()
    }

    /// Starts a daemon inside, its output appended to a file; its process id there.
    pub fn daemon(&self, program: &str, words: &[&str], log: &Path) -> u32 {
        let script = r#"log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 & echo $!"#;
        let mut all = vec![log.to_str().unwrap(), program];
        all.extend(words);
        self.sh(script, &all).parse().unwrap()
    }

    /// Sends a signal to a process inside.
    pub fn signal(&self, pid: u32, signal: &str) {
        self.sh(r#"kill -s "$1" "$2""#, &[signal, &pid.to_string()]);
    }

    /// Ends libvirtd and starts it again; guests run on.
    pub fn restart_libvirtd(&self) {
        self.sh(
            "pid=$(cat /run/libvirt/libvirtd.pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done
             libvirtd -d -p /run/libvirt/libvirtd.pid",
            &[],
        );
        let begin = Instant::now();
        while let Err(error) = self.virsh(&["version"]) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where images go, as QEMU sees it.
    pub fn images() -> &'static Path {
        Path::new("/var/lib/libvirt/images")
    }

    /// Puts a file among the images.
    pub fn image(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join("lib/images").join(name), bytes).unwrap();
    }

    /// Runs a program inside.
    pub fn run(&self, program: &str, words: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new("nsenter")
            .args(["-t", &self.init.to_string(), "--mount", "--pid", "--", program])
            .args(words)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let bytes = stdin.to_vec();
        let writer = std::thread::spawn(move || {
            let _ = pipe.write_all(&bytes);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Runs virsh; its output, or what it complained of.
    pub fn virsh(&self, words: &[&str]) -> Result<String, String> {
        let mut all = vec!["-q", "-c", "qemu:///system"];
        all.extend(words);
        let got = self.run("virsh", &all, &[]);
        if got.status.success() {
            Ok(String::from_utf8(got.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&got.stderr).trim().to_string())
        }
    }

    /// Defines a domain, checked against libvirt's schema.
    pub fn define(&self, xml: &str) -> Result<(), String> {
        let file = self.folder.path().join("define.xml");
        fs::write(&file, xml).unwrap();
        self.virsh(&["define", "--validate", &file.to_string_lossy()])
            .map(drop)
    }

    /// The definition as libvirt stores it, passwords included.
    pub fn dump(&self, guest: &str) -> String {
        self.virsh(&["dumpxml", "--inactive", "--security-info", guest])
            .unwrap()
    }

    /// The threads of a running guest.
    pub fn threads(&self, guest: &str) -> Vec<Thread> {
        let root = PathBuf::from(format!("/proc/{}/root", self.init));
        let pid = fs::read_to_string(root.join("run/libvirt/qemu").join(format!("{guest}.pid"))).unwrap();
        let process = root.join("proc").join(pid.trim());
        let mut out = Vec::new();
        for entry in fs::read_dir(process.join("task")).unwrap() {
            let path = entry.unwrap().path();
            // A worker thread may end between the two.
            let Ok(status) = fs::read_to_string(path.join("status")) else {
                continue;
            };
            let Ok(stat) = fs::read_to_string(path.join("stat")) else {
                continue;
            };
            out.push(Thread::read(&status, &stat));
        }
        out
    }

    /// KiB of huge pages a running guest has mapped.
    pub fn huge_kib(&self, guest: &str) -> u64 {
        let root = PathBuf::from(format!("/proc/{}/root", self.init));
        let pid = fs::read_to_string(root.join("run/libvirt/qemu").join(format!("{guest}.pid"))).unwrap();
        let status = fs::read_to_string(root.join("proc").join(pid.trim()).join("status")).unwrap();
        field(&status, "HugetlbPages")
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let _ = fs::write(PAGES, self.pages_before.trim());
    }
}

/// A thread as the kernel runs it.
#[derive(Debug)]
pub struct Thread {
    /// `CPU 0/KVM`, `IO iothread1`, `qemu-system-x86`.
    pub name: String,
    /// CPUs it may run on, as a cpulist.
    pub cpus: String,
    /// Scheduling policy (`sched.h`): 0 other, 1 fifo, 2 rr.
    pub policy: u32,
    /// Real-time priority.
    pub priority: u32,
}

impl Thread {
    fn read(status: &str, stat: &str) -> Self {
        // proc_pid_stat(5): after the name in brackets come state (3) and so on; rt_priority is 40, policy 41.
        let rest: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        Self {
            name: field(status, "Name"),
            cpus: field(status, "Cpus_allowed_list"),
            priority: rest[37].parse().unwrap(),
            policy: rest[38].parse().unwrap(),
        }
    }
}

fn field(status: &str, name: &str) -> String {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in:\n{status}"))
        .trim()
        .to_string()
}
