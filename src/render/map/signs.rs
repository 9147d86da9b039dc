//! Sign of each CPU of a map: letters of guests, marks of threads, roles; and what each means.

use std::collections::BTreeMap;

use crate::map::{Cpu, Guest, Picture, Role};
use crate::render::layout::Paint;
use crate::render::map::cpus;
use crate::types::guest_thread::vcpu_of_role;

/// Sign of one CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sign {
    /// Sign of two columns or more.
    pub text: String,
    /// Sign of one column.
    pub short: char,
    /// Look of the sign; that of one column is bad news where it is `!`.
    pub paint: Paint,
    /// Meanings of it, for the legend.
    pub meanings: Vec<Meaning>,
    /// Letter of the guest that the sign names.
    pub letter: Option<String>,
}

/// Meaning of a part of a sign, in the order of the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Meaning {
    Free,
    Claimed,
    Housekeeping,
    Shared,
    Floating,
    Held,
    Vcpu,
    Emulator,
    Iothread,
    MarkFloating,
    MarkEmulator,
    MarkIothread,
    Several,
    Withheld,
    Isolated,
    InNoSet,
    NotForGuests,
    Wrong,
}

impl Meaning {
    /// Returns the sign of two columns, the one of one column where there is one, and the words.
    fn entry(self) -> (&'static str, Option<&'static str>, &'static str) {
        match self {
            Self::Free => ("..", Some("."), "free"),
            Self::Claimed => (":A", Some(":"), "free, claimed by guest A's definition"),
            Self::Housekeeping => ("##", Some("#"), "housekeeping"),
            Self::Shared => ("==", Some("="), "shared"),
            Self::Floating => ("~A", Some("~"), "guest A's vCPUs float here"),
            Self::Held => ("AA", Some("A"), "held by guest A"),
            Self::Vcpu => ("A0", None, "its vCPU 0"),
            Self::Emulator => ("Ae", None, "its emulator threads"),
            Self::Iothread => ("Ai1", None, "its iothread 1"),
            Self::MarkFloating => ("#~", None, "vCPUs float on housekeeping"),
            Self::MarkEmulator => ("#e", None, "emulator threads there"),
            Self::MarkIothread => ("#i", None, "iothreads there"),
            Self::Several => ("+", None, "more than one thread"),
            Self::Withheld => ("A-", Some("-"), "withheld on guest A's account"),
            Self::Isolated => ("%%", Some("%"), "isolated, in no set"),
            Self::InNoSet => ("__", Some("_"), "in no set"),
            Self::NotForGuests => ("//", Some("/"), "not allowed to guests (machine.slice)"),
            Self::Wrong => ("!", Some("!"), "threads that should not be here are, or may be"),
        }
    }
}

/// Returns the legend of a picture's signs: each meaning with its sign and words. It names the
/// first letter that has that meaning in the picture.
pub(super) fn legend(picture: &Picture, short: bool) -> Vec<(Meaning, String, String)> {
    let mut used: BTreeMap<Meaning, Option<String>> = BTreeMap::new();
    for sign in cpus(picture).map(|cpu| sign(cpu, picture)) {
        for meaning in sign.meanings {
            let letter = used.entry(meaning).or_default();
            let first = [letter.clone(), sign.letter.clone()];
            *letter = first.into_iter().flatten().min();
        }
    }
    let holder = used.get(&Meaning::Held).cloned().flatten();
    let entries = used.into_iter().filter_map(|(meaning, letter)| {
        let (text, one, words) = meaning.entry();
        let text = if short { one? } else { text };
        // Signs of threads go on about the holder, where there is one.
        let of_threads = matches!(meaning, Meaning::Vcpu | Meaning::Emulator | Meaning::Iothread);
        let (letter, words) = match (&holder, of_threads) {
            (Some(holder), true) => (Some(holder.clone()), words.to_string()),
            (None, true) => (letter, words.replace("its", "guest A's")),
            (_, false) => (letter, words.to_string()),
        };
        let letter = letter.unwrap_or_else(|| "A".into());
        let words = words.replace("guest A", &format!("guest {letter}"));
        Some((meaning, text.replace('A', &letter), words))
    });
    entries.collect()
}

/// Decides the sign of a CPU.
pub(super) fn sign(cpu: &Cpu, picture: &Picture) -> Sign {
    let mut sign = of_threads(cpu, picture).unwrap_or_else(|| of_role(cpu, picture));
    if is_wrong(cpu) {
        sign.text.push('!');
        sign.short = '!';
        if !matches!(sign.paint, Paint::Guest(_)) {
            sign.paint = Paint::Bad;
        }
        sign.meanings.push(Meaning::Wrong);
    }
    sign
}

