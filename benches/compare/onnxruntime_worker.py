"""ONNX Runtime as a worker of the comparison: the same lines on stdin and stdout as the engines of `src/worker.rs`.

python benches/compare/onnxruntime_worker.py FORM.onnx
"""

import json
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

PADDING = 0


@cache
def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Prepared:
    """A batch as ONNX Runtime takes it: one rectangle, with a mask where sequences had to be padded."""

    def __init__(self, path: Path, sequences: list[list[int]]):
        self.lengths = [len(sequence) for sequence in sequences]
        longest = max(self.lengths)
        ids = np.full((len(sequences), longest), PADDING, np.int64)
        for row, sequence in zip(ids, sequences, strict=True):
            row[: len(sequence)] = sequence
        self.inputs = {"input_ids": ids}
        masked = path.with_stem(f"{path.stem}-masked")
        if min(self.lengths) == longest and path.exists():
            self.session = session(path)
        else:
            self.session = session(masked)
            self.inputs["attention_mask"] = (np.arange(longest) < np.array(self.lengths)[:, None]).astype(np.int64)

    def run(self) -> np.ndarray:
        return self.session.run(None, self.inputs)[0]

    def hidden(self) -> list[float]:
        rows = zip(self.run(), self.lengths, strict=True)
        return np.concatenate([row[:length] for row, length in rows]).ravel().tolist()


def answer(path: Path, request: dict) -> dict:
    sequences = request["sequences"]
    batches = [[sequence] for sequence in sequences] if request["alone"] else [sequences]
    prepared = [Prepared(path, batch) for batch in batches]
    if request["hidden"]:
        return {"hidden": [value for batch in prepared for value in batch.hidden()]}
    wall_us, cpu_us = [], []
    for timed in [False] * request["warm_ups"] + [True] * request["passes"]:
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        for batch in prepared:
            batch.run()
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        if timed:
            wall_us.append(wall / 1e3)
            cpu_us.append(cpu / 1e3)
    return {"wall_us": wall_us, "cpu_us": cpu_us}


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def say(message: dict) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    path = Path(sys.argv[1])
    session(path if path.exists() else path.with_stem(f"{path.stem}-masked"))
    say({"ready": True, "kernel": f"ONNX Runtime {onnxruntime.__version__}", "resident_bytes": resident_bytes()})
    for line in sys.stdin:
        say(answer(path, json.loads(line)))


if __name__ == "__main__":
    main()
