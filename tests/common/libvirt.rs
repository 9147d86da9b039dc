//! libvirt for the tests alone: daemons in a private mount and PID namespace, with their own
//! configuration, state and images. The machine's libvirt and its guests are not touched; when the
//! tests end, in whatever way, the kernel ends everything in the namespace.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

// A test with both has it twice.
#[allow(clippy::duplicate_mod)]
#[path = "feed.rs"]
mod feed;
#[path = "installed.rs"]
pub mod installed;

/// A start that failed for the kernel's sake: the loading of a BPF program was interrupted by a
/// signal (`bpf_check` returns EAGAIN then), and libvirt, unlike libbpf, does not load it again.
const BPF_INTERRUPTED: &str = "failed to load cgroup BPF prog: Resource temporarily unavailable";
/// libbpf's own number of attempts.
const BPF_ATTEMPTS: usize = 5;
const PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Script of process 1 of the namespace. It stays a shell, which reaps the QEMUs that libvirtd
/// leaves to it. The `cpu` controller of cgroup v1 is removed, because it gives new groups no
/// real-time budget.
///
/// `$d/root`, where there is one, becomes a host of its own below that folder: its CPUs, memory and
/// nodes are a fixture's, its libvirt, its processes and virtfit's files the real ones.
const INIT: &str = r#"set -e
d=$1
hostname "$2"
mkdir -p /dev/hugepages
for pair in etc/libvirt:etc run/libvirt:run var/lib/libvirt:lib var/log/libvirt:log var/cache/libvirt:cache \
  etc/virtfit:fit-etc run/virtfit:fit-run var/lib/virtfit:fit-lib; do
  mkdir -p "/${pair%%:*}" "$d/${pair##*:}"
  mount --bind "$d/${pair##*:}" "/${pair%%:*}"
  if [ -d "$d/root" ]; then
    mkdir -p "$d/root/${pair%%:*}"
    mount --bind "$d/${pair##*:}" "$d/root/${pair%%:*}"
  fi
done
if [ -d "$d/root" ]; then
  mkdir -p "$d/root/proc"
  mount --rbind /proc "$d/root/proc"
fi
if [ -n "$3" ]; then mount --bind "$3" /var/lib/libvirt/images; fi
if mountpoint -q /sys/fs/cgroup/cpu; then umount /sys/fs/cgroup/cpu; fi
mount -t hugetlbfs -o pagesize=2M none /dev/hugepages
PATH=/usr/sbin:/usr/bin:/sbin:/bin
virtlogd -p /run/libvirt/virtlogd.pid &
while :; do
  if [ ! -e "$d/hold" ]; then
    LD_PRELOAD=$4 HOOK_TIMES=$d/hook-times libvirtd -p /run/libvirt/libvirtd.pid &
    wait $! || true
  fi
  sleep 0.2
done
"#;

/// Daemons of libvirt; they end when the value is dropped.
pub struct Libvirt {
    unshare: Child,
    /// Process 1 of the namespace, by its number outside.
    init: u32,
    folder: tempfile::TempDir,
    pages_before: String,
}

/// Properties of a libvirt for tests.
#[derive(Debug, Clone, Default)]
pub struct Setup<'a> {
    /// Number of additional 2-MiB pages on the machine.
    pub pages: u64,
    /// Name of its host; empty: `virtfit-test`.
    pub hostname: &'a str,
    /// Folder of images, instead of one of its own.
    pub images: Option<&'a Path>,
    /// Policy of virtfit. With a policy the hook is installed.
    pub policy: Option<&'a str>,
    /// Library loaded before libvirtd's own. It finds a file to write to in `HOOK_TIMES`.
    pub preload: Option<&'a Path>,
    /// Fixture host whose CPUs, memory and nodes virtfit sees, e.g. `paper`.
    pub fixture: Option<&'a str>,
    /// True for a network of its own, instead of the machine's.
    pub network: bool,
}

impl Libvirt {
    /// Starts the daemons, with so many more 2-MiB pages on the machine.
    pub fn start(pages: u64) -> Self {
        Self::with(&Setup {
            pages,
            ..Setup::default()
        })
    }