/// Returns whether threads that should not be on a CPU ran there last, or, where a guest holds it,
/// those of another may.
pub(super) fn is_wrong(cpu: &Cpu) -> bool {
    let stranger = |at: &usize| !cpu.guests.contains(at);
    let held = cpu.role == Role::Held;
    !cpu.astray.is_empty() || held && (cpu.guests.len() > 1 || cpu.floating.iter().any(stranger))
}

/// Returns the sign of a CPU with threads that have their place on it; housekeeping CPUs have marks
/// for emulator threads and iothreads instead.
fn of_threads(cpu: &Cpu, picture: &Picture) -> Option<Sign> {
    let vcpus = || {
        cpu.threads
            .iter()
            .filter(|thread| vcpu_of_role(&thread.role).is_some())
    };
    let others = || cpu.threads.iter().filter(|_| cpu.role != Role::Housekeeping);
    let first = vcpus().next().or_else(|| others().next())?;
    let guest = picture.guests.get(first.guest)?;
    let (mark, meaning) = match first.role.split_once(' ') {
        Some(("vcpu", number)) => (number.to_string(), Meaning::Vcpu),
        Some((_, number)) => (format!("i{number}"), Meaning::Iothread),
        None => ("e".to_string(), Meaning::Emulator),
    };
    let mut text = format!("{}{mark}", guest.letter);
    let mut meanings = vec![meaning];
    if cpu.role == Role::Held && cpu.guests.contains(&first.guest) {
        meanings.insert(0, Meaning::Held);
    }
    if vcpus().count() > 1 {
        text.push('+');
        meanings.push(Meaning::Several);
    }
    Some(Sign {
        text,
        short: short(guest),
        paint: Paint::Guest(guest.color),
        meanings,
        letter: Some(guest.letter.clone()),
    })
}

fn of_role(cpu: &Cpu, picture: &Picture) -> Sign {
    let guest = |all: &[usize]| all.first().and_then(|at| picture.guests.get(*at));
    let plain = |text: &str, short: char, meaning: Meaning| Sign {
        text: text.into(),
        short,
        paint: Paint::Plain,
        meanings: vec![meaning],
        letter: None,
    };
    let several = |it: &Guest, text: &str, short: char, meaning: Meaning| Sign {
        letter: Some(it.letter.clone()),
        ..plain(text, short, meaning)
    };
    let of = |guest: &Guest, text: String, short: char, meaning: Meaning| Sign {
        text,
        short,
        paint: Paint::Guest(guest.color),
        meanings: vec![meaning],
        letter: Some(guest.letter.clone()),
    };
    match (cpu.role, guest(&cpu.guests)) {
        (Role::Held, Some(it)) => return of(it, it.letter.repeat(2), short(it), Meaning::Held),
        (Role::Withheld, Some(it)) => return of(it, format!("{}-", it.letter), '-', Meaning::Withheld),
        (Role::Housekeeping, _) => return housekeeping(cpu),
        _ => {}
    }
    // Threads that float come before what a definition claims, and both before the bare role.
    match (cpu.floating.as_slice(), guest(&cpu.floating)) {
        ([_], Some(it)) => return of(it, format!("~{}", it.letter), '~', Meaning::Floating),
        (_, Some(it)) => return several(it, "~~", '~', Meaning::Floating),
        _ => {}
    }
    match (cpu.claimed_by.as_slice(), guest(&cpu.claimed_by)) {
        ([_], Some(it)) => return of(it, format!(":{}", it.letter), ':', Meaning::Claimed),
        (_, Some(it)) => return several(it, "::", ':', Meaning::Claimed),
        _ => {}
    }
    match cpu.role {
        Role::Isolated => plain("%%", '%', Meaning::Isolated),
        Role::NotForGuests => plain("//", '/', Meaning::NotForGuests),
        Role::Shared => plain("==", '=', Meaning::Shared),
        Role::InNoSet => plain("__", '_', Meaning::InNoSet),
        _ => plain("..", '.', Meaning::Free),
    }
}

/// Returns the sign of a housekeeping CPU, with a mark for each kind of thread on it.
fn housekeeping(cpu: &Cpu) -> Sign {
    let has = |kind: &str| cpu.threads.iter().any(|thread| thread.role.starts_with(kind));
    let marks = [
        ('~', !cpu.floating.is_empty(), Meaning::MarkFloating),
        ('e', has("emulator"), Meaning::MarkEmulator),
        ('i', has("iothread"), Meaning::MarkIothread),
    ];
    let mut text = String::from("#");
    let mut meanings = vec![Meaning::Housekeeping];
    for (mark, there, meaning) in marks {
        if there {
            text.push(mark);
            meanings.push(meaning);
        }
    }
    if text.len() == 1 {
        text.push('#');
    }
    Sign {
        text,
        short: '#',
        paint: Paint::Dim,
        meanings,
        letter: None,
    }
}

fn short(guest: &Guest) -> char {
    guest.letter.chars().next().unwrap_or('*')
}
