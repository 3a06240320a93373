//! Database URLs, valid and mistyped, and their parts that are never printed.

use std::fs;
use std::net::TcpListener;

use runtrail_db::DatabaseOptions;
use runtrail_store::AuditStore;

use crate::fixture::*;

/// URLs with unencoded passwords and other mistakes. Each `s3cr3t` may be part of a password.
const MISTYPED: &[&str] = &[
    "postgres://alice:p@s3cr3t#1@127.0.0.1:1/app",
    "postgres://alice:p#s3cr3t@127.0.0.1:1/app",
    "postgres://alice:#s3cr3t@127.0.0.1:1/app",
    "postgres://alice:p?s3cr3t@127.0.0.1:1/app",
    "postgres://alice:1?s3cr3t@127.0.0.1:1/app",
    "postgres://alice:1?user=s3cr3t@127.0.0.1:1/app",
    "postgres://alice:p@w?s3cr3t@127.0.0.1:1/app",
    "postgres://alice:p/s3cr3t@127.0.0.1:1/app",
    "postgres://alice:1/s3cr3t@127.0.0.1:1/app",
    "postgres://alice:p@s3cr3t/x@127.0.0.1:1/app",
    "postgres://alice:s3cr3t@[::1:1/app",
    "postgres://alice:s3cr3t@127.0.0.1:none/app",
    "postgres://alice:s3cr3t",
    "postgres://alice%3As3cr3t@127.0.0.1:1/app",
    "postgres:alice:s3cr3t@127.0.0.1:1/app",
    "postgresql://alice:p@s3cr3t#@127.0.0.1:1/app",
    "postgres://127.0.0.1:1/app?sslmode=s3cr3t",
    "postgres://127.0.0.1:1/app?passwrod=s3cr3t",
    "postgres://127.0.0.1:1/app?port=s3cr3t",
    "postgres://127.0.0.1:1/app?statement-cache-capacity=s3cr3t",
    "postgres://127.0.0.1:1/app?hostaddr=s3cr3t.invalid",
    "postgres://127.0.0.1:1/app?password=s3cr3t",
    "postgres://127.0.0.1:1/app?s3cr3t",
    "sqlite://alice:s3cr3t@127.0.0.1/app",
    "sqlite://app.db?mode=s3cr3t",
    "sqlite://app.db?s3cr3t=1",
    "sqlite://app.db?cache=s3cr3t",
    "mysql://alice:s3cr3t@127.0.0.1/app",
    "alice:s3cr3t@127.0.0.1/app",
    "s3cr3t",
];

#[test]
fn no_part_of_a_password_is_printed_however_the_url_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for url in MISTYPED {
        let options = DatabaseOptions::new(*url);
        let described = format!("{options} {options:?} {:?}", options.backend());
        assert!(!described.contains("s3cr3t"), "{url}: {described}");
        for arguments in [&["list"][..], &["exec", "true"], &["migrate", "status"]] {
            let mut command = runtrail_command(folder.path());
            command.args(["--database-url", url]).args(arguments);
            // A DNS lookup must not make the case slow.
            let output = command
                .env("RES_OPTIONS", "attempts:1 timeout:1")
                .output()
                .unwrap();
            let printed = printed(&output);
            assert!(!output.status.success(), "{url}: {printed}");
            let is_host = url.contains("hostaddr");
            assert!(
                is_host || !printed.contains("s3cr3t"),
                "{url} {arguments:?}: {printed}"
            );
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn no_span_or_event_of_a_connection_attempt_contains_a_password() {
    // In its own process, since the subscribers of other cases affect what is logged.
    let child = test_command("cli::urls::child_that_logs_everything")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", printed(&child));
}

#[test]
#[ignore = "a child process of the case above"]
fn child_that_logs_everything() {
    let reports = Reports::capture_everything();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for url in [
            "postgres://alice:s3cr3t@127.0.0.1:1/app",
            "postgres://127.0.0.1:1/app?password=s3cr3t&passwrod=s3cr3t",
        ] {
            AuditStore::connect(url).await.unwrap_err();
        }
    });
    let logged = reports.text();
    assert!(
        logged.contains("parameter 2 of the database URL is unknown"),
        "{logged}"
    );
    assert!(!logged.contains("s3cr3t"), "{logged}");
}

