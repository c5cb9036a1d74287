"""The tables of docs/performance.md and docs/strategies.md, each a function of the result files (see documents.py)."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from formats import Results, percent, plain, ratio, rows_as_table


def made_with(results: Results, name: str) -> str:
    """How a benchmark was run, and the file that it wrote."""
    file = results(name)
    command: str = file["command"]
    options: list[str] = []
    while len(command) > 108:
        command, _, option = command.rpartition(" --")
        options.insert(0, f"--{option}")
    lines = " \\\n        ".join([command, *([" ".join(options)] if options else [])])
    return (
        f"    {lines}\n\n[File](../benchmarks/results/{name}.json) of {file['date']}: {file['machine']}, torch "
        f"{file['torch']}.\n"
    )


def one_shot_step(results: Results) -> str:
    name = "one_shot_step_2026-11-28"
    file = results(name)
    images, memory = file["images per second"], file["peak memory in MB"]
    rows = [
        ("speed against computing every option", "10 times", f"**{ratio(file['plain / ours'], 1)} times**"),
        ("images/s, ours and computing every option", "-", f"{images['ours']:.0f} and {images['plain']:.0f}"),
        (
            "peak memory against that", "at most 0.35",
            f"**{plain(file['peak memory, ours / plain'])}** ({memory['ours']:,.0f} and {memory['plain']:,.0f} MB)",
        ),
        ("speed against single precision", "-", f"{ratio(file['fp32 / ours'])} times"),
        ("and with torch's kernels too", "-", f"{ratio(file[_TORCH])} times"),
        ("share of the limit that is reached", "-", percent(file["limit"]["reached"])),
    ]  # fmt: skip
    return made_with(results, name) + "\n" + rows_as_table(("one-shot step", "goal", "measured"), rows)


_TORCH = "fp32, torch's kernels / ours"


def overhead(results: Results) -> str:
    name = "overhead_2026-11-28"
    file = results(name)
    rows = [
        (
            "time with one architecture live, against the stand-alone network", "at most 1.10",
            f"**{ratio(file['one-shot, one architecture / alone'])}**",
        ),
        (
            "drawing paths and choosing what to run, share of a step", "under 2 %",
            f"**{percent(file['share of choosing in a step'], 2)}**",
        ),
    ]  # fmt: skip
    return made_with(results, name) + "\n" + rows_as_table(("overhead", "goal", "measured"), rows)


def nasbench201_step(results: Results) -> str:
    name = "nasbench201_step_2026-11-28"
    file = results(name)
    rows = []
    for key, title, goal in (("--precision auto", "half", "4 times"), ("--precision 32-true", "single", "2.5 times")):
        one = file[key]
        images = one["images per second"]
        rows.append(
            (
                title, goal, f"**{ratio(one['NNI / ours'])} times**", f"{images['ours']:,.0f}", f"{images['NNI']:,.0f}",
                percent(one["limit"]["reached"]),
            )
        )  # fmt: skip
    head = ("precision", "goal", "speed against NNI's loop", "images/s", "NNI's images/s", "limit reached")
    return made_with(results, name) + "\n" + rows_as_table(head, rows)


def stand_alone(results: Results) -> str:
    name = "stand_alone_2026-11-28"
    file = results(name)
    rows = [
        (
            key, "2 times", f"**{ratio(one['ordinary loop / ours'])} times**",
            f"{plain(one['times the ordinary loop, by medians']['one network'])} times",
            percent(one["share of feeding in a step"]["median"], 1),
        )
        for key, one in file.items()
        if isinstance(one, dict)
    ]  # fmt: skip
    head = ("space", "goal", "several side by side", "a single network", "feeding data, of a step")
    return made_with(results, name) + "\n" + rows_as_table(head, rows)


def growth(results: Results) -> str:
    name = "growth_2026-11-28"
    file = results(name)
    options = file["options: 2 / 8 / 32, step"]
    drawn = file["architectures drawn and costed: 2,000 / 20,000"]
    rows = [
        ("step with 32 options in place of 2, one live", "1 times", f"{plain(options['32 / 2']['median'])} times"),
        ("step with 8 options in place of 2", "1 times", f"{plain(options['8 / 2']['median'])} times"),
        (
            "scoring 4 times the candidates", "4 times",
            f"{plain(file['candidates: 16 / 64, each 64 examples']['64 / 16']['median'])} times",
        ),
        (
            "scoring on 4 times the examples", "4 times",
            f"{plain(file['examples: 64 / 256, 16 candidates']['256 / 64']['median'])} times",
        ),
        ("drawing 20,000 distinct architectures with costs", "1 s", f"{plain(drawn['seconds']['20000'])} s"),
    ]  # fmt: skip
    return made_with(results, name) + "\n" + rows_as_table(("growth", "expected", "measured"), rows)


def racing(results: Results) -> str:
    name = "scoring_2026-11-25"
    file = results(name)
    found = file["of the 100 found, among the true 100 (or equal to the last of them)"]
    rows = [
        (
            "speed against one candidate after the other in single precision", "25 times",
            f"**{plain(file['plain / racing'], 1)} times**",
        ),
        (
            "seconds of the race, and of the plain way", "-",
            f"{file['racing seconds']:,.0f} and {file['plain seconds, extrapolated']:,.0f}",
        ),
        ("of the 100 found, among the true 100", "at least 95", f"**{found}**"),
        (
            f"Kendall's tau of half and single precision on {file['tau of candidates']} candidates", "at least 0.98",
            f"**{plain(file['Kendall tau, this precision and single'], 3)}**",
        ),
        ("share of the limit that is reached", "-", percent(file["limit"]["reached"])),
    ]  # fmt: skip
    return made_with(results, name) + "\n" + rows_as_table(("racing", "goal", "measured"), rows)


KERNEL_FILES = {
    "kernels_2026-11-25": "EPYC, AVX-512, bfloat16",
    "kernels_avx512_2026-11-28": "Xeon, AVX-512",
    "kernels_avx2_2026-11-28": "EPYC, AVX2",
}
KERNELS = {
    "average pool": ("average pool 3x3",),
    "max pool": ("max pool 3x3",),
    "batch norm with ReLU": ("batch norm and ReLU",),
    "depthwise 3x3": ("depthwise 3x3",),
    "depthwise 5x5 and 7x7": ("depthwise 5x5", "depthwise 7x7"),
    "1x1 as a matrix product": ("1x1 as a product",),
}


def kernels(results: Results) -> str:
    def cell(name: str, kinds: tuple[str, ...], precision: str) -> str:
        ratios = [
            row["torch / ours"]
            for key, row in results(name).items()
            if key.startswith(kinds) and key.endswith(precision)
        ]
        return f"{plain(min(ratios), 1)} to {plain(max(ratios), 1)}" if ratios else "-"

    columns = [(name, precision) for name in KERNEL_FILES for precision in ("float32", "bfloat16")]
    columns = [column for column in columns if column[1] == "float32" or "bfloat16" in KERNEL_FILES[column[0]]]
    head = ("kernel", *(f"{KERNEL_FILES[name].removesuffix(', bfloat16')}, {kind}" for name, kind in columns))
    rows = [(title, *(cell(name, kinds, kind) for name, kind in columns)) for title, kinds in KERNELS.items()]
    files = ", ".join(f"[{KERNEL_FILES[name]}](../benchmarks/results/{name}.json)" for name in KERNEL_FILES)
    command = results(next(iter(KERNEL_FILES)))["command"]
    return f"    {command}\n\n{rows_as_table(head, rows)}\n\nFiles:\n" + files.replace("), ", "),\n")


def side_by_side(results: Results) -> str:
    name = "side_by_side_2026-11-24"
    rows = [
        (
            key, ratio(one["training: all cores on each operation / side by side"]),
            ratio(one["scoring: 8 ghost batches in a forward pass / 1"]),
        )
        for key, one in results(name).items()
        if isinstance(one, dict)
    ]  # fmt: skip
    head = ("network", "training, side by side", "scoring, one ghost batch in a pass")
    return made_with(results, name) + "\n" + rows_as_table(head, rows)


# README.md


def demo(results: Results) -> str:
    """What `supernet show` printed of the run, without the winner's architecture."""
    file = results("demo")
    lines = [line for line in file["printed"] if len(line) <= 100]
    kernels = "torch's kernels" if not file["kernels"] else "the project's kernels"
    block = "\n".join(f"    {line}".rstrip() for line in lines)
    return f"{block}\n\n{file['date']}, {file['machine']}, torch {file['torch']}, {file['precision']}, {kernels}."


