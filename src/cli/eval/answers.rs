//! Lines `{"question", "passage", "answers": [{"text", "start"}]}`, no answers where the passage has none: exact match
//! and F1 as SQuAD 2.0 has them (Rajpurkar, Jia, Liang 2018), the best over the gold answers of a line.

use std::collections::BTreeMap;
use std::time::Instant;

use intentd_core::{Effort, ModelRef, ParseError, Question};
use intentd_engine::Worker;
use serde::Deserialize;

use super::gold;
use super::report::{Figures, Findings};
use super::{Examinee, Failure};
use crate::inference::{Answered, Timing};

#[derive(Deserialize)]
struct Asked {
    question: String,
    #[serde(alias = "context")]
    passage: String,
    answers: Vec<Gold>,
}

#[derive(Deserialize)]
struct Gold {
    text: String,
}

impl Asked {
    fn to_question(&self) -> Question {
        let (question, passages) = (self.question.clone(), vec![self.passage.clone()]);
        Question { question, passages, ..Question::default() }
    }
}

pub(super) fn evaluate(examinee: &mut Examinee<'_>) -> Result<Findings, Failure> {
    let gold = gold::read(examinee.data, parse)?;
    let answered =
        examinee.examine(&gold, |worker, model, asked| answer(worker, model, asked.to_question()))?;
    let (mut exact, mut f1, mut decided) = (0.0, 0.0, 0.0);
    for (gold, answered) in gold.iter().zip(&answered) {
        let span = answered.answer.span.as_ref();
        let found = span.map_or("", |span| span.text.as_str());
        let right: Vec<&str> = match gold.says.answers.as_slice() {
            [] => vec![""],
            answers => answers.iter().map(|answer| answer.text.as_str()).collect(),
        };
        let best =
            |figure: fn(&str, &str) -> f64| right.iter().map(|gold| figure(gold, found)).fold(0.0, f64::max);
        exact += best(exact_match);
        f1 += best(word_f1);
        decided += f64::from(u8::from(span.is_some() != gold.says.answers.is_empty()));
    }
    let share = |sum: f64| Some(sum / gold.len() as f64);
    Ok(Findings {
        examples: gold.len(),
        figures: Figures {
            accuracy: share(decided),
            f1: share(f1),
            exact_match: share(exact),
            ..Figures::default()
        },
        unknown: BTreeMap::new(),
        confusions: Vec::new(),
    })
}

/// One question on this thread, tokenise to answer.
fn answer(worker: &mut Worker, model: &ModelRef, question: Question) -> Result<Answered, ParseError> {
    let started = Instant::now();
    let answer = worker.answer(&question)?;
    let Effort { tokens, tokenize, inference } = answer.effort;
    let timing = Timing { tokens, tokenize, inference, total: started.elapsed(), ..Timing::default() };
    Ok(Answered { id: question.id, answer, model: model.clone(), timing })
}

fn parse(line: &str) -> Result<Asked, String> {
    let asked: Asked = gold::fields(line)?;
    asked.to_question().validate().map_err(|invalid| invalid.to_string())?;
    Ok(asked)
}

/// Words in lower case without ASCII punctuation and articles.
fn words(text: &str) -> Vec<String> {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = bare.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.map(str::to_owned).collect()
}

fn exact_match(gold: &str, found: &str) -> f64 {
    f64::from(u8::from(words(gold) == words(found)))
}

/// Of the words in common; where one has none, both must.
fn word_f1(gold: &str, found: &str) -> f64 {
    let (gold, mut found) = (words(gold), words(found));
    if gold.is_empty() || found.is_empty() {
        return f64::from(u8::from(gold == found));
    }
    let all = gold.len() + found.len();
    let both = gold.iter().filter(|word| {
        let place = found.iter().position(|other| other == *word);
        place.map(|place| found.swap_remove(place)).is_some()
    });
    2.0 * both.count() as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_as_squad_does() {
        assert_eq!(exact_match("The Amazon rainforest", "amazon  Rainforest."), 1.0);
        assert_eq!(exact_match("six", "sixteen"), 0.0);
        assert_eq!(word_f1("the Grammy winner", "winner of a Grammy"), 2.0 * 2.0 / 5.0);
        assert_eq!(word_f1("to be or not to be", "to be"), 2.0 * 2.0 / 8.0);
        assert_eq!((word_f1("", ""), word_f1("", "six"), word_f1("six", "")), (1.0, 0.0, 0.0));
    }

    #[test]
    fn a_line_needs_a_question_a_passage_and_the_list_of_answers() {
        let line = r#"{"context": "Six times.", "question": "How often?", "answers": [{"text": "Six", "start": 0}]}"#;
        assert_eq!(parse(line).unwrap().passage, "Six times.");
        assert!(parse(&line.replace("context", "passage")).is_ok());
        for (from, to, named) in
            [("answers", "reply", "answers"), ("How often?", " ", "question"), ("Six times.", "", "passages")]
        {
            assert!(parse(&line.replace(from, to)).err().unwrap().contains(named), "{named}");
        }
    }
}
