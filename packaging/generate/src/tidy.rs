//! Corrections of clap's pages: whatever `mandoc -Tlint` complains of is corrected here.

/// Width at which text lines are broken.
const WIDTH: usize = 80;

/// Corrects a page: no paragraph macro where there is space anyway, no trailing blanks, no long
/// lines; straight quotes by their name, because the preamble that defines clap's string for them
/// is missing.
pub(crate) fn tidy(page: &str) -> String {
    let page = page.replace("\\*(Aq", "\\(aq");
    let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
    let mut out = String::new();
    let mut filled = true;
    for (at, line) in lines.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| lines.get(at)).copied();
        let after = lines.get(at + 1).copied();
        match *line {
            ".nf" => filled = false,
            ".fi" => filled = true,
            ".br" if before == Some(".sp") || after == Some(".sp") => continue,
            ".br" if out.ends_with("\n.br\n") => continue,
            "" if filled => continue,
            _ => {}
        }
        // The tag of a list's item is one line.
        if filled && !line.starts_with('.') && before != Some(".TP") {
            wrap(line, &mut out);
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn wrap(line: &str, out: &mut String) {
    let mut width = 0;
    for word in line.split(' ') {
        let letters = word.chars().count();
        // A line must not begin as a macro does.
        if width > 0 && width + 1 + letters > WIDTH && !word.starts_with(['.', '\'']) {
            out.push('\n');
            width = 0;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += letters;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn each_form() {
        let long = "word ".repeat(20);
        for (page, tidied) in [
            (".TP\na\n.br\n\n.br\nb \n", ".TP\na\n.br\nb\n".to_string()),
            ("a\n.br\n.sp\n.br\nb", "a\n.sp\nb\n".into()),
            ("it\\*(Aqs", "it\\(aqs\n".into()),
            (".nf\na\n\nb\n.fi", ".nf\na\n\nb\n.fi\n".into()),
            (
                long.as_str(),
                format!("{}word\n{}word\n", "word ".repeat(15), "word ".repeat(3)),
            ),
            (&format!(".TP\n{long}"), format!(".TP\n{}\n", long.trim())),
        ] {
            assert_eq!(tidy(page), tidied, "{page}");
        }
    }
}
