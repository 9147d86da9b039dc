use super::*;
use crate::policy::HostPolicy;
use crate::policy::profile::Profile;

/// All values that `docs/policy.md` promises, and some that it does not.
#[test]
fn profile_values() {
    let text = |word: &str| Scalar::text(word);
    let good = [
        ("cpus", "dedicated shared mixed keep"),
        ("smt", "prefer require isolate"),
        ("core_kind", "auto fast slow any"),
        ("hotplug", "auto hold float"),
        ("topology", "match cores keep"),
        ("numa", "match keep off"),
        ("cpu_mode", "host-passthrough host-model keep"),
        ("hugepages", "off any large small 2M 1G"),
        ("memory_mode", "auto strict preferred restrictive off"),
        ("emulator", "housekeeping isolate guest keep"),
        ("iothreads.count", "auto keep"),
        ("iothreads.cpus", "housekeeping isolate guest"),
        (
            "disk.cache",
            "auto keep none writeback writethrough directsync unsafe",
        ),
        ("disk.io", "auto keep native threads io_uring"),
        ("disk.discard", "keep ignore unmap"),
        ("disk.queues", "keep"),
        ("net.queues", "keep vcpus"),
        ("realtime.scheduler", "fifo rr"),
        ("realtime.vcpus", "all 0-3 ^0"),
        ("kvm.hint_dedicated", "auto on off keep"),
        ("kvm.poll_control", "on off keep"),
        ("hyperv", "keep recommended"),
        ("features.pmu", "on off keep"),
        ("features.tsc_deadline", "keep require disable"),
        ("features.cache", "keep passthrough emulate disable"),
        ("devices.memballoon", "keep none"),
        ("pci_numa", "prefer require off"),
        ("guest_visible", "change keep"),
        ("on_no_fit", "run-shared refuse run-untuned"),
        ("on_existing", "keep override"),
        ("max_nodes", "auto"),
        ("max_sockets", "auto"),
    ];
    for (path, words) in good {
        let key = find(PROFILE, path).unwrap();
        for word in words.split(' ') {
            let mut profile = Profile::default();
            assert_eq!((key.set)(&mut profile, &text(word)), Ok(()), "{path} = {word}");
            assert_eq!((key.get)(&profile), text(word), "{path}");
        }
        for bad in [
            text("nonsense"),
            Scalar::Bool(true),
            Scalar::Int(-1),
            text("AUTO"),
        ] {
            assert!(
                (key.set)(&mut Profile::default(), &bad).is_err(),
                "{path} = {bad}"
            );
        }
    }
}

#[test]
fn numbers_have_their_ranges() {
    for (path, good, bad) in [
        ("max_nodes", [1, 9], [0, -1]),
        ("max_sockets", [1, 64], [0, -1]),
        ("max_llcs", [0, 4], [-1, 1 << 40]),
        ("iothreads.count", [0, 8], [-1, 1025]),
        ("iothreads.per_disk", [1, 4], [0, 65]),
        ("disk.queues", [1, 16], [0, 1025]),
        ("net.queues", [1, 256], [0, 257]),
        ("realtime.priority", [1, 99], [0, 100]),
    ] {
        let key = find(PROFILE, path).unwrap();
        for n in good {
            let mut profile = Profile::default();
            assert_eq!((key.set)(&mut profile, &Scalar::Int(n)), Ok(()), "{path} = {n}");
            assert_eq!((key.get)(&profile), Scalar::Int(n), "{path}");
        }
        for n in bad {
            assert!(
                (key.set)(&mut Profile::default(), &Scalar::Int(n)).is_err(),
                "{path} = {n}"
            );
        }
    }
}

#[test]
fn host_values_read_back() {
    for (path, value) in [
        ("housekeeping", Scalar::text("0-1,16")),
        ("housekeeping", Scalar::Int(2)),
        ("housekeeping", Scalar::text("none")),
        ("dedicated", Scalar::text("2-7")),
        ("shared", Scalar::Int(1)),
        ("share_cores", Scalar::Bool(false)),
        ("reserved_memory", Scalar::text("2G")),
        ("reserved_memory", Scalar::text("0")),
        ("strategy", Scalar::text("spread")),
        ("unmanaged", Scalar::text("confine")),
        ("requests", Scalar::text("none")),
        ("requests", Scalar::List(vec!["fit".into(), "local".into()])),
        ("mode", Scalar::text("observe")),
        ("on_policy_change", Scalar::text("apply")),
    ] {
        let key = find(HOST, path).unwrap();
        let mut host = HostPolicy::default();
        assert_eq!((key.set)(&mut host, &value), Ok(()), "{path} = {value}");
        assert_eq!((key.get)(&host), value, "{path}");
        assert_ne!(host, HostPolicy::default(), "{path}");
    }
    for (path, value) in [
        ("housekeeping", Scalar::Int(0)),
        ("housekeeping", Scalar::text("^0")),
        ("housekeeping", Scalar::text("atuo")),
        ("dedicated", Scalar::Int(2)),
        ("shared", Scalar::text("0-3,x")),
        ("reserved_memory", Scalar::Int(0)),
        ("reserved_memory", Scalar::text("10 %")),
        ("requests", Scalar::text("local")),
        ("strategy", Scalar::List(vec!["pack".into()])),
    ] {
        let key = find(HOST, path).unwrap();
        assert!(
            (key.set)(&mut HostPolicy::default(), &value).is_err(),
            "{path} = {value}"
        );
    }
}

#[test]
fn every_key_sets_what_it_gets() {
    for key in PROFILE {
        let mut profile = Profile::default();
        let value = (key.get)(&profile);
        assert_eq!((key.set)(&mut profile, &value), Ok(()), "{}", key.path);
        assert_eq!(profile, Profile::default(), "{}", key.path);
    }
    for key in HOST {
        let mut host = HostPolicy::default();
        let value = (key.get)(&host);
        assert_eq!((key.set)(&mut host, &value), Ok(()), "{}", key.path);
        assert_eq!(host, HostPolicy::default(), "{}", key.path);
    }
}

#[test]
fn keys_that_came_later_are_there() {
    for (path, before) in LATER {
        let key = find(PROFILE, path);
        let get = key.map(|key| (key.get)(&Profile::default()).to_string());
        assert_eq!(get.as_deref(), Some(*before), "{path}: not its default");
    }
}

/// A key that does not change what the built-in profiles do must not change their digest, or every
/// record on every host is written again after an upgrade: put it into [`LATER`].
#[test]
fn the_digest_of_the_built_in_policy_stays() {
    assert_eq!(crate::policy::Policy::builtin().digest, "a3ae7bdb02bf");
}
