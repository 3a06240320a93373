use std::env;
use std::io::{IsTerminal, stdout};
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::Result;
use clap::Args;
use runtrail_test_servers::{
    ChromeDriver, Cluster, EMITTERS, PgBouncer, install_browser, install_emitter,
    install_missing_programs, install_postgres, succeed, variables,
};

use crate::{cargo, watched};

/// The file of real agent runs, outside the repository.
const AGENT_RUNS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/data/tau-bench-airline-gpt-4o.json"
);

/// The cases that need a browser.
const BROWSER_CASES: &str = "browser::";

/// Only a power cut loses data without fsync, and the tests kill processes but never cut the power.
const SETTINGS: [&str; 3] = [
    "fsync=off",
    "max_connections=200",
    // Each case opens several connections, and an unoptimised build spends a third of the time of a
    // short case on SCRAM. Servers that single cases start do use SCRAM.
    "password_encryption=md5",
];

/// The folder for other versions of PostgreSQL.
const POSTGRES_BUILDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/postgres");

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Run only the fault suite, and print its findings.
    #[arg(long)]
    faults: bool,
    /// Run the long form of the fault suite, which takes hours.
    #[arg(long, requires = "faults")]
    long: bool,
    /// Override the count of a fault, such as `kills=50`; tests/README.md lists the faults.
    #[arg(long, value_name = "FAULT=N", requires = "faults")]
    count: Vec<String>,
    /// Test this major version of PostgreSQL, 14 to 18, which npm downloads into the target folder.
    #[arg(long, value_name = "N")]
    postgres_version: Option<u32>,
    /// Run only cases whose names contain one of these. Other options of the test runner also work.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    filters: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    install_missing_programs()?;
    if options.filters.is_empty() && !options.faults {
        // The cases run our programs. Built now, they use the processors that would be idle while
        // the suite is compiled.
        let build = ["build", "--workspace", "--exclude", "runtrail-bench"];
        succeed(cargo().args(build).arg("--all-targets"))?;
    }
    let programs = match options.postgres_version {
        Some(version) => Some(install_postgres(version, Path::new(POSTGRES_BUILDS))?),
        None => None,
    };
    let server = start_unless_given(programs.as_deref())?;
    let url = match &server {
        Some(server) => server.url(),
        None => env::var(variables::POSTGRES_URL)?,
    };
    let pooler = PgBouncer::start(&url)?;

    let browser = (!options.faults).then(|| start_browser(options));
    let mut command = command(options);
    match &browser {
        Some(Ok(driver)) => {
            command.env(variables::CHROMEDRIVER_URL, driver.url());
        }
        Some(Err(err)) => {
            eprintln!("NOT RUN: {BROWSER_CASES}, because {err:#}");
            command.args(["--skip", BROWSER_CASES]);
        }
        None => {}
    }
    command
        .env(variables::POSTGRES_URL, url)
        .env(variables::PGBOUNCER_URL, pooler.url());
    if let Some(programs) = programs {
        command.env(variables::POSTGRES_PROGRAMS, programs);
    }
    // A person at a terminal notices a hanging case, and prefers colours. Long cases are silent.
    let outcome = match stdout().is_terminal() || options.long {
        true => succeed(&mut command),
        false => watched::run(&mut command),
    };
    if let (Err(_), Some(server)) = (&outcome, server) {
        eprintln!("{}", server.keep());
    }
    outcome
}

/// Starts a new server, even if the environment names one.
pub(crate) fn start_new() -> Result<Cluster> {
    Cluster::start(&SETTINGS)
}

/// Starts a server for the tests; returns `None` if the environment names one.
pub(crate) fn start_unless_given(programs: Option<&Path>) -> Result<Option<Cluster>> {
    match programs {
        Some(programs) => Cluster::start_from(programs, &SETTINGS).map(Some),
        None if env::var_os(variables::POSTGRES_URL).is_some() => Ok(None),
        None => Cluster::start(&SETTINGS).map(Some),
    }
}

/// Starts the driver of a browser. Returns the error if there is no browser and none can be
/// installed.
fn start_browser(options: &Options) -> Result<ChromeDriver> {
    let filters = &options.filters;
    if filters.is_empty() || filters.iter().any(|filter| filter.contains("browser")) {
        install_browser()?;
    }
    ChromeDriver::start()
}

fn command(options: &Options) -> Command {
    let Options {
        faults,
        long,
        count,
        postgres_version: _,
        filters,
    } = options;
    let mut command = cargo();
    command.args(["test", "--workspace", "--exclude", "runtrail-bench"]);
    if *faults || !filters.is_empty() {
        command.args(["--test", "suite"]);
    }
    command.arg("--");
    if *faults {
        command.arg("--nocapture");
        if filters.is_empty() {
            command.arg("faults::");
        }
    }
    if *long {
        // Some cases have no short form and are ignored. The other ignored ones are child processes
        // of tests.
        command.args(["--include-ignored", "--skip", "::child_"]);
    }
    let form = if *long { "long" } else { "short" };
    let counts: Vec<&str> = [form]
        .into_iter()
        .chain(count.iter().map(String::as_str))
        .collect();
    command.env(variables::FAULTS, counts.join(","));
    command.args(filters);
    // Many cases wait for a lease, a lock or a timeout, so more run at a time than fit the
    // processors.
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    if env::var_os("RUST_TEST_THREADS").is_none() {
        command.env("RUST_TEST_THREADS", (2 * processors).to_string());
    }
    if !Path::new(AGENT_RUNS).exists() {
        eprintln!("NOT RUN: of_tau_bench, because {AGENT_RUNS} doesn't exist");
        command.args(["--skip", "of_tau_bench"]);
    }
    let runs_emitters = match filters.as_slice() {
        [] => !faults,
        filters => filters.iter().any(|filter| filter.contains("emitters")),
    };
    for emitter in EMITTERS.into_iter().filter(|_| runs_emitters) {
        if let Err(err) = install_emitter(emitter) {
            let cases = format!("of_{}", emitter.replace('-', "_"));
            eprintln!("NOT RUN: {cases}, because {err:#}");
            command.args(["--skip", &cases]);
        }
    }
    command
}
