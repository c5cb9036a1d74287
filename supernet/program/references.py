"""The references of a run: which networks the winner has to beat, and how wide they are."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from supernet.base.files import read_json, write_json
from supernet.program.config import Config, SpaceConfig, make_space, space_of
from supernet.program.load import Loaded
from supernet.retrain.trainings import Network
from supernet.search.latency import latency_costs
from supernet.search.limits import Region, shown
from supernet.space.choices import Space
from supernet.space.cost import CostTable, cost_table
from supernet.spaces import SPACES
from supernet.spaces.references import REFERENCES, settings_of, widest
from supernet.speed.runtime import Runtime

log = logging.getLogger(__name__)

_USUAL = ("resnet8", "wideresnet10", "mobilenetv2", "convnext")
"""The references of a run with a built-in space: the usual kinds of blocks."""

_FIRST = "the first options"
"""What the architecture of the first options is called."""


def reference_names(config: Config, space: Space) -> list[str]:
    """The references that a run asks for: names of known networks, or texts of architectures of its space."""
    if config.retrain.references is not None:
        return list(dict.fromkeys(config.retrain.references))
    return list(_USUAL) if config.space.name in SPACES else [str(space.first())]


def references_of(run: Loaded, winner: Mapping[str, Any], runtime: Runtime) -> list[Network]:
    """The references of a run. They are sized once, so that a killed run continues with the same ones.

    Args:
        run: whose finalists are trained.
        winner: row of the best candidate.
        runtime: its device is where latency is measured.
    """
    folder, config, data = run.folder, run.config, run.data
    if not folder.references.exists():
        write_json(folder.references, {"references": _sized(run, winner, runtime)}, digest=True)
    networks = []
    for row in read_json(folder.references, ("references",))["references"]:
        space = space_of(row, config, data.classes, data.inputs)
        architecture = space.parse(row["architecture"])
        place = folder.trained(row) / architecture.id
        networks.append(Network(space, architecture, place, row["id"], row["reference"], row.get("space")))
    return networks


def _sized(run: Loaded, winner: Mapping[str, Any], runtime: Runtime) -> list[dict[str, Any]]:
    """Each reference with its space where that is not the run's; one that fits at no width is left out."""
    rows = []
    highest = _highest(run, winner)

    bounds = {cost: (0.0, high) for cost, high in highest.items()}

    def fits(space: Space) -> bool:
        region = Region(space, _costs(space, run, set(highest), runtime), bounds)
        return bool(region.allows([space.first()])[0])

    for name in reference_names(run.config, run.space):
        if name not in REFERENCES:
            rows.append(_of_space(name, run, runtime))
            continue
        try:
            rows.append(_known(name, run, fits))
        except ValueError as error:
            allowed = ", ".join(f"{cost} {shown(cost, high)}" for cost, high in highest.items())
            log.info("reference %s is left out, at most %s is allowed: %s", name, allowed, error)
    return rows


def _known(name: str, run: Loaded, fits: Callable[[Space], bool]) -> dict[str, Any]:
    """A known network, as wide as the limits allow.

    Raises:
        ValueError: even the narrowest does not fit, or the images are too small for it.
    """

    def settings(width: int) -> dict[str, Any]:
        return {"name": "convnet", "settings": {"width": width, **settings_of(name)}}

    def at(width: int) -> Space:
        return make_space(SpaceConfig(**settings(width)), len(run.data.classes), run.data.inputs)

    width = widest(at, fits)
    architecture = str(at(width).at(0))
    log.info("reference %s is %d channels wide", name, width)
    return {"id": f"{name}-w{width}", "reference": name, "architecture": architecture, "space": settings(width)}


def _of_space(text: str, run: Loaded, runtime: Runtime) -> dict[str, Any]:
    """An architecture of the run's space, which is taken as it is."""
    architecture, space = run.space.parse(text), run.space
    name = _FIRST if architecture == space.first() else f"architecture {architecture.id}"
    bounds = run.config.search.limits.bounds()
    if not Region(space, _costs(space, run, set(bounds), runtime), bounds).allows([architecture])[0]:
        log.warning("reference %s is outside of the limits of the search; it is taken all the same", name)
    return {"id": architecture.id, "reference": name, "architecture": str(architecture)}


def _highest(run: Loaded, winner: Mapping[str, Any]) -> dict[str, float]:
    """What a known network may cost at the most: as much as the run's limits say, or as many parameters as the winner.

    The winner's size counts if there are no limits, and where finalists have another size than in the search, for which
    the limits are.
    """
    highest = {cost: high for cost, (_, high) in run.config.search.limits.bounds().items() if high < math.inf}
    return highest if highest and not run.config.retrain.space else {"params": winner["params"]}


def _costs(space: Space, run: Loaded, limited: set[str], runtime: Runtime) -> CostTable:
    """The costs of a space, with latency and memory as the search measured them if these are limited."""
    if not {"latency", "memory"} & limited:
        return cost_table(space)
    path = run.folder.reference_latency
    if not path.exists() and run.folder.latency.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.folder.latency, path)
    return latency_costs(space, run.config.search.latency, runtime.device, path)
