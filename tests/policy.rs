//! Policy as users meet it: fixtures, precedence below a root, the commands' output, and text that
//! is no policy.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use virtfit::domain::Domain;
use virtfit::hostfs::HostFs;
use virtfit::policy::profile::{Cpus, Hugepages, Smt};
use virtfit::policy::{Files, HostPolicy, Policy, SetRule, select, show};

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/policies")
        .join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn root_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn good_policies_are_read_and_print_as_themselves() {
    for path in fixtures("good") {
        let policy = Files::named(&[&path])
            .policy()
            .unwrap_or_else(|e| panic!("{}:\n{e}", path.display()));
        let shown = show::policy(&policy);
        let again =
            Policy::parse(&shown, "shown").unwrap_or_else(|e| panic!("{}:\n{e}\n{shown}", path.display()));
        assert_eq!(again.digest, policy.digest, "{}\n{shown}", path.display());
        for name in policy.profiles.keys() {
            let shown = show::profile(&policy, name).unwrap();
            let again = Policy::parse(&shown, "shown");
            // A parent of this file is not in the text; everything else must read back.
            if let Ok(again) = again {
                assert_eq!(again.profile(name), policy.profile(name), "{shown}");
            } else {
                assert!(
                    again.unwrap_err().to_string().contains("no such profile"),
                    "{shown}"
                );
            }
        }
    }
}

/// `VIRTFIT_BLESS` in the environment rewrites the expected texts.
#[test]
fn bad_policies_tell_every_error() {
    for path in fixtures("bad") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let errors = Policy::parse(&text, name).unwrap_err();
        let got = format!("{errors}\n{}\n", show::error_count(&errors));
        let expected = path.with_extension("expected");
        if std::env::var_os("VIRTFIT_BLESS").is_some() {
            fs::write(&expected, &got).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert!(
            got == expected,
            "{name}: run with VIRTFIT_BLESS=1 if this is right:\n{got}"
        );
    }
}

/// virtfit-policy(5) is made from this page.
#[test]
fn the_page_has_every_key_and_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md");
    let text = fs::read_to_string(path).unwrap();
    let documented: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((
                cells.next()?.trim_end_matches('`'),
                cells.next()?.trim_matches('`'),
            ))
        })
        .collect();
    let host = HostPolicy::default();
    let profile = virtfit::policy::profile::Profile::default();
    let host = virtfit::policy::keys::HOST
        .iter()
        .map(|key| (key.path, (key.get)(&host).to_string()));
    let profile = virtfit::policy::keys::PROFILE
        .iter()
        .map(|key| (key.path, (key.get)(&profile).to_string()));
    for (key, default) in host.chain(profile) {
        // A profile may have a key's name; keys come first.
        let found = documented.iter().find(|(name, _)| *name == key);
        assert_eq!(found, Some(&(key, default.as_str())));
    }
}

#[test]
fn the_shipped_defaults_are_the_built_in_ones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/policy.d/10-defaults.toml");
    let text = fs::read_to_string(&path).unwrap();
    let builtin = Policy::builtin();
    let as_shipped = Policy::parse(&text, "10-defaults.toml").unwrap();
    assert_eq!(as_shipped.digest, builtin.digest);
    let in_force: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let uncommented = Policy::parse(&in_force, "10-defaults.toml").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(uncommented.host, HostPolicy::default());
    assert_eq!(uncommented.profiles, builtin.profiles);
    assert_eq!(uncommented.digest, builtin.digest);
    // The file lists every key.
    for key in virtfit::policy::keys::HOST {
        assert!(uncommented.origins.host.contains_key(key.path), "{}", key.path);
    }
    for key in virtfit::policy::keys::PROFILE {
        assert!(uncommented.origins.profiles["fit"].sections.len() == 1);
        let (_, origin) = &uncommented.origins.profiles["fit"].keys[key.path];
        assert!(origin.to_string().contains("10-defaults.toml:"), "{}", key.path);
    }
    assert!(in_force.contains("\nreserved_hugepages"));
}

