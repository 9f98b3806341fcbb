"""Compares intentd's encoder with the same SqueezeBERT in other engines, and with this CPU's limits. Started by
`scripts/compare`; README.md says how to read what it prints.

Every engine is a process of its own, all on one CPU and loaded at once. In each round every engine runs every case
before the next round begins, so that whatever else the machine does hits all of them alike.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import report
import workers
from aims import aims
from workers import Energy, Worker

SEED = 5
MODELS = ["small", "base", "minilm", "bert-base"]
TOKENS = [4, 8, 16, 32, 64, 128]
BUDGET_S = 480
# One visit of an engine: long enough to leave the other engines' cache lines behind, short enough to interleave.
VISIT_US = 60_000
MOST_PASSES = 20
# What an engine that is slower than this loses by a cold cache cannot be seen.
COLD_US = 100_000
SLOW_CASES, SLOW_ROUNDS = ("1 x 8", "1 x 32"), 2
# Between the hidden states of an engine and those of f32, on average over tokens. Below it, something else is computed.
SMALLEST_COSINE = 0.95


@dataclass(frozen=True)
class Case:
    """Utterances that come together: `tokens` of each, or none where lengths differ."""

    name: str
    lengths: list[int]
    squeezebert_only: bool = False

    @property
    def batch(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int | None:
        return self.lengths[0] if len(set(self.lengths)) == 1 else None

    def sequences(self, vocabulary: int) -> list[list[int]]:
        """Seeded, and without the ids of special tokens, which come first."""
        draw = random.Random(SEED)
        return [[draw.randrange(1000, vocabulary) for _ in range(length)] for length in self.lengths]


@dataclass
class Samples:
    """What one way of running a case on one engine took, pass by pass."""

    wall_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)


@dataclass
class Model:
    """A model's workers and what is measured of them."""

    name: str
    shape: dict
    check: list[list[int]]
    workers: list[Worker]
    cosines: dict[str, float] = field(default_factory=dict)
    samples: dict[tuple[str, str, bool], Samples] = field(default_factory=dict)
    """By case, engine, and whether its utterances ran one after another."""

    def weights(self) -> int:
        """Weights of all layers: so many multiply-accumulates a token, so many bytes in int8."""
        hidden, wide, groups = self.shape["hidden"], self.shape["feed_forward"], self.shape["groups"]
        return self.shape["layers"] * ((3 * hidden**2 + 2 * hidden * wide) // groups + hidden**2)

    def products(self, lengths: list[int]) -> int:
        """Multiply-accumulates of a batch: weights, scores and contexts."""
        attention = 2 * self.shape["layers"] * self.shape["hidden"]
        return sum(length * (self.weights() + attention * length) for length in lengths)


def main() -> None:
    arguments = parse_arguments()
    report.check_docs(arguments.write_docs)
    cpus = sorted(os.sched_getaffinity(0))
    worker_cpu, driver_cpus = cpus[-1], cpus[:-1] or cpus
    os.sched_setaffinity(0, driver_cpus)

    models = load(arguments, worker_cpu)
    for model in models:
        check_agreement(model)
    cases = quick_cases() if arguments.quick else all_cases()
    peaks = measure_peaks(arguments.program, cpus)
    rounds = measure(models, cases, 0 if arguments.quick else BUDGET_S)
    # Once more: the peak of a CPU whose clock changes is the highest that was seen.
    peaks = highest(peaks, measure_peaks(arguments.program, cpus))
    for model in models:
        for worker in model.workers:
            worker.stop()
    scaling = {model.name: measure_scaling(arguments, model, cpus) for model in models if model.check}

    result = summarise(models, cases, peaks, scaling, rounds)
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        print(report.as_text(result))
    if arguments.write_docs:
        report.write_docs(result)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/compare", description="Compares engines on one CPU.")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--write-docs", action="store_true", help="write tables and plot into docs/performance.*")
    parser.add_argument("--quick", action="store_true", help="a few cases, once: that it works, not how fast")
    parser.add_argument("--program", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def all_cases() -> list[Case]:
    alone = [Case(f"1 x {tokens}", [tokens]) for tokens in sorted([*TOKENS, 12])]
    return [
        *alone,
        Case("8 ragged", ragged(8), squeezebert_only=True),
        Case("32 ragged", ragged(32), squeezebert_only=True),
        Case("32 x 12", [12] * 32, squeezebert_only=True),
    ]


def quick_cases() -> list[Case]:
    return [case for case in all_cases() if case.name in ("1 x 8", "1 x 12", "1 x 32", "8 ragged", "32 x 12")]


def ragged(batch: int) -> list[int]:
    """Lengths of utterances, special tokens included: 12 on average."""
    draw = random.Random(SEED)
    return [max(4, min(32, round(draw.gauss(12, 5)))) for _ in range(batch)]


def load(arguments: argparse.Namespace, cpu: int) -> list[Model]:
    started = workers.start(MODELS, arguments.models, arguments.program, cpu, with_slow=not arguments.quick)
    models = []
    for name, of_model in started.items():
        card = json.loads((arguments.models / name / "model.json").read_text(encoding="utf-8"))
        models.append(Model(name, card["shape"], card["check"], of_model))
    return models


def check_agreement(model: Model) -> None:
    """Compares every engine's hidden states with f32, on a padded batch."""
    if not model.check:
        return
    hidden = {}
    for worker in model.workers:
        values = np.array(worker.hidden(model.check), np.float32).reshape(-1, model.shape["hidden"])
        hidden[worker.engine.name] = values / np.linalg.norm(values, axis=1, keepdims=True)
    reference = hidden["ort-f32"]
    model.cosines = {engine: float((values * reference).sum(1).mean()) for engine, values in hidden.items()}
    wrong = {engine: cosine for engine, cosine in model.cosines.items() if not cosine >= SMALLEST_COSINE}
    if wrong:
        raise SystemExit(f"compare.py: {model.name}: these do not compute what f32 computes: {wrong}")


def measure(models: list[Model], cases: list[Case], budget_s: float) -> int:
    """Rounds until the time is up, at least one. Returns how many."""
    started, rounds = time.monotonic(), 0
    while rounds == 0 or (time.monotonic() - started) * (1 + 1 / rounds) < budget_s:
        for model in models:
            for case in cases:
                if model.check or not case.squeezebert_only:
                    visit_all(model, case, rounds)
        rounds += 1
        print(f"compare.py: round {rounds} after {time.monotonic() - started:.0f} s", file=sys.stderr)
    return rounds


def visit_all(model: Model, case: Case, finished_rounds: int) -> None:
    sequences = case.sequences(model.shape["vocabulary"])
    for worker in model.workers:
        if worker.engine.slow and (case.name not in SLOW_CASES or finished_rounds >= SLOW_ROUNDS):
            continue
        for alone in worker.engine.ways(is_ragged=case.tokens is None):
            samples = model.samples.setdefault((case.name, worker.engine.name, alone), Samples())
            visit(worker, sequences, alone, samples)


def visit(worker: Worker, sequences: list[list[int]], alone: bool, samples: Samples) -> None:
    if samples.wall_us:
        expected = min(samples.wall_us)
    else:
        expected = worker.time(sequences, alone, warm_ups=0, passes=1)["wall_us"][0]
    warm_ups = 0 if expected > COLD_US else 1
    passes = max(1, min(MOST_PASSES, int(VISIT_US / expected)))
    energy = Energy()
    times = worker.time(sequences, alone, warm_ups, passes)
    joules = energy.since_last()
    samples.wall_us += times["wall_us"]
    samples.cpu_us += times["cpu_us"]
    if joules is not None:
        samples.joules.append(joules / (warm_ups + passes))


def measure_peaks(program: Path, cpus: list[int]) -> dict:
    # The workers' CPU first: it is the one that counts.
    named = [str(cpu) for cpu in dict.fromkeys([cpus[-1], cpus[0]])]
    return run_json(["taskset", "--cpu-list", ",".join(named), program, "peaks", *named])


def measure_scaling(arguments: argparse.Namespace, model: Model, cpus: list[int]) -> dict | None:
    """What two threads gain; none on a machine with one CPU."""
    if len(cpus) == 1:
        return None
    named = [str(cpus[-1]), str(cpus[0])]
    encoder = arguments.models / model.name / "intentd.onnx"
    return run_json(["taskset", "--cpu-list", ",".join(named), arguments.program, "scaling", encoder, "32", *named])


def run_json(command: list) -> dict:
    return json.loads(subprocess.check_output(command, text=True))


def highest(a: dict, b: dict) -> dict:
    """Number by number the larger one."""
    return {key: highest(a[key], b[key]) if isinstance(a[key], dict) else max(a[key], b[key]) for key in a}


def summarise(models: list[Model], cases: list[Case], peaks: dict, scaling: dict, rounds: int) -> dict:
    kernel = next(w.kernel for m in models for w in m.workers if w.engine.name == "intentd")
    limits = Limits(peaks, kernel)
    rows = [row for model in models for case in cases for row in compare_engines(model, case, limits)]
    engines = [
        {
            "model": model.name,
            "engine": worker.engine.name,
            "kernel": worker.kernel,
            "resident_mb": worker.resident_bytes / 1e6,
            "cosine": model.cosines.get(worker.engine.name),
        }
        for model in models
        for worker in model.workers
    ]
    return {
        "machine": machine(),
        "instruction_set": kernel,
        "peaks": peaks,
        "rounds": rounds,
        "wall_over_cpu": statistics.median(row["median_us"] / row["cpu_us"] for row in rows),
        "engines": engines,
        "rows": rows,
        "scaling": scaling,
        "aims": aims(rows, scaling, kernel),
    }


@dataclass
class Limits:
    """What the CPU allows."""

    peaks: dict
    kernel: str

    def products_per_us(self, in_f32: bool) -> float:
        one = self.peaks["one_thread"]
        return 1e3 * (one["f32_fma"] if in_f32 else one["int8"][self.kernel])

    def time_us(self, products: int, weight_bytes: int) -> float:
        """The larger one of two: every product in int8, or every weight read once."""
        bandwidths = {int(size): speed for size, speed in self.peaks["read_bandwidth_gb_s"].items()}
        fitting = [size for size in sorted(bandwidths) if size << 20 >= weight_bytes] or [max(bandwidths)]
        return max(products / self.products_per_us(in_f32=False), weight_bytes / bandwidths[fitting[0]] / 1e3)


def compare_engines(model: Model, case: Case, limits: Limits) -> list[dict]:
    """A row for each engine that ran the case."""
    fastest = {}
    for worker in model.workers:
        ways = [model.samples.get((case.name, worker.engine.name, alone)) for alone in (False, True)]
        if any(ways):
            fastest[worker.engine] = min(filter(None, ways), key=lambda samples: statistics.median(samples.wall_us))
    medians = {engine: statistics.median(samples.wall_us) for engine, samples in fastest.items()}
    cpu_medians = {engine: statistics.median(samples.cpu_us) for engine, samples in fastest.items()}
    best_peer, best_peer_cpu = (
        min((median for engine, median in of.items() if engine.is_onnxruntime), default=math.nan)
        for of in (medians, cpu_medians)
    )
    products = model.products(case.lengths)
    rows = []
    for engine, samples in fastest.items():
        products_per_us = products / medians[engine]
        alone = samples is model.samples.get((case.name, engine.name, True))
        rows.append(
            {
                "model": model.name,
                "case": case.name,
                "tokens": case.tokens,
                "batch": case.batch,
                "all_tokens": sum(case.lengths),
                "engine": engine.name,
                "one_after_another": alone,
                "passes": len(samples.wall_us),
                "median_us": medians[engine],
                "min_us": min(samples.wall_us),
                "cpu_us": cpu_medians[engine],
                "ratio": medians[engine] / best_peer,
                "cpu_ratio": cpu_medians[engine] / best_peer_cpu,
                "gmac_s": products_per_us / 1e3,
                "share_of_peak": products_per_us / limits.products_per_us(engine.multiplies_f32),
                "limit_us": limits.time_us(products, model.weights()),
                "joules": statistics.median(samples.joules) if samples.joules else None,
            }
        )
    return rows


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields = dict(line.replace("\t", "").split(": ", 1) for line in lines if ": " in line)
    if "model name" not in fields:
        return platform.machine()
    return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"


if __name__ == "__main__":
    main()
