"""Reading and decoding: everything between a `DataConfig` and the examples and targets of its source.

Images are bytes; a function of the user gives them, or examples of any other kind. Their targets are classes, or
anything else: numbers, tags, masks. What is decoded is kept in a cache folder, and mapped from there.
"""

from __future__ import annotations

import gzip
import inspect
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from supernet.base import trees
from supernet.base.extras import extra
from supernet.base.files import cache_folder, check_digest
from supernet.base.names import did_you_mean
from supernet.base.own import file_of, is_function, load_function, users_code
from supernet.data.folders import list_classes
from supernet.data.images import (
    Blob,
    DataError,
    Form,
    check_images,
    decode,
    decode_mask,
    line,
    reading,
    square_masks,
)

NAMES = ("fashion-mnist", "cifar10", "digits", "folder", "parquet", "arrays")
"""Known values of `DataConfig.name`."""

_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_FASHION_HOST = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FASHION_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
# The files as the authors publish them; the Debian package holds the same contents, packed anew.
_FASHION_FILES = (
    ("train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ("train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    ("t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ("t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
)
_PARTS = 8  # arrays that an example may plausibly consist of; a longer list that does not fit is one of examples
_CHUNK = 1024  # rows of a parquet file read at once


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the examples come from, how they are split, and how images are augmented."""

    name: str = "fashion-mnist"
    """Source: 'fashion-mnist', 'cifar10', 'digits', 'folder', 'parquet', 'arrays', or FILE.py:FUNCTION, which returns
    (inputs, targets) or (inputs, targets, test inputs, test targets)."""

    path: str | None = None
    """Folder or file of the source; 'fashion-mnist' and 'digits' work without, a function gets it as `path`."""

    validation: int | None = None
    """Examples taken from the training examples for the validation split, >= 1; None = the source's own validation
    split, or a fifth of the training examples if it has none."""

    test: float = 0.2
    """Share of all examples for the test split where the source has none, in (0, 1)."""

    train_examples: int | None = None
    """The largest number of training examples (stratified), >= 1; None = all."""

    image_size: int | None = None
    """Pixels, >= 1: resize the shorter side, cut a centred square; None = sizes must already agree."""

    background: str = "white"
    """Colour behind what is transparent in an image, by a name or as #rrggbb."""

    skip_damaged: bool = False
    """Go on without images that cannot be read; otherwise all of them are named and nothing starts."""

    crop: int = 0
    """Pixels of zero padding on each side for the random crop, >= 0; 0 = off. Masks, which are targets of the size of
    the images, are cropped with their image; outside of it their class is -100, which cross-entropy leaves out."""

    flip: bool = False
    """Mirror each image left to right with probability 1/2, with its mask."""

    cutout: int = 0
    """Side in pixels of the square set to zero, >= 0; 0 = off."""

    cache: str | None = None
    """Folder for decoded images and downloads; None = the platform's cache folder."""


@dataclass(frozen=True, slots=True)
class Source:
    """All examples of a source, before they are split.

    Attributes:
        examples: images, uint8 [N, C, H, W], perhaps memory-mapped; else a tensor, or a tuple, list or dict of tensors
            with N rows each. The source's own test examples come last.
        targets: classes, int64 tensor [N], 0..K-1; else tensors as in `examples`.
        classes: names of the K classes; empty if the targets are not classes.
        own_test: number of examples in the source's own test part; 0 if it has none.
        cache: the file that `examples` maps, if any.
        own_validation: number of examples in the source's own validation part, which come before those of its test.
        ignored: number of files of the source that are not read, by the reason.
        damaged: a line for each image that could not be read and is left out.
    """

    examples: Any
    targets: Any
    classes: tuple[str, ...]
    own_test: int
    cache: Path | None = None
    own_validation: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    @property
    def is_images(self) -> bool:
        """Whether the examples are images: bytes that are normalised, and may be augmented."""
        return isinstance(self.examples, np.ndarray)


def _form_of(config: DataConfig) -> Form:
    """How the images of a source become pixels."""
    return Form(config.image_size, config.background, config.skip_damaged)


def check(config: DataConfig) -> None:
    """Raises `DataError` for a value out of its range."""
    from PIL.ImageColor import getrgb

    if config.name not in NAMES and not is_function(config.name):
        hint = did_you_mean(config.name, NAMES)
        names = f"{', '.join(NAMES)}, or FILE.py:FUNCTION"
        raise DataError(f"unknown data.name={config.name!r}: expected {names}{hint and f'; {hint}'}")
    for key, least in (("validation", 1), ("train_examples", 1), ("image_size", 1), ("crop", 0), ("cutout", 0)):
        value = getattr(config, key)
        if value is not None and value < least:
            raise DataError(f"data.{key}={value} is too small: set data.{key} to {least} or more")
    try:
        getrgb(config.background)
    except ValueError:
        raise DataError(
            f"data.background={config.background!r} is not a colour: use a name like white, or #rrggbb"
        ) from None
    if not 0 < config.test < 1:
        raise DataError(f"data.test={config.test} is out of range: set data.test to a number between 0 and 1, like 0.2")


def read(config: DataConfig) -> Source:
    """Reads the source; images that must be decoded are decoded once and then mapped from the cache.

    Raises:
        DataError: the configuration or the source cannot be used; the message says what to do.
    """
    check(config)
    source = _call_function(config) if is_function(config.name) else _read(config)
    _check_moved(source, config)
    return source


def _read(config: DataConfig) -> Source:
    """Reads a source known by name."""
    readers: dict[str, Callable[[DataConfig, Path], Source]] = {
        "fashion-mnist": _read_fashion,
        "cifar10": _read_cifar10,
        "digits": _read_digits,
        "folder": _read_folder,
        "parquet": _read_parquet,
        "arrays": _read_arrays,
    }
    return readers[config.name](config, place_of(config))


def place_of(config: DataConfig) -> Path:
    """The folder or file of a source that is no function; the current folder if it needs none.

    Raises:
        DataError: it is not named, or not there.
    """
    if config.path is None and config.name not in ("fashion-mnist", "digits"):
        raise DataError(f"data.name={config.name!r} needs a place: set data.path to its folder or file")
    path = Path(config.path or ".").expanduser()
    if not path.is_dir() and not (config.name in ("parquet", "arrays") and path.is_file()):
        kind = "folder or file" if config.name in ("parquet", "arrays") else "folder"
        raise DataError(f"no such {kind}: {path}; set data.path to the {kind} of the data")
    return path


def _check_labels(labels: NDArray[Any], classes: Sequence[str] | None) -> tuple[torch.Tensor, tuple[str, ...]]:
    if labels.ndim == 1 and labels.dtype == np.bool_:
        labels, classes = labels.astype(np.int64), classes or ("False", "True")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        got = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"labels must be integers of shape [N], got {got}: convert them")
    if not labels.size:
        raise DataError("empty data: no image and no label; give some images of each class")
    present = np.unique(labels)
    count = len(present) if classes is None else len(classes)
    wrong = (labels < 0) | (labels >= count)
    if wrong.any():
        at = int(wrong.argmax())
        raise DataError(
            f"label {labels[at]} at index {at} is out of range: expected 0..{count - 1} for {count} classes, "
            "without a gap; renumber the labels or name all classes, or for numbers to predict give floats"
        )
    return torch.from_numpy(labels.astype(np.int64)), tuple(classes or map(str, range(count)))


def join(
    parts: Sequence[tuple[Any, Any]],
    classes: Sequence[str] | None,
    image_size: int | None,
) -> Source:
    """Makes a source of the training and, if there is one, the test pair of examples and targets.

    Examples that are one array of bytes with three or four axes are images, whatever their targets are; all others are
    left as they are. Targets that are whole numbers [N] are classes; true or false, [N], are the classes False and
    True.

    Raises:
        DataError: Shapes, types or counts do not fit.
    """
    first = parts[0][0]
    if _is_array(first) and first.ndim in (3, 4) and first.dtype in (np.uint8, torch.uint8):
        return _join_images([(_numpy(x), y) for x, y in parts], classes, image_size)
    pairs = [(_tensors("inputs", x), _tensors("targets", y)) for x, y in parts]
    for pair in pairs:
        counts = [len(tensor) for tensor in trees.tensors(pair)]
        if not counts or len(set(counts)) > 1 or not counts[0]:
            raise DataError(f"inputs and targets need the same number of rows, above 0; got {_counts(pair, counts)}")
    try:
        examples, all_targets = (trees.join_rows([pair[i] for pair in pairs]) for i in (0, 1))
    except (RuntimeError, StopIteration, TypeError) as error:
        raise DataError(f"training and test examples do not have the same form: {line(error)}") from None
    own_test = trees.rows(examples) - trees.rows(pairs[0][0])
    return Source(examples, *_with_classes(all_targets, classes), own_test)


def _with_classes(targets: Any, classes: Sequence[str] | None) -> tuple[Any, tuple[str, ...]]:
    """Targets with the names of their classes; whole numbers [N] are classes, all others have none."""
    is_array = isinstance(targets, torch.Tensor)
    if is_array and (classes is not None or (targets.ndim == 1 and not targets.is_floating_point())):
        return _check_labels(targets.numpy(), classes)
    return targets, ()


def _counts(pair: tuple[Any, Any], counts: list[int]) -> str:
    """The numbers of rows, for a message; and what to do if examples come one by one."""
    several = [tree for tree in pair if isinstance(tree, tuple) and len(tree) > _PARTS]
    if several:
        return f"a list of {len(several[0]):,} arrays, each taken for a part of the examples: stack them into one array"
    return str(counts)


def _is_array(thing: Any) -> bool:
    return isinstance(thing, (np.ndarray, torch.Tensor))


def _numpy(values: NDArray[Any] | torch.Tensor) -> NDArray[Any]:
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)


