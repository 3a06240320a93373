//! Spans received by `runtrail serve` and by Phoenix: the same requests, until all can be read.
//!
//! Each is a process of its own, on a new SQLite file.

use std::cell::RefCell;
use std::env;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use prost::Message;
use runtrail_audit::{RunFilter, RunStatus, Storage};
use runtrail_store::AuditStore;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::child::peak_mebibytes;
use crate::http::Http;
use crate::peers::install_phoenix;
use crate::received::{SENDERS, SPANS_PER_BATCH, SPANS_PER_TRACE, batch, send};
use crate::report::{Comparison, Unit};
use crate::rounds::{Baseline, compare, median, turn};
use crate::{Comparisons, Setup, data, step};

const NAME: &str = "SQLite, peers, spans received by 8 senders until they can be read";

/// Batches of each sender; together, they fit into the queue in which Phoenix acknowledges spans.
const BATCHES: usize = 4;

const SPANS: usize = SENDERS * BATCHES * SPANS_PER_BATCH;

const PATIENCE: Duration = Duration::from_secs(900);

/// The ratio of the rates, and of the memory.
const AT_LEAST: f64 = 10.0;

/// The bodies of each sender's requests.
type Bodies = Vec<Vec<Vec<u8>>>;

pub(crate) async fn measure(setup: &Setup) -> Result<Comparisons> {
    if !setup.is_selected(NAME) {
        return Ok(Vec::new());
    }
    let phoenix = step("installing Phoenix", async { install_phoenix() }).await?;
    let bodies: Bodies = (0..SENDERS)
        .map(|_| (0..BATCHES).map(|_| batch(setup).encode_to_vec()).collect())
        .collect();
    let peaks = RefCell::new((Vec::new(), Vec::new()));
    let ours = || async {
        let (rate, peak) = Runtrail::start(setup).await?.receive(&bodies).await?;
        peaks.borrow_mut().0.push(peak);
        Ok(rate)
    };
    let theirs = || async {
        let (rate, peak) = Phoenix::start(setup, &phoenix)
            .await?
            .receive(&bodies)
            .await?;
        peaks.borrow_mut().1.push(peak);
        Ok(rate)
    };
    let baseline = Baseline::new("phoenix", AT_LEAST, turn(theirs));
    let measured = compare(setup.rounds, NAME, turn(ours), vec![baseline]);
    let mut comparisons = step(NAME, measured).await?;
    let (ours, theirs) = &mut *peaks.borrow_mut();
    let (ours, theirs) = (median(ours), median(theirs));
    comparisons.push(Comparison {
        workload: format!("{NAME}, memory"),
        ours,
        baseline: "phoenix".to_owned(),
        theirs,
        unit: Unit::Mebibytes,
        ratio: theirs / ours,
        at_least: Some(AT_LEAST),
    });
    Ok(comparisons)
}

/// A receiver in a process of its own.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    async fn start(mut command: Command, address: SocketAddr) -> Result<Self> {
        let process = command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = process.spawn().with_context(|| format!("{command:?}"))?;
        let server = Self { process, address };
        wait(async || {
            let answer = async { Http::connect(address).await?.get("/healthz").await };
            Ok(answer.await.is_ok())
        })
        .await?;
        Ok(server)
    }

    /// Sends all requests; returns when the first one was sent.
    async fn send(&self, bodies: &Bodies) -> Result<Instant> {
        let begun = Instant::now();
        let senders: Vec<_> = bodies
            .iter()
            .map(|bodies| tokio::spawn(send(self.address, bodies.clone())))
            .collect();
        for sender in senders {
            sender.await??;
        }
        Ok(begun)
    }

    /// Returns the rate since this time, and the peak memory in MiB.
    fn measured(&self, begun: Instant) -> Result<(f64, f64)> {
        let rate = SPANS as f64 / begun.elapsed().as_secs_f64();
        Ok((rate, peak_mebibytes(&self.process.id().to_string())?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Runtrail {
    server: Server,
    store: AuditStore,
    _folder: tempfile::TempDir,
}

impl Runtrail {
    async fn start(setup: &Setup) -> Result<Self> {
        let folder = tempfile::tempdir_in(setup.folder.path())?;
        let url = data::sqlite_url(&folder.path().join("runs.db"));
        let address = free_address()?;
        // `cargo xtask bench` builds it beside this program.
        let mut command = Command::new(env::current_exe()?.with_file_name("runtrail"));
        command.args(["--database-url", &url, "serve", "--listen"]);
        command.arg(address.to_string());
        let server = Server::start(command, address).await?;
        Ok(Self {
            server,
            store: AuditStore::connect(url).await?,
            _folder: folder,
        })
    }

    async fn receive(self, bodies: &Bodies) -> Result<(f64, f64)> {
        let runs = SPANS / SPANS_PER_TRACE;
        let finished = RunFilter::new().status(RunStatus::OK);
        let begun = self.server.send(bodies).await?;
        // The events of a run are stored before its end.
        wait(async || {
            let count = self.store.count_runs_filtered(&finished).await?;
            Ok(count == runs as u64)
        })
        .await?;
        let measured = self.server.measured(begun)?;
        self.store.close().await?;
        Ok(measured)
    }
}

struct Phoenix {
    server: Server,
    _folder: tempfile::TempDir,
}

impl Phoenix {
    async fn start(setup: &Setup, program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir_in(setup.folder.path())?;
        let (address, grpc) = (free_address()?, free_address()?);
        let mut command = Command::new(program);
        command
            .arg("serve")
            .env("PHOENIX_WORKING_DIR", folder.path())
            .env("PHOENIX_HOST", address.ip().to_string())
            .env("PHOENIX_PORT", address.port().to_string())
            .env("PHOENIX_GRPC_PORT", grpc.port().to_string())
            .env("PHOENIX_TELEMETRY_ENABLED", "false");
        Ok(Self {
            server: Server::start(command, address).await?,
            _folder: folder,
        })
    }

    async fn receive(self, bodies: &Bodies) -> Result<(f64, f64)> {
        let begun = self.server.send(bodies).await?;
        let query = json!({ "query": "{ projects { edges { node { recordCount } } } }" });
        let query = query.to_string();
        wait(async || {
            let mut http = Http::connect(self.server.address).await?;
            let media_type = "application/json";
            let answer = http.post("/graphql", media_type, query.as_bytes()).await?;
            let answer: Value = serde_json::from_str(&answer)?;
            let count = &answer["data"]["projects"]["edges"][0]["node"]["recordCount"];
            Ok(count.as_u64() == Some(SPANS as u64))
        })
        .await?;
        self.server.measured(begun)
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

async fn wait(is_true: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_true().await? {
        ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
