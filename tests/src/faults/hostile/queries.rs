use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use fastrand::Rng;
use runtrail_audit::{Error, Page, Result, RunFilter, RunStatus, SkillRun, Storage};
use runtrail_store::AuditStore;

use super::on_each_connection_kind;
use crate::faults::counts;
use crate::faults::sql_client::count;
use crate::fixture::*;
use crate::model::{Model, paged};

/// Hostile names, some of them invalid.
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

fn is_valid_name(name: &str) -> bool {
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

/// Every query with a name, a limit or an offset.
#[derive(Debug)]
enum Query {
    Get(String),
    BySkill(String, Option<u64>),
    BySkillPaginated(String, Page),
    ByCaller(String, Option<u64>),
    Filtered(RunFilter, Page),
    Children(String),
    Chain(String),
    FinishedBefore(Option<u64>),
    LastRuns(Vec<String>),
}

#[derive(Debug, PartialEq)]
enum Answer {
    Runs(Vec<SkillRun>),
    Times(BTreeMap<String, DateTime<Utc>>),
}

impl Query {
    fn random(rng: &mut Rng, names: &[String]) -> Self {
        let name = |rng: &mut Rng| names[rng.usize(..names.len())].clone();
        let some = |rng: &mut Rng| rng.bool().then(|| name(rng));
        let limit = rng.bool().then(|| number(rng));
        let page = Page::from(limit).skip(if rng.bool() { number(rng) } else { 0 });
        match rng.u32(..9) {
            0 => Self::Get(name(rng)),
            1 => Self::BySkill(name(rng), limit),
            2 => Self::BySkillPaginated(name(rng), page),
            3 => Self::ByCaller(name(rng), limit),
            4 => Self::Filtered(
                with(RunFilter::new(), |filter| {
                    filter.skill_id = some(rng);
                    filter.caller_id = some(rng);
                    filter.channel_id = some(rng);
                    filter.status = some(rng).map(RunStatus::from);
                    filter.include_dry_run = true;
                }),
                page,
            ),
            5 => Self::Children(name(rng)),
            6 => Self::Chain(name(rng)),
            7 => Self::FinishedBefore(limit),
            _ => Self::LastRuns((0..rng.usize(..5)).map(|_| name(rng)).collect()),
        }
    }

    async fn run(&self, store: &AuditStore) -> Result<Answer> {
        let runs = match self {
            Self::Get(id) => match store.get_run(id).await {
                Err(Error::NotFound { .. }) => Ok(Vec::new()),
                found => found.map(|run| vec![run]),
            },
            Self::BySkill(skill, limit) => store.list_runs_by_skill(skill, *limit).await,
            Self::BySkillPaginated(skill, page) => {
                store.list_runs_by_skill_paginated(skill, *page, true).await
            }
            Self::ByCaller(caller, limit) => store.list_runs_by_caller(caller, *limit).await,
            Self::Filtered(filter, page) => store.list_runs_filtered(filter, *page).await,
            Self::Children(parent) => store.list_children_by_parent(parent).await,
            Self::Chain(id) => store.walk_parent_chain(id).await,
            Self::FinishedBefore(limit) => store.list_finished_runs_before(at(20), *limit).await,
            Self::LastRuns(skills) => {
                let times = store.last_run_by_skills(skills, true).await?;
                return Ok(Answer::Times(times.into_iter().collect()));
            }
        };
        runs.map(Answer::Runs)
    }

    /// Whether all names in it are valid.
    fn is_valid(&self) -> bool {
        match self {
            Self::Get(id) | Self::Chain(id) | Self::Children(id) => {
                is_valid_name(id) && !id.is_empty()
            }
            Self::BySkill(name, _) | Self::BySkillPaginated(name, _) | Self::ByCaller(name, _) => {
                is_valid_name(name)
            }
            Self::Filtered(filter, _) => [&filter.skill_id, &filter.caller_id, &filter.channel_id]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .chain(filter.status.as_ref().map(RunStatus::as_str))
                .all(is_valid_name),
            Self::FinishedBefore(_) => true,
            Self::LastRuns(skills) => skills.iter().all(|skill| is_valid_name(skill)),
        }
    }

    /// Computes the answer by checking each run of the model.
    fn expected(&self, model: &Model) -> Answer {
        let is_shown = |run: &SkillRun| run.status != RunStatus::DRY_RUN;
        let list = |page: Page, matches: &dyn Fn(&SkillRun) -> bool| {
            paged(&model.list(matches), page).to_vec()
        };
        Answer::Runs(match self {
            Self::Get(id) => model.runs.get(id).cloned().into_iter().collect(),
            Self::BySkill(skill, limit) => list((*limit).into(), &|run| {
                run.skill_id == *skill && is_shown(run)
            }),
            Self::BySkillPaginated(skill, page) => list(*page, &|run| run.skill_id == *skill),
            Self::ByCaller(caller, limit) => list((*limit).into(), &|run| {
                run.caller_id == *caller && is_shown(run)
            }),
            Self::Filtered(filter, page) => list(*page, &|run| {
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
            }),
            Self::Children(parent) => {
                list(Page::ALL, &|run| run.parent_run_id.as_ref() == Some(parent))
            }
            Self::Chain(id) => model.chain(id),
            Self::FinishedBefore(limit) => list((*limit).into(), &|run| {
                run.finished_at.is_some_and(|time| time < at(20))
            }),
            Self::LastRuns(skills) => {
                let newest = |skill: &String| {
                    model
                        .list(|run| run.skill_id == *skill)
                        .first()
                        .map(|run| run.started_at)
                };
                let times = skills
                    .iter()
                    .filter_map(|skill| Some((skill.clone(), newest(skill)?)));
                return Answer::Times(times.collect());
            }
        })
    }
}

/// A run whose every name is one of these.
fn hostile_run(id: &str, place: i64, rng: &mut Rng, names: &[String]) -> SkillRun {
    let mut name = || names[rng.usize(..names.len())].clone();
    with(running_at(id, place / 3), |run| {
        run.skill_id = name();
        run.caller_id = name();
        run.channel_id = name();
        run.parent_run_id = Some(name());
        run.status = RunStatus::from(name());
        run.finished_at = (place % 2 == 0).then(|| at(place));
    })
}

fn is_valid(run: &SkillRun) -> bool {
    let names = [
        &run.id,
        &run.skill_id,
        &run.caller_id,
        &run.channel_id,
        run.parent_run_id.as_ref().unwrap(),
    ];
    !run.id.is_empty()
        && names.into_iter().all(|name| is_valid_name(name))
        && is_valid_name(run.status.as_str())
}

#[test]
fn hostile_names_in_queries_are_matched_literally_on_both_backends() {
    let seed = fastrand::u64(..);
    eprintln!("queries from seed {seed}");
    on_each_connection_kind(async |each| {
        let mut rng = Rng::with_seed(seed);
        let names = names();
        let mut model = Model::default();
        // Tries each name as an id until a run with it is stored: a try fails if another name
        // is invalid.
        for (id, place) in names.iter().cycle().take(4 * names.len()).zip(0..) {
            let run = hostile_run(id, place, &mut rng, &names);
            if model.runs.contains_key(id) {
                continue;
            }
            let stored = each.call(async |store| store.start_run(&run).await).await;
            assert_eq!(stored.is_ok(), is_valid(&run), "{run:?}");
            if stored.is_ok() {
                model.runs.insert(run.id.clone(), run);
            }
        }
        assert!(model.runs.len() > names.len() / 2);

        let queries = counts::queries();
        for _ in 0..queries {
            let query = Query::random(&mut rng, &names);
            let answer = each.call(async |store| query.run(store).await).await;
            if query.is_valid() {
                assert_eq!(answer, Ok(query.expected(&model)), "{query:?}");
            } else {
                assert!(answer.unwrap_err().starts_with("InvalidInput"), "{query:?}");
            }
            if let (Query::Filtered(filter, _), true) = (&query, query.is_valid()) {
                let all = Query::Filtered(filter.clone(), Page::ALL).expected(&model);
                let counted = each
                    .call(async |store| store.count_runs_filtered(filter).await)
                    .await;
                assert!(
                    matches!(all, Answer::Runs(runs) if counted == Ok(runs.len() as u64)),
                    "{query:?}"
                );
            }
        }
        for url in &each.urls {
            assert_eq!(count(url, "skill_runs"), model.runs.len() as u64);
        }
        eprintln!(
            "{queries} queries about {} runs: every answer literal and the same",
            model.runs.len()
        );
    });
}
