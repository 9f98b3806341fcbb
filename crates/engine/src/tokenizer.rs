//! Text to wordpieces, where each word stands in the text, and what the encoder is told of it beside.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use intentd_core::{Invalid, InvalidKind, ParseError};

use crate::bundle::TokenTypes;
use crate::model::panic_message;

/// The bundle's tokenizer with the encoder's limit of length.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
    types: TokenTypes,
    /// The wordpieces that mark begin and end.
    marks: [u32; 2],
}

/// A text as the encoder reads it.
#[derive(Debug, PartialEq)]
pub struct Tokens {
    /// Wordpieces.
    pub ids: Vec<u32>,
    /// One for each wordpiece: the class of its word's letter case, where the bundle wants it, else 0.
    pub types: Vec<u32>,
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
    pub fn read(json: &[u8], max_tokens: usize, types: TokenTypes) -> Result<Self, String> {
        let build = || tokenizers::Tokenizer::from_bytes(json).map_err(|e| e.to_string());
        let mut inner =
            catch_unwind(AssertUnwindSafe(build)).unwrap_or_else(|panic| Err(panic_message(&*panic)))?;
        // Cutting a long text silently would change its meaning; padding would change the answer.
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        inner.with_padding(None);
        // An utterance that spells out "[SEP]" is text, not an instruction to the model.
        inner.set_encode_special_tokens(true);
        let mut tokenizer = Self { inner, max_tokens, types, marks: [0; 2] };
        let marks = tokenizer.encode("", true).map_err(|e| e.to_string())?.ids;
        tokenizer.marks = marks.as_slice().try_into().map_err(|_| {
            format!("adds {} marks to a text; the encoder was trained with one at each end", marks.len())
        })?;
        Ok(tokenizer)
    }

    /// Splits a text and puts the marks of begin and end around it. Linear in its length.
    ///
    /// # Errors
    /// When it has more wordpieces than the encoder takes, or the library fails on it.
    pub fn tokenize(&self, text: &str) -> Result<Tokens, ParseError> {
        let tokens = self.encode(text, true)?;
        if tokens.ids.len() > self.max_tokens {
            return Err(too_long(tokens.ids.len(), self.max_tokens).into());
        }
        Ok(tokens)
    }

    /// Splits a text of any length, without marks.
    pub(crate) fn pieces(&self, text: &str) -> Result<Tokens, ParseError> {
        self.encode(text, false)
    }

    /// The wordpieces that mark begin and end.
    pub(crate) fn marks(&self) -> [u32; 2] {
        self.marks
    }

    fn encode(&self, text: &str, marked: bool) -> Result<Tokens, ParseError> {
        // The library has panicked on odd texts before; such a text costs an error, not the daemon.
        let encoded = catch_unwind(AssertUnwindSafe(|| self.inner.encode(text, marked)));
        let encoding = match encoded {
            Ok(Ok(encoding)) => encoding,
            Ok(Err(error)) => return Err(ParseError::Internal(format!("tokenizer: {error}"))),
            Err(panic) => return Err(ParseError::Internal(format!("tokenizer: {}", panic_message(&*panic)))),
        };
        let ids = encoding.get_ids().to_vec();
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
        let mut types = vec![0; ids.len()];
        if self.types.cases {
            let pieces = ids.len() - usize::from(marked);
            let ends = words.iter().skip(1).map(|word| word.first_piece).chain([pieces]);
            for (word, end) in words.iter().zip(ends) {
                types[word.first_piece..end].fill(case_class(&text[word.bytes.clone()]));
            }
        }
        Ok(Tokens { ids, types, words })
    }
}

impl Tokens {
    /// The word that a wordpiece belongs to, an index into `words`. A wordpiece stands in one, marks do not.
    pub(crate) fn word_of(&self, piece: usize) -> usize {
        self.words.partition_point(|word| word.first_piece <= piece).saturating_sub(1)
    }
}

/// How a word is written, since the wordpieces tell no letter case: 0 without capitals, 1 with the first letter alone
/// as a capital, 2 in capitals alone, two at least, 3 otherwise.
fn case_class(word: &str) -> u32 {
    let (mut capitals, mut letters, mut first_is_capital) = (0, 0, false);
    for letter in word.chars().filter(|letter| letter.is_uppercase() || letter.is_lowercase()) {
        first_is_capital |= letters == 0 && letter.is_uppercase();
        capitals += usize::from(letter.is_uppercase());
        letters += 1;
    }
    match (capitals, first_is_capital) {
        (0, _) => 0,
        (1, true) => 1,
        _ if capitals == letters => 2,
        _ => 3,
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
    fn the_case_of_a_word_has_a_class() {
        let classes =
            ["lights", "Paris", "NASA", "iPhone", "I", "42", "日本", "Été", "ÉTÉ", "McDonald", "U2", "3D"];
        assert_eq!(classes.map(case_class), [0, 1, 2, 3, 1, 0, 0, 1, 2, 3, 1, 1]);
    }

    #[test]
    fn wordpieces_take_the_class_of_their_word() {
        let types = TokenTypes { cases: true, passage_offset: 4 };
        let tokenizer = tiny(types);
        let text = "Tell NASA about Zzyzxville, iPhone";
        let (marked, bare) = (tokenizer.tokenize(text).unwrap(), tokenizer.pieces(text).unwrap());
        assert_eq!(marked.ids[1..marked.ids.len() - 1], bare.ids);
        assert_eq!(marked.types[1..marked.types.len() - 1], bare.types);
        assert_eq!((marked.types[0], marked.types[marked.types.len() - 1]), (0, 0));
        assert_eq!([marked.ids[0], marked.ids[marked.ids.len() - 1]], tokenizer.marks());
        for (piece, kind) in bare.types.iter().enumerate() {
            let word = &text[bare.words[bare.word_of(piece)].bytes.clone()];
            assert_eq!(*kind, case_class(word), "{word}");
        }
        assert!(bare.ids.len() > bare.words.len(), "no word of several wordpieces");
        assert!(tiny(TokenTypes::default()).tokenize(text).unwrap().types.iter().all(|kind| *kind == 0));
    }

    fn tiny(types: TokenTypes) -> Tokenizer {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/home-en-tiny/tokenizer.json");
        Tokenizer::read(&std::fs::read(file).unwrap(), 128, types).unwrap()
    }

    #[test]
    fn nonsense_is_an_error() {
        for json in ["", "{}", "[1, 2]", "{\"version\":\"1.0\",\"model\":{\"type\":\"Abacus\"}}"] {
            assert!(Tokenizer::read(json.as_bytes(), 128, TokenTypes::default()).is_err(), "{json}");
        }
    }

    /// Whatever a text is made of: four times the bytes, up to the longest that is let in, take about four times as long.
    /// The shortest of several runs, since the machine may have other work.
    #[test]
    fn the_time_grows_with_the_length_alone() {
        let tokenizer = tiny(TokenTypes { cases: true, passage_offset: 0 });
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