#[test]
fn precedence_goes_key_by_key_and_rules_have_their_own_order() {
    let root = root_with(&[
        (
            "usr/lib/virtfit/policy.d/50-vendor.toml",
            "[host]\nstrategy = \"spread\"\nmode = \"observe\"\n[profile.fit]\nlocked = true\ndisk.discard = \"unmap\"\n\
             [[rule]]\nmatch = { name = \"a\" }\nprofile = \"pin\"\n[[rule]]\nprofile = \"shared\"\n",
        ),
        (
            "usr/lib/virtfit/policy.d/60-vendor.toml",
            "[profile.isolated]\nsmt = \"require\"\n",
        ),
        (
            "etc/virtfit/policy.toml",
            "[host]\nmode = \"enforce\"\n[profile.fit]\nhugepages = \"off\"\ndisk.io = \"threads\"\n",
        ),
        (
            "etc/virtfit/policy.d/20-b.toml",
            "[profile.fit]\nhugepages = \"2M\"\n[[rule]]\nmatch = { name = \"a\" }\nprofile = \"isolated\"\n",
        ),
        (
            "etc/virtfit/policy.d/10-a.toml",
            "[profile.fit]\nhugepages = \"1G\"\n[[rule]]\nmatch = { name = \"b\" }\nprofile = \"off\"\n",
        ),
        ("etc/virtfit/policy.d/.hidden.toml", "nonsense"),
        ("etc/virtfit/policy.d/old.toml~", "nonsense"),
        ("etc/virtfit/policy.d/README", "nonsense"),
    ]);
    let policy = Policy::load(root.path()).unwrap_or_else(|e| panic!("{e}"));
    let fit = policy.profile("fit").unwrap();
    assert!(fit.locked && !policy.host.observe);
    assert_eq!(fit.hugepages, Hugepages::Size(virtfit::types::ids::KiB(2048)));
    assert_eq!(policy.profile("isolated").unwrap().smt, Smt::Require);
    assert!(policy.profile("isolated").unwrap().locked);
    let shown = show::profile(&policy, "fit").unwrap();
    for line in [
        "locked = true                           # /usr/lib/virtfit/policy.d/50-vendor.toml:5",
        "disk.discard = \"unmap\"                # /usr/lib/virtfit/policy.d/50-vendor.toml:6",
        "disk.io = \"threads\"                     # /etc/virtfit/policy.toml:5",
        "disk.cache = \"auto\"                     # built-in",
    ] {
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            shown.lines().any(|shown| squeezed(shown) == squeezed(line)),
            "{line}\n{shown}"
        );
    }
    for (name, profile, by) in [
        ("a", "isolated", "rule 2, /etc/virtfit/policy.d/20-b.toml:3"),
        ("b", "off", "rule 1, /etc/virtfit/policy.d/10-a.toml:3"),
        (
            "c",
            "shared",
            "rule 4, /usr/lib/virtfit/policy.d/50-vendor.toml:10",
        ),
    ] {
        let domain = Domain {
            name: name.into(),
            ..Domain::default()
        };
        let got = select::select(&policy, &domain, false);
        assert_eq!(
            (got.profile.unwrap().name.as_str(), got.chosen_by.as_str()),
            (profile, by)
        );
    }
}

