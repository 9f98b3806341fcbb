"""Fine-tuning of an encoder and the heads of one or more tasks, with or without a teacher.

Each epoch sees every labelled line once, SWAPPED_SHARE of the lines that have slots with other slot values, and plain
lines where a teacher can label them. A batch holds lines of one task. Its loss is the cross entropy of the intent plus
SLOT_WEIGHT times that of the tags of first pieces; out-of-scope lines teach the intent head only. A teacher adds the
cross entropy to its softened answers (Hinton, Vinyals, Dean 2015) and the mean squared error to its hidden states; on
plain lines these are the whole loss. The last epochs may run with the int8 arithmetic (quantisation-aware training,
Jacob et al. 2018). The result is an exponential moving average of the weights.
"""

import math
import random
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from batches import Batch, batches, pad
from data import OUT_OF_SCOPE, Example, SlotValues, normalise, swap_slot_values
from distil import Match, Words, adamw
from evaluate import measure, run
from labels import NO_TAG, tag_pieces
from model import Encoder, Understander, set_dropout, set_quantised
from tasks import Task
from vocabulary import Encoded, encode

TOKENS_PER_BATCH = 640
SLOT_WEIGHT = 2.5
SWAPPED_SHARE = 0.3
HEAD_DROPOUT = 0.1
AVERAGE_DECAY = 0.995
SOFT_TEMPERATURE = 2.0
SOFT_SHARE = 0.5
"""How much of the loss of a labelled line comes from the teacher's answers instead of the label."""
LONGEST_PLAIN_LINE = 40


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. `plain_lines` is how many unlabelled lines an epoch adds."""

    epochs: int
    rate: float
    head_rate: float
    quantised_epochs: int = 0
    dropout: float = 0.0
    plain_lines: int = 0
    hidden_weight: float = 0.0
    train_words: bool = True


@dataclass
class Teacher:
    """A fine-tuned dense model of the same tasks, with its own wordpieces."""

    models: dict[str, Understander]
    tokenizer: Tokenizer

    @property
    def encoder(self) -> Encoder:
        """The encoder that all its models share."""
        return next(iter(self.models.values())).encoder


@dataclass
class Lines:
    """Encoded lines of one task, or of none: then only a teacher can say what they mean."""

    task: str | None
    encoded: list[Encoded]
    of_teacher: list[Encoded] | None
    intents: list[int]
    tags: list[list[int]]


class Average:
    """An exponential moving average of parameters."""

    def __init__(self, parameters: list[nn.Parameter]):
        self.parameters = parameters
        self.values = [p.detach().clone() for p in parameters]
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the parameters; faster at first, so that the start is forgotten."""
        self.steps += 1
        decay = min(AVERAGE_DECAY, self.steps / (self.steps + 10))
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Puts the average in the parameters' place and keeps those; a second call undoes it."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)


