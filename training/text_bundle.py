"""The bundle of the text tasks: its files, and how they are read back."""

import json
import shutil
import tomllib
from dataclasses import dataclass, field
from math import exp
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from bundle import CLEAR_LOGIT, CLEAR_SCORE, write, write_json, write_manifest
from evaluate import probabilities, slots_as_json
from export import export_encoder, export_intent_head, export_token_head
from labels import Labels
from model import set_quantised
from reading import Constants, read_encoder
from text_answers import answer
from text_evaluate import TextCalibration, TextLogits, find_entities, run_texts
from text_input import PASSAGE
from text_model import TextModel
from vocabulary import build_tokenizer, save_tokenizer

SELF_TEST_LINES = Path(__file__).with_name("selftest-text.jsonl")
TASKS = ("sentiment", "entities", "embedding", "qa")


@dataclass
class TextContents:
    """What goes into the bundle."""

    name: str
    size: str
    model: TextModel
    tokenizer: Tokenizer
    sentiments: list[str]
    labels: Labels
    """Of entities: tags and transitions."""
    calibration: TextCalibration
    card: str
    licence: str = "Apache-2.0"
    tasks: list[str] = field(default_factory=lambda: list(TASKS))


def write_text_bundle(folder: Path, contents: TextContents, limit: int) -> int:
    """Writes every file of the bundle, the manifest last; returns the size of all in bytes."""
    model = contents.model
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "heads", ignore_errors=True)
    export_encoder(model.encoder, folder / "encoder.onnx")
    export_intent_head(model.sentiment, folder / "heads/sentiment.onnx", name="sentiment")
    export_token_head("entities", model.entities, folder / "heads/entities.onnx")
    export_token_head("qa", model.answers, folder / "heads/qa.onnx")
    save_tokenizer(contents.tokenizer, folder / "tokenizer.json")
    write(folder / "labels.json", _labels_json(contents))
    write_json(folder / "calibration.json", contents.calibration.as_json())
    vectors = self_test(contents)
    write(folder / "selftest.jsonl", "".join(json.dumps(v, ensure_ascii=False) + "\n" for v in vectors))
    write(folder / "CARD.md", contents.card)
    write_manifest(folder, contents)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > limit:
        raise ValueError(f"the bundle has {size} bytes, more than {limit}: choose a smaller vocabulary")
    return size


def _labels_json(contents: TextContents) -> str:
    """A row of transitions a line."""
    entities = f'"tags": {json.dumps(contents.labels.tags)}'
    if contents.labels.transitions is not None:
        rows = ",\n".join(f"      {json.dumps(row)}" for row in contents.labels.transitions.tolist())
        entities += f',\n    "transitions": [\n{rows}\n    ]'
    types = json.dumps({"cases": True, "passage_offset": PASSAGE})
    return (
        f'{{\n  "sentiment": {json.dumps(contents.sentiments)},\n  "entities": {{\n    {entities}\n  }},\n'
        f'  "token_types": {types}\n}}\n'
    )


def read_text_bundle(folder: Path) -> TextContents:
    """Reads a bundle that `write_text_bundle` wrote, without its card."""
    manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    lists = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    fitted = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    encoder = read_encoder(Constants(folder / "encoder.onnx"), manifest["max_tokens"])
    entities = lists["entities"]
    model = TextModel(encoder, len(lists["sentiment"]), len(entities["tags"]))
    model.sentiment = Constants(folder / "heads/sentiment.onnx").layer("sentiment/classifier")
    model.entities = Constants(folder / "heads/entities.onnx").layer("entities/classifier")
    model.answers = Constants(folder / "heads/qa.onnx").layer("qa/classifier")
    transitions = np.array(entities["transitions"]) if "transitions" in entities else None
    return TextContents(
        manifest["name"],
        manifest["size_class"],
        model.eval(),
        build_tokenizer(sorted(vocabulary, key=vocabulary.get)),
        lists["sentiment"],
        Labels([], entities["tags"], transitions),
        TextCalibration(
            fitted["sentiment"]["temperature"],
            fitted["entities"]["temperature"],
            fitted["entities"]["outside_bias"],
            fitted["qa"]["temperature"],
            fitted["qa"]["threshold"],
        ),
        card="",
    )


def self_test(contents: TextContents) -> list[dict]:
    """What the int8 model answers to the self-test texts and questions, where it does not hover between two answers."""
    asked = [json.loads(line) for line in SELF_TEST_LINES.read_text(encoding="utf-8").splitlines()]
    texts = [one["text"] for one in asked if "text" in one]
    answers = run_texts(contents.model, contents.tokenizer, texts, quantised=True)
    vectors = [_text_vector(contents, text, a) for text, a in zip(texts, answers, strict=True)]
    set_quantised(contents.model, True)
    vectors += [_question_vector(contents, one["question"], one["passages"]) for one in asked if "question" in one]
    set_quantised(contents.model, False)
    return [vector for vector in vectors if vector is not None]


def _text_vector(contents: TextContents, text: str, a: TextLogits) -> dict | None:
    scores = probabilities(a.sentiment, contents.calibration.sentiment_temperature)
    tags = a.tags[a.encoded.first_piece]
    tags[:, 0] += contents.calibration.outside_bias
    order = np.sort(tags, axis=1)
    if np.sort(scores)[-1] - np.sort(scores)[-2] < 2 * CLEAR_SCORE or (order[:, -1] - order[:, -2] < CLEAR_LOGIT).any():
        return None
    return {
        "text": text,
        "input_ids": a.encoded.ids,
        "segment_ids": a.encoded.types,
        "sentiment": contents.sentiments[int(scores.argmax())],
        "sentiment_scores": [round(float(score), 6) for score in scores],
        "entities": slots_as_json(find_entities(contents.labels, a, contents.calibration.outside_bias)),
        "embedding": [round(float(value), 5) for value in a.embedding],
    }


def _question_vector(contents: TextContents, question: str, passages: list[str]) -> dict | None:
    fitted = contents.calibration
    best = answer(contents.model, contents.tokenizer, question, passages)
    score = 1 / (1 + exp(-(best.margin - fitted.qa_threshold) / fitted.qa_temperature))
    if abs(score - 0.5) < CLEAR_SCORE or best.runner_up < CLEAR_LOGIT:
        return None
    return {
        "question": question,
        "passages": passages,
        "windows": [{"input_ids": window.ids, "segment_ids": window.types} for window in best.windows],
        "answerable": score >= 0.5,
        "score": round(score, 6),
        "passage": best.passage,
        "start": best.start,
        "end": best.end,
    }
