"""Your own intents, in one command:

    python training/adapt.py DATA --bundle models/mine

DATA is JSON lines, a Rasa NLU YAML or plain sentences (user_data.py says how they look). The encoder of a bundle that
is there (--start) is trained on, so no teacher and no other data are needed. A tenth of the utterances, at least one of
each intent that has five, is kept apart to measure and calibrate; sentences of one template stay together, so that no
wording stands on both sides. Lines whose intent is `oos` teach what to reject.

A folder NAME-report beside the bundle gets report.md (accuracy, worst intents, confusions) and calibration.png.
"""

import argparse
import random
import time
from collections import Counter, defaultdict
from pathlib import Path

import matplotlib
import numpy as np
import torch

from bundle import Untested, write_bundle
from data import OUT_OF_SCOPE, Example, normalise
from evaluate import BINS, Calibration, assess, probabilities, run
from finetune import TOKENS_PER_BATCH, Schedule, finetune
from intent_bundle import IntentContents
from model import Understander
from reading import read_bundle
from tasks import Task, make_task
from user_data import BadData, read_user_data
from vocabulary import encode

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent
SEED = 20
VALID_SHARE = 0.1
STEPS = 700
"""About how many batches training takes, whatever the size of the data; between EPOCHS[0] and EPOCHS[1] epochs."""
EPOCHS = (8, 60)
MINIMUM_VALID = 5
SIZE_LIMIT = 16_000_000
WORST = 15

CARD = """\
# {name}

{intents} intents and {slots} slot names, trained from {start} on {train} utterances of {data}; calibrated on {n} others:
intent accuracy {intent:.1%}, slot F1 {f1:.1%} at int8 (a validation figure).
"""


