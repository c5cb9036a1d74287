"""Readers, decoding, cache and errors of `supernet.data.sources`, on small made data only."""

import errno
import gzip
import io
import os
import pickle
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data import images as pixels_of
from supernet.data import sources
from supernet.data import splits as data
from supernet.data.images import DataError
from supernet.data.sources import DataConfig, read
from supernet.data.splits import load, open_test
from tests.makers import (
    config,
    labels,
    pixels,
    png,
    tagged,
    tags,
    write_arrays,
    write_batches,
    write_classes,
    write_fashion,
    write_image,
    write_parquet,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_cifar10_batches(root: Path, protocol: int, below: str) -> None:
    write_batches(root / "in" / below, protocol)
    made = load(config(root, "cifar10", 20), seed=0)
    test = open_test(load(config(root, "cifar10", 20), seed=0).test, record=root / "test.json", networks=["a"])
    assert made.input_shape == (3, 32, 32) and len(made.train.targets) == 80 and made.classes[5] == "dog"
    assert np.array_equal(test.examples.flatten(1).numpy(), pixels(20, 3072, seed=5))


def test_cifar10_parquet_decodes_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("train-0", 60), ("test-0", 20)):
        write_parquet(
            root / "in" / f"{name}.parquet",
            [png(4, 4, 3, seed=i) for i in range(count)],
            [*labels(count, 10)],
        )
    first = load(config(root, "cifar10", 20), seed=0)
    assert first.input_shape == (3, 4, 4) and first.classes[0] == "airplane"
    monkeypatch.setattr(pixels_of, "_open_image", lambda *_: pytest.fail("decoded again"))
    again = load(config(root, "cifar10", 20), seed=0)
    assert torch.equal(first.train.examples, again.train.examples) and first.hashes == again.hashes
    test = open_test(load(config(root, "cifar10", 20), seed=0).test, record=root / "test.json", networks=["a"])
    assert np.array_equal(test.examples[7].permute(1, 2, 0).numpy(), pixels(4, 4, 3, seed=7))


def test_a_changed_source_or_broken_cache_is_decoded_again(root: Path) -> None:
    write_classes(root / "in", 4, 4)
    load(config(root, "folder", 2), seed=0)
    (cached,) = (root / "cache").iterdir()
    whole = cached.read_bytes()
    cached.write_bytes(whole[:-5])
    load(config(root, "folder", 2), seed=0)
    assert cached.read_bytes() == whole
    write_image(root / "in" / "a" / "0.png", 4, 4, seed=99)
    os.utime(root / "in" / "a" / "0.png", ns=(1, 1))
    load(config(root, "folder", 2), seed=0)
    assert len(list((root / "cache").iterdir())) == 2


