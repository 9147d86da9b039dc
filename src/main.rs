//! `virtfit`: the command line. Everything it does is in the library.

fn main() -> std::process::ExitCode {
    virtfit::cli::main()
}
