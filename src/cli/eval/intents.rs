//! Lines `{"text", "intent", "slots"?}`: intents and slots, or telling what is out of scope.

use std::collections::{BTreeMap, BTreeSet};

use intentd_core::{Outcome, Task as Head, Understanding};
use intentd_engine::Labels;
use serde::{Deserialize, Deserializer};

use super::gold::{self, Gold, Span};
use super::metrics::{self, Line};
use super::report::{Confusion, Figures, Findings};
use super::{Examinee, Failure, Task};

/// What a line says is right.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    text: String,
    /// None: out of scope.
    intent: Option<String>,
    /// None: the line does not say.
    slots: Option<BTreeSet<Span>>,
}

#[derive(Deserialize)]
struct Fields {
    text: String,
    // Null means out of scope, but a line without the field is a line of another task.
    #[serde(deserialize_with = "present")]
    intent: Option<String>,
    // Read later, and only where slots are measured.
    slots: Option<serde_json::Value>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

pub(super) fn evaluate(examinee: &mut Examinee<'_>, task: Task) -> Result<Findings, Failure> {
    let gold = gold::read(examinee.data, |line| parse(line, task))?;
    let engine = examinee.engine;
    let supported = engine.manifest().supported_tasks();
    let slots = (task == Task::Intent && supported.contains(&Head::Slots)).then_some(Head::Slots);
    let heads: Vec<Head> = [Head::Intent].into_iter().chain(slots).collect();
    let parsed = examinee.parse_all(&gold, &heads, |said| &said.text)?;
    let lines: Vec<Line> =
        gold.iter().zip(&parsed).map(|(gold, parsed)| line(&gold.says, &parsed.understanding)).collect();
    Ok(Findings {
        examples: lines.len(),
        figures: figures(task, &lines),
        unknown: unknown_labels(&lines, engine.labels()),
        confusions: Confusion::worst(confused(&gold, &lines)),
    })
}

fn parse(line: &str, task: Task) -> Result<Said, String> {
    let Fields { text, intent, slots } = gold::fields(line)?;
    let text = gold::text(text)?;
    let slots = match (task, slots) {
        (Task::Intent, Some(slots)) => {
            let slots = serde_json::from_value(slots).map_err(|error| format!("slots: {error}"))?;
            Some(gold::spans("slots", slots, &text)?)
        }
        _ => None,
    };
    Ok(Said { text, intent: intent.filter(|intent| intent != "oos"), slots })
}

fn line(said: &Said, understanding: &Understanding) -> Line {
    let top = understanding.intent.as_ref().or(understanding.alternatives.first());
    let slots = understanding.slots.iter();
    Line {
        gold_intent: said.intent.clone(),
        gold_slots: said.slots.clone(),
        intent: top.map(|intent| intent.name.clone()).unwrap_or_default(),
        confidence: top.map_or(0.0, |intent| intent.confidence.into()),
        slots: slots
            .map(|slot| Span { name: slot.name.clone(), start: slot.chars.start, end: slot.chars.end })
            .collect(),
        rejected: understanding.outcome == Outcome::NotRecognized,
    }
}

fn figures(task: Task, lines: &[Line]) -> Figures {
    let both = Figures {
        ece: metrics::calibration_error(lines),
        brier: metrics::brier(lines),
        ..Figures::default()
    };
    match task {
        Task::Oos => Figures {
            in_scope_accuracy: metrics::intent_accuracy(lines),
            oos_recall: metrics::oos_recall(lines),
            auroc: metrics::auroc(lines),
            oos_recall_at_threshold: metrics::rejected(lines, false),
            false_rejection_rate: metrics::rejected(lines, true),
            ..both
        },
        _ => Figures {
            intent_accuracy: metrics::intent_accuracy(lines),
            slot_f1: metrics::slot_f1(lines),
            frame_accuracy: metrics::frame_accuracy(lines),
            ..both
        },
    }
}

/// Occurrences of each label that the bundle lacks.
fn unknown_labels(lines: &[Line], labels: &Labels) -> BTreeMap<String, usize> {
    let mut unknown = BTreeMap::new();
    for line in lines {
        let intent = line.gold_intent.iter().filter(|intent| !labels.intents.contains(intent));
        let slots = line.gold_slots.iter().flatten().map(|slot| &slot.name);
        for name in intent.chain(slots.filter(|name| !labels.slots.contains(name))) {
            *unknown.entry(name.clone()).or_default() += 1;
        }
    }
    unknown
}

/// Expected, answered and text of every wrong line; an out-of-scope line is right when it was rejected.
fn confused<'a>(
    gold: &'a [Gold<Said>],
    lines: &'a [Line],
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    let wrong = |line: &Line| if line.in_scope() { !line.right() } else { !line.rejected };
    let wrong = gold.iter().zip(lines).filter(move |(_, line)| wrong(line));
    wrong.map(|(gold, line)| {
        let expected = line.gold_intent.as_deref().unwrap_or("(out of scope)");
        (expected, line.intent.as_str(), gold.says.text.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_where_they_are_measured() {
        let line = r#"{"text": "für 3 €", "intent": "a", "slots": [{"name": "price", "value": "3 €", "start": 4, "end": 8}]}"#;
        assert!(parse(line, Task::Intent).unwrap_err().contains("slots[0]: 4 to 8"));
        assert_eq!(parse(line, Task::Oos).unwrap().slots, None, "not read under oos");
        let slots = parse(&line.replace("\"end\": 8", "\"end\": 7"), Task::Intent).unwrap().slots.unwrap();
        assert_eq!(slots, BTreeSet::from([Span { name: "price".to_owned(), start: 4, end: 7 }]));
    }

    #[test]
    fn null_and_oos_are_out_of_scope_and_absence_is_a_mistake() {
        for line in [r#"{"text": "x", "intent": null}"#, r#"{"text": "x", "intent": "oos"}"#] {
            assert_eq!(parse(line, Task::Oos).unwrap().intent, None);
        }
        let error = parse(r#"{"text": "x", "label": "positive"}"#, Task::Intent).unwrap_err();
        assert!(error.contains("intent"), "{error}");
    }
}
