"""The stages of a text bundle, each with its result in the work folder, as in `build.py`.

lines:    the sets as student and teacher read them, and what the plain teacher says of them
started:  the student, fitted to the plain teacher in closed form; its wordpieces are those of a committed bundle
teachers: the plain teacher, fine-tuned on sentiment and entities, once for each seed
targets:  what those teachers say of every line
student:  all tasks at once
"""

import random
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from bundle import write_bundle
from initialise import load_teacher
from labels import Labels
from model import Encoder, set_dropout
from reading import read_bundle
from recipe import Recipe
from text_answers import SENTENCE_WEIGHT, AnswerCalibration, answer_margins, best_sentence_margins
from text_bundle import TextContents
from text_card import render_text_card
from text_data import TextData
from text_evaluate import (
    TextCalibration,
    embedding_figures,
    entities_temperature,
    entity_quality,
    fit_decoding,
    gazetteer_quality,
    halves_f1,
    keyword_accuracy,
    run_texts,
    sentiment_accuracy,
    sentiment_calibration,
)
from text_lines import Lines, asked, labelled_and_plain, text_labels
from text_model import TextModel
from text_start import fit
from text_targets import Targets, embed, plain_targets, tuned_targets
from text_train import TextSchedule, train
from vocabulary import build_tokenizer, encode, teacher_pieces

TEACHERS, TEACHER_DROPOUT = 2, 0.1
TEACHER_SCHEDULE = TextSchedule(epochs=2, rate=1e-4, head_rate=2e-3, shares=(("reviews", 0.5),))
# For as many epochs as the bundle says.
STUDENT_SCHEDULE = TextSchedule(epochs=0, rate=5e-4, head_rate=2e-3, quantised_share=0.1, shares=(("plain", 0.4),))
FITTED_LINES, LONGEST_FITTED = 4000, 64
REPORTED, REPORTED_QUESTIONS = 400, 40
"""How much of valid is measured between epochs."""


