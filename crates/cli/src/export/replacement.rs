use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that replaces another once it is complete: a partial export must not look like a whole
/// one.
pub(super) enum Replacement {
    File {
        writer: BufWriter<NamedTempFile>,
        path: PathBuf,
    },
    /// Something that can't be replaced: a pipe, a terminal, `/dev/stdout`.
    Device { writer: BufWriter<File> },
}

impl Replacement {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let existing = fs::metadata(path).ok();
        if existing
            .as_ref()
            .is_some_and(|existing| !existing.is_file())
        {
            let file = File::options().write(true).open(path)?;
            let writer = BufWriter::new(file);
            return Ok(Self::Device { writer });
        }
        if existing.is_some() && is_database_file(path)? {
            return Err(io::Error::other("it is a SQLite database"));
        }
        // Replace the file that a link points to, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        // Private, as a new database file is.
        let permissions = Permissions::from_mode(0o600);
        let file = tempfile::Builder::new()
            .prefix(".runtrail-export-")
            .permissions(permissions)
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        if let Some(existing) = existing {
            file.as_file().set_permissions(existing.permissions())?;
        }
        let writer = BufWriter::new(file);
        Ok(Self::File { writer, path })
    }

    pub(super) fn writer(&mut self) -> &mut (dyn Write + Send) {
        match self {
            Self::File { writer, .. } => writer,
            Self::Device { writer } => writer,
        }
    }

    pub(super) fn complete(self) -> io::Result<()> {
        match self {
            Self::File { writer, path } => {
                let file = writer
                    .into_inner()
                    .map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                file.persist(path)?;
            }
            Self::Device { mut writer } => writer.flush()?,
        }
        Ok(())
    }
}

/// Whether a file is a SQLite database or its write-ahead log.
fn is_database_file(path: &Path) -> io::Result<bool> {
    const DATABASE: &[u8] = b"SQLite format 3\0";
    const LOGS: [&[u8]; 2] = [b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"];

    let mut start = Vec::new();
    File::open(path)?
        .take(DATABASE.len() as u64)
        .read_to_end(&mut start)?;
    Ok(start == DATABASE || LOGS.iter().any(|log| start.starts_with(log)))
}
