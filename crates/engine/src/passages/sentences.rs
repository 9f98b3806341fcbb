//! The sentences of a passage, and how like the question each is. A head that has learnt from a few hundred questions
//! finds the words in a sentence, but not the sentence: the embedding does (docs/tasks.md has the figures).

use std::ops::Range;

use super::{Asked, BATCH, Passage};
use crate::model::Sequence;
use crate::understand::embedding;
use crate::worker::Worker;

/// A part of a passage, by its wordpieces, and what it adds to the score of words in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sentence {
    pub(super) pieces: Range<usize>,
    pub(super) bonus: f32,
}

/// Ids and token types of a sequence.
type Typed = (Vec<u32>, Vec<u32>);

/// Where in a text, in bytes, its sentences begin, but for the first: behind a full stop, question mark or exclamation mark
/// and white space, if a capital or a quotation mark stands there.
pub(super) fn later_sentences(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    // The letter before the latest white space, and the one before this.
    let (mut before_space, mut before) = (None, None);
    for (at, letter) in text.char_indices() {
        if letter.is_whitespace() {
            before_space = before.take().or(before_space);
            continue;
        }
        let spaced = before.is_none() && matches!(before_space, Some('.' | '?' | '!'));
        if spaced && matches!(letter, 'A'..='Z' | '"' | '\u{201c}') {
            starts.push(at);
        }
        before = Some(letter);
    }
    starts
}

impl Worker {
    /// Gives every sentence `weight` times the cosine of its embedding and the question's; whether it is still wanted.
    pub(super) fn weigh(
        &mut self,
        asked: &mut Asked,
        weight: f32,
        wanted: &impl Fn() -> bool,
    ) -> Result<bool, String> {
        let [begin, end] = self.shared.tokenizer.marks();
        let room = self.shared.manifest.max_tokens - 2;
        let marked = |ids: &[u32], types: &[u32]| -> Typed {
            let pieces = ids.len().min(room);
            ([&[begin], &ids[..pieces], &[end]].concat(), [&[0], &types[..pieces], &[0]].concat())
        };
        let mut texts = vec![marked(&asked.question.ids, &asked.question.types)];
        for Passage { tokens, sentences } in &asked.passages {
            let parts = sentences.iter().map(|sentence| sentence.pieces.clone());
            texts.extend(parts.map(|part| marked(&tokens.ids[part.clone()], &tokens.types[part])));
        }
        let mut embeddings = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            if !wanted() {
                return Ok(false);
            }
            let sequences: Vec<Sequence<'_>> =
                batch.iter().map(|(ids, types)| Sequence { ids, types }).collect();
            let hidden = self.score(&sequences, |_| false)?.hidden.ok_or("no hidden states")?;
            embeddings.extend((0..batch.len()).map(|place| embedding(hidden.of(place), hidden.width())));
        }
        let (question, mut others) = (embeddings[0].as_slice(), embeddings[1..].iter());
        for sentence in asked.passages.iter_mut().flat_map(|passage| &mut passage.sentences) {
            let other = others.next().ok_or("a sentence without an embedding")?;
            sentence.bonus = weight * question.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        let (starts, mut ends) = (later_sentences(text), later_sentences(text));
        ends.push(text.len());
        std::iter::once(0).chain(starts).zip(ends).map(|(start, end)| text[start..end].trim_end()).collect()
    }

    #[test]
    fn a_sentence_ends_where_a_capital_follows() {
        assert_eq!(
            parts("It is on. The lamp, too!  Why? \u{201c}No.\u{201d} said e.g. he."),
            ["It is on.", "The lamp, too!", "Why?", "\u{201c}No.\u{201d} said e.g. he."]
        );
        assert_eq!(parts("No end"), ["No end"]);
        assert_eq!(parts("3.5 litres. \n\t A pump.No space. é"), ["3.5 litres.", "A pump.No space. é"]);
        assert_eq!(parts(" . A"), [" .", "A"]);
        assert_eq!(parts(""), [""]);
    }
}
