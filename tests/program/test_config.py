import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.program.config import (
    Config,
    SpaceConfig,
    check_config,
    differences,
    from_dict,
    make_space,
    read_yaml,
    to_yaml,
)
from supernet.program.listing import recipe_files
from supernet.program.settings import ConfigError, setting_hints
from supernet.train.fit import TrainConfig

RECIPES = recipe_files()


def flat(values: dict[str, Any], names: set[str], prefix: str = "") -> set[str]:
    found = set()
    for name, value in values.items():
        full = prefix + name
        found |= {full} if full in names else flat(value, names, f"{full}.")
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_complete_and_valid(name: str) -> None:
    names = set(setting_hints(Config))
    assert flat(yaml.safe_load(RECIPES[name].read_text()), names) == names
    config = read_yaml(RECIPES[name])
    check_config(config)
    assert from_dict(yaml.safe_load(to_yaml(config))) == config


numbers = st.floats(1e-300, 1e300)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(-(2**70), 2**70),
            "data": st.fixed_dictionaries({}, optional={"path": st.none() | st.text(), "flip": st.booleans()}),
            "space": st.fixed_dictionaries(
                {}, optional={"settings": st.dictionaries(st.text(), st.none() | st.integers() | st.text())}
            ),
            "train": st.fixed_dictionaries(
                {}, optional={"lr": numbers, "steps": st.none() | st.integers(1), "clip_norm": st.none() | numbers}
            ),
            "retrain": st.fixed_dictionaries({}, optional={"train": st.fixed_dictionaries({"lr": numbers})}),
        },
    )
)
def test_yaml_round_trip(values: dict[str, Any]) -> None:
    config = from_dict(values)
    assert from_dict(yaml.safe_load(to_yaml(config))) == config
    assert from_dict(dataclasses.asdict(config)) == config


def test_errors_name_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"^retrain\.train\.batch_size: "):
        from_dict({"retrain": {"train": {"batch_size": 33}}})


def test_differences() -> None:
    here = from_dict({"seed": 1, "space": {"settings": {"filters": 3}}})
    assert differences(here, here) == []
    assert differences(here, from_dict({"space": {"settings": {"cells": 2}}})) == [
        "seed: 1 there, 0 asked for",
        "space.settings.filters: 3 there, None asked for",
        "space.settings.cells: None there, 2 asked for",
    ]


def test_make_space_takes_changes() -> None:
    space = make_space(SpaceConfig(settings={"filters": 2, "cells": 1}), 5, "float32 1 8 8", {"filters": 4})
    settings = dict(space.settings)
    assert (settings["filters"], settings["cells"], settings["num_classes"]) == (4, 1, 5)


def test_check_config_knows_the_size_of_the_space() -> None:
    config = from_dict({"space": {"settings": {"filters": 1, "cells": 1, "choice_blocks": 1}}})
    with pytest.raises(ConfigError, match=r"^search\.candidates: expected at most 84, the whole space, got 20,000"):
        check_config(config)


@pytest.mark.parametrize("part", ["retrain", "analysis"])
def test_weights_of_stand_alone_networks_are_not_averaged(part: str) -> None:
    config = Config()
    changed = dataclasses.replace(getattr(config, part), train=TrainConfig(average=0.1))
    with pytest.raises(ConfigError, match=f"{part}.train.average: expected 0"):
        check_config(dataclasses.replace(config, **{part: changed}))
    check_config(dataclasses.replace(config, train=TrainConfig(average=0.1)))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "x.yaml")


def test_defaults_need_no_file() -> None:
    assert from_dict({}) == Config()