@pytest.mark.parametrize("limit", [2**32, 0])
def test_folder_in_two_levels(root: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(data, "_IN_MEMORY", limit)
    write_classes(root / "in" / "train", 4, 6, 3, each=8)
    write_classes(root / "in" / "test", 4, 6, 3, each=3)
    (root / "in" / "train" / ".hidden").mkdir()
    made = load(config(root, "folder"), seed=0)
    test = open_test(load(config(root, "folder"), seed=0).test, record=root / "test.json", networks=["a"])
    assert made.classes == ("a", "b") and made.input_shape == (3, 4, 6) and len(made.train.targets) == 12
    expected = [pixels(4, 6, 3, seed=ord(name) * 100 + number) for name in "ab" for number in range(3)]
    assert np.array_equal(test.examples.permute(0, 2, 3, 1).numpy(), expected)
    assert test.targets.tolist() == [0, 0, 0, 1, 1, 1]


def test_folder_in_one_level_may_have_a_class_called_train(root: Path) -> None:
    for name in ("train", "car"):
        for number in range(6):
            write_image(root / "in" / name / f"{number}.PNG", 4, 4)
    made = load(config(root, "folder", 2), seed=0)
    assert made.classes == ("car", "train") and made.input_shape == (1, 4, 4)


def test_one_coloured_image_makes_all_rgb(root: Path) -> None:
    write_classes(root / "in", 4, 4)
    grey = load(config(root, "folder", 2), seed=0)
    palette = Image.new("P", (4, 4))
    palette.putpalette([10, 20, 30] * 256)
    palette.save(root / "in" / "b" / "5.png", transparency=bytes([0, 128]))
    mixed = load(config(root, "folder", 2), seed=0)
    assert (grey.input_shape, mixed.input_shape) == ((1, 4, 4), (3, 4, 4))
    # The exchanged image is the last of the source, all others keep their three equal channels.
    alike = [i for i in range(len(mixed.train.targets)) if (mixed.train.examples[i] == grey.train.examples[i]).all()]
    assert len(alike) >= len(mixed.train.targets) - 1


def test_image_size_resizes_the_shorter_side_and_cuts_the_centre(root: Path) -> None:
    for name in "ab":
        for number in range(6):
            bars = np.zeros((8, 8 + 4 * number), np.uint8)
            bars[:, 2 * number : 2 * number + 8] = 200
            (root / "in" / name).mkdir(exist_ok=True)
            Image.fromarray(bars).save(root / "in" / name / f"{number}.png")
    made = load(config(root, "folder", 2, image_size=8), seed=0)
    assert made.input_shape == (1, 8, 8) and (made.train.examples == 200).all()
    assert load(config(root, "folder", 2, image_size=5), seed=0).input_shape == (1, 5, 5)


@pytest.mark.parametrize("shape", [(6, 9), (3, 6, 9), (6, 9, 3)])
def test_image_size_applies_to_arrays(root: Path, shape: tuple[int, ...]) -> None:
    write_arrays(root / "in", pixels(40, *shape), labels(40, 2))
    made = load(config(root, "arrays", image_size=5), seed=0)
    assert made.input_shape == (3 if 3 in shape else 1, 5, 5)


def test_arrays_with_own_test(root: Path) -> None:
    write_arrays(root / "in", tagged([*range(20)]), labels(20, 2))
    write_arrays(root / "in", tagged([*range(20, 26)]), labels(6, 2), "test_")
    test = open_test(load(config(root, "arrays"), seed=0).test, record=root / "test.json", networks=["a"])
    assert tags(test) == list(range(20, 26))


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_with_text_labels(root: Path, struct: bool) -> None:
    file = root / "in" / "all.parquet"
    write_parquet(file, [png(4, 4, seed=i) for i in range(20)], ["dog", "cat"] * 10, "photo", struct)
    made = load(config(root, "parquet"), seed=0)
    assert made.classes == ("cat", "dog") and made.input_shape == (1, 4, 4) and len(made.train.targets) == 12
    direct = DataConfig(name="parquet", path=str(file), cache=str(root / "cache"), validation=4)
    assert load(direct, seed=0).hashes == made.hashes


def test_digits() -> None:
    made = load(DataConfig(name="digits", validation=300), seed=0)
    assert made.input_shape == (1, 8, 8) and made.train.examples.max() == 255
    assert len(made.train.targets) == 1797 - 359 - 300 and len(made.classes) == 10


def test_fashion_mnist_from_a_folder(root: Path) -> None:
    write_fashion(root / "in")
    made = load(config(root, "fashion-mnist", 20), seed=0)
    test = open_test(load(config(root, "fashion-mnist", 20), seed=0).test, record=root / "test.json", networks=["a"])
    assert made.input_shape == (1, 4, 4) and len(made.train.targets) == 40 and made.classes[9] == "Ankle boot"
    assert np.array_equal(test.examples[:, 0].numpy(), pixels(20, 4, 4))


def test_fashion_mnist_from_the_debian_package() -> None:
    if not sources._FASHION_PACKAGE.is_dir():
        pytest.skip("NOT TESTED: the real Fashion-MNIST; install the Debian package dataset-fashion-mnist")
    made = load(DataConfig(validation=5000), seed=0)
    assert made.input_shape == (1, 28, 28) and made.train.targets.bincount().tolist() == [5500] * 10
    assert made.mean == pytest.approx([0.286], abs=0.001) and made.std == pytest.approx([0.353], abs=0.001)


def test_fashion_mnist_download_asks_for_the_published_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    asked = []

    def retrieve(url: str, known_hash: str, fname: str, path: Path) -> str:
        asked.append((url.rsplit("/", 1)[1], known_hash[:15]))
        return str(root / "in" / fname)

    write_fashion(root / "in")
    monkeypatch.setattr(sources, "_FASHION_PACKAGE", root / "none")
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    made = load(DataConfig(validation=20, cache=str(root)), seed=0)
    assert len(made.train.targets) == 40
    assert asked[0] == ("train-images-idx3-ubyte.gz", "sha256:3aede38d") and len(set(asked)) == 4


# --- errors


def broken_image(root: Path) -> DataConfig:
    write_classes(root / "in", 4, 4)
    file = root / "in" / "b" / "3.png"
    file.write_bytes(file.read_bytes()[:50])
    return config(root, "folder", 2)


def deep_image(root: Path) -> DataConfig:
    write_classes(root / "in", 4, 4)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(root / "in" / "b" / "3.png")
    return config(root, "folder", 2)


def empty_class(root: Path) -> DataConfig:
    write_classes(root / "in", 4, 4)
    (root / "in" / "c").mkdir()
    return config(root, "folder", 2)


def unknown_test_class(root: Path) -> DataConfig:
    write_classes(root / "in" / "train", 4, 4)
    write_classes(root / "in" / "test", 4, 4, classes="abz")
    return config(root, "folder", 2)


def two_sizes(root: Path) -> DataConfig:
    write_classes(root / "in", 4, 4)
    write_image(root / "in" / "b" / "3.png", 5, 7)
    return config(root, "folder", 2)


def file_as_folder(root: Path) -> DataConfig:
    (root / "in").rmdir()
    (root / "in").write_text("")
    return config(root, "folder")


def missing_parquet_column(root: Path) -> DataConfig:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["x"], "label": [0]}), root / "in" / "a.parquet")
    return config(root, "parquet")


