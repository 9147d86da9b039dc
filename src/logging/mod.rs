//! The log: lines on stderr without timestamps, which the journal adds. Levels: error, an action
//! failed; warn, odd but virtfit went on; info, one line about each decision; debug and trace, for
//! developers.

pub(crate) mod deferred;
pub(crate) mod repeats;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use log::LevelFilter;

/// Logs to stderr as `program`. `verbose` is 0 for warnings, 1 for decisions too, 2 for debugging,
/// 3 for everything.
pub fn to_stderr(program: &'static str, verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    to_stderr_from(program, level);
}

/// Logs errors alone to stderr as `program`.
pub fn errors_to_stderr(program: &'static str) {
    to_stderr_from(program, LevelFilter::Error);
}

fn to_stderr_from(program: &'static str, level: LevelFilter) {
    let form = if is_journal() { Form::Journal } else { Form::Plain };
    start(
        program,
        level,
        form,
        env_logger::Target::Pipe(Box::new(deferred::Stderr)),
    );
}

/// Form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Plain lines, for people.
    Plain,
    /// Lines for systemd's journal: one entry each, with its priority (`sd-daemon(3)`), so that
    /// `journalctl -p warning` finds it.
    Journal,
}

/// Returns whether stderr is the journal's stream, by its device and inode (`systemd.exec(5)`,
/// `JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Some(named) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    let stat = nix::sys::stat::fstat(io::stderr());
    stat.is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Returns one line of the log as it is written.
fn line(program: &str, level: log::Level, text: &str, form: Form) -> String {
    let text = crate::types::printable::visible(text).replace('\n', " | ");
    let (priority, word) = match level {
        log::Level::Error => (3, "error: "),
        log::Level::Warn => (4, "warning: "),
        log::Level::Info => (6, ""),
        log::Level::Debug => (7, "debug: "),
        log::Level::Trace => (7, "trace: "),
    };
    match form {
        Form::Plain => format!("{program}: {word}{text}"),
        Form::Journal => format!("<{priority}>{program}: {word}{text}"),
    }
}

/// Log lines kept in memory until it is known which line has to come first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// Takes the lines logged up to now.
    pub(crate) fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes)
            .lines()
            .map(str::to_string)
            .collect()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs to memory: the first line of a hook on stderr has to be its reason, whatever was logged
/// before.
pub(crate) fn to_memory(verbose: u8) -> Kept {
    let kept = Kept::default();
    let level = match verbose {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let target = env_logger::Target::Pipe(Box::new(kept.clone()));
    start("virtfit", level, Form::Plain, target);
    kept
}

fn start(program: &'static str, level: LevelFilter, form: Form, target: env_logger::Target) {
    let logger = env_logger::Builder::new()
        .filter_module("virtfit", level)
        .target(target)
        .format(move |out, record| {
            let text = record.args().to_string();
            writeln!(out, "{}", line(program, record.level(), &text, form))
        })
        .try_init();
    // Only a second logger in one process fails; the first one then stays.
    drop(logger);
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    #[test]
    fn a_line_has_its_level_and_is_one_entry_of_the_journal() {
        for (level, form, want) in [
            (Level::Info, Form::Plain, "virtfitd: a | b"),
            (Level::Warn, Form::Plain, "virtfitd: warning: a | b"),
            (Level::Error, Form::Journal, "<3>virtfitd: error: a | b"),
            (Level::Warn, Form::Journal, "<4>virtfitd: warning: a | b"),
            (Level::Info, Form::Journal, "<6>virtfitd: a | b"),
            (Level::Debug, Form::Journal, "<7>virtfitd: debug: a | b"),
        ] {
            assert_eq!(line("virtfitd", level, "a\nb", form), want);
            let hidden = line("virtfitd", level, "a\u{1b}\u{202e}\u{200b}b", form);
            assert!(hidden.ends_with(r"a\u{1b}\u{202e}\u{200b}b"), "{hidden}");
        }
    }
}
