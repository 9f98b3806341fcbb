"""What an encoder of texts reads: wordpieces, and a token type for each.

The wordpieces are lower-cased, so the type says how the word was written, which names in running text depend on:

    0 lower case or none   1 Capitalised   2 ALL UPPER, two letters or more   3 mIxed

In question answering the tokens of the passage, and the [SEP] that ends it, have 4 added. A passage that does not fit is
read in windows that overlap: `[CLS] question [SEP] window [SEP]`. An encoder of others may have other token types.
"""

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from vocabulary import END, START, Encoded, with_words

LOWER, CAPITALISED, UPPER, MIXED = range(4)
TOKEN_TYPES = 8
MAX_TOKENS = 128
QUESTION_PIECES = 48
OVERLAP = 32
MARKS = 3
LEAST_TOKENS = QUESTION_PIECES + OVERLAP + MARKS + 1
"""An encoder that reads fewer gets no further in a passage behind a long question."""


@dataclass(frozen=True)
class TokenTypes:
    """What an encoder is told of each token beside its wordpiece, as labels.json has it."""

    cases: bool
    """How its word is written."""
    passage_offset: int
    """Added where it belongs to a passage."""


CASES = TokenTypes(cases=True, passage_offset=4)


@dataclass
class Typed(Encoded):
    """A text with its token types."""

    types: list[int]


@dataclass
class Window:
    """A question and a part of a passage, as one sequence."""

    ids: list[int]
    types: list[int]
    first: int
    """The index of the first token of the passage; the last but one is its last."""
    words: list[int]
    """The word of each of the passage's tokens, counted from the start of the passage."""
    spans: list[tuple[int, int]]
    """The code points of each of the passage's tokens, in the passage."""
    word_spans: list[tuple[int, int]]
    """The code points of every word of the passage."""


def letter_case(word: str) -> int:
    """How a word is written; what is neither upper nor lower case does not count."""
    upper = [c.isupper() for c in word if c.isupper() or c.islower()]
    if not any(upper):
        return LOWER
    if all(upper) and len(upper) > 1:
        return UPPER
    return CAPITALISED if upper[0] and not any(upper[1:]) else MIXED


def encode_texts(tokenizer: Tokenizer, texts: list[str]) -> list[Typed]:
    """Texts of their own, as `vocabulary.encode` reads them, with the types of their words."""
    return [_typed(text, with_words(e), CASES) for text, e in zip(texts, tokenizer.encode_batch(texts), strict=True)]


def _typed(text: str, e: Encoded, types: TokenTypes) -> Typed:
    cases = [LOWER, *(letter_case(text[start:end]) if types.cases else LOWER for start, end in e.spans), LOWER]
    return Typed(e.ids, e.word_of_piece, e.first_piece, e.spans, [cases[word] for word in e.word_of_piece])


def windows(
    tokenizer: Tokenizer, question: str, passage: str, token_types: TokenTypes = CASES, longest: int = MAX_TOKENS
) -> list[Window]:
    """All windows of one passage, of `longest` tokens at most; none where it has no word."""
    encoding = tokenizer.encode(passage)
    read = _typed(passage, with_words(encoding), token_types)
    asked = _typed(question, with_words(tokenizer.encode(question)), token_types)
    ids, types, words = (values[1:-1] for values in (read.ids, read.types, read.word_of_piece))
    end, offset = tokenizer.token_to_id(END), token_types.passage_offset
    head = [tokenizer.token_to_id(START), *asked.ids[1:-1][:QUESTION_PIECES], end]
    head_types = [LOWER, *asked.types[1:-1][:QUESTION_PIECES], LOWER]
    room, made = longest - len(head) - 1, []
    for at in range(0, max(len(ids) - OVERLAP, 1), room - OVERLAP):
        part = slice(at, at + room)
        made.append(
            Window(
                ids=[*head, *ids[part], end],
                types=[*head_types, *(kind + offset for kind in types[part]), offset],
                first=len(head),
                words=[word - 1 for word in words[part]],
                spans=encoding.offsets[1:-1][part],
                word_spans=read.spans,
            )
        )
    return made if ids else []


def pad_types(lines: list[Typed] | list[Window]) -> Tensor:
    """The token types of some lines, as `batches.pad` lays out their ids."""
    types = torch.zeros(len(lines), max(len(line.ids) for line in lines), dtype=torch.long)
    for row, line in enumerate(lines):
        types[row, : len(line.types)] = torch.tensor(line.types)
    return types
