//! Programs that hooks are compared with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const COPY: &str = r#"#include <unistd.h>
int main(void) {
    static char piece[65536];
    ssize_t got;
    while ((got = read(0, piece, sizeof piece)) > 0)
        for (ssize_t done = 0, wrote; done < got; done += wrote)
            if ((wrote = write(1, piece + done, got - done)) < 0)
                return 1;
    return got < 0;
}
"#;
/// Hook that parses the XML on stdin, and does no more.
pub(crate) const PYTHON: &str =
    "import sys, xml.etree.ElementTree as tree\ntree.fromstring(sys.stdin.read())\n";

/// Builds a statically linked program that copies stdin to stdout.
pub(crate) fn copier(folder: &Path) -> PathBuf {
    compile(folder, "copy", COPY, &["-static"])
}

/// Compiles C into a file of this name.
pub(crate) fn compile(folder: &Path, name: &str, text: &str, options: &[&str]) -> PathBuf {
    let (source, made) = (folder.join(format!("{name}.c")), folder.join(name));
    fs::write(&source, text).unwrap();
    let built = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&made)
        .arg(&source)
        .args(options)
        .status();
    assert!(built.unwrap().success(), "cc {options:?} {}", source.display());
    made
}