#[test]
fn a_sqlite_url_names_the_expected_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("here");
    for (url, name) in [
        ("sqlite://my db.db", "my db.db"),
        ("sqlite://run[1].db", "run[1].db"),
        ("sqlite://2026-11-24T10:00.db", "2026-11-24T10:00.db"),
        ("sqlite:plain.db", "plain.db"),
        ("SQLite://capital.db", "capital.db"),
        ("sqlite://a%20b.db", "a b.db"),
        ("sqlite://100%.db", "100%.db"),
        ("sqlite://a#b.db", "a#b.db"),
        ("sqlite://file:x.db", "file:x.db"),
        ("sqlite://who@where.db", "who@where.db"),
    ] {
        let _ = fs::remove_dir_all(&file);
        fs::create_dir(&file).unwrap();
        for arguments in [&["exec", "true"][..], &["count"]] {
            let output = runtrail_command(&file)
                .args(["--database-url", url])
                .args(arguments)
                .output()
                .unwrap();
            assert!(output.status.success(), "{url}: {}", stderr(&output));
        }
        let mut names = fs::read_dir(&file).unwrap();
        let made = names.next().unwrap().unwrap().file_name();
        assert_eq!(made.to_str().unwrap(), name);
        assert!(names.next().is_none());
    }
}

#[test]
fn different_spellings_of_a_url_are_the_same_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("a b.db"), "").unwrap();
    std::os::unix::fs::symlink(path("a b.db"), path("link.db")).unwrap();
    let one = DatabaseOptions::new(format!("sqlite://{}", path("a b.db")));
    for other in [
        format!("sqlite:{}", path("a%20b.db")),
        format!("sqlite://{}?mode=ro", path("./a b.db")),
        format!("SQLITE://{}", path("link.db")),
    ] {
        assert!(
            one.is_same_database(&DatabaseOptions::new(&other)),
            "{other}"
        );
    }
    let missing = |name| DatabaseOptions::new(format!("sqlite://{}", path(name)));
    assert!(missing("c.db").is_same_database(&missing("./c.db")));
    assert!(!missing("c.db").is_same_database(&missing("d.db")));
    let memory = || DatabaseOptions::new("sqlite::memory:");
    assert!(!memory().is_same_database(&memory()));

    let server = |url| DatabaseOptions::new(url);
    let one = server("postgres://me:x@DB.example:5432/app");
    for other in [
        "postgresql://you@db.example/app",
        "postgres:///app?host=db.example&sslmode=require",
    ] {
        assert!(one.is_same_database(&server(other)), "{other}");
    }
    assert!(!one.is_same_database(&server("postgres://me@db.example/other")));
    assert!(!one.is_same_database(&server("postgres://me@db.example:5433/app")));
}

#[test]
fn the_reason_why_a_url_is_invalid_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    for (url, reason) in [
        ("sqlite://", "names no file"),
        ("sqlite://x.db?mode=x", "unknown mode"),
        (
            "postgres://h:0/x",
            "a port that is not a number from 1 to 65535",
        ),
        ("postgres://::1/x", "write an IPv6 address in brackets"),
        ("postgres://[::1/x", "without its closing bracket"),
        ("postgres://[h]/x", "not an IPv6 address"),
        ("postgres://a,b/x", "several hosts"),
        ("postgres://h/x?sslmode=maybe", "unknown sslmode"),
        ("postgres://u:p#w@h/x", "%23 for #"),
        ("postgres:u@h/x", "lacks the //"),
        ("mysql://h/x", "has to begin with sqlite: or postgres:"),
    ] {
        let output = runtrail_command(folder.path())
            .args(["--database-url", url, "list"])
            .output()
            .unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{url}: {message}");
        assert!(message.contains(reason), "{url}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn parts_of_a_server_url_may_be_parameters_as_in_psql() {
    on_database(Backend::Postgres, async |database| {
        database.store().await.close().await.unwrap();
        let url = url::Url::parse(&database.url()).unwrap();
        let (host, port) = (url.host_str().unwrap(), url.port().unwrap_or(5432));
        let login = match url.password() {
            Some(password) => format!("{}:{password}@", url.username()),
            None => format!("{}@", url.username()),
        };
        let (name, folder) = (url.path(), tempfile::tempdir().unwrap());
        for url in [
            format!("postgres://{login}{name}?host={host}&port={port}"),
            format!(
                "postgresql:///?dbname={}&host={host}&port={port}&user={}&password={}",
                &name[1..],
                url.username(),
                url.password().unwrap_or("x")
            ),
        ] {
            let output = runtrail_command(folder.path())
                .args(["--database-url", &url, "count"])
                .output()
                .unwrap();
            assert_eq!(stdout(&output), "0\n", "{url}: {}", stderr(&output));
        }
    });
}

#[test]
fn an_ipv6_address_in_brackets_is_accepted() {
    // The listener is no PostgreSQL server: an incoming connection is enough.
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        let options = DatabaseOptions::new("postgres://me@[::1]:5432/app");
        assert_eq!(options.to_string(), "postgres://me@[::1]:5432/app");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let mut child = runtrail_command(folder.path())
        .args([
            "--database-url",
            &format!("postgres://me@[::1]:{port}/app"),
            "count",
        ])
        .spawn()
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    eventually(|| listener.accept().ok());
    drop(listener);
    assert!(!ended(&mut child).success());
}
