//! Checks of huge pages.

use std::collections::BTreeMap;

use crate::check::facts::Facts;
use crate::check::finding::{Finding, Mend};
use crate::check::mend::{sysctl, write_at_boot};
use crate::host::{Node, kernel};
use crate::policy::Profile;
use crate::policy::profile::Hugepages;
use crate::types::ids::KiB;
use crate::types::plural::{counted, join};

pub(super) const NODES: &str = "/sys/devices/system/node";
/// Sum of a host whose kernel has no nodes.
const GLOBAL: &str = "/sys/kernel/mm/hugepages";

/// Returns whether guests of a profile do not fit without huge pages.
fn is_required(profile: &Profile) -> bool {
    matches!(profile.hugepages, Hugepages::Large | Hugepages::Size(_))
}

/// Words a page size as the kernel and virtfit's policy do: `2M`, `1G`.
fn size_word(size: KiB) -> String {
    match size.0 {
        k if k % (1 << 20) == 0 => format!("{}G", k >> 20),
        k if k % (1 << 10) == 0 => format!("{}M", k >> 10),
        k => format!("{k}K"),
    }
}

/// Returns the number of pages of each size on the whole host.
fn totals(facts: &Facts<'_>) -> BTreeMap<KiB, u64> {
    let mut totals = BTreeMap::new();
    for pool in facts.view.host.nodes.iter().flat_map(|node| &node.pools) {
        *totals.entry(pool.size).or_insert(0) += pool.total;
    }
    totals
}

/// Returns the page size of the profile's guests; where it names none, the usual one is that which
/// the kernel prefers.
pub(super) fn usual_size(facts: &Facts<'_>, profile: &Profile) -> KiB {
    match profile.hugepages {
        Hugepages::Size(size) => size,
        _ => crate::host::memory::default_huge_page(facts.root()),
    }
}

/// Returns the memory of the profile's guests that libvirt starts at boot, and of the largest of
/// all its guests.
pub(super) fn demand(facts: &Facts<'_>, profile: &Profile) -> (KiB, KiB) {
    let memory = |guest: &crate::check::facts::Guest| guest.domain.all_memory();
    let starting = facts.guests_of(profile).filter(|guest| guest.autostart);
    let all = starting.fold(0u64, |sum, guest| sum.saturating_add(memory(guest).0));
    let largest = facts.guests_of(profile).map(memory).max().unwrap_or_default();
    (KiB(all), largest)
}

pub(super) fn mounts(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let host = &facts.view.host;
    let mut sizes: Vec<KiB> = match profile.hugepages {
        Hugepages::Size(size) => vec![size],
        _ => totals(facts)
            .into_iter()
            .filter(|(_, total)| *total > 0)
            .map(|(size, _)| size)
            .collect(),
    };
    if sizes.is_empty() {
        return Finding::unknown("no huge page is in any pool yet, so no size is wanted");
    }
    sizes.retain(|size| !host.hugetlbfs.contains(size));
    let mounted: Vec<String> = host.hugetlbfs.iter().map(|size| size_word(*size)).collect();
    let read = match mounted.is_empty() {
        true => "/proc/mounts: no hugetlbfs".to_string(),
        false => format!("/proc/mounts: hugetlbfs for {}", join(&mounted)),
    };
    let Some(size) = sizes.first() else {
        return Finding::pass(read, "libvirt can use every size that has pages");
    };
    let (word, daemon) = (size_word(*size), crate::status::hook::daemon_name(facts.root()));
    let folder = format!("/dev/hugepages-{word}");
    let means = format!("pages of {word} have no mount, so libvirt cannot give them to guests");
    let finding = match is_required(profile) {
        true => Finding::fail(read, means),
        false => Finding::warn(read, means),
    };
    finding.mend(Mend {
        text: "mount them, now and at each boot; libvirt looks for mounts when it starts".into(),
        commands: vec![
            format!("echo 'hugetlbfs {folder} hugetlbfs pagesize={word},mode=1770,x-mount.mkdir 0 0' >> /etc/fstab"),
            format!("mkdir -p {folder} && mount {folder}"),
            format!("systemctl restart {daemon}"),
        ],
    })
}

/// Returns the commands that make pages on each node that has memory, now and at each boot;
/// gigantic ones at boot alone, when memory is not in pieces.
fn make_pages(facts: &Facts<'_>, size: KiB, wanted: KiB) -> Mend {
    if size >= KiB::GIB {
        let count = wanted.0.div_ceil(size.0).max(1);
        let options = format!("hugepagesz={} hugepages={count}", size_word(size));
        return facts.family.boot_with(&options);
    }
    let nodes: Vec<&Node> = facts
        .view
        .host
        .nodes
        .iter()
        .filter(|node| node.memory.0 > 0)
        .collect();
    let count = u64::try_from(nodes.len()).unwrap_or(1).max(1);
    let pages = wanted
        .0
        .div_ceil(size.0.max(1))
        .div_ceil(count)
        .max(1)
        .to_string();
    let values: Vec<(String, &str)> = nodes
        .iter()
        .map(|node| {
            let path = format!(
                "{NODES}/node{}/hugepages/hugepages-{}kB/nr_hugepages",
                node.id, size.0
            );
            (path, pages.as_str())
        })
        .collect();
    let values: Vec<(&str, &str)> = values
        .iter()
        .map(|(path, pages)| (path.as_str(), *pages))
        .collect();
    let where_to = if nodes.len() > 1 { " on each node" } else { "" };
    let words = format!(
        "make {pages} pages of {}{where_to}, now and at each boot",
        size_word(size)
    );
    Mend {
        text: words,
        ..write_at_boot("hugepages", &values)
    }
}

