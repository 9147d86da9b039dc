//! Questions to the engine from a policy's text and a domain's text, with the answer as lines that
//! a table can name.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::path::Path;

use virtfit::engine::{self, Decision, Inputs, Question};
use virtfit::host::{Host, PagePool, load};
use virtfit::hostfs::HostFs;
use virtfit::ledger::{Claim, Holder, Ledger, MemoryUse};
use virtfit::policy::Policy;
use virtfit::rewrite;
use virtfit::types::cpulist;
use virtfit::types::devices::GuestFacts;
use virtfit::types::ids::{Id, KiB, NodeId};
use virtfit::types::plan::{Plan, Scope};
use virtfit::xml::Document;

/// Loads a fixture host.
pub fn host(name: &str) -> Host {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts");
    load::load(&HostFs::new(hosts.join(name)), None).unwrap()
}

/// Makes a host from hwloc's synthetic description.
pub fn synthetic(line: &str) -> Host {
    load::load(&HostFs::none(), Some(line)).unwrap()
}

/// Makes a guest's XML. `inner` stands before `<os>`, `cpu` is the whole element.
pub fn guest(vcpus: u32, mib: u64, inner: &str, cpu: &str, devices: &str) -> String {
    let kib = mib * 1024;
    format!(
        "<domain type='kvm'>\n  <name>g</name>\n  <uuid>a37a9b65-15f7-58b0-990d-11ce0c9a3af9</uuid>\n  \
         <memory unit='KiB'>{kib}</memory>\n  <vcpu placement='static'>{vcpus}</vcpu>\n  {inner}\n  \
         <os>\n    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>\n  </os>\n  {cpu}\n  \
         <devices>\n    {devices}\n  </devices>\n</domain>\n"
    )
}

/// Makes a `<cputune>` with a pin for each word; `-` is none.
pub fn pins(list: &str) -> String {
    let pin = |(vcpu, cpuset): (usize, &str)| match cpuset {
        "-" => String::new(),
        cpuset => format!("<vcpupin vcpu='{vcpu}' cpuset='{cpuset}'/>"),
    };
    let all: String = list.split_whitespace().enumerate().map(pin).collect();
    format!("<cputune>{all}</cputune>")
}

/// Question to the engine.
pub struct Asked {
    /// Host the guest runs on.
    pub host: Host,
    /// CPUs other guests hold, one entry for each guest.
    pub others: Vec<String>,
    /// CPUs that definitions claim, and whether they are on autostart.
    pub claims: Vec<(String, bool)>,
    /// Definitions that claim huge pages.
    pub page_claims: Vec<Claim>,
    /// Guests that run beside these.
    pub running: Vec<Holder>,
    /// Images and devices of the guest.
    pub facts: GuestFacts,
    /// Scope of the plan.
    pub scope: Scope,
    /// Keys of `[host]`.
    pub host_keys: String,
}

impl Asked {
    /// Asks about an empty fixture host at boot.
    pub fn on(name: &str) -> Self {
        Self::of(host(name))
    }

    /// Asks about an empty host at boot.
    pub fn of(host: Host) -> Self {
        Self {
            host,
            others: Vec::new(),
            claims: Vec::new(),
            page_claims: Vec::new(),
            running: Vec::new(),
            facts: GuestFacts::default(),
            scope: Scope::Boot,
            host_keys: String::new(),
        }
    }

    /// Adds another guest that holds these CPUs.
    pub fn held(mut self, cpus: &str) -> Self {
        self.others.push(cpus.into());
        self
    }

    /// Adds a definition that claims these CPUs.
    pub fn claimed(mut self, cpus: &str, autostart: bool) -> Self {
        self.claims.push((cpus.into(), autostart));
        self
    }

