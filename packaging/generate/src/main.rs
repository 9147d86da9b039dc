//! Generator of manual pages and shell completions: `virtfit-generate DIR` fills `DIR/man` and
//! `DIR/completions`.
//!
//! Each part has one source: options come from the definitions that parse them, the policy's keys
//! from `docs/policy.md` (a test of virtfit compares it with the table that reads them), all other
//! parts of a page from `docs/man/PAGE.md`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

mod bash;
mod completions;
mod markdown;
mod page;
mod tidy;

use clap::CommandFactory as _;

fn main() -> ExitCode {
    virtfit::panics::quiet();
    virtfit::panics::guarded(run).unwrap_or_else(|bug| fail(&bug.to_string()))
}

fn run() -> ExitCode {
    let Some(to) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return fail("usage: virtfit-generate DIR");
    };
    let written = man(&to.join("man")).and_then(|()| completions(&to.join("completions")));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{}: {error}", to.display())),
    }
}

#[allow(clippy::print_stderr)]
fn fail(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

/// Writes virtfit(1) and a page for each of its commands, virtfitd(8), virtfit-policy(5).
fn man(to: &Path) -> io::Result<()> {
    fresh(to)?;
    let mut virtfit = virtfit::cli::args::Args::command();
    virtfit.build();
    page::write_all(to, &virtfit, "1", "virtfit-policy(5), virtfitd(8)")?;
    let mut virtfitd = virtfit::daemon::args::Args::command();
    virtfitd.build();
    page::write_one(
        to,
        &virtfitd,
        "8",
        "virtfit(1), virtfit-policy(5), libvirtd(8), virtqemud(8)",
    )?;
    page::write_text(
        to,
        "virtfit-policy",
        "5",
        "which guests virtfit fits to their host, and how",
        include_str!("../../../docs/policy.md"),
        "virtfit(1), virtfit-policy\\-check(1), virtfitd(8)",
    )
}

/// Writes a script for each shell.
fn completions(to: &Path) -> io::Result<()> {
    fresh(to)?;
    let virtfit = completions::offered(&virtfit::cli::args::Args::command());
    fs::write(to.join("virtfit.bash"), bash::script(&virtfit))?;
    fs::write(to.join("_virtfit"), completions::zsh(&virtfit)?)?;
    fs::write(to.join("virtfit.fish"), completions::fish(&virtfit)?)
}

/// Makes an empty folder, so that a command that was removed leaves no page.
fn fresh(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)
}
