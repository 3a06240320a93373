use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The account that servers run as: they refuse to run as root.
pub(crate) struct Account(Option<(u32, u32)>);

impl Account {
    pub(crate) fn for_servers() -> Result<Self> {
        if !is_root() {
            return Ok(Self(None));
        }
        let id = |name: &str, flag: &str| -> Option<u32> {
            let output = Command::new("id")
                .args([flag, name])
                .stderr(Stdio::null())
                .output()
                .ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Some((id(name, "-u")?, id(name, "-g")?)))
            .map(|ids| Self(Some(ids)))
            .context("there is neither an account `postgres` nor `nobody` to run servers as")
    }

    /// A folder of this account's, for one server.
    pub(crate) fn new_folder(&self, prefix: &str) -> Result<TempDir> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        self.own(folder.path())?;
        Ok(folder)
    }

    fn own(&self, path: &Path) -> Result<()> {
        if let Self(Some((user, group))) = self {
            chown(path, Some(*user), Some(*group))?;
        }
        Ok(())
    }

    /// A file that this account alone can read.
    pub(crate) fn write_secret(&self, path: &Path, text: &str) -> Result<()> {
        fs::write(path, "")?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        fs::write(path, text)?;
        self.own(path)
    }

    pub(crate) fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        // The current folder may be closed to that account.
        command.current_dir(folder).env("LC_ALL", "C");
        if let Self(Some((user, group))) = self {
            command.uid(*user).gid(*group);
        }
        command
    }
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
