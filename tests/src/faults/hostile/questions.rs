use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;
use runtrail_audit::{Page, RunFilter, RunStatus, SkillRun, Storage};

use super::on_both;
use crate::faults::counts;
use crate::faults::outside::count;
use crate::fixture::*;

/// What an attacker puts where a name belongs; some of it can't be one.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "",
        "a",
        "A",
        "aa",
        "a%",
        "%",
        "%%",
        "_",
        "a_",
        "__",
        "\\",
        "\\%",
        "'",
        "''",
        "\"",
        "a'b",
        "`",
        "--",
        "/*",
        "*/",
        ";",
        "'; DROP TABLE skill_runs; --",
        "' OR '1'='1",
        "\" OR \"\"=\"",
        "1 OR 1=1",
        "') UNION SELECT 1 --",
        "$1",
        "$$",
        "?",
        "?1",
        ":id",
        "@id",
        "{}",
        "[]",
        "[\"a\"]",
        "null",
        "NULL",
        "0",
        "é",
        "e\u{301}",
        "É",
        "ß",
        "ss",
        "\u{202e}a",
        "\u{200b}",
        "😀",
        "\n",
        "\t",
        " ",
        "a ",
        " a",
        "\u{1}",
        "\u{7f}",
        "\u{ffff}",
        "*",
        "a*",
        "[a-z]",
        "^a$",
        ".*",
        "x'41'",
        "E'\\141'",
        "\\x41",
        "\\u0041",
        "../..",
        "%00",
        "a\0",
        "\0",
    ]
    .map(String::from)
    .into();
    names.extend([254, 255, 256].map(|length| "x".repeat(length)));
    names.push("y".repeat(100_000));
    names.push("é".repeat(127));
    names.push("é".repeat(128));
    names
}

fn can_be(name: &str) -> bool {
    name.len() <= 255 && !name.contains('\0')
}

