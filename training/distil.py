"""Distillation: the student learns the teacher's hidden states, layer by layer.

The loss is the mean squared error of all layers' hidden states (as in Jiao et al. 2020, TinyBERT, without the attention
term). The student's smaller vocabulary cuts words differently, so states are compared per word: the mean of its pieces.
A student with fewer layers matches every so many of the teacher's, a narrower one matches the principal directions of
the teacher's states.
"""

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from batches import batches, pad
from initialise import principal
from model import Encoder
from vocabulary import Encoded

TOKENS_PER_BATCH = 512


class Words:
    """Which pieces of a padded batch belong to which word, [CLS] and [SEP] counting as words."""

    def __init__(self, encoded: list[Encoded]):
        longest = max(len(e.ids) for e in encoded)
        rows, words, count = [], [], 0
        for line, e in enumerate(encoded):
            rows += range(line * longest, line * longest + len(e.ids))
            words += [count + word for word in e.word_of_piece]
            count += e.word_of_piece[-1] + 1
        self.rows, self.words = torch.tensor(rows), torch.tensor(words)
        self.pieces = torch.zeros(count, 1).index_add_(0, self.words, torch.ones(len(words), 1))

    def means(self, states: Tensor) -> Tensor:
        """[words, channels]: the mean over the pieces of each word."""
        flat = states.reshape(-1, states.shape[-1])[self.rows]
        if len(self.pieces) == len(self.rows):
            return flat
        return torch.zeros(len(self.pieces), flat.shape[1]).index_add(0, self.words, flat) / self.pieces


def adamw(groups: list[dict]) -> torch.optim.Optimizer:
    """AdamW, in one pass over the parameters where this PyTorch can on a CPU (from 2.4 on): several times faster."""
    fused = {"fused": True} if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4) else {}
    return torch.optim.AdamW(groups, weight_decay=0.01, **fused)


class Match:
    """Which states of the teacher a student's states are compared with."""

    def __init__(self, student: Encoder, teacher: Encoder):
        stride = teacher.shape.layers / student.shape.layers
        self.layers = [round((index + 1) * stride) for index in range(student.shape.layers)]
        narrower = student.shape.hidden < teacher.shape.hidden
        self.directions = principal(teacher, student.shape.hidden) if narrower else None

    def loss(self, states: list[Tensor], words: Words, targets: list[Tensor], of_teacher: Words) -> Tensor:
        """Mean squared error over layers, words and channels."""
        losses = []
        for state, layer in zip(states[1:], self.layers, strict=True):
            target = of_teacher.means(targets[layer])
            if self.directions is not None:
                target = target @ self.directions
            losses.append(F.mse_loss(words.means(state), target))
        return torch.stack(losses).mean()


def distil(
    student: Encoder,
    teacher: Encoder,
    student_lines: list[Encoded],
    teacher_lines: list[Encoded],
    token_budget: int,
    rate: float,
    seed: int,
) -> None:
    """Trains `student` in place on about `token_budget` tokens, with a linear warm-up and a cosine decay.

    The word rows stay as they are: they are the teacher's.
    """
    student.embedding.words.requires_grad_(False)
    trained = [p for p in student.parameters() if p.requires_grad]
    optimiser = adamw([{"params": trained}])
    student.train()
    match = Match(student, teacher)
    seen, step, started, running = 0, 0, time.monotonic(), 0.0
    epoch = 0
    while seen < token_budget:
        for batch in batches(student_lines, TOKENS_PER_BATCH, seed + epoch):
            progress = seen / token_budget
            factor = min(1.0, progress / 0.03 + 0.01) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1))))
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
            of_teacher = [teacher_lines[i] for i in batch.index]
            student_words, teacher_words = Words([student_lines[i] for i in batch.index]), Words(of_teacher)
            with torch.no_grad():
                targets = teacher(*pad(of_teacher))
            loss = match.loss(student(batch.ids, batch.present), student_words, targets, teacher_words)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            seen += int(batch.present.sum())
            step += 1
            running = 0.98 * running + 0.02 * loss.item() if step > 1 else loss.item()
            if step % 100 == 0:
                speed = seen / (time.monotonic() - started)
                print(f"distil: {seen:,} tokens, loss {running:.4f}, {speed:.0f} tokens/s", flush=True)
            if seen >= token_budget:
                break
        epoch += 1
    student.embedding.words.requires_grad_(True)
