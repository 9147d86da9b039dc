//! `virtfit measure`: how long guests wait for CPUs, and where they run, over an interval.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use crate::cli::args::{Global, MeasureArgs};
use crate::cli::session::{self, Session};
use crate::cli::{Exit, Failure, Outcome, output, status};
use crate::hostfs::atomic::Temporary;
use crate::measure::{self, Comparison, Measurement, Moment, Sampler, Subject, Verdict};
use crate::render;

/// Size up to which a saved measurement is read, in bytes.
const MOST: u64 = 64 << 20;
/// Time after which a line on the terminal tells of the progress.
const LONG: Duration = Duration::from_secs(1);

/// Answer in the form of its JSON.
#[derive(Serialize)]
struct Answer<'m> {
    #[serde(flatten)]
    measurement: &'m Measurement,
    /// Comparison with an earlier measurement; null: none was asked for.
    compared: Option<&'m Comparison>,
}

/// Runs the command. Exit 3: a guest is worse than before.
///
/// # Errors
/// Host, policy or the earlier measurement cannot be read, the file to save to cannot be written,
/// or a guest that is named does not run.
pub(crate) fn run(global: &Global, args: &MeasureArgs) -> Result<Outcome, Failure> {
    let root = session::host(global)?;
    // Files are looked at before the time is spent.
    let before = args.compare.as_deref().map(load).transpose()?;
    args.save.as_deref().map_or(Ok(()), can_be_saved)?;
    let session = Session::open_to_show(global, true)?;
    let (status, _) = status::seen(&session)?;
    let wanted: Option<Vec<String>> = match args.guests.is_empty() {
        true => None,
        false => {
            let only = status::only(&root, status.clone(), &args.guests)?;
            Some(only.guests.into_iter().map(|guest| guest.name).collect())
        }
    };
    let is_wanted = |name: &str| {
        wanted
            .as_ref()
            .is_none_or(|all| all.iter().any(|one| one == name))
    };
    let mut sampler = Sampler::new(&root, &status, is_wanted);
    let runs = |name: &String| sampler.subjects().iter().any(|subject| subject.name == *name);
    if let Some(name) = wanted.iter().flatten().find(|name| !runs(name)) {
        let text = "does not run, or its threads cannot be read: there is nothing to measure";
        return Err(Failure::at(name, text));
    }
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let moments = match sampler.subjects().is_empty() {
        true => Vec::new(),
        false => sample(&mut sampler, args.interval, global.quiet),
    };
    let mut stderr = session.policy_errors.clone();
    stderr.extend(gone(sampler.subjects(), &moments));
    let host = &session.view.host;
    let (subjects, names) = (sampler.subjects(), sampler.names());
    let measurement = measure::measurement(host, subjects, names, &moments, began.as_secs());
    let comparison = before.map(|before| measure::compare(&before, &measurement));
    let json = |compared| {
        output::json_line(&Answer {
            measurement: &measurement,
            compared,
        })
    };
    if let Some(file) = &args.save {
        save(file, &json(None)?)?;
    }
    let compared = comparison.as_ref();
    Ok(Outcome {
        stdout: match args.json {
            true => json(compared)?,
            false => render::measure::text(&measurement, compared, &output::style(global.color)),
        },
        stderr,
        exit: match compared.map(|compared| compared.verdict) {
            Some(Verdict::Worse) => Exit::No,
            _ => Exit::Done,
        },
    })
}

/// Lets the interval pass, with a line on a terminal that tells how much of it has.
fn sample(sampler: &mut Sampler<'_>, interval: Duration, quiet: bool) -> Vec<Moment> {
    let shown = !quiet && interval > LONG && io::stderr().is_terminal();
    let mut said = None;
    let moments = sampler.run(interval, |passed, next| {
        if shown && said != Some(passed.as_secs()) {
            said = Some(passed.as_secs());
            let all = interval.as_secs();
            let _ = write!(
                io::stderr(),
                "\rvirtfit: measuring, {} of {all} s",
                passed.as_secs()
            );
        }
        thread::sleep(next);
    });
    if said.is_some() {
        let _ = write!(io::stderr(), "\r{:40}\r", "");
    }
    moments
}

/// Lists the guests that were not there until the end, and those whose times are not counted.
fn gone(subjects: &[Subject], moments: &[Moment]) -> Vec<String> {
    let is_seen = |moment: Option<&Moment>, subject: &Subject| {
        let there = |tid| moment.is_some_and(|moment| moment.times.contains_key(tid));
        subject.threads.iter().any(|thread| there(&thread.tid))
    };
    let line = |subject: &Subject| {
        let name = &subject.name;
        match (
            is_seen(moments.first(), subject),
            is_seen(moments.last(), subject),
        ) {
            (true, true) => None,
            (true, false) => Some(format!(
                "virtfit: {name}: ended: its figures are of the time before"
            )),
            (false, _) => Some(format!(
                "virtfit: {name}: its threads' times cannot be read (/proc/PID/task/TID/schedstat)"
            )),
        }
    };
    subjects.iter().filter_map(line).collect()
}

/// Reads a measurement that was saved.
fn load(file: &Path) -> Result<Measurement, Failure> {
    let io = |error: io::Error| Failure::io(file.display(), &error);
    let mut text = String::new();
    let opened = File::open(file).map_err(io)?;
    opened.take(MOST).read_to_string(&mut text).map_err(io)?;
    let broken = |why: String| {
        Failure::at(
            file.display(),
            format!("{why}: virtfit measure --save writes one"),
        )
    };
    let read: Measurement =
        serde_json::from_str(&text).map_err(|error| broken(format!("not a measurement: {error}")))?;
    match read.version == measure::VERSION {
        true => Ok(read),
        false => Err(broken(format!("a measurement of version {}", read.version))),
    }
}

fn folder(file: &Path) -> &Path {
    let folder = file.parent().unwrap_or(Path::new("/"));
    match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    }
}

/// Checks that a file can be written beside what is there.
fn can_be_saved(file: &Path) -> Result<(), Failure> {
    if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
        return Err(Failure::at(file.display(), "is not a regular file"));
    }
    let may = access(folder(file), AccessFlags::W_OK | AccessFlags::X_OK);
    may.map_err(|error| Failure::io(file.display(), &error.into()))
}

/// Writes a file; it is the old one, or whole.
fn save(file: &Path, text: &str) -> Result<(), Failure> {
    let written = || -> io::Result<()> {
        let (temporary, mut new) = Temporary::file(folder(file))?;
        new.write_all(text.as_bytes())?;
        temporary.replace(file)
    };
    written().map_err(|error| Failure::io(file.display(), &error))
}
