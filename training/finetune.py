"""Joint fine-tuning of encoder and heads on intents and slots.

Each epoch sees every line once, SWAPPED_SHARE of the lines that have slots with other slot values. The loss is the
cross entropy of the intent plus SLOT_WEIGHT times that of the tags of first pieces; out-of-scope lines teach the intent
head only. The last epoch runs with the int8 arithmetic (quantisation-aware training, Jacob et al. 2018). The result is
an exponential moving average of the weights.
"""

import math
import random
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from batches import batches
from data import OUT_OF_SCOPE, Example, TaskData, normalise, slot_values, swap_slot_values
from evaluate import measure, run
from labels import NO_TAG, Labels, tag_pieces
from model import Understander, set_quantised
from vocabulary import encode

EPOCHS = 6
QUANTISED_EPOCHS = 1
TOKENS_PER_BATCH = 320
RATE = 6e-4
SLOT_WEIGHT = 2.5
SWAPPED_SHARE = 0.3
DROPOUT = 0.1
AVERAGE_DECAY = 0.995


def finetune(model: Understander, tokenizer: Tokenizer, labels: Labels, task: TaskData, seed: int) -> None:
    """Trains `model` in place; prints the quality on valid after every second epoch and the last."""
    rng = random.Random(seed)
    values = slot_values(task.train)
    valid = encode(tokenizer, [e.text for e in task.valid])
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE_DECAY)
    )
    started = time.monotonic()
    for epoch in range(EPOCHS):
        lines = [augmented(e, values, task.held_out, rng) for e in task.train]
        quantised = epoch >= EPOCHS - QUANTISED_EPOCHS
        loss = _epoch(model, average, optimiser, tokenizer, labels, lines, epoch, quantised, seed)
        print(f"finetune: epoch {epoch + 1}, loss {loss:.4f}, {time.monotonic() - started:.0f} s", flush=True)
        if epoch % 2 == 1 or epoch == EPOCHS - 1:
            for name, int8 in (("f32", False), ("int8", True)):
                quality = measure(labels, task.valid, run(average.module, valid, int8))
                print(f"finetune: valid {name} {quality.as_json()}", flush=True)
    model.load_state_dict(average.module.state_dict())


def augmented(example: Example, values: dict[str, list[str]], held_out: set[str], rng: random.Random) -> Example:
    """Now and then the line with other slot values, unless that makes it a held-out line."""
    if not example.slots or rng.random() >= SWAPPED_SHARE:
        return example
    swapped = swap_slot_values(example, values, rng)
    return example if normalise(swapped.text) in held_out else swapped


def _epoch(
    model: Understander,
    average: torch.optim.swa_utils.AveragedModel,
    optimiser: torch.optim.Optimizer,
    tokenizer: Tokenizer,
    labels: Labels,
    lines: list[Example],
    epoch: int,
    quantised: bool,
    seed: int,
) -> float:
    encoded = encode(tokenizer, [e.text for e in lines])
    tags = [
        [NO_TAG] * len(e.ids) if line.intent == OUT_OF_SCOPE else tag_pieces(labels, e, line.slots)
        for line, e in zip(lines, encoded, strict=True)
    ]
    intents = [labels.intents.index(line.intent) for line in lines]
    total_tokens, seen, total_loss, steps = sum(len(e.ids) for e in encoded), 0, 0.0, 0
    model.train()
    set_quantised(model, quantised)
    for batch in batches(encoded, TOKENS_PER_BATCH, seed + epoch):
        progress = (epoch + seen / total_tokens) / EPOCHS
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, progress / 0.05 + 0.01) * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))
        tag_targets = torch.full(batch.ids.shape, NO_TAG)
        for row, index in enumerate(batch.index):
            tag_targets[row, : len(tags[index])] = torch.tensor(tags[index])
        intent_logits, tag_logits = model(batch.ids, batch.present, DROPOUT)
        loss = F.cross_entropy(intent_logits, torch.tensor([intents[i] for i in batch.index]))
        if bool((tag_targets != NO_TAG).any()):
            tag_loss = F.cross_entropy(tag_logits.flatten(0, 1), tag_targets.flatten(), ignore_index=NO_TAG)
            loss = loss + SLOT_WEIGHT * tag_loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(model)
        seen += int(batch.present.sum())
        total_loss += loss.item()
        steps += 1
    set_quantised(model, False)
    return total_loss / steps
