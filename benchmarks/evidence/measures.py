"""Measures of untrained networks of two benchmarks, written as CSV and set beside published values.

    python benchmarks/evidence/measures.py SPACE CIFAR10 ARCHITECTURES VALUES.csv [--published FILE --out RESULT.json]

SPACE is `nasbench201` or `macro`, at the benchmark's own size and 32 pixels. CIFAR10 is the folder with the images.
ARCHITECTURES is a CSV file with the column `architecture`; VALUES.csv gets the measures of each, and its sizes. A
command that was stopped continues with what stands there.
Sizes are those of what matters in an architecture. FILE has published values in the columns `architecture`, `jacov`,
`synflow` and `nwot`. One seed, 64 training images, one core unless `--threads` says otherwise.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from one_shot import made
from scipy import stats

from supernet import cost_table
from supernet.base.csv_file import read_numbers, read_table
from supernet.base.files import write_json, write_text
from supernet.data.splits import DataConfig, load
from supernet.search.measures import MEASURES, examples_of, measures_of
from supernet.space.choices import Space
from supernet.spaces import macro, nasbench201
from supernet.speed.runtime import RuntimeConfig, start

SPACES: dict[str, Callable[[], Space]] = {"nasbench201": nasbench201, "macro": macro}
WANTED = {"synflow": 0.95, "jacov": 0.85, "nwot": 0.85}
"""Rank correlation with published values that the project asks for."""


def texts_of(path: Path) -> list[str]:
    table = read_table(path)
    return table.texts(table.column("architecture"))


def measured(
    space: Space, texts: Sequence[str], images: Path, values: Path, seed: int, threads: int
) -> list[dict[str, Any]]:
    """A row for each architecture: its text, measures and sizes; those of the file are not measured again."""
    rows = read_rows(values, texts)
    runtime = start(RuntimeConfig(device="cpu", precision="32-true", threads=threads))
    data = load(DataConfig(name="cifar10", path=str(images), image_size=32, validation=5_000), seed=0)
    waiting = texts[len(rows) :]
    architectures = [space.parse(text) for text in waiting]
    lean = [a if space.simplified is None else space.simplified(a) for a in architectures]
    costs = cost_table(space).costs(lean).tolist() if lean else []
    batch = examples_of(data, seed=seed, device=runtime.device)
    measures = measures_of(space, architectures, batch, MEASURES, seed=seed, runtime=runtime)
    for text, (params, _, macs), value in zip(waiting, costs, measures, strict=True):
        rows.append({"architecture": text, **value, "params": params, "macs": macs})
        if len(rows) % 10 == 0 or len(rows) == len(texts):
            write_rows(values, rows)
            print(f"{len(rows)} of {len(texts)}", file=sys.stderr, flush=True)
    return rows


def read_rows(values: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a file of values, which are those of the first architectures."""
    if not values.exists():
        return []
    with values.open(newline="") as file:
        rows: list[dict[str, Any]] = [
            {name: text if name == "architecture" else float(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]
    if [row["architecture"] for row in rows] != list(texts[: len(rows)]):
        raise SystemExit(f"{values} has other architectures: delete it, or name another file")
    return rows


def write_rows(values: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.12g}" if isinstance(value, float) else value for name, value in row.items()}
                     for row in rows)  # fmt: skip
    write_text(values, buffer.getvalue())


def against(published: Path, rows: Sequence[Mapping[str, Any]], space: Space) -> dict[str, Any]:
    """Spearman's correlation of each measure with its published values, of the architectures that both have."""
    table = read_table(published)
    ours = {space.parse(row["architecture"]): row for row in rows}
    columns, _ = read_numbers(table, [table.column(name) for name in WANTED])
    theirs = zip(table.texts(table.column("architecture")), *columns, strict=True)
    both = [(ours[space.parse(text)], dict(zip(WANTED, values, strict=True))) for text, *values in theirs
            if space.parse(text) in ours]  # fmt: skip
    return {
        "architectures": len(both),
        "spearman": {
            name: round(float(stats.spearmanr([o[name] for o, _ in both], [t[name] for _, t in both])[0]), 4)
            for name in WANTED
        },
        "wanted": WANTED,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", choices=SPACES)
    parser.add_argument("images", type=Path, metavar="CIFAR10")
    parser.add_argument("architectures", type=Path, metavar="ARCHITECTURES")
    parser.add_argument("values", type=Path, metavar="VALUES.csv")
    parser.add_argument("--published", type=Path, help="CSV file with published values of the same architectures")
    parser.add_argument("--out", type=Path, help="JSON file for the correlations with them")
    parser.add_argument("--seed", type=int, default=0, help="of weights and images (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="networks measured side by side (default 1)")
    chosen = parser.parse_args()
    space = SPACES[chosen.space]()
    texts = texts_of(chosen.architectures)
    began = time.process_time()
    rows = measured(space, texts, chosen.images, chosen.values, chosen.seed, chosen.threads)
    seconds = time.process_time() - began
    if chosen.published is None:
        return
    result = {
        "command": f"python benchmarks/evidence/measures.py {chosen.space} CIFAR10 {chosen.architectures} "
        f"{chosen.values} --published {chosen.published.name} --out {chosen.out} --seed {chosen.seed}",
        **made(),
        "space": dict(space.settings),
        "seconds of processor time": round(seconds),
        **against(chosen.published, rows, space),
    }
    print(result)
    if chosen.out:
        write_json(chosen.out, result)


if __name__ == "__main__":
    main()
