use std::collections::HashSet;
use std::io::{BufReader, Seek};
use std::marker::PhantomData;
use std::sync::LazyLock;
use std::{fmt, mem};

use chrono::DateTime;
use runtrail::{SkillRun, SkillRunLog, rules};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::{Map, Value};
use tempfile::SpooledTempFile;
use tokio::sync::mpsc;

use super::bounded::{Bounded, Budget};
use super::measured::{Measured, MeasuredEvent, insert_unique, shortened};
use super::{MAX_BATCH_EVENTS, Refusal};
use crate::transfer::{EVENTS, Event};

/// The member of a run's object whose value is an arbitrary JSON object.
const INPUTS: &str = "inputs";

/// The member whose value is an object of texts.
const LABELS: &str = "labels";

/// A line that has been validated to its end.
pub(super) struct Line {
    text: SpooledTempFile,
}

/// A batch of events is sent once it has this many bytes, as written in the line.
const FULL_BATCH_BYTES: usize = 4 << 20;

impl Line {
    /// Validates a line and returns its run; `None` for a blank line.
    pub(super) fn check(mut text: SpooledTempFile) -> Result<Option<(SkillRun, Self)>, Refusal> {
        let mut last = None;
        let check = |event: MeasuredEvent, _size| {
            rules::count("sequence", event.sequence)?;
            if last.replace(event.sequence) >= Some(event.sequence) {
                let reason = "the events are not in ascending order of their sequence";
                return Err(Refusal::Line(reason.to_owned()));
            }
            rules::identifier("event_type", &event.event_type)?;
            if let Some(duration) = event.duration {
                rules::duration("duration_micros", duration)?;
            }
            if let Some(usage) = &event.usage {
                rules::usage(usage)?;
            }
            Ok(())
        };
        let Some(mut fields) = read(&mut text, check)? else {
            return Ok(None);
        };
        if fields.contains_key(INPUTS) {
            fields.insert(INPUTS.to_owned(), inputs(&mut text)?);
        }
        let run: SkillRun = serde_json::from_value(Value::Object(fields)).map_err(not_json)?;
        Ok(Some((run, Self { text })))
    }

    /// Sends the events in batches; fails if the receiver is dropped.
    pub(super) fn events(
        mut self,
        run_id: &str,
        sender: mpsc::Sender<Vec<SkillRunLog>>,
    ) -> Result<(), Refusal> {
        let send = |events| {
            sender
                .blocking_send(events)
                .map_err(|_| Refusal::Line("storing its events failed".to_owned()))
        };
        let (mut events, mut bytes) = (Vec::new(), 0);
        let collect = |event: Event, size| {
            events.push(event.of_run(run_id));
            bytes += size;
            if events.len() == MAX_BATCH_EVENTS || bytes >= FULL_BATCH_BYTES {
                bytes = 0;
                return send(mem::take(&mut events));
            }
            Ok(())
        };
        read(&mut self.text, collect)?;
        match events.is_empty() {
            true => Ok(()),
            false => send(events),
        }
    }
}

/// Reads the object of a line. Passes each event, with its length in the line, to `on_event`.
/// Returns the other members, without the value of the inputs; `None` for a blank line.
fn read<E: DeserializeOwned>(
    text: &mut SpooledTempFile,
    on_event: impl FnMut(E, usize) -> Result<(), Refusal>,
) -> Result<Option<Map<String, Value>>, Refusal> {
    text.rewind().map_err(cannot_read)?;
    let mut refused = Ok(());
    let (bounded, budget) = Bounded::new(BufReader::new(&mut *text));
    let mut json = serde_json::Deserializer::from_reader(bounded);
    let run = RunVisitor {
        on_event,
        budget,
        refused: &mut refused,
        events: PhantomData,
    };
    let fields = json.deserialize_map(run).and_then(|fields| {
        json.end()?;
        Ok(fields)
    });
    // The refusal is the cause; serde_json's error only says that reading has stopped.
    refused?;
    match fields {
        Ok(fields) => Ok(Some(fields)),
        Err(err) if err.is_eof() && is_blank(text).map_err(cannot_read)? => Ok(None),
        Err(err) => Err(not_json(err)),
    }
}

/// Reads the inputs of a run, which have already been validated.
fn inputs(text: &mut SpooledTempFile) -> Result<Value, Refusal> {
    text.rewind().map_err(cannot_read)?;
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(text));
    let mut inputs = Value::Null;
    // serde_json fails because the rest is unread. A parsed value counts despite that error.
    let read = json.deserialize_map(InputsVisitor(&mut inputs));
    match read {
        Err(err) if inputs.is_null() => Err(not_json(err)),
        _ => Ok(inputs),
    }
}

