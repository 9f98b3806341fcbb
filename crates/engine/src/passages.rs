//! Extractive question answering: the words of a passage that answer a question, or that none do. Each passage is read
//! in windows behind the question,
//!
//! ```text
//! [CLS] question [SEP] window [SEP]
//! ```
//!
//! as long as the encoder takes, and neighbouring windows overlap. The head scores every token as the first and as the
//! last of the answer; both together at `[CLS]` speak for "no answer here". Where the bundle gives sentences a weight, an
//! answer stands in one of them, which counts by its likeness to the question (`sentences`). The best span of all windows
//! answers if it beats its own window's "no answer" by the bundle's threshold.

mod sentences;

use std::ops::Range;
use std::time::{Duration, Instant};

use intentd_core::{Answer, AnswerSpan, Effort, Invalid, InvalidKind, ParseError, Question, Task};

use self::sentences::{Sentence, later_sentences};
use crate::bundle::AnswerCalibration;
use crate::model::Sequence;
use crate::tokenizer::{CodePoints, Tokens};
use crate::worker::{Shared, Worker};

/// Wordpieces of a question that are read; the rest is left out, so that the passage has room.
const QUESTION_PIECES: usize = 48;

/// Wordpieces that neighbouring windows share: more than most answers have, so that each stands whole in one window.
const OVERLAP: usize = 32;

/// Longest answer in words.
const ANSWER_WORDS: usize = 20;

/// The marks of a window.
const MARKS: usize = 3;

/// The smallest `max_tokens` with which every window gets ahead of the one before.
pub(crate) const LEAST_TOKENS: usize = QUESTION_PIECES + OVERLAP + MARKS + 1;

/// Most windows of one question. Passages of prose at their limit have two thirds of them.
const MAX_WINDOWS: usize = 128;

/// Windows that go through the encoder together.
const BATCH: usize = 8;

/// A question as the encoder reads it.
pub(crate) struct Asked {
    question: Tokens,
    passages: Vec<Passage>,
    windows: Vec<Window>,
    tokenize: Duration,
}

/// A passage in wordpieces, and its sentences; a single one where they do not count.
struct Passage {
    tokens: Tokens,
    sentences: Vec<Sentence>,
}

/// Part of a passage behind the question.
pub(crate) struct Window {
    passage: usize,
    /// Which of the passage's wordpieces.
    pieces: Range<usize>,
    pub(crate) ids: Vec<u32>,
    pub(crate) types: Vec<u32>,
}

/// The best words of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    /// First and last wordpiece, among those of the passage.
    start: usize,
    end: usize,
    /// Of start, end and sentence together.
    score: f32,
    /// What the window has for "no answer".
    none: f32,
}

impl Worker {
    /// Looks for the answer to a question.
    ///
    /// # Errors
    /// What is wrong with the question; that the bundle has no task `qa`; a fault of ours.
    pub fn answer(&mut self, question: &Question) -> Result<Answer, ParseError> {
        self.answer_while(question, || true)
    }

    /// The same as long as it is still wanted, which is asked before every few windows.
    ///
    /// # Errors
    /// Those of [`Worker::answer`]; DEADLINE_EXCEEDED when it is no longer wanted.
    pub fn answer_while(
        &mut self,
        question: &Question,
        wanted: impl Fn() -> bool,
    ) -> Result<Answer, ParseError> {
        let mut asked = self.shared.ask(question)?;
        let found = self.guarded(|worker| worker.find(question, &mut asked, wanted));
        found.map_err(ParseError::Internal)?.ok_or(ParseError::DeadlineExceeded)
    }

    fn find(
        &mut self,
        question: &Question,
        asked: &mut Asked,
        wanted: impl Fn() -> bool,
    ) -> Result<Option<Answer>, String> {
        let started = Instant::now();
        let calibration = self.shared.calibration.qa.ok_or("the bundle has no calibration for answers")?;
        if calibration.sentence_weight > 0.0 && !self.weigh(asked, calibration.sentence_weight, &wanted)? {
            return Ok(None);
        }
        let mut best: Option<(usize, Candidate)> = None;
        for batch in asked.windows.chunks(BATCH) {
            if !wanted() {
                return Ok(None);
            }
            let sequences: Vec<Sequence<'_>> =
                batch.iter().map(|window| Sequence { ids: &window.ids, types: &window.types }).collect();
            let scores = self.score(&sequences, |task| task == Task::Answers)?;
            let rows = scores.heads.get(&Task::Answers).ok_or("the bundle has no head for answers")?;
            for (place, window) in batch.iter().enumerate() {
                let found = window.best_words(&asked.passages[window.passage], rows.of(place));
                // The first of equal ones.
                let better = |found: &Candidate| best.is_none_or(|(_, best)| found.score > best.score);
                best = found.filter(better).map(|found| (window.passage, found)).or(best);
            }
        }
        let score = best.map_or(0.0, |(_, best)| calibration.probability(best));
        let span = best.filter(|_| score >= 0.5).map(|(passage, best)| {
            let text = &question.passages[passage];
            best.span(passage, text, &asked.passages[passage].tokens)
        });
        let tokens = asked.windows.iter().map(|window| window.ids.len()).sum::<usize>() as u32;
        let effort = Effort { tokens, tokenize: asked.tokenize, inference: started.elapsed() };
        Ok(Some(Answer { span, score, effort }))
    }
}