    /// Starts the daemons.
    pub fn with(setup: &Setup<'_>) -> Self {
        let pages = setup.pages;
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
        // With a host UUID of its own, two of these can migrate guests to each other.
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
        let daemon = format!("auth_unix_rw = \"none\"\nhost_uuid = \"{}\"\n", uuid.trim());
        fs::write(path.join("etc/libvirtd.conf"), daemon).unwrap();
        if let Some(fixture) = setup.fixture {
            copy_host(fixture, &path.join("root"));
        }
        if let Some(policy) = setup.policy {
            fs::create_dir_all(path.join("fit-etc")).unwrap();
            fs::write(path.join("fit-etc/policy.toml"), policy).unwrap();
            install_hook(path);
        }
        fs::write(path.join("etc/virtlogd.conf"), "").unwrap();
        let pages_before = fs::read_to_string(PAGES).unwrap();
        let all = pages_before.trim().parse::<u64>().unwrap() + pages;
        fs::write(PAGES, all.to_string()).unwrap();
        let log = fs::File::create(path.join("daemons.log")).unwrap();
        let unshare = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--uts",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "--propagation",
                "private",
            ])
            .args(setup.network.then_some("--net"))
            .args(["sh", "-c", INIT, "sh"])
            .arg(path)
            .arg(if setup.hostname.is_empty() {
                "virtfit-test"
            } else {
                setup.hostname
            })
            .arg(setup.images.unwrap_or(Path::new("")))
            .arg(setup.preload.unwrap_or(Path::new("")))
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

    /// Returns the folder of images, as QEMU sees it.
    pub fn images() -> &'static Path {
        Path::new("/var/lib/libvirt/images")
    }

    /// Puts a file among the images.
    pub fn image(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join("lib/images").join(name), bytes).unwrap();
    }

    /// Runs a program inside.
    pub fn run(&self, program: &str, words: &[&str], stdin: &[u8]) -> Output {
        let mut command = Command::new("nsenter");
        command
            .args([
                "-t",
                &self.init.to_string(),
                "--mount",
                "--pid",
                "--net",
                "--",
                program,
            ])
            .args(words)
            .env("LC_ALL", "C.UTF-8");
        feed::feed(&mut command, stdin)
    }

    /// Runs a script inside, which must succeed; returns its output.
    pub fn sh(&self, script: &str, words: &[&str]) -> String {
        let mut all = vec!["-c", script, "sh"];
        all.extend(words);
        let got = self.run("sh", &all, &[]);
        let stderr = String::from_utf8_lossy(&got.stderr);
        assert!(got.status.success(), "{script}: {stderr}");
        String::from_utf8_lossy(&got.stdout).trim().to_string()
    }

    /// Ends libvirtd and starts it again; guests run on.
    pub fn restart_libvirtd(&self) {
        self.hold("TERM");
        self.release();
    }

    /// Returns the folder of its files, equal seen from outside and inside.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns its connection URI, valid anywhere on this machine.
    pub fn uri(&self) -> String {
        let socket = self.folder.path().join("run/libvirt-sock");
        format!("qemu+unix:///system?socket={}", socket.display())
    }

    /// Returns the path of a file of its host, as seen from outside: `run/virtfit`,
    /// `etc/libvirt/qemu`, …
    pub fn on_host(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init)).join(path.trim_start_matches('/'))
    }

    /// Returns the root at which virtfit finds its host, as seen from inside.
    pub fn root(&self) -> PathBuf {
        let root = self.folder.path().join("root");
        if root.is_dir() { root } else { PathBuf::from("/") }
    }

    /// Runs one of virtfit's programs inside, on its host.
    pub fn virtfit(&self, words: &[&str]) -> Output {
        let root = self.root();
        let uri = self.uri();
        let mut all = vec!["--root", root.to_str().unwrap(), "--connect", &uri];
        all.extend(words);
        self.run(env!("CARGO_BIN_EXE_virtfit"), &all, &[])
    }

    /// Starts `virtfitd` and waits until it answers hooks.
    pub fn virtfitd(&self) -> Daemon {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("virtfitd.log"))
            .unwrap();
        let nsenter = Command::new("nsenter")
            .args(["-t", &self.init.to_string(), "--mount", "--pid", "--"])
            .arg(env!("CARGO_BIN_EXE_virtfitd"))
            .arg("--root")
            .arg(self.root())
            .args(["--connect", &self.uri(), "-vv"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let id = nsenter.id();
        let mut daemon = Daemon { nsenter, pid: 0 };
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(20) {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            if let Some(pid) = children.split_whitespace().next() {
                daemon.pid = pid.parse().unwrap();
                let socket = self.on_host("run/virtfit/virtfitd.sock");
                if std::os::unix::net::UnixStream::connect(socket).is_ok() {
                    return daemon;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("virtfitd did not start:\n{}", self.log());
    }

    /// Returns the log of `virtfitd`.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("virtfitd.log")).unwrap_or_default()
    }

    /// Returns the logs of libvirt's daemons.
    pub fn libvirt_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("daemons.log")).unwrap_or_default()
    }

    /// Returns the number of libvirtd's process outside.
    pub fn libvirtd(&self) -> u32 {
        let id = self.init;
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let is_it = |pid: &&str| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "libvirtd")
        };
        children
            .split_whitespace()
            .find(is_it)
            .map_or(0, |pid| pid.parse().unwrap())
    }

    /// Ends libvirtd with a signal (guests run on) and keeps it away until [`Libvirt::release`].
    pub fn hold(&self, signal: &str) {
        fs::write(self.folder.path().join("hold"), "").unwrap();
        let pid = self.libvirtd();
        kill(pid, signal);
        let begin = Instant::now();
        while self.libvirtd() == pid && begin.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets libvirtd start again and waits until it serves.
    pub fn release(&self) {
        let _ = fs::remove_file(self.folder.path().join("hold"));
        let begin = Instant::now();
        while self.virsh(&["version"]).is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "{}",
                self.libvirt_log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs virsh; returns its output, or its complaint. A start whose BPF program was interrupted
    /// is tried again, and says so.
    pub fn virsh(&self, words: &[&str]) -> Result<String, String> {
        let uri = self.uri();
        let mut all = vec!["-q", "-c", &uri];
        all.extend(words);
        let mut got = self.run("virsh", &all, &[]);
        for _ in 1..BPF_ATTEMPTS {
            let said = String::from_utf8_lossy(&got.stderr);
            if got.status.success() || !said.contains(BPF_INTERRUPTED) {
                break;
            }
            let _ = writeln!(std::io::stderr(), "virsh {words:?}, once more: {}", said.trim());
            got = self.run("virsh", &all, &[]);
        }
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

    /// Returns the definition as libvirt stores it, passwords included.
    pub fn dump(&self, guest: &str) -> String {
        self.virsh(&["dumpxml", "--inactive", "--security-info", guest])
            .unwrap()
    }

    /// Lists the threads of a running guest.
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

    /// Returns the answer of `virtfit status --json`; exit 3 (a thread is elsewhere) is an answer,
    /// too.
    pub fn status(&self) -> virtfit::status::Status {
        let said = self.virtfit(&["status", "--json"]);
        serde_json::from_slice(&said.stdout).unwrap_or_else(|error| {
            let stderr = String::from_utf8_lossy(&said.stderr);
            panic!("{error}: {stderr}")
        })
    }

    /// Returns one guest of `virtfit status`.
    pub fn guest(&self, name: &str) -> virtfit::status::Guest {
        let all = self.status().guests;
        let found = all.into_iter().find(|guest| guest.name == name);
        found.unwrap_or_else(|| panic!("{name} is not in the status"))
    }

    /// Lists the files of virtfit's reservations.
    pub fn reservations(&self) -> Vec<String> {
        fs::read_dir(self.on_host("run/virtfit/reservations")).map_or_else(
            |_| Vec::new(),
            |entries| {
                entries
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect()
            },
        )
    }

    /// Waits until nothing is reserved, no guest is undecided and no CPU is held; no guest may run.
    pub fn is_clean(&self) {
        within(10, "nothing is held", || {
            let status = self.status();
            let held: Vec<_> = status.nodes.iter().filter(|node| !node.held.is_empty()).collect();
            let doubts = fs::read_dir(self.on_host("run/virtfit/undecided")).map_or(0, Iterator::count);
            let pinned = fs::read_dir(self.on_host("run/virtfit/pinned")).map_or(0, Iterator::count);
            let left = self.reservations();
            (left.is_empty() && held.is_empty() && doubts == 0 && pinned == 0)
                .then_some(())
                .ok_or_else(|| {
                    format!(
                        "{left:?}, {doubts} in doubt, {pinned} pinned, {held:?}\n{}",
                        self.log()
                    )
                })
        });
    }

    /// Returns the CPUs that a running guest's first vCPU may run on.
    pub fn first_vcpu(&self, guest: &str) -> String {
        let threads = self.threads(guest);
        threads
            .iter()
            .find(|thread| thread.name.starts_with("CPU 0"))
            .map_or_else(|| "no vCPU thread".into(), |thread| thread.cpus.clone())
    }

    /// Waits until a guest's first vCPU may run there alone.
    pub fn runs_on(&self, guest: &str, cpus: &str) {
        within(10, "it runs there", || {
            let now = self.first_vcpu(guest);
            (now == cpus)
                .then_some(())
                .ok_or_else(|| format!("{guest} on {now}, not {cpus}\n{}", self.log()))
        });
    }

    /// Waits until virtfit has tuned a definition.
    pub fn is_tuned(&self, guest: &str) {
        within(10, "tuned", || {
            let dump = self.dump(guest);
            let so = dump.contains("https://virtfit.dev/ns/domain/1");
            so.then_some(()).ok_or_else(|| format!("{dump}\n{}", self.log()))
        });
    }

    /// Puts a hook beside virtfit's, run after it: a shell script.
    pub fn other_hook(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let hook = self.on_host("etc/libvirt/hooks/qemu.d/60-other");
        fs::write(&hook, format!("#!/bin/sh\n{script}\nexit 0\n")).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Sends a signal to a guest's QEMU.
    pub fn signal_qemu(&self, guest: &str, signal: &str) {
        let pid = fs::read_to_string(self.on_host(&format!("run/libvirt/qemu/{guest}.pid"))).unwrap();
        self.sh(r#"kill -s "$1" "$2""#, &[signal, pid.trim()]);
    }

    /// Returns the KiB of huge pages a running guest has mapped.
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

/// Running `virtfitd`; it ends when the value is dropped.
pub struct Daemon {
    nsenter: Child,
    /// Process of the daemon, by the number outside.
    pub pid: u32,
}

impl Daemon {
    /// Sends a signal, e.g. `KILL`, `STOP`, `CONT`, `HUP`.
    pub fn signal(&self, signal: &str) {
        kill(self.pid, signal);
        if signal == "CONT" {
            // nsenter stops with its child, but does not go on with it.
            kill(self.nsenter.id(), signal);
        }
    }

    /// Returns a line of its `/proc/PID/status`, e.g. `VmRSS`.
    pub fn status(&self, name: &str) -> String {
        field(
            &fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap(),
            name,
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal("CONT");
        kill(self.pid, "KILL");
        let _ = self.nsenter.wait();
    }
}

/// Sends a signal; a process that is gone is fine.
pub fn kill(pid: u32, signal: &str) {
    if pid > 0 {
        let _ = Command::new("kill")
            .args([&format!("-{signal}"), &pid.to_string()])
            .stderr(Stdio::null())
            .status();
    }
}

/// Copies a fixture host's files, without its processes and guests.
fn copy_host(fixture: &str, to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/hosts")
        .join(fixture);
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from.join("sys"))
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
}

/// Installs the hook as packages do: a link where virtfit's host is `/`, otherwise a script that
/// names the host.
fn install_hook(path: &Path) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let hooks = path.join("etc/hooks/qemu.d");
    fs::create_dir_all(&hooks).unwrap();
    let hook = installed::hook();
    let place = hooks.join("50-virtfit");
    let root = path.join("root");
    if root.is_dir() {
        let script = format!(
            "#!/bin/sh\nVIRTFIT_ROOT={} exec {} \"$@\"\n",
            root.display(),
            hook.display()
        );
        fs::write(&place, script).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    } else {
        symlink(hook, place).unwrap();
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let _ = fs::write(PAGES, self.pages_before.trim());
    }
}

/// Thread as the kernel runs it.
#[derive(Debug)]
pub struct Thread {
    /// Name: `CPU 0/KVM`, `IO iothread1`, `qemu-system-x86`.
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
        // proc_pid_stat(5): after the name in brackets come state (3) and so on; rt_priority is 40,
        // policy 41.
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

/// Makes a guest of one vCPU that emulates its CPU and has nothing to boot: enough to have its
/// threads.
pub fn small(name: &str) -> String {
    sized(name, 1, 32)
}

/// Makes a guest as [`small`] does, of so many vCPUs and MiB.
pub fn sized(name: &str, vcpus: u32, mib: u64) -> String {
    let number = name
        .bytes()
        .fold(7u64, |sum, byte| (sum * 31 + u64::from(byte)) % 1_000_000_000_000);
    format!(
        "<domain type='qemu'>
  <name>{name}</name>
  <uuid>6d3f1a52-0000-4000-8000-{number:012}</uuid>
  <memory unit='MiB'>{mib}</memory>
  <vcpu>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
  </os>
  <features>
    <acpi/>
  </features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='virtio'/>
  </devices>
</domain>
"
    )
}

/// Lists the vCPU threads that may run on a single CPU: the CPU, and the guest. No CPU may be there
/// for two guests.
pub fn alone_on(libvirt: &Libvirt, guests: &[&str]) -> Vec<(String, String)> {
    let mut pinned = Vec::new();
    for guest in guests {
        for thread in libvirt.threads(guest) {
            if thread.name.starts_with("CPU ") && thread.cpus.parse::<u32>().is_ok() {
                pinned.push((thread.cpus, (*guest).to_string()));
            }
        }
    }
    pinned.sort();
    pinned
}

/// Waits until a condition holds; fails with the last obstacle otherwise.
pub fn within<T>(seconds: u64, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if begin.elapsed() > Duration::from_secs(seconds) => {
                panic!("not within {seconds} s: {what}: {last}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