fn cannot_read(err: std::io::Error) -> Refusal {
    Refusal::Line(format!("its temporary file can't be read: {err}"))
}

fn is_blank(text: &mut SpooledTempFile) -> std::io::Result<bool> {
    text.rewind()?;
    let mut bytes = std::io::Read::bytes(BufReader::new(text));
    bytes.try_fold(true, |blank, byte| Ok(blank && byte?.is_ascii_whitespace()))
}

fn not_json(err: serde_json::Error) -> Refusal {
    if err.is_io() {
        // The reader's own message, which includes the position.
        return Refusal::Line(std::io::Error::from(err).to_string());
    }
    let column = err.column();
    // serde_json counts lines within the line, so it always says line 1. The caller adds the real
    // number.
    let reason = err.to_string().replace(" at line 1 column", ", column");
    match reason.contains("column") || column == 0 {
        true => Refusal::Line(reason),
        false => Refusal::Line(format!("{reason}, column {column}")),
    }
}

/// Reads a run's object without buffering its events or its inputs in memory.
struct RunVisitor<'a, E, F> {
    on_event: F,
    budget: Budget,
    refused: &'a mut Result<(), Refusal>,
    events: PhantomData<E>,
}

/// The names of a run's fields.
static FIELDS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    // Empty optional fields are left out.
    let run = SkillRun::new("", "", DateTime::UNIX_EPOCH).owner("");
    match serde_json::to_value(run) {
        Ok(Value::Object(fields)) => fields.into_iter().map(|(name, _)| name).collect(),
        _ => HashSet::new(),
    }
});

impl<'de, E, F> Visitor<'de> for RunVisitor<'_, E, F>
where
    E: DeserializeOwned,
    F: FnMut(E, usize) -> Result<(), Refusal>,
{
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a run as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            self.budget.reset();
            match name.as_str() {
                EVENTS => members.next_value_seed(&mut self)?,
                INPUTS => {
                    members.next_value_seed(Measured::new(INPUTS, &mut 0))?;
                    fields.insert(name.clone(), Value::Null);
                }
                LABELS => {
                    fields.insert(name.clone(), members.next_value_seed(Labels)?);
                }
                _ if FIELDS.contains(&name) => {
                    fields.insert(name.clone(), members.next_value_seed(Scalar)?);
                }
                // The value is not read, since it may have any size.
                other => {
                    let reason = format!("unknown field {:?} in a run", shortened(other));
                    *self.refused = Err(Refusal::Line(reason));
                    return Err(A::Error::custom("refused"));
                }
            }
            insert_unique(&mut names, name)?;
        }
        Ok(fields)
    }
}

impl<'de, E, F> DeserializeSeed<'de> for &mut RunVisitor<'_, E, F>
where
    E: DeserializeOwned,
    F: FnMut(E, usize) -> Result<(), Refusal>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(EventsVisitor(self))
    }
}

struct EventsVisitor<'a, 'b, E, F>(&'a mut RunVisitor<'b, E, F>);

impl<'de, E, F> Visitor<'de> for EventsVisitor<'_, '_, E, F>
where
    E: DeserializeOwned,
    F: FnMut(E, usize) -> Result<(), Refusal>,
{
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the events of the run as a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        while let Some(event) = events.next_element()? {
            let size = self.0.budget.reset();
            if let Err(refusal) = (self.0.on_event)(event, size) {
                *self.0.refused = Err(refusal);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// An object with few members, each with a [`Scalar`].
struct Labels;

impl<'de> DeserializeSeed<'de> for Labels {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Labels {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("labels as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut labels = Map::new();
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if labels.len() == rules::MAX_LABELS {
                let reason = format!("the run has more than {} labels", rules::MAX_LABELS);
                return Err(A::Error::custom(reason));
            }
            labels.insert(name.clone(), members.next_value_seed(Scalar)?);
            insert_unique(&mut names, name)?;
        }
        Ok(Value::Object(labels))
    }
}

/// A string, a number or null: the type of every field except the inputs and the labels.
struct Scalar;

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Scalar {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, a number or null")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }
}

/// Reads the inputs, and nothing after them.
struct InputsVisitor<'a>(&'a mut Value);

impl<'de> Visitor<'de> for InputsVisitor<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a run as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            if name == INPUTS {
                *self.0 = members.next_value()?;
                return Ok(());
            }
            members.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
