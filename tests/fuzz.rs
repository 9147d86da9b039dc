//! Inputs that are almost right, by the thousand: none may cause a panic or a hang, and everything
//! written can be taken back.
//!
//! Starting from the fixtures, inputs are cut, doubled, exchanged and nested; an input with a new
//! answer joins the starting ones. The seed is fixed, so a run repeats itself as far as its time
//! allows. `VIRTFIT_FUZZ_SECONDS` is the time a target gets (default 2), `VIRTFIT_FUZZ_SEED`
//! another seed. A failing input is made smaller, printed, and kept below `target/fuzz/`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub
)]

mod common;
#[path = "cost/meter.rs"]
mod meter;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::{Random, mutate};

/// Time of this thread that an input may cost: a fixed part, and a part for each byte, unless
/// something is worse than linear. A build without optimisation is about 15 times slower.
const COST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1500 } else { 150 });
const COST_OF_BYTE: Duration = Duration::from_micros(if cfg!(debug_assertions) { 75 } else { 5 });
/// Largest number of inputs to start from.
const MOST: usize = 3_000;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

/// Reads the files with these endings below `fixtures/`.
fn fixtures(endings: &[&str]) -> Vec<Vec<u8>> {
    fn walk(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        for path in paths {
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() && !path.ends_with("hosts") {
                walk(&path, endings, found);
            } else if kind.is_file()
                && endings
                    .iter()
                    .any(|ending| path.to_string_lossy().ends_with(ending))
            {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"),
        endings,
        &mut found,
    );
    let texts: BTreeSet<Vec<u8>> = found.iter().map(|path| fs::read(path).unwrap()).collect();
    texts.into_iter().filter(|text| text.len() <= 32 * 1024).collect()
}

/// Inputs that once failed.
const REGRESSIONS: &[&[u8]] = &[
    b"\xef\xbb\xbf\xef\xbb\xbf<domain/>",
    b"0^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^:1",
    b"<domain type='kvm'><name>a</name><memory>1</memory><vcpu>1</vcpu><os><type>hvm</type></os>\
      <cpu mode='unknown' check='none' migratable='off'/></domain>",
];

/// Fuzzes one target until its time is up.
fn fuzz(name: &str, mut corpus: Vec<Vec<u8>>, words: &[&str], target: impl Fn(&[u8]) -> String) {
    let mut random = Random::new(setting("VIRTFIT_FUZZ_SEED", 1));
    let until = Instant::now() + Duration::from_secs(setting("VIRTFIT_FUZZ_SECONDS", 2));
    corpus.push(Vec::new());
    corpus.extend(REGRESSIONS.iter().map(|input| input.to_vec()));
    let mut answers = BTreeSet::new();
    for input in &corpus {
        answers.insert(answer(name, input, &target));
    }
    let mut tried = corpus.len();
    while Instant::now() < until {
        let input = mutate(&mut random, &corpus, words);
        let fresh = answers.insert(answer(name, &input, &target));
        if fresh && corpus.len() < MOST {
            corpus.push(input);
        }
        tried += 1;
    }
    println!("{name}: {tried} inputs, {} kinds of answers", answers.len());
}

/// Returns the target's answer without numbers and names, so that alike answers are equal.
fn answer(name: &str, input: &[u8], target: &impl Fn(&[u8]) -> String) -> String {
    virtfit::panics::let_through();
    let start = meter::now();
    let result = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    let took = meter::now().saturating_sub(start);
    let Ok(text) = result else {
        failed(name, input, target)
    };
    let most = COST + COST_OF_BYTE * u32::try_from(input.len()).unwrap();
    if took > most {
        panic!(
            "{name}: took {took:?} for {} bytes, more than {most:?}, kept as {}",
            input.len(),
            keep(name, input).display()
        );
    }
    let quoted = text.find('\'').zip(text.rfind('\''));
    let (head, tail) = quoted.map_or((&text[..], ""), |(from, to)| (&text[..from], &text[to..]));
    let plain = head.chars().chain(tail.chars()).filter(|c| !c.is_ascii_digit());
    plain.take(80).collect()
}

fn failed(name: &str, input: &[u8], target: &impl Fn(&[u8]) -> String) -> ! {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let fails = |input: &[u8]| panic::catch_unwind(AssertUnwindSafe(|| target(input))).is_err();
    let small = shrink(input, &fails);
    panic::set_hook(hook);
    let path = keep(name, &small);
    eprintln!(
        "{name}: this input fails, kept as {}:\n{}",
        path.display(),
        String::from_utf8_lossy(&small)
    );
    target(&small);
    panic!("{name}: {} fails, but not each time", path.display());
}

/// Takes out of the input everything it also fails without.
fn shrink(input: &[u8], fails: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let until = Instant::now() + Duration::from_secs(20);
    let mut small = input.to_vec();
    let mut size = small.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < small.len() && Instant::now() < until {
            let mut less = small.clone();
            less.drain(at..(at + size).min(small.len()));
            if fails(&less) {
                small = less;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    small
}

fn keep(name: &str, input: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    fs::create_dir_all(&folder).unwrap();
    let sum = input.iter().fold(0u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    let path = folder.join(format!("{name}-{sum:016x}"));
    fs::write(&path, input).unwrap();
    path
}

const XML: &[&str] = &[
    "<",
    ">",
    "/>",
    "</",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?",
    "?>",
    "<?xml version='1.0' encoding='UTF-8'?>",
    "&amp;",
    "&lt;",
    "&#0;",
    "&#x10ffff;",
    "&#xd800;",
    "&nbsp;",
    "&",
    "<!DOCTYPE domain>",
    "\u{feff}",
    "\r\n",
    "\0",
    "\u{1}",
    "=",
    "'",
    "\"",
    " xmlns='urn:x'",
    " xmlns:v='https://virtfit.dev/ns/domain/1'",
    " xmlns=''",
    "<domain type='kvm'>",
    "</domain>",
    "<metadata>",
    "</metadata>",
    "<metadata/>",
    "<request xmlns='https://virtfit.dev/ns/request/1' profile='isolated'/>",
    "<cputune>",
    "</cputune>",
    "<cputune/>",
    "<vcpupin vcpu='0' cpuset='1'/>",
    "<emulatorpin cpuset='0,^0'/>",
    "<vcpu cpuset='0-3'>4</vcpu>",
    "<vcpu placement='auto'>2</vcpu>",
    "<iothreads>2</iothreads>",
    "<iothreadids><iothread id='3'/></iothreadids>",
    "<iothreadpin iothread='1' cpuset='0'/>",
    "<vcpusched vcpus='0-1' scheduler='fifo' priority='1'/>",
    "<numatune><memory mode='strict' nodeset='0'/></numatune>",
    "<memnode cellid='0' mode='strict' nodeset='1'/>",
    "<memoryBacking><hugepages/></memoryBacking>",
    "<locked/>",
    "<page size='1' unit='G'/>",
    "<cpu mode='host-model'/>",
    "<cpu>",
    "</cpu>",
    "<topology sockets='1' dies='1' cores='2' threads='2'/>",
    "<numa><cell id='0' cpus='0-1' memory='1' unit='GiB'/></numa>",
    "<memory unit='GiB'>1</memory>",
    "<memory unit='bytes'>1</memory>",
    "<launchSecurity type='sev'/>",
    "<features><kvm><hint-dedicated state='on'/></kvm></features>",
    "<devices>",
    "</devices>",
    "<disk type='block' device='disk'><source dev='/dev/sda'/><target dev='vda' bus='virtio'/></disk>",
    "<driver name='qemu' type='raw' cache='none'/>",
    "<driver/>",
    "<memballoon model='none'/>",
    "<v:fit xmlns:v='https://virtfit.dev/ns/domain/1' version='1' profile='fit' policy='0' on-no-fit='run-shared' threads='1' withheld='0-31'>",
    "</v:fit>",
    " withheld='0-31'",
    " withheld='0-16383'",
    " version='2'",
    " cells='0-1: 1048576 KiB; 2-3: 1 KiB'",
    " topology='sockets=4294967295 dies=1 cores=2 threads=2'",
    "<v:container at='cputune'/>",
    "<v:set at='vcpupin/{}' wrote='{}'/>",
    "<v:set at='vcpupin/{}' wrote='0-16383'/>",
    "<v:set at='disk/vd{}/io' wrote='native'/>",
    "<v:set at='vcpusched' wrote='fifo 1: 0-1'>",
    "</v:set>",
    "<v:was raw='&#10;&lt;vcpusched/&gt;' pos='0/0+0'/>",
    "<v:was raw='&#10;&lt;vcpusched/&gt;' pos='{}/{}+18446744073709551615'/>",
    "<v:was attr='cpuset' raw=' cpuset=&quot;1&quot;' pos='0'/>",
    "<v:was attr='cpuset'/>",
    "<vcpupin vcpu='{}' cpuset='{}'/>",
    "<vcpusched vcpus='{}' scheduler='fifo' priority='1'/>",
    "<cell id='{}' cpus='{}' memory='1024'/>",
    "<memnode cellid='{}' mode='strict' nodeset='0-16383'/>",
    "<page size='{}' nodeset='{}'/>",
    "<iothread id='{}'/>",
    "<feature name='f{}'/>",
    "<disk type='file'><driver io='native' cache='none'/><target dev='vd{}' bus='virtio'/></disk>",
    "<memory model='dimm'><target><size>{}</size><node>{}</node></target></memory>",
    "<controller type='scsi' model='virtio-scsi'/>",
    "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'/>",
];

#[test]
fn xml() {
    fuzz("xml", fixtures(&[".xml"]), XML, targets::xml);
}

#[test]
fn rewriting() {
    fuzz("rewriting", fixtures(&[".xml"]), XML, targets::rewriting);
}

#[test]
fn decision() {
    let host = common::paper();
    fuzz("decision", fixtures(&[".xml"]), XML, |input| {
        targets::decision(input, &host)
    });
}

#[test]
fn forged() {
    let host = common::paper();
    let mut corpus = fixtures(&[".xml"]);
    let tuned: Vec<Vec<u8>> = corpus
        .iter()
        .filter_map(|text| std::str::from_utf8(text).ok())
        .flat_map(|text| ["fit", "isolated", "shared"].map(|profile| targets::tuned(text, &host, profile)))
        .flatten()
        .map(String::into_bytes)
        .collect();
    corpus.extend(tuned);
    fuzz("forged", corpus, XML, |input| targets::forged(input, &host));
}

#[test]
fn ledger() {
    let words = [
        XML,
        &[
            "<domstatus state='running' pid='1'>",
            "</domstatus>",
            "<vcpus><vcpu id='0' pid='7'/></vcpus>",
            "<numad nodeset='0' cpuset='0-3'/>",
        ],
    ]
    .concat();
    let mut corpus = fixtures(&[".xml"]);
    // Each definition also counts as a running guest.
    let running: Vec<Vec<u8>> = corpus.iter().take(30).map(|domain| {
        let head = b"<domstatus state='running' reason='booted' pid='9'>\n<vcpus><vcpu id='0' pid='7'/></vcpus>\n";
        [head, &domain[..], b"</domstatus>\n"].concat()
    }).collect();
    corpus.extend(running);
    fuzz("ledger", corpus, &words, targets::ledger);
}

#[test]
fn policy() {
    let words = [
        "[host]",
        "[profile.x]",
        "[[rule]]",
        "match = { name = \"*\" }",
        "profile = \"fit\"",
        "inherits = \"x\"",
        "=",
        "\"",
        "\n",
        "#",
        "{",
        "}",
        "[",
        "]",
        ",",
        ".",
        "\"\"\"",
        "true",
        "1e9",
        "0x10",
        "1979-05-27",
        "\"^0\"",
        "\"0-3\"",
        "\"0-31:2/4\"",
        "\"2M\"",
        "\"1G\"",
        "\"99999999T\"",
        "housekeeping",
        "dedicated",
        "shared",
        "reserved_hugepages = { \"2M\" = 1 }",
        "smt = \"isolate\"",
        "max_nodes = 0",
        "max_llcs = -1",
        "iothreads.count = 3",
        "disk.cache = \"none\"",
        "realtime = { vcpus = \"all\" }",
        "on_no_fit = \"refuse\"",
        "vcpus = \"2-8\"",
        "memory = \"4G-\"",
        "hostdev = true",
        "os = \"*win*\"",
        "irqs = 1",
        "\u{202e}",
    ];
    let host = common::paper();
    fuzz("policy", fixtures(&[".toml"]), &words, |input| {
        targets::policy(input, &host)
    });
}

#[test]
fn cpus() {
    let seeds = [
        "0",
        "0-3,16-19",
        "0-31:2/4",
        "0-30:2",
        "0-7,^3",
        "^0",
        " 1 , 2 ",
        "16383",
        "0-16383",
        "all",
        "",
    ];
    let corpus = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    fuzz(
        "cpus",
        corpus,
        &[",", "-", "^", ":", "/", " ", "\t", "+", "0x1", "4294967296"],
        targets::cpus,
    );
}

#[test]
fn reservation() {
    let seed = br#"{"version":1,"uuid":"11111111-2222-4333-8444-555555555555","name":"db","cpus":[1,2,17,18],"withheld":[3],
        "memory":[{"node":0,"page_kib":2048,"kib":8388608},{"node":null,"page_kib":null,"kib":1}],
        "boot_id":"boot","pid":1,"start_time":5,"tentative_until":null,"written_at":1000000}"#;
    let words = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "true",
        "-1",
        "1e99",
        "\"cpus\"",
        "\"memory\"",
        "\"\\ud800\"",
        "16384",
    ];
    let mut corpus = fixtures(&[".json"]);
    corpus.push(seed.to_vec());
    fuzz("reservation", corpus, &words, targets::reservation);
}
