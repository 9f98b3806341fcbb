//! Gold lines: one JSON object a line. A bad one is named with its number, and nothing is scored.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use intentd_core::utterance::Utterance;
use serde::{Deserialize, Deserializer};

use super::Task;
use super::metrics::Span;
use crate::cli::failure::Failure;
use crate::cli::lines::Lines;

/// What a line says is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gold {
    /// Line of the file, from 1.
    pub(super) number: usize,
    pub(super) text: String,
    /// None: out of scope.
    pub(super) intent: Option<String>,
    /// None: the line does not say.
    pub(super) slots: Option<BTreeSet<Span>>,
}

#[derive(Deserialize)]
struct Fields {
    text: String,
    // Null means out of scope, but a line without the field is a line of another task.
    #[serde(deserialize_with = "present")]
    intent: Option<String>,
}

#[derive(Deserialize)]
struct SlotFields {
    slots: Option<Vec<GoldSlot>>,
}

#[derive(Deserialize)]
struct GoldSlot {
    name: String,
    start: u32,
    end: u32,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// Reads and checks the whole file.
pub(super) fn read(path: &Path, task: Task) -> Result<Vec<Gold>, Failure> {
    let file = File::open(path).map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    let gold = parse(BufReader::new(file), task);
    let gold = gold.map_err(|message| Failure::data(format!("{}: {message}", path.display())))?;
    if gold.is_empty() {
        return Err(Failure::data(format!("{}: there is no line in it", path.display())));
    }
    Ok(gold)
}

fn parse(reader: impl BufRead, task: Task) -> Result<Vec<Gold>, String> {
    let mut gold = Vec::new();
    for line in Lines::new(reader) {
        let line = line.map_err(|error| error.to_string())?;
        let named = |reason: String| format!("line {}: {reason}", line.number);
        let text = line.text.map_err(|error| named(error.to_string()))?;
        if !text.trim().is_empty() {
            gold.push(parse_line(&text, line.number, task).map_err(named)?);
        }
    }
    Ok(gold)
}

fn parse_line(line: &str, number: usize, task: Task) -> Result<Gold, String> {
    let Fields { text, intent } = serde_json::from_str(line).map_err(|error| json_reason(&error))?;
    let utterance = Utterance { text, ..Utterance::default() };
    utterance.validate().map_err(|invalid| invalid.to_string())?;
    let slots = match task {
        Task::Intent => slots(line, &utterance.text)?,
        _ => None,
    };
    Ok(Gold { number, text: utterance.text, intent: intent.filter(|intent| intent != "oos"), slots })
}

fn slots(line: &str, text: &str) -> Result<Option<BTreeSet<Span>>, String> {
    let fields: SlotFields = serde_json::from_str(line).map_err(|error| json_reason(&error))?;
    let length = text.chars().count();
    let checked = fields.slots.map(|slots| {
        slots.into_iter().enumerate().map(|(i, GoldSlot { name, start, end })| {
            if start < end && end as usize <= length {
                Ok(Span { name, start, end })
            } else {
                Err(format!("slots[{i}]: {start} to {end} is no span of a text of {length} characters"))
            }
        })
    });
    checked.map(Iterator::collect).transpose()
}

/// serde_json counts lines within the one it was given; only the column tells something.
fn json_reason(error: &serde_json::Error) -> String {
    let position = format!(" at line {} column {}", error.line(), error.column());
    error.to_string().replace(&position, &format!(" (column {})", error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str, task: Task) -> Result<Gold, String> {
        parse(line.as_bytes(), task).map(|mut gold| gold.remove(0))
    }

    #[test]
    fn spans_are_in_code_points() {
        let line = r#"{"text": "für 3 €", "intent": "a", "slots": [{"name": "price", "value": "3 €", "start": 4, "end": 7}]}"#;
        let slots = one(line, Task::Intent).unwrap().slots.unwrap();
        assert_eq!(slots, BTreeSet::from([Span { name: "price".to_owned(), start: 4, end: 7 }]));
        let beyond = line.replace("\"end\": 7", "\"end\": 8");
        assert!(one(&beyond, Task::Intent).unwrap_err().contains("slots[0]: 4 to 8"));
        assert_eq!(one(&beyond, Task::Oos).unwrap().slots, None, "not read under oos");
    }

    #[test]
    fn null_and_oos_are_out_of_scope_and_absence_is_a_mistake() {
        for line in [r#"{"text": "x", "intent": null}"#, r#"{"text": "x", "intent": "oos"}"#] {
            assert_eq!(one(line, Task::Oos).unwrap().intent, None);
        }
        let error = one(r#"{"text": "x", "label": "positive"}"#, Task::Intent).unwrap_err();
        assert!(error.contains("line 1") && error.contains("intent"), "{error}");
    }

    #[test]
    fn the_bad_line_is_named() {
        let good = r#"{"text": "lights on", "intent": "a"}"#;
        for (bad, reason) in [
            ("{\"text\": \"x\"", "EOF"),
            ("[]", "column"),
            (r#"{"text": " ", "intent": "a"}"#, "empty"),
            (r#"{"text": 5, "intent": "a"}"#, "string"),
            (r#"{"text": "x", "intent": "a", "slots": [{"name": "n", "start": 1, "end": 1}]}"#, "span"),
        ] {
            let error = parse(format!("{good}\n\n{bad}\n{good}\n").as_bytes(), Task::Intent).unwrap_err();
            assert!(error.starts_with("line 3: ") && error.contains(reason), "{error}");
            assert!(!error.contains("at line"), "{error}");
        }
        let error = parse(&b"\xff\n"[..], Task::Intent).unwrap_err();
        assert!(error.starts_with("line 1: ") && error.contains("UTF-8"), "{error}");
    }
}