pub(super) fn pools(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let totals = totals(facts);
    let wanted: Vec<KiB> = match profile.hugepages {
        Hugepages::Size(size) => vec![size],
        _ => totals.keys().copied().collect(),
    };
    if totals.is_empty() {
        return Finding::unknown(format!("{NODES}/node*/hugepages is absent"));
    }
    let words = totals
        .iter()
        .map(|(size, total)| format!("{total} of {}", size_word(*size)));
    let read = format!("pages in the pools: {}", join(&words.collect::<Vec<_>>()));
    let have = wanted
        .iter()
        .map(|size| totals.get(size).unwrap_or(&0).saturating_mul(size.0));
    let have = KiB(have.fold(0, u64::saturating_add));
    let (starting, largest) = demand(facts, profile);
    let size = usual_size(facts, profile);
    let need = starting.max(largest);
    let short = |means: String, need: KiB| {
        let finding = match is_required(profile) {
            true => Finding::fail(read.clone(), means),
            false => Finding::warn(read.clone(), means),
        };
        match need.0 {
            // Without guests a quarter of the memory is an example.
            0 => {
                let all = facts.view.host.nodes.iter().map(|node| node.memory.0);
                let example = make_pages(facts, size, KiB(all.fold(0, u64::saturating_add) / 4));
                finding.mend(Mend {
                    text: format!(
                        "as many as your guests have memory; for a quarter of this host's, {}",
                        example.text
                    ),
                    ..example
                })
            }
            _ => {
                let whose = match need == largest {
                    true => "the largest guest's memory",
                    false => "the memory of guests on autostart",
                };
                let made = make_pages(facts, size, need);
                finding.mend(Mend {
                    text: format!("for {need}, {whose}, {}", made.text),
                    ..made
                })
            }
        }
    };
    if have.0 == 0 {
        let which = match profile.hugepages {
            Hugepages::Size(size) => format!("no page of {} is there", size_word(size)),
            _ => "no huge page is there".into(),
        };
        let means = match is_required(profile) {
            true => format!("{which}: guests of this profile find no place"),
            false => format!("{which}: guests run on small pages"),
        };
        return short(means, need);
    }
    if have < starting {
        return short(
            format!(
                "guests on autostart have {} of memory, and the pools {}",
                starting.in_gib(),
                have.in_gib()
            ),
            starting,
        );
    }
    let surplus = totals.keys().find(|size| {
        let path = format!("{GLOBAL}/hugepages-{}kB/surplus_hugepages", size.0);
        facts.number(&path).is_some_and(|surplus| surplus > 0)
    });
    match surplus {
        Some(size) => Finding::info(
            format!("{read}; surplus pages of {}", size_word(*size)),
            "some pages go back to the system when the program that uses them ends",
        ),
        None => Finding::pass(read, "the pools have pages for the guests that start at boot"),
    }
}

pub(super) fn gigantic(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let of_guests = facts
        .guests_of(profile)
        .filter_map(|guest| guest.domain.hugepages.as_ref());
    let named = of_guests.flat_map(|element| element.pages.iter().map(|(size, _)| *size));
    let by_profile = match profile.hugepages {
        Hugepages::Size(size) => Some(size),
        _ => None,
    };
    let size = named.chain(by_profile).find(|size| *size >= KiB::GIB);
    let Some(size) = size else {
        return Finding::pass(
            "neither the profile nor a guest asks for pages of 1G",
            "no gigantic page is needed",
        );
    };
    if totals(facts).get(&size).is_some_and(|total| *total > 0) {
        return Finding::pass(format!("pool of {}", size_word(size)), "gigantic pages are there");
    }
    if let Some(area) = facts.boot_option("hugetlb_cma") {
        return Finding::pass(
            format!("hugetlb_cma={area}"),
            "gigantic pages can be made at any time",
        );
    }
    let word = size_word(size);
    Finding::warn(
        format!("no page of {word} in any pool, no hugetlb_cma on the kernel's command line"),
        format!("pages of {word} can be made at boot alone, or from an area that is set aside then"),
    )
    .mend(make_pages(facts, size, demand(facts, profile).1))
}

pub(super) fn overcommit(facts: &Facts<'_>, _: &Profile) -> Finding {
    const FILE: &str = "/proc/sys/vm/nr_overcommit_hugepages";
    match facts.number(FILE) {
        None => Finding::absent(FILE),
        Some(0) => Finding::pass(
            "vm.nr_overcommit_hugepages = 0",
            "the pools are all the pages there are",
        ),
        Some(count) => Finding::info(
            format!("vm.nr_overcommit_hugepages = {count}"),
            format!(
                "the kernel makes {} beyond the pools, on any node: free pages of a node do not tell all",
                counted(usize::try_from(count).unwrap_or(0), "page")
            ),
        )
        .mend(sysctl("vm.nr_overcommit_hugepages", "0")),
    }
}

/// Returns the memory of a node that is free, in KiB.
pub(super) fn free_memory(facts: &Facts<'_>, node: &Node) -> Option<KiB> {
    kernel::meminfo(
        &facts.text(&format!("{NODES}/node{}/meminfo", node.id))?,
        "MemFree",
    )
}
