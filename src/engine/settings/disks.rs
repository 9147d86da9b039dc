//! Disk drivers: cache, io, discard, queues.

use crate::domain::Disk;
use crate::engine::case::Case;
use crate::engine::fit::Fit;
use crate::engine::settings::List;
use crate::policy::profile::DiskRule;
use crate::types::devices::ImageFacts;
use crate::types::plan::Scope;
use crate::types::reason::{Basis, LeftOut};
use crate::types::setting::{DiskAttribute, Target, Value};
use crate::types::subject::Subject;

/// Decides the settings of every disk.
pub(crate) fn all(fit: &Fit<'_>, list: &mut List) {
    let Case { domain, wishes, .. } = *fit.case;
    for disk in &domain.disks {
        if let Some(warning) = sparse(fit, disk) {
            list.not_done(Subject::DiskCacheAndIo(disk.target.clone()), warning);
        }
        cache_and_io(fit, disk, list);
        let rules = &wishes.profile.disk;
        // The guest sees that its disk takes discards, but libvirt lets a migration change that: it
        // is decided in both scopes.
        let may_see = !wishes.profile.keep_guest_visible && !domain.launch_security;
        if is_disk(disk) && may_see {
            fixed(
                fit,
                disk,
                DiskAttribute::Discard,
                &rules.discard,
                disk.discard.as_deref(),
                list,
            );
        }
        let queues = disk.bus == "virtio"
            && wishes.visible
            && fit.case.scope == Scope::Boot
            && fit.case.shape.is_none();
        if queues && is_disk(disk) {
            fixed(
                fit,
                disk,
                DiskAttribute::Queues,
                &rules.queues,
                disk.queues.as_deref(),
                list,
            );
        }
    }
}

/// Returns whether cache and io apply to a disk: not to CD-ROMs and floppies, and only to what QEMU
/// itself reads from this host.
fn is_disk(disk: &Disk) -> bool {
    !matches!(disk.device.as_str(), "cdrom" | "floppy")
        && !matches!(
            disk.kind.as_str(),
            "network" | "nvme" | "vhostuser" | "vhostvdpa" | "dir"
        )
}

fn fixed(
    fit: &Fit<'_>,
    disk: &Disk,
    attribute: DiskAttribute,
    rule: &DiskRule,
    now: Option<&str>,
    list: &mut List,
) {
    let DiskRule::Value(value) = rule else { return };
    if now == Some(value.as_str()) {
        return;
    }
    if now.is_some() && fit.case.wishes.keep {
        return list.keep(Subject::Value(Target::Disk(disk.target.clone(), attribute)));
    }
    let target = Target::Disk(disk.target.clone(), attribute);
    let value = Value::Text(value.clone());
    list.set(target, value, Basis::ByProfile);
}

/// Returns whether a disk is a block device, or a raw file with all its blocks allocated on a
/// filesystem that takes `O_DIRECT`.
fn direct(fit: &Fit<'_>, disk: &Disk) -> bool {
    match fit.case.facts.disks.get(&disk.target) {
        Some(ImageFacts::Block) => true,
        Some(ImageFacts::File {
            direct, preallocated, ..
        }) => *direct && *preallocated && is_raw(disk),
        _ => false,
    }
}

fn is_raw(disk: &Disk) -> bool {
    disk.format.as_deref().is_none_or(|format| format == "raw")
}

fn sparse(fit: &Fit<'_>, disk: &Disk) -> Option<LeftOut> {
    let rules = &fit.case.wishes.profile.disk;
    let asked = rules.cache == DiskRule::Auto || rules.io == DiskRule::Auto;
    let both_kept = disk.cache.is_some() && disk.io.is_some() && fit.case.wishes.keep;
    if !asked || both_kept || !is_disk(disk) {
        return None;
    }
    match fit.case.facts.disks.get(&disk.target)? {
        ImageFacts::File {
            preallocated: false,
            direct: true,
            ..
        } if is_raw(disk) => Some(LeftOut::ImageSparse),
        ImageFacts::File {
            direct: false,
            fstype,
            ..
        } if is_raw(disk) => Some(LeftOut::NoDirectIo {
            fstype: fstype.clone(),
        }),
        ImageFacts::Unknown { why } => Some(why.clone()),
        _ => None,
    }
}

