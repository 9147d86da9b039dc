//! Random guests on random hosts: hybrid ones, odd caches, held CPUs, and shapes that are kept.

use virtfit::host::Host;

use crate::asked::{Answer, Asked, guest, pins, synthetic};

/// Numbers from a seed, the same on every machine (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    fn below(&mut self, end: u32) -> u32 {
        (self.next() % u64::from(end)) as u32
    }

    /// Returns true once in so many times.
    fn once_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u32) as usize]
    }
}

/// Makes hosts of all kinds, small enough to be quick.
pub(crate) fn hosts() -> Vec<Host> {
    let mut hosts = Vec::new();
    for (packages, nodes, caches, cores, threads) in [
        (1, 1, 1, 8, 2),
        (1, 1, 2, 4, 2),
        (1, 1, 3, 3, 1),
        (1, 2, 1, 4, 2),
        (1, 2, 2, 3, 2),
        (1, 1, 2, 3, 4),
        (2, 1, 1, 6, 2),
        (2, 1, 2, 3, 2),
        (2, 2, 1, 3, 2),
        (2, 2, 2, 2, 1),
        (2, 1, 1, 8, 1),
        (4, 1, 1, 3, 2),
    ] {
        let line = format!(
            "pack:{packages} numa:{nodes}(memory=34359738368) l3:{caches}(size=8388608) core:{cores} pu:{threads}"
        );
        let host = synthetic(&line);
        // Every third core counts to the cache before its own.
        let mut odd = host.clone();
        for at in (2..odd.cores.len()).step_by(3) {
            let before = odd.cores[at - 1].clone();
            if before.node == odd.cores[at].node {
                odd.cores[at].llc = before.llc;
            }
        }
        // The last third of the cores is slow and has one thread each.
        let mut hybrid = host.clone();
        let slow = hybrid.cores.len() * 2 / 3;
        for core in &mut hybrid.cores[slow..] {
            core.kind = 1;
        }
        let mut arm = host.clone();
        arm.arch = "aarch64".into();
        hosts.extend([host, odd, hybrid, arm]);
    }
    hosts
}

/// Question to the engine, and what it is asked again about the answer.
pub(crate) struct Question {
    pub asked: Asked,
    pub keys: String,
    xml: String,
    /// CPUs that others hold when it is asked again.
    later: String,
}

impl Question {
    /// Asks, and asks again about the shape that was given when other CPUs are held.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        let first = self.asked.decide(&self.keys, &self.xml);
        let again = Asked::of(self.asked.host.clone()).held(&self.later);
        let second = again.decide(&self.keys, first.text());
        vec![first, second]
    }
}

/// Makes the question of a seed.
pub(crate) fn question(seed: u64, hosts: &[Host]) -> Question {
    let mut dice = Dice(seed);
    let host = hosts[dice.below(hosts.len() as u32) as usize].clone();
    let cpus: Vec<u32> = host.online.iter().map(|cpu| cpu.0).collect();
    let vcpus = 1 + dice.below(cpus.len() as u32 * 3 / 4);
    let arm = host.arch == "aarch64";
    let mut held = || {
        let one_in = 2 + dice.below(6);
        let held = cpus.iter().filter(|_| dice.once_in(one_in)).map(u32::to_string);
        held.collect::<Vec<_>>().join(",")
    };
    let (now, later) = (held(), held());
    let keys = keys(&mut dice);
    let cpu = cpu(&mut dice, vcpus);
    let inner = match dice.once_in(6) {
        true => {
            let pin = |dice: &mut Dice| match dice.once_in(3) {
                true => "-".to_string(),
                false => cpus[dice.below(cpus.len() as u32) as usize].to_string(),
            };
            let list: Vec<String> = (0..vcpus).map(|_| pin(&mut dice)).collect();
            pins(&list.join(" "))
        }
        false => String::new(),
    };
    let devices = match dice.once_in(4) && !arm {
        true => "<iommu model='intel'><driver intremap='on' eim='on'/></iommu>",
        false => "",
    };
    let mut xml = guest(vcpus, u64::from(vcpus) * 64, &inner, &cpu, devices);
    if arm {
        xml = xml.replace(
            "arch='x86_64' machine='pc-q35-7.2'",
            "arch='aarch64' machine='virt-7.2'",
        );
    }
    let mut asked = Asked::of(host);
    if !dice.once_in(3) && !now.is_empty() {
        asked = asked.held(&now);
    }
    Question {
        asked,
        keys,
        xml,
        later,
    }
}

fn keys(dice: &mut Dice) -> String {
    let mut keys = Vec::new();
    for (key, values) in [
        ("smt", &["\"prefer\"", "\"require\"", "\"isolate\""][..]),
        ("core_kind", &["\"fast\"", "\"slow\"", "\"any\""]),
        ("max_sockets", &["1", "2", "3"]),
        ("max_nodes", &["1", "2", "4"]),
        ("max_llcs", &["1", "2", "3"]),
        ("numa", &["\"keep\"", "\"off\""]),
        ("guest_visible", &["\"keep\""]),
        ("on_existing", &["\"override\""]),
    ] {
        if dice.once_in(4) {
            keys.push(format!("{key} = {}", dice.of(values)));
        }
    }
    keys.join("\n")
}

/// Makes a `<cpu>` with a topology or cells written by hand, or neither.
fn cpu(dice: &mut Dice, vcpus: u32) -> String {
    let topology = match dice.below(3) {
        0 => {
            let threads = [1, 2, 3][dice.below(3) as usize];
            let dies = 1 + dice.below(2);
            let sockets = 1 + dice.below(2);
            let cores = vcpus / (threads * dies * sockets);
            match cores * threads * dies * sockets == vcpus {
                true => format!(
                    "<topology sockets='{sockets}' dies='{dies}' cores='{cores}' threads='{threads}'/>"
                ),
                false => String::new(),
            }
        }
        1 => format!("<topology sockets='{vcpus}' dies='1' cores='1' threads='1'/>"),
        _ => String::new(),
    };
    let numa = match dice.below(4) {
        // One run, or turns.
        kind @ (0 | 1) if vcpus > 1 => {
            let split = 1 + dice.below(vcpus - 1);
            let in_0 = |vcpu: &u32| {
                if kind == 0 {
                    *vcpu < split
                } else {
                    vcpu.is_multiple_of(2)
                }
            };
            let list = |zero: bool| {
                let members = (0..vcpus).filter(|vcpu| in_0(vcpu) == zero);
                members.map(|vcpu| vcpu.to_string()).collect::<Vec<_>>()
            };
            let cell = |id: u32, members: &[String]| {
                let kib = members.len() * 64 * 1024;
                format!(
                    "<cell id='{id}' cpus='{}' memory='{kib}' unit='KiB'/>",
                    members.join(",")
                )
            };
            format!("<numa>{}{}</numa>", cell(0, &list(true)), cell(1, &list(false)))
        }
        _ => String::new(),
    };
    format!("<cpu>{topology}{numa}</cpu>")
}
