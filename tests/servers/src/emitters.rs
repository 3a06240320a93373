use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::succeed;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../emitters");
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/emitters");

/// The folders of `tests/emitters`: agents of other projects, which send telemetry.
pub const EMITTERS: [&str; 3] = ["langchain", "pydantic-ai", "vercel-ai"];

/// Installs the packages of an emitter, unless they are installed already, and returns the command
/// that runs it. Concurrent calls wait for each other.
///
/// # Errors
///
/// If Python or Node.js is missing, or the packages can't be downloaded.
pub fn install_emitter(emitter: &str) -> Result<Vec<OsString>> {
    let source = Path::new(SOURCES).join(emitter);
    let folder = Path::new(PACKAGES).join(emitter);
    fs::create_dir_all(PACKAGES)?;
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    if source.join("package-lock.json").exists() {
        install_node(&source, &folder)
    } else {
        install_python(&source, &folder)
    }
    .with_context(|| format!("the packages of {emitter} can't be installed"))
}

fn install_python(source: &Path, folder: &Path) -> Result<Vec<OsString>> {
    const PINS: &str = "requirements.txt";

    let programs = folder.join("bin");
    once(source, folder, "python3", &[PINS], || {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        succeed(
            Command::new(programs.join("python"))
                .args(["-m", "pip", "install", "--quiet", "--no-deps"])
                .args(["--disable-pip-version-check", "--retries", "1", "-r"])
                .arg(folder.join(PINS)),
        )
    })?;
    // It configures the exporter by the environment, and imports the installed instrumentation.
    let command = [
        programs.join("opentelemetry-instrument"),
        programs.join("python"),
        source.join("agents.py"),
    ];
    Ok(command.map(PathBuf::into_os_string).into())
}

fn install_node(source: &Path, folder: &Path) -> Result<Vec<OsString>> {
    const SCRIPT: &str = "agents.mjs";

    let pins = ["package.json", "package-lock.json"];
    once(source, folder, "node", &pins, || {
        succeed(
            Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .args(["--loglevel=error", "--fetch-retries=1"])
                .current_dir(folder),
        )
    })?;
    // A script finds its packages beside it.
    let script = folder.join(SCRIPT);
    let text = fs::read(source.join(SCRIPT))?;
    if fs::read(&script).ok().as_ref() != Some(&text) {
        fs::write(&script, text)?;
    }
    Ok(vec!["node".into(), script.into()])
}

/// Creates a folder with these files and what `install` adds, unless it exists with the same files
/// and was made for the same version of the interpreter.
fn once(
    source: &Path,
    folder: &Path,
    interpreter: &str,
    pins: &[&str],
    install: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let output = Command::new(interpreter)
        .arg("--version")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{interpreter} can't be run"))?;
    ensure!(output.status.success(), "{interpreter} --version failed");
    let mut contents = output.stdout;
    for pin in pins {
        contents.extend(fs::read(source.join(pin))?);
    }
    let installed = folder.join("installed");
    if fs::read(&installed).ok().as_ref() == Some(&contents) {
        return Ok(());
    }
    eprintln!("installing into {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for pin in pins {
        fs::copy(source.join(pin), folder.join(pin))?;
    }
    install()?;
    fs::write(installed, contents)?;
    Ok(())
}
