//! Signs: which one each CPU of the host gets in the picture, and what each means.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::Host;
use crate::ledger::Taken;
use crate::types::ids::HostCpu;
use crate::types::idset::CpuSet;
use crate::types::plan::Placement;

use crate::render::layout::Paint;

/// Letters for guests that hold CPUs, in order of use. The small letters that the planned guest
/// uses (`e`, `i`, `v`) are not among them.
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdfghjklmnopqrstuwxyz";
/// Sign of guests beyond the last letter.
const MANY: char = '*';

/// Sign of one CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sign {
    pub text: String,
    pub paint: Paint,
}

/// Signs of all CPUs.
#[derive(Debug)]
pub(crate) struct Signs {
    by_cpu: BTreeMap<HostCpu, Sign>,
    /// Columns of the widest sign, at least 2.
    pub columns: usize,
    /// Guests that hold CPUs: sign and name, in the order of their first CPU.
    pub guests: Vec<(char, String)>,
    used: BTreeSet<Meaning>,
}

/// Meaning of a sign, in the order of the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    Free,
    Claimed,
    Housekeeping,
    Vcpu,
    Floating,
    FloatingOnHousekeeping,
    Emulator,
    Iothread,
    Withheld,
    NotForGuests,
    Twice,
    Collision,
}

impl Meaning {
    fn entry(self) -> (&'static str, &'static str) {
        match self {
            Self::Free => ("..", "free"),
            Self::Claimed => ("::", "free, claimed by a definition"),
            Self::Housekeeping => ("##", "housekeeping"),
            Self::Vcpu => ("vN", "vCPU N"),
            Self::Floating => ("~~", "its vCPUs float here"),
            Self::FloatingOnHousekeeping => ("~#", "they float on housekeeping"),
            Self::Emulator => ("e", "its emulator threads"),
            Self::Iothread => ("iN", "iothread N"),
            Self::Withheld => ("v-", "withheld from others for it"),
            Self::NotForGuests => ("--", "not allowed to guests (machine.slice)"),
            Self::Twice => ("+", "more than one of its threads"),
            Self::Collision => ("!", "held by another guest, too"),
        }
    }
}

impl Signs {
    /// Decides all signs. `placement` is the planned one, `None` where nothing is planned.
    pub(crate) fn new(
        host: &Host,
        housekeeping: &CpuSet,
        taken: &Taken,
        placement: Option<&Placement>,
    ) -> Self {
        let mut signs = Self {
            by_cpu: BTreeMap::new(),
            columns: 2,
            guests: Vec::new(),
            used: BTreeSet::new(),
        };
        // Letters first: they go to guests in the order of their CPUs.
        let mut letters = LETTERS.chars();
        let mut letter_of: BTreeMap<&str, char> = BTreeMap::new();
        for name in taken.cpus.values() {
            if !letter_of.contains_key(name.as_str()) {
                let letter = letters.next().unwrap_or(MANY);
                letter_of.insert(name, letter);
                signs.guests.push((letter, name.clone()));
            }
        }
        let planned = placement
            .map(|placement| threads(placement, housekeeping))
            .unwrap_or_default();
        let floats = placement.map(Placement::floating).unwrap_or_default();
        // The first meaning that applies is shown: the planned guest before holders, holders before
        // sets.
        for cpu in host.cores.iter().flat_map(|core| core.cpus.iter().copied()) {
            let letter = taken
                .cpus
                .get(&cpu)
                .and_then(|name| letter_of.get(name.as_str()))
                .copied();
            let (text, paint) = if let Some(thread) = planned.get(&cpu) {
                signs.used.insert(thread.kind);
                let mut text = thread.text.clone();
                if thread.more {
                    signs.used.insert(Meaning::Twice);
                    text.push('+');
                }
                if letter.is_some() {
                    signs.used.insert(Meaning::Collision);
                    text.push('!');
                }
                (text, Paint::Own)
            } else if floats.contains(cpu) {
                if housekeeping.contains(cpu) {
                    signs.used.insert(Meaning::FloatingOnHousekeeping);
                    ("~#".to_string(), Paint::Own)
                } else if let Some(letter) = letter {
                    signs.used.insert(Meaning::Floating);
                    signs.used.insert(Meaning::Collision);
                    (format!("~{letter}!"), Paint::Bad)
                } else {
                    signs.used.insert(Meaning::Floating);
                    ("~~".to_string(), Paint::Own)
                }
            } else if let Some(letter) = letter {
                (letter.to_string().repeat(2), Paint::Other)
            } else if placement.is_some_and(|placement| placement.withheld.contains(cpu)) {
                signs.used.insert(Meaning::Withheld);
                ("v-".to_string(), Paint::Own)
            } else if housekeeping.contains(cpu) {
                signs.used.insert(Meaning::Housekeeping);
                ("##".to_string(), Paint::Dim)
            } else if host
                .guest_cpus
                .as_ref()
                .is_some_and(|allowed| !allowed.contains(cpu))
            {
                signs.used.insert(Meaning::NotForGuests);
                ("--".to_string(), Paint::Dim)
            } else if taken.claimed_autostart.contains(cpu) || taken.claimed_other.contains(cpu) {
                signs.used.insert(Meaning::Claimed);
                ("::".to_string(), Paint::Plain)
            } else {
                signs.used.insert(Meaning::Free);
                ("..".to_string(), Paint::Plain)
            };
            signs.columns = signs.columns.max(text.len());
            signs.by_cpu.insert(cpu, Sign { text, paint });
        }
        signs
    }

