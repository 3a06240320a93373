use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The account for server processes, which refuse to run as root.
pub(crate) struct ServerAccount(Option<(u32, u32)>);

impl ServerAccount {
    pub(crate) fn choose() -> Result<Self> {
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
            .context("found no account `postgres` or `nobody` to run servers as")
    }

    /// Creates a folder for one server, owned by this account.
    pub(crate) fn new_folder(&self, parent: &Path, prefix: &str) -> Result<TempDir> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        self.set_owner(folder.path())?;
        Ok(folder)
    }

    fn set_owner(&self, path: &Path) -> Result<()> {
        if let Self(Some((user, group))) = self {
            chown(path, Some(*user), Some(*group))?;
        }
        Ok(())
    }

    /// Writes a file that only this account can read.
    pub(crate) fn write_secret(&self, path: &Path, text: &str) -> Result<()> {
        fs::write(path, "")?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        fs::write(path, text)?;
        self.set_owner(path)
    }

    pub(crate) fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        // The account may lack access to the current folder.
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
