//! Statement about one start, for the log: the guest's place, and the reason for it. Each line is
//! made of both, so that it never says two things that exclude each other.

use crate::hook_events::lines::one_line;
use crate::types::idset::CpuSet;
use crate::types::plural::cpus;
use crate::types::reason::Reason;

/// Place that a guest has from its start on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Pins of its XML. Without CPUs that are reserved, none of its threads has a CPU of its own.
    OwnPins {
        /// CPUs of these pins that are reserved.
        reserved: CpuSet,
    },
    /// Another place than its XML says: the guest is pinned there as soon as it runs.
    Promised {
        /// CPUs that are reserved; empty: it floats there, as its profile asks.
        reserved: CpuSet,
    },
    /// No place of its own: its threads float.
    Floats {
        /// CPUs on which they float; empty: unknown.
        on: CpuSet,
        /// CPUs of an administrator's pins that are reserved all the same.
        reserved: CpuSet,
    },
    /// No place of its own: it runs as it is defined (`on_no_fit = "run-untuned"`).
    Untuned {
        /// CPUs of an administrator's pins that are reserved all the same.
        reserved: CpuSet,
    },
}

/// Statement about one start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartLine {
    /// Place of the guest.
    pub place: Place,
    /// Profile that decides; `None`: no rule matches.
    pub profile: Option<String>,
    /// Reasons for the place, where it is not what one expects.
    pub why: Vec<Reason>,
}

impl StartLine {
    /// Returns the line for the log. In observe mode (`observe`) it says what would happen.
    pub fn line(&self, guest: &str, observe: bool) -> String {
        // What it starts as without any reservation it starts as in observe mode, too.
        let as_defined = matches!(self.place, Place::OwnPins { .. }) && self.reserved().is_empty();
        let observe = observe && !as_defined;
        let starts = if observe { "would start" } else { "starts" };
        let place = match &self.place {
            Place::OwnPins { reserved } if reserved.is_empty() => {
                "as it is defined, no CPU reserved".to_string()
            }
            Place::OwnPins { reserved } => format!("on its own pins, {} reserved", cpus(reserved)),
            Place::Promised { reserved } if reserved.is_empty() => "and is pinned once it runs".to_string(),
            Place::Promised { reserved } => {
                format!("with {} reserved, and is pinned once it runs", cpus(reserved))
            }
            Place::Floats { on, reserved } => {
                let floats = match on.is_empty() {
                    true => "floats".to_string(),
                    false => format!("floats on {}", cpus(on)),
                };
                match reserved.is_empty() {
                    true => format!("without a place of its own, {floats}"),
                    false => format!(
                        "with {} of its own pins reserved, the rest {floats}",
                        cpus(reserved)
                    ),
                }
            }
            Place::Untuned { reserved } if reserved.is_empty() => {
                "without a place of its own, as it is defined".to_string()
            }
            Place::Untuned { reserved } => format!(
                "without a place of its own, as it is defined, {} of its own pins reserved",
                cpus(reserved)
            ),
        };
        let mut line = format!("{guest}: {starts} {place}");
        if let Some(profile) = &self.profile {
            line.push_str(&format!(" (profile {profile})"));
        }
        for (index, why) in self.why.iter().enumerate() {
            let why = one_line(&why.to_string());
            line.push_str(&format!("{}{why}", if index == 0 { ": " } else { "; " }));
        }
        if observe {
            line.push_str(OBSERVED);
            // The next guest is decided on as if this one were not there.
            if !self.reserved().is_empty() {
                line.push_str(" and reserves nothing, so that others are told the same CPUs");
            }
        }
        line
    }

    /// Returns the CPUs that are reserved.
    pub fn reserved(&self) -> &CpuSet {
        match &self.place {
            Place::OwnPins { reserved }
            | Place::Promised { reserved }
            | Place::Floats { reserved, .. }
            | Place::Untuned { reserved } => reserved,
        }
    }
}

/// End of a line in observe mode.
pub const OBSERVED: &str = "; mode = observe: it starts as it is";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::HostCpu;
    use crate::types::reason::Outcome;

    #[test]
    fn place_and_reason_make_one_statement() {
        let one = || CpuSet::one(HostCpu(1));
        let none = CpuSet::new;
        let rows: [(Place, &str); 9] = [
            (
                Place::OwnPins { reserved: one() },
                "on its own pins, CPU 1 reserved",
            ),
            (
                Place::OwnPins { reserved: none() },
                "as it is defined, no CPU reserved",
            ),
            (
                Place::Promised { reserved: one() },
                "with CPU 1 reserved, and is pinned once it runs",
            ),
            (Place::Promised { reserved: none() }, "and is pinned once it runs"),
            (
                Place::Floats {
                    on: one(),
                    reserved: none(),
                },
                "without a place of its own, floats on CPU 1",
            ),
            (
                Place::Floats {
                    on: none(),
                    reserved: none(),
                },
                "without a place of its own, floats",
            ),
            (
                Place::Floats {
                    on: one(),
                    reserved: one(),
                },
                "with CPU 1 of its own pins reserved, the rest floats on CPU 1",
            ),
            (
                Place::Untuned { reserved: none() },
                "without a place of its own, as it is defined",
            ),
            (
                Place::Untuned { reserved: one() },
                "without a place of its own, as it is defined, CPU 1 of its own pins reserved",
            ),
        ];
        for (place, said) in rows {
            for (profile, in_brackets) in [(None, ""), (Some("fit"), " (profile fit)")] {
                let reasons = || vec![Outcome::NothingToChange.into(), Outcome::CopiedRecord.into()];
                let said_why = format!(": {}; {}", Outcome::NothingToChange, Outcome::CopiedRecord);
                for (why, after) in [(Vec::new(), String::new()), (reasons(), said_why)] {
                    let start = StartLine {
                        place: place.clone(),
                        profile: profile.map(str::to_string),
                        why,
                    };
                    assert_eq!(
                        start.line("db", false),
                        format!("db: starts {said}{in_brackets}{after}")
                    );
                    if start.reserved().is_empty() && matches!(place, Place::OwnPins { .. }) {
                        assert_eq!(start.line("db", true), start.line("db", false));
                        continue;
                    }
                    let others = match start.reserved().is_empty() {
                        true => "",
                        false => " and reserves nothing, so that others are told the same CPUs",
                    };
                    let observed = format!("; mode = observe: it starts as it is{others}");
                    assert_eq!(
                        start.line("db", true),
                        format!("db: would start {said}{in_brackets}{after}{observed}")
                    );
                }
            }
        }
    }
}
