//! `virtfit status` never says a false "ok": its answer to each trouble alone, and on hosts in
//! random states.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod status {
    mod host;
    mod property;
    mod remedies;
    mod troubles;
}
