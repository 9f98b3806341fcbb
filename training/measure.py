"""The figures of a bundle on labelled lines, by this code instead of the daemon's:

    python training/measure.py --bundle models/home-en --data lines.jsonl

`intentd eval --json` must print the same: two programs that share nothing but the bundle.
"""

import argparse
import json
from pathlib import Path

import torch

from data import read_examples
from evaluate import measure, run
from reading import read_bundle
from vocabulary import encode


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures a bundle on labelled lines.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="JSON lines with text, intent and slots")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = read_bundle(arguments.bundle)
    examples = [e for e in read_examples(arguments.data) if e.intent in bundle.labels.intents[: bundle.labels.in_scope]]
    logits = run(bundle.model, encode(bundle.tokenizer, [e.text for e in examples]), quantised=True)
    print(json.dumps(measure(bundle.labels, examples, logits).as_json()))


if __name__ == "__main__":
    main()
