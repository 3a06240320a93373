use runtrail_audit::{RunFilter, RunStatus, Storage};

use crate::fixture::*;

fn help_desk(url: &str, arguments: &[&str]) -> String {
    let mut command = example_command(url);
    Spawned::new(command.args(arguments)).wait_for_success()
}

#[test]
fn a_host_goes_on_with_the_other_database_by_its_url_alone() {
    on_databases([Backend::Sqlite, Backend::Postgres], async |[from, to]| {
        let (from, to_url) = (from.url(), to.url());
        let answer = help_desk(&from, &["answer", "How high is the tide?"]);
        assert_eq!(answer, "That is a good question of 5 words.\n");
        help_desk(&from, &["answer", "Why?"]);
        let before = help_desk(&from, &["list"]);
        let expected = "How high is the tide?: That is a good question of 5 words.\n\
            Why?: That is a good question of 1 words.\n";
        assert_eq!(before, expected);

        help_desk(&to_url, &["fetch-tickets", &from]);
        let folder = tempfile::tempdir().unwrap();
        let mut copy = runtrail_command(folder.path());
        copy.args(["copy", "--from", &from, "--to", &to_url, "--final"]);
        let told = Spawned::new(&mut copy).wait_for_success();
        assert!(told.starts_with("copied 2 runs and 2 events\n"), "{told}");

        assert_eq!(help_desk(&to_url, &["list"]), before);
        help_desk(&to_url, &["answer", "And now?"]);
        let after = help_desk(&to_url, &["list"]);
        assert_eq!(
            after,
            before + "And now?: That is a good question of 2 words.\n"
        );
        let answered = RunFilter::new().skill("answer").status(RunStatus::OK);
        assert_eq!(
            to.store()
                .await
                .count_runs_filtered(&answered)
                .await
                .unwrap(),
            3
        );
    });
}
