use std::fs::{self, File};
use std::io::Write;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use runtrail_audit::{Error, ErrorKind};
use tempfile::TempDir;

/// The answers that writers got. Each is synced to disk before the writer continues.
pub(super) struct Ledger {
    file: Mutex<File>,
    path: PathBuf,
    folder: Option<TempDir>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Started {
        id: String,
    },
    Appended {
        id: String,
        sequence: u64,
    },
    Finished {
        id: String,
    },
    Failed {
        kind: String,
        is_transient: bool,
        message: String,
    },
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
            is_transient: err.is_transient(),
            message: err.to_string().replace('\n', " "),
        }
    }

    /// Whether it is the acknowledgement of a write.
    pub(super) fn is_acknowledgement(&self) -> bool {
        !self.is_failure()
    }

    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    pub(super) fn is_failure_of(&self, expected: ErrorKind) -> bool {
        matches!(self, Self::Failed { kind, .. } if *kind == format!("{expected:?}"))
    }

    pub(super) fn is_transient_failure(&self) -> bool {
        matches!(
            self,
            Self::Failed {
                is_transient: true,
                ..
            }
        )
    }

    fn line(&self) -> String {
        match self {
            Self::Started { id } => format!("started {id}\n"),
            Self::Appended { id, sequence } => format!("appended {id} {sequence}\n"),
            Self::Finished { id } => format!("finished {id}\n"),
            Self::Failed {
                kind,
                is_transient,
                message,
            } => {
                format!("failed {kind} {is_transient} {message}\n")
            }
        }
    }

    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["started", id] => Self::started(id),
            ["appended", id, sequence] => Self::appended(id, sequence.parse().unwrap()),
            ["finished", id] => Self::finished(id),
            ["failed", kind, is_transient, message] => Self::Failed {
                kind: kind.into(),
                is_transient: is_transient.parse().unwrap(),
                message: message.into(),
            },
            _ => panic!("{line:?} is not an entry of a ledger"),
        }
    }
}

impl Ledger {
    pub(super) fn open(path: &Path) -> Self {
        let file = File::options().append(true).create(true).open(path);
        Self {
            file: Mutex::new(file.unwrap()),
            path: path.to_owned(),
            folder: None,
        }
    }

    /// Creates a ledger whose file is deleted when it is dropped.
    pub(super) fn temporary() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Self::open(&folder.path().join("ledger"));
        ledger.folder = Some(folder);
        ledger
    }

    pub(super) fn write(&self, entries: &[Entry]) {
        let lines: String = entries.iter().map(Entry::line).collect();
        let mut file = self.file.lock().unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        file.sync_data().unwrap();
    }

    pub(super) fn entries(&self) -> Entries {
        Entries::read(&self.path)
    }
}

/// The contents of a ledger at some moment.
pub(super) struct Entries(Vec<Entry>);

impl Entries {
    /// Ignores a last line that is incomplete because its writer was killed.
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.split('\n').filter(|line| !line.is_empty());
        Self(lines.map(Entry::parse).collect())
    }

    /// The entries of several ledgers.
    pub(super) fn all(ledgers: impl Iterator<Item = Self>) -> Self {
        Self(ledgers.flat_map(|Self(entries)| entries).collect())
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.count(Entry::is_acknowledgement)
    }

    pub(super) fn failed(&self) -> u64 {
        self.count(Entry::is_failure)
    }

    pub(super) fn count(&self, is_counted: impl Fn(&Entry) -> bool) -> u64 {
        self.iter().filter(|entry| is_counted(entry)).count() as u64
    }

    #[track_caller]
    pub(super) fn assert_no_failure(&self) {
        self.assert_failures(|_| false);
    }

    /// Asserts that every failure is an expected one.
    #[track_caller]
    pub(super) fn assert_failures(&self, is_expected: impl Fn(&Entry) -> bool) {
        for entry in self.iter() {
            assert!(
                entry.is_acknowledgement() || is_expected(entry),
                "{entry:?}"
            );
        }
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.0
    }
}