#[test]
fn masks_remove_vendor_files() {
    let vendor = "[host]\nmode = \"observe\"\n[profile.fit]\nlocked = true\n";
    let root = root_with(&[
        ("usr/lib/virtfit/policy.d/10-a.toml", vendor),
        ("usr/lib/virtfit/policy.d/20-b.toml", vendor),
        (
            "etc/virtfit/policy.d/10-a.toml",
            "[host]\nstrategy = \"spread\"\n",
        ),
        ("etc/virtfit/site/real.toml", "[host]\nrequests = \"all\"\n"),
    ]);
    symlink("/dev/null", root.path().join("etc/virtfit/policy.d/20-b.toml")).unwrap();
    symlink(
        "../../../dev/null",
        root.path().join("etc/virtfit/policy.d/30-c.toml"),
    )
    .unwrap();
    // An absolute link leads below the root, not out of it.
    symlink(
        "/etc/virtfit/site/real.toml",
        root.path().join("etc/virtfit/policy.d/40-d.toml"),
    )
    .unwrap();
    let files = Files::of(&HostFs::new(root.path()));
    let policy = files.policy().unwrap_or_else(|e| panic!("{e}"));
    assert!(!policy.host.observe && !policy.profile("fit").unwrap().locked);
    assert_eq!(policy.host.requests, virtfit::policy::Requests::All);
    let cat = show::cat(&files);
    assert!(
        cat.contains("# /usr/lib/virtfit/policy.d/10-a.toml is masked by /etc/virtfit/policy.d/10-a.toml"),
        "{cat}"
    );
    assert!(
        cat.contains("# /etc/virtfit/policy.d/20-b.toml is switched off"),
        "{cat}"
    );
    assert!(
        cat.contains("# /etc/virtfit/policy.d/30-c.toml is switched off"),
        "{cat}"
    );
    assert!(
        cat.contains("# /etc/virtfit/policy.d/10-a.toml\n[host]\n"),
        "{cat}"
    );
    let check = show::check(&files).unwrap();
    assert!(check.ends_with(&format!(
        "2 files, 0 profiles given or changed, 0 rules; digest {}\n",
        policy.digest
    )));
}

#[test]
fn files_that_cannot_be_read_are_errors_that_name_them() {
    let root = root_with(&[
        (
            "etc/virtfit/policy.toml",
            "[[rule]]\nprofile = \"from-another-file\"\n[host]\nmod = 1\n",
        ),
        ("etc/virtfit/policy.d/20-big.toml", &"# a\n".repeat(300_000)),
        ("etc/virtfit/policy.d/50-loop.toml/inside", ""),
    ]);
    let folder = root.path().join("etc/virtfit/policy.d");
    fs::write(folder.join("30-latin.toml"), b"# gr\xfc\xdfe\n").unwrap();
    symlink("40-self.toml", folder.join("40-self.toml")).unwrap();
    symlink("/nowhere", folder.join("60-dangling.toml")).unwrap();
    let errors = Policy::load(root.path()).unwrap_err().to_string();
    for piece in [
        "/etc/virtfit/policy.toml:4:1: unknown key 'mod' in [host]; did you mean 'mode'?",
        "/etc/virtfit/policy.d/20-big.toml: the file is larger than 1 MiB",
        "/etc/virtfit/policy.d/30-latin.toml:1:5: not UTF-8",
        "/etc/virtfit/policy.d/40-self.toml: too many symbolic links",
        "/etc/virtfit/policy.d/50-loop.toml: a folder",
        "/etc/virtfit/policy.d/60-dangling.toml: the link points to /nowhere",
    ] {
        assert!(errors.contains(piece), "{piece}\n{errors}");
    }
    // No link leads out of a folder that stands for a host.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("policy.toml"), "[host]\nmode = \"observe\"\n").unwrap();
    let linked = tempfile::tempdir().unwrap();
    fs::create_dir(linked.path().join("etc")).unwrap();
    symlink(outside.path(), linked.path().join("etc/virtfit")).unwrap();
    assert_eq!(
        Policy::load(linked.path()).unwrap().digest,
        Policy::builtin().digest
    );
    // The profile may be in a file that could not be read.
    assert!(!errors.contains("from-another-file"), "{errors}");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        Policy::load(empty.path()).unwrap().digest,
        Policy::builtin().digest
    );
    assert!(Policy::load(&empty.path().join("missing")).is_ok());
    let file = root_with(&[("etc/virtfit", "")]);
    assert!(
        Policy::load(file.path())
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
}

