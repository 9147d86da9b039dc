//! Errors of the operating system for people: with the path, without the number of the error.

use std::fmt;
use std::io;

/// Error about a path.
#[derive(Debug)]
struct AtPath {
    path: String,
    error: io::Error,
}

impl fmt::Display for AtPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, io_words(&self.error))
    }
}

impl std::error::Error for AtPath {}

/// Adds the path to an error, for its words; the kind stays.
pub(crate) fn at_path(path: impl fmt::Display, error: io::Error) -> io::Error {
    let path = path.to_string();
    io::Error::new(error.kind(), AtPath { path, error })
}

/// Words an error, without the `(os error 2)` at its end.
pub(crate) fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    let number = error.raw_os_error().map(|number| format!(" (os error {number})"));
    match number.and_then(|number| text.strip_suffix(&number)) {
        Some(words) => words.to_string(),
        None => text,
    }
}

/// Words an error without the path that [`at_path`] gave to it, for lines that name the file.
pub(crate) fn io_words_alone(error: &io::Error) -> String {
    io_words(cause(error))
}

/// Returns the error to which [`at_path`] gave a path.
pub(crate) fn cause(error: &io::Error) -> &io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<AtPath>());
    inner.map_or(error, |inner| &inner.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_error_is_not_shown_and_no_other_text_is_cut() {
        let absent = || io::Error::from_raw_os_error(2);
        let named = at_path("/a (os error 2)", absent());
        assert_eq!(named.kind(), io::ErrorKind::NotFound);
        assert_eq!(named.to_string(), "/a (os error 2): No such file or directory");
        assert_eq!(io_words(&named), named.to_string());
        assert_eq!(io_words(&absent()), "No such file or directory");
        assert_eq!(io_words_alone(&named), "No such file or directory");
        assert_eq!(io_words_alone(&io::Error::other("no")), "no");
    }
}
