//! Verdicts of a comparison as text.

use crate::measure::{Comparison, GuestCompared, Kind, Verdict};
use crate::render::Style;
use crate::render::escape::clean;
use crate::render::layout::{Line, Paint, paragraph, width};
use crate::render::measure::value;
use crate::types::plural::list;

/// Draws the verdicts.
pub(super) fn draw(compared: &Comparison, began: u64, style: &Style, out: &mut Vec<Line>) {
    let earlier = age(began.saturating_sub(compared.began));
    let verdict = match compared.verdict {
        Verdict::Better => "Better than",
        Verdict::Same => "Same as",
        Verdict::Worse => "Worse than",
        Verdict::Unknown => "Not to be compared with",
    };
    let said = format!(
        "{verdict} {earlier} earlier (measured for {:.0} s).",
        compared.seconds
    );
    paragraph(out, "", 0, &said, paint(compared.verdict), style);
    for guest in &compared.guests {
        guest_compared(guest, style, out);
    }
    if !compared.missing.is_empty() {
        let said = format!("measured before and not now: {}", list(&compared.missing));
        paragraph(out, "", 0, &clean(&said, style.unicode), Paint::Plain, style);
    }
}

fn guest_compared(guest: &GuestCompared, style: &Style, out: &mut Vec<Line>) {
    let why = match guest.figures.is_empty() {
        true => ": not measured before",
        false => "",
    };
    let said = format!("{}: {}{why}", guest.name, guest.verdict.word());
    paragraph(
        out,
        "",
        0,
        &clean(&said, style.unicode),
        paint(guest.verdict),
        style,
    );
    for figure in &guest.figures {
        let kind = figure.figure;
        if figure.before.is_none() && figure.after.is_none() {
            continue;
        }
        let mut line = Line::of(format!("  {}", words(kind)), Paint::Plain);
        let before = value(kind, figure.before);
        line.pad_to(34 - width(&before)).push(before, Paint::Dim);
        line.push(format!(" {} ", style.arrow()), Paint::Dim);
        let after = value(kind, figure.after);
        line.pad_to(46 - width(&after)).push(after, Paint::Plain);
        let by = match (figure.before, figure.after) {
            (Some(before), Some(after)) => (after - before).abs(),
            _ => 0.0,
        };
        let noise = format!("noise {:.1}", figure.noise);
        let said = match figure.verdict {
            _ if !kind.is_judged() => match guest.load_differs {
                true => format!("differs ({noise})"),
                false => format!("same ({noise})"),
            },
            Verdict::Better | Verdict::Worse => format!("{} by {by:.1} ({noise})", figure.verdict.word()),
            Verdict::Same => format!("same ({noise})"),
            Verdict::Unknown => figure.verdict.word().to_string(),
        };
        line.push(format!("  {said}"), paint(figure.verdict));
        out.push(line);
    }
    if guest.load_differs && !guest.figures.is_empty() {
        let said = "the guest did other work than before: the other figures may differ for that reason";
        paragraph(out, "  ", 2, said, Paint::Strong, style);
    }
}

fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::Load => "CPUs wanted",
        Kind::Waited => "waited for a CPU",
        Kind::OffNode => "off its nodes",
        Kind::Remote => "memory elsewhere",
        Kind::OffCpu => "off its CPUs",
        Kind::Migrations => "moved",
        Kind::Preempted => "preempted",
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

fn paint(verdict: Verdict) -> Paint {
    match verdict {
        Verdict::Better => Paint::Own,
        Verdict::Worse => Paint::Bad,
        Verdict::Same | Verdict::Unknown => Paint::Plain,
    }
}
