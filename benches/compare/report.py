"""What a run found: as text for the terminal, and as tables and a plot for docs/performance.md."""

from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, PLOT = DOCS / "performance.md", DOCS / "performance.svg"
BEGIN, END = "<!-- compare:begin -->", "<!-- compare:end -->"

PLOTTED = {
    "intentd": "C3",
    "ort-static": "C0",
    "ort-f32": "C9",
    "rten-dynamic": "C2",
    "tract-f32": "C1",
    "candle-f32": "C7",
}


def check_docs(wanted: bool) -> None:
    """Says before the long run that its result would have no place."""
    if wanted and not (PAGE.is_file() and BEGIN in (text := PAGE.read_text(encoding="utf-8")) and END in text):
        raise SystemExit(f"compare.py: --write-docs needs docs/{PAGE.name} with the lines {BEGIN} and {END}")


def as_text(result: dict) -> str:
    """Tables with aligned columns."""
    parts = [head(result)]
    for title, rows in tables(result):
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        parts.append("\n".join([title, *lines]))
    return "\n\n".join(parts)


def write_docs(result: dict) -> None:
    """Replaces what stands between the markers, and the plot."""
    parts = [head(result), f"![Time of a pass over tokens]({PLOT.name})"]
    for title, (header, *rows) in tables(result):
        lines = [header, ["---"] * len(header), *rows]
        parts.append("\n".join([f"### {title}", "", *("| " + " | ".join(line) + " |" for line in lines)]))
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    PAGE.write_text(before + "\n" + "\n\n".join(parts) + "\n" + after, encoding="utf-8")
    plot(result)


def head(result: dict) -> str:
    """The machine and its peaks in a paragraph."""
    one, kernel = result["peaks"]["one_thread"], result["instruction_set"]
    bandwidth = ", ".join(f"{gb:.0f} ({mib} MiB)" for mib, gb in result["peaks"]["read_bandwidth_gb_s"].items())
    return (
        f"{result['machine']}, kernel {kernel}; one thread, {result['rounds']} rounds, wall over CPU time "
        f"{result['wall_over_cpu']:.2f} (well above 1: something else was running). Register-only loops reach "
        f"{one['int8'][kernel]:.0f} GMAC/s in int8, {one['f32_fma']:.0f} in f32 with fused multiply-add and "
        f"{one['f32_multiply_add']:.0f} without; reading reaches, in GB/s, {bandwidth}."
    )


def tables(result: dict) -> list[tuple[str, list[list[str]]]]:
    """Titles and rows, the first of them the header."""
    models = dict.fromkeys(row["model"] for row in result["rows"])
    return [
        *((f"{model}: median time of a pass, ms", times(result, model)) for model in models),
        ("intentd beside its peers and the limit", intentd(result)),
        ("Engines", engines(result)),
        ("Aims", aims(result)),
    ]


def times(result: dict, model: str) -> list[list[str]]:
    rows = [row for row in result["rows"] if row["model"] == model]
    names, cases = (list(dict.fromkeys(row[key] for row in rows)) for key in ("engine", "case"))
    by_place = {(row["engine"], row["case"]): row for row in rows}
    table = [["engine", *cases]]
    for name in names:
        cells = [by_place.get((name, case)) for case in cases]
        table.append([name, *("" if row is None else milliseconds(row) for row in cells)])
    return table


def milliseconds(row: dict) -> str:
    """With a star where the engine was faster without batching."""
    return f"{row['median_us'] / 1e3:.3g}" + ("*" if row["one_after_another"] else "")


def intentd(result: dict) -> list[list[str]]:
    header = ["model", "case", "ms", "over best ORT", "in CPU time", "GMAC/s", "of int8 peak", "over limit", "mJ"]
    return [
        header,
        *(
            [
                row["model"],
                row["case"],
                f"{row['median_us'] / 1e3:.3g}",
                f"{row['ratio']:.2f}",
                f"{row['cpu_ratio']:.2f}",
                f"{row['gmac_s']:.0f}",
                f"{row['share_of_peak']:.0%}",
                f"{row['median_us'] / row['limit_us']:.2f}",
                "not readable" if row["joules"] is None else f"{row['joules'] * 1e3:.3g}",
            ]
            for row in result["rows"]
            if row["engine"] == "intentd"
        ),
    ]


def engines(result: dict) -> list[list[str]]:
    return [
        ["model", "engine", "kernel", "resident, MB", "cosine to f32"],
        *(
            [
                engine["model"],
                engine["engine"],
                engine["kernel"],
                f"{engine['resident_mb']:.0f}",
                "" if engine["cosine"] is None else f"{engine['cosine']:.4f}",
            ]
            for engine in result["engines"]
        ),
    ]


def aims(result: dict) -> list[list[str]]:
    def verdict(aim: dict) -> str:
        if aim["reached"] is None:
            return "not measured"
        return ("stretch reached" if aim["stretch_reached"] else "reached") if aim["reached"] else "MISSED"

    return [
        ["aim", "value", "in CPU time", "must", "stretch", "verdict"],
        *(
            [
                aim["aim"],
                *("" if aim[key] is None else f"{aim[key]:.2f}" for key in ("value", "cpu_value")),
                f"{'at least' if aim['at_least'] else 'at most'} {aim['must']:.2f}",
                "" if aim["stretch"] is None else f"{aim['stretch']:.2f}",
                verdict(aim),
            ]
            for aim in result["aims"]
        ),
    ]


def plot(result: dict) -> None:
    """Time over tokens of one utterance, both sizes, both axes logarithmic, above what the CPU allows."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # Text stays text, and the same numbers give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "compare", "font.size": 9})
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for panel, model in zip(panels, ("small", "base"), strict=True):
        rows = [row for row in result["rows"] if row["model"] == model and row["batch"] == 1]
        for engine, colour in PLOTTED.items():
            points = [(row["tokens"], row["median_us"] / 1e3) for row in rows if row["engine"] == engine]
            width = 2.2 if engine == "intentd" else 1.2
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, lw=width, color=colour, label=engine)
        limit = [(row["tokens"], row["limit_us"] / 1e3) for row in rows if row["engine"] == "intentd"]
        panel.plot(*zip(*limit, strict=True), color="black", ls="--", lw=1, label="limit of this CPU")
        ticks = sorted({row["tokens"] for row in rows} - {12})
        panel.set(xscale="log", yscale="log", title=model, xlabel="tokens", ylabel="ms a pass")
        panel.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8, frameon=False)
    figure.savefig(PLOT, metadata={"Date": None})