def demo_verdict(results: Results) -> str:
    verdict = results("demo")["trust"]["verdict"]
    return textwrap.fill(verdict, 118, initial_indent="> ", subsequent_indent="> ")


# docs/strategies.md

MARKS = (50, 100, 200, 500)


def strategies(results: Results) -> str:
    file = results("strategies_nasbench201_fashion_2026-11-25")
    places = [file["marks"].index(mark) for mark in MARKS]

    def regret(row: dict[str, list[float]], place: int) -> str:
        median, low, high = (plain(100 * row[name][place]) for name in ("median", "low", "high"))
        return f"{median} ({low} to {high})"

    rows = [(f"`{name}`", *(regret(row, place) for place in places)) for name, row in file["regret"].items()]
    return rows_as_table(("strategy", *(f"{mark} candidates" for mark in MARKS)), rows)


def strategies_digits(results: Results) -> str:
    file = results("strategies_nasbench201_2026-11-25")
    place = file["marks"].index(500)
    head = ("candidates", *(f"`{name}`" for name in file["regret"]))
    return rows_as_table(head, [("500", *(plain(100 * row["mean"][place]) for row in file["regret"].values()))])


def latency(results: Results) -> str:
    file = results("latency_2026-11-30")
    rows = [
        (
            f"`{name}` ({row['settings']})", str(row["modules timed"]), f"{row['seconds']:.0f} s", plain(row["factor"]),
            f"{plain(row['microseconds for each module'], 1)} µs",
            f"{percent(row['mean error'], 1)} ({percent(row['largest error'], 1)})",
            f"{percent(row['its own check']['mean error'], 1)} ({percent(row['its own check']['largest error'], 1)})",
        )
        for name, row in file.items()
        if isinstance(row, dict)
    ]  # fmt: skip
    networks = {row["other networks"] for row in file.values() if isinstance(row, dict)}
    loads = file["load average of the last minute, before and after each"]
    head = ("space", "modules", "time", "factor", "each", f"off, {max(networks)} other networks", "off, own check")
    return (
        f"{made_with(results, 'latency_2026-11-30')}"
        f"Load average of the machine meanwhile: {plain(min(loads), 1)} to {plain(max(loads), 1)}, of which this\n"
        f"benchmark is 1.\n\n{rows_as_table(head, rows)}"
    )


