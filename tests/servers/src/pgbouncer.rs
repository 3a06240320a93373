use std::env;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use percent_encoding::percent_decode_str;
use tempfile::TempDir;
use url::Url;

use crate::account::ServerAccount;
use crate::programs::{find, install_hint};
use crate::{on_free_port, wait_until_listening};

/// PgBouncer in transaction mode, in front of every database of a server, with two connections to
/// each. Dropping it stops it.
#[derive(Debug)]
pub struct PgBouncer {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts PgBouncer in front of the server at this URL.
    ///
    /// # Errors
    ///
    /// If PgBouncer isn't installed or doesn't start.
    pub fn start(server: &str) -> Result<Self> {
        let program = find("pgbouncer").with_context(install_hint)?;
        let server = Url::parse(server).context("the server's URL is invalid")?;
        let host = server.host_str().context("the server's URL has no host")?;
        let user = quoted(server.username());
        let password = server.password().map(quoted);
        let password = password.map(|password| format!("password={password}"));
        let account = ServerAccount::choose()?;
        let folder = account.new_folder(&env::temp_dir(), "runtrail-pgbouncer-")?;
        let config = folder.path().join("pgbouncer.ini");

        let mut running = None;
        let port = on_free_port(|port| {
            let text = format!(
                "[databases]\n* = host={host} port={} user={user} {}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n\
                 server_idle_timeout = 5\n\
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
            let is_listening = wait_until_listening(&mut process, port)?;
            running = is_listening.then_some(process);
            Ok(is_listening)
        })?;
        Ok(Self {
            process: running.context("PgBouncer did not start")?,
            url: format!("postgres://anybody@127.0.0.1:{port}/postgres"),
            _folder: folder,
        })
    }

    /// The URL of the database `postgres`; only the path differs for other databases.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Quotes a part of a URL for PgBouncer's configuration.
fn quoted(part: &str) -> String {
    let part = percent_decode_str(part).decode_utf8_lossy();
    format!("'{}'", part.replace('\'', "''"))
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
