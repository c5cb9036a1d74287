"""The rules of the recipe `images`, and a run with it."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import supernet
from supernet.base.files import read_json
from supernet.data.survey import Survey
from supernet.program import forecast, prepare
from supernet.program.commands import main
from supernet.program.config import Config, from_dict
from supernet.program.images import balance, batch_size, choose, crop, flip, image_size, split_sizes, width
from supernet.program.listing import recipe_path
from supernet.program.plan import Speeds
from tests.makers import write_classes

CONFIG = from_dict(yaml.safe_load(recipe_path("images").read_text()))
PHOTOS = Survey(classes=("cat", "dog"), counts=(300, 200), side=40, channels=3)

surveys = st.builds(
    replace, st.just(PHOTOS), side=st.integers(1, 500), channels=st.sampled_from([1, 3]),
    counts=st.tuples(st.integers(10, 50_000), st.integers(10, 50_000)), own_test=st.sampled_from([0, 50]),
    own_validation=st.sampled_from([0, 50]),
)  # fmt: skip


def limited(**limits: Any) -> Config:
    search = replace(CONFIG.search, limits=replace(CONFIG.search.limits, **limits))
    return replace(CONFIG, search=search)


@given(surveys, st.floats(0.1, 1e6), st.floats(1, 100))
def test_more_time_and_larger_images_never_give_a_smaller_size(images: Survey, speed: float, factor: float) -> None:
    size, _ = image_size(images, CONFIG, lambda pixels: speed / pixels**2)
    more, _ = image_size(images, CONFIG, lambda pixels: factor * speed / pixels**2)
    larger, _ = image_size(replace(images, side=images.side + 20), CONFIG, lambda pixels: speed / pixels**2)
    most, _ = image_size(images, CONFIG, None)
    assert 1 <= size <= more <= most <= images.side and size <= larger
    assert size >= min(16, most)


@given(surveys)
def test_choices_fit_each_other(images: Survey) -> None:
    chosen = choose(images, CONFIG, ()).settings
    train, validation = split_sizes(images, CONFIG.data)
    for part in ("train", "retrain.train", "analysis.train"):
        assert chosen[f"{part}.batch_size"] % chosen[f"{part}.ghost_size"] == 0
        assert chosen[f"{part}.batch_size"] <= max(2, train)
    assert chosen["search.ghost_size"] <= max(2, validation)
    assert chosen["search.examples"] is None or chosen["search.examples"] <= validation
    assert chosen["data.validation"] is None or (chosen["data.validation"] == validation and not images.own_validation)
    assert 1 <= chosen["data.crop"] <= max(1, chosen["data.image_size"])


def test_what_the_user_gives_stays_and_is_not_spoken_of() -> None:
    config = replace(CONFIG, data=replace(CONFIG.data, image_size=64))
    chosen = choose(PHOTOS, config, {"data.image_size", "space.settings.width", "train.ghost_size"})
    assert not {"data.image_size", "space.settings.width", "train.batch_size"} & set(chosen.settings)
    assert chosen.settings["data.crop"] == 8 and chosen.settings["retrain.train.batch_size"] == 32
    assert not any("image_size" in line or "width" in line for line in chosen.lines)


@given(surveys, st.integers(4, 5000), st.integers(2, 500))
def test_sizes_of_splits_that_the_user_gives_count(images: Survey, train: int, validation: int) -> None:
    data = replace(CONFIG.data, train_examples=train, validation=validation)
    settings = choose(images, replace(CONFIG, data=data), {"data.validation"}).settings
    assert split_sizes(images, data)[0] <= train
    assert settings["train.batch_size"] <= max(4, train) and settings["search.ghost_size"] <= max(2, validation, 50)


def test_the_smallest_size_goes_with_the_width_that_is_chosen() -> None:
    config = limited(max_params="100k")
    assert choose(PHOTOS, config, ()).settings["search.limits.min_params"] == 60_000
    assert "search.limits.min_params" not in choose(PHOTOS, config, {"space.settings.width"}).settings


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_rules_are_monotonic(first: int, second: int) -> None:
    low, high = sorted((first, second))
    assert batch_size(low) <= batch_size(high)
    assert crop(low) <= crop(high)
    few, many = (replace(PHOTOS, counts=(number, number)) for number in (low, high))
    assert width(few, CONFIG, 32)[0] <= width(many, CONFIG, 32)[0]


def test_limits_give_the_width_and_multiply_adds_bound_the_size() -> None:
    widths = [width(PHOTOS, limited(max_params=number), 32)[0] for number in ("20k", "200k")]
    assert widths == sorted(set(widths))
    sizes = [image_size(PHOTOS, limited(max_macs=number), None)[0] for number in ("100k", "100M")]
    assert sizes == sorted(set(sizes)) and sizes[-1] == 40


@pytest.mark.parametrize(
    ("classes", "channels", "mirrored"),
    [(("cat", "dog"), 3, True), (("cat", "dog"), 1, False), (("0", "10"), 3, False), (("a", "B"), 3, False)],
)
def test_signs_and_grey_images_are_not_mirrored(classes: tuple[str, ...], channels: int, mirrored: bool) -> None:
    assert flip(replace(PHOTOS, classes=classes, channels=channels))[0] is mirrored


def test_unequal_classes_are_said_with_what_their_accuracy_means() -> None:
    (text,) = balance(replace(PHOTOS, counts=(900, 100)))
    assert "100 images of 'dog', 900 of 'cat'" in text and "90.0%" in text
    assert not balance(replace(PHOTOS, counts=(300, 100)))


# ---- runs ----

SMALL = (
    "--space.settings.blocks=[basic]", "--space.settings.depths=[1]", "--space.settings.width=4",
    "--search.top=1", "--search.small=0", "--search.random=1", "--retrain.references=[]", "--runtime.device=cpu",
    "--space.settings.multipliers=[1.0]", "--runtime.precision=32-true", "--runtime.threads=1",
)  # fmt: skip


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is always as fast as it is taken to be."""
    speeds = Speeds(one_shot=0.05, candidate=0.02, networks=(0.05,), workers=1)
    monkeypatch.setattr(forecast, "measure", lambda *_: speeds)
    monkeypatch.setattr(prepare, "measure_trainings", lambda *_: speeds)
    monkeypatch.setattr(prepare, "monotonic", lambda: 0.0)


