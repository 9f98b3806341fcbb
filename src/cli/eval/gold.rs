//! Gold lines: one JSON object a line. A bad one is named with its number, and nothing is scored.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use intentd_core::Utterance;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cli::failure::Failure;
use crate::cli::lines::Lines;

/// A line of the file, from 1, and what it says is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gold<T> {
    pub(super) number: usize,
    pub(super) says: T,
}

/// A slot or an entity as it is compared: name and span in code points.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Span {
    #[serde(alias = "type")]
    pub(super) name: String,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// Reads and checks the whole file; `parse` says what is wrong with a line.
pub(super) fn read<T>(
    path: &Path,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<Gold<T>>, Failure> {
    let file = File::open(path).map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    let gold = read_from(BufReader::new(file), parse);
    let gold = gold.map_err(|message| Failure::data(format!("{}: {message}", path.display())))?;
    if gold.is_empty() {
        return Err(Failure::data(format!("{}: there is no line in it", path.display())));
    }
    Ok(gold)
}

pub(super) fn read_from<T>(
    reader: impl BufRead,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<Gold<T>>, String> {
    let mut gold = Vec::new();
    for line in Lines::new(reader) {
        let line = line.map_err(|error| error.to_string())?;
        let named = |reason: String| format!("line {}: {reason}", line.number);
        let text = line.text.map_err(|error| named(error.to_string()))?;
        if !text.trim().is_empty() {
            gold.push(Gold { number: line.number, says: parse(&text).map_err(named)? });
        }
    }
    Ok(gold)
}

/// The fields of a line.
pub(super) fn fields<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    // serde_json counts lines within the one it was given; only the column tells something.
    serde_json::from_str(line).map_err(|error: serde_json::Error| {
        let position = format!(" at line {} column {}", error.line(), error.column());
        error.to_string().replace(&position, &format!(" (column {})", error.column()))
    })
}

/// A text that the daemon would take.
pub(super) fn text(text: String) -> Result<String, String> {
    let utterance = Utterance { text, ..Utterance::default() };
    utterance.validate().map_err(|invalid| invalid.to_string())?;
    Ok(utterance.text)
}

/// Spans that lie inside the text.
pub(super) fn spans(field: &str, spans: Vec<Span>, text: &str) -> Result<BTreeSet<Span>, String> {
    let length = text.chars().count();
    let outside = |span: &Span| span.start >= span.end || span.end as usize > length;
    match spans.iter().enumerate().find(|(_, span)| outside(span)) {
        Some((i, Span { start, end, .. })) => {
            Err(format!("{field}[{i}]: {start} to {end} is no span of a text of {length} characters"))
        }
        None => Ok(spans.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Fields {
        text: String,
    }

    #[test]
    fn the_bad_line_is_named() {
        let read = |lines: &[u8]| read_from(lines, |line| text(fields::<Fields>(line)?.text));
        let good = r#"{"text": "lights on", "intent": "a"}"#;
        for (bad, reason) in [
            ("{\"text\": \"x\"", "EOF"),
            ("[]", "column"),
            (r#"{"text": " "}"#, "empty"),
            (r#"{"text": 5}"#, "string"),
        ] {
            let error = read(format!("{good}\n\n{bad}\n{good}\n").as_bytes()).unwrap_err();
            assert!(error.starts_with("line 3: ") && error.contains(reason), "{error}");
            assert!(!error.contains("at line"), "{error}");
        }
        let error = read(&b"\xff\n"[..]).unwrap_err();
        assert!(error.starts_with("line 1: ") && error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn spans_are_in_code_points() {
        let price = Span { name: "price".to_owned(), start: 4, end: 7 };
        assert_eq!(spans("slots", vec![price.clone()], "für 3 €"), Ok(BTreeSet::from([price.clone()])));
        let beyond = Span { end: 8, ..price.clone() };
        assert!(spans("slots", vec![beyond], "für 3 €").unwrap_err().contains("slots[0]: 4 to 8"));
        let empty = Span { end: 4, ..price };
        assert!(spans("slots", vec![empty], "für 3 €").is_err());
    }
}
