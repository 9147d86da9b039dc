//! Counters of guests' threads, read again and again: the only part of a measurement that reads the
//! host.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::host::numa_maps::{self, ByNode};
use crate::host::thread_counts::{self, Counts, Task, Tasks, Times};
use crate::host::threads;
use crate::hostfs::HostFs;
use crate::measure::SLICES;
use crate::status::Status;
use crate::types::idset::CpuSet;

/// Part of one CPU's time that looking may take: a twentieth.
const SHARE: u32 = 20;
/// Shortest time between two looks.
const OFTEN: Duration = Duration::from_millis(100);
/// Largest number of looks in one measurement.
const MOST: u32 = 600;

/// Guest to be measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Subject {
    /// Guest's name.
    pub name: String,
    /// Guest's UUID.
    pub uuid: String,
    /// Profile by rule or request.
    pub profile: Option<String>,
    /// Process of QEMU.
    pub pid: u32,
    /// Threads of the guest.
    pub threads: Vec<Watched>,
    /// Memory of QEMU at the end of the interval; `None`: not known.
    pub memory: Option<ByNode>,
}

/// Thread to be measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Watched {
    /// Thread id.
    pub tid: u32,
    /// Role of the thread, as in `virtfit status`.
    pub role: String,
    /// CPUs that are its place; empty: any.
    pub planned: CpuSet,
}

/// Counters at one moment, by thread id.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Moment {
    /// Time since the first moment.
    pub at: Duration,
    /// Times of each thread that is there.
    pub times: BTreeMap<u32, Times>,
    /// Everything that is read less often; `None` inside of a slice.
    pub rest: Option<Rest>,
}

/// Counters at the border of two slices.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rest {
    /// Events of each thread, by thread id.
    pub counts: BTreeMap<u32, Counts>,
    /// Exits of KVM, by process.
    pub exits: BTreeMap<u32, u64>,
    /// Tasks of the host that ran since the border before, or since an earlier one.
    pub tasks: Vec<Task>,
}

/// Reader of one measurement.
#[derive(Debug)]
pub(crate) struct Sampler<'r> {
    root: &'r HostFs,
    subjects: Vec<Subject>,
    /// Names of all guests that run, by process.
    names: BTreeMap<u32, String>,
    tasks: Tasks,
    /// Time the last look at all tasks took.
    tasks_took: Duration,
}

impl<'r> Sampler<'r> {
    /// Prepares the measurement of the guests of a status that run and are wanted.
    pub(crate) fn new(root: &'r HostFs, status: &Status, is_wanted: impl Fn(&str) -> bool) -> Self {
        let subject = |guest: &crate::status::Guest| {
            let pid = guest
                .threads
                .iter()
                .filter(|thread| thread.role != "vhost")
                .find_map(|thread| thread_counts::process_of(root, thread.tid))?;
            let threads = guest.threads.iter().map(|thread| Watched {
                tid: thread.tid,
                role: thread.role.clone(),
                planned: thread.expected.clone(),
            });
            Some(Subject {
                name: guest.name.clone(),
                uuid: guest.uuid.clone(),
                profile: guest.profile.clone(),
                pid,
                threads: threads.collect(),
                memory: None,
            })
        };
        let all: Vec<Subject> = status.guests.iter().filter_map(subject).collect();
        let names = all.iter().map(|subject| (subject.pid, subject.name.clone()));
        Self {
            root,
            names: names.collect(),
            subjects: all
                .into_iter()
                .filter(|subject| is_wanted(&subject.name))
                .collect(),
            tasks: Tasks::default(),
            tasks_took: Duration::ZERO,
        }
    }

    /// Returns the guests that are measured.
    pub(crate) fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// Returns the names of all guests that run, by process.
    pub(crate) fn names(&self) -> &BTreeMap<u32, String> {
        &self.names
    }

    /// Reads counters over an interval, and memory at its end. `wait` lets the time until the next
    /// look pass.
    pub(crate) fn run(
        &mut self,
        interval: Duration,
        mut wait: impl FnMut(Duration, Duration),
    ) -> Vec<Moment> {
        let begin = Instant::now();
        let mut moments = vec![self.look(begin, true, true)];
        let slice = interval / SLICES;
        for number in 1..=SLICES {
            let border = slice.saturating_mul(number);
            let mut took = Duration::ZERO;
            loop {
                let passed = begin.elapsed();
                let next = OFTEN.max(interval / MOST).max(took * SHARE);
                // A look shortly before the border would tell nothing more.
                if passed + next + next / 2 >= border {
                    break;
                }
                wait(passed, next);
                let looked = Instant::now();
                moments.push(self.look(begin, false, false));
                took = looked.elapsed();
            }
            wait(begin.elapsed(), border.saturating_sub(begin.elapsed()));
            let cheap = self.tasks_took * SHARE < slice;
            moments.push(self.look(begin, true, cheap || number == SLICES));
        }
        for subject in &mut self.subjects {
            subject.memory = numa_maps::of(self.root, subject.pid);
        }
        moments
    }

    /// Reads the counters of one moment. `border`: those that are read less often, too; `tasks`: of
    /// all tasks of the host.
    fn look(&mut self, begin: Instant, border: bool, tasks: bool) -> Moment {
        let mut moment = Moment {
            at: begin.elapsed(),
            ..Moment::default()
        };
        let mut rest = Rest::default();
        for subject in &self.subjects {
            for thread in &subject.threads {
                let pid = match thread.role.as_str() {
                    "vhost" => thread.tid,
                    _ => subject.pid,
                };
                let folder = threads::folder(pid, thread.tid);
                if let Some(times) = thread_counts::times(self.root, &folder) {
                    moment.times.insert(thread.tid, times);
                }
                if border {
                    let counts = thread_counts::counts(self.root, &folder);
                    rest.counts.insert(thread.tid, counts);
                }
            }
        }
        if border {
            rest.exits = thread_counts::kvm_exits(self.root);
            if tasks {
                let looked = Instant::now();
                rest.tasks = self.tasks.look(self.root);
                self.tasks_took = looked.elapsed();
            }
            moment.rest = Some(rest);
        }
        moment
    }
}
