//! What is said of a bug.

/// From now on a panic is logged with its place alone: its own message can quote the text it was working on, passwords included.
pub fn quiet() {
    std::panic::set_hook(Box::new(|panic| match panic.location() {
        Some(place) => log::error!("panic at {}:{}", place.file(), place.line()),
        None => log::error!("panic"),
    }));
}