def scale(results: Results) -> str:
    """CPU time of work that is divided, against the same undivided."""
    file = results(_SCALE)
    rows = []
    for name in ("scoring", "trainings"):
        row = file[name]
        seconds = {way: times["driver"] + times["workers"] for way, times in row["seconds"].items()}
        rows.append(
            (
                name, *(plain(seconds[way], 1) for way in ("one process", "one worker", "two workers", "ray")),
                f"**{plain(row['cpu, one worker / two workers'])}**", plain(row["cpu, ray / two workers"]),
                plain(row["wall, ray / two workers"]),
            )
        )  # fmt: skip
    head = (
        "CPU seconds", "one process", "one worker", "two workers", "Ray, two", "one / two", "Ray / two", "in wall time"
    )  # fmt: skip
    loads = file["load average of the last minute, before and after"]
    note = f"Load average of the machine: {plain(loads[0], 1)} before and {plain(loads[1], 1)} after.\n"
    return f"{made_with(results, _SCALE)}{note}\n{rows_as_table(head, rows)}"


def scale_messages(results: Results) -> str:
    file = results(_SCALE)["messages"]
    driver = file["driver's seconds for a batch"]
    rows = [
        ("a candidate", f"{plain(1000 * file['seconds of a candidate'], 1)} ms"),
        ("candidates of a batch of two seconds", f"{file['candidates of a batch']}"),
        ("a batch and its result", f"{(file['bytes of a batch'] + file['bytes of its result']) / 1000:,.1f} kB"),
        ("model and examples, once for each worker", f"{file['bytes of model and examples'] / 1000:,.0f} kB"),
        ("the driver's time for a batch", f"{plain(1000 * driver, 1)} ms"),
    ]
    return rows_as_table(("what", "measured"), rows)


