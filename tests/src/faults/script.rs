//! What the writers write. Each record follows from its id alone, so that whoever looks later knows what should be
//! there, to the byte.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastrand::Rng;
use runtrail_audit::{RunStats, RunStatus, SkillRun, SkillRunLog};
use serde_json::json;

use crate::fixture::{at, object};

/// Events of a run: the first comes by itself, the others in one call.
pub(super) const EVENTS: u64 = 4;

pub(super) fn run(id: &str) -> SkillRun {
    let mut rng = rng(&(id, "run"));
    SkillRun {
        caller_id: text(&mut rng, 20),
        channel_id: text(&mut rng, 5),
        parent_run_id: rng.bool().then(|| text(&mut rng, 20)),
        inputs: object(
            json!({ "question": text(&mut rng, 600), "nul": "\0", "number": rng.f64(), "count": rng.u64(..) }),
        ),
        runtime_seconds: 0.5,
        ..SkillRun::new(id, text(&mut rng, 10), at(rng.i64(0..1_000_000)))
    }
}

pub(super) fn event(id: &str, sequence: u64) -> SkillRunLog {
    let mut rng = rng(&(id, sequence));
    SkillRunLog {
        created_at: Some(at(rng.i64(0..1_000_000))),
        ..SkillRunLog::new(
            id,
            sequence,
            text(&mut rng, 10),
            json!({ "text": text(&mut rng, 900), "nul": "\0" }),
        )
    }
}

pub(super) fn stats(id: &str) -> RunStats {
    let mut rng = rng(&(id, "stats"));
    RunStats {
        output: text(&mut rng, 500),
        error: text(&mut rng, 30),
        tool_calls: rng.u64(..1_000),
        // Told in the same digits by everybody.
        runtime_seconds: f64::from(rng.u32(..1_000)) + 0.25,
        input_tokens: rng.u64(..1_000_000),
        output_tokens: rng.u64(..1_000_000),
        thinking_tokens: rng.u64(..1_000_000),
        ..RunStats::new(RunStatus::OK)
    }
}

fn rng(of: &impl Hash) -> Rng {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    Rng::with_seed(hasher.finish())
}

fn text(rng: &mut Rng, longest: usize) -> String {
    const CHARACTERS: &[char] = &[
        'a', 'b', 'c', ' ', '\'', '"', '\\', '%', '_', '\n', '\t', 'é', '漢', '😀', '\u{202e}',
        '\u{1}', '$', '?',
    ];
    let length = rng.usize(..=longest);
    (0..length).filter_map(|_| rng.choice(CHARACTERS)).collect()
}
