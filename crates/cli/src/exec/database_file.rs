use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::database::DatabaseArguments;

/// The SQLite file that a run is recorded in. Writes to a deleted file are lost without an error.
pub(super) struct DatabaseFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl DatabaseFile {
    pub(super) fn of(database: &DatabaseArguments) -> Option<Self> {
        let path = database.file()?;
        let identity = identity(&fs::metadata(&path).ok()?);
        Some(Self { path, identity })
    }

    /// Returns the reason if the file has been moved or deleted, so that its path doesn't lead to
    /// the run any more.
    pub(super) fn replaced(&self) -> Option<String> {
        let is_replaced = match fs::metadata(&self.path) {
            Ok(file) => identity(&file) != self.identity,
            Err(err) => err.kind() == io::ErrorKind::NotFound,
        };
        let path = self.path.display();
        is_replaced.then(|| format!("{path} was moved or deleted while the program ran"))
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
