"""Folders of images as people have them."""

from __future__ import annotations

import errno
import os
import string
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from supernet.data import images
from supernet.data.folders import list_folder
from supernet.data.images import DataError
from supernet.data.sources import DataConfig, read
from supernet.data.splits import load


def picture(
    path: Path, colour: tuple[int, ...] = (200, 0, 0), mode: str = "RGB", size: tuple[int, int] = (4, 4)
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def config(root: Path, **more: object) -> DataConfig:
    return DataConfig(name="folder", path=str(root / "in"), cache=str(root / "cache"), **more)  # type: ignore[arg-type]  # settings by name


NAME = st.text(string.ascii_lowercase, min_size=1, max_size=5)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.sets(st.lists(NAME, min_size=1, max_size=3).map("/".join), min_size=1, max_size=4),
        min_size=1,
    )
)
@settings(max_examples=30)
def test_images_lie_at_any_depth_below_their_class(tree: dict[str, set[str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        expected = set()
        for label, paths in tree.items():
            for path in paths:
                file = root / label / f"{path}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
                expected.add((file, label))
        listing = list_folder(root)
    assert listing.classes == tuple(sorted(tree))
    files = list(zip(listing.files, (listing.classes[i] for i in listing.labels), strict=True))
    assert set(files) == expected and len(files) == len(expected)
    assert not listing.ignored and not listing.own_validation and not listing.own_test


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_own_splits(tmp_path: Path, validation: str) -> None:
    for split, number in (("train", 6), (validation, 3), ("test", 2)):
        for label in ("cat", "dog"):
            for i in range(number):
                picture(tmp_path / "in" / split / label / f"{i}.png", (10 * number + i, 0, 0))
    (tmp_path / "in" / "labels.csv").touch()
    data = load(config(tmp_path), seed=0)
    assert (len(data.train), len(data.validation)) == (12, 6)
    assert sorted(data.validation.examples[:, 0, 0, 0].tolist()) == sorted(2 * [30, 31, 32])
    source = read(config(tmp_path))
    assert (source.own_validation, source.own_test, source.ignored) == (6, 4, {"beside the splits": 1})
    with pytest.raises(
        DataError, match=r"the source has its own validation split of 6 examples: set data.validation=null"
    ):
        load(config(tmp_path, validation=3), seed=0)


def test_a_folder_of_folders_of_classes_is_refused_with_the_folder_that_is_meant(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name / "0.png")
    with pytest.raises(
        DataError, match=r"one class folder only, 'photos': .* did you mean .*/photos, which has 'cats'"
    ):
        read(DataConfig(name="folder", path=str(tmp_path)))
    assert list_folder(tmp_path / "photos").classes == ("cats", "dogs")


def test_what_is_ignored_is_counted_and_what_systems_leave_is_not(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        picture(tmp_path / "in" / label / "deeper" / "0.PNG")
        for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
            (tmp_path / "in" / label / name).touch()
        (tmp_path / "in" / label / "notes.txt").touch()
        (tmp_path / "in" / label / "README").touch()
    (tmp_path / "in" / "__MACOSX" / "cat").mkdir(parents=True)
    (tmp_path / "in" / "index.html").touch()
    os.mkfifo(tmp_path / "in" / "cat" / "pipe.png")
    (tmp_path / "in" / "cat" / "loop").symlink_to(tmp_path / "in" / "cat", target_is_directory=True)
    listing = list_folder(tmp_path / "in")
    assert listing.classes == ("cat", "dog") and len(listing.files) == 2
    assert listing.ignored == {".txt": 2, "no suffix": 2, "beside the class folders": 1, "not a regular file": 1}


def test_formats_orientation_and_transparency(tmp_path: Path) -> None:
    for number, suffix in enumerate((".tif", ".tiff", ".ppm", ".png", ".bmp", ".gif", ".webp")):
        picture(tmp_path / "in" / "a" / f"{number}{suffix}", (0, 0, 0))
    turned = Image.new("RGB", (4, 4), (0, 0, 0))
    turned.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: the first pixel comes to the upper right
    turned.save(tmp_path / "in" / "a" / "7.png", exif=exif)
    picture(tmp_path / "in" / "b" / "0.png", (0, 0, 0, 0), "RGBA")
    paletted = Image.new("P", (4, 4), 0)
    paletted.putpalette([9, 9, 9])
    paletted.save(tmp_path / "in" / "b" / "1.png", transparency=0)
    examples = read(config(tmp_path)).examples
    assert examples.shape == (10, 3, 4, 4)
    assert not examples[:7].any()
    assert np.argwhere(examples[7, 0]).tolist() == [[0, 3]]
    assert (examples[8:] == 255).all()
    red = read(config(tmp_path, background="#ff0000")).examples
    assert (red[8:, 0] == 255).all() and not red[8:, 1:].any()
    with pytest.raises(DataError, match=r"data.background='rde' is not a colour: use a name like white"):
        read(config(tmp_path, background="rde"))


def test_damaged_images_are_named_all_at_once(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(10):
            picture(tmp_path / "in" / label / f"{i}.png", (i, i, i))
    for name in ("a/3.png", "b/0.png"):
        file = tmp_path / "in" / name
        file.write_bytes(file.read_bytes()[:40])
    (tmp_path / "in" / "b" / "7.png").write_text("no picture")
    with pytest.raises(
        DataError, match=r"3 of 20 images cannot be read: .*a/3.png .*b/0.png .*b/7.png .*skip_damaged=true"
    ) as error:
        read(config(tmp_path))
    assert "\n" not in str(error.value) and str(error.value).count("remove") == 1
    for _ in range(2):  # decoded, and from the cache
        source = read(config(tmp_path, skip_damaged=True))
        assert source.examples[:, 0, 0, 0].tolist() == [0, 1, 2, *range(4, 10), *range(1, 7), 8, 9]
        assert torch.equal(source.targets, torch.tensor([0] * 9 + [1] * 8)) and len(source.damaged) == 3
    picture(tmp_path / "in" / "b" / "7.png", (7, 7, 7))
    assert len(read(config(tmp_path, skip_damaged=True)).damaged) == 2


def test_more_damaged_images_than_a_line_holds(tmp_path: Path) -> None:
    for i in range(25):
        (tmp_path / "in" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "a" / f"{i:02}.png").write_text("no picture")
    picture(tmp_path / "in" / "a" / "whole.png")
    with pytest.raises(DataError, match=r"25 of 26 images .*; and 15 more \(all of them: .*\.txt\)") as error:
        read(config(tmp_path))
    report = str(error.value).partition("all of them: ")[2].partition(")")[0]
    assert Path(report).read_text().count("is not an image") == 25


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: OSError) -> None:
    """Lets one file fail to be read."""
    read_bytes = Path.read_bytes

    def read_or_fail(path: Path) -> bytes:
        if path.name == name:
            raise error
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read_or_fail)


def test_a_file_that_cannot_be_opened_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is not in the image, so the cache must not keep it; the file itself does not change."""
    for i in range(6):
        picture(tmp_path / "in" / "ab"[i % 2] / f"{i}.png", (i, i, i))
    with monkeypatch.context() as patch:
        failing(patch, "3.png", PermissionError(errno.EACCES, "Permission denied", "3.png"))
        for _ in range(2):
            with pytest.raises(DataError, match=r"^cannot read .*/b/3\.png \(Permission denied\); make it readable"):
                read(config(tmp_path))
        assert len(read(config(tmp_path, skip_damaged=True)).examples) == 5
    for skip in (True, False):
        source = read(config(tmp_path, skip_damaged=skip))
        assert source.examples[:, 0, 0, 0].tolist() == [0, 2, 4, 1, 3, 5] and not source.damaged


def test_a_refusal_comes_from_the_cache_and_decodes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(6):
        picture(tmp_path / "in" / "ab"[i % 2] / f"{i}.png", (i, i, i))
    (tmp_path / "in" / "b" / "3.png").write_text("no picture")
    opened: list[str] = []
    open_image = images._open_image

    def count(name: str, *more: Any) -> Any:
        opened.append(name)
        return open_image(name, *more)

    monkeypatch.setattr(images, "_open_image", count)
    messages = []
    for _ in range(3):
        with pytest.raises(DataError) as error:
            read(config(tmp_path))
        messages.append(str(error.value))
    assert len(opened) == 1 + 6 and len(set(messages)) == 1  # the first shows that they are not grey


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"nonsense"])
def test_a_damaged_cache_is_made_again_with_its_report(content: bytes, tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "in" / "ab"[i % 2] / f"{i}.png", (i, i, i))
    (tmp_path / "in" / "b" / "3.png").write_text("no picture")
    whole = read(config(tmp_path, skip_damaged=True)).examples.tolist()
    (cached,) = (tmp_path / "cache").iterdir()
    right = cached.read_bytes()
    for broken in (content, right[:-3], right[:-30]):
        cached.write_bytes(broken)
        source = read(config(tmp_path, skip_damaged=True))
        assert source.examples.tolist() == whole and len(source.damaged) == 1 and cached.read_bytes() == right


def test_a_lack_of_memory_is_not_taken_for_a_damaged_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "in" / "a" / "0.png")

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(images, "_square", fail)
        with pytest.raises(MemoryError):
            read(config(tmp_path))
    assert len(read(config(tmp_path)).examples) == 1


def test_a_format_that_became_readable_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "in" / "a" / "0.webp")
    with monkeypatch.context() as patch:
        patch.setattr(images, "FORMATS", ("PNG",))
        with pytest.raises(DataError, match="is not an image of a format that is read"):
            read(config(tmp_path))
    assert len(read(config(tmp_path)).examples) == 1
