use proptest::prelude::*;

use super::*;
use crate::tokenizer::Word;

/// A passage whose words have these many wordpieces, each one letter.
fn passage(words: &[usize]) -> Passage {
    let mut piece = 0;
    let words = words
        .iter()
        .map(|&pieces| {
            let word = Word { first_piece: piece, bytes: piece..piece + pieces };
            piece += pieces;
            word
        })
        .collect();
    let sentences = vec![Sentence { pieces: 0..piece, bonus: 0.0 }];
    Passage { tokens: Tokens { ids: vec![7; piece], types: vec![0; piece], words }, sentences }
}

fn window(pieces: Range<usize>) -> Window {
    // [CLS] question of one piece [SEP] pieces [SEP].
    let tokens = pieces.len() + 4;
    Window { passage: 0, pieces, ids: vec![0; tokens], types: vec![0; tokens] }
}

/// Scores with these ones over zero, by piece of the window: (piece, start, end).
fn scores(window: &Window, peaks: &[(usize, f32, f32)]) -> Vec<f32> {
    let mut scores = vec![0.0; window.ids.len() * 2];
    for &(piece, start, end) in peaks {
        scores[(3 + piece) * 2] = start;
        scores[(3 + piece) * 2 + 1] = end;
    }
    scores
}

#[test]
fn windows_overlap_and_reach_the_end() {
    let all = |pieces, room| parts(pieces, room).collect::<Vec<_>>();
    assert!(all(0, 100).is_empty());
    assert_eq!((all(100, 100).len(), all(100, 100)[0].clone()), (1, 0..100));
    assert_eq!(all(101, 100), [0..100, 68..101]);
    assert_eq!(all(168, 100), [0..100, 68..168]);
    assert_eq!(all(169, 100), [0..100, 68..168, 136..169]);
}

proptest! {
    #[test]
    fn every_run_of_pieces_up_to_the_overlap_stands_whole_in_a_window(pieces in 1_usize..2000, room in 33_usize..125) {
        let parts: Vec<_> = parts(pieces, room).collect();
        prop_assert!(parts[0].start == 0 && parts[parts.len() - 1].end == pieces);
        prop_assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= room));
        for two in parts.windows(2) {
            prop_assert_eq!(two[0].end - two[1].start, OVERLAP);
        }
    }
}

#[test]
fn the_best_words_keep_order_and_length() {
    let words = passage(&[1; 40]);
    let window = window(0..40);
    let best = |peaks: &[(usize, f32, f32)]| {
        let found = window.best_words(&words, &scores(&window, peaks)).unwrap();
        (found.start, found.end, found.score)
    };
    assert_eq!(best(&[(3, 5.0, 0.0), (4, 0.0, 6.0)]), (3, 4, 11.0));
    // An end before the start does not count, nor one twenty words behind it.
    assert_eq!(best(&[(3, 0.0, 6.0), (4, 5.0, 1.0)]), (0, 3, 6.0));
    assert_eq!(best(&[(3, 5.0, 0.0), (22, 0.0, 6.0)]), (3, 22, 11.0));
    assert_eq!(best(&[(3, 5.0, 0.0), (23, 0.0, 6.0)]), (4, 23, 6.0));
}

#[test]
fn words_of_one_sentence_count_with_its_likeness() {
    let mut words = passage(&[1; 40]);
    let sentence = |pieces, bonus| Sentence { pieces, bonus };
    words.sentences =
        vec![sentence(0..10, 1.0), sentence(10..10, 9.0), sentence(10..25, 3.0), sentence(25..40, 0.0)];
    let best = |pieces: Range<usize>, peaks: &[(usize, f32, f32)]| {
        let window = window(pieces);
        let found = window.best_words(&words, &scores(&window, peaks)).unwrap();
        (found.start, found.end, found.score)
    };
    assert_eq!(best(0..40, &[(3, 5.0, 0.0), (12, 0.0, 6.0)]), (10, 12, 9.0));
    assert_eq!(best(0..40, &[(3, 5.0, 3.0), (12, 3.0, 3.0)]), (3, 3, 9.0));
    assert_eq!(best(5..30, &[(6, 2.0, 0.0), (19, 0.0, 1.0), (21, 1.0, 1.0)]), (11, 24, 6.0));
}

#[test]
fn a_wordpiece_belongs_to_the_sentence_of_its_word() {
    let text = "Oh no. Stop it!";
    let word = |first_piece, bytes| Word { first_piece, bytes };
    let words =
        vec![word(0, 0..2), word(1, 3..5), word(3, 5..6), word(4, 7..11), word(5, 12..14), word(6, 14..15)];
    let tokens = Tokens { ids: vec![7; 7], types: vec![0; 7], words };
    let pieces =
        |later: &[usize]| tokens.sentences(later).into_iter().map(|part| part.pieces).collect::<Vec<_>>();
    assert_eq!(pieces(&later_sentences(text)), [0..4, 4..7]);
    assert_eq!(pieces(&[3, 4, 15]), [0..1, 1..3, 3..7, 7..7]);
}

#[test]
fn the_length_is_that_of_words_not_of_wordpieces() {
    let words = passage(&[4; 20]);
    let window = window(0..80);
    let found = window.best_words(&words, &scores(&window, &[(1, 5.0, 0.0), (79, 0.0, 6.0)])).unwrap();
    assert_eq!((found.start, found.end), (1, 79));
    let span = found.span(2, &"é".repeat(80), &{
        // Two bytes a letter.
        let mut words = words.tokens;
        words.words.iter_mut().for_each(|word| word.bytes = word.bytes.start * 2..word.bytes.end * 2);
        words
    });
    assert_eq!((span.passage, span.chars, span.bytes), (2, 0..80, 0..160));
    assert_eq!(window_without_words().best_words(&passage(&[]), &[0.0; 8]), None);
}

fn window_without_words() -> Window {
    window(0..0)
}

#[test]
fn a_later_window_counts_from_the_passage() {
    let words = passage(&[1; 120]);
    let window = window(60..120);
    let found = window.best_words(&words, &scores(&window, &[(10, 3.0, 3.0)])).unwrap();
    assert_eq!((found.start, found.end), (70, 70));
}

#[test]
fn the_threshold_is_where_right_and_wrong_are_alike() {
    let calibration = AnswerCalibration { temperature: 2.0, threshold: 1.5, sentence_weight: 0.0 };
    let at =
        |margin: f32| calibration.probability(Candidate { start: 0, end: 0, score: 3.0 + margin, none: 3.0 });
    assert_eq!(at(1.5), 0.5);
    assert!((at(3.5) - 1.0 / (1.0 + (-1.0_f32).exp())).abs() < 1e-6);
    assert!(at(-1000.0) == 0.0 && at(1000.0) == 1.0);
}
