use std::env;
use std::path::Path;

use anyhow::Result;

use crate::postgres::{self, Postgres};
use crate::{cargo, succeed};

const POSTGRES_URL: &str = "RUNTRAIL_TEST_POSTGRES_URL";

/// Beside the repository, not in it.
const AGENT_RUNS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/data/tau-bench-airline-gpt-4o.json"
);

pub(crate) fn run(filters: &[String]) -> Result<()> {
    postgres::install_what_is_missing(env::var_os(POSTGRES_URL).is_none())?;
    let Some(server) = start_unless_given()? else {
        return tests(filters, None);
    };
    let outcome = tests(filters, Some(server.url()));
    if outcome.is_err() {
        eprintln!("{}", server.keep()?);
    }
    outcome
}

fn start_unless_given() -> Result<Option<Postgres>> {
    if env::var_os(POSTGRES_URL).is_some() {
        return Ok(None);
    }
    Postgres::start().map(Some)
}

fn tests(filters: &[String], url: Option<&str>) -> Result<()> {
    let mut test = cargo();
    test.args(["test", "--workspace"]);
    if !filters.is_empty() {
        test.args(["--test", "suite"]);
    }
    if let Some(url) = url {
        test.env(POSTGRES_URL, url);
    }
    test.arg("--").args(filters);
    if !Path::new(AGENT_RUNS).exists() {
        eprintln!("NOT RUN: of_tau_bench, since {AGENT_RUNS} is not there");
        test.args(["--skip", "of_tau_bench"]);
    }
    succeed(&mut test)
}