def _tensors(what: str, tree: Any) -> Any:
    """The same structure of tensors on the CPU; numbers in double or half precision become single, as networks expect.

    Raises:
        DataError: a part of it is not an array of numbers, or a number is NaN or infinite.
    """
    if isinstance(tree, dict):
        return {name: _tensors(what, part) for name, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(_tensors(what, part) for part in tree)
    if not _is_array(tree) or tree.ndim == 0 or (isinstance(tree, np.ndarray) and tree.dtype.kind not in "biuf"):
        got = f"{tree.dtype} {list(tree.shape)}" if _is_array(tree) else type(tree).__name__
        raise DataError(
            f"{what} must be an array or tensor of numbers, [N, ...], or a tuple, list or dict of them; got {got}"
        )
    # Arrays that are mapped, read-only or reversed become ones that torch can take.
    array = tree if isinstance(tree, torch.Tensor) else torch.from_numpy(np.require(tree, requirements=["C", "W"]))
    values = array.detach().cpu()
    if values.is_floating_point() and not values.isfinite().all():
        raise DataError(f"{what} hold NaN or an infinite value: replace or leave out such rows")
    return values.float() if values.is_floating_point() else values


def _call_function(config: DataConfig) -> Source:
    make = load_function(config.name)
    arguments = (
        {"path": config.path} if "path" in inspect.signature(make).parameters and config.path is not None else {}
    )
    with users_code(file_of(config.name)):
        parts = make(**arguments)
    return _from_parts(config, config.name, parts)


def _from_parts(config: DataConfig, name: str, parts: Any) -> Source:
    """The source of (inputs, targets) or of these and the test's, which a function or a file has."""
    if not isinstance(parts, (tuple, list)) or len(parts) not in (2, 4):
        got = f"{len(parts)} things" if isinstance(parts, (tuple, list)) else type(parts).__name__
        hint = ""
        if isinstance(parts, Dataset):
            hint = (
                ": for a Dataset return torch.utils.data.default_collate(list(dataset)), which is both for all examples"
            )
        raise DataError(
            f"{name} must return (inputs, targets) or (inputs, targets, test inputs, test targets), got {got}{hint}"
        )
    source = join([(parts[i], parts[i + 1]) for i in range(0, len(parts), 2)], None, config.image_size)
    if not source.is_images:
        for setting in ("image_size", "crop", "flip", "cutout"):
            if getattr(config, setting):
                raise DataError(
                    f"data.{setting} is for images, one array of uint8 [N, C, H, W], and {name} gives others: "
                    f"leave data.{setting} out, or return the images as bytes"
                )
    return source


def _join_images(
    parts: Sequence[tuple[NDArray[Any], Any]],
    classes: Sequence[str] | None,
    image_size: int | None,
) -> Source:
    """Makes a source of the training and, if there is one, the test pair of images and targets.

    Raises:
        DataError: Shapes, types, targets or counts do not fit.
    """
    images = [check_images(pair[0], image_size) for pair in parts]
    targets = [_tensors("targets", pair[1]) for pair in parts]
    for x, y in zip(images, targets, strict=True):
        if not len(x):
            raise DataError("empty data: no image; give some images of each class")
        counts = {len(tensor) for tensor in trees.tensors(y)}
        if counts != {len(x)}:
            number = ", ".join(map(str, sorted(counts))) or "no"
            raise DataError(f"{len(x)} images but {number} labels: give one label for each image")
    shape, test_shape = images[0].shape[1:], images[-1].shape[1:]
    if shape != test_shape:
        raise DataError(
            f"training images are {list(shape)} and test images {list(test_shape)} (C, H, W): "
            "convert one of them, or for equal sizes set data.image_size, for example data.image_size=32"
        )
    if image_size is not None:
        targets = [
            _square_masks(y, check_images(x, None).shape[2:], image_size)
            for (x, _), y in zip(parts, targets, strict=True)
        ]
    try:
        joined_targets = trees.join_rows(targets)
    except (RuntimeError, StopIteration, TypeError) as error:
        raise DataError(f"training and test targets do not have the same form: {line(error)}") from None
    # One part stays as it is: joining would copy it.
    joined = np.concatenate(images) if len(images) > 1 else images[0]
    return Source(joined, *_with_classes(joined_targets, classes), len(joined) - len(images[0]))


def are_masks(target: torch.Tensor, height: int, width: int) -> bool:
    """Whether targets have a value for each pixel of their images: [N, H, W] or [N, ..., H, W]."""
    return target.ndim > 2 and target.shape[-2:] == (height, width)


def _square_masks(targets: Any, sides: Sequence[int], size: int) -> Any:
    """The same targets with masks resized as their images are."""
    height, width = sides

    def resized(target: torch.Tensor) -> torch.Tensor:
        if not are_masks(target, height, width) or (height, width) == (size, size):
            return target
        return torch.from_numpy(square_masks(target.numpy(), size))

    return trees.map_tensors(targets, resized)


def _check_moved(source: Source, config: DataConfig) -> None:
    """Refuses to move images by a random crop or mirror where it is not known how their targets move.

    Raises:
        DataError: a target has several axes and is not of the size of the images.
    """
    if source.is_images and (config.crop or config.flip):
        sides = source.examples.shape[2:]
        for target in trees.tensors(source.targets):
            if target.ndim > 2 and not are_masks(target, *sides):
                raise DataError(
                    f"data.crop and data.flip move images of {sides[1]}x{sides[0]} pixels, and their targets "
                    f"{trees.form_text(target)} are not of that size: give masks [N, {sides[0]}, {sides[1]}], or "
                    "leave data.crop and data.flip out"
                )


def _read_arrays(config: DataConfig, path: Path) -> Source:
    if path.is_file():
        with reading(path, "a file of tensors"):
            check_digest(path)
            tensors = torch.load(path, weights_only=True)
        return _from_parts(config, str(path), list(tensors.values()))

    def pair(prefix: str) -> tuple[NDArray[Any], Any]:
        return array(f"{prefix}images.npy"), array(f"{prefix}labels.npy")

    def array(name: str) -> NDArray[Any]:
        with reading(path / name, "a NumPy array file"):
            return np.asarray(np.load(path / name, allow_pickle=False))

    own_test = any((path / f"test_{name}.npy").exists() for name in ("images", "labels"))
    return _join_images([pair(prefix) for prefix in ("", "test_")[: 1 + own_test]], None, config.image_size)


def _read_digits(config: DataConfig, path: Path) -> Source:
    digits = extra("sklearn.datasets", "digits", "data.name=digits").load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return _join_images([(images, digits.target)], None, config.image_size)


def _read_fashion(config: DataConfig, path: Path) -> Source:
    names = [name for name, _ in _FASHION_FILES]
    if config.path is not None:
        files = [path / name for name in names]
    elif all((_FASHION_PACKAGE / name).exists() for name in names):
        files = [_FASHION_PACKAGE / name for name in names]
    else:
        files = [_download(name, digest, _cache(config)) for name, digest in _FASHION_FILES]
    images, labels, test_images, test_labels = map(_read_idx, files)
    return _join_images([(images, labels), (test_images, test_labels)], _FASHION, config.image_size)


def _download(name: str, digest: str, folder: Path) -> Path:
    import pooch

    try:
        return Path(pooch.retrieve(_FASHION_HOST + name, f"sha256:{digest}", name, folder / "fashion-mnist"))
    except Exception as error:  # pooch passes on whatever its transport raises
        raise DataError(
            f"cannot download {name} ({line(error)}): install the Debian package dataset-fashion-mnist "
            "or set data.path to a folder with the four .gz files"
        ) from error


def _read_idx(path: Path) -> NDArray[np.uint8]:
    with reading(path, "an idx file"):
        with gzip.open(path) as file:
            content = file.read()
        if content[:3] != b"\0\0\x08":
            raise ValueError("no idx header of unsigned bytes")
        start = 4 + 4 * content[3]
        shape = np.frombuffer(content[4:start], ">u4").tolist()
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_cifar10(config: DataConfig, path: Path) -> Source:
    folder = path / "cifar-10-batches-py" if (path / "cifar-10-batches-py").is_dir() else path
    if (folder / "data_batch_1").exists():
        batches = [_read_batch(folder / f"data_batch_{number}") for number in range(1, 6)]
        train_pair = np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])
        return _join_images([train_pair, _read_batch(folder / "test_batch")], _CIFAR10, config.image_size)
    train, test = sorted(folder.glob("train*.parquet")), sorted(folder.glob("test*.parquet"))
    if not (train and test):
        raise DataError(
            f"no CIFAR-10 in {path}: set data.path to a folder with train*.parquet and test*.parquet, "
            "or with data_batch_1 to 5 and test_batch"
        )
    return _from_parquet(config, train, test, _CIFAR10)


