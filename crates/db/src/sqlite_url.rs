use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::form_urlencoded;

/// A parsed URL of a SQLite database.
#[derive(Clone, Debug)]
pub(crate) struct SqliteUrl {
    pub(crate) location: Location,
    pub(crate) mode: Mode,
    pub(crate) is_cache_shared: Option<bool>,
    pub(crate) is_immutable: bool,
    pub(crate) vfs: Option<String>,
    /// The path without anything that may be a password.
    redacted: String,
}

/// Where a SQLite database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    File(PathBuf),
    /// In memory: shared within the process under this name, or private.
    Memory(Option<PathBuf>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    Read,
    #[default]
    Write,
    Create,
}

impl SqliteUrl {
    /// Parses the text after `sqlite:`: a path, read literally except for `%XX`, and parameters.
    pub(crate) fn parse(rest: &str) -> Result<Self, &'static str> {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let decoded = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| "has a path that is not UTF-8")?;
        if decoded.contains('\0') {
            return Err("has a path with a NUL character");
        }
        let mut url = Self {
            location: Location::File(file(&decoded)),
            mode: Mode::default(),
            is_cache_shared: None,
            is_immutable: false,
            vfs: None,
            redacted: redact(path),
        };
        let mut is_in_memory = decoded == ":memory:";
        for (name, value) in form_urlencoded::parse(parameters.as_bytes()) {
            match (&*name, &*value) {
                ("mode", "ro") => url.mode = Mode::Read,
                ("mode", "rw") => url.mode = Mode::Write,
                ("mode", "rwc") => url.mode = Mode::Create,
                ("mode", "memory") => is_in_memory = true,
                ("mode", _) => return Err("has an unknown mode: use ro, rw, rwc or memory"),
                ("cache", "shared") => url.is_cache_shared = Some(true),
                ("cache", "private") => url.is_cache_shared = Some(false),
                ("cache", _) => return Err("has an unknown cache: use shared or private"),
                ("immutable", "1" | "true") => url.is_immutable = true,
                ("immutable", "0" | "false") => url.is_immutable = false,
                ("immutable", _) => return Err("has an unknown value for immutable: use 0 or 1"),
                ("vfs", name) => url.vfs = Some(name.to_owned()),
                _ => return Err("has an unknown parameter: use mode, cache, immutable or vfs"),
            }
        }
        if is_in_memory {
            let name = (!decoded.is_empty() && decoded != ":memory:").then(|| file(&decoded));
            url.location = Location::Memory(name);
        } else if decoded.is_empty() {
            return Err("names no file");
        }
        Ok(url)
    }

    /// Returns the file, unless the database is in memory.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.location {
            Location::File(file) => Some(file),
            Location::Memory(_) => None,
        }
    }
}

/// Keeps SQLite from reading a name that begins with `file:` as a URI.
fn file(path: &str) -> PathBuf {
    match path.starts_with("file:") {
        true => Path::new(".").join(path),
        false => path.into(),
    }
}

/// Hides the text before an @ if it contains a colon: it may be a login meant for a server.
fn redact(path: &str) -> String {
    match path.rsplit_once('@') {
        Some((login, rest)) if login.contains(':') => format!("…@{rest}"),
        _ => path.to_owned(),
    }
}

impl fmt::Display for SqliteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Memory(None) => f.write_str("sqlite::memory:"),
            _ => write!(f, "sqlite://{}", self.redacted),
        }
    }
}

/// Returns the canonical path of a file, whether or not the file exists yet.
pub(crate) fn canonical(file: &Path) -> Option<PathBuf> {
    if let Ok(file) = file.canonicalize() {
        return Some(file);
    }
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
    Some(folder.join(file.file_name()?))
}