fn number(rng: &mut Rng) -> u64 {
    const LIMITS: [u64; 10] = [
        0,
        1,
        2,
        7,
        1_000,
        i64::MAX as u64 - 1,
        i64::MAX as u64,
        i64::MAX as u64 + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    LIMITS[rng.usize(..LIMITS.len())]
}

/// The answers, by looking at each run.
struct Model {
    runs: BTreeMap<String, SkillRun>,
}

impl Model {
    /// Newest first, then by id.
    fn list(&self, page: Page, takes: impl Fn(&SkillRun) -> bool) -> Vec<String> {
        let mut runs: Vec<&SkillRun> = self.runs.values().filter(|run| takes(run)).collect();
        runs.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        runs.into_iter()
            .skip(size(page.offset))
            .take(page.limit.map_or(usize::MAX, size))
            .map(|run| run.id.clone())
            .collect()
    }

    fn chain(&self, id: &str) -> Vec<String> {
        let mut chain = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(run) = next.and_then(|id| self.runs.get(&id)) {
            if chain.contains(&run.id) {
                break;
            }
            chain.push(run.id.clone());
            next = run.parent_run_id.clone();
        }
        chain
    }
}

fn all_ids(runs: Vec<SkillRun>) -> Vec<String> {
    runs.into_iter().map(|run| run.id).collect()
}

#[test]
fn questions_of_an_attacker_get_the_literal_answer_on_both_backends() {
    let seed = fastrand::u64(..);
    eprintln!("questions from seed {seed}");
    on_both(async |both| {
        let mut rng = Rng::with_seed(seed);
        let names = names();
        let mut model = Model {
            runs: BTreeMap::new(),
        };
        for (place, id) in names.iter().enumerate() {
            let mut name = || names[rng.usize(..names.len())].clone();
            let run = SkillRun {
                skill_id: name(),
                caller_id: name(),
                channel_id: name(),
                parent_run_id: Some(name()),
                status: RunStatus::from(name()),
                finished_at: place.is_multiple_of(2).then(|| at(place as i64)),
                ..running_at(id, (place / 3) as i64)
            };
            let parts = [
                &run.id,
                &run.skill_id,
                &run.caller_id,
                &run.channel_id,
                run.parent_run_id.as_ref().unwrap(),
                run.status.as_str(),
            ];
            let stored = both.ask(async |store| store.start_run(&run).await).await;
            let is_possible = parts.iter().all(|part| can_be(part)) && !run.id.is_empty();
            assert_eq!(stored.is_ok(), is_possible, "{run:?}");
            if is_possible {
                model.runs.insert(run.id.clone(), run);
            }
        }
        assert!(model.runs.len() > 30);

        let questions = counts::questions();
        for _ in 0..questions {
            let name = names[rng.usize(..names.len())].as_str();
            let id = name;
            let limit = rng.bool().then(|| number(&mut rng));
            let page = Page {
                limit,
                offset: if rng.bool() { number(&mut rng) } else { 0 },
            };
            let is_shown = |run: &SkillRun| run.status != RunStatus::DRY_RUN;
            let expect = |found: Vec<String>, is_possible: bool| {
                is_possible.then_some(found).ok_or("InvalidInput")
            };
            let (answer, expected) = match rng.u32(..9) {
                0 => (
                    both.ask(async |store| match store.get_run(id).await {
                        Ok(run) => Ok(vec![run.id]),
                        Err(runtrail_audit::Error::NotFound { .. }) => Ok(vec![]),
                        Err(err) => Err(err),
                    })
                    .await,
                    expect(
                        model
                            .runs
                            .get(id)
                            .map(|run| run.id.clone())
                            .into_iter()
                            .collect(),
                        can_be(id) && !id.is_empty(),
                    ),
                ),
                1 => (
                    both.ask(async |store| {
                        store.list_runs_by_skill(name, limit).await.map(all_ids)
                    })
                    .await,
                    expect(
                        model.list(limit.into(), |run| run.skill_id == name && is_shown(run)),
                        can_be(name),
                    ),
                ),
                2 => (
                    both.ask(async |store| {
                        store
                            .list_runs_by_skill_paginated(name, page, true)
                            .await
                            .map(all_ids)
                    })
                    .await,
                    expect(model.list(page, |run| run.skill_id == name), can_be(name)),
                ),
                3 => (
                    both.ask(async |store| {
                        store.list_runs_by_caller(name, limit).await.map(all_ids)
                    })
                    .await,
                    expect(
                        model.list(limit.into(), |run| run.caller_id == name && is_shown(run)),
                        can_be(name),
                    ),
                ),
                4 => (
                    both.ask(async |store| store.list_children_by_parent(name).await.map(all_ids))
                        .await,
                    expect(
                        model.list(Page::ALL, |run| run.parent_run_id.as_deref() == Some(name)),
                        can_be(name),
                    ),
                ),
                5 => (
                    both.ask(async |store| store.walk_parent_chain(id).await.map(all_ids))
                        .await,
                    expect(model.chain(id), can_be(id) && !id.is_empty()),
                ),
                6 => (
                    both.ask(async |store| {
                        store
                            .list_finished_runs_before(at(20), limit)
                            .await
                            .map(all_ids)
                    })
                    .await,
                    expect(
                        model.list(limit.into(), |run| {
                            run.finished_at.is_some_and(|time| time < at(20))
                        }),
                        true,
                    ),
                ),
                7 => {
                    let others: Vec<String> = (0..rng.usize(..5))
                        .map(|_| names[rng.usize(..names.len())].clone())
                        .collect();
                    let answer = both
                        .ask(async |store| store.last_run_by_skills(&others, true).await)
                        .await;
                    let newest: HashMap<_, _> = others
                        .iter()
                        .filter_map(|skill| {
                            let runs = model.runs.values().filter(|run| run.skill_id == *skill);
                            Some((skill.clone(), runs.map(|run| run.started_at).max()?))
                        })
                        .collect();
                    let is_possible = others.iter().all(|skill| can_be(skill));
                    let flat = |times: HashMap<String, chrono::DateTime<chrono::Utc>>| {
                        let mut flat: Vec<String> = times
                            .into_iter()
                            .map(|(skill, time)| format!("{time} {skill}"))
                            .collect();
                        flat.sort();
                        flat
                    };
                    (answer.map(flat), expect(flat(newest), is_possible))
                }
                _ => {
                    let mut some = || rng.bool().then(|| names[rng.usize(..names.len())].clone());
                    let filter = RunFilter {
                        skill_id: some(),
                        caller_id: some(),
                        channel_id: some(),
                        status: some().map(RunStatus::from),
                        include_dry_run: true,
                        ..RunFilter::new()
                    };
                    let is_possible = [&filter.skill_id, &filter.caller_id, &filter.channel_id]
                        .into_iter()
                        .flatten()
                        .map(String::as_str)
                        .chain(filter.status.as_ref().map(RunStatus::as_str))
                        .all(can_be);
                    let takes = |run: &SkillRun| {
                        let is = |wanted: &Option<String>, given: &String| {
                            wanted.as_ref().is_none_or(|wanted| wanted == given)
                        };
                        is(&filter.skill_id, &run.skill_id)
                            && is(&filter.caller_id, &run.caller_id)
                            && is(&filter.channel_id, &run.channel_id)
                            && filter
                                .status
                                .as_ref()
                                .is_none_or(|status| *status == run.status)
                    };
                    let counted = both
                        .ask(async |store| store.count_runs_filtered(&filter).await)
                        .await;
                    if is_possible {
                        assert_eq!(counted, Ok(model.list(Page::ALL, takes).len() as u64));
                    }
                    (
                        both.ask(async |store| {
                            store.list_runs_filtered(&filter, page).await.map(all_ids)
                        })
                        .await,
                        expect(model.list(page, takes), is_possible),
                    )
                }
            };
            match (answer, expected) {
                (Ok(answer), Ok(expected)) => assert_eq!(answer, expected),
                (Err(words), Err(kind)) => assert!(words.starts_with(kind), "{words}"),
                other => panic!("{other:?}"),
            }
        }
        for url in &both.urls {
            assert_eq!(count(url, "skill_runs"), model.runs.len() as u64);
        }
        eprintln!("{questions} questions: every answer literal and alike");
    });
}
