//! Differences between two texts, and the test of whether settings are in force.

use std::collections::{BTreeMap, BTreeSet};

use crate::rewrite::places::Places;
use crate::rewrite::target::document_order;
use crate::rewrite::value::{same, show};
use crate::rewrite::{Head, Provenance};
use crate::types::plan::Change;
use crate::types::reason::Basis;
use crate::types::setting::{Setting, Target};
use crate::types::target::Effect;
use crate::xml::{Document, XmlError};

/// Lists the differences in value between two texts, in document order, for every target of
/// `settings` and of `old`, the record of what virtfit wrote before.
///
/// # Errors
/// A root is not `<domain>`.
pub(crate) fn changes(
    before: &Document<'_>,
    after: &Document<'_>,
    settings: &[Setting],
    old: Option<&Provenance>,
) -> Result<Vec<Change>, XmlError> {
    let before = Places::new(before)?;
    let after = Places::new(after)?;
    let asked: BTreeMap<&Target, &Setting> = settings.iter().map(|s| (&s.target, s)).collect();
    let mut targets: BTreeSet<&Target> = asked.keys().copied().collect();
    targets.extend(old.iter().flat_map(|old| &old.owned).map(|owned| &owned.target));
    let mut sorted: Vec<&Target> = targets.into_iter().collect();
    sorted.sort_by_cached_key(|target| document_order(target, |device| after.device_position(device)));
    let mut out = Vec::new();
    for target in sorted {
        let (from, to) = (before.value(target), after.value(target));
        if same(target, show(&from).as_deref(), show(&to).as_deref()) {
            continue;
        }
        let setting = asked.get(target);
        out.push(Change {
            target: target.clone(),
            from,
            to,
            why: setting.map_or(Basis::NoLongerSet, |setting| setting.why.clone()),
            effect: Effect::NextStart,
        });
    }
    Ok(out)
}

/// Returns true if applying `settings` again would change nothing of meaning: profile, policy,
/// shape and targets are equal, and each target still holds the value that is asked for and that
/// virtfit wrote.
///
/// # Errors
/// The root is not `<domain>`.
pub(crate) fn in_force(
    document: &Document<'_>,
    provenance: &Provenance,
    settings: &[Setting],
    head: &Head,
) -> Result<bool, XmlError> {
    if provenance.head != *head || provenance.owned.len() != settings.len() {
        return Ok(false);
    }
    let places = Places::new(document)?;
    let asked: BTreeMap<&Target, Option<String>> =
        settings.iter().map(|s| (&s.target, show(&s.value))).collect();
    Ok(provenance.owned.iter().all(|owned| {
        let wrote = show(&owned.wrote);
        asked.get(&owned.target) == Some(&wrote)
            && same(
                &owned.target,
                places.read(&owned.target).as_deref(),
                wrote.as_deref(),
            )
    }))
}
