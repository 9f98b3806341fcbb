"""Distillation: the student learns the teacher's hidden states, layer by layer.

The loss is the mean squared error of all layers' hidden states (as in Jiao et al. 2020, TinyBERT, without the attention
term). The student's smaller vocabulary cuts words differently, so states are compared per word: the mean of its pieces.
"""

import math
import time

import torch
from torch import Tensor

from batches import batches, pad
from model import Encoder
from vocabulary import Encoded

TOKENS_PER_BATCH = 768


def word_means(states: Tensor, encoded: list[Encoded]) -> Tensor:
    """[words of all lines, channels]: the mean over the pieces of each word, [CLS] and [SEP] counting as words."""
    rows, words, offset = [], [], 0
    for line, e in enumerate(encoded):
        rows += [line * states.shape[1] + piece for piece in range(len(e.ids))]
        words += [offset + word for word in e.word_of_piece]
        offset += e.word_of_piece[-1] + 1
    flat = states.reshape(-1, states.shape[-1])[torch.tensor(rows)]
    index = torch.tensor(words)
    counts = torch.zeros(offset).index_add_(0, index, torch.ones(len(words)))
    return torch.zeros(offset, states.shape[-1]).index_add(0, index, flat) / counts[:, None]


def distil(
    student: Encoder,
    teacher: Encoder,
    student_lines: list[Encoded],
    teacher_lines: list[Encoded],
    token_budget: int,
    rate: float,
    seed: int,
) -> None:
    """Trains `student` in place on about `token_budget` tokens, with a linear warm-up and a cosine decay."""
    optimiser = torch.optim.AdamW(student.parameters(), lr=rate, weight_decay=0.01, fused=True)
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
            of_student = [student_lines[i] for i in batch.index]
            with torch.no_grad():
                targets = teacher(*pad(of_teacher))[1:]
            states = student(batch.ids, batch.present)[1:]
            losses = [
                (word_means(s, of_student) - word_means(t, of_teacher)).square().mean()
                for s, t in zip(states, targets, strict=True)
            ]
            loss = torch.stack(losses).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimiser.step()
            seen += int(batch.present.sum())
            step += 1
            running = 0.98 * running + 0.02 * loss.item() if step > 1 else loss.item()
            if step % 100 == 0:
                speed = seen / (time.monotonic() - started)
                print(f"distil: {seen:,} tokens, loss {running:.4f}, last layer {losses[-1].item():.4f}, {speed:.0f} tokens/s", flush=True)
            if seen >= token_budget:
                break
        epoch += 1
