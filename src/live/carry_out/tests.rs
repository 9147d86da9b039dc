use super::*;
use crate::types::ids::{HostCpu, VcpuId};
use crate::types::idset::CpuSet;
use crate::types::plan::Note;
use crate::types::reason::Outcome;
use crate::types::setting::Target;
use crate::types::subject::Subject;

/// Goes through all combinations of what a live plan and its calls may be.
#[test]
fn a_line_says_what_was_done_or_what_would_be_never_both() {
    let pin = LiveChange::PinVcpu(VcpuId(0), CpuSet::one(HostCpu(1)));
    let class = ThreadClass {
        vcpu: VcpuId(0),
        tid: 7,
        class: Class::Fifo(1),
        cpu: Some(HostCpu(1)),
    };
    for bits in 0..256u32 {
        let is = |bit: u32| bits & (1 << bit) != 0;
        let (observe, waits, lacks, ruled) = (is(0), is(1), is(2), is(3));
        let (pins, classes, fails, later) = (is(4), is(5), is(6), is(7));
        let live = Live {
            name: "db".into(),
            profile: ruled.then(|| "fit".to_string()),
            changes: if pins { vec![pin.clone()] } else { Vec::new() },
            classes: if classes { vec![class] } else { Vec::new() },
            reasons: if lacks {
                vec![Outcome::NothingToChange.into()]
            } else {
                Vec::new()
            },
            waits: if later {
                vec![Note::new(
                    Subject::Value(Target::Topology),
                    Outcome::NothingToChange,
                )]
            } else {
                Vec::new()
            },
            observe,
            waits_for_start: waits,
            ..Live::default()
        };
        let acts = !observe && !waits;
        let applied = Applied {
            done: if acts && pins && !fails {
                vec![pin.clone()]
            } else {
                Vec::new()
            },
            classes: if acts && classes { vec![class] } else { Vec::new() },
            failed: if acts && fails {
                vec!["x".into()]
            } else {
                Vec::new()
            },
            gone: false,
        };
        let Some(line) = line(&live, &applied) else {
            let nothing = applied == Applied::default() && (acts || !pins);
            assert!(live.is_done() || nothing, "{live:?} {applied:?}");
            continue;
        };
        let has = |part: &str| line.contains(part);
        let told = format!("{line:?} {live:?}");
        assert_eq!(has("would"), !acts && pins, "{told}");
        assert_eq!(has("pinned live"), pins && !lacks && (!acts || !fails), "{told}");
        assert_eq!(has("float"), pins && lacks && (!acts || !fails), "{told}");
        assert_eq!(
            has("no place of its own: there is nothing to change"),
            lacks && ruled,
            "{told}"
        );
        assert_eq!(has("mode = observe"), observe, "{told}");
        assert_eq!(has("on_policy_change"), waits && !observe, "{told}");
        assert_eq!(has("FIFO"), acts && classes, "{told}");
        assert_eq!(has("failed"), acts && fails, "{told}");
        assert_eq!(has("not before the next start"), later, "{told}");
    }
}

#[test]
fn a_start_that_takes_something_out_is_said_to_do_without() {
    let pin = LiveChange::PinVcpu(VcpuId(0), CpuSet::one(HostCpu(1)));
    let live = Live {
        name: "db".into(),
        profile: Some("fit".into()),
        changes: vec![pin.clone()],
        waits: vec![Note::new(Subject::Part(Target::NumaMemory), Basis::NoLongerSet)],
        ..Live::default()
    };
    let applied = Applied {
        done: vec![pin],
        ..Applied::default()
    };
    let said = line(&live, &applied).unwrap();
    assert!(
        said.ends_with("; not before the next start: without numatune memory"),
        "{said}"
    );
}