@pytest.mark.usefixtures("fast")
def test_a_folder_of_images_becomes_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_classes(tmp_path / "photos", 18, 22, 3, each=30)
    out = tmp_path / "run"
    words = ["run", "images", "--data", str(tmp_path / "photos"), *SMALL, "--hours=0.0015", "--out", str(out)]
    assert main(words) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["data"]["image_size"] == 16 and config["data"]["crop"] == 2 and config["data"]["flip"] is False
    assert config["space"]["settings"]["width"] == 4 and config["train"]["batch_size"] == 4
    assert "data.image_size 16: not smaller, though time is short: about 2.8 passes" in caplog.text
    assert caplog.text.index("data.image_size 16") < caplog.text.index("plan for 5.4 s")
    assert read_json(out / "plan.json")["settings"]["data.image_size"] == 16
    before = (out / "config.yaml").read_bytes()
    assert main(words) == 0 and (out / "config.yaml").read_bytes() == before


@pytest.mark.usefixtures("fast")
def test_a_planned_run_with_a_limit_continues_with_the_same_command(tmp_path: Path, refused: Any) -> None:
    write_classes(tmp_path / "photos", 12, 12, 3, each=30)
    out = tmp_path / "run"
    small = [word for word in SMALL if not word.startswith("--space.settings.width")]
    words = ["images", "--data", str(tmp_path / "photos"), *small, "--hours=0.0015", "--max-params=9k"]
    assert main(["run", *words, "--out", str(out)]) == 0
    (out / "results.json").unlink()
    shutil.rmtree(out / "retrain")
    before = (out / "config.yaml").read_text()
    assert yaml.safe_load(before)["search"]["limits"]["min_params"] is not None
    assert "narrower limits are possible" in refused("run", *words[:-1], "--max-params=12k", "--out", out)
    assert main(["run", *words[:-1], "--max-params=9000", "--out", str(out)]) == 0
    assert (out / "config.yaml").read_text().replace("9000", "9k") == before


@pytest.mark.usefixtures("fast")
def test_arrays_in_python_are_planned_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (60, 1, 12, 12), dtype=np.uint8), np.arange(60) % 2
    settings = {name.removeprefix("--"): yaml.safe_load(value) for name, value in (w.split("=") for w in SMALL)}
    arguments: dict[str, Any] = {"recipe": "images", "hours": 0.0015, "settings": settings, "progress": False}
    run = supernet.run("convnet", (images, labels), out=tmp_path / "run", **arguments)
    assert run.results["networks"] and read_json(tmp_path / "run" / "plan.json")["hours"] == 0.0015
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["image_size"] == 12
    again = supernet.run("convnet", (images, labels), out=tmp_path / "run", **arguments)
    assert again.results == run.results