class _BatchUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain values only: a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        # The official files name NumPy's former module, which warns when it is imported today.
        module = module.replace("numpy.core", "numpy._core")
        allowed = {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "encode"),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return super().find_class(module, name)


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    with reading(path, "a CIFAR-10 batch"):
        with path.open("rb") as file:
            batch = _BatchUnpickler(file, encoding="bytes").load()
        pixels: NDArray[np.uint8] = batch[b"data"]
        return pixels.reshape(-1, 3, 32, 32), np.array(batch[b"labels"])


def _read_folder(config: DataConfig, path: Path) -> Source:
    listing = list_classes(path)

    def blobs() -> Iterator[Blob]:
        for file in listing.files:
            try:
                content: bytes | OSError = file.read_bytes()
            except OSError as error:
                content = error
            yield str(file), content

    decoded = decode(blobs, len(listing.files), listing.files, _form_of(config), _cache(config))
    own = np.repeat(
        [0, 1, 2],
        [len(listing.files) - listing.own_validation - listing.own_test, listing.own_validation, listing.own_test],
    )[decoded.kept]
    labels = torch.tensor(listing.labels)[torch.from_numpy(decoded.kept)]
    return Source(
        decoded.images, labels, listing.classes, int((own == 2).sum()), decoded.file,
        own_validation=int((own == 1).sum()), ignored=listing.ignored, damaged=decoded.damaged,
    )  # fmt: skip


