//! `virtfit status` never says a false "ok": what it says of each trouble alone, and of hosts of
//! any state.
#![allow(clippy::unwrap_used)]

mod status {
    mod host;
    mod property;
    mod troubles;
}
