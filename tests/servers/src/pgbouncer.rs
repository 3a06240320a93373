use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use percent_encoding::percent_decode_str;
use tempfile::TempDir;
use url::Url;

use crate::account::Account;
use crate::on_free_port;
use crate::programs::{find, how_to_install};

/// PgBouncer in transaction mode, in front of every database of a server; two connections to each. Dropping it stops
/// it.
#[derive(Debug)]
pub struct PgBouncer {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts one in front of the server that this URL names.
    ///
    /// # Errors
    ///
    /// If it isn't installed or doesn't start.
    pub fn start(server: &str) -> Result<Self> {
        let program = find("pgbouncer").with_context(how_to_install)?;
        let server = Url::parse(server).context("the server's URL")?;
        let host = server.host_str().context("the server's URL has no host")?;
        let user = quoted(server.username());
        let password = server.password().map(quoted);
        let password = password.map(|password| format!("password={password}"));
        let account = Account::for_servers()?;
        let folder = account.new_folder("runtrail-pgbouncer-")?;
        let config = folder.path().join("pgbouncer.ini");

        let mut running = None;
        let port = on_free_port(|port| {
            let text = format!(
                "[databases]\n* = host={host} port={} user={user} {}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nserver_idle_timeout = 5\n\
                 max_client_conn = 500\nignore_startup_parameters = extra_float_digits\n",
                server.port().unwrap_or(5432),
                password.as_deref().unwrap_or_default(),
            );
            account.write_secret(&config, &text)?;
            let mut process = account
                .command(&program, folder.path())
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("pgbouncer can't be run")?;
            let listens = listens(&mut process, port)?;
            running = listens.then_some(process);
            Ok(listens)
        })?;
        Ok(Self {
            process: running.context("PgBouncer did not start")?,
            url: format!("postgres://anybody@127.0.0.1:{port}/postgres"),
            _folder: folder,
        })
    }

    /// The URL of the database `postgres` behind it; the others have the same with another path.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A part of a URL as PgBouncer wants it.
fn quoted(part: &str) -> String {
    let part = percent_decode_str(part).decode_utf8_lossy();
    format!("'{}'", part.replace('\'', "''"))
}

fn listens(process: &mut Child, port: u16) -> Result<bool> {
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if process.try_wait()?.is_some() {
            return Ok(false);
        }
        ensure!(
            started.elapsed() < Duration::from_secs(20),
            "PgBouncer did not start"
        );
        sleep(Duration::from_millis(20));
    }
    Ok(true)
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
