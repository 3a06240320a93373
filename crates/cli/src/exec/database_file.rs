use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::database::DatabaseArguments;

/// The SQLite file that a run is recorded in. What is written to a file that was deleted is lost without an error.
pub(super) struct DatabaseFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl DatabaseFile {
    pub(super) fn of(database: &DatabaseArguments) -> Option<Self> {
        let path = database.file()?;
        let identity = identity(&path)?;
        Some(Self { path, identity })
    }

    /// Why the run isn't in the file of this name any more.
    pub(super) fn replaced(&self) -> Option<String> {
        let is_there = identity(&self.path) == Some(self.identity);
        let path = self.path.display();
        (!is_there).then(|| format!("{path} was moved or deleted while the program ran"))
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}