impl Shared {
    /// Checks, tokenises and cuts into windows.
    pub(crate) fn ask(&self, question: &Question) -> Result<Asked, ParseError> {
        question.validate()?;
        self.require(Task::Answers)?;
        let started = Instant::now();
        let asked = self.tokenizer.pieces(&question.question)?;
        let in_sentences = self.calibration.qa.is_some_and(|qa| qa.sentence_weight > 0.0);
        let passages = question.passages.iter().map(|text| {
            let tokens = self.tokenizer.pieces(text)?;
            let later = if in_sentences { later_sentences(text) } else { Vec::new() };
            let sentences = tokens.sentences(&later);
            Ok(Passage { tokens, sentences })
        });
        let passages = passages.collect::<Result<Vec<_>, ParseError>>()?;
        let windows = self.windows(&asked, &passages)?;
        Ok(Asked { question: asked, passages, windows, tokenize: started.elapsed() })
    }

    fn windows(&self, asked: &Tokens, passages: &[Passage]) -> Result<Vec<Window>, Invalid> {
        let [begin, end] = self.tokenizer.marks();
        let offset = self.labels.token_types.passage_offset;
        let asked_pieces = asked.ids.len().min(QUESTION_PIECES);
        let room = self.manifest.max_tokens - MARKS - asked_pieces;
        let parts = passages
            .iter()
            .enumerate()
            .flat_map(|(at, passage)| parts(passage.tokens.ids.len(), room).map(move |pieces| (at, pieces)));
        let needed = parts.clone().count();
        if needed > MAX_WINDOWS {
            let message = format!(
                "are read in {needed} parts of {room} wordpieces; the limit is {MAX_WINDOWS} parts; send shorter ones"
            );
            return Err(Invalid { field: "passages", kind: InvalidKind::TooLong, message });
        }
        let windows = parts.map(|(passage, pieces)| {
            let tokens = &passages[passage].tokens;
            let (ids, types) = (&tokens.ids[pieces.clone()], &tokens.types[pieces.clone()]);
            let ids = [&[begin][..], &asked.ids[..asked_pieces], &[end], ids, &[end]].concat();
            let types: Vec<u32> = types.iter().map(|kind| kind + offset).collect();
            let types = [&[0][..], &asked.types[..asked_pieces], &[0], types.as_slice(), &[offset]].concat();
            Window { passage, pieces, ids, types }
        });
        Ok(windows.collect())
    }
}

impl Tokens {
    /// The sentences by their wordpieces, which together are all there are, from where those but the first begin: a wordpiece
    /// belongs to the sentence in which its word begins.
    fn sentences(&self, later: &[usize]) -> Vec<Sentence> {
        let first_piece = |&byte: &usize| {
            let word = self.words.partition_point(|word| word.bytes.start < byte);
            self.words.get(word).map_or(self.ids.len(), |word| word.first_piece)
        };
        let (starts, ends) = (later.iter().map(first_piece), later.iter().map(first_piece));
        let pieces = std::iter::once(0).chain(starts).zip(ends.chain([self.ids.len()]));
        pieces.map(|(start, end)| Sentence { pieces: start..end, bonus: 0.0 }).collect()
    }
}

impl Asked {
    pub(crate) fn windows(&self) -> &[Window] {
        &self.windows
    }
}

/// Parts of so many wordpieces, each but the first beginning [`OVERLAP`] before the end of the one before.
fn parts(pieces: usize, room: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let step = room - OVERLAP;
    let count = if pieces == 0 { 0 } else { 1 + pieces.saturating_sub(room).div_ceil(step) };
    (0..count).map(move |part| part * step..(part * step + room).min(pieces))
}

impl Window {
    /// From the head's `[tokens, 2]`; none where the window has no words.
    fn best_words(&self, Passage { tokens, sentences }: &Passage, scores: &[f32]) -> Option<Candidate> {
        // One more mark stands behind the window.
        let first = self.ids.len() - 1 - self.pieces.len();
        let word = |piece: usize| tokens.word_of(self.pieces.start + piece);
        let words: Vec<usize> = (0..self.pieces.len()).map(word).collect();
        let [start_of, end_of] =
            [0, 1].map(|channel| move |piece: usize| scores[(first + piece) * 2 + channel]);
        let mut best: Option<Candidate> = None;
        for start in 0..words.len() {
            let piece = self.pieces.start + start;
            let sentence = &sentences[sentences.partition_point(|sentence| sentence.pieces.end <= piece)];
            let end = words.len().min(sentence.pieces.end - self.pieces.start);
            let near = (start..end).take_while(|&end| words[end] < words[start] + ANSWER_WORDS);
            for end in near {
                let score = start_of(start) + end_of(end) + sentence.bonus;
                if best.is_none_or(|best| score > best.score) {
                    let (start, end) = (self.pieces.start + start, self.pieces.start + end);
                    best = Some(Candidate { start, end, score, none: scores[0] + scores[1] });
                }
            }
        }
        best
    }
}

impl Candidate {
    /// Whole words, though the scores may point into them.
    fn span(&self, passage: usize, text: &str, tokens: &Tokens) -> AnswerSpan {
        let (first, last) =
            (&tokens.words[tokens.word_of(self.start)], &tokens.words[tokens.word_of(self.end)]);
        let (start, end) = (first.bytes.start, last.bytes.end);
        let mut code_points = CodePoints::new(text);
        AnswerSpan {
            passage,
            text: text.get(start..end).unwrap_or_default().to_owned(),
            chars: code_points.before(start)..code_points.before(end),
            bytes: start as u32..end as u32,
        }
    }
}

impl AnswerCalibration {
    /// That these words answer the question.
    fn probability(self, best: Candidate) -> f32 {
        let margin = best.score - best.none;
        1.0 / (1.0 + (-(margin - self.threshold) / self.temperature).exp())
    }
}

#[cfg(test)]
mod tests;
