use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Returns the test cases that a document names, each as a path in backticks from the root of this
/// crate.
fn cases_named_in(document: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join(document)).unwrap();
    let modules = [
        "browser::",
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
        "emitters::",
        "plans::",
        "queries::",
        "statistics::",
        "telemetry::",
        "web::",
    ];
    text.split('`')
        .filter(|name| modules.iter().any(|module| name.starts_with(module)) && !name.contains(' '))
        .map(str::to_owned)
        .collect()
}

/// Returns the file of a case: its last module that is a file, or a folder with a `mod.rs`. Cases
/// without SQL are in the crate for conformance.
fn source_of(case: &str) -> PathBuf {
    if let Some(module) = case
        .strip_prefix("conformance::")
        .and_then(|rest| rest.split("::").next())
    {
        let file = Path::new(ROOT).join(format!("crates/conformance/src/{module}.rs"));
        if file.exists() {
            return file;
        }
    }
    let mut folder_module = None;
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in case.split("::") {
        path.push(module);
        if path.with_extension("rs").exists() {
            return path.with_extension("rs");
        }
        if path.join("mod.rs").exists() {
            folder_module = Some(path.join("mod.rs"));
        }
    }
    folder_module.unwrap_or_else(|| panic!("{case} has no file"))
}

#[test]
fn every_case_that_a_document_names_exists() {
    let mut named = 0;
    for document in [
        "GUARANTEES.md",
        "tests/README.md",
        "migration/README.md",
        "docs/embedding.md",
    ] {
        let cases = cases_named_in(document);
        assert!(cases.len() > 5, "{document} names no cases");
        for case in cases {
            let name = case.rsplit("::").next().unwrap();
            let source = fs::read_to_string(source_of(&case)).unwrap();
            assert!(
                source.contains(&format!("fn {name}(")),
                "{document} names {case}, which doesn't exist"
            );
            named += 1;
        }
    }
    assert!(named > 100);
}

/// Returns the paths of all Markdown files in the repository.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    assert!(found.len() >= 7, "{found:?}");
    found
}

/// Returns the lines of a document outside code blocks.
fn prose(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if !is_code && !is_fence {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// Removes text in backticks from a line.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Returns the targets of the links in a line: `](TARGET)`.
fn links(line: &str) -> Vec<String> {
    let after = line.split("](").skip(1);
    after
        .map(|rest| rest.split(')').next().unwrap().to_owned())
        .collect()
}

/// Returns the anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let keep = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    text.chars()
        .filter(keep)
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn every_link_in_a_document_has_a_target() {
    let mut checked = 0;
    for document in documents() {
        for line in prose(&document) {
            for link in links(&without_code(&line)) {
                if link.contains("://") {
                    continue;
                }
                let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
                let target = match file {
                    "" => document.clone(),
                    file => document.parent().unwrap().join(file),
                };
                assert!(target.exists(), "{}: {link}", document.display());
                let is_heading = |line: &String| line.starts_with('#') && anchor(line) == fragment;
                let has_anchor = fragment.is_empty() || prose(&target).iter().any(is_heading);
                assert!(has_anchor, "{}: {link}", document.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 10);
}

#[test]
fn every_row_of_a_table_has_as_many_cells_as_its_header() {
    let mut tables = 0;
    for document in documents() {
        let mut header: Option<usize> = None;
        for line in prose(&document) {
            if !line.starts_with('|') {
                header = None;
                continue;
            }
            // A bar in a cell is written as `\|`.
            let cells = line.replace("\\|", "").matches('|').count() - 1;
            assert!(line.ends_with('|'), "{}: {line}", document.display());
            tables += usize::from(header.is_none());
            let expected = *header.get_or_insert(cells);
            assert_eq!(cells, expected, "{}: {line}", document.display());
        }
    }
    assert!(tables > 10);
}

/// Checks each path in backticks, such as `migration/src/lib.rs`.
#[test]
fn every_file_that_the_documents_about_the_code_name_exists() {
    let mut named = 0;
    let documents = ["ARCHITECTURE.md", "docs/internals.md"];
    for line in documents
        .iter()
        .flat_map(|document| prose(&Path::new(ROOT).join(document)))
    {
        for path in line.split('`').skip(1).step_by(2) {
            let is_path = path.contains('/') && !path.contains([' ', ':', '*']);
            if !is_path {
                continue;
            }
            // Within a section, paths are relative to the section's crate.
            let places = [
                "",
                "crates/store/src",
                "crates/db/src",
                "crates/cli/src",
                "migration/src",
                "tests/src",
            ];
            let exists = |place: &&str| Path::new(ROOT).join(place).join(path).exists();
            assert!(places.iter().any(exists), "{path}");
            named += 1;
        }
    }
    assert!(named > 40, "{named}");
}

/// Runs the commands as a reader would, except that the database is in a temporary folder.
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
