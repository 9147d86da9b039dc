//! Load of many guests that start at once, each through `virtfit-hook` as a process, beside a
//! daemon or without one.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant, SystemTime};

use virtfit::hostfs::HostFs;
use virtfit::ledger::reader;
use virtfit::policy::Policy;
use virtfit::types::ids::HostCpu;

#[path = "installed.rs"]
mod installed;

/// Options of a host with room for all guests of a load: where CPUs are few, none can be handed out
/// twice.
pub const LARGE: &str =
    "--packages 2 --nodes-per-package 4 --cores 64 --threads 2 --memory 64 --pages 2M=16384";

const POLICY: &str =
    "[host]\nreserved_memory = \"0\"\n\n[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n";

/// Folder of a made host, with programs beside each other.
pub struct Host {
    root: tempfile::TempDir,
    programs: tempfile::TempDir,
    daemon: Option<Child>,
}

/// Returns the environment that the daemon's unit gives it.
fn unit_environment() -> Vec<(&'static str, &'static str)> {
    let unit = include_str!("../../systemd/virtfitd.service");
    let lines = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
    lines
        .flat_map(str::split_whitespace)
        .filter_map(|pair| pair.split_once('='))
        .collect()
}

/// Outcome of one hook.
#[derive(Debug)]
pub struct Ran {
    pub guest: String,
    pub code: Option<i32>,
    pub stderr: String,
    pub took: Duration,
}

/// Outcome of a whole load.
pub struct Report {
    pub ran: Vec<Ran>,
    /// Time from the first start to the last answer.
    pub all: Duration,
    /// CPUs that more than one reservation has, with the guests.
    pub twice: Vec<(HostCpu, Vec<String>)>,
    /// CPUs that are reserved.
    pub reserved: usize,
}