def parquet(blobs: list[Any], values: list[Any]) -> Callable[[Path], DataConfig]:
    def make(root: Path) -> DataConfig:
        write_parquet(root / "in" / "a.parquet", blobs, values)
        return config(root, "parquet")

    return make


def cifar_of_numbers(root: Path) -> DataConfig:
    for name in ("train", "test"):
        write_parquet(root / "in" / f"{name}.parquet", [png(4, 4, 3)], [0.5])
    return config(root, "cifar10")


def cut_parquet(root: Path) -> DataConfig:
    parquet([png(4, 4)], [0])(root)
    file = root / "in" / "a.parquet"
    file.write_bytes(file.read_bytes()[:-30])
    return config(root, "parquet")


def only_test_parquet(root: Path) -> DataConfig:
    write_parquet(root / "in" / "test.parquet", [png(4, 4)], [0])
    return config(root, "parquet")


def arrays(images: np.ndarray, numbers: np.ndarray, **options: Any) -> Callable[[Path], DataConfig]:
    def make(root: Path) -> DataConfig:
        write_arrays(root / "in", images, numbers)
        return config(root, "arrays", **options)

    return make


def cut_arrays(root: Path) -> DataConfig:
    write_arrays(root / "in", pixels(20, 4, 4), labels(20, 2))
    file = root / "in" / "images.npy"
    file.write_bytes(file.read_bytes()[:-10])
    return config(root, "arrays")


def half_own_test(root: Path) -> DataConfig:
    write_arrays(root / "in", pixels(20, 4, 4), labels(20, 2))
    np.save(root / "in" / "test_images.npy", pixels(20, 4, 4))
    return config(root, "arrays")


def other_test_size(root: Path) -> DataConfig:
    write_arrays(root / "in", pixels(20, 4, 4), labels(20, 2))
    write_arrays(root / "in", pixels(20, 5, 4), labels(20, 2), "test_")
    return config(root, "arrays")


def object_arrays(root: Path) -> DataConfig:
    write_arrays(root / "in", np.array([{}], dtype=object), labels(1, 1))
    return config(root, "arrays")


def fashion(change: Callable[[Path], Any]) -> Callable[[Path], DataConfig]:
    def make(root: Path) -> DataConfig:
        write_fashion(root / "in")
        change(root / "in" / "train-images-idx3-ubyte.gz")
        return config(root, "fashion-mnist", 20)

    return make


def batches(change: Callable[[Path], Any]) -> Callable[[Path], DataConfig]:
    def make(root: Path) -> DataConfig:
        write_batches(root / "in")
        change(root / "in" / "data_batch_3")
        return config(root, "cifar10", 20)

    return make


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def options(**values: Any) -> Callable[[Path], DataConfig]:
    return lambda root: DataConfig(**values)


