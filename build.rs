//! Build script: gives the programs the commit they were built from, as `VIRTFIT_VERSION` ("0.1.0
//! (0123456789ab)"), and the day of that commit for the manual pages, as `VIRTFIT_DATE`.
//!
//! The sources, in this order: the environment (`VIRTFIT_COMMIT`, and `SOURCE_DATE_EPOCH` for the
//! day), the git checkout whose top this folder is, and `packaging/commit`, which `git archive`
//! fills in. Without any of them the version stands alone. Nothing is fetched, and git is not
//! required.

use std::path::Path;
use std::process::Command;

fn main() {
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    for variable in ["VIRTFIT_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed=packaging/commit");
    println!("cargo::rerun-if-changed=build.rs");
    let found = checkout().or_else(archive);
    let commit = variable("VIRTFIT_COMMIT")
        .map(|commit| commit.chars().take(12).collect())
        .or_else(|| found.as_ref().map(|(commit, _)| commit.clone()));
    let day = variable("SOURCE_DATE_EPOCH")
        .and_then(|seconds| seconds.parse().ok())
        .map(day)
        .or_else(|| found.map(|(_, day)| day))
        .unwrap_or_default();
    let version = match commit {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo::rustc-env=VIRTFIT_VERSION={version}");
    println!("cargo::rustc-env=VIRTFIT_DATE={day}");
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns commit and day of the checkout, if this folder is the top of one. A source tree unpacked
/// inside another project's checkout is none.
fn checkout() -> Option<(String, String)> {
    if !Path::new(".git").exists() {
        return None;
    }
    // Paths that change with each commit, or that make the tree differ from its commit.
    let moves = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    for path in [moves.as_str(), "src", "hooks", "Cargo.toml", "Cargo.lock"] {
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let last = git(&["log", "-1", "--format=%h %cs", "--abbrev=12"])?;
    let (commit, day) = last.split_once(' ')?;
    let status = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let changed = if status.is_empty() { "" } else { ", changed" };
    Some((format!("{commit}{changed}"), day.to_string()))
}

/// Returns commit and day as `git archive` wrote them into the tarball; in a checkout the file
/// still holds the placeholders.
fn archive() -> Option<(String, String)> {
    let text = std::fs::read_to_string("packaging/commit").ok()?;
    let (commit, day) = text.trim().split_once(' ')?;
    let commit: String = commit.chars().take(12).collect();
    commit
        .chars()
        .all(|c| c.is_ascii_hexdigit())
        .then(|| (commit, day.to_string()))
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}

/// Returns seconds since 1970 as `YYYY-MM-DD`, UTC (Howard Hinnant's `civil_from_days`, for days
/// after 1970).
fn day(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (month, carry) = if shifted < 10 {
        (shifted + 3, 0)
    } else {
        (shifted - 9, 1)
    };
    let of_month = of_year - (153 * shifted + 2) / 5 + 1;
    format!("{:04}-{month:02}-{of_month:02}", year + era * 400 + carry)
}
