import dataclasses
from pathlib import Path

import pytest

from supernet.base.files import read_json
from supernet.program.config import Config, read_yaml
from supernet.program.folder import RunError, create_run, is_done, open_run, record_environment, require
from supernet.program.paths import RunFolder
from supernet.program.settings import ConfigError
from supernet.speed.tune import Tuning


def test_create_and_open(tmp_path: Path) -> None:
    folder, config = tmp_path / "a" / "run", Config(seed=5)
    create_run(RunFolder(folder), config)
    create_run(RunFolder(folder), config)
    assert open_run(folder).config == config == read_yaml(folder / "config.yaml")


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".config.yaml.0.tmp").write_text("see")
    create_run(RunFolder(tmp_path), Config())
    assert open_run(tmp_path).config == Config()


def test_another_configuration(tmp_path: Path) -> None:
    create_run(RunFolder(tmp_path), Config())
    (tmp_path / "data.json").write_text("{}")
    changed = dataclasses.replace(Config(), seed=1)
    create_run(RunFolder(tmp_path), changed)  # nothing was done yet
    assert open_run(tmp_path).config == changed
    assert not (tmp_path / "data.json").exists()
    (tmp_path / "train").mkdir()
    with pytest.raises(RunError, match=r"another configuration \(seed: 1 there, 0 asked for\)"):
        create_run(RunFolder(tmp_path), Config())
    assert open_run(tmp_path).config == changed


def test_folders_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("")
    with pytest.raises(RunError, match="is no run folder"):
        create_run(RunFolder(tmp_path), Config())
    with pytest.raises(RunError, match="is a file"):
        create_run(RunFolder(tmp_path / "photo.png"), Config())
    with pytest.raises(RunError, match="is no run folder"):
        open_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_an_incomplete_configuration_is_damage(tmp_path: Path) -> None:
    create_run(RunFolder(tmp_path), Config())
    path = tmp_path / "config.yaml"
    whole = path.read_text()
    path.write_text(whole[: whole.index("runtime:")])
    with pytest.raises(RunError, match=r"damaged \(it has no runtime\.device\)"):
        open_run(tmp_path)
    path.write_text("- 1")
    with pytest.raises(ConfigError, match="expected settings by name"):
        open_run(tmp_path)


def test_done_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in ("train", "search", "retrain"):
        assert not is_done(folder, step)
        with pytest.raises(RunError, match=f"run `supernet {step} {tmp_path}` first"):
            require(folder, step)
        folder.last_of(step).parent.mkdir(exist_ok=True)
        folder.last_of(step).touch()
        assert is_done(folder, step)
        assert require(folder, step) == folder.last_of(step)


def test_environment_of_each_step(tmp_path: Path) -> None:
    for step in ("train", "search", "train"):
        record_environment(RunFolder(tmp_path), step, Tuning(kernels=("norm",)))
    steps = read_json(tmp_path / "environment.json")
    assert {entry["precision"] for entry in steps.values()} == {"32-true"}
    assert all(entry["kernels"] == ["norm"] for entry in steps.values())
    assert list(steps) == ["train", "search"]
    assert steps["train"]["command"].startswith("supernet")
    assert {"started", "supernet", "python", "torch", "machine", "cores"} <= set(steps["train"])
