//! How often each fault is injected: a few times in every test run, and many times on demand.
//!
//! `RUNTRAIL_TEST_FAULTS` is `short` or `long`, optionally followed by single counts:
//! `long,kills=50,soak=1800`.
//! `cargo xtask test --faults --long --count kills=50` sets it.

use std::env;

use runtrail_test_servers::variables;

macro_rules! counts {
    ($($(#[$meta:meta])* $name:ident: $short:literal, $long:literal;)*) => {
        $(
            $(#[$meta])*
            pub(super) fn $name() -> u64 {
                count(stringify!($name), $short, $long)
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

counts! {
    /// Kills of a process that writes to SQLite.
    kills: 30, 1_000;
    /// Kills of a process that writes to PostgreSQL.
    kills_on_postgres: 10, 200;
    /// Kills of a process that purges, and as many of one that migrates.
    killed_calls: 10, 50;
    /// Kills of a process that owns runs, while others sweep.
    killed_owners: 4, 200;
    /// Kills of a process that reserves from a budget, while others sweep.
    killed_spenders: 4, 200;
    /// Tries of 64 callers to reserve from one budget.
    reservations: 2_000, 100_000;
    /// Kills of a process that copies, alongside one that writes.
    killed_copies: 20, 200;
    /// Kills of a process that receives telemetry.
    killed_receivers: 4, 50;
    /// Crashes of the PostgreSQL server.
    restarts: 2, 20;
    /// How often each write is dropped at each poll.
    drops: 50, 1_000;
    /// How often a host drops its `begin()` at each poll.
    begins: 50, 1_000;
    /// How often the disk fills up.
    full_disks: 3, 50;
    /// How many system calls fail, one per process.
    failing_calls: 30, 200;
    /// Server replies that get lost.
    lost_replies: 200, 10_000;
    /// Writes of each of the 64 tasks.
    writes: 200, 500;
    /// Rounds of racing calls about one run, on each kind of store.
    races: 150, 20_000;
    /// Seconds of purging alongside writers.
    purge_seconds: 10, 300;
    /// Random values, in addition to the collected ones.
    values: 10_000, 1_000_000;
    /// Random queries with hostile names.
    queries: 10_000, 1_000_000;
    /// Seconds of the soak test, which has no short form.
    soak: 1, 7_200;
}

fn count(name: &str, short: u64, long: u64) -> u64 {
    let given = env::var(variables::FAULTS).unwrap_or_default();
    let mut parts = given.split(',').filter(|part| !part.is_empty());
    let mut count = match parts.next() {
        Some("long") => long,
        Some("short") | None => short,
        Some(other) => panic!("the fault suite is short or long, not {other}"),
    };
    for part in parts {
        let (fault, number) = part
            .split_once('=')
            .unwrap_or_else(|| panic!("{part} is not like kills=50"));
        assert!(
            NAMES.contains(&fault),
            "{fault} is not one of {}",
            NAMES.join(", ")
        );
        if fault == name {
            count = number
                .parse()
                .unwrap_or_else(|_| panic!("{part} is not like kills=50"));
        }
    }
    assert!(count > 0, "{name} is 0");
    count
}
