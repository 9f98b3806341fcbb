"""WordPiece: the teacher's tokenizer, and the smaller one of the student.

The embedding table is the largest part of a small encoder, so the student keeps only the pieces that English home and
assistant speech needs. Every single character stays, so no word becomes unknown that was not unknown before.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

UNKNOWN, START, END = "[UNK]", "[CLS]", "[SEP]"
SPECIAL = ("[PAD]", UNKNOWN, START, END)


@dataclass
class Encoded:
    """An utterance as the model sees it. [CLS] and [SEP] count as words of their own at both ends."""

    ids: list[int]
    word_of_piece: list[int]
    first_piece: list[int]
    """The index of the first piece of each word, [CLS] and [SEP] left out."""
    spans: list[tuple[int, int]]
    """The code points of each word, [CLS] and [SEP] left out."""


def build_tokenizer(pieces: list[str], lowercase: bool = True) -> Tokenizer:
    """A BERT tokenizer over `pieces`, uncased by default; the id of a piece is its index.

    No added tokens: an utterance that spells out "[SEP]" is text, not an instruction to the model.
    """
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])],
    )
    return tokenizer


def teacher_pieces(model_folder: Path) -> list[str]:
    """The teacher's vocabulary in the order of its ids."""
    return (model_folder / "vocab.txt").read_text(encoding="utf-8").splitlines()


def prune(pieces: list[str], texts: list[str], size: int) -> list[str]:
    """Chooses `size` of the teacher's pieces, in their old order.

    Kept in this order until full: special tokens and every single character, pieces by how often `texts` use them (at
    least three times), then the remaining whole words and pieces from the front: BERT's vocabulary is sorted by
    frequency in books and Wikipedia, so it is its own list of general words.
    """
    tokenizer = build_tokenizer(pieces)
    tokenizer.post_processor = None
    counts: Counter[int] = Counter()
    for encoding in tokenizer.encode_batch_fast(texts):
        counts.update(encoding.ids)

    index_of = {piece: index for index, piece in enumerate(pieces)}
    kept = {index_of[piece] for piece in SPECIAL}
    kept |= {i for i, piece in enumerate(pieces) if len(piece.removeprefix("##")) == 1}
    frequent = [i for i, count in counts.most_common() if count >= 3]
    general = [i for i, piece in enumerate(pieces) if not piece.startswith("[")]
    for index in frequent + general:
        if len(kept) >= size:
            break
        kept.add(index)
    return [pieces[i] for i in sorted(kept)]


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[Encoded]:
    """Tokenizes `texts`; words are those of BertPreTokenizer (white space and punctuation)."""
    return [with_words(encoding) for encoding in tokenizer.encode_batch(texts)]


def with_words(encoding) -> Encoded:
    """One tokenized text with its words."""
    words = encoding.word_ids[1:-1]
    first_piece = [i + 1 for i, word in enumerate(words) if i == 0 or word != words[i - 1]]
    bounds = [*first_piece, len(words) + 1]
    spans = [
        (encoding.offsets[first][0], encoding.offsets[after - 1][1])
        for first, after in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    word_count = len(first_piece)
    renumbered = {word: i + 1 for i, word in enumerate(dict.fromkeys(words))}
    word_of_piece = [0, *(renumbered[word] for word in words), word_count + 1]
    return Encoded(encoding.ids, word_of_piece, first_piece, spans)


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Writes tokenizer.json without white space: it is a tenth of a megabyte smaller."""
    content = json.loads(tokenizer.to_str())
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
