"""How often a verdict claims that scores predict, where they do not, and where they do.

    python benchmarks/evidence/claims.py [--draws 2000] [--out benchmarks/results/claims_DATE.json]

Each scenario draws networks again and again, and asks `supernet.trust.verdict` for its finding. In WRONG the claim is
never right: scores are independent of accuracies, or explained by sizes or by an untrained model. In RIGHT it is.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.base.files import read_json, write_json
from supernet.trust.beyond import given
from supernet.trust.correlation import evidence
from supernet.trust.ranks import Population, estimate, leave_one_out
from supernet.trust.verdict import finding

Numbers = NDArray[np.float64]
Draw = dict[str, Any]
"""Arguments of `supernet.trust.correlation.evidence`."""

NETWORKS = (8, 10, 12, 30, 100)


class Networks:
    """Random numbers for n networks."""

    def __init__(self, n: int, generator: np.random.Generator) -> None:
        self.n = n
        self.generator = generator

    def normal(self) -> Numbers:
        return self.generator.normal(size=self.n)

    def outliers(self) -> Numbers:
        """A Cauchy distribution."""
        return self.generator.standard_cauchy(self.n)

    def clusters(self) -> Numbers:
        """Two clusters, ten deviations apart."""
        return 10.0 * (self.generator.random(self.n) < 0.5) + self.normal()

    def mostly_chance(self) -> Numbers:
        """One in five networks learns; the others have the accuracy of guessing."""
        return np.where(self.generator.random(self.n) < 0.2, 0.5 + 0.1 * self.normal(), 0.1)

    def few_levels(self) -> Numbers:
        return np.round(self.normal())

    def repeats(self, quality: Numbers, noise: float) -> Numbers:
        """Two trainings of each."""
        return quality[:, None] + noise * self.generator.normal(size=(self.n, 2))


def in_strata(networks: Networks, per_bucket: int) -> Draw:
    """As `supernet analyze` draws: from each bucket of the score of 3,000 candidates; about n networks."""
    generator = networks.generator
    candidates = 0.6 + 0.1 * generator.normal(size=3000)
    width = float(np.ptp(candidates)) * per_bucket / networks.n
    places = np.floor(candidates / width + 1e-9).astype(int)
    drawn = np.concatenate(
        [generator.permutation(np.flatnonzero(places == place))[:per_bucket] for place in np.unique(places)]
    )
    scores = candidates[drawn]
    accuracies = generator.normal(size=(len(drawn), 2))
    return {"scores": scores, "accuracies": accuracies, "population": Population.of(scores, candidates, width)}


def explained(networks: Networks, size: Numbers, sign: int, *, noise: float = 0.5) -> Draw:
    """Scores and accuracies that follow one size and nothing else, with a second size and an untrained model beside."""
    scores, quality = (sign * size + noise * size.std() * networks.normal() for _ in range(2))
    return {
        "scores": scores, "accuracies": networks.repeats(quality, 0.2),
        "sizes": {"params": size, "macs": size + 0.2 * size.std() * networks.normal()},
        "untrained": networks.normal(),
    }  # fmt: skip


def two_sizes(networks: Networks, noise: float) -> Draw:
    """The difference of two sizes explains both, of which each alone explains half."""
    first, second = networks.normal(), networks.normal()
    scores, quality = first - second + noise * networks.normal(), first - second + 0.5 * networks.normal()
    return {"scores": scores, "accuracies": quality, "sizes": {"params": first, "macs": second}}


def of_untrained(networks: Networks, noise: float) -> Draw:
    untrained = networks.normal()
    scores, quality = untrained + noise * networks.normal(), untrained + 0.5 * networks.normal()
    return {"scores": scores, "accuracies": quality, "untrained": untrained}


def minus_size(networks: Networks) -> Draw:
    size = networks.normal()
    return {"scores": -size, "accuracies": -size + 0.5 * networks.normal(), "sizes": {"params": size}}


def related(networks: Networks, tau: float) -> Draw:
    """Scores and accuracies with a true tau, two sizes and an untrained model that have nothing to do with them."""
    rho, scores, size = math.sin(math.pi * tau / 2), networks.normal(), networks.normal()
    quality = rho * scores + math.sqrt(1 - rho**2) * networks.normal()
    sizes = {"params": size, "macs": size + 0.2 * networks.normal()}
    return {"scores": scores, "accuracies": quality, "sizes": sizes, "untrained": networks.normal()}


def independent(scores: Callable[[Networks], Numbers], accuracies: Callable[[Networks], Numbers]) -> Any:
    return lambda networks: {"scores": scores(networks), "accuracies": accuracies(networks)}


Scenario = Callable[[Networks], Draw]
WRONG: dict[str, Scenario] = {
    "independent": independent(Networks.normal, Networks.normal),
    "independent, one in five above chance": independent(Networks.normal, Networks.mostly_chance),
    "independent, few levels of both": independent(Networks.few_levels, Networks.few_levels),
    "independent, outliers in both": independent(Networks.outliers, Networks.outliers),
    "independent, two clusters in both": independent(Networks.clusters, Networks.clusters),
    "independent, in strata of 4": lambda networks: in_strata(networks, 4),
    "independent, in strata of 1": lambda networks: in_strata(networks, 1),
    "size": lambda networks: explained(networks, networks.normal(), 1),
    "size, other sign": lambda networks: explained(networks, networks.normal(), -1),
    "size, uneven": lambda networks: explained(networks, np.exp(networks.normal()), 1),
    "size, two clusters": lambda networks: explained(networks, networks.clusters(), 1),
    "minus size itself": minus_size,
    "two sizes together": lambda networks: two_sizes(networks, 0.3),
    "two sizes together, exactly": lambda networks: two_sizes(networks, 0.0),
    "untrained model": lambda networks: of_untrained(networks, 0.5),
    "untrained model itself": lambda networks: of_untrained(networks, 0.0),
}
RIGHT: dict[str, Scenario] = {"tau 0.5": lambda networks: related(networks, 0.5)}


def claims(scenario: Scenario, n: int, draws: int, seed: int = 0) -> int:
    """In how many draws of n networks the finding is that scores predict."""
    generator = np.random.default_rng([seed, n])
    count = 0
    for _ in range(draws):
        arguments = scenario(Networks(n, generator))
        count += may_claim(arguments) and finding(evidence(**arguments)) == "predict"
    return count


def may_claim(arguments: Draw) -> bool:
    """Whether all intervals lie above 0, without which nothing is claimed: to look at them first saves most time."""
    accuracies, population = np.asarray(arguments["accuracies"]), arguments.get("population")
    mean = accuracies.mean(1) if accuracies.ndim == 2 else accuracies
    weights = None if population is None else population.pair_weights
    rows = [estimate(leave_one_out(arguments["scores"], mean, weights))]
    explanations = [
        *arguments.get("sizes", {}).values(),
        *([arguments["untrained"]] if "untrained" in arguments else ()),
    ]
    if explanations and is_above(rows[0]):
        rows += given(arguments["scores"], mean, explanations).values()
    return all(map(is_above, rows))


def is_above(row: Mapping[str, Any]) -> bool:
    return row["interval"] is not None and row["interval"][0] > 0


def counts(
    scenarios: dict[str, Scenario], networks: tuple[int, ...], draws: int, rows: dict[str, dict[str, int]]
) -> Iterator[None]:
    """Adds the scenarios that are not there yet, one at a time."""
    for name, scenario in scenarios.items():
        if name not in rows:
            rows[name] = {str(n): claims(scenario, n, draws) for n in networks}
            print(f"{name}: " + ", ".join(f"{n}: {count / draws:.2%}" for n, count in rows[name].items()), flush=True)
            yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="JSON; scenarios that it holds already are not run again")
    chosen = parser.parse_args()
    result: dict[str, Any] = {"draws": chosen.draws, "numpy": np.__version__, "wrong": {}, "right": {}}
    if chosen.out and chosen.out.exists():
        result = read_json(chosen.out)
        if result["draws"] != chosen.draws:
            parser.error(f"--draws: {chosen.out} was made with {result['draws']}")
    for _ in itertools.chain(
        counts(RIGHT, (30,), chosen.draws, result["right"]), counts(WRONG, NETWORKS, chosen.draws, result["wrong"])
    ):
        if chosen.out:
            write_json(chosen.out, result)


if __name__ == "__main__":
    main()
