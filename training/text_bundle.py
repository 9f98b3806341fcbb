"""The bundle of the text tasks: its labels, heads and self-test, and how it is read back."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bundle import CLEAR_LOGIT, CLEAR_SCORE, Contents, transitions_json
from data import Slot
from evaluate import probabilities, slots_as_json
from export import export_intent_head, export_token_head
from labels import Labels
from nudge import STEADY_SCORE, nudged
from qa_bundle import question_vectors, self_test_lines
from reading import read_labels, read_stored
from text_answers import AnswerCalibration
from text_evaluate import TextCalibration, TextLogits, find_entities, run_texts
from text_input import CASES
from text_model import TextModel


@dataclass(kw_only=True)
class TextContents(Contents):
    """What goes into the bundle."""

    model: TextModel
    sentiments: list[str]
    labels: Labels
    """Of entities: tags and transitions."""
    calibration: TextCalibration

    @property
    def tasks(self) -> list[str]:
        return ["sentiment", "entities", "embedding", "qa"]

    def write_heads(self, folder: Path) -> None:
        export_intent_head(self.model.sentiment, folder / "sentiment.onnx", name="sentiment")
        export_token_head("entities", self.model.entities, folder / "entities.onnx")
        export_token_head("qa", self.model.answers, folder / "qa.onnx")

    def labels_json(self) -> str:
        entities = f'    "tags": {json.dumps(self.labels.tags)}'
        if self.labels.transitions is not None:
            entities += f",\n{transitions_json(self.labels.transitions, '    ')}"
        return (
            f'{{\n  "sentiment": {json.dumps(self.sentiments)},\n  "entities": {{\n{entities}\n  }},\n'
            f'  "token_types": {json.dumps(asdict(CASES))}\n}}\n'
        )

    def self_test(self) -> list[dict]:
        texts = [line["text"] for line in self_test_lines("text")]
        answers = nudged(self.model.encoder, lambda: run_texts(self.model, self.tokenizer, texts, quantised=True))
        vectors = [self._text_vector(text, *answer) for text, answer in zip(texts, answers, strict=True)]
        vectors += question_vectors(self.model, self.tokenizer, self.calibration.qa, CASES)
        return [vector for vector in vectors if vector is not None]

    def _text_vector(self, text: str, a: TextLogits, others: list[TextLogits]) -> dict | None:
        """None where the model hovers between two answers."""
        scores, *nudges = (probabilities(b.sentiment, self.calibration.sentiment_temperature) for b in (a, *others))
        tags, *other_tags = (self._tags(b) for b in (a, *others))
        order, (*_, second, best) = np.sort(tags, axis=1), np.sort(scores)
        if best - second < 2 * CLEAR_SCORE or (order[:, -1] - order[:, -2] < CLEAR_LOGIT).any():
            return None
        if any(np.abs(nudge - scores).max() > STEADY_SCORE for nudge in nudges):
            return None
        if any((other.argmax(1) != tags.argmax(1)).any() for other in other_tags):
            return None
        entities = steady_entities(self.labels, self.calibration.outside_bias, a, others)
        if entities is None:
            return None
        return {
            "text": text,
            "input_ids": a.encoded.ids,
            "segment_ids": a.encoded.types,
            "sentiment": self.sentiments[int(scores.argmax())],
            "sentiment_scores": [round(float(score), 6) for score in scores],
            "entities": slots_as_json(entities),
            "embedding": [round(float(value), 5) for value in a.embedding],
        }

    def _tags(self, a: TextLogits) -> np.ndarray:
        tags = a.tags[a.encoded.first_piece]
        tags[:, 0] += self.calibration.outside_bias
        return tags


def steady_entities(labels: Labels, bias: float, a: TextLogits, others: list[TextLogits]) -> list[Slot] | None:
    """The entities; None where they hover: transitions bring readings together that no word's own scores do."""
    entities = find_entities(labels, a, bias)
    again = [find_entities(labels, a, bias - CLEAR_LOGIT), find_entities(labels, a, bias + CLEAR_LOGIT)]
    again += [find_entities(labels, b, bias) for b in others]
    return entities if all(found == entities for found in again) else None


def read_text_bundle(folder: Path) -> TextContents:
    """Reads a bundle of the text tasks, without its card."""
    stored = read_stored(folder)
    sentiments, entities, fitted = stored.labels["sentiment"], stored.labels["entities"], stored.calibration
    model = TextModel(stored.encoder, len(sentiments), len(entities["tags"]))
    model.sentiment = stored.head("sentiment").layer("sentiment/classifier")
    model.entities = stored.head("entities").layer("entities/classifier")
    model.answers = stored.head("qa").layer("qa/classifier")
    return TextContents(
        name=stored.manifest["name"],
        size=stored.manifest["size_class"],
        model=model.eval(),
        tokenizer=stored.tokenizer,
        sentiments=sentiments,
        labels=read_labels([], entities),
        calibration=TextCalibration(
            fitted["sentiment"]["temperature"],
            fitted["entities"]["temperature"],
            fitted["entities"]["outside_bias"],
            AnswerCalibration(**fitted["qa"]),
        ),
        card="",
    )
