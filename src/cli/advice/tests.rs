//! Table of what is advised after a plan.

use super::*;

const RULES: &str = "[[rule]]\nmatch = { name = \"db*\" }\nprofile = \"fit\"\n";

struct Row<'a> {
    /// Name and request of the guest.
    guest: (&'a str, Option<&'a str>),
    profile: Option<&'a str>,
    foreign: Option<&'a str>,
    file: Option<&'a str>,
    /// Daemon answers; policy observes; the switch is on.
    state: (bool, bool, bool),
    said: &'a [&'a str],
    commands: &'a [&'a str],
}

const ROW: Row<'_> = Row {
    guest: ("db", None),
    profile: None,
    foreign: None,
    file: None,
    state: (true, false, false),
    said: &[],
    commands: &["virtfit apply db"],
};

#[test]
fn only_what_lasts_is_advised() {
    let cp = "cp --backup=numbered new.toml /etc/virtfit/policy.toml";
    let define = "virtfit rewrite x.xml | virsh define /dev/stdin";
    for row in [
        ROW,
        Row {
            file: Some("x.xml"),
            commands: &[define],
            ..ROW
        },
        // Another policy is undone unless it is put in place.
        Row {
            foreign: Some("new.toml"),
            said: &["not new.toml"],
            commands: &[cp, "virtfit apply db"],
            ..ROW
        },
        Row {
            foreign: Some("new.toml"),
            file: Some("x.xml"),
            said: &["not new.toml"],
            commands: &[cp, define],
            ..ROW
        },
        Row {
            foreign: Some("/etc/virtfit/policy.d/9.toml"),
            said: &["plan without --policy"],
            commands: &[],
            ..ROW
        },
        // The profile that the rule gives anyway, by its name or alias.
        Row {
            profile: Some("fit"),
            ..ROW
        },
        Row {
            profile: Some("vtune"),
            file: Some("x.xml"),
            commands: &[define],
            ..ROW
        },
        // One the guest may ask for; without a daemon the request alone changes nothing.
        Row {
            profile: Some("local"),
            commands: &["virtfit profile set db local"],
            ..ROW
        },
        Row {
            profile: Some("local"),
            state: (false, false, false),
            commands: &["virtfit profile set db local", "virtfit apply db"],
            ..ROW
        },
        Row {
            profile: Some("local"),
            file: Some("x.xml"),
            commands: &["virsh define x.xml", "virtfit profile set db local"],
            ..ROW
        },
        Row {
            profile: Some("local"),
            foreign: Some("new.toml"),
            said: &["not new.toml"],
            commands: &[cp, "virtfit profile set db local"],
            ..ROW
        },
        // The guest's own request is in the way of its rule.
        Row {
            guest: ("db", Some("off")),
            profile: Some("fit"),
            commands: &["virtfit profile unset db"],
            ..ROW
        },
        // One it may not ask for needs a rule, and its own request has to go.
        Row {
            profile: Some("isolated"),
            said: &[
                "may not ask for it itself: it withholds CPUs",
                "in /etc/virtfit/policy.toml:",
            ],
            commands: &["virtfit apply db"],
            ..ROW
        },
        Row {
            guest: ("web", None),
            profile: Some("fit"),
            file: Some("x.xml"),
            said: &["No rule gives web the profile fit"],
            commands: &[define],
            ..ROW
        },
        Row {
            guest: ("web", Some("off")),
            profile: Some("fit"),
            said: &["No rule gives web the profile fit"],
            commands: &["virtfit profile unset web"],
            ..ROW
        },
        Row {
            profile: Some("isolated"),
            foreign: Some("new.toml"),
            said: &["not new.toml", "before the others in new.toml:"],
            commands: &[cp, "virtfit apply db"],
            ..ROW
        },
        // What writes nothing is not advised.
        Row {
            state: (true, true, false),
            said: &["mode = \"observe\""],
            commands: &[],
            ..ROW
        },
        Row {
            state: (true, false, true),
            said: &["/run/virtfit/disabled exists"],
            commands: &["rm /run/virtfit/disabled", "virtfit apply db"],
            ..ROW
        },
    ] {
        let (answers, observe, disabled) = row.state;
        let mut policy = Policy::parse(RULES, "/etc/virtfit/policy.toml").unwrap();
        policy.host.observe = observe;
        let domain = Domain {
            name: row.guest.0.into(),
            request: row.guest.1.map(str::to_string),
            ..Domain::default()
        };
        let case = Case {
            policy: &policy,
            domain: &domain,
            autostart: false,
            profile: row.profile,
            foreign: row.foreign,
            drop_ins: false,
            disabled,
            alone: !answers,
            file: row.file.map(str::to_string),
        };
        let got = case.advice(&|text| shell_word(text, true)).unwrap();
        let told = format!("{got:#?}");
        assert_eq!(got.commands, row.commands, "{told}");
        assert_eq!(got.said.is_empty(), row.said.is_empty(), "{told}");
        let all = got.said.join(" ");
        assert!(row.said.iter().all(|said| all.contains(said)), "{told}");
        assert_eq!(!got.rule.is_empty(), all.contains("This rule"), "{told}");
    }
}

#[test]
fn the_rule_is_for_this_guest_alone() {
    let policy = Policy::builtin();
    let domain = Domain {
        name: "a\"[1]*".into(),
        ..Domain::default()
    };
    let case = Case {
        policy: &policy,
        domain: &domain,
        autostart: false,
        profile: Some("fit"),
        foreign: None,
        drop_ins: false,
        disabled: false,
        alone: false,
        file: None,
    };
    let rule = case
        .advice(&|text| shell_word(text, true))
        .unwrap()
        .rule
        .join("\n");
    let policy = Policy::parse(&rule, "p").unwrap();
    let gives = |name: &str| {
        let other = Domain {
            name: name.into(),
            ..Domain::default()
        };
        select::select(&policy, &other, false).profile.is_some()
    };
    assert!(gives("a\"[1]*"), "{rule}");
    assert!(!gives("a\"[1]x") && !gives("a\"1*"), "{rule}");
}
