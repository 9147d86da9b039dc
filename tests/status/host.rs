//! Host in a folder of its own: the paper's server with the guests, policy and files of virtfit
//! that a test puts there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use virtfit::policy::profile::OnNoFit;
use virtfit::rewrite::{self, Head, Shape};
use virtfit::status::{Guest, Status};
use virtfit::types::cpulist;
use virtfit::types::ids::VcpuId;
use virtfit::types::reason::Basis;
use virtfit::types::setting::{Setting, Target, Value};
use virtfit::xml::Document;
use virtfit_hook::wire::{Question, Reply};

/// CPUs of the paper's server: `n` and `n + 16` are siblings; 0, 8, 16 and 24 are housekeeping.
pub const SETS: &str = "[host]\nhousekeeping = \"0,8,16,24\"\ndedicated = \"1-7,9-15,17-23,25-31\"\n\n";

/// Author of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// virtfit, which recorded the pin.
    Virtfit,
    /// An administrator.
    Hand,
}

/// Guest as a test describes it.
#[derive(Debug, Clone)]
pub struct Made {
    pub name: String,
    /// Pin of each vCPU in the XML, with its author; `None`: no pin.
    pub pins: Vec<Option<(String, By)>>,
    /// Mask of each vCPU's thread in the kernel.
    pub masks: Vec<String>,
    pub runs: bool,
}

impl Made {
    /// Makes a guest whose vCPUs are pinned by virtfit and are where their pins say.
    pub fn pinned(name: &str, cpus: &[&str]) -> Self {
        Self {
            name: name.into(),
            pins: cpus
                .iter()
                .map(|cpu| Some(((*cpu).into(), By::Virtfit)))
                .collect(),
            masks: cpus.iter().map(|cpu| (*cpu).into()).collect(),
            runs: true,
        }
    }

    /// Makes a guest of one vCPU without any pin.
    pub fn free(name: &str) -> Self {
        Self {
            name: name.into(),
            pins: vec![None],
            masks: vec!["0-31".into()],
            runs: true,
        }
    }

    /// Returns the process id of its QEMU.
    pub fn pid(&self) -> u32 {
        self.number() * 100
    }

    /// Returns its UUID.
    pub fn uuid(&self) -> String {
        format!("5a7e0000-0000-4000-8000-{:012}", self.number())
    }

    fn number(&self) -> u32 {
        let bytes = self.name.bytes();
        bytes.fold(7u32, |sum, byte| (sum * 31 + u32::from(byte)) % 90_000) + 1000
    }

    /// Returns its domain XML.
    pub fn xml(&self) -> String {
        let by_hand = self.pins.iter().enumerate().filter_map(|(vcpu, pin)| match pin {
            Some((cpus, By::Hand)) => Some(format!("<vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>")),
            _ => None,
        });
        let by_hand: String = by_hand.collect();
        let cputune = match by_hand.is_empty() {
            true => String::new(),
            false => format!("<cputune>{by_hand}</cputune>"),
        };
        let text = format!(
            "<domain type='qemu'>\n  <name>{}</name>\n  <uuid>{}</uuid>\n  \
             <memory unit='KiB'>65536</memory>\n  <vcpu>{}</vcpu>\n  {cputune}\n  \
             <os><type arch='x86_64' machine='pc'>hvm</type></os>\n</domain>\n",
            self.name,
            self.uuid(),
            self.pins.len()
        );
        let ours = self.pins.iter().enumerate().filter_map(|(vcpu, pin)| match pin {
            Some((cpus, By::Virtfit)) => Some(Setting {
                target: Target::VcpuPin(VcpuId(vcpu as u32)),
                value: Value::Cpus(cpulist::parse(cpus).unwrap()),
                why: Basis::ByProfile,
            }),
            _ => None,
        });
        let ours: Vec<Setting> = ours.collect();
        if ours.is_empty() {
            return text;
        }
        let head = Head {
            uuid: None,
            profile: "fit".into(),
            policy_digest: "0".into(),
            shape: Shape::default(),
            withheld: Default::default(),
            on_no_fit: OnNoFit::RunShared,
        };
        rewrite::apply(&Document::parse(&text).unwrap(), &ours, &head).unwrap()
    }
}

