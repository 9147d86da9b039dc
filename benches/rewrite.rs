//! Rewriting.
fn main() {}
