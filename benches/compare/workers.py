"""Worker processes: an engine with a model loaded, asked for one batch at a time (protocol: `src/worker.rs`)."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Engine:
    """An engine, and the form of the model that it runs."""

    name: str
    worker: str
    """A name that the Rust program knows, or `onnxruntime`."""
    file: str
    slow: bool = False
    """Takes so long that a few passes at a few sizes must do."""

    batches: bool = True
    """Without it, more than one sequence at once gives wrong answers."""

    def ways(self, is_ragged: bool) -> list[bool]:
        """How it can run several utterances: together (false) or one after another (true), which may be faster than to
        pad where lengths differ."""
        if not self.batches:
            return [True]
        return [False, True] if is_ragged and self.pads else [False]

    @property
    def pads(self) -> bool:
        return self.worker not in ("intentd", "tract-int8")

    @property
    def is_onnxruntime(self) -> bool:
        return self.worker == "onnxruntime"

    @property
    def multiplies_f32(self) -> bool:
        return self.name.endswith("f32")


ENCODERS = [
    Engine("intentd", "intentd", "intentd.onnx"),
    Engine("ort-f32", "onnxruntime", "f32.onnx"),
    Engine("ort-dynamic", "onnxruntime", "dynamic.onnx"),
    Engine("ort-static", "onnxruntime", "static.onnx"),
    Engine("ort-static-qdq", "onnxruntime", "static-qdq.onnx"),
    Engine("ort-static-matmul", "onnxruntime", "static-matmul.onnx"),
    Engine("tract-f32", "tract", "f32.onnx"),
    Engine("tract-int8", "tract-int8", "intentd.onnx", slow=True),
    Engine("rten-f32", "rten", "f32.onnx"),
    Engine("rten-dynamic", "rten", "dynamic-reduced.onnx", batches=False),
    Engine("candle-f32", "candle", "candle.safetensors"),
]
ENGINES = {
    "small": ENCODERS,
    "base": ENCODERS,
    "minilm": [Engine("ort-dynamic-fused", "onnxruntime", "dynamic-fused.onnx")],
    "bert-base": [Engine("ort-f32", "onnxruntime", "f32.onnx")],
}

ONE_THREAD = {name: "1" for name in ("RTEN_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS")}


@dataclass
class Worker:
    """A process of one engine, on one CPU."""

    engine: Engine
    program: Path
    model: Path
    cpu: int
    kernel: str = ""
    resident_bytes: int = 0
    process: subprocess.Popen = field(init=False)

    def __post_init__(self) -> None:
        if self.engine.is_onnxruntime:
            command = [sys.executable, HERE / "onnxruntime_worker.py", self.model / self.engine.file]
        else:
            command = [self.program, "engine", self.engine.worker, self.model / self.engine.file]
        self.process = subprocess.Popen(
            ["taskset", "--cpu-list", str(self.cpu), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
        )

    def wait_until_ready(self) -> None:
        ready = self._read()
        self.kernel, self.resident_bytes = ready["kernel"], ready["resident_bytes"]

    def hidden(self, sequences: list[list[int]]) -> list[float]:
        """The last hidden states of a batch, token after token."""
        alone = not self.engine.batches
        return self._ask(sequences, alone=alone, warm_ups=0, passes=0, hidden=True)["hidden"]

    def time(self, sequences: list[list[int]], alone: bool, warm_ups: int, passes: int) -> dict[str, list[float]]:
        """Wall and CPU time of each pass, `wall_us` and `cpu_us`."""
        return self._ask(sequences, alone=alone, warm_ups=warm_ups, passes=passes, hidden=False)

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, sequences: list[list[int]], **how) -> dict:
        self.process.stdin.write(json.dumps({"sequences": sequences, **how}) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"compare.py: {self.engine.name} on {self.model.name} ended; see its message above")
        return json.loads(line)


class Energy:
    """Joules that the processor packages took since the last look; none where RAPL is not readable."""

    def __init__(self) -> None:
        folders = Path("/sys/class/powercap").glob("intel-rapl:?")
        self.domains = [folder for folder in folders if os.access(folder / "energy_uj", os.R_OK)]
        self.last = [self._counter(domain, "energy_uj") for domain in self.domains]

    def since_last(self) -> float | None:
        if not self.domains:
            return None
        now = [self._counter(domain, "energy_uj") for domain in self.domains]
        spans = [self._counter(domain, "max_energy_range_uj") for domain in self.domains]
        joules = sum((b - a) % span for a, b, span in zip(self.last, now, spans, strict=True)) / 1e6
        self.last = now
        return joules

    def _counter(self, domain: Path, name: str) -> int:
        return int((domain / name).read_text(encoding="ascii"))


def start(models: list[str], folder: Path, program: Path, cpu: int, with_slow: bool) -> dict[str, list[Worker]]:
    """All workers of these models, loaded and ready."""
    workers = {
        model: [
            Worker(engine, program, folder / model, cpu) for engine in ENGINES[model] if with_slow or not engine.slow
        ]
        for model in models
    }
    started = time.monotonic()
    for worker in (worker for of_model in workers.values() for worker in of_model):
        worker.wait_until_ready()
    print(f"compare.py: all engines loaded in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return workers