impl Host {
    /// Makes a host with `fixtures/make-host` and these options.
    pub fn made(options: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let root = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let host = Self {
            root: root.unwrap(),
            programs: tempfile::tempdir().unwrap(),
            daemon: None,
        };
        let made = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/make-host"))
            .arg("--out")
            .arg(host.path())
            .args(options.split_whitespace())
            .status()
            .unwrap();
        assert!(made.success());
        fs::copy(installed::hook(), host.hook()).unwrap();
        fs::copy(
            env!("CARGO_BIN_EXE_virtfit"),
            host.programs.path().join("virtfit"),
        )
        .unwrap();
        host.write("etc/virtfit/policy.toml", POLICY);
        host.write(
            "proc/sys/kernel/random/boot_id",
            "8c1f6f0e-0000-4000-8000-00000000b001\n",
        );
        for folder in ["etc/libvirt/qemu/autostart", "run/libvirt/qemu", "run/virtfit"] {
            fs::create_dir_all(host.path().join(folder)).unwrap();
        }
        // The hooks' parent is this process: it stands for libvirt's daemon.
        let pid = std::process::id();
        let stat = format!("{pid} (libvirtd) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 5 0\n");
        host.write(&format!("proc/{pid}/stat"), &stat);
        host
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    pub fn hook(&self) -> PathBuf {
        self.programs.path().join("virtfit-hook")
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Starts the daemon below this root and waits until it answers. It has no libvirt.
    pub fn with_daemon(mut self) -> Self {
        let log = fs::File::create(self.log_path()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_virtfitd"))
            .arg("--root")
            .arg(self.path())
            .args(["--connect", "qemu+unix:///system?socket=/nowhere"])
            .envs(unit_environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(child);
        let until = Instant::now() + Duration::from_secs(60);
        while !self.log().contains("ready") {
            assert!(Instant::now() < until, "no daemon: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self
    }

    /// Ends the daemon.
    pub fn without_daemon(mut self) -> Self {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        self
    }

    /// Returns the process number of the daemon.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Waits for the end of the daemon; `None`: it goes on.
    pub fn daemon_ended(&mut self, most: Duration) -> Option<i32> {
        let until = Instant::now() + most;
        loop {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() || Instant::now() >= until {
                return ended.and_then(|status| status.code());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log_path(&self) -> PathBuf {
        self.programs.path().join("log")
    }

    /// Returns the daemon's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs one hook, and measures it from before its start to its end.
    pub fn run(&self, guest: &str, operation: &str, xml: &str) -> Ran {
        let sub = match operation {
            "release" => "end",
            _ => "begin",
        };
        let started = Instant::now();
        let mut child = Command::new(self.hook())
            .args([guest, operation, sub, "-"])
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("VIRTFIT_ROOT", self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(xml.as_bytes());
        let (mut stdout, mut stderr) = (Vec::new(), String::new());
        child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = child.wait().unwrap().code();
        Ran {
            guest: guest.into(),
            code,
            stderr,
            took: started.elapsed(),
        }
    }

    /// Starts `guests` different guests, `at_once` of them at any moment.
    pub fn start(&self, guests: usize, at_once: usize) -> Report {
        let (next, begin) = (AtomicUsize::new(0), Barrier::new(at_once + 1));
        let ran = Mutex::new(Vec::new());
        let since = Mutex::new(Instant::now());
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    begin.wait();
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= guests {
                            return;
                        }
                        let (name, xml) = guest(number);
                        let one = self.run(&name, "prepare", &xml);
                        ran.lock().unwrap().push(one);
                    }
                });
            }
            *since.lock().unwrap() = Instant::now();
            begin.wait();
        });
        let all = since.into_inner().unwrap().elapsed();
        let mut holders: BTreeMap<HostCpu, Vec<String>> = BTreeMap::new();
        for reservation in reader::read(&HostFs::new(self.path()), SystemTime::now(), &Policy::builtin())
            .unwrap()
            .reservations
        {
            for cpu in reservation.cpus.iter() {
                holders.entry(cpu).or_default().push(reservation.name.clone());
            }
        }
        let reserved = holders.len();
        holders.retain(|_, guests| guests.len() > 1);
        Report {
            ran: ran.into_inner().unwrap(),
            all,
            twice: holders.into_iter().collect(),
            reserved,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Report {
    /// Counts the hooks that could not decide.
    pub fn undecided(&self) -> usize {
        let undecided = |ran: &&Ran| ran.stderr.contains("nothing was changed");
        self.ran.iter().filter(undecided).count()
    }

    /// Counts the hooks that did not end with 0.
    pub fn failed(&self) -> usize {
        self.ran.iter().filter(|ran| ran.code != Some(0)).count()
    }

    /// Returns the times of all hooks, the shortest first.
    pub fn times(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.ran.iter().map(|ran| ran.took).collect();
        times.sort();
        times
    }

    /// Returns the time that this part (of 100) of the hooks did not exceed.
    pub fn percentile(&self, part: usize) -> Duration {
        let times = self.times();
        times[(times.len() - 1) * part / 100]
    }

    /// Words a load in one line, for people.
    pub fn line(&self, name: &str) -> String {
        let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e3);
        format!(
            "{name:32} {:5} guests, {:6.2} s in all; a hook: median {:>4} ms, 99 % within {:>4} ms, longest {:>4} ms; \
             undecided {:.1} %; {} CPUs reserved, {} twice",
            self.ran.len(),
            self.all.as_secs_f64(),
            ms(self.percentile(50)),
            ms(self.percentile(99)),
            ms(self.percentile(100)),
            self.undecided() as f64 * 100.0 / self.ran.len() as f64,
            self.reserved,
            self.twice.len(),
        )
    }
}

/// Makes the guest of this number: of 1 or 2 vCPUs, with an XML of its own.
pub fn guest(number: usize) -> (String, String) {
    let name = format!("load-{number:03}");
    let vcpus = 1 + number % 2;
    let xml = format!(
        "<domain type='kvm'>\n  <name>{name}</name>\n  <uuid>8c1f6f0e-0000-4000-8000-{number:012}</uuid>\n  \
         <memory unit='MiB'>{}</memory>\n  <vcpu>{vcpus}</vcpu>\n  <os><type arch='x86_64' machine='q35'>hvm</type></os>\n  \
         <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>\n</domain>\n",
        64 + number % 7
    );
    (name, xml)
}
