"""What intentd's encoder is meant to reach, and whether it does. All times are medians of one run: wall
times decide; CPU times stand beside them, since they are nearer the truth on a machine that is not quiet."""

from dataclasses import asdict, dataclass

# Model, tokens: its time over that of ONNX Runtime's best form.
OVER_ONNXRUNTIME = {
    ("base", 8): (0.75, 0.60),
    ("base", 32): (0.85, 0.70),
    ("base", 128): (0.95, 0.75),
    ("small", 8): (0.65, 0.50),
    ("small", 32): (0.75, 0.60),
    ("small", 128): (0.85, 0.70),
}
OVER_TRACT_F32 = 0.35
OVER_RTEN = 0.50
BERT_BASE_OVER_BASE = 7.0
MINILM_OVER_SMALL = (2.5, 3.5)
# Model: its time over the limit; with VNNI, whose limit lies far higher, every model's.
OVER_LIMIT = {"base": 1.5, "small": 1.7}
OVER_LIMIT_VNNI = 2.5
LIMIT_FROM_TOKENS = 16
BATCHED_OVER_ALONE = 0.90
THREADS_OVER_LOOP = 0.9


@dataclass(frozen=True)
class Aim:
    """A value, and what it must be and is hoped to be."""

    aim: str
    value: float | None
    must: float
    stretch: float | None = None
    at_least: bool = False

    def as_dict(self) -> dict:
        return asdict(self) | {"reached": self._holds(self.must), "stretch_reached": self._holds(self.stretch)}

    def _holds(self, bound: float | None) -> bool | None:
        if self.value is None or bound is None:
            return None
        return self.value >= bound if self.at_least else self.value <= bound


class Times:
    """Median wall or CPU times by model, case and engine."""

    def __init__(self, rows: list[dict], time: str, ratio: str):
        self.time, self.ratio = time, ratio
        self.rows = {(row["model"], row["case"], row["engine"]): row for row in rows}

    def quotient(self, of: tuple[str, str, str], over: tuple[str, str, str]) -> float | None:
        if of not in self.rows or over not in self.rows:
            return None
        return self.rows[of][self.time] / self.rows[over][self.time]

    def ours(self, model: str) -> list[dict]:
        return [row for (of, _, engine), row in self.rows.items() if (of, engine) == (model, "intentd")]


def aims(rows: list[dict], scaling: dict, kernel: str) -> list[dict]:
    """Every aim with its value; none where this run did not measure it."""
    by_wall = compare(Times(rows, "median_us", "ratio"), scaling, kernel)
    by_cpu = compare(Times(rows, "cpu_us", "cpu_ratio"), scaling, kernel)
    return [wall.as_dict() | {"cpu_value": cpu.value} for wall, cpu in zip(by_wall, by_cpu, strict=True)]


def compare(times: Times, scaling: dict, kernel: str) -> list[Aim]:
    found = [
        Aim(f"{model}, {tokens} tokens: over ONNX Runtime's best form", ratio(times, model, tokens), must, stretch)
        for (model, tokens), (must, stretch) in OVER_ONNXRUNTIME.items()
    ]
    base = ("base", "1 x 32", "intentd")
    found += [
        Aim("base, 32 tokens: over tract f32", times.quotient(base, ("base", "1 x 32", "tract-f32")), OVER_TRACT_F32),
        *(
            Aim(f"{model}, 32 tokens: over rten's best form", over_rten(times, model), OVER_RTEN)
            for model in OVER_LIMIT
        ),
        Aim(
            "BERT-base f32 in ONNX Runtime over base, 32 tokens",
            times.quotient(("bert-base", "1 x 32", "ort-f32"), base),
            BERT_BASE_OVER_BASE,
            at_least=True,
        ),
        *(
            Aim(
                f"MiniLM-L6 dynamic int8 in ONNX Runtime over small, {tokens} tokens",
                times.quotient(("minilm", f"1 x {tokens}", "ort-dynamic-fused"), ("small", f"1 x {tokens}", "intentd")),
                *MINILM_OVER_SMALL,
                at_least=True,
            )
            for tokens in (8, 32)
        ),
    ]
    for model, without_vnni in OVER_LIMIT.items():
        must = OVER_LIMIT_VNNI if "vnni" in kernel else without_vnni
        what = f"{model}: over the limit, the worst from {LIMIT_FROM_TOKENS} tokens on"
        found.append(Aim(what, over_limit(times, model), must))
        batch = times.quotient((model, "32 x 12", "intentd"), (model, "1 x 12", "intentd"))
        what = f"{model}, 32 utterances of 12 tokens: each over one alone"
        found.append(Aim(what, batch and batch / 32, BATCHED_OVER_ALONE))
        gain = scaling.get(model)
        what = f"{model}: gain of two threads over the register-only loop's"
        found.append(Aim(what, gain and gain["engine"] / gain["register_loop"], THREADS_OVER_LOOP, at_least=True))
    return found


def ratio(times: Times, model: str, tokens: int) -> float | None:
    row = times.rows.get((model, f"1 x {tokens}", "intentd"))
    return row and row[times.ratio]


def over_rten(times: Times, model: str) -> float | None:
    ours = (model, "1 x 32", "intentd")
    quotients = [times.quotient(ours, (model, "1 x 32", engine)) for engine in ("rten-f32", "rten-dynamic")]
    return max(filter(None, quotients), default=None)


def over_limit(times: Times, model: str) -> float | None:
    single = [row for row in times.ours(model) if row["batch"] == 1 and row["tokens"] >= LIMIT_FROM_TOKENS]
    return max((row[times.time] / row["limit_us"] for row in single), default=None)
