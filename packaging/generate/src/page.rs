//! Manual page: the parts clap knows, and the text `docs/man/` adds.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::markdown;
use crate::tidy::tidy;

/// Text after the options, by page; `## ` headings become sections.
const MORE: [(&str, &str); 13] = [
    ("virtfit", include_str!("../../../docs/man/virtfit.md")),
    (
        "virtfit-apply",
        include_str!("../../../docs/man/virtfit-apply.md"),
    ),
    (
        "virtfit-check",
        include_str!("../../../docs/man/virtfit-check.md"),
    ),
    ("virtfit-hook", include_str!("../../../docs/man/virtfit-hook.md")),
    ("virtfit-map", include_str!("../../../docs/man/virtfit-map.md")),
    (
        "virtfit-measure",
        include_str!("../../../docs/man/virtfit-measure.md"),
    ),
    (
        "virtfit-metrics",
        include_str!("../../../docs/man/virtfit-metrics.md"),
    ),
    ("virtfit-plan", include_str!("../../../docs/man/virtfit-plan.md")),
    (
        "virtfit-profile-set",
        include_str!("../../../docs/man/virtfit-profile-set.md"),
    ),
    (
        "virtfit-recommend",
        include_str!("../../../docs/man/virtfit-recommend.md"),
    ),
    (
        "virtfit-revert",
        include_str!("../../../docs/man/virtfit-revert.md"),
    ),
    (
        "virtfit-status",
        include_str!("../../../docs/man/virtfit-status.md"),
    ),
    ("virtfitd", include_str!("../../../docs/man/virtfitd.md")),
];

/// Writes a page for this command and for each below it.
///
/// # Errors
/// As of the filesystem.
pub(crate) fn write_all(to: &Path, command: &Command, section: &str, see: &str) -> io::Result<()> {
    write_one(to, command, section, see)?;
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let above = command.get_display_name().unwrap_or(command.get_name());
        write_all(to, below, section, &format!("{}({section})", escape_name(above)))?;
    }
    Ok(())
}

/// Writes the page of this command alone; `see` names related pages.
///
/// # Errors
/// As of the filesystem.
pub(crate) fn write_one(to: &Path, command: &Command, section: &str, see: &str) -> io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_string();
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section(section)
        .date(virtfit::version::DATE)
        .source(format!("virtfit {}", virtfit::version::NUMBER))
        .manual("virtfit");
    let mut page = Vec::new();
    page.extend_from_slice(head(&name, section).as_bytes());
    man.render_name_section(&mut page)?;
    page.extend_from_slice(synopsis(command).as_bytes());
    let more = MORE
        .iter()
        .find(|(of, _)| *of == name)
        .map_or("", |(_, more)| *more);
    if let Some(description) = more.strip_prefix("## Description\n") {
        let (own, _) = description.split_once("\n## ").unwrap_or((description, ""));
        page.extend_from_slice(format!(".SH DESCRIPTION\n{}", markdown::to_man(own)).as_bytes());
    } else {
        man.render_description_section(&mut page)?;
    }
    if command.get_arguments().any(|a| !a.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|c| !c.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let rest = match more.strip_prefix("## Description\n") {
        Some(description) => description
            .find("\n## ")
            .and_then(|at| description.get(at..))
            .unwrap_or(""),
        None => more,
    };
    page.extend_from_slice(markdown::to_man(rest).as_bytes());
    page.extend_from_slice(format!(".SH \"SEE ALSO\"\n{see}\n").as_bytes());
    let page = String::from_utf8(page).map_err(io::Error::other)?;
    fs::write(to.join(format!("{name}.{section}")), tidy(&page))
}

/// Writes a page that is made of a text alone.
///
/// # Errors
/// As of the filesystem.
pub(crate) fn write_text(
    to: &Path,
    name: &str,
    section: &str,
    about: &str,
    text: &str,
    see: &str,
) -> io::Result<()> {
    let page = format!(
        "{}.SH NAME\n{} \\- {about}\n.SH DESCRIPTION\n{}.SH \"SEE ALSO\"\n{see}\n",
        head(name, section),
        escape_name(name),
        markdown::to_man(text)
    );
    fs::write(to.join(format!("{name}.{section}")), tidy(&page))
}

/// Returns the beginning of every page: straight quotes stay straight (`\(aq`), words are not
/// hyphenated.
fn head(name: &str, section: &str) -> String {
    format!(
        ".\\\" Made by virtfit-generate; do not edit.\n.TH {} {section} \"{}\" \"virtfit {}\" virtfit\n.nh\n",
        escape_name(&name.to_uppercase()),
        virtfit::version::DATE,
        virtfit::version::NUMBER,
    )
}

/// Returns the usage line of `--help`, with its first words, the command, in bold.
fn synopsis(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().replace('-', "\\-");
    let name = escape_name(command.get_bin_name().unwrap_or(command.get_name()));
    let rest = usage.strip_prefix(&name).unwrap_or(&usage);
    format!(".SH SYNOPSIS\n\\fB{name}\\fR{rest}\n")
}

fn escape_name(name: &str) -> String {
    name.replace('-', "\\-")
}
