//! Labels on the command line.

use runtrail_audit::{RunLabels, RunStatus, Storage};
use serde_json::Value;

use crate::fixture::*;

fn listed(cli: &Cli, labels: &[&str]) -> Vec<String> {
    let mut arguments = vec!["list", "--json"];
    for label in labels {
        arguments.extend(["--label", label]);
    }
    let id = |run: Value| run["id"].as_str().unwrap().to_owned();
    cli.json(&arguments).into_iter().map(id).collect()
}

#[track_caller]
fn assert_usage_error(cli: &Cli, arguments: &[&str]) {
    let output = cli.output(arguments);
    assert_eq!(
        output.status.code(),
        Some(2),
        "{arguments:?}: {}",
        stderr(&output)
    );
}

on_each_backend! {
    async fn a_labelled_program_is_found_by_its_labels(database) {
        let cli = Cli::on(database).await;
        let labels = ["--label", "env=prod", "--label", "url=a=b", "--label", "empty="];
        let command = ["exec", "--id", "r"].iter().chain(&labels).chain(&["--", "true"]);
        cli.succeeds(&command.copied().collect::<Vec<_>>());
        cli.succeeds(&["exec", "--id", "dev", "--label", "env=dev", "--", "true"]);
        cli.succeeds(&["exec", "--id", "none", "--", "true"]);
        let shown = cli.succeeds(&["show", "r"]);
        assert!(shown.contains("empty=") && shown.contains("url=a=b"), "{shown}");
        for (labels, expected) in [
            (&["env=prod"][..], &["r"][..]),
            (&["url=a=b"], &["r"]),
            (&["empty="], &["r"]),
            (&["empty"], &["r"]),
            (&["env"], &["dev", "r"]),
            (&["env=prod", "env=dev"], &["dev", "r"]),
            (&["env=prod", "url"], &["r"]),
            (&["env=dev", "url"], &[]),
            (&["env!=prod"], &["none", "dev"]),
            (&["env!=prod", "env"], &["dev"]),
            (&["env!=prod", "env!=dev"], &["none"]),
        ] {
            assert_eq!(listed(&cli, labels), expected, "{labels:?}");
        }
        assert_eq!(cli.succeeds(&["count", "--label", "env"]), "2\n");
    }

    async fn invalid_labels_are_usage_errors_and_nothing_runs(database) {
        let cli = Cli::on(database).await;
        for labels in [&["--label", "a b=c"][..], &["--label", "novalue"], &["--label", "=x"],
            &["--label", "a=1", "--label", "a=2"]] {
            let command = ["exec"].iter().chain(labels).chain(&["--", "touch", "ran"]);
            assert_usage_error(&cli, &command.copied().collect::<Vec<_>>());
        }
        let many: Vec<String> = (0..33).map(|number| format!("--label=k{number}=v")).collect();
        let many = many.iter().map(String::as_str);
        let command = ["exec"].into_iter().chain(many).chain(["--", "touch", "ran"]);
        assert_usage_error(&cli, &command.collect::<Vec<_>>());
        assert!(!cli.path("ran").exists());
        assert_usage_error(&cli, &["list", "--label", "a b"]);
        assert_usage_error(&cli, &["count", "--label", "!=x"]);
    }

    async fn an_import_refuses_invalid_labels(database) {
        let cli = Cli::on(database).await;
        let store = database.store().await;
        store.start_run(&finished_at("r", 1).label("a", "1")).await.unwrap();
        let exported = cli.succeeds(&["export"]);
        store.purge_older_than(at(2)).await.unwrap();
        let many: Vec<_> = (0..33).map(|number| format!(r#""k{number}":"""#)).collect();
        let many = format!("{{{}}}", many.join(","));
        for (labels, reason) in [
            (r#"{"a":1}"#, "invalid type: integer"),
            (r#"{"a":"1","a":"1"}"#, "given twice"),
            (r#"["a"]"#, "labels as a JSON object"),
            (r#"{"a b":"1"}"#, "label_key"),
            (r#"{"a":{"b":"c"}}"#, "a string"),
            (many.as_str(), "more than 32 labels"),
        ] {
            let line = exported.replace(r#"{"a":"1"}"#, labels);
            assert!(line.contains(labels), "{exported}");
            std::fs::write(cli.path("file"), line).unwrap();
            let refused = stderr(&cli.output(&["import", "file"]));
            assert!(refused.contains(reason), "{labels}: {refused}");
        }
        assert_eq!(count(&database.connection().await, "skill_runs").await, 0);
    }

    async fn an_import_adds_labels_but_replaces_none(database) {
        let cli = Cli::on(database).await;
        let store = database.store().await;
        store.start_run(&running("r").label("a", "1").label("b", "2")).await.unwrap();
        store.finish_run("r", &stats()).await.unwrap();
        let exported = cli.succeeds(&["export"]);
        std::fs::write(cli.path("file"), &exported).unwrap();
        std::fs::write(cli.path("other"), exported.replace(r#""b":"2""#, r#""b":"3""#)).unwrap();

        store.purge_older_than(at(1_000_000_000)).await.unwrap();
        for labels in [[("b", "2")], [("c", "3")]] {
            cli.succeeds(&["import", "file"]);
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
            store.add_labels("r", &labels.into()).await.unwrap();
        }
        let run = store.get_run("r").await.unwrap();
        let expected = running("").label("a", "1").label("b", "2").label("c", "3").labels;
        assert_eq!((&run.labels, &run.status), (&expected, &RunStatus::OK));
        let refused = stderr(&cli.output(&["import", "other"]));
        assert!(refused.contains(r#"has the label b="2", not "3""#), "{refused}");
        assert_eq!(store.get_run("r").await.unwrap(), run);
    }
}