#[test]
fn own_profiles_come_before_aliases() {
    let policy = Policy::parse(
        "[profile.vtune]\ncpus = \"shared\"\n[profile.x]\ninherits = \"vtune\"\n",
        "p",
    )
    .unwrap();
    assert_eq!(policy.profile("vtune").unwrap().cpus, Cpus::Shared);
    assert_eq!(policy.profile("x").unwrap().cpus, Cpus::Shared);
    assert_eq!(policy.profile("def").unwrap().name, "off");
    assert!(
        Policy::parse("[profile.x]\ninherits = \"def\"\n", "p")
            .unwrap()
            .profile("x")
            .unwrap()
            .off
    );
    assert!(policy.profile("nonsense").is_none());
}

#[test]
fn the_digest_follows_the_meaning() {
    let base = Policy::parse(
        "[host]\nhousekeeping = \"0-3\"\n[profile.x]\nrealtime.vcpus = \"^0\"\nlocked = true\n",
        "p",
    );
    let base = base.unwrap().digest;
    for (text, same) in [
        (
            "# c\n[profile.x]\ndescription = \"d\"\nlocked = true\nrealtime = { vcpus = \" ^0 \" }\n[host]\nhousekeeping = \"0,1,2-3\"\n",
            true,
        ),
        (
            "[host]\nhousekeeping = \"0-3\"\n[profile.x]\nrealtime.vcpus = \"1-16383\"\nlocked = true\n[profile.fit]\nsmt = \"prefer\"\n",
            true,
        ),
        (
            "[host]\nhousekeeping = \"0-3\"\n[profile.x]\nrealtime.vcpus = \"^1\"\nlocked = true\n",
            false,
        ),
        (
            "[host]\nhousekeeping = \"0-2\"\n[profile.x]\nrealtime.vcpus = \"^0\"\nlocked = true\n",
            false,
        ),
        (
            "[host]\nhousekeeping = \"0-3\"\n[profile.y]\nrealtime.vcpus = \"^0\"\nlocked = true\n",
            false,
        ),
        (
            "[host]\nhousekeeping = \"0-3\"\n[profile.x]\nrealtime.vcpus = \"^0\"\nlocked = true\n[[rule]]\nprofile = \"x\"\n",
            false,
        ),
    ] {
        assert_eq!(Policy::parse(text, "p").unwrap().digest == base, same, "{text}");
    }
}

#[test]
fn reserved_words_are_not_yet_there_wherever_they_stand() {
    for word in ["host_tasks", "irqs", "governor", "host_cpus", "overcommit"] {
        for text in [
            format!("{word} = 1\n"),
            format!("[{word}]\nx = 1\n"),
            format!("[host]\n{word} = 1\n"),
            format!("[profile.a]\n{word} = {{}}\n"),
            format!("[profile.a]\ndisk = {{ {word} = 1 }}\n"),
            format!("[[rule]]\n{word} = 1\nprofile = \"fit\"\n"),
            format!("[[rule]]\nmatch = {{ {word} = 1 }}\nprofile = \"fit\"\n"),
        ] {
            let errors = Policy::parse(&text, "p").unwrap_err();
            assert_eq!(errors.0.len(), 1, "{text}{errors}");
            assert!(errors.to_string().contains("not yet"), "{text}{errors}");
        }
    }
}

#[test]
fn a_dot_in_quotes_is_no_table() {
    let errors = Policy::parse("[profile.a]\n\"disk.io\" = \"native\"\n", "p")
        .unwrap_err()
        .to_string();
    assert!(errors.contains("unknown key 'disk.io'"), "{errors}");
    let policy = Policy::parse(
        "[profile.a]\ndisk.io = \"native\"\n[profile.a.kvm]\npoll_control = \"on\"\n",
        "p",
    );
    assert!(policy.is_ok());
}

