//! The log: stderr, no timestamps (the journal has them). error: your action failed; warn: odd, but it went on; info: one
//! line a decision; debug and trace: for developers.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use log::LevelFilter;

use crate::later;

/// Logs to stderr as `program`: warnings, with `-v` decisions, with more of it all.
pub fn to_stderr(program: &'static str, verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    start(program, level, env_logger::Target::Pipe(Box::new(later::Stderr)));
}

/// Lines kept until it is known what has to come before them.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// Takes the lines so far.
    pub fn take(&self) -> Vec<String> {
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

/// Log to memory: a hook's first line on stderr is its reason, whatever was logged before.
pub fn to_memory(verbose: u8) -> Kept {
    let kept = Kept::default();
    let level = match verbose {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    start("virtfit", level, env_logger::Target::Pipe(Box::new(kept.clone())));
    kept
}

fn start(program: &'static str, level: LevelFilter, target: env_logger::Target) {
    let logger = env_logger::Builder::new()
        .filter_module("virtfit", level)
        .target(target)
        .format(move |out, record| {
            let text = super::output::visible(&record.args().to_string());
            match record.level() {
                log::Level::Info => writeln!(out, "{program}: {text}"),
                log::Level::Warn => writeln!(out, "{program}: warning: {text}"),
                log::Level::Error => writeln!(out, "{program}: error: {text}"),
                level => writeln!(out, "{program}: {}: {text}", level.as_str().to_ascii_lowercase()),
            }
        })
        .try_init();
    // Only a second logger in one process fails, and then the first one does.
    drop(logger);
}