    /// Adds a definition that claims huge pages on a node; `own`: virtfit wrote them.
    pub fn pages_claimed(mut self, node: u32, size: KiB, count: u64, autostart: bool, own: bool) -> Self {
        let number = self.page_claims.len();
        self.page_claims.push(Claim {
            uuid: format!("{number:08}-0000-0000-0002-000000000000"),
            name: format!("pages{number}"),
            autostart,
            pages: vec![MemoryUse {
                amount: KiB(count * size.0),
                page: Some(size),
                nodes: [NodeId(node)].into_iter().collect(),
            }],
            own_pages: own,
            ..Claim::default()
        });
        self
    }

    /// Lets a guest of [`guest`] run, with so many pages of 2 MiB on node 0.
    pub fn running(mut self, count: u64) -> Self {
        let size = KiB(2048);
        for pool in &mut self.host.nodes[0].pools {
            pool.free -= if pool.size == size { count } else { 0 };
        }
        self.running.push(Holder {
            uuid: "a37a9b65-15f7-58b0-990d-11ce0c9a3af9".into(),
            name: "g".into(),
            memory: vec![MemoryUse {
                amount: KiB(count * size.0),
                page: Some(size),
                nodes: [NodeId(0)].into_iter().collect(),
            }],
            ..Holder::default()
        });
        self.facts.running = true;
        self
    }

    /// Passes a device on a node through to the guest.
    pub fn device(mut self, node: u32) -> Self {
        self.facts
            .devices
            .push((format!("device on {node}"), Some(NodeId(node))));
        self
    }

    /// Adds free pages of a size that is mounted.
    pub fn pages(mut self, node: u32, size: KiB, count: u64) -> Self {
        let node = &mut self.host.nodes[node as usize];
        node.pools.retain(|pool| pool.size != size);
        node.pools.push(PagePool {
            size,
            total: count,
            free: count,
        });
        self.host.hugetlbfs.push(size);
        self
    }

    /// Asks about a migration or restore coming in.
    pub fn incoming(mut self) -> Self {
        self.scope = Scope::Incoming;
        self
    }

    /// Adds keys of `[host]`.
    pub fn host_keys(mut self, keys: &str) -> Self {
        self.host_keys = keys.into();
        self
    }

    fn ledger(&self) -> Ledger {
        let holder = |(number, cpus): (usize, &String)| Holder {
            uuid: format!("{number:08}-0000-0000-0000-000000000000"),
            name: format!("other{number}"),
            pins: cpulist::parse(cpus)
                .map(|set: virtfit::types::idset::CpuSet| {
                    set.iter().map(virtfit::types::idset::CpuSet::one).collect()
                })
                .unwrap(),
            ..Holder::default()
        };
        Ledger {
            holders: self
                .others
                .iter()
                .enumerate()
                .map(holder)
                .chain(self.running.iter().cloned())
                .map(Into::into)
                .collect(),
            claims: self
                .claims
                .iter()
                .enumerate()
                .map(|(number, (cpus, autostart))| Claim {
                    uuid: format!("{number:08}-0000-0000-0001-000000000000"),
                    name: format!("claims{number}"),
                    autostart: *autostart,
                    cpus: cpulist::parse(cpus).unwrap(),
                    ..Claim::default()
                })
                .chain(self.page_claims.iter().cloned())
                .collect(),
        }
    }

    /// Decides by a profile with these keys over `fit`.
    pub fn decide(&self, keys: &str, xml: &str) -> Answer {
        let policy = format!(
            "[host]\n{}\n[profile.t]\ninherits = \"fit\"\n{keys}\n[[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"t\"\n",
            self.host_keys
        );
        let policy = Policy::parse(&policy, "policy.toml").unwrap_or_else(|errors| panic!("{errors}"));
        let ledger = self.ledger();
        let inputs = Inputs {
            host: &self.host,
            policy: &policy,
            ledger: &ledger,
            facts: &self.facts,
            question: Question::of(self.scope),
        };
        let decision = engine::decide(xml, &inputs).unwrap_or_else(|error| panic!("{keys}: {error}"));
        let answer = Answer {
            before: xml.to_string(),
            decision,
        };
        if let Some(xml) = answer.xml() {
            let again = engine::decide(xml, &inputs).unwrap_or_else(|error| panic!("{keys}, again: {error}"));
            assert!(
                matches!(again, Decision::Unchanged(_)),
                "{keys}: rewriting twice is not rewriting once: {:#?}\n{xml}",
                again.plan().changes
            );
        }
        answer
    }
}

