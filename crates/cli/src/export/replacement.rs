use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that takes another's place once it is complete: half an export must not look like a whole one.
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
        let there = fs::metadata(path).ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(path)?;
            let writer = BufWriter::new(file);
            return Ok(Self::Device { writer });
        }
        if there.is_some() && is_of_a_database(path)? {
            return Err(io::Error::other("it is a SQLite database"));
        }
        // What a link leads to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        // As private as the database that it comes from.
        let permissions = Permissions::from_mode(0o600);
        let file = tempfile::Builder::new()
            .prefix(".runtrail-export-")
            .permissions(permissions)
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        if let Some(there) = there {
            file.as_file().set_permissions(there.permissions())?;
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
fn is_of_a_database(path: &Path) -> io::Result<bool> {
    const DATABASE: &[u8] = b"SQLite format 3\0";
    const LOGS: [&[u8]; 2] = [b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"];

    let mut start = Vec::new();
    File::open(path)?
        .take(DATABASE.len() as u64)
        .read_to_end(&mut start)?;
    Ok(start == DATABASE || LOGS.iter().any(|log| start.starts_with(log)))
}
