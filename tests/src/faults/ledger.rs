use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use runtrail_audit::Error;

/// What a writer has been told, on the disk before anything else happens.
pub(super) struct Ledger(Mutex<File>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Started { id: String },
    Appended { id: String, sequence: u64 },
    Finished { id: String },
    Failed { kind: String, transient: bool },
}

impl Entry {
    pub(super) fn started(id: &str) -> Self {
        Self::Started { id: id.into() }
    }

    pub(super) fn appended(id: &str, sequence: u64) -> Self {
        Self::Appended {
            id: id.into(),
            sequence,
        }
    }

    pub(super) fn finished(id: &str) -> Self {
        Self::Finished { id: id.into() }
    }

    pub(super) fn failed(err: &Error) -> Self {
        Self::Failed {
            kind: format!("{:?}", err.kind()),
            transient: err.is_transient(),
        }
    }

    /// Whether it says that a write is stored.
    pub(super) fn is_acknowledgement(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }

    fn line(&self) -> String {
        match self {
            Self::Started { id } => format!("started {id}\n"),
            Self::Appended { id, sequence } => format!("appended {id} {sequence}\n"),
            Self::Finished { id } => format!("finished {id}\n"),
            Self::Failed { kind, transient } => format!("failed {kind} {transient}\n"),
        }
    }

    fn of_line(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["started", id] => Self::started(id),
            ["appended", id, sequence] => Self::appended(id, sequence.parse().unwrap()),
            ["finished", id] => Self::finished(id),
            ["failed", kind, transient] => Self::Failed {
                kind: kind.into(),
                transient: transient.parse().unwrap(),
            },
            _ => panic!("{line:?} is no entry of a ledger"),
        }
    }
}

impl Ledger {
    pub(super) fn open(path: &Path) -> Self {
        let file = File::options().append(true).create(true).open(path);
        Self(Mutex::new(file.unwrap()))
    }

    pub(super) fn write(&self, entries: &[Entry]) {
        let lines: String = entries.iter().map(Entry::line).collect();
        let mut file = self.0.lock().unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        file.sync_data().unwrap();
    }

    /// What is in a ledger, but for a last line that its writer was killed at.
    pub(super) fn read(path: &Path) -> Vec<Entry> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.split('\n').filter(|line| !line.is_empty());
        lines.map(Entry::of_line).collect()
    }
}

/// A ledger that is read and written by one test.
pub(super) struct OwnLedger {
    pub(super) ledger: Ledger,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl OwnLedger {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        Self {
            ledger: Ledger::open(&path),
            path,
            _folder: folder,
        }
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        Ledger::read(&self.path)
    }
}
