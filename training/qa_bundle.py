"""Questions in a bundle: the vectors that test their answers, and the bundle whose one task is `qa`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenizers import Tokenizer

from bundle import CLEAR_LOGIT, CLEAR_SCORE, Contents
from export import export_token_head
from model import set_quantised
from nudge import STEADY_SCORE, nudged
from text_answers import Answer, AnswerCalibration, answer
from text_input import TokenTypes
from text_model import AnswerModel, TextModel

SELF_TEST_LINES = Path(__file__).with_name("selftest-text.jsonl")


@dataclass(kw_only=True)
class AnswerContents(Contents):
    """What goes into a bundle that answers questions and does nothing else."""

    model: AnswerModel
    calibration: AnswerCalibration
    token_types: TokenTypes

    @property
    def tasks(self) -> list[str]:
        return ["qa"]

    def write_heads(self, folder: Path) -> None:
        export_token_head("qa", self.model.answers, folder / "qa.onnx")

    def labels_json(self) -> str:
        return json.dumps({"token_types": asdict(self.token_types)}, indent=2) + "\n"

    def self_test(self) -> list[dict]:
        return question_vectors(self.model, self.tokenizer, self.calibration, self.token_types)


def self_test_lines(kind: str) -> list[dict]:
    """The self-test's texts or questions."""
    lines = [json.loads(line) for line in SELF_TEST_LINES.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if kind in line]


def question_vectors(
    model: AnswerModel | TextModel, tokenizer: Tokenizer, calibration: AnswerCalibration, types: TokenTypes
) -> list[dict]:
    """What the int8 model answers to the self-test's questions, where it does not hover between two answers."""
    lines = self_test_lines("question")

    def answers() -> list[Answer]:
        weight = calibration.sentence_weight
        return [answer(model, tokenizer, line["question"], line["passages"], types, weight) for line in lines]

    set_quantised(model, True)
    found = nudged(model.encoder, answers)
    set_quantised(model, False)
    return [
        {
            **line,
            "windows": [{"input_ids": window.ids, "segment_ids": window.types} for window in best.windows],
            "answerable": calibration.probability(best.margin) >= 0.5,
            "score": round(calibration.probability(best.margin), 6),
            "passage": best.passage,
            "start": best.start,
            "end": best.end,
        }
        for line, (best, others) in zip(lines, found, strict=True)
        if is_clear_answer(best, others, calibration)
    ]


def is_clear_answer(best: Answer, nudged: list[Answer], calibration: AnswerCalibration) -> bool:
    """Whether answer and score would survive a small change of the logits, and survived those of a nudge."""
    score = calibration.probability(best.margin)
    return (
        abs(score - 0.5) >= CLEAR_SCORE
        and best.runner_up >= CLEAR_LOGIT
        and all(abs(calibration.probability(other.margin) - score) <= STEADY_SCORE for other in nudged)
        and all((a.passage, a.start, a.end) == (best.passage, best.start, best.end) for a in nudged)
    )
