use std::path::Path;

use anyhow::{Context, Result};
use runtrail_test_servers::{install_missing_programs, succeed};

use crate::{cargo, test};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The folder of each application, and the subcommand of cargo that runs and checks it.
const HOSTS: [(&str, &str); 3] = [
    ("tests/hosts/loco", "run"),
    ("tests/hosts/graphql", "run"),
    ("examples/agent", "test"),
];

/// Builds each application, and runs it on a new SQLite file and on a new PostgreSQL server.
pub(crate) fn run() -> Result<()> {
    install_missing_programs()?;
    let root = Path::new(ROOT);
    let target = root.join("target/hosts");
    for (folder, subcommand) in HOSTS {
        let (_, host) = folder.rsplit_once('/').unwrap_or_default();
        // One server per application: each must start with an empty database.
        let server = test::start_new()?;
        std::fs::create_dir_all(&target)?;
        let file = target.join(format!("{host}.db"));
        for leftover in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{leftover}", file.display()));
        }
        for url in [
            format!("sqlite://{}?mode=rwc", file.display()),
            server.url(),
        ] {
            let on = format!("{host} on {}", url.split(':').next().unwrap_or_default());
            eprintln!("== {on}");
            let mut command = cargo();
            command
                .args([subcommand, "--quiet", "--manifest-path"])
                .arg(root.join(folder).join("Cargo.toml"))
                .env("CARGO_TARGET_DIR", &target)
                .env("DATABASE_URL", url);
            succeed(&mut command).context(on)?;
        }
    }
    Ok(())
}
