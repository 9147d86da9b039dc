//! Reads what a guest will see out of its XML, and compares it with its pins.

use std::collections::{BTreeMap, BTreeSet};

use virtfit::host::{Core, Host};
use virtfit::types::ids::HostCpu;
use virtfit::xml::{Document, Element};

/// Part of what a guest sees that is not so.
pub(crate) struct Lie {
    /// Codes of reasons that confess it.
    pub codes: &'static [&'static str],
    /// Description for people.
    pub words: String,
}

/// Topology as QEMU shows it: sizes of a core, a die and a socket in vCPUs.
struct Sizes {
    core: usize,
    die: usize,
    socket: usize,
}

fn first<'d>(element: &Element<'d>, path: &[&'d str]) -> Option<Element<'d>> {
    let mut at = None;
    for name in path {
        let parent = at.as_ref().unwrap_or(element);
        at = parent.children_named(name).next();
        at.as_ref()?;
    }
    at
}

fn number(element: &Element<'_>, name: &str) -> Option<usize> {
    element.attr(name)?.trim().parse().ok()
}

/// Returns the CPUs or vCPUs of a list such as `0-3,^2,8`.
fn list(text: &str) -> BTreeSet<usize> {
    let mut set = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (part, out) = match part.strip_prefix('^') {
            Some(part) => (part, true),
            None => (part, false),
        };
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        for id in from.parse::<usize>().unwrap()..=to.parse().unwrap() {
            if out {
                set.remove(&id);
            } else {
                set.insert(id);
            }
        }
    }
    set
}

/// Returns the sizes; without `<topology>` libvirt gives each vCPU a socket.
fn sizes(root: &Element<'_>) -> Sizes {
    let Some(topology) = first(root, &["cpu", "topology"]) else {
        return Sizes {
            core: 1,
            die: 1,
            socket: 1,
        };
    };
    let level = |name| number(&topology, name).unwrap_or(1);
    let core = level("threads");
    let die = core * level("cores") * level("clusters");
    Sizes {
        core,
        die,
        socket: die * level("dies"),
    }
}

/// Lists what is not so. A guest with vCPUs that float is not judged: they move.
pub(crate) fn lies(xml: &str, host: &Host) -> Vec<Lie> {
    let document = Document::parse(xml).unwrap();
    let root = document.root();
    // An option of QEMU may show something else than <topology>.
    if xml.contains("-smp") || xml.contains("smp.") {
        return Vec::new();
    }
    let vcpus: usize = first(&root, &["vcpu"]).map_or(1, |vcpu| vcpu.text().trim().parse().unwrap());
    let mut pins: BTreeMap<usize, &Core> = BTreeMap::new();
    let cputune = first(&root, &["cputune"]);
    for pin in cputune
        .iter()
        .flat_map(|cputune| cputune.children_named("vcpupin"))
    {
        let cpus = list(&pin.attr("cpuset").unwrap());
        let mut cores = cpus.iter().filter_map(|cpu| host.core_of(HostCpu(*cpu as u32)));
        if let (1, Some(core)) = (cpus.len(), cores.next()) {
            pins.insert(number(&pin, "vcpu").unwrap(), core);
        }
    }
    let cores: Option<Vec<&Core>> = (0..vcpus).map(|vcpu| pins.get(&vcpu).copied()).collect();
    let Some(cores) = cores else {
        return Vec::new();
    };
    let arch = first(&root, &["os", "type"]).and_then(|kind| kind.attr("arch").map(|arch| arch.to_string()));
    let arch = arch.unwrap_or_else(|| host.arch.clone());
    let x86 = matches!(arch.as_str(), "x86_64" | "i686");
    let mut lies = of_topology(&cores, &sizes(&root), x86);
    lies.extend(of_cells(&root, &cores, &sizes(&root), x86, host));
    lies
}

/// Counts the different things that a run of vCPUs is on.
fn things<T: Ord>(run: &[&Core], of: impl Fn(&Core) -> T) -> usize {
    run.iter().map(|core| of(core)).collect::<BTreeSet<T>>().len()
}

