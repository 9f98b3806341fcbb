//! A question about passages, and its answer: words of one of them, or that none of them answers it.

use std::ops::Range;

use crate::understanding::Effort;
use crate::utterance::{Invalid, InvalidKind, check_field, check_text, check_words, too_long};

/// Most passages of one question.
pub const MAX_PASSAGES: usize = 32;

/// Longest passages in bytes of UTF-8, all of a question together: they bound the work of one question to some hundred
/// passes through the encoder.
pub const MAX_PASSAGE_BYTES: usize = 16 * 1024;

/// A question, and where its answer may stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Question {
    /// The sender's id, echoed in the answer.
    pub id: String,
    /// What is asked, UTF-8.
    pub question: String,
    /// Texts of which one may hold the answer.
    pub passages: Vec<String>,
    /// Name of the bundle; empty: the site's own.
    pub bundle: String,
}

/// What the passages say to a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The words; none when no passage answers the question.
    pub span: Option<AnswerSpan>,
    /// Calibrated probability, 0 to 1, that the best words of all passages answer it; below one half they don't.
    pub score: f32,
    /// Time and size of the engine's own work.
    pub effort: Effort,
}

/// Words of a passage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerSpan {
    /// Which passage, from 0.
    pub passage: usize,
    /// The words.
    pub text: String,
    /// Where they stand in Unicode code points of the passage, end exclusive.
    pub chars: Range<u32>,
    /// Where they stand in bytes of the passage, end exclusive.
    pub bytes: Range<u32>,
}

impl Question {
    /// Checks every field against its limit; the first mistake is returned.
    pub fn validate(&self) -> Result<(), Invalid> {
        check_text("question", &self.question)?;
        check_field("id", &self.id)?;
        check_field("bundle", &self.bundle)?;
        let passages = |kind, message| Err(Invalid { field: "passages", kind, message });
        if self.passages.is_empty() {
            return passages(InvalidKind::Empty, "there is none; send the texts to look into".to_owned());
        }
        if self.passages.len() > MAX_PASSAGES {
            let message = format!("there are {}; the limit is {MAX_PASSAGES}", self.passages.len());
            return passages(InvalidKind::TooLong, message);
        }
        let bytes = self.passages.iter().map(String::len).sum();
        if bytes > MAX_PASSAGE_BYTES {
            return Err(too_long("passages", bytes, MAX_PASSAGE_BYTES));
        }
        for (index, passage) in self.passages.iter().enumerate() {
            check_words("passages", passage).map_err(|invalid| Invalid {
                message: format!("number {index} (from 0) {}", invalid.message),
                ..invalid
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(question: &str, passages: &[&str]) -> Question {
        let passages = passages.iter().map(|&passage| passage.to_owned()).collect();
        Question { question: question.to_owned(), passages, ..Question::default() }
    }

    #[test]
    fn every_mistake_is_named() {
        let (half, whole) = ("a".repeat(MAX_PASSAGE_BYTES / 2), "a".repeat(MAX_PASSAGE_BYTES));
        assert_eq!(question("who?", &["Ada.", "Bob.\nAnd Eve."]).validate(), Ok(()));
        assert_eq!(question("who?", &[&half, &half]).validate(), Ok(()));
        assert_eq!(question("who?", &["a"; MAX_PASSAGES]).validate(), Ok(()));
        let cases: [(Question, &str, InvalidKind, &str); 7] = [
            (question(" ", &["a"]), "question", InvalidKind::Empty, "empty"),
            (question(&"w".repeat(4097), &["a"]), "question", InvalidKind::TooLong, "4096"),
            (question("who?", &[]), "passages", InvalidKind::Empty, "none"),
            (question("who?", &["a", "\u{3000}"]), "passages", InvalidKind::Empty, "number 1"),
            (question("who?", &["a\u{0}"]), "passages", InvalidKind::BadValue, "number 0 (from 0) holds"),
            (question("who?", &["a"; MAX_PASSAGES + 1]), "passages", InvalidKind::TooLong, "32"),
            (question("who?", &[&whole, "a"]), "passages", InvalidKind::TooLong, "16384"),
        ];
        for (question, field, kind, message) in cases {
            let error = question.validate().unwrap_err();
            assert_eq!((error.field, error.kind), (field, kind), "{error}");
            assert!(error.message.contains(message), "{error}");
        }
    }
}
