"""Writes the ceiling of a result file anew, from the repeats of its own points, without training anything.

    python benchmarks/evidence/ceilings.py docs/results/paper.json

Files that were made before the ceiling was what the true quality reaches (`supernet.trust.noise.ceiling`) hold the tau
between two single trainings in its place.
"""

from __future__ import annotations

import sys
from pathlib import Path

from supernet.base.files import read_json, write_json
from supernet.trust.noise import ceiling


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        result = read_json(path)
        result["trust"]["ceiling"] = ceiling([point["accuracies"] for point in result["points"]])
        write_json(path, result)
        print(path, result["trust"]["ceiling"])


if __name__ == "__main__":
    main()