def _read_parquet(config: DataConfig, path: Path) -> Source:
    if path.is_file():
        return _from_parquet(config, [path], [], None)
    files = sorted(path.glob("*.parquet"))
    test = [file for file in files if file.name.startswith("test")]
    # A folder that names its training files may hold other parts too, such as validation*.parquet.
    train = [file for file in files if file.name.startswith("train")] or [f for f in files if f not in test]
    if not train:
        raise DataError(f"no training *.parquet file in {path}: correct data.path")
    return _from_parquet(config, train, test, None)


def _from_parquet(config: DataConfig, train: list[Path], test: list[Path], classes: Sequence[str] | None) -> Source:
    pq = extra("pyarrow.parquet", "parquet", "a parquet file")

    files = [*train, *test]
    columns: list[tuple[str, str]] = []
    values: list[Any] = []
    rows: list[int] = []
    for file in files:
        with reading(file, "a parquet file"), pq.ParquetFile(file) as table:
            names = _columns(table.schema_arrow, file)
            targets = table.read(columns=[names[1]]).column(0).to_pylist()
        if None in targets:
            raise DataError(f"no label in row {targets.index(None)} of {file}: fill column {names[1]!r}")
        columns.append(names)
        rows.append(len(targets))
        values += targets

    def blobs() -> Iterator[Blob]:
        for file, (column, _) in zip(files, columns, strict=True):
            row = 0
            with reading(file, "a parquet file"), pq.ParquetFile(file) as table:
                for batch in table.iter_batches(_CHUNK, columns=[column]):
                    for cell in batch.column(0).to_pylist():
                        yield f"row {row} of {file}", _content(cell) or b""
                        row += 1

    if classes is None and any(isinstance(value, str) for value in values):
        values = [str(value) for value in values]
        classes = sorted(set(values))
        numbers = {name: number for number, name in enumerate(classes)}
        values = [numbers[value] for value in values]
    decoded = decode(blobs, len(values), files, _form_of(config), _cache(config)) if values else None
    if decoded is None:
        raise DataError("empty data: no image and no label; give some images of each class")
    if _content(values[0]) is not None:
        values = _masks(values, blobs(), set(decoded.kept.tolist()), config.image_size)
    targets, classes = _with_classes(_tensors("targets", _array(values, columns[0][1])), classes)
    in_test = np.arange(len(values)) >= sum(rows[: len(train)])
    kept = torch.from_numpy(decoded.kept)
    own_test = int(in_test[decoded.kept].sum())
    return Source(decoded.images, targets[kept], classes, own_test, decoded.file, damaged=decoded.damaged)


