//! The `virtfit` command.
fn main() {}
