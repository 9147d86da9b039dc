//! Load of 64 guests that start at once, of 500 different ones: the time their hooks take, and the
//! number of undecided guests.
//!
//! `cargo bench --bench load`. `ROUNDS`: the number of tries of each load (3); the round with the
//! median time is printed.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/common/load.rs"]
mod load;

use load::{Host, LARGE, Report};

const PAPER: &str = "--packages 2 --cores 8 --threads 2 --memory 16 --pages 2M=6144";

fn main() {
    // `cargo test --benches` asks for no measurement.
    let measure = std::env::args().any(|word| word == "--bench");
    let rounds = std::env::var("ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    let (rounds, guests) = if measure { (rounds, 500) } else { (1, 4) };
    for (options, host) in [(PAPER, "32 CPUs"), (LARGE, "1,024 CPUs")] {
        for daemon in [true, false] {
            let mut reports: Vec<Report> = (0..rounds)
                .map(|_| {
                    let host = Host::made(options);
                    let host = if daemon { host.with_daemon() } else { host };
                    host.start(guests, 64.min(guests))
                })
                .collect();
            reports.sort_by_key(|report| report.percentile(50));
            let name = format!("{host}, {}", if daemon { "daemon" } else { "no daemon" });
            println!("{}", reports[reports.len() / 2].line(&name));
        }
    }
}
