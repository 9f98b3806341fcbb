"""What several tests start from: made-up data sets, and a random teacher."""

import json
import random
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from made_up import LETTERS, WORDS, lines, write  # noqa: E402
from model import Encoder, Shape  # noqa: E402
from vocabulary import SPECIAL  # noqa: E402

# More threads wait for each other longer than models of this size compute.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Folders as the real data sets have them."""
    rng, root = random.Random(3), tmp_path_factory.mktemp("data")
    everything = list({record["text"]: record for record in lines(rng, 400)}.values())
    write(root / "hwu64/train.jsonl", everything[20:])
    write(root / "hwu64/valid.jsonl", everything[:20])
    for name in ("slurp/devel", "snips/train", "clinc150/train"):
        write(root / f"{name}.jsonl", everything[20:60])
    for name in ("snips/valid", "clinc150/val"):
        write(root / f"{name}.jsonl", everything[:10])
    for name in ("oos_train", "oos_val"):
        outside = [f"what is {rng.choice(WORDS)} of {rng.choice(WORDS)} {name[4]}" for _ in range(40)]
        write(root / f"clinc150/{name}.jsonl", [{"text": t, "intent": "oos", "slots": []} for t in outside])
    write(root / "qa/train.jsonl", [{"question": "what is a kitchen"}])
    sentences = [" ".join(rng.choice(WORDS) for _ in range(6)) for _ in range(120)]
    (root / "text").mkdir()
    for name in ("cc-by.txt", "sgd-user-turns.cc-by-sa.txt"):
        (root / "text" / name).write_text("\n".join(sentences) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> Path:
    """A random BERT in the form of all-MiniLM-L6-v2's files."""
    folder = tmp_path_factory.mktemp("teacher")
    pieces = [*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS), *(w for w in WORDS if len(w) > 1)]
    torch.manual_seed(1)
    shape = Shape(vocabulary=len(pieces), groups=1, layers=2, hidden=32, heads=4, feed_forward=64)
    encoder = Encoder(shape)
    stored = {
        "embeddings.word_embeddings.weight": encoder.embedding.words.data,
        "embeddings.position_embeddings.weight": encoder.embedding.positions.data,
        "embeddings.token_type_embeddings.weight": torch.zeros(2, 32),
        "embeddings.LayerNorm.weight": torch.ones(32),
        "embeddings.LayerNorm.bias": torch.zeros(32),
    }
    names = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "expand": "intermediate.dense",
        "contract": "output.dense",
    }
    for index, layer in enumerate(encoder.layers):
        at = f"encoder.layer.{index}"
        for ours, theirs in names.items():
            stored[f"{at}.{theirs}.weight"] = getattr(layer, ours).weight.data[0] * 5
            stored[f"{at}.{theirs}.bias"] = getattr(layer, ours).bias.data
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            stored[f"{at}.{norm}.weight"], stored[f"{at}.{norm}.bias"] = torch.ones(32), torch.zeros(32)
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, folder / "model.safetensors")
    config = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return folder
