use std::fmt;
use std::io::{BufReader, Seek};

use runtrail_store::audit::{Limits, SkillRun, SkillRunLog, rules};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use tempfile::SpooledTempFile;
use tokio::sync::mpsc;

use super::Refusal;
use super::bounded::{Bounded, Budget};
use crate::transfer::{EVENTS, Event};

/// A line that has been read to its end, and found good.
pub(super) struct Line {
    text: SpooledTempFile,
}

impl Line {
    /// The run of a line; none for a blank one.
    pub(super) fn check(mut text: SpooledTempFile) -> Result<Option<(SkillRun, Self)>, Refusal> {
        let limits = Limits::new(Limits::MAX_VALUE_BYTES)?;
        let mut last = None;
        let check = |event: Event| {
            rules::count("sequence", event.sequence)?;
            if last.replace(event.sequence) >= Some(event.sequence) {
                let reason = "the events are not in the order of their sequence";
                return Err(Refusal::Line(reason.to_owned()));
            }
            rules::identifier("event_type", &event.event_type)?;
            rules::json("payload", &event.payload, &limits)?;
            Ok(())
        };
        let Some(fields) = read(&mut text, check)? else {
            return Ok(None);
        };
        let given: Vec<String> = fields.keys().cloned().collect();
        let run: SkillRun = serde_json::from_value(Value::Object(fields)).map_err(not_json)?;
        let known = serde_json::to_value(&run).map_err(not_json)?;
        if let Some(unknown) = given.iter().find(|name| known.get(name.as_str()).is_none()) {
            return Err(Refusal::Line(format!("a run has no field {unknown:?}")));
        }
        Ok(Some((run, Self { text })))
    }

    /// Sends the events, until nobody takes them any more.
    pub(super) fn events(
        mut self,
        run_id: &str,
        sender: mpsc::Sender<SkillRunLog>,
    ) -> Result<(), Refusal> {
        let send = |event: Event| {
            sender
                .blocking_send(event.of_run(run_id))
                .map_err(|_| Refusal::Line("storing its events failed".to_owned()))
        };
        read(&mut self.text, send).map(drop)
    }
}

/// Reads the object of a line: its events go, one by one, to `on_event`; the other members are returned. None
/// for a blank line.
fn read(
    text: &mut SpooledTempFile,
    on_event: impl FnMut(Event) -> Result<(), Refusal>,
) -> Result<Option<Map<String, Value>>, Refusal> {
    let cannot_read = |err: std::io::Error| Refusal::Line(err.to_string());
    text.rewind().map_err(cannot_read)?;
    let mut refused = Ok(());
    let (bounded, budget) = Bounded::new(BufReader::new(&mut *text));
    let mut json = serde_json::Deserializer::from_reader(bounded);
    let run = RunVisitor {
        on_event,
        budget,
        refused: &mut refused,
    };
    let fields = json.deserialize_map(run).and_then(|fields| {
        json.end()?;
        Ok(fields)
    });
    // It says more than that reading has stopped there.
    refused?;
    match fields {
        Ok(fields) => Ok(Some(fields)),
        Err(err) if err.is_eof() && is_blank(text).map_err(cannot_read)? => Ok(None),
        Err(err) => Err(not_json(err)),
    }
}

fn is_blank(text: &mut SpooledTempFile) -> std::io::Result<bool> {
    text.rewind()?;
    let mut bytes = std::io::Read::bytes(BufReader::new(text));
    bytes.try_fold(true, |blank, byte| Ok(blank && byte?.is_ascii_whitespace()))
}

fn not_json(err: serde_json::Error) -> Refusal {
    let column = err.column();
    // The line is known better here: within itself it is always the first.
    let reason = err.to_string().replace(" at line 1 column", ", column");
    match reason.contains("column") || column == 0 {
        true => Refusal::Line(reason),
        false => Refusal::Line(format!("{reason}, column {column}")),
    }
}

/// Reads a run's object without ever holding its events.
struct RunVisitor<'a, F> {
    on_event: F,
    budget: Budget,
    refused: &'a mut Result<(), Refusal>,
}

impl<'de, F: FnMut(Event) -> Result<(), Refusal>> Visitor<'de> for RunVisitor<'_, F> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a run as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.budget.renew();
            if name == EVENTS {
                members.next_value_seed(&mut self)?;
            } else {
                fields.insert(name, members.next_value()?);
            }
        }
        Ok(fields)
    }
}

impl<'de, F: FnMut(Event) -> Result<(), Refusal>> DeserializeSeed<'de> for &mut RunVisitor<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(EventsVisitor(self))
    }
}

struct EventsVisitor<'a, 'b, F>(&'a mut RunVisitor<'b, F>);

impl<'de, F: FnMut(Event) -> Result<(), Refusal>> Visitor<'de> for EventsVisitor<'_, '_, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the events of the run as a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        while let Some(event) = events.next_element()? {
            self.0.budget.renew();
            if let Err(refusal) = (self.0.on_event)(event) {
                *self.0.refused = Err(refusal);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}