square, two = pixels(20, 4, 4), labels(20, 2)
ERRORS: dict[str, tuple[Callable[[Path], DataConfig], str]] = {
    "unknown name": (
        options(name="cifar"),
        r"unknown data.name='cifar': expected .*; did you mean 'cifar10'\?",
    ),
    "unknown name, none near": (options(name="zzz"), r"expected fashion-mnist, .*arrays, or FILE.py:FUNCTION$"),
    "no path": (options(name="cifar10"), r"'cifar10' needs a place: set data.path"),
    "no folder": (options(name="folder", path="no/such"), r"no such folder: no/such; set data.path"),
    "no parquet": (
        options(name="parquet", path="no/such"),
        r"no such folder or file: no/such; set data.path",
    ),
    "file as folder": (file_as_folder, r"no such folder: .*in; set data.path"),
    "validation 0": (
        options(validation=0),
        r"data.validation=0 is too small: set data.validation to 1 or more",
    ),
    "train_examples 0": (options(train_examples=0), r"set data.train_examples to 1 or more"),
    "image_size 0": (options(image_size=0), r"set data.image_size to 1 or more"),
    "crop -1": (options(crop=-1), r"set data.crop to 0 or more"),
    "cutout -1": (options(cutout=-1), r"set data.cutout to 0 or more"),
    "test 1": (options(test=1.0), r"data.test=1.0 is out of range: set data.test to a number between 0 and 1"),
    "test nan": (options(test=float("nan")), r"data.test=nan is out of range"),
    "no class folder": (lambda root: config(root, "folder"), r"no class folder in .*in: put the images into"),
    "class without image": (empty_class, r"no image in class folder .*in/c: add .*\.png"),
    "broken image": (
        broken_image,
        r"cannot read .*in/b/3.png as an image \(.*\); replace or remove it, or set data.skip_damaged=true",
    ),
    "16-bit image": (deep_image, r"in/b/3.png as an image \(it has more than 8 bits per channel\)"),
    "two sizes": (
        two_sizes,
        r"different sizes: 4x4 and 7x5 \(.*in/b/3.png\); set data.image_size, for example data.image_size=32",
    ),
    "unknown test class": (
        unknown_test_class,
        r"test class 'z' has no folder in .*in/train: add it or remove",
    ),
    "parquet columns": (
        missing_parquet_column,
        r"a.parquet needs a column 'image' .*found text: string, label: int64",
    ),
    "parquet image": (parquet([png(4, 4), b"no"], [0, 1]), r"row 1 of .*a.parquet is not an image"),
    "parquet no bytes": (parquet([png(4, 4), None], [0, 1]), r"row 1 of .*a.parquet is not an image"),
    "parquet no label": (
        parquet([png(4, 4)] * 2, [0, None]),
        r"no label in row 1 of .*a.parquet: fill column 'label'",
    ),
    "parquet lists": (
        parquet([png(4, 4)] * 2, [[0.5], [0.5, 1.0]]),
        r"column 'label' has rows of different shapes, \[1\] and \[2\]",
    ),
    "parquet classes as numbers": (cifar_of_numbers, r"labels must be integers .*got float32"),
    "parquet mask size": (parquet([png(4, 4)], [png(4, 5)]), r"the mask of row 0 .* is 5x4, and its image 4x4"),
    "parquet mask colours": (parquet([png(4, 4)], [png(4, 4, 3)]), r"the mask of row 0 .* is PNG of mode RGB"),
    "parquet mask broken": (parquet([png(4, 4)], [b"no"]), r"cannot read the mask of row 0 of .* as a mask"),
    "parquet empty": (parquet([], []), r"empty data: no image"),
    "parquet cut": (cut_parquet, r"cannot read .*a.parquet as a parquet file"),
    "parquet, test only": (only_test_parquet, r"no training \*.parquet file in .*in: correct data.path"),
    "cifar10 nothing there": (lambda root: config(root, "cifar10"), r"no CIFAR-10 in .*in: set data.path"),
    "cifar10 cut": (batches(cut), r"cannot read .*data_batch_3 as a CIFAR-10 batch"),
    "cifar10 missing": (batches(Path.unlink), r"no such file: .*data_batch_3"),
    "cifar10 code": (
        batches(lambda file: file.write_bytes(pickle.dumps(random.Random))),
        r"data_batch_3 as a CIFAR-10 batch \(it asks for random.Random, which is not allowed\)",
    ),
    "idx cut": (fashion(cut), r"cannot read .*train-images-idx3-ubyte.gz as an idx file"),
    "idx short": (
        fashion(lambda file: file.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x09ab"))),
        r"cannot read .*train-images-idx3-ubyte.gz as an idx file",
    ),
    "idx other": (fashion(lambda file: file.write_bytes(gzip.compress(b"hello"))), r"no idx header"),
    "idx missing": (fashion(Path.unlink), r"no such file: .*train-images-idx3-ubyte.gz"),
    "arrays missing": (lambda root: config(root, "arrays"), r"no such file: .*images.npy"),
    "arrays cut": (cut_arrays, r"cannot read .*images.npy as a NumPy array file"),
    "arrays pickled": (object_arrays, r"cannot read .*images.npy as a NumPy array file \(Object arrays"),
    "arrays half a test": (half_own_test, r"no such file: .*test_labels.npy"),
    "arrays test size": (
        other_test_size,
        r"images are \[1, 4, 4\] and test images \[1, 5, 4\].*set data.image_size",
    ),
    "arrays empty": (arrays(square[:0], two[:0]), r"empty data: no image"),
    "arrays count": (arrays(square, two[:7]), r"20 images but 7 labels: give one label for each image"),
    "arrays float": (arrays(square / 255, two), r"images must be uint8 \(0..255\), got float64"),
    "arrays shape": (arrays(pixels(20, 4, 4, 5), two), r"images must be \[N, H, W\].*got \[20, 4, 4, 5\]"),
    "masks of another size": (
        lambda root: replace(arrays(square, np.zeros((20, 2, 2), int))(root), flip=True),
        r"data.crop and data.flip move images of 4x4 pixels, and their targets int64 \[N, 2, 2\] are not of that size",
    ),
    "labels negative": (arrays(square, two - 1), r"label -1 at index 0 is out of range: expected 0..1"),
    "labels with a gap": (
        arrays(square, two * 2),
        r"label 2 at index 1 is out of range: expected 0..1 .*without a gap",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_clear_line(root: Path, case: str) -> None:
    make, message = ERRORS[case]
    with pytest.raises(DataError, match=message) as caught:
        read(make(root))
    assert "\n" not in str(caught.value)
    # No failure may leave a partial file behind.
    assert not [file for file in (root / "cache").glob("*") if not re.fullmatch(r"decoded-\w+\.npy", file.name)]


def test_failed_download_names_the_package(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    def fail(*_: Any) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr(sources, "_FASHION_PACKAGE", root / "none")
    monkeypatch.setattr(pooch, "retrieve", fail)
    with pytest.raises(DataError, match=r"\(no route to host\): install .* dataset-fashion-mnist or set data.path"):
        load(DataConfig(cache=str(root)), seed=0)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left in .*cache: set data.cache to another folder"),
        (errno.EIO, "cannot write .* set"),
    ],
)
def test_full_disk_leaves_no_file(root: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str) -> None:
    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    write_classes(root / "in", 4, 4)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=message):
        load(config(root, "folder", 2), seed=0)
    assert not list((root / "cache").iterdir())


def test_cache_folder_that_is_a_file(root: Path) -> None:
    write_classes(root / "in", 4, 4)
    (root / "cache").write_text("")
    with pytest.raises(DataError, match=r"cannot write .* in .*cache: set data.cache"):
        load(config(root, "folder", 2), seed=0)


@pytest.mark.parametrize("kind", ["numbers", "tags", "masks"])
@pytest.mark.parametrize("size", [None, 3])
def test_parquet_with_targets_that_are_no_classes(root: Path, kind: str, size: int | None) -> None:
    masks = [pixels(4, 6, seed=100 + i) % 5 for i in range(20)]
    values: dict[str, list[Any]] = {
        "numbers": [i / 7 for i in range(20)],
        "tags": [[float(i % 2), float(i % 3 == 0)] for i in range(20)],
        "masks": [encoded(mask) for mask in masks],
    }
    write_parquet(root / "in" / "a.parquet", [png(4, 6, seed=i) for i in range(20)], values[kind])
    source = read(config(root, "parquet", image_size=size))
    assert source.is_images and source.classes == () and len(source.targets) == 20
    if kind != "masks":
        assert torch.equal(source.targets, torch.tensor(values[kind]))
        return
    expected = np.stack(masks)
    if size is not None:  # Pillow's own nearest neighbour
        small = [Image.fromarray(mask).resize((4, 3), Image.Resampling.NEAREST) for mask in masks]
        expected = np.stack([np.asarray(image)[:, 0:3] for image in small])
    assert np.array_equal(source.targets.numpy(), expected)


def encoded(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def test_masks_of_arrays_are_resized_with_their_images(root: Path) -> None:
    images = pixels(20, 8, 4)
    masks = (images // 100).astype(np.int64)
    write_arrays(root / "in", images, masks)
    source = read(config(root, "arrays", image_size=2))
    assert source.examples.shape == (20, 1, 2, 2)
    assert np.array_equal(source.targets.numpy(), masks[:, 3:7:2, 1::2])  # the middle, each second place of it


@pytest.mark.parametrize("targets", [{"age": np.arange(20) / 20}, (np.arange(20), np.ones((20, 2)))])
def test_bytes_are_images_whatever_their_targets(targets: Any) -> None:
    source = sources.join([(pixels(20, 4, 4), targets)], None, None)
    assert source.is_images and source.classes == ()