/// Answer of the engine.
pub struct Answer {
    before: String,
    /// Decision as the engine returned it.
    pub decision: Decision,
}

impl Answer {
    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        self.decision.plan()
    }

    /// Returns the new text.
    pub fn xml(&self) -> Option<&str> {
        match &self.decision {
            Decision::Tuned { xml, .. } => Some(xml),
            Decision::Unchanged(_) | Decision::Refused(_) => None,
        }
    }

    /// Returns the new text, otherwise the old one.
    pub fn text(&self) -> &str {
        self.xml().unwrap_or(&self.before)
    }

    /// Returns the text after a revert.
    pub fn reverted(&self) -> String {
        rewrite::revert(&Document::parse(self.text()).unwrap())
            .unwrap()
            .xml
    }

    /// Lists everything a table may name, one fact per line.
    pub fn lines(&self) -> Vec<String> {
        let plan = self.plan();
        let mut lines = vec![format!("{:?}", plan.verdict).to_lowercase()];
        lines.extend(plan.reasons.iter().map(|reason| format!("because {reason}")));
        if let Some(placement) = &plan.placement {
            let pins: Vec<String> = placement.vcpus.values().map(ToString::to_string).collect();
            lines.push(format!("pins {}", pins.join(" ")));
            lines.push(format!("emulator {}", placement.emulator));
            for (id, cpus) in &placement.iothreads {
                lines.push(format!("iothread {id} {cpus}"));
            }
            let nodes: Vec<String> = placement.nodes.iter().map(ToString::to_string).collect();
            lines.push(format!("nodes {}", nodes.join(" ")));
            lines.push(match placement.page_kib {
                Some(page) => format!("page {}", page.0),
                None => "page none".into(),
            });
            if let Some(shown) = &placement.topology {
                lines.push(format!(
                    "topology {} {} {} {}",
                    shown.sockets, shown.dies, shown.cores, shown.threads
                ));
            }
            for cell in &placement.cells {
                let node = cell.node.map_or("none".into(), |node| node.get().to_string());
                lines.push(format!(
                    "cell {} vcpus {} memory {} node {node}",
                    cell.id.get(),
                    cell.vcpus,
                    cell.memory_kib.0
                ));
            }
        }
        for change in &plan.changes {
            let path = rewrite::path(&change.target);
            let path = path.trim_start_matches("/domain/");
            let to = rewrite::show(&change.to).unwrap_or("nothing".into());
            lines.push(format!("set {path} {to}"));
        }
        lines.extend(plan.notes.kept.iter().map(|note| format!("kept {}", note.what)));
        lines.extend(
            plan.notes
                .not_done
                .iter()
                .map(|note| format!("not done {}: {}", note.what, note.why)),
        );
        lines
    }

    /// Checks that each of `wanted` is a line, or with `!` the beginning of none; with `…` at its
    /// end it is the beginning of a line.
    #[track_caller]
    pub fn expect(&self, row: &str, wanted: &[&str]) {
        let lines = self.lines();
        for want in wanted {
            let begins = |start: &str| lines.iter().any(|line| line.starts_with(start));
            let found = match (want.strip_prefix('!'), want.strip_suffix('…')) {
                (Some(unwanted), _) => !begins(unwanted),
                (None, Some(start)) => begins(start),
                (None, None) => lines.iter().any(|line| line == want),
            };
            assert!(found, "{row}: {want:?} not so:\n{lines:#?}\n{}", self.text());
        }
    }
}
