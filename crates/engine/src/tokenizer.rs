//! Text to wordpieces, and where each word stands in the text.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use intentd_core::{Invalid, InvalidKind, ParseError};

use crate::model::panic_message;

/// The bundle's tokenizer with the encoder's limit of length.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
}

/// A text as the encoder reads it.
#[derive(Debug, PartialEq)]
pub struct Tokens {
    /// Wordpieces, with the two that mark begin and end.
    pub ids: Vec<u32>,
    /// Words in the order of the text.
    pub words: Vec<Word>,
}

/// A word: what stands between white space and punctuation, or one punctuation mark.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// Its first wordpiece, an index into `ids`.
    pub first_piece: usize,
    /// Where it stands in the text, on boundaries of characters.
    pub bytes: Range<usize>,
}

impl Tokenizer {
    /// Reads a tokenizer in Hugging Face format.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(json: &[u8], max_tokens: usize) -> Result<Self, String> {
        let build = || tokenizers::Tokenizer::from_bytes(json).map_err(|e| e.to_string());
        let mut inner =
            catch_unwind(AssertUnwindSafe(build)).unwrap_or_else(|panic| Err(panic_message(&*panic)))?;
        // Cutting a long text silently would change its meaning; padding would change the answer.
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        inner.with_padding(None);
        // An utterance that spells out "[SEP]" is text, not an instruction to the model.
        inner.set_encode_special_tokens(true);
        let tokenizer = Self { inner, max_tokens };
        let marks = tokenizer.tokenize("").map_err(|e| e.to_string())?.ids.len();
        if marks != 2 {
            return Err(format!(
                "adds {marks} marks to a text; the encoder was trained with one at each end"
            ));
        }
        Ok(tokenizer)
    }

    /// Splits a text. Linear in its length.
    ///
    /// # Errors
    /// When it has more wordpieces than the encoder takes, or the library fails on it.
    pub fn tokenize(&self, text: &str) -> Result<Tokens, ParseError> {
        // The library has panicked on odd texts before; such a text costs an error, not the daemon.
        let encoded = catch_unwind(AssertUnwindSafe(|| self.inner.encode(text, true)));
        let encoding = match encoded {
            Ok(Ok(encoding)) => encoding,
            Ok(Err(error)) => return Err(ParseError::Internal(format!("tokenizer: {error}"))),
            Err(panic) => return Err(ParseError::Internal(format!("tokenizer: {}", panic_message(&*panic)))),
        };
        let ids = encoding.get_ids().to_vec();
        if ids.len() > self.max_tokens {
            return Err(too_long(ids.len(), self.max_tokens).into());
        }
        let mut words: Vec<Word> = Vec::new();
        let mut previous = None;
        for (piece, (word, &(start, end))) in
            encoding.get_word_ids().iter().zip(encoding.get_offsets()).enumerate()
        {
            let bytes = text.floor_char_boundary(start)..text.ceil_char_boundary(end);
            match words.last_mut() {
                Some(last) if word.is_some() && *word == previous => last.bytes.end = bytes.end,
                _ if word.is_some() => words.push(Word { first_piece: piece, bytes }),
                _ => {}
            }
            previous = *word;
        }
        Ok(Tokens { ids, words })
    }
}

fn too_long(tokens: usize, limit: usize) -> Invalid {
    Invalid {
        field: "text",
        kind: InvalidKind::TooLong,
        message: format!(
            "{tokens} wordpieces; the limit of this bundle is {limit}, with one at each end; send a shorter text"
        ),
    }
}

/// Turns byte offsets of one text into code points, each offset in time of the distance to the one before.
pub(crate) struct CodePoints<'a> {
    text: &'a str,
    byte: usize,
    count: u32,
}

impl<'a> CodePoints<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, byte: 0, count: 0 }
    }

    /// Code points before `byte`, a boundary of characters. Offsets must not decrease from call to call.
    pub(crate) fn before(&mut self, byte: usize) -> u32 {
        let passed = self.text.get(self.byte..byte).map_or(0, |passed| passed.chars().count());
        self.byte = byte;
        self.count += passed as u32;
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_are_counted_once() {
        let text = "日本 é🙂x";
        let mut points = CodePoints::new(text);
        let all: Vec<u32> = text.char_indices().map(|(byte, _)| points.before(byte)).collect();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        assert_eq!(points.before(text.len()), 6);
        assert_eq!(points.before(text.len()), 6);
    }

    #[test]
    fn nonsense_is_an_error() {
        for json in ["", "{}", "[1, 2]", "{\"version\":\"1.0\",\"model\":{\"type\":\"Abacus\"}}"] {
            assert!(Tokenizer::read(json.as_bytes(), 128).is_err(), "{json}");
        }
    }

    /// Whatever a text is made of: four times the bytes, up to the longest that is let in, take about four times as long.
    /// The shortest of several runs, since the machine may have other work.
    #[test]
    fn the_time_grows_with_the_length_alone() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/home-en-tiny/tokenizer.json");
        let tokenizer = Tokenizer::read(&std::fs::read(file).unwrap(), 128).unwrap();
        let shortest = |text: &str| {
            let time = |_| {
                let start = std::time::Instant::now();
                // Too many wordpieces, as a rule; that is found after the work is done.
                let _ = tokenizer.tokenize(text);
                start.elapsed()
            };
            (0..20).map(time).min().unwrap_or_default()
        };
        for unit in ["a", "a ", ".", "\u{301}", "日", "\u{200d}", "\u{1f469}", " ", "[SEP]", "##a", "ſ", "İ"]
        {
            let (short, long) = (unit.repeat(1024 / unit.len()), unit.repeat(4096 / unit.len()));
            let (short, long) = (shortest(&short), shortest(&long));
            let ratio = long.as_secs_f64() / short.as_secs_f64();
            println!("FIGURE F31: {unit:?}: 1 KiB in {short:?}, 4 KiB in {long:?}, {ratio:.1} times");
            assert!(ratio <= 8.0, "{unit:?}: {short:?} and {long:?}");
        }
    }
}
