//! Markdown to man(7), for the part of Markdown that virtfit's documentation uses: headings,
//! paragraphs, lists, tables, code, emphasis.
//!
//! A table becomes a list: its first column is the tag, the last the text, those between stand in
//! parentheses behind the tag.

/// Converts a text to man(7) macros. The title (`# `) is left out: a page has its own.
pub(crate) fn to_man(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    // A paragraph right below a heading needs no macro.
    let mut fresh = true;
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with("# ") || line.starts_with("<!--") {
            continue;
        }
        if let Some(heading) = line.strip_prefix("## ") {
            // Keys are not written in upper case.
            let title = plain(heading);
            let title = if heading.contains('`') {
                title
            } else {
                title.to_uppercase()
            };
            out.push_str(&format!(".SH \"{title}\"\n"));
            fresh = true;
        } else if let Some(heading) = line.strip_prefix("### ") {
            out.push_str(&format!(".SS \"{}\"\n", plain(heading)));
            fresh = true;
        } else if line.starts_with("```") {
            out.push_str(if fresh {
                ".RS 4\n.nf\n"
            } else {
                ".PP\n.RS 4\n.nf\n"
            });
            for line in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                out.push_str(&guarded(&escaped(line)));
                out.push('\n');
            }
            out.push_str(".fi\n.RE\n");
            fresh = false;
        } else if line.starts_with('|') {
            let mut rows = vec![line];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(row);
            }
            out.push_str(&table(&rows));
            fresh = false;
        } else {
            let mut paragraph = line.to_string();
            while let Some(next) = lines.next_if(|next| continues(next)) {
                paragraph.push(' ');
                paragraph.push_str(next.trim_start());
            }
            match item(&paragraph) {
                Some((mark, text)) => out.push_str(&format!(".IP {mark} 4\n{}\n", guarded(&inline(text)))),
                None if fresh => out.push_str(&format!("{}\n", guarded(&inline(&paragraph)))),
                None => out.push_str(&format!(".PP\n{}\n", guarded(&inline(&paragraph)))),
            }
            fresh = false;
        }
    }
    out
}

/// Returns whether a line belongs to the paragraph or list item before it.
fn continues(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(['#', '|', '`']) && item(line).is_none()
        || line.starts_with('`') && !line.starts_with("```")
}

/// Splits a list item into its mark and its text.
fn item(line: &str) -> Option<(&str, &str)> {
    if let Some(text) = line.strip_prefix("- ") {
        return Some(("\\(bu", text));
    }
    let (number, text) = line.split_once(". ")?;
    let end = number.len() + 1;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| (line.get(..end).unwrap_or(number), text))
}

fn table(rows: &[&str]) -> String {
    let mut out = String::new();
    let head: Vec<String> = rows.first().map(|row| cells(row)).unwrap_or_default();
    for row in rows.iter().skip(2) {
        let cells = cells(row);
        let (Some(tag), Some(text)) = (cells.first(), cells.last()) else {
            continue;
        };
        let between: Vec<String> = cells
            .iter()
            .zip(&head)
            .take(cells.len().saturating_sub(1))
            .skip(1)
            .filter(|(cell, _)| !cell.is_empty())
            .map(|(cell, name)| match name.as_str() {
                "default" => format!("default {}", inline(cell)),
                _ => inline(cell),
            })
            .collect();
        let between = if between.is_empty() {
            String::new()
        } else {
            format!(" ({})", between.join("; "))
        };
        out.push_str(&format!(
            ".TP\n{}{between}\n{}\n",
            guarded(&inline(tag)),
            guarded(&inline(text))
        ));
    }
    out
}

/// Splits a row into cells; `\|` is a bar within one.
fn cells(row: &str) -> Vec<String> {
    row.trim()
        .trim_start_matches('|')
        .trim_end_matches('|')
        .replace("\\|", "\u{0}")
        .split('|')
        .map(|cell| cell.trim().replace('\u{0}', "|"))
        .collect()
}

/// Converts code and bold text to bold, links to their text.
fn inline(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        let (before, from) = rest.split_at(at);
        out.push_str(&escaped(before));
        let taken = if let Some((code, after)) = from.strip_prefix('`').and_then(|r| r.split_once('`')) {
            Some((format!("\\fB{}\\fR", escaped(code)), after))
        } else if let Some((bold, after)) = from.strip_prefix("**").and_then(|r| r.split_once("**")) {
            Some((format!("\\fB{}\\fR", escaped(bold)), after))
        } else {
            link(from)
        };
        match taken {
            Some((made, after)) => {
                out.push_str(&made);
                rest = after;
            }
            None => {
                let mut letters = from.chars();
                out.extend(letters.next());
                rest = letters.as_str();
            }
        }
    }
    out + &escaped(rest)
}

fn link(from: &str) -> Option<(String, &str)> {
    let (text, after) = from.strip_prefix('[')?.split_once("](")?;
    let (_, after) = after.split_once(')')?;
    Some((inline(text), after))
}

/// Returns a heading's text, without fonts.
fn plain(text: &str) -> String {
    escaped(&text.replace(['`', '*'], "")).replace('"', "\\(dq")
}

/// Escapes characters that roff would interpret.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('`', "\\(ga")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti")
}

/// Guards a line that starts as a macro would.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) {
        format!("\\&{line}")
    } else {
        line.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::to_man;

    #[test]
    fn each_form() {
        for (markdown, man) in [
            ("# Title\n\ntext", "text\n"),
            (
                "## `[host]`: what\n\nOne\ntwo.\n\nThree.",
                ".SH \"[host]: what\"\nOne two.\n.PP\nThree.\n",
            ),
            (
                "### Sub\n- a\n  b\n- c",
                ".SS \"Sub\"\n.IP \\(bu 4\na b\n.IP \\(bu 4\nc\n",
            ),
            ("1. a\n12. b", ".IP 1. 4\na\n.IP 12. 4\nb\n"),
            (
                "```toml\n.x = 'a'\n```",
                ".RS 4\n.nf\n\\&.x = \\(aqa\\(aq\n.fi\n.RE\n",
            ),
            (
                "a `b-c` **d** [e](f.md) [g] * h",
                "a \\fBb\\-c\\fR \\fBd\\fR e [g] * h\n",
            ),
            (
                "| key | default | what |\n|---|---|---|\n| `a` | `\"x\"` | p \\| q |",
                ".TP\n\\fBa\\fR (default \\fB\"x\"\\fR)\np | q\n",
            ),
            ("text\n`code` goes on", "text \\fBcode\\fR goes on\n"),
            (".dot", "\\&.dot\n"),
        ] {
            assert_eq!(to_man(markdown), man, "{markdown}");
        }
    }
}
