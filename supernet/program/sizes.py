"""Finalists at several sizes, tested in one opening of the test split (paper, Table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from supernet.program.config import at_size, retrained_space
from supernet.program.load import Loaded
from supernet.retrain.results import group_table, network_row
from supernet.retrain.trainings import Network, networks_of
from supernet.search.orders import Candidate
from supernet.space.choices import Architecture
from supernet.space.cost import cost_table


@dataclass(frozen=True, slots=True)
class Size:
    """The finalists at one value of a setting of the space.

    Attributes:
        setting, value: what the space differs by.
        networks: the finalists there, each with the folder of its trainings.
    """

    setting: str
    value: Any
    networks: list[Network]

    def of(self, networks: Sequence[Network]) -> Size:
        """The same with those of its networks that are among these."""
        return replace(self, networks=[network for network in self.networks if network in networks])

    @property
    def ids(self) -> list[str]:
        """What the networks are called where the test split is opened."""
        return [f"{network.id} at {self.setting}={self.value}" for network in self.networks]


def sizes_of(run: Loaded, finalists: Sequence[Architecture]) -> list[Size]:
    """The sizes that `retrain.at` names. At the size of `retrain` itself its own trainings are taken."""
    config, data = run.config, run.data
    own = retrained_space(config, data.classes, data.inputs)
    sizes = []
    for setting, values in config.retrain.at.items():
        for value in values:
            space = at_size("retrain.at", setting, value, run.space, config, len(data.classes), data.inputs)
            place = run.folder.retrain if space.settings == own.settings else run.folder.resized(setting, value)
            sizes.append(Size(setting, value, networks_of(space, finalists, place)))
    return sizes


def size_row(
    size: Size,
    groups: Mapping[str, Sequence[Architecture]],
    scored: Mapping[Architecture, Candidate],
    repeats: int,
    tested: Mapping[str, list[float]],
) -> dict[str, Any]:
    """What `results.json` holds of one size: `setting`, `value`, `groups` and `networks`.

    Args:
        size: the size.
        groups: of finalists.
        scored: the finalists as candidates.
        repeats: trainings of each network.
        tested: test metric of each training, by the network's id.
    """
    networks, trained = [], {network.id for network in size.networks}
    groups = {name: [a for a in members if a.id in trained] for name, members in groups.items()}
    for network in size.networks:
        row = network_row(cost_table(network.space), scored[network.architecture], network.folder.parent, repeats)
        networks.append({**row, "test": tested[network.id]})
    return {
        "setting": size.setting,
        "value": size.value,
        "groups": group_table(groups, networks),
        "networks": networks,
    }
