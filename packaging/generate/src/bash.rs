//! Completion script for bash. clap's own expands every candidate as a command line (`compgen -W`),
//! so that a guest's name could run a program, and offers the same words for each argument of a
//! command.

use clap::{Arg, Command};

use crate::completions::{Named, takes_several};

/// Beginning of the script, up to the words of virtfit's commands.
const HEAD: &str = r#"# Completion of virtfit's commands, options, guests and profiles in bash.

# Adds the names that begin as $2 does. Names are data, quoted here and never expanded.
_virtfit_names() {
    local name quoted
    while IFS= read -r name; do
        printf -v quoted %q "$name"
        if [[ $name == "$2"* || $quoted == "$2"* ]]; then COMPREPLY+=("$quoted"); fi
    done < <(timeout 1 virtfit complete "$1" 2>/dev/null)
}

# Adds files of XML; bash completes other files where nothing else fits.
_virtfit_files() {
    local name quoted
    compopt -o default 2>/dev/null
    while IFS= read -r name; do
        printf -v quoted %q "$name"
        COMPREPLY+=("$quoted")
    done < <(compgen -f -X '!*.xml' -- "$1")
}

_virtfit() {
    local cur=$2 prev=$3 at=virtfit given=0 value= word
    COMPREPLY=()
    # bash takes --profile=fit for three words.
    if [[ $cur == = ]]; then cur=; fi
    if [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD - 2]}; fi
    # The command that is typed, and how many arguments it has.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $word == = ]]; then continue; fi
        if [[ $value ]]; then value=; continue; fi
        case $word in
"#;

/// Returns the script.
pub(crate) fn script(virtfit: &Command) -> String {
    let mut commands = Vec::new();
    // Building copies the options of every command into each.
    let mut virtfit = virtfit.clone();
    virtfit.build();
    collect(&virtfit, "", &mut commands);
    let below: Vec<String> = commands
        .iter()
        .skip(1)
        .map(|(path, _)| format!("'{path}'"))
        .collect();
    let mut with_value: Vec<&Arg> = Vec::new();
    for argument in commands.iter().flat_map(|(_, command)| command.get_opts()) {
        if with_value
            .iter()
            .all(|other| other.get_long() != argument.get_long())
        {
            with_value.push(argument);
        }
    }
    let options: Vec<String> = with_value.iter().copied().filter_map(long).collect();
    let mut out = HEAD.to_string();
    out.push_str(&format!("            {}) value=1 ;;\n", options.join(" | ")));
    out.push_str("            -?*) ;;\n            *)\n                case \"$at $word\" in\n");
    out.push_str(&format!(
        "                    {}) at=\"$at $word\" ;;\n",
        below.join(" | ")
    ));
    out.push_str("                    *) given=$((given + 1)) ;;\n                esac\n                ;;\n        esac\n    done\n");
    // Candidates: the value of an option, otherwise an option, otherwise a command or an argument.
    out.push_str("    case \"$at $prev\" in\n");
    for option in with_value {
        let Some(name) = long(option) else { continue };
        // An option of two commands may take another value in each.
        let usual = value(option);
        for (path, command) in &commands {
            let mut options = command.get_opts();
            if let Some(other) = options.find(|other| other.get_long() == option.get_long())
                && value(other) != usual
            {
                out.push_str(&format!("        '{path} {name}') {}; return ;;\n", value(other)));
            }
        }
        out.push_str(&format!("        *' {name}') {usual}; return ;;\n"));
    }
    out.push_str("    esac\n    case \"$at\" in\n");
    for (path, command) in &commands {
        out.push_str(&one(path, command));
    }
    out.push_str("    esac\n}\n\ncomplete -F _virtfit virtfit\n");
    out
}

/// Collects a command and all below it, with their words.
fn collect<'c>(command: &'c Command, above: &str, into: &mut Vec<(String, &'c Command)>) {
    let path = format!("{above} {}", command.get_name()).trim().to_string();
    into.push((path.clone(), command));
    for below in command.get_subcommands() {
        collect(below, &path, into);
    }
}

fn long(argument: &Arg) -> Option<String> {
    argument.get_long().map(|name| format!("--{name}"))
}

/// Completes the value of an option.
fn value(option: &Arg) -> String {
    let values: Vec<String> = option
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_string())
        .collect();
    match (Named::of(option), values.is_empty()) {
        (Some(named), _) => names(named),
        (None, false) => words(&values),
        (None, true) => "compopt -o default 2>/dev/null".into(),
    }
}

fn names(named: Named) -> String {
    match named {
        Named::Guest => "_virtfit_names guests \"$cur\"".into(),
        Named::GuestOrFile => "_virtfit_names guests \"$cur\"; _virtfit_files \"$cur\"".into(),
        Named::Profile => "_virtfit_names profiles \"$cur\"".into(),
    }
}

fn words(words: &[String]) -> String {
    format!("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", words.join(" "))
}

/// Completes what may follow a command: its options, the commands below it, or its arguments.
fn one(path: &str, command: &Command) -> String {
    let options: Vec<String> = command.get_arguments().filter_map(long).collect();
    let below: Vec<String> = command
        .get_subcommands()
        .map(|below| below.get_name().to_string())
        .collect();
    let mut out = format!("        '{path}')\n");
    out.push_str(&format!(
        "            if [[ $cur == -* ]]; then {}; return; fi\n",
        words(&options)
    ));
    if !below.is_empty() {
        out.push_str(&format!("            {}\n", words(&below)));
    }
    for (at, argument) in command.get_positionals().enumerate() {
        let complete = Named::of(argument).map_or("compopt -o default 2>/dev/null".to_string(), names);
        match takes_several(argument) {
            true => out.push_str(&format!("            {complete}\n")),
            false => out.push_str(&format!(
                "            if ((given == {at})); then {complete}; fi\n"
            )),
        }
    }
    out.push_str("            ;;\n");
    out
}