def finetune(
    models: dict[str, Understander],
    tokenizer: Tokenizer,
    tasks: list[Task],
    schedule: Schedule,
    seed: int,
    teacher: Teacher | None = None,
    plain: list[str] = (),
    valid_limit: int = 1000,
) -> None:
    """Trains the models of all tasks, which share one encoder, in place."""
    rng = random.Random(seed)
    encoder = models[tasks[0].name].encoder
    set_dropout(encoder, schedule.dropout)
    encoder.embedding.words.requires_grad_(schedule.train_words)
    trained = [p for p in encoder.parameters() if p.requires_grad]
    heads = [p for task in tasks for head in (models[task.name].intent, models[task.name].slots) if head is not None
             for p in head.parameters()]
    optimiser = adamw(
        [{"params": trained, "rate": schedule.rate}, {"params": heads, "rate": schedule.head_rate}]
    )
    average = Average(trained + heads)
    match = Match(encoder, teacher.encoder) if teacher is not None and schedule.hidden_weight else None
    values = {task.name: SlotValues(task.train) for task in tasks}
    started = time.monotonic()
    for epoch in range(schedule.epochs):
        sets = [prepare(task, values[task.name], tokenizer, teacher, rng) for task in tasks]
        if teacher is not None and schedule.plain_lines:
            sets.append(prepare_plain(rng.sample(plain, schedule.plain_lines), tokenizer, teacher))
        quantised = epoch >= schedule.epochs - schedule.quantised_epochs
        epoch_batches = [(lines, b) for lines in sets for b in batches(lines.encoded, TOKENS_PER_BATCH, seed + epoch)]
        rng.shuffle(epoch_batches)
        for model in models.values():
            model.train()
            set_quantised(model, quantised)
        total, seen = 0.0, 0
        for step, (lines, batch) in enumerate(epoch_batches):
            progress = (epoch + step / len(epoch_batches)) / schedule.epochs
            factor = min(1.0, progress / 0.05 + 0.01) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
            for group in optimiser.param_groups:
                group["lr"] = group["rate"] * factor
            loss = batch_loss(models, lines, batch, teacher, match, schedule)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained + heads, 1.0)
            optimiser.step()
            average.update()
            total += loss.item()
            seen += int(batch.present.sum())
        for model in models.values():
            set_quantised(model, False)
        spent = time.monotonic() - started
        print(f"finetune: epoch {epoch + 1}, loss {total / len(epoch_batches):.4f}, {seen:,} tokens, {spent:.0f} s", flush=True)
        average.swap()
        for task in tasks:
            report(models[task.name], tokenizer, task, quantised or epoch == schedule.epochs - 1, valid_limit)
        if epoch < schedule.epochs - 1:
            average.swap()
    set_dropout(encoder, 0.0)
    encoder.embedding.words.requires_grad_(True)


def report(model: Understander, tokenizer: Tokenizer, task: Task, both: bool, limit: int) -> None:
    """Prints the quality on valid, in f32 and where `both` says so in int8."""
    valid = task.valid[:limit]
    encoded = encode(tokenizer, [e.text for e in valid])
    for name, int8 in (("f32", False), ("int8", True))[: 1 + both]:
        quality = measure(task.labels, valid, run(model, encoded, int8))
        print(f"finetune: {task.name} valid {name} {quality.as_json()}", flush=True)


def augmented(example: Example, values: SlotValues, held_out: set[str], rng: random.Random) -> Example:
    """Now and then the line with other slot values, unless that makes it a held-out line."""
    if not example.slots or rng.random() >= SWAPPED_SHARE:
        return example
    swapped = swap_slot_values(example, values, rng)
    return example if normalise(swapped.text) in held_out else swapped


def prepare(
    task: Task, values: SlotValues, tokenizer: Tokenizer, teacher: Teacher | None, rng: random.Random
) -> Lines:
    """One epoch's lines of a task with their targets."""
    lines = [augmented(e, values, task.held_out, rng) for e in task.train] if task.swaps_values else task.train
    texts = [e.text for e in lines]
    encoded = encode(tokenizer, texts)
    tags = [
        [NO_TAG] * len(e.ids) if line.intent == OUT_OF_SCOPE else tag_pieces(task.labels, e, line.slots)
        for line, e in zip(lines, encoded, strict=True)
    ]
    index_of = {intent: index for index, intent in enumerate(task.labels.intents)}
    of_teacher = encode(teacher.tokenizer, texts) if teacher is not None else None
    return Lines(task.name, encoded, of_teacher, [index_of[line.intent] for line in lines], tags)


def prepare_plain(texts: list[str], tokenizer: Tokenizer, teacher: Teacher) -> Lines:
    """Lines that only the teacher labels."""
    pairs = zip(encode(tokenizer, texts), encode(teacher.tokenizer, texts), strict=True)
    pairs = [(s, t) for s, t in pairs if s.first_piece and max(len(s.ids), len(t.ids)) <= LONGEST_PLAIN_LINE]
    return Lines(None, [s for s, _ in pairs], [t for _, t in pairs], [], [])


