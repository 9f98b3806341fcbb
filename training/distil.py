"""Distillation: the student learns the teacher's hidden states, layer by layer.

The loss is the mean squared error of all layers' hidden states (as in Jiao et al. 2020, TinyBERT, without the attention
term). The student's smaller vocabulary cuts words differently, so states are compared per word: the mean of its pieces.
"""

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from batches import batches, pad
from model import Encoder
from vocabulary import Encoded

TOKENS_PER_BATCH = 384


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
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01, fused=True)
    student.train()
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
                targets = [teacher_words.means(state) for state in teacher(*pad(of_teacher))[1:]]
            states = student(batch.ids, batch.present)[1:]
            losses = [F.mse_loss(student_words.means(s), t) for s, t in zip(states, targets, strict=True)]
            loss = torch.stack(losses).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            seen += int(batch.present.sum())
            step += 1
            running = 0.98 * running + 0.02 * loss.item() if step > 1 else loss.item()
            if step % 50 == 0:
                speed = seen / (time.monotonic() - started)
                print(f"distil: {seen:,} tokens, loss {running:.4f}, {speed:.0f} tokens/s", flush=True)
            if seen >= token_budget:
                break
        epoch += 1
    student.embedding.words.requires_grad_(True)
