"""Training of the text model on all of its tasks at once.

A batch holds lines of one kind, or windows of questions. Labels teach by cross entropy. With the plain teacher's
targets every line also teaches the embedding (one minus the cosine) and the words' hidden states (mean squared error,
relative), with the fine-tuned one's its softened answers. The last part runs in the int8 arithmetic. The result is an exponential moving
average of the weights. The state is saved now and then, so an interrupted run goes on where it stopped.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from batches import batches
from distil import Words, adamw
from finetune import Average, first_pieces, softened
from labels import NO_TAG
from model import set_quantised
from text_lines import OPINIONS, Asked, Lines
from text_model import TextModel, ask, mean
from text_targets import Targets

TOKENS_PER_BATCH = 640
HEAD_DROPOUT = 0.1
SOFT_SHARE = 0.5
"""How much of the loss of a labelled line comes from the teacher's answers instead of the label."""
WEIGHTS = {"sentiment": 2.0, "entities": 2.5, "answers": 1.0, "embedding": 6.0, "words": 1.0}
WARM_UP, COOL_DOWN = 0.03, 0.4
"""The shares of the steps in which the rate rises at first, and falls at last; between them it is constant, so a run that
stopped there may go on with another number of epochs."""
SAVE_SECONDS = 120


@dataclass(frozen=True)
class TextSchedule:
    """How long and how fast."""

    epochs: int
    rate: float
    head_rate: float
    quantised_share: float = 0.0
    shares: tuple[tuple[str, float], ...] = ()
    """Of which kind an epoch sees only a part."""


@dataclass
class Step:
    """One batch: lines with their targets, or windows."""

    lines: Lines | Asked
    targets: Targets | None
    index: list[int]


def train(
    model: TextModel,
    sets: list[Lines],
    targets: dict[str, Targets],
    asked: Callable[[int], Asked] | None,
    schedule: TextSchedule,
    seed: int,
    state: Path,
    report: Callable[[str], None],
) -> None:
    """Trains `model` in place; `asked` makes an epoch's windows, `report` prints figures of the averaged weights."""
    trained, fresh = model.parameter_groups()
    optimiser = adamw([{"params": trained, "rate": schedule.rate}, {"params": fresh, "rate": schedule.head_rate}])
    average = Average(trained + fresh)
    done = restore(state, model, optimiser, average)
    saved = started = time.monotonic()
    seen, sums = 0, {}
    for epoch in range(schedule.epochs):
        if (epoch + 1, 0) <= done:
            continue
        steps = epoch_steps(sets, targets, asked(seed + epoch) if asked else None, schedule, seed + epoch)
        for number, step in enumerate(steps):
            if (epoch, number) < done:
                continue
            progress = (epoch + number / len(steps)) / schedule.epochs
            model.train()
            set_quantised(model, progress >= 1 - schedule.quantised_share)
            factor = min(1.0, progress / WARM_UP + 0.01, (1 - progress) / COOL_DOWN + 0.01)
            for group in optimiser.param_groups:
                group["lr"] = group["rate"] * factor
            losses = step_losses(model, step)
            optimiser.zero_grad(set_to_none=True)
            torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum().backward()
            torch.nn.utils.clip_grad_norm_(trained + fresh, 1.0)
            optimiser.step()
            average.update()
            for name, loss in losses.items():
                sums[name] = 0.98 * sums.get(name, loss.item()) + 0.02 * loss.item()
            seen += sum(len(step.lines.encoded[i].ids) for i in step.index)
            if number % 200 == 199:
                speed = seen / (time.monotonic() - started)
                parts = ", ".join(f"{name} {value:.3f}" for name, value in sorted(sums.items()))
                print(f"text: {epoch + 1}/{number + 1} of {len(steps)}, {parts}; {speed:.0f} tokens/s", flush=True)
            if time.monotonic() - saved > SAVE_SECONDS:
                save(state, model, optimiser, average, (epoch, number + 1))
                saved = time.monotonic()
        average.swap()
        set_quantised(model, False)
        report(f"epoch {epoch + 1} of {schedule.epochs}")
        if epoch < schedule.epochs - 1:
            average.swap()
            save(state, model, optimiser, average, (epoch + 1, 0))
    model.eval()


