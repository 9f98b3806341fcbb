//! Lines `{"text", "entities": [{"name", "start", "end"}]}`: named entities, each with its kind and exact span.

use std::collections::{BTreeMap, BTreeSet};

use intentd_core::Task as Head;
use serde::Deserialize;

use super::gold::{self, Span};
use super::metrics::micro_f1;
use super::report::{Figures, Findings};
use super::{Examinee, Failure};

#[derive(Deserialize)]
struct Fields {
    text: String,
    /// Data sets of named entities have them under either name.
    #[serde(alias = "slots")]
    entities: Vec<Span>,
}

struct Tagged {
    text: String,
    entities: BTreeSet<Span>,
}

pub(super) fn evaluate(examinee: &mut Examinee<'_>) -> Result<Findings, Failure> {
    let gold = gold::read(examinee.data, parse)?;
    let known = &examinee.engine.labels().entities;
    let parsed = examinee.parse_all(&gold, &[Head::Entities], |line| &line.text)?;
    let found = parsed.iter().map(|parsed| {
        let entities = parsed.understanding.entities.iter();
        let spans = entities.map(|entity| Span {
            name: entity.kind.clone(),
            start: entity.chars.start,
            end: entity.chars.end,
        });
        spans.collect::<BTreeSet<Span>>()
    });
    let found: Vec<BTreeSet<Span>> = found.collect();
    let mut unknown = BTreeMap::new();
    for entity in gold.iter().flat_map(|gold| &gold.says.entities) {
        if !known.contains(&entity.name) {
            *unknown.entry(entity.name.clone()).or_default() += 1;
        }
    }
    let f1 = micro_f1(gold.iter().zip(&found).map(|(gold, found)| (&gold.says.entities, found)));
    Ok(Findings {
        examples: gold.len(),
        figures: Figures { f1, ..Figures::default() },
        unknown,
        confusions: Vec::new(),
    })
}

fn parse(line: &str) -> Result<Tagged, String> {
    let Fields { text, entities } = gold::fields(line)?;
    let text = gold::text(text)?;
    let entities = gold::spans("entities", entities, &text)?;
    Ok(Tagged { text, entities })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_stand_under_either_name_and_must_be_there() {
        for line in [
            r#"{"text": "to Leeds", "entities": [{"type": "place", "start": 3, "end": 8}]}"#,
            r#"{"text": "to Leeds", "intent": null, "slots": [{"name": "place", "start": 3, "end": 8}]}"#,
        ] {
            assert_eq!(parse(line).unwrap().entities.first().unwrap().name, "place");
        }
        assert!(parse(r#"{"text": "to Leeds"}"#).err().unwrap().contains("entities"));
        assert!(parse(r#"{"text": "x", "entities": [{"type": "place", "start": 3, "end": 8}]}"#).is_err());
    }
}
