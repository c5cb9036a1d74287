"""From a recipe and settings to a whole configuration."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from supernet.program.config import Config
from supernet.program.resolve import Setting, resolve
from supernet.program.settings import ConfigError


def configured(settings: dict[str, Any], recipe: str = "digits-smoke") -> Config:
    return resolve(recipe, [Setting(name, value) for name, value in settings.items()], None)


def nested(settings: dict[str, Any], depth: int) -> dict[str, Any]:
    """The same settings, with the names nested up to a depth and dotted below it."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        *groups, last = name.split(".", depth)
        place = result
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return result


CHOSEN: dict[str, st.SearchStrategy[Any]] = {
    "seed": st.integers(0, 9),
    "train.epochs": st.integers(1, 9),
    "train.lr": st.sampled_from([0.1, 0.2]),
    "search.candidates": st.integers(1, 40),
    "search.limits.max_params": st.sampled_from([None, "1M", 500]),
    "retrain.train.warmup": st.sampled_from([0.1, 0.5]),
    "retrain.space": st.sampled_from([{}, {"filters": 3}]),
    "space.settings": st.sampled_from([{"filters": 2}, {"cells": 1, "choice_blocks": 1}]),
}


@given(st.fixed_dictionaries({}, optional=CHOSEN), st.integers(0, 3))
def test_nested_and_dotted_settings_give_one_configuration(settings: dict[str, Any], depth: int) -> None:
    assert configured(nested(settings, depth)) == configured(settings)


@given(st.fixed_dictionaries({}, optional=CHOSEN))
def test_a_file_of_settings_gives_the_same(settings: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "more.yaml"
        file.write_text(yaml.safe_dump(nested(settings, 3)))
        assert configured({"config": str(file)}) == configured(settings)


def test_the_rest_of_a_group_stays_as_the_recipe_has_it() -> None:
    recipe, changed = configured({}), configured({"train": {"epochs": 1}, "search": {"limits": {"max_params": 9000}}})
    assert changed.train.batch_size == recipe.train.batch_size != Config().train.batch_size
    assert changed.search.candidates == recipe.search.candidates != Config().search.candidates
    assert (changed.train.epochs, changed.search.limits.max_params) == (1, 9000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": {"epoch": 1}}, r"setting: no 'train\.epoch'; did you mean 'train\.epochs'\?"),
        ({"retrain": {"train": {"lrr": 1}}}, r"setting: no 'retrain\.train\.lrr'; did you mean 'retrain\.train\.lr'"),
        ({"retrain.train": {"lrr": 1}}, r"setting: no 'retrain\.train\.lrr'; did you mean 'retrain\.train\.lr'"),
        ({"serch": {"candidates": 4}}, r"setting: no 'serch'; did you mean 'search'"),
        ({"train": {1: 2}}, r"setting: no 'train\.1'"),
        ({"train": 5}, r"^train: expected settings by name, got 5$"),
        ({"retrain": {"train": None}}, r"^retrain\.train: expected settings by name, got None$"),
        ({"search": {"candidates": "many"}}, r"^search\.candidates: expected a whole number or null, got 'many'$"),
    ],
)
def test_errors_name_the_setting_with_its_group(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(settings)


@pytest.mark.parametrize("form", ["dotted", "nested", "file"])
def test_the_settings_of_another_strategy_and_space_come_with_their_names(form: str, tmp_path: Path) -> None:
    """They are not taken for those that belong to the recipe's."""
    settings = {
        "search.strategy": "evolution",
        "search.strategy_settings": {"population": 7},
        "space.name": "nasbench201",
        "space.settings": {"channels": 4},
    }
    if form == "nested":
        settings = nested(settings, 1)
    elif form == "file":
        (tmp_path / "more.yaml").write_text(yaml.safe_dump(nested(settings, 1)))
        settings = {"config": str(tmp_path / "more.yaml")}
    config = configured(settings)
    assert config.search.strategy_settings == {"population": 7} and config.space.settings == {"channels": 4}