def _content(cell: Any) -> bytes | None:
    """The bytes of a file in a cell, also as in the data sets of Hugging Face; None if it holds something else."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else None


def _masks(cells: Sequence[Any], images: Iterator[Blob], kept: set[int], size: int | None) -> list[NDArray[Any]]:
    """The masks of all rows; empty ones for images that are left out."""
    masks = [
        decode_mask(f"the mask of {name}", _content(cell) or b"", image, size)
        if row in kept and isinstance(image, bytes)
        else None
        for row, (cell, (name, image)) in enumerate(zip(cells, images, strict=True))
    ]
    empty = next(np.zeros_like(mask) for mask in masks if mask is not None)
    return [empty if mask is None else mask for mask in masks]


def _array(values: Sequence[Any], column: str) -> NDArray[Any]:
    """The cells of a column as one array.

    Raises:
        DataError: they are lists or masks of different lengths.
    """
    shapes = {np.shape(value) for value in values}
    if len(shapes) > 1:
        first, second = sorted(shapes)[:2]
        raise DataError(
            f"column {column!r} has rows of different shapes, {list(first)} and {list(second)}: make them equal"
        )
    return np.array(values)


_LABELS = ("label", "labels", "class", "fine_label", "target", "targets", "tags", "mask", "masks")
"""Names of the column of a parquet file that holds the targets, in the order in which they are looked for."""


def _columns(schema: Any, file: Path) -> tuple[str, str]:
    """Names of the image and the target column."""
    kinds = {field.name: str(field.type) for field in schema}
    label = next((name for name in _LABELS if name in kinds), None)
    binary = [name for name, kind in kinds.items() if re.fullmatch(r"(large_)?binary|struct<.*\bbytes: .*", kind)]
    binary = [name for name in binary if name != label]
    image = next((name for name in ("image", "img", "bytes") if name in binary), None)
    image = image or (binary[0] if len(binary) == 1 else None)
    if image is None or label is None:
        columns = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
        raise DataError(
            f"{file} needs a column 'image' (bytes) and a column 'label' (a class as integer or string, a number, a "
            f"list of numbers, or a mask as PNG), found {columns}: rename the columns"
        )
    return image, label


def _cache(config: DataConfig) -> Path:
    if config.cache is not None:
        return Path(config.cache).expanduser()
    return cache_folder()
