"""Questions in a bundle: the vectors that test their answers, and the bundle whose one task is `qa`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenizers import Tokenizer

from bundle import CLEAR_LOGIT, CLEAR_SCORE, Contents
from export import export_token_head
from model import set_quantised
from text_answers import AnswerCalibration, answer
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
    vectors = []
    set_quantised(model, True)
    for line in self_test_lines("question"):
        best = answer(model, tokenizer, line["question"], line["passages"], types)
        score = calibration.probability(best.margin)
        if abs(score - 0.5) >= CLEAR_SCORE and best.runner_up >= CLEAR_LOGIT:
            vectors.append(
                {
                    **line,
                    "windows": [{"input_ids": window.ids, "segment_ids": window.types} for window in best.windows],
                    "answerable": score >= 0.5,
                    "score": round(score, 6),
                    "passage": best.passage,
                    "start": best.start,
                    "end": best.end,
                }
            )
    set_quantised(model, False)
    return vectors
