//! Recent writes of one definition, and the waits that follow from them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Time after an administrator's change in which nothing unasked is done: `virsh edit` reads the
/// definition, lets the administrator edit it, and reads it again to compare.
const ADMIN_WAIT: Duration = Duration::from_secs(60);
/// Most defines of one guest within [`ADMIN_WAIT`]; more are a quarrel with another program.
pub(crate) const MOST_DEFINES: usize = 20;
/// Most redefines in a row without a change from outside: one that settles nothing is tried once
/// more.
pub(crate) const MOST_IN_A_ROW: u32 = 2;

/// Time within which a second change of a definition by others is one of several in a row.
const IN_A_ROW: Duration = Duration::from_secs(1);
/// Quiet after the last of several changes in a row, before the definition is examined: a define of
/// virtfit's between two of them could undo one.
const QUIET: Duration = Duration::from_millis(300);

/// Latest changes of definitions by others, by the guests' names: kept also for those that went
/// away.
#[derive(Debug, Default)]
pub(crate) struct RecentChanges(BTreeMap<String, Recent>);

#[derive(Debug)]
struct Recent {
    last: Instant,
    /// Others came shortly before it.
    in_a_row: bool,
}

impl RecentChanges {
    /// Notes that others wrote or removed a definition.
    pub(crate) fn note(&mut self, name: &str, now: Instant) {
        self.0
            .retain(|_, recent| now.duration_since(recent.last) < IN_A_ROW);
        let in_a_row = self.0.contains_key(name);
        self.0.insert(name.into(), Recent { last: now, in_a_row });
    }

    /// Returns the time until which a definition is to rest, as it was changed several times in a
    /// row.
    pub(crate) fn rests_until(&self, name: &str, now: Instant) -> Option<Instant> {
        let recent = self.0.get(name).filter(|recent| recent.in_a_row)?;
        let until = recent.last + QUIET;
        (until > now).then_some(until)
    }
}

/// State of one definition, beside the records on disk.
#[derive(Debug, Default)]
pub(crate) struct Track {
    /// Guest's UUID.
    pub uuid: String,
    /// Time of the last write by another program.
    changed: Option<Instant>,
    /// Times of virtfit's own defines within [`ADMIN_WAIT`].
    defines: VecDeque<Instant>,
    /// Redefines since the last change from outside.
    in_a_row: u32,
    /// Last line logged, so that a line is logged once.
    said: String,
}

impl Track {
    /// Allows new tries, as something outside changed.
    pub(crate) fn fresh_start(&mut self) {
        self.in_a_row = 0;
    }

    /// Notes a write by another program, `age` ago; `None`: the time is not known.
    pub(crate) fn written_by_others(&mut self, age: Option<Duration>, now: Instant) {
        self.fresh_start();
        let written = age.and_then(|age| now.checked_sub(age));
        self.changed = self.changed.max(written);
    }

    /// Notes a define by virtfit.
    pub(crate) fn written_by_us(&mut self, now: Instant) {
        self.defines.push_back(now);
        self.in_a_row += 1;
    }

    /// Returns the time until which an administrator may be editing the definition; `None`: no edit
    /// is likely now.
    pub(crate) fn edited_until(&self, now: Instant) -> Option<Instant> {
        let until = self.changed? + ADMIN_WAIT;
        (until > now).then_some(until)
    }

    /// Returns whether [`MOST_IN_A_ROW`] redefines in a row settled nothing.
    pub(crate) fn never_settles(&self) -> bool {
        self.in_a_row >= MOST_IN_A_ROW
    }

    /// Returns the time until which the definition is left alone, as virtfit defined it
    /// [`MOST_DEFINES`] times within [`ADMIN_WAIT`].
    pub(crate) fn quarrels_until(&mut self, now: Instant) -> Option<Instant> {
        self.defines.retain(|time| now.duration_since(*time) < ADMIN_WAIT);
        let first = self.defines.front()?;
        (self.defines.len() >= MOST_DEFINES).then(|| *first + ADMIN_WAIT)
    }

    /// Returns whether a line differs from the last one, and takes its place.
    pub(crate) fn is_news(&mut self, line: &str) -> bool {
        let news = self.said != line;
        if news {
            self.said = line.into();
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_last_change_counts_whenever_it_is_told() {
        let start = Instant::now() + 1000 * SECOND;
        let mut track = Track::default();
        assert_eq!(track.edited_until(start), None);
        track.written_by_others(Some(10 * SECOND), start);
        let until = start + 50 * SECOND;
        assert_eq!(track.edited_until(start), Some(until));
        // An older write, and one of unknown age, take nothing back.
        track.written_by_others(Some(30 * SECOND), start);
        track.written_by_others(None, start);
        assert_eq!(track.edited_until(start), Some(until));
        assert_eq!(track.edited_until(until), None);
    }

    #[test]
    fn only_what_changes_again_shortly_afterwards_rests() {
        let (start, quiet) = (Instant::now(), Duration::from_millis(300));
        let mut recent = RecentChanges::default();
        recent.note("a", start);
        assert_eq!(recent.rests_until("a", start), None, "a first change");
        let again = start + SECOND / 10;
        recent.note("b", again);
        assert_eq!(recent.rests_until("b", again), None, "another guest's");
        recent.note("a", again);
        assert_eq!(recent.rests_until("a", again), Some(again + quiet));
        // The quiet begins again with each further change.
        let third = again + SECOND / 5;
        recent.note("a", third);
        assert_eq!(recent.rests_until("a", third), Some(third + quiet));
        assert_eq!(recent.rests_until("a", third + quiet), None);
        recent.note("a", third + SECOND);
        assert_eq!(recent.rests_until("a", third + SECOND), None, "long afterwards");
        assert_eq!(recent.0.len(), 1, "older ones are forgotten");
    }

    #[test]
    fn what_never_settles_is_left_alone_until_others_write_it() {
        let now = Instant::now();
        let mut track = Track::default();
        for expected in [false, false, true, true] {
            assert_eq!(track.never_settles(), expected);
            track.written_by_us(now);
        }
        track.written_by_others(None, now);
        assert!(!track.never_settles());
    }

    #[test]
    fn too_many_defines_within_a_minute_are_a_quarrel() {
        let start = Instant::now();
        let mut track = Track::default();
        for number in 0..20 {
            assert_eq!(track.quarrels_until(start + number * SECOND), None, "{number}");
            track.written_by_us(start + number * SECOND);
        }
        assert_eq!(
            track.quarrels_until(start + 20 * SECOND),
            Some(start + 60 * SECOND)
        );
        assert_eq!(
            track.quarrels_until(start + 60 * SECOND),
            None,
            "the first is over"
        );
    }

    #[test]
    fn a_line_is_news_once() {
        let mut track = Track::default();
        for (line, news) in [("a", true), ("a", false), ("b", true), ("a", true)] {
            assert_eq!(track.is_news(line), news, "{line}");
        }
    }
}
