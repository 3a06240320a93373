use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The cases that a document names: in backticks, and by their path from the root of this binary.
fn cases_named_in(document: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join(document)).unwrap();
    let modules = [
        "conformance::",
        "model::",
        "migrations::",
        "coexistence::",
        "durability::",
        "faults::",
        "real_runs::",
        "cli::",
        "copying::",
        "documents::",
        "plans::",
        "queries::",
    ];
    text.split('`')
        .filter(|name| modules.iter().any(|module| name.starts_with(module)) && !name.contains(' '))
        .map(str::to_owned)
        .collect()
}

/// The file of a case: as many of its modules as are files or folders.
fn source_of(case: &str) -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in case.split("::") {
        path.push(module);
        if path.with_extension("rs").exists() {
            return path.with_extension("rs");
        }
    }
    panic!("there is no file for {case}");
}

#[test]
fn every_case_that_a_document_names_exists() {
    let mut named = 0;
    for document in ["GUARANTEES.md", "tests/README.md", "migration/README.md"] {
        let cases = cases_named_in(document);
        assert!(cases.len() > 5, "{document} names no cases");
        for case in cases {
            let name = case.rsplit("::").next().unwrap();
            let source = fs::read_to_string(source_of(&case)).unwrap();
            assert!(
                source.contains(&format!("fn {name}(")),
                "{document} names {case}"
            );
            named += 1;
        }
    }
    assert!(named > 100);
}

/// Run as a reader would, but for the place of the database.
#[test]
fn the_readmes_first_command_records_a_program_and_shows_it() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let commands = readme.split("```sh\n").nth(1).unwrap();
    let commands = commands.split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/runtrail.db", folder.path().display());
    let output = Command::new("sh")
        .args(["-ec", commands])
        .current_dir(ROOT)
        .env("DATABASE_URL", url)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    let lines: Vec<_> = printed.lines().collect();
    let listing = lines
        .iter()
        .position(|line| line.starts_with("RUN "))
        .unwrap();
    assert!(
        lines[..listing]
            .iter()
            .any(|line| line.ends_with("Cargo.toml")),
        "{printed}"
    );
    let words: Vec<_> = lines[listing + 1].split_whitespace().collect();
    assert_eq!(words[1..3], ["ls", "ok"], "{printed}");
}
