//! Keys of `[host]`.

use crate::policy::keys::Key;
use crate::policy::keys::kinds::{bool_key, choice_key, flag_key, names_of, words_of};
use crate::policy::value::{Fault, Scalar, boolean, choice, number, size, size_text, word};
use crate::policy::{HostPolicy, Requests, ReservedMemory, SetRule, Strategy};
use crate::types::cpulist;

/// Key for a set of the host's CPUs; `$cores`: a number of whole cores is accepted, too.
macro_rules! set_key {
    ($field:ident, $cores:literal) => {
        Key {
            path: stringify!($field),
            expected: || {
                let cores = if $cores {
                    "whole cores a node (a number from 1), "
                } else {
                    ""
                };
                format!("a cpulist such as \"0-3,16\", {cores}\"auto\" or \"none\"")
            },
            set: |to, value| {
                to.$field = set_rule(value, $cores)?;
                Ok(())
            },
            get: |from| set_text(&from.$field),
        }
    };
}

/// Keys of `[host]`, except `reserved_hugepages`, whose own keys are page sizes.
pub static HOST: &[Key<HostPolicy>] = &[
    set_key!(housekeeping, true),
    set_key!(dedicated, false),
    set_key!(shared, true),
    bool_key!("share_cores", share_cores),
    Key {
        path: "reserved_memory",
        expected: || "\"auto\" or a size such as \"512M\", \"4G\" or \"0\"".into(),
        set: |to, value| {
            to.reserved_memory = match value {
                Scalar::Text(text) if text == "auto" => ReservedMemory::Auto,
                Scalar::Text(text) => ReservedMemory::At(size(text)?),
                Scalar::Int(0) => return Err(Fault::meant("\"0\"")),
                _ => return Err(Fault::default()),
            };
            Ok(())
        },
        get: |from| match from.reserved_memory {
            ReservedMemory::Auto => Scalar::text("auto"),
            ReservedMemory::At(size) => Scalar::text(size_text(size)),
        },
    },
    choice_key!("strategy", Strategy, strategy),
    flag_key!("unmanaged", confine_unmanaged, "confine", "leave"),
    Key {
        path: "requests",
        expected: || "\"safe\", \"all\", \"none\" or a list of profiles such as [\"local\", \"fit\"]".into(),
        set: |to, value| {
            to.requests = requests(value)?;
            Ok(())
        },
        get: |from| match &from.requests {
            Requests::Safe => Scalar::text("safe"),
            Requests::All => Scalar::text("all"),
            Requests::None => Scalar::text("none"),
            Requests::Named(names) => Scalar::List(names.iter().cloned().collect()),
        },
    },
    flag_key!("mode", observe, "observe", "enforce"),
    flag_key!("on_policy_change", apply_policy_change, "apply", "report"),
];

/// Reads `requests`. An empty list permits nothing, so it becomes `"none"`.
fn requests(value: &Scalar) -> Result<Requests, Fault> {
    let names = match value {
        Scalar::List(names) => names,
        _ => {
            return Ok(match word(value, ["safe", "all", "none"].into_iter())? {
                "all" => Requests::All,
                "none" => Requests::None,
                _ => Requests::Safe,
            });
        }
    };
    match names.is_empty() {
        true => Ok(Requests::None),
        false => Ok(Requests::Named(names.iter().cloned().collect())),
    }
}

fn set_rule(value: &Scalar, cores: bool) -> Result<SetRule, Fault> {
    match value {
        Scalar::Text(text) => match text.trim() {
            "auto" => Ok(SetRule::Auto),
            "none" | "" => Ok(SetRule::Cpus(Default::default())),
            list if list.starts_with('^') => Err(Fault {
                problem: Some("an exclusion needs something to take it from, as in \"0-31,^0\"".into()),
                suggestion: None,
                offset: text.find('^'),
            }),
            list if list.starts_with(|c: char| c.is_alphabetic()) => {
                Err(word(value, ["auto", "none"].into_iter())
                    .err()
                    .unwrap_or_default())
            }
            _ => Ok(SetRule::Cpus(cpulist::parse(text)?)),
        },
        Scalar::Int(0) => Err(Fault::meant("\"none\"")),
        Scalar::Int(_) if cores => Ok(SetRule::CoresPerNode(number(value, 1, cpulist::MAX_ID + 1)?)),
        Scalar::Int(number) => Err(Fault {
            problem: Some("only housekeeping and shared are counted in cores".into()),
            suggestion: u32::try_from(*number).ok().map(|cpu| format!("\"{cpu}\"")),
            offset: None,
        }),
        Scalar::Bool(_) | Scalar::List(_) => Err(Fault::default()),
    }
}

fn set_text(rule: &SetRule) -> Scalar {
    match rule {
        SetRule::Auto => Scalar::text("auto"),
        SetRule::CoresPerNode(cores) => Scalar::Int((*cores).into()),
        SetRule::Cpus(cpus) if cpus.is_empty() => Scalar::text("none"),
        SetRule::Cpus(cpus) => Scalar::text(cpus.to_string()),
    }
}