#[test]
fn cores_and_cpus_are_not_mixed_up() {
    let rule = |text: &str| {
        Policy::parse(&format!("[host]\nhousekeeping = {text}\n"), "p")
            .unwrap()
            .host
            .housekeeping
    };
    assert_eq!(rule("2"), SetRule::CoresPerNode(2));
    assert_eq!(
        rule("\"2\"").to_owned(),
        SetRule::Cpus([virtfit::types::ids::HostCpu(2)].into_iter().collect())
    );
    assert_eq!(rule("\"\""), rule("\"none\""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        if let Err(errors) = Policy::parse(&text, "p") {
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    /// Cuts, repeats and shuffles lines of the fixtures: much of the text is almost a policy.
    #[test]
    fn no_mix_of_lines_makes_the_parser_panic(picks in prop::collection::vec((0usize..200, 0usize..60), 0..40)) {
        static LINES: LazyLock<Vec<String>> = LazyLock::new(|| {
            let files = fixtures("bad").into_iter().chain(fixtures("good"));
            let text: String = files.map(|path| fs::read_to_string(path).unwrap()).collect();
            text.lines().map(str::to_string).collect()
        });
        let lines = &*LINES;
        let mut text = String::new();
        for (line, cut) in picks {
            let line = &lines[line % lines.len()];
            let cut = if cut < 40 { line.len() } else { cut - 40 };
            text.extend(line.chars().take(cut));
            text.push('\n');
        }
        match Policy::parse(&text, "p") {
            Ok(policy) => {
                let again = Policy::parse(&show::policy(&policy), "shown").map(|p| p.digest);
                prop_assert_eq!(again.ok(), Some(policy.digest));
            }
            Err(errors) => {
                for error in &errors.0 {
                    let shown = error.to_string();
                    prop_assert!(shown.starts_with("p:"), "{}", shown);
                    prop_assert!(shown.lines().count() >= 3, "{}", shown);
                }
            }
        }
    }

    #[test]
    fn files_that_do_not_touch_each_other_may_come_in_any_order(order in Just(vec![0usize, 1, 2, 3]).prop_shuffle()) {
        let pieces = [
            "[host]\nmode = \"observe\"\n",
            "[host]\nstrategy = \"spread\"\n[profile.a]\nlocked = true\n",
            "[profile.a]\nsmt = \"isolate\"\n",
            "[profile.b]\ninherits = \"a\"\n[[rule]]\nprofile = \"b\"\n",
        ];
        let digest = |order: &[usize]| {
            let named: Vec<(String, &str)> = order.iter().enumerate()
                .map(|(at, piece)| (format!("etc/virtfit/policy.d/{at}.toml"), pieces[*piece])).collect();
            let files: Vec<(&str, &str)> = named.iter().map(|(path, text)| (path.as_str(), *text)).collect();
            Policy::load(root_with(&files).path()).unwrap().digest
        };
        prop_assert_eq!(digest(&order), digest(&[0, 1, 2, 3]));
    }
}

#[test]
fn a_policy_is_as_old_as_the_last_change_of_its_files_and_folders() {
    let drop_in = "etc/virtfit/policy.d/10-a.toml";
    let root = root_with(&[("etc/virtfit/policy.toml", ""), (drop_in, "")]);
    let old = SystemTime::now() - Duration::from_secs(3600);
    // Written as a package manager or rsync does: the contents have an old time.
    let file = fs::File::options().append(true).open(root.path().join(drop_in));
    file.unwrap().set_modified(old).unwrap();
    let policy = Policy::load(root.path()).unwrap();
    assert!(!policy.is_older_than(Some(old)));
    assert!(!policy.is_older_than(None));
    std::thread::sleep(Duration::from_millis(20));
    let later = SystemTime::now();
    assert!(Policy::load(root.path()).unwrap().is_older_than(Some(later)));
    std::thread::sleep(Duration::from_millis(20));
    fs::remove_file(root.path().join(drop_in)).unwrap();
    assert!(!Policy::load(root.path()).unwrap().is_older_than(Some(later)));
    assert!(
        Policy::builtin().is_older_than(None),
        "there is nothing to change"
    );
}