fn of_topology(cores: &[&Core], sizes: &Sizes, x86: bool) -> Vec<Lie> {
    let mut lies = Vec::new();
    let mut check = |size: usize, codes: &'static [&'static str], what: &str, of: &dyn Fn(&Core) -> usize| {
        let runs = cores.chunks(size.max(1));
        if let Some((at, run)) = runs.enumerate().find(|(_, run)| things(run, of) > 1) {
            let words = format!("{what} {at} is on {} of the host", things(run, of));
            lies.push(Lie { codes, words });
        }
    };
    let core = |core: &Core| core.cpus[0].0 as usize;
    check(sizes.core, &["threads-apart"], "core", &core);
    if x86 {
        check(sizes.die, &["cache-apart"], "cache", &|core| core.llc);
    } else {
        check(sizes.socket, &["socket-over-nodes"], "socket (node)", &|core| {
            core.node.0 as usize
        });
    }
    let package = |core: &Core| core.package as usize;
    let codes: &[&str] = match x86 && sizes.socket == sizes.die {
        true => &["socket-over-packages", "cache-apart"],
        false => &["socket-over-packages"],
    };
    check(sizes.socket, codes, "socket", &package);
    // Two guest cores in one host core.
    let mut owners: BTreeMap<usize, usize> = BTreeMap::new();
    for (vcpu, on) in cores.iter().enumerate() {
        let guest_core = vcpu / sizes.core.max(1);
        let owner = *owners.entry(core(on)).or_insert(guest_core);
        if owner != guest_core {
            let at = lies
                .iter()
                .take_while(|lie| lie.codes[0] == "threads-apart")
                .count();
            let words = format!("guest cores {owner} and {guest_core} are one core");
            let codes = &["cores-together", "cores-shared"];
            lies.insert(at, Lie { codes, words });
            break;
        }
    }
    lies
}

fn of_cells(root: &Element<'_>, cores: &[&Core], sizes: &Sizes, x86: bool, host: &Host) -> Vec<Lie> {
    let mut lies = Vec::new();
    let numa = first(root, &["cpu", "numa"]);
    let cells: Vec<BTreeSet<usize>> = numa
        .iter()
        .flat_map(|numa| numa.children_named("cell"))
        .map(|cell| cell.attr("cpus").map_or_else(BTreeSet::new, |cpus| list(&cpus)))
        .collect();
    let cell_of = |vcpu: usize| cells.iter().position(|cell| cell.contains(&vcpu)).unwrap_or(0);
    // A cache lies in one cell; sockets may be divided, as they are on real hosts.
    let size = if x86 { sizes.die.max(1) } else { 1 };
    let all: Vec<usize> = (0..cores.len()).collect();
    if !cells.is_empty()
        && all
            .chunks(size)
            .any(|run| run.iter().any(|vcpu| cell_of(*vcpu) != cell_of(run[0])))
    {
        lies.push(Lie {
            codes: &["cache-over-cells", "sockets-over-cells", "cache-apart"],
            words: "a cache reaches over cells".into(),
        });
    }
    // A cell's memory is on the node of its vCPUs, if that has any.
    let numatune = first(root, &["numatune"]);
    for memnode in numatune
        .iter()
        .flat_map(|numatune| numatune.children_named("memnode"))
    {
        let cell = number(&memnode, "cellid").unwrap();
        let nodes = list(&memnode.attr("nodeset").unwrap());
        let has_memory = |node: usize| {
            let mut all = host.nodes.iter();
            all.any(|it| it.id.0 as usize == node && it.memory.0 > 0)
        };
        let off = cores.iter().enumerate().find(|(vcpu, core)| {
            let node = core.node.0 as usize;
            cells.get(cell).is_some_and(|cell| cell.contains(vcpu))
                && !nodes.contains(&node)
                && has_memory(node)
        });
        if let Some((vcpu, _)) = off {
            let words = format!("vCPU {vcpu} of cell {cell} is not on the node of its memory");
            lies.push(Lie {
                codes: &["memory-apart"],
                words,
            });
        }
    }
    lies
}
