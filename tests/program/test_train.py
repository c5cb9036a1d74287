"""What is live in a step of the one-shot model's training, as the settings say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from supernet.program.commands import main
from supernet.program.config import Config, SpaceConfig, make_space
from supernet.program.folder import open_run
from supernet.program.load import load_run
from supernet.program.train import paths_of
from supernet.search.config import SearchConfig
from supernet.search.limits import LimitsConfig, region
from supernet.space.cost import cost_table
from supernet.train.paths import PathsConfig
from tests.conftest import TINY

LIMITED = [*TINY, "--paths.distribution", "uniform", "--paths.limited", "true"]


def recorded(folder: Path) -> torch.Tensor:
    """live_GP of each step as it was trained: bool [steps, G, P]."""
    run = load_run(open_run(folder))
    options = sum(len(choice.options) for choice in run.space.choices)
    return torch.from_numpy(np.unpackbits(np.load(run.folder.live_paths), axis=-1)[..., :options]).bool()


def test_only_architectures_within_the_limits_are_live(tmp_path: Path) -> None:
    space = load_run(open_run(trained(tmp_path / "free", []))).space
    costs = cost_table(space)
    middle = int(np.median(costs.column("params", list(space)[:512])))
    limits = ["--max-params", str(middle)]
    live = recorded(trained(tmp_path / "limited", limits)).flatten(0, 1)
    allowed = region(costs, LimitsConfig(max_params=middle), merge=False)
    within = {tuple(row) for row in space.live(allowed.listed or []).tolist()}
    assert {tuple(row) for row in live.tolist()} <= within
    assert len({tuple(row) for row in live.tolist()}) > 1


def trained(folder: Path, words: list[str]) -> Path:
    assert main(["train", str(folder), "digits-smoke", *LIMITED, *words]) == 0
    return folder


def test_without_limits_every_architecture_may_be_live() -> None:
    space = make_space(SpaceConfig(settings={"filters": 1, "cells": 1, "choice_blocks": 1}), 10, "float32 1 8 8")
    config = Config(paths=PathsConfig(distribution="uniform", limited=True))
    pool = [space.at(i) for i in range(3)]
    steps = [paths_of(config, space, step, 50, pool) for step in range(50)]
    rows = {tuple(row) for live in steps for row in live.tolist()}
    assert rows == {tuple(row) for row in space.live(pool).tolist()}
    assert torch.equal(steps[7], paths_of(config, space, 7, 50, pool))  # by the number of the step alone


def test_limits_that_nothing_meets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "run"), "digits-smoke", *LIMITED, "--max-params", "3"]) == 2
    assert "smallest possible" in capsys.readouterr().err


def test_limited_goes_with_uniform_only() -> None:
    with pytest.raises(ValueError, match="limited: expected false with distribution 'dropout'"):
        PathsConfig(limited=True)


def test_limits_that_are_measured_do_not_hinder_training() -> None:
    limits = LimitsConfig(max_latency="1ms", max_params=1000)
    assert set(limits.computed().bounds()) == {"params"}
    assert replace(SearchConfig(), limits=limits).limits.computed().max_params == limits.max_params
