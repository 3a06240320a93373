use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::account::is_root;
use crate::programs::{self, find};
use crate::{on_free_port, wait_until_listening};

const PACKAGES: [(&str, &str); 2] = [
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
];

/// ChromeDriver, which starts a Chromium for each session. Dropping it stops all of them.
#[derive(Debug)]
pub struct ChromeDriver {
    process: Child,
    url: String,
    _folder: TempDir,
}

/// Installs Chromium and ChromeDriver, if they are missing.
///
/// # Errors
///
/// If they are missing and can't be installed; the error says how to install them.
pub fn install_browser() -> Result<()> {
    programs::install(&PACKAGES, install_hint)
}

fn install_hint() -> String {
    "the cases in a browser need Chromium and ChromeDriver; install them with: \
    sudo apt-get install chromium chromium-driver"
        .to_owned()
}

impl ChromeDriver {
    /// Starts ChromeDriver. Profiles and all other files are in a temporary folder.
    ///
    /// # Errors
    ///
    /// If Chromium or ChromeDriver isn't installed, or ChromeDriver doesn't start.
    pub fn start() -> Result<Self> {
        let program = find("chromedriver").with_context(install_hint)?;
        ensure!(find("chromium").is_some(), install_hint());
        let folder = tempfile::Builder::new()
            .prefix("runtrail-chromium-")
            .tempdir()?;
        let mut running = None;
        let port = on_free_port(|port| {
            let mut process = command(&program, folder.path(), port)?.spawn()?;
            let is_listening = wait_until_listening(&mut process, port)?;
            running = is_listening.then_some(process);
            Ok(is_listening)
        })?;
        Ok(Self {
            process: running.context("ChromeDriver did not start")?,
            url: format!("http://127.0.0.1:{port}"),
            _folder: folder,
        })
    }

    /// The URL that WebDriver clients connect to.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn command(program: &Path, folder: &Path, port: u16) -> Result<Command> {
    let log = File::create(folder.join("log"))?;
    let mut command = Command::new(program);
    command
        .arg(format!("--port={port}"))
        // Profiles are created in TMPDIR; caches and crash reports are below HOME.
        .env("TMPDIR", folder)
        .env("HOME", folder)
        .env_remove("DISPLAY")
        // Each Chromium and its processes are in this group too.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

impl Drop for ChromeDriver {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

/// Whether Chromium can isolate its processes. It can't as root.
pub fn has_sandbox() -> bool {
    !is_root()
}