fn cache_and_io(fit: &Fit<'_>, disk: &Disk, list: &mut List) {
    let wishes = fit.case.wishes;
    let rules = &wishes.profile.disk;
    if !is_disk(disk) {
        return;
    }
    // The rule's value, where `auto` means direct I/O if the image allows it.
    let direct = direct(fit, disk);
    let wanted = |rule: &DiskRule, auto: &str| match rule {
        DiskRule::Auto => direct.then(|| auto.to_string()),
        DiskRule::Keep => None,
        DiskRule::Value(value) => Some(value.clone()),
    };
    // What an administrator wrote stays, and is named where the profile asked for another value.
    let stays =
        |now: &Option<String>, rule: &DiskRule| now.is_some() && (wishes.keep || *rule == DiskRule::Keep);
    let cache_stays = stays(&disk.cache, &rules.cache);
    let mut cache = wanted(&rules.cache, "none").filter(|_| !cache_stays);
    let io_stays = stays(&disk.io, &rules.io);
    let mut io = wanted(&rules.io, "native").filter(|_| !io_stays);
    let cache_wish = wanted(&rules.cache, "none");
    let io_wish = wanted(&rules.io, "native");
    for (attribute, stays, now, wish) in [
        (DiskAttribute::Cache, cache_stays, &disk.cache, cache_wish),
        (DiskAttribute::Io, io_stays, &disk.io, io_wish),
    ] {
        if let Some(value) = now
            .as_ref()
            .filter(|now| stays && wish.as_ref().is_some_and(|wish| wish != *now))
        {
            list.keep(Subject::DiskValue(disk.target.clone(), attribute, value.clone()));
        }
    }
    // A kept io=native rules out any other cache mode, and native needs a cache mode that bypasses
    // the page cache.
    let uncached = |mode: Option<&str>| matches!(mode, Some("none" | "directsync"));
    let refused = |facts: Option<&ImageFacts>| matches!(facts, Some(ImageFacts::File { direct: false, .. }));
    if refused(fit.case.facts.disks.get(&disk.target)) {
        if cache.as_deref().is_some_and(|cache| uncached(Some(cache))) {
            cache = None;
            list.not_done(
                Subject::DiskValue(disk.target.clone(), DiskAttribute::Cache, "none".into()),
                LeftOut::CacheWantsDirectIo,
            );
        }
        if io.as_deref() == Some("native") && !uncached(disk.cache.as_deref()) {
            io = None;
        }
    }
    if io_stays
        && disk.io.as_deref() == Some("native")
        && cache.as_deref().is_some_and(|c| !uncached(Some(c)))
    {
        list.not_done(
            Subject::Value(Target::Disk(disk.target.clone(), DiskAttribute::Cache)),
            LeftOut::NativeStays,
        );
        cache = None;
    }
    // io=native needs a cache mode without page cache, whether that is new or was there.
    let final_cache = cache.as_deref().or(disk.cache.as_deref());
    if io.as_deref() == Some("native") && !uncached(final_cache) {
        let now = final_cache.unwrap_or("unset");
        list.not_done(
            Subject::DiskValue(disk.target.clone(), DiskAttribute::Io, "native".into()),
            LeftOut::NativeWantsCache { cache: now.into() },
        );
        io = None;
    }
    // An io=native that is there under `on_existing = "override"` cannot stay beside such a cache.
    let stays_native = io.is_none() && !io_stays && disk.io.as_deref() == Some("native");
    let gone = stays_native && !uncached(final_cache);
    // Only values that differ from what is there are settings.
    let why = |rule: &DiskRule| match (rule, fit.case.facts.disks.get(&disk.target)) {
        (DiskRule::Auto, Some(ImageFacts::Block)) => Basis::BlockDevice,
        (DiskRule::Auto, _) => Basis::PreallocatedFile,
        _ => Basis::ByProfile,
    };
    if let Some(cache) = cache.filter(|cache| disk.cache.as_ref() != Some(cache)) {
        let target = Target::Disk(disk.target.clone(), DiskAttribute::Cache);
        list.set(target, Value::Text(cache), why(&rules.cache));
    }
    let target = Target::Disk(disk.target.clone(), DiskAttribute::Io);
    if gone {
        list.set(target, Value::Absent, Basis::NativeNeedsDirect);
    } else if let Some(io) = io.filter(|io| disk.io.as_ref() != Some(io)) {
        list.set(target, Value::Text(io), why(&rules.io));
    }
}