def epoch_steps(
    sets: list[Lines], targets: dict[str, Targets], asked: Asked | None, schedule: TextSchedule, seed: int
) -> list[Step]:
    """All batches of an epoch in random order, the same ones for the same seed."""
    rng, steps, shares = random.Random(seed), [], dict(schedule.shares)
    for lines in [*sets, asked] if asked is not None else sets:
        count = len(lines.encoded)
        chosen = rng.sample(range(count), int(count * shares.get(lines.kind, 1.0)))
        for batch in batches([lines.encoded[i] for i in chosen], TOKENS_PER_BATCH, seed):
            steps.append(Step(lines, targets.get(lines.kind), [chosen[i] for i in batch.index]))
    rng.shuffle(steps)
    return steps


def step_losses(model: TextModel, step: Step) -> dict[str, Tensor]:
    """The losses of one batch by name, not yet weighed."""
    encoded = [step.lines.encoded[i] for i in step.index]
    hidden, present = model.hidden(step.lines, step.index)
    if isinstance(step.lines, Asked):
        return {"answers": answer_loss(ask(model.answers, hidden, HEAD_DROPOUT), step.lines, step.index)}
    pooled = mean(hidden, present)
    sentiment = ask(model.sentiment, pooled, HEAD_DROPOUT)
    tags = first_pieces(ask(model.entities, hidden, HEAD_DROPOUT), encoded)
    losses: dict[str, Tensor] = {}
    hard = 1.0
    if step.targets is not None:
        wanted = step.targets
        losses["embedding"] = (1 - F.cosine_similarity(pooled, wanted.embedding[step.index])).mean()
        words = wanted.of_words(step.index)
        losses["words"] = F.mse_loss(Words(encoded).means(hidden), words) / words.square().mean()
        if wanted.sentiment is not None:
            hard = 1 - SOFT_SHARE
            losses["sentiment"] = SOFT_SHARE * softened(sentiment, wanted.sentiment[step.index])
            losses["entities"] = SOFT_SHARE * softened(tags, wanted.of_entities(step.index))
    if step.lines.kind in OPINIONS:
        gold = torch.tensor([step.lines.sentiment[i] for i in step.index])
        losses["sentiment"] = losses.get("sentiment", 0.0) + hard * F.cross_entropy(sentiment, gold)
    if step.lines.kind == "entities":
        gold = torch.tensor([tag for i in step.index for tag in step.lines.tags[i] if tag != NO_TAG])
        losses["entities"] = losses.get("entities", 0.0) + hard * F.cross_entropy(tags, gold)
    return losses


def answer_loss(logits: Tensor, asked: Asked, index: list[int]) -> Tensor:
    """Cross entropy of start and end over [CLS] and the passage."""
    closed = torch.ones(logits.shape[:2], dtype=torch.bool)
    for row, i in enumerate(index):
        window = asked.encoded[i]
        closed[row, 0] = False
        closed[row, window.first : len(window.ids) - 1] = False
    logits = logits.masked_fill(closed[..., None], -1e4)
    gold = torch.tensor([asked.answers[i] for i in index])
    return (F.cross_entropy(logits[..., 0], gold[:, 0]) + F.cross_entropy(logits[..., 1], gold[:, 1])) / 2


def save(path: Path, model: TextModel, optimiser, average: Average, done: tuple[int, int]) -> None:
    """Writes the state of a run; a crash leaves the old one."""
    content = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": (average.values, average.steps),
        "random": torch.get_rng_state(),
        "done": done,
    }
    torch.save(content, path.with_suffix(".new"))
    path.with_suffix(".new").rename(path)


def restore(path: Path, model: TextModel, optimiser, average: Average) -> tuple[int, int]:
    """Takes up a saved state; returns the epoch and the step to go on with."""
    if not path.exists():
        return (0, 0)
    content = torch.load(path)
    model.load_state_dict(content["model"])
    optimiser.load_state_dict(content["optimiser"])
    values, average.steps = content["average"]
    for value, kept in zip(average.values, values, strict=True):
        value.copy_(kept)
    torch.set_rng_state(content["random"])
    return tuple(content["done"])
