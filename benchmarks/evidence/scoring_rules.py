"""How the scores of one trained one-shot model rank known accuracies, by how they are taken.

    python benchmarks/evidence/scoring_rules.py RUN TRUTH [--out RESULT.json]

RUN is a run folder of NAS-Bench-201's space whose one-shot model is trained, TRUTH a CSV file with the columns
`architecture` (the benchmark's text) and `cifar10_test_200ep`. One thing is changed at a time: the run's own rule (what
is scored, on how many validation images, in ghost batches of which size) is the first row. To each the size is also
added: as the run's `search.size_bonus` does (multiply-adds), where it is in the same unit, and as ranks of parameters.
Beside RESULT.json goes a figure of the first row with `size_bonus`; rows that RESULT.json has are not done again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from nasbench201 import COLUMN, truth_of
from one_shot import agreement, interval, joined, made, subject_of

from supernet import cost_table
from supernet.base.files import write_json, write_text
from supernet.draw.plots import published
from supernet.draw.svg import by_itself
from supernet.draw.units import Unit
from supernet.program.analyze import scores_of

WAYS: dict[str, dict[str, Any]] = {
    "as in the run": {},
    "accuracy": {"score": "metric"},
    "divergence from the reference outputs": {"score": "kl"},
    "256 images": {"examples": 256},
    "512 images": {"examples": 512},
    "1,024 images": {"examples": 1024},
    "4,096 images": {"examples": 4096},
    "ghost batches of 16": {"ghost_size": 16},
    "ghost batches of 256": {"ghost_size": 256},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("truth", type=Path, metavar="TRUTH")
    parser.add_argument("--out", type=Path, help="file that the result is joined to")
    chosen = parser.parse_args()
    subject = subject_of(chosen.run)
    cells, true, size = truth_of(chosen.truth)
    doublings = cost_table(subject.model.space).doublings(cells)
    found = joined(chosen.out)
    for name, changes in WAYS.items():
        if name in found:
            continue
        began = time.process_time()
        scores = np.array(scores_of(subject, cells, **changes))
        found[name] = {"made": made(), "seconds": round(time.process_time() - began), **agreement(scores, size, true)}
        if "score" not in changes:
            judged = scores + subject.config.search.size_bonus * doublings
            found[name]["with size_bonus"] = interval(judged, true)
            if chosen.out and not changes:
                pairs = zip(judged.tolist(), true.tolist(), strict=True)
                points = [{"score": value, "accuracies": [accuracy]} for value, accuracy in pairs]
                drawn = published(points, COLUMN, Unit.of(subject.config.task.metric_name, subject.config.search.score))
                write_text(chosen.out.with_suffix(".svg"), by_itself(drawn))
        print(
            name,
            {row: value.get("tau") for row, value in found[name].items() if row not in ("made", "seconds")},
            flush=True,
        )
        if chosen.out:
            write_json(chosen.out, found)


if __name__ == "__main__":
    main()
