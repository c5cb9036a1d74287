import dataclasses
import shutil
from pathlib import Path

import pytest

from supernet.base.files import read_json
from supernet.program.commands import main
from supernet.program.config import Config, read_yaml
from supernet.program.folder import RunError, create_run, is_done, open_run, record_environment, require
from supernet.program.paths import RunFolder
from supernet.program.settings import ConfigError
from supernet.speed.tune import Tuning
from tests.conftest import TINY
from tests.makers import write_classes, write_image
from tests.program.test_commands import Refused


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
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / ".paths.npy.part").touch()
    changed = dataclasses.replace(Config(), seed=1)
    create_run(RunFolder(tmp_path), changed)  # nothing was done yet
    assert open_run(tmp_path).config == changed
    (tmp_path / "train" / "checkpoint.pt").touch()
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
        folder.candidates.touch()
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


@pytest.fixture
def with_images(tmp_path: Path) -> Path:
    """A run with a trained one-shot model, and its data beside it."""
    write_classes(tmp_path / "a" / "images", 8, 8, each=80)
    assert main(["train", str(tmp_path / "a" / "run"), "digits-smoke", *TINY, *_images(tmp_path / "a")]) == 0
    return tmp_path


def _images(root: Path) -> list[str]:
    sizes = ["--data.validation=32", "--train.batch_size=32", "--retrain.train.batch_size=32", "--search.ghost_size=32"]
    return [f"--data={root / 'images'}", f"--data.cache={root.parent / 'cache'}", *sizes]


def test_run_folder_and_data_move_together(with_images: Path) -> None:
    (with_images / "a").rename(with_images / "b")
    assert main(["search", str(with_images / "b" / "run")]) == 0


def test_of_copied_data_those_beside_the_run_count(with_images: Path, refused: Refused) -> None:
    shutil.copytree(with_images / "a", with_images / "b")
    write_image(with_images / "b" / "images" / "a" / "0.png", 8, 8, seed=99)
    message = refused("search", with_images / "b" / "run")
    assert f"the data at {with_images / 'b' / 'images'} are not those" in message and "data.path" in message
    assert main(["search", str(with_images / "a" / "run")]) == 0


def test_data_that_were_moved_alone_are_named_anew(
    with_images: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, old, new = with_images / "a" / "run", with_images / "a" / "images", with_images / "far" / "away" / "images"
    config = (run / "config.yaml").read_bytes()
    new.parent.mkdir(parents=True)
    old.rename(new)
    assert "no such folder" in refused("search", run)
    shutil.copytree(new, with_images / "other")
    write_image(with_images / "other" / "b" / "1.png", 8, 8, seed=99)
    assert "are not those" in refused("search", run, f"--data.path={with_images / 'other'}")
    assert (run / "config.yaml").read_bytes() == config
    monkeypatch.chdir(new.parent)
    assert main(["search", str(run), "--data.path=images"]) == 0
    monkeypatch.chdir(with_images)
    assert open_run(run).config.data.path == str(new)
    assert main(["retrain", str(run)]) == 0


# ---- what was edited, lost or damaged ----


@pytest.fixture
def whole_run(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run with its digests."""
    return Path(shutil.copytree(finished_run, tmp_path / "whole"))


def edit(run: Path, old: str, new: str) -> None:
    text = (run / "config.yaml").read_text()
    assert old in text
    (run / "config.yaml").write_text(text.replace(old, new, 1))


def test_a_configuration_that_was_edited_is_refused(whole_run: Path, refused: Refused) -> None:
    before = (whole_run / "config.yaml").read_text()
    edit(whole_run, "seed: 0", "seed: 1")
    for words in (["run", "--out", whole_run], ["retrain", whole_run], ["analyze", whole_run], ["export", whole_run]):
        message = refused(*words)
        assert "config.yaml was edited since `supernet train` began (seed: 0 then, 1 now): put it back" in message
    assert main(["show", str(whole_run)]) == 0
    (whole_run / "config.yaml").write_text(before)
    assert main(["run", "--out", str(whole_run)]) == 0


def test_what_no_step_depends_on_may_be_edited(whole_run: Path) -> None:
    edit(whole_run, "threads: 1\n  nodes: 1", "threads: 2\n  nodes: 1")
    edit(whole_run, "device: cpu", "device: auto")
    assert main(["run", "--out", str(whole_run)]) == 0


def test_settings_of_steps_follow_commands(whole_run: Path, refused: Refused) -> None:
    """A command that may change a setting records it; an edit by hand after that is noticed again."""
    for name in ("results.json", "retrain/test_opened.json"):
        (whole_run / name).unlink()
    assert main(["retrain", str(whole_run), "--retrain.train.lr=0.07"]) == 0
    edit(whole_run, "lr: 0.07", "lr: 0.08")
    assert "`supernet retrain` began (retrain.train.lr: 0.07 then, 0.08 now)" in refused("retrain", whole_run)


def test_a_lost_table_is_made_again(whole_run: Path, refused: Refused, caplog: pytest.LogCaptureFixture) -> None:
    (whole_run / "candidates.sqlite").unlink()
    finalists = read_json(whole_run / "finalists.json")
    assert "is not there: run `supernet search" in refused("top", whole_run)
    assert main(["search", str(whole_run)]) == 0
    assert "candidates.sqlite is lost: the search is done again" in caplog.text
    assert read_json(whole_run / "finalists.json") == finalists
    assert (whole_run / "finalists.json.before-1").exists()
    assert main(["top", str(whole_run)]) == 0


@pytest.mark.parametrize("name", ["results.json", "data.json", "train/model.safetensors", "finalists.json"])
def test_flipped_bits_are_noticed(name: str, whole_run: Path, refused: Refused) -> None:
    if name != "results.json":
        (whole_run / "results.json").unlink()
    path = whole_run / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert f"{path} is damaged (its SHA-256" in refused("run", "--out", whole_run)