def split(examples: list[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Train and valid. Lines with the same words around their slots belong together and are never divided."""
    frames: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for example in examples:
        frames[example.intent, normalise(frame_of(example))].append(example)
    by_intent: dict[str, list[list[Example]]] = defaultdict(list)
    for (intent, _), lines in frames.items():
        by_intent[intent].append(lines)
    train, valid = [], []
    rng = random.Random(seed)
    for groups in by_intent.values():
        rng.shuffle(groups)
        kept = round(VALID_SHARE * len(groups)) if len(groups) >= 10 else int(len(groups) >= 5)
        valid += [line for lines in groups[:kept] for line in lines]
        train += [line for lines in groups[kept:] for line in lines]
    return train, valid


def frame_of(example: Example) -> str:
    """The text with its slot values replaced by their names."""
    text = example.text
    for slot in sorted(example.slots, key=lambda s: -s.start):
        text = f"{text[: slot.start]}{slot.name}{text[slot.end :]}"
    return text


def user_task(examples: list[Example], seed: int) -> Task:
    """A task of a user's lines."""
    train, valid = split(examples, seed)
    inside = [e for e in train if e.intent != OUT_OF_SCOPE]
    outside = [e for e in train if e.intent == OUT_OF_SCOPE]
    known = {e.intent for e in inside}
    return make_task(
        "yours",
        inside,
        outside,
        [e for e in valid if e.intent in known],
        [e for e in valid if e.intent == OUT_OF_SCOPE],
    )


def adapt(start: Path, task: Task, seed: int) -> tuple[Understander, object]:
    """Fresh heads on the encoder of a bundle, all trained together."""
    bundle = read_bundle(start)
    labels = task.labels
    model = Understander(bundle.model.encoder, len(labels.intents), len(labels.tags) if task.slot_names else 0)
    tokens = sum(len(e.ids) for e in encode(bundle.tokenizer, [e.text for e in task.train]))
    epochs = min(max(EPOCHS[0], STEPS * TOKENS_PER_BATCH // tokens), EPOCHS[1])
    schedule = Schedule(epochs=epochs, rate=3e-4, head_rate=2e-3, quantised_epochs=max(1, epochs // 8), dropout=0.05)
    finetune({task.name: model}, bundle.tokenizer, [task], schedule, seed)
    return model, bundle.tokenizer


def write_report(folder: Path, figures: dict, task: Task, logits: list, calibration: Calibration, seconds: float) -> None:
    """report.md and calibration.png."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = task.labels
    scores = probabilities(np.stack([a.intent for a in logits]), calibration.intent_temperature)[:, : labels.in_scope]
    answered = [labels.intents[index] for index in scores.argmax(1)]
    right = np.array([a == e.intent for a, e in zip(answered, task.valid, strict=True)])
    totals, hits = Counter(e.intent for e in task.valid), Counter(
        e.intent for e, good in zip(task.valid, right, strict=True) if good
    )
    confusions = Counter((e.intent, a) for e, a in zip(task.valid, answered, strict=True) if a != e.intent)
    quality = figures["valid_int8"]
    lines = [
        f"# {quality['examples']} validation utterances, {len(task.train)} trained on, {seconds / 60:.1f} minutes",
        "",
        "| | intent accuracy | slot F1 | whole frame |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {q['intent_accuracy']:.1%} | {q['slot_f1']:.1%} | {q['frame_accuracy']:.1%} |"
            for name, q in (("f32", figures["valid_f32"]), ("int8", quality))
        ),
        "",
        f"Calibration error {figures['calibration_error']:.1%} (calibration.png). 95 % interval of intent accuracy: "
        f"{figures['intent_interval'][0]:.1%} to {figures['intent_interval'][1]:.1%}.",
        "",
        "## Worst intents",
        "",
        "| intent | right | of |",
        "| --- | --- | --- |",
        *(
            f"| {intent} | {hits[intent]} | {count} |"
            for intent, count in sorted(totals.items(), key=lambda item: hits[item[0]] / item[1])[:WORST]
        ),
        "",
        "## Confusions",
        "",
        "| gold | answered | times |",
        "| --- | --- | --- |",
        *(f"| {gold} | {answer} | {count} |" for (gold, answer), count in confusions.most_common(WORST)),
    ]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plot_calibration(folder / "calibration.png", scores.max(1), right)


def plot_calibration(path: Path, confidence: np.ndarray, right: np.ndarray) -> None:
    """Accuracy of each bin of confidence, beside the diagonal of perfect calibration."""
    bins = np.clip(np.ceil(confidence * BINS), 1, BINS).astype(int)
    filled = sorted(set(bins.tolist()))
    figure, axes = plt.subplots(figsize=(4.5, 4.5))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, label="perfect")
    axes.bar(
        [(b - 0.5) / BINS for b in filled],
        [right[bins == b].mean() for b in filled],
        width=0.9 / BINS,
        label="share right",
    )
    axes.set(xlabel="confidence", ylabel="share right", xlim=(0, 1), ylim=(0, 1.02), title="Calibration on valid")
    axes.legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a bundle on your own utterances.")
    parser.add_argument("data", type=Path, help="JSON lines, Rasa NLU YAML or plain sentences")
    parser.add_argument("--bundle", type=Path, required=True, help="folder to write; its name becomes the bundle's")
    parser.add_argument("--start", type=Path, default=REPOSITORY / "models/home-en", help="bundle to start from")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    started = time.monotonic()
    try:
        task = user_task(read_user_data(arguments.data), SEED)
    except (BadData, FileNotFoundError) as error:
        parser.exit(65, f"adapt: {error}\n")
    if len(task.valid) < MINIMUM_VALID or task.labels.in_scope < 2:
        parser.exit(
            65,
            f"adapt: too few utterances: {task.labels.in_scope} intents, and {len(task.valid)} lines to measure on; at "
            f"least two intents and {MINIMUM_VALID} such lines are needed (five wordings an intent give one)\n",
        )
    model, tokenizer = adapt(arguments.start, task, SEED)
    figures, calibration, labels = assess(model, tokenizer, task)
    logits = run(model, encode(tokenizer, [e.text for e in task.valid]), quantised=True)
    write_report(
        arguments.bundle.parent / f"{arguments.bundle.name}-report",
        figures,
        task,
        logits,
        calibration,
        time.monotonic() - started,
    )
    card = CARD.format(
        name=arguments.bundle.name,
        intents=task.labels.in_scope,
        slots=len(task.slot_names),
        start=arguments.start.name,
        train=len(task.train),
        data=arguments.data.name,
        n=len(task.valid),
        intent=figures["valid_int8"]["intent_accuracy"],
        f1=figures["valid_int8"]["slot_f1"],
    )
    contents = IntentContents(
        name=arguments.bundle.name,
        size="small",
        model=model,
        tokenizer=tokenizer,
        labels=labels,
        calibration=calibration,
        card=card,
        self_test_lines=[e.text for e in task.valid],
        licence="yours",
    )
    try:
        size = write_bundle(arguments.bundle, contents, SIZE_LIMIT)
    except Untested as error:
        parser.exit(65, f"adapt: {error}; see {arguments.bundle.name}-report/report.md\n")
    quality = figures["valid_int8"]
    print(
        f"{arguments.bundle}: {size:,} bytes; intent accuracy {quality['intent_accuracy']:.1%}, "
        f"slot F1 {quality['slot_f1']:.1%} on {quality['examples']} validation utterances; "
        f"see {arguments.bundle.name}-report/report.md"
    )


if __name__ == "__main__":
    main()