    /// Returns the sign of a CPU; `None` for one the host does not list.
    pub(crate) fn get(&self, cpu: HostCpu) -> Option<&Sign> {
        self.by_cpu.get(&cpu)
    }

    /// Lists sign and meaning of all that is used, then the guests.
    pub(crate) fn legend(&self) -> Vec<(String, String)> {
        let mut out: Vec<(String, String)> = self
            .used
            .iter()
            .map(|meaning| meaning.entry())
            .map(|(sign, text)| (sign.to_string(), text.to_string()))
            .collect();
        let mut many = 0;
        for (letter, name) in &self.guests {
            if *letter == MANY {
                many += 1;
            } else {
                out.push((letter.to_string().repeat(2), name.clone()));
            }
        }
        if many > 0 {
            out.push((MANY.to_string().repeat(2), format!("{many} more guests")));
        }
        out
    }
}

/// Thread of the planned guest on a CPU of its own.
struct Thread {
    kind: Meaning,
    text: String,
    more: bool,
}

/// Lists the planned guest's threads that have a single CPU on which none floats: all vCPUs, and
/// emulator threads and iothreads outside housekeeping.
fn threads(placement: &Placement, housekeeping: &CpuSet) -> BTreeMap<HostCpu, Thread> {
    let mut out: BTreeMap<HostCpu, Thread> = BTreeMap::new();
    let floating = placement.floating();
    let mut put = |cpus: &CpuSet, kind: Meaning, text: String| {
        if cpus.len() != 1 || cpus.is_subset(&floating) {
            return;
        }
        let Some(cpu) = cpus.first() else { return };
        if kind != Meaning::Vcpu && housekeeping.contains(cpu) {
            return;
        }
        out.entry(cpu)
            .and_modify(|thread| thread.more = true)
            .or_insert(Thread {
                kind,
                text,
                more: false,
            });
    };
    for (vcpu, cpus) in &placement.vcpus {
        put(cpus, Meaning::Vcpu, format!("v{vcpu}"));
    }
    put(&placement.emulator, Meaning::Emulator, "e".to_string());
    for (iothread, cpus) in &placement.iothreads {
        put(cpus, Meaning::Iothread, format!("i{iothread}"));
    }
    out
}
