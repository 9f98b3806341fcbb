"""From data to a bundle and on to a user's own, in a minute: random teacher, made-up data, and every stage as it is.

With INTENTD_PROGRAM, the daemon's program, the bundles are also opened by it, and its figures must be these ones.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TRAINING))

import build as building  # noqa: E402
import finetune  # noqa: E402
import recipe  # noqa: E402
from adapt import main as adapt_main  # noqa: E402
from data import read_examples  # noqa: E402
from evaluate import measure, run  # noqa: E402
from made_up import write  # noqa: E402
from reading import read_bundle  # noqa: E402
from vocabulary import encode  # noqa: E402

PROGRAM = os.environ.get("INTENTD_PROGRAM")

SIZES = """
[sizes.small]
layers = 2
hidden = 32
heads = 4
feed_forward = 64
groups = 4
max_tokens = 128
vocabulary = 70
distil_tokens = 4000
joint_epochs = 4

[bundles.home-en]
task = "home"
size = "small"
vocabulary = 66
epochs = 10
limit = 200_000
title = "lights"
labels_of = "made-up lines"
lines_of = "made-up lines"
"""


@pytest.fixture(scope="module")
def bundle(data, teacher, tmp_path_factory) -> Path:
    """The bundle at the end of all stages."""
    folder = tmp_path_factory.mktemp("models") / "home-en"
    patch = pytest.MonkeyPatch()
    tiny = tmp_path_factory.mktemp("recipe") / "bundles.toml"
    tiny.write_text(SIZES)
    patch.setattr(recipe, "FILE", tiny)
    patch.setattr(building, "FITTING_LINES", 100)
    patch.setattr(finetune, "TOKENS_PER_BATCH", 128)
    patch.setattr(building, "TEACHER_SCHEDULE", replace(building.TEACHER_SCHEDULE, epochs=6, rate=2e-3))
    patch.setattr(building, "JOINT_SCHEDULE", replace(building.JOINT_SCHEDULE, plain_lines=50, rate=2e-3))
    patch.setattr(building, "TASK_SCHEDULE", replace(building.TASK_SCHEDULE, plain_lines=50, rate=4e-3))
    work = tmp_path_factory.mktemp("work")
    made = building.Build(data, work, teacher)
    figures = made.bundle(recipe.recipes()["home-en"], folder)
    assert figures["valid_int8"]["intent_accuracy"] >= 0.8, figures
    # A second build finds every stage's result and writes the same bytes.
    before = (folder / "manifest.toml").read_bytes()
    building.Build(data, work, teacher).bundle(recipe.recipes()["home-en"], folder)
    assert (folder / "manifest.toml").read_bytes() == before
    patch.undo()
    return folder


def figures_here(folder: Path, path: Path) -> dict:
    read = read_bundle(folder)
    examples = [e for e in read_examples(path) if e.intent in read.labels.intents[: read.labels.in_scope]]
    return measure(read.labels, examples, run(read.model, encode(read.tokenizer, [e.text for e in examples]), True)).as_json()


def agrees(folder: Path, path: Path) -> None:
    """The daemon's program and this code must print the same."""
    if PROGRAM is None:
        return
    command = [PROGRAM, "eval", "--json", "--bundle", str(folder), "--data", str(path)]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    here = figures_here(folder, path)
    for name in ("intent_accuracy", "slot_f1", "frame_accuracy"):
        assert answer[name] == pytest.approx(here[name], abs=6e-5), (folder, name)


def test_every_stage_leads_to_a_bundle(bundle, data):
    read = read_bundle(bundle)
    assert read.labels.intents == ["light_off", "light_on", "oos"] and read.labels.tags == ["O", "B-room", "I-room"]
    assert len(read.pieces) == 66
    agrees(bundle, data / "hwu64/valid.jsonl")


def test_the_program_and_python_agree_on_the_committed_bundle():
    repository = TRAINING.parent
    agrees(repository / "models/home-en", repository / "tests/data/utterances-home.jsonl")


def test_a_users_sentences_become_a_bundle(bundle, tmp_path, monkeypatch):
    sentences = tmp_path / "mine.txt"
    doors = "\n".join(f"{verb} the (front | back){{door}} door {end}" for verb in ("open", "unlock") for end in ("now", "please", "for me", "quickly", "again", "a bit"))
    lights = "\n".join(f"{verb} the (front | back){{door}} lamp {end}" for verb in ("dim", "lower") for end in ("now", "please", "for me", "quickly", "again", "a bit"))
    sentences.write_text(f"[OpenDoor]\n{doors}\n[DimLight]\n{lights}\n")
    arguments = ["adapt.py", str(sentences), "--bundle", str(tmp_path / "mine"), "--start", str(bundle), "--threads", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr("adapt.EPOCHS", (8, 40))
    monkeypatch.setattr("adapt.MINIMUM_VALID", 2)
    adapt_main()
    assert "## Confusions" in (tmp_path / "mine-report/report.md").read_text()
    assert (tmp_path / "mine-report/calibration.png").read_bytes().startswith(b"\x89PNG")
    read = read_bundle(tmp_path / "mine")
    assert read.labels.intents == ["DimLight", "OpenDoor"]
    valid = tmp_path / "valid.jsonl"
    text = "open the back door please"
    write(valid, [{"text": text, "intent": "OpenDoor", "slots": [{"name": "door", "start": 9, "end": 13}]}])
    assert figures_here(tmp_path / "mine", valid)["intent_accuracy"] == 1
    agrees(tmp_path / "mine", valid)