def scale_simulated(results: Results) -> str:
    rows = []
    for row in results(_SCALE)["simulated"]:
        longer = row["batches longer for 95 %"]
        needed = "more than 1,024 times" if longer is None else "as they are" if longer == 1 else f"{longer:,} times"
        rows.append((f"{row['workers']:,}", percent(row["busy"]), percent(row["driver"]), needed))
    return rows_as_table(("workers", "at work", "driver at work", "length of batches for 95 %"), rows)


def many_candidates(results: Results) -> str:
    file = results("many_2026-11-30")
    curve = file["search"]["curve"]
    rows = []
    for name, what in (
        ("search", "the search, without scoring"), ("again", "the same command again"), ("top", "`supernet top`"),
        ("top below the median size", "with a limit of parameters"), ("top in 3 bands", "in three bands of size"),
    ):  # fmt: skip
        facts = file[name]
        rows.append((what, f"{plain(facts['cpu_seconds'])} s", f"{facts['memory_mb']:,.0f} MB"))
    (first, low), (last, high) = curve[0], curve[-1]
    rows.append(("for each candidate more, during the search", "", f"{1000 * (high - low) / (last - first):.2f} kB"))
    title = f"{file['search']['candidates']:,} candidates"
    return made_with(results, "many_2026-11-30") + "\n" + rows_as_table((title, "CPU time", "memory added"), rows)


_SCALE = "scale_2026-11-30"


def networks(results: Results) -> str:
    name = "networks_2026-11-30"
    file = results(name)
    rows, remarks = [], []
    for network, one in file["networks"].items():
        failed = {form: text for form, text in one["export"].items() if not text[0].isdigit()}
        works = [_FORMS[form] for form in one["export"] if form not in failed]
        kinds = ", ".join(f"{number} {kind}" for kind, number in one["kinds"].items())
        size = f"{one['architectures']:,}" if one["architectures"] < 1e7 else f"{one['architectures']:.1e}"
        step = one["step"]
        rows.append(
            (
                network, kinds, size, f"{one['equality']['difference']:.2g}", ratio(step["in one pass"]),
                ratio(step["ghost by ghost"]), ", ".join(works),
            )
        )  # fmt: skip
        by_reason: dict[str, list[str]] = {}
        for module, reason in one["fixed"].items():
            by_reason.setdefault(reason.rpartition("(")[2].rstrip(")"), []).append(f"`{module}`")
        fixed = "; ".join(f"{_some(modules)}: {reason}" for reason, modules in by_reason.items())
        remarks.append(f"{network} keeps {fixed}")
        remarks += [f"{network}, {stage}: {one[stage]}" for stage in _STAGES if isinstance(one[stage], str)]
        remarks += [f"{network} is not exported as {_FORMS[form]}: {text}" for form, text in failed.items()]
    head = ("network", "choices", "architectures", "difference", "step", "ghost by ghost", "export")
    libraries = ", ".join(dict.fromkeys(one["library"] for one in file["networks"].values()))
    listed = "\n".join(textwrap.fill(f"- {text}", 118, subsequent_indent="  ") for text in remarks)
    made = textwrap.fill(f"Libraries: {libraries}.", 118)
    return f"{made_with(results, name)}\n{made}\n\n{rows_as_table(head, rows)}\n\n{listed}\n"


_STAGES = ("gate", "loss after four steps")
"""What holds a number, or an error as text."""

_FORMS = {"python": "Python", "torch": ".pt2", "onnx": "ONNX"}


def _some(modules: list[str]) -> str:
    return ", ".join(modules[:2]) + (f" and {len(modules) - 2} more" if len(modules) > 2 else "")


TABLES: dict[str, Callable[[Results], str]] = {
    "networks": networks,
    "demo": demo,
    "demo verdict": demo_verdict,
    "one-shot step": one_shot_step,
    "overhead": overhead,
    "NAS-Bench-201 step": nasbench201_step,
    "stand-alone": stand_alone,
    "growth": growth,
    "racing": racing,
    "kernels": kernels,
    "side by side": side_by_side,
    "strategies": strategies,
    "strategies on digits": strategies_digits,
    "latency": latency,
    "scale": scale,
    "many candidates": many_candidates,
    "messages": scale_messages,
    "simulated workers": scale_simulated,
}
"""By the name that a page gives."""