/// Host of a test.
pub struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    /// Makes the paper's server: the hook is installed, the policy has these rules, no guest is
    /// defined.
    pub fn new(rules: &str) -> Self {
        let host = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/paper");
        let copied = Command::new("cp")
            .arg("-a")
            .arg(from.join("sys"))
            .arg(from.join("proc"))
            .arg(host.path())
            .status();
        assert!(copied.unwrap().success());
        host.policy(rules);
        host.hook(0o755);
        host
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn put(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn remove(&self, path: &str) {
        let path = self.path().join(path);
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }

    pub fn policy(&self, rules: &str) {
        self.put("etc/virtfit/policy.toml", &format!("{SETS}{rules}"));
    }

    /// Removes everything but the machine: another host on the CPUs of this one.
    pub fn reset(&self) {
        for folder in ["etc", "run", "usr"] {
            self.remove(folder);
        }
        for entry in fs::read_dir(self.path().join("proc")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.parse::<u32>().is_ok() {
                self.remove(&format!("proc/{name}"));
            }
        }
    }

    /// Installs the hook with this mode.
    pub fn hook(&self, mode: u32) {
        let path = "etc/libvirt/hooks/qemu.d/50-virtfit";
        self.put(path, "#!/bin/sh\nexec virtfit-hook \"$@\"\n");
        fs::set_permissions(self.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Writes a guest's definition, and what a running guest has: a status file and threads.
    pub fn guest(&self, made: &Made) {
        self.define(made);
        if made.runs {
            self.run(made);
        }
    }

    pub fn define(&self, made: &Made) {
        self.put(&format!("etc/libvirt/qemu/{}.xml", made.name), &made.xml());
    }

    pub fn autostart(&self, name: &str) {
        let folder = self.path().join("etc/libvirt/qemu/autostart");
        fs::create_dir_all(&folder).unwrap();
        symlink(
            format!("/etc/libvirt/qemu/{name}.xml"),
            folder.join(format!("{name}.xml")),
        )
        .unwrap();
    }

    fn run(&self, made: &Made) {
        let pid = made.pid();
        let mut vcpus = String::new();
        for (vcpu, mask) in made.masks.iter().enumerate() {
            let tid = pid + 2 + vcpu as u32;
            vcpus.push_str(&format!("<vcpu id='{vcpu}' pid='{tid}'/>"));
            self.thread(pid, tid, &format!("CPU {vcpu}/TCG"), mask);
        }
        self.thread(pid, pid, "qemu-system-x86", "0,8,16,24");
        let live = made.xml().replace("<vcpu>", "<vcpu placement='static'>");
        let emulator = "<emulatorpin cpuset='0,8,16,24'/></cputune>";
        let live = live.replacen("</cputune>", emulator, 1);
        let status = format!(
            "<domstatus state='running' reason='booted' pid='{pid}'><vcpus>{vcpus}</vcpus>{live}</domstatus>"
        );
        self.put(&format!("run/libvirt/qemu/{}.xml", made.name), &status);
    }

    /// Gives a process a thread of this name and mask.
    pub fn thread(&self, pid: u32, tid: u32, name: &str, mask: &str) {
        let first = mask.split(['-', ',']).next().unwrap();
        let folder = format!("proc/{pid}/task/{tid}");
        let rest: Vec<String> = (4..=52)
            .map(|field| match field {
                22 => "5000".into(),
                39 => first.into(),
                _ => "0".into(),
            })
            .collect();
        let stat = format!("{tid} ({name}) S {}\n", rest.join(" "));
        self.put(&format!("{folder}/comm"), &format!("{name}\n"));
        self.put(
            &format!("{folder}/status"),
            &format!("Name:\t{name}\nCpus_allowed_list:\t{mask}\n"),
        );
        self.put(&format!("{folder}/stat"), &stat);
        if pid == tid {
            self.put(&format!("proc/{pid}/stat"), &stat);
        }
    }

    /// Answers every question with an empty reply, as a daemon does that is asked whether it is
    /// there.
    pub fn answer(&self) {
        let path = self.path().join("run/virtfit/virtfitd.sock");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let asked = Question::read(&mut std::io::BufReader::new(&stream));
                if asked.is_ok() {
                    let _ = Reply::default().write(&mut stream);
                }
            }
        });
    }

    /// Runs `virtfit`.
    pub fn virtfit(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_virtfit"))
            .arg("--root")
            .arg(self.path())
            .args(words)
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs `virtfit status --json`; returns its answer and exit code.
    pub fn status(&self) -> (Status, i32) {
        let output = self.virtfit(&["status", "--json"]);
        let status = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (status, output.status.code().unwrap())
    }
}

/// Lists the codes of the notes that are wrong, sorted.
pub fn wrong(notes: &[virtfit::status::Note]) -> Vec<String> {
    let mut codes: Vec<String> = notes.iter().filter(|note| note.wrong).map(code).collect();
    codes.sort();
    codes
}

/// Returns a note's code as programs see it.
pub fn code(note: &virtfit::status::Note) -> String {
    serde_json::to_value(note).unwrap()["code"]
        .as_str()
        .unwrap()
        .into()
}

/// Returns the guest of this name.
pub fn of<'s>(status: &'s Status, name: &str) -> &'s Guest {
    let found = status.guests.iter().find(|guest| guest.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in the status"))
}
