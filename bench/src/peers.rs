//! Other run stores, for the operations that they share with Runtrail, on SQLite.
//!
//! Each runs in a process of its own, as its documentation shows: `bench/peers/peers.py`, and
//! `bench/peers/go_design.go` if there is a Go toolchain.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use runtrail_audit::Storage;
use runtrail_store::AuditStore;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::rounds::{Baseline, compare, turn};
use crate::{Comparisons, Setup, data, receivers, step};

/// Their names in `peers.py`, and their packages.
const PEERS: [(&str, &str); 3] = [
    ("dagster", "dagster==1.13.29"),
    ("dbos", "dbos==3.4.0"),
    ("phoenix", PHOENIX),
];

const PHOENIX: &str = "arize-phoenix==20.26.1";

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers");

/// The peers' operations, and what they are.
const OPERATIONS: [(&str, &str); 4] = [
    ("record", "record a run with ten events"),
    ("get", "get a run"),
    ("list", "list 50 runs"),
    ("delete", "delete an old run with its events"),
];

/// The same numbers as in the peers' programs.
const RUNS: usize = 50;
const LISTS: usize = 20;
const LIMIT: u64 = 50;

const EVENTS: usize = 10;

pub(crate) async fn measure(setup: &Setup) -> Result<Comparisons> {
    let mut comparisons = Vec::new();
    let mut operations = OPERATIONS.iter();
    if operations.any(|(_, description)| setup.is_selected(&workload(description))) {
        comparisons.extend(measure_operations(setup).await?);
    }
    comparisons.extend(receivers::measure(setup).await?);
    Ok(comparisons)
}

fn workload(description: &str) -> String {
    format!("SQLite, peers, {description}")
}

async fn measure_operations(setup: &Setup) -> Result<Comparisons> {
    let packages = PEERS.map(|(_, package)| package);
    let python = step("installing the peers", async { install(&packages) }).await?;
    let payloads = setup.file("payloads.json");
    let events = (0..EVENTS).map(|number| &setup.payloads[number % setup.payloads.len()]);
    let texts: Vec<String> = events.map(Value::to_string).collect();
    fs::write(&payloads, serde_json::to_vec(&texts)?)?;
    let mut peers = Vec::new();
    for (name, _) in PEERS {
        let mut command = Command::new(&python);
        command.arg(Path::new(FOLDER).join("peers.py")).arg(name);
        let peer = Peer::start(command, &setup.file(name), &payloads)?;
        peers.push((name, RefCell::new(peer)));
    }
    match build_go_design() {
        Ok(program) => {
            let folder = setup.file("go");
            let peer = Peer::start(Command::new(program), &folder, &payloads)?;
            peers.push(("Go design, in Go", RefCell::new(peer)));
        }
        Err(err) => eprintln!(
            "The Go design isn't compared: {err:#}. The other workloads have its reproduction in \
             Rust."
        ),
    }
    let ours = Mutex::new(Ours::open(setup).await?);

    let mut comparisons = Vec::new();
    for (operation, description) in OPERATIONS {
        let name = workload(description);
        if !setup.is_selected(&name) {
            continue;
        }
        let ours = turn(|| async { ours.lock().await.perform(operation).await });
        let baselines = peers.iter().map(|(name, peer)| {
            let turn = turn(|| async { peer.borrow_mut().perform(operation) });
            Baseline::new(name, None, turn)
        });
        let measured = compare(setup.rounds, &name, ours, baselines.collect());
        comparisons.extend(step(&name, measured).await?);
    }
    Ok(comparisons)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Builds the Go design with Debian's Go toolchain and driver; returns the program.
fn build_go_design() -> Result<PathBuf> {
    let program = Path::new(ENVIRONMENT).join("go-design");
    let mut build = Command::new("go");
    build
        .args(["build", "-o"])
        .args([&program, &Path::new(FOLDER).join("go_design.go")])
        .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode")]);
    run(&mut build)?;
    Ok(program)
}

/// Installs Phoenix; returns its program.
pub(crate) fn install_phoenix() -> Result<PathBuf> {
    Ok(install(&[PHOENIX])?.with_file_name("phoenix"))
}

/// Creates the Python environment if it doesn't exist yet; returns its interpreter.
fn install(packages: &[&str]) -> Result<PathBuf> {
    let python = Path::new(ENVIRONMENT).join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv", ENVIRONMENT]))?;
    }
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet"])
        .args(packages))?;
    Ok(python)
}

/// A process that performs operations on request. It ends when this is dropped.
struct Peer {
    process: Child,
    requests: Option<ChildStdin>,
    rates: BufReader<ChildStdout>,
}

impl Peer {
    fn start(mut command: Command, folder: &Path, payloads: &Path) -> Result<Self> {
        fs::create_dir(folder)?;
        let mut process = command
            .args([folder, payloads])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = process.stdin.take();
        let rates = process.stdout.take().context("no stdout")?;
        Ok(Self {
            process,
            requests,
            rates: BufReader::new(rates),
        })
    }

    /// Returns the rate per second.
    fn perform(&mut self, operation: &str) -> Result<f64> {
        let requests = self.requests.as_mut().context("no stdin")?;
        writeln!(requests, "{operation}")?;
        let mut rate = String::new();
        self.rates.read_line(&mut rate)?;
        rate.trim()
            .parse()
            .with_context(|| format!("{operation}: {rate:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.process.wait();
    }
}

/// Runtrail, for the same operations.
struct Ours<'a> {
    store: AuditStore,
    payloads: &'a [Value],
    /// The runs that were recorded together, oldest first, and a time after their finish.
    recorded: VecDeque<(Vec<String>, DateTime<Utc>)>,
}

impl<'a> Ours<'a> {
    async fn open(setup: &'a Setup) -> Result<Self> {
        let url = format!("sqlite://{}?mode=rwc", setup.file("peers.db").display());
        let store = AuditStore::connect(url).await?;
        store.initialize().await?;
        let mut ours = Self {
            store,
            payloads: &setup.payloads,
            recorded: VecDeque::new(),
        };
        for _ in 0..2 {
            ours.record().await?;
        }
        Ok(ours)
    }

    /// Returns the rate per second.
    async fn perform(&mut self, operation: &str) -> Result<f64> {
        let begun = Instant::now();
        let mut count = RUNS;
        match operation {
            "record" => self.record().await?,
            "get" => {
                let (ids, _) = self.recorded.back().context("no run is recorded")?;
                for id in ids {
                    self.store.get_run(id).await?;
                }
            }
            "list" => {
                count = LISTS;
                let skill = data::new_run().skill_id;
                for _ in 0..LISTS {
                    let runs = self.store.list_runs_by_skill(&skill, Some(LIMIT)).await?;
                    ensure!(runs.len() as u64 == LIMIT, "{} runs", runs.len());
                }
            }
            _ => {
                let (ids, finished) = self.recorded.pop_front().context("no run is recorded")?;
                let deleted = self.store.purge_older_than(finished).await?;
                ensure!(deleted == ids.len() as u64, "{deleted} runs");
            }
        }
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }

    async fn record(&mut self) -> Result<()> {
        let mut ids = Vec::new();
        for _ in 0..RUNS {
            let run = data::new_run();
            self.store.start_run(&run).await?;
            for number in 0..EVENTS {
                let event = data::event(&run.id, number, self.payloads);
                self.store.append_log(&event).await?;
            }
            self.store.finish_run(&run.id, &data::stats()).await?;
            ids.push(run.id);
        }
        self.recorded.push_back((ids, self.store.now()));
        Ok(())
    }
}