def batch_loss(
    models: dict[str, Understander],
    lines: Lines,
    batch: Batch,
    teacher: Teacher | None,
    match: Match | None,
    schedule: Schedule,
) -> Tensor:
    """The loss of one batch."""
    encoder = next(iter(models.values())).encoder
    states = encoder(batch.ids, batch.present)
    asked = [lines.task] if lines.task is not None else list(models)
    answers = {name: models[name].read(states[-1], batch.present, HEAD_DROPOUT) for name in asked}
    losses = []
    hard_share = 1.0
    if teacher is not None:
        of_teacher = [lines.of_teacher[i] for i in batch.index]
        encoded = [lines.encoded[i] for i in batch.index]
        soft, hidden = teacher_loss(answers, states, encoded, of_teacher, teacher, match)
        losses.append(schedule.hidden_weight * hidden)
        losses.append((SOFT_SHARE if lines.task is not None else 1.0) * soft)
        hard_share = 1 - SOFT_SHARE
    if lines.task is not None:
        intent, tags = answers[lines.task]
        losses.append(hard_share * F.cross_entropy(intent, torch.tensor([lines.intents[i] for i in batch.index])))
        if tags is not None:
            targets = torch.full(batch.ids.shape, NO_TAG)
            for row, index in enumerate(batch.index):
                targets[row, : len(lines.tags[index])] = torch.tensor(lines.tags[index])
            if bool((targets != NO_TAG).any()):
                tag_loss = F.cross_entropy(tags.flatten(0, 1), targets.flatten(), ignore_index=NO_TAG)
                losses.append(hard_share * SLOT_WEIGHT * tag_loss)
    return torch.stack(losses).sum()


def teacher_loss(
    answers: dict[str, tuple[Tensor, Tensor | None]],
    states: list[Tensor],
    encoded: list[Encoded],
    of_teacher: list[Encoded],
    teacher: Teacher,
    match: Match | None,
) -> tuple[Tensor, Tensor]:
    """Cross entropies to the teacher's softened answers (their mean over tasks), and the distance of hidden states."""
    with torch.no_grad():
        ids, present = pad(of_teacher)
        targets = teacher.encoder(ids, present)
        wanted = {name: teacher.models[name].read(targets[-1], present) for name in answers}
    soft = []
    for name, (intent, tags) in answers.items():
        soft.append(softened(intent, wanted[name][0]))
        if tags is not None:
            soft[-1] = soft[-1] + SLOT_WEIGHT * softened(
                first_pieces(tags, encoded), first_pieces(wanted[name][1], of_teacher)
            )
    hidden = torch.zeros(())
    if match is not None:
        hidden = match.loss(states, Words(encoded), targets, Words(of_teacher))
    return torch.stack(soft).mean(), hidden


def softened(logits: Tensor, wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence at SOFT_TEMPERATURE, scaled so that its gradients match those of hard labels."""
    student = F.log_softmax(logits / SOFT_TEMPERATURE, -1)
    target = F.log_softmax(wanted / SOFT_TEMPERATURE, -1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True) * SOFT_TEMPERATURE**2


def first_pieces(logits: Tensor, encoded: list[Encoded]) -> Tensor:
    """[words, tags]: the rows of the first piece of each word, line after line."""
    rows = [row for row, e in enumerate(encoded) for _ in e.first_piece]
    return logits[torch.tensor(rows), torch.tensor([piece for e in encoded for piece in e.first_piece])]


def share_encoder(encoder: Encoder, tasks: list[Task]) -> dict[str, Understander]:
    """Fresh heads for every task on one encoder."""
    return {
        task.name: Understander(encoder, len(task.labels.intents), len(task.labels.tags) if task.slot_names else 0)
        for task in tasks
    }
