use runtrail_audit::{RunFilter, RunStatus, Storage};

use crate::fixture::*;

fn help_desk(url: &str, arguments: &[&str]) -> String {
    let mut command = example_command(url);
    Spawned::new(command.args(arguments)).wait_for_success()
}

#[test]
fn a_host_switches_databases_by_changing_only_its_url() {
    on_databases([Backend::Sqlite, Backend::Postgres], async |[from, to]| {
        let (from, to_url) = (from.url(), to.url());
        let folder = tempfile::tempdir().unwrap();
        let copy = |arguments: &[&str]| {
            let mut command = runtrail_command(folder.path());
            command.args(["copy", "--from", &from, "--to", &to_url]);
            Spawned::new(command.args(arguments)).wait_for_success()
        };
        let answer = help_desk(&from, &["answer", "How high is the tide?"]);
        assert_eq!(answer, "A good question, in words: 5.\n");
        assert_eq!(copy(&[]), "copied 1 run and 1 event\n");
        help_desk(&from, &["answer", "Why?"]);
        assert!(copy(&[]).starts_with("copied 1 run and 1 event\n"));
        help_desk(&from, &["answer", "And tomorrow?"]);
        let before = help_desk(&from, &["list"]);
        let expected = "How high is the tide?: A good question, in words: 5.\n\
            Why?: A good question, in words: 1.\n\
            And tomorrow?: A good question, in words: 2.\n";
        assert_eq!(before, expected);

        let report = copy(&["--final"]);
        assert!(report.starts_with("copied 1 run and 1 event\n"), "{report}");
        help_desk(&to_url, &["fetch-tickets", &from]);
        assert_eq!(help_desk(&to_url, &["list"]), before);
        help_desk(&to_url, &["answer", "And now?"]);
        let after = help_desk(&to_url, &["list"]);
        assert_eq!(after, before + "And now?: A good question, in words: 2.\n");
        let answered = RunFilter::new().skill("answer").status(RunStatus::OK);
        let store = to.store().await;
        assert_eq!(store.count_runs_filtered(&answered).await.unwrap(), 4);
    });
}