class TextStages:
    """What leads to one text bundle."""

    def __init__(self, root: Path, work: Path, teacher: Path, start: Path, recipe: Recipe, seed: int):
        self.work, self.teacher_folder, self.seed = work, teacher, seed
        self.epochs, self.tuned = recipe.epochs, recipe.tuned_teacher
        work.mkdir(parents=True, exist_ok=True)
        self.data = TextData(root, seed)
        self.start = read_bundle(start)
        self.sentiments, self.labels = text_labels(self.data)

    @property
    def reader(self) -> Tokenizer:
        """The student's tokenizer."""
        return self.start.tokenizer

    @cached_property
    def plain_teacher(self) -> Encoder:
        return load_teacher(self.teacher_folder)

    @cached_property
    def teacher_reader(self) -> Tokenizer:
        return build_tokenizer(teacher_pieces(self.teacher_folder))

    @cached_property
    def lines(self) -> tuple[list[Lines], list[Lines], dict[str, Targets]]:
        """The student's sets, the teacher's, and the plain targets."""
        path = self.work / "lines.pt"
        if not path.exists():
            of_student, of_teacher = labelled_and_plain(self.data, [self.reader, self.teacher_reader])
            targets = {}
            for lines in of_teacher:
                targets[lines.kind] = plain_targets(self.plain_teacher, lines)
                print(f"text: the plain teacher read {len(lines):,} lines ({lines.kind})", flush=True)
            torch.save((of_student, of_teacher, targets), path)
        return torch.load(path, weights_only=False)

    @cached_property
    def started(self) -> Encoder:
        """The student before any training."""
        path = self.work / "start.pt"
        shape = self.start.model.encoder.shape
        student = Encoder(shape)
        if not path.exists():
            index_of = {piece: index for index, piece in enumerate(teacher_pieces(self.teacher_folder))}
            kept = torch.tensor([index_of[piece] for piece in self.start.pieces])
            # Rare words are cut into other pieces here than there.
            alike = [
                ours
                for of_student, of_teacher in zip(*self.lines[:2], strict=True)
                for ours, theirs in zip(of_student.encoded, of_teacher.encoded, strict=True)
                if len(ours.ids) <= LONGEST_FITTED and kept[torch.tensor(ours.ids)].tolist() == theirs.ids
            ]
            fit(student, self.plain_teacher, kept, random.Random(self.seed).sample(alike, min(FITTED_LINES, len(alike))))
            torch.save(student.state_dict(), path)
        student.load_state_dict(torch.load(path))
        return student

    @cached_property
    def tuned_teachers(self) -> list[TextModel]:
        _, sets, _ = self.lines
        sets = [lines for lines in sets if lines.kind != "plain"]
        teachers = []
        for seed in range(self.seed, self.seed + TEACHERS):
            path = self.work / f"teacher-{seed}.pt"
            torch.manual_seed(seed)
            model = TextModel(load_teacher(self.teacher_folder), len(self.sentiments), len(self.labels.tags))
            set_dropout(model.encoder, TEACHER_DROPOUT)
            if not path.exists():
                report = self._report_teacher(model)
                train(model, sets, {}, None, TEACHER_SCHEDULE, seed, path.with_suffix(".state"), report)
                torch.save(model.state_dict(), path)
            model.load_state_dict(torch.load(path))
            teachers.append(model.eval().requires_grad_(False))
        return teachers

    def _report_teacher(self, model: TextModel) -> Callable[[str], None]:
        """Prints the teacher's figures on valid."""
        opinions, examples = self.data.sentiment_valid, self.data.entities_valid

        def report(when: str) -> None:
            answers = run_texts(model, self.teacher_reader, [text for text, _ in opinions], quantised=False)
            named = run_texts(model, self.teacher_reader, [e.text for e in examples], quantised=False)
            accuracy = sentiment_accuracy(answers, self.sentiments, opinions)
            f1 = entity_quality(self.labels, named, examples).f1
            print(f"text: teacher after {when}: sentiment {accuracy:.3f}, entities {f1:.3f}", flush=True)

        return report

    @cached_property
    def targets(self) -> dict[str, Targets]:
        """All targets of the student's lines; those of the fine-tuned teachers only if the recipe wants one."""
        if not self.tuned:
            return self.lines[2]
        path = self.work / "targets.pt"
        if not path.exists():
            _, of_teacher, targets = self.lines
            for lines in of_teacher:
                tuned_targets(self.tuned_teachers, lines, targets[lines.kind])
            torch.save(targets, path)
        return torch.load(path, weights_only=False)

    @cached_property
    def student(self) -> TextModel:
        """All tasks on one encoder."""
        path = self.work / "student.pt"
        model = TextModel(self.started, len(self.sentiments), len(self.labels.tags))
        if not path.exists():
            sets, _, _ = self.lines
            train(
                model,
                sets,
                self.targets,
                lambda seed: asked(self.data, self.reader, seed),
                replace(STUDENT_SCHEDULE, epochs=self.epochs),
                self.seed,
                self.work / "student.state",
                self._report_student(model),
            )
            torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path))
        return model.eval()

    def _report_student(self, model: TextModel) -> Callable[[str], None]:
        """Prints int8 figures on a part of valid."""
        opinions, examples = self.data.sentiment_valid[:REPORTED], self.data.entities_valid[:REPORTED]
        texts = [text for text, _ in opinions]
        wanted = embed(self.plain_teacher, encode(self.teacher_reader, texts)).numpy()

        def report(when: str) -> None:
            answers = run_texts(model, self.reader, texts, quantised=True)
            named = run_texts(model, self.reader, [e.text for e in examples], quantised=True)
            accuracy = sentiment_accuracy(answers, self.sentiments, opinions)
            cosine = np.mean([a.embedding @ row for a, row in zip(answers, wanted, strict=True)])
            f1 = entity_quality(self.labels, named, examples).f1
            found = answer_margins(model, self.reader, self.data, True, REPORTED_QUESTIONS).f1.mean()
            print(
                f"text: student after {when}: sentiment {accuracy:.3f}, entities {f1:.3f}, cosine {cosine:.3f}, "
                f"answers {found:.3f}",
                flush=True,
            )

        return report

    def assess(self) -> tuple[dict, Labels, TextCalibration]:
        """All figures on valid, and what is fitted there."""
        model, reader, data = self.student, self.reader, self.data
        valid, examples = data.sentiment_valid, data.entities_valid
        figures: dict = {"baselines": {"keywords": keyword_accuracy(data), "gazetteer": gazetteer_quality(data).f1}}
        for name, quantised in (("f32", False), ("int8", True)):
            opinions = run_texts(model, reader, [text for text, _ in valid], quantised)
            named = run_texts(model, reader, [e.text for e in examples], quantised)
            margins = answer_margins(model, reader, data, quantised)
            if not quantised:
                labels, bias = fit_decoding(data, self.labels, reader, named, examples)
                threshold = round(margins.threshold(), 3)
            spans = entity_quality(labels, named, examples, bias)
            figures[name] = {
                "sentiment_accuracy": round(sentiment_accuracy(opinions, self.sentiments, valid), 4),
                "entities": {key: round(value, 4) for key, value in asdict(spans).items()},
                "entities_plain_f1": round(entity_quality(self.labels, named, examples).f1, 4),
                "qa": margins.figures(threshold),
            }
        temperature, error = sentiment_calibration(opinions, self.sentiments, valid)
        figures["sentiment_calibration_error"] = round(error, 4)
        figures["entities_halves_f1"] = round(halves_f1(data, self.labels, reader, named), 4)
        figures["embedding"] = embedding_figures(model, reader, self.plain_teacher, self.teacher_reader, data)
        sentence = best_sentence_margins(model, reader, data)
        figures["baselines"]["best_sentence"] = sentence.figures(sentence.threshold())
        calibration = TextCalibration(
            temperature,
            entities_temperature(labels, named, examples),
            bias,
            AnswerCalibration(margins.temperature(threshold), threshold, SENTENCE_WEIGHT),
        )
        return figures, labels, calibration

    def bundle(self, recipe: Recipe, folder: Path) -> dict:
        """Measures, calibrates and writes the bundle; returns its figures."""
        figures, labels, calibration = self.assess()
        pieces = self.start.pieces
        card = render_text_card(figures, recipe, len(pieces), self.data)
        contents = TextContents(
            name=recipe.name,
            size=recipe.size,
            model=self.student,
            tokenizer=self.reader,
            sentiments=self.sentiments,
            labels=labels,
            calibration=calibration,
            card=card,
        )
        size = write_bundle(folder, contents, recipe.limit)
        return {**figures, "calibration": calibration.as_json(), "bundle_bytes": size}
