"""Examples in three splits by name; of images also the per-channel normalisation and the batched augmentation.

`load` returns the training and the validation split. The test split is opened once, by `open_test`.
`feed` and `prepare` bring a split to the device, for training and for scoring.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from supernet.base import trees
from supernet.base.files import read_json, record_digest, write_json
from supernet.base.randomness import stream
from supernet.data.images import DataError, write_cache, write_header
from supernet.data.sources import DataConfig, Source, are_masks, check, join, read
from supernet.data.task import IGNORED

__all__ = [
    "Data",
    "DataConfig",
    "DataError",
    "Split",
    "augment",
    "batches",
    "feed",
    "from_arrays",
    "joined",
    "load",
    "normalise",
    "open_test",
    "prepare",
]

_IN_MEMORY = 4 * 2**30  # bytes; a larger split is written to the cache and mapped
_HASHED = 10_000  # images of a split whose pixels are part of its hash
_CHUNK = 1024  # images handled at once, so that a mapped split never fills the memory
_ON_DEVICE = 10**9  # bytes; the images of a smaller split live on the device


@dataclass(frozen=True, slots=True)
class Split:
    """A part of the examples with their targets, and a hash of the choice.

    The hash is the first 16 hex digits of SHA-256 over shape, source indices, labels and checksums of the pixels (of
    10,000 to 20,000 images where there are more); of other examples over all their numbers.

    Attributes:
        examples: images uint8 [N, C, H, W] (perhaps memory-mapped); else a tensor, or a tuple or dict of tensors.
        targets: classes int64 [N]; else tensors as in `examples`.
        hash: see above.
        mapped: the file that the images are mapped from; another process maps it too, and is not sent the images.
    """

    examples: Any
    targets: Any
    hash: str
    mapped: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _split_elsewhere, (None if self.mapped else self.examples, self.targets, self.hash, self.mapped)

    def __len__(self) -> int:
        return trees.rows(self.targets)


def _split_elsewhere(examples: Any, targets: Any, split_hash: str, mapped: Path | None) -> Split:
    """A split in another process.

    Raises:
        DataError: the file that its images are mapped from is not there.
    """
    if mapped is None:
        return Split(examples, targets, split_hash)
    if not mapped.exists():
        raise DataError(f"{mapped} is not on {platform.node()}: put data.cache on a disk that all machines share")
    return Split(torch.from_numpy(np.load(mapped, mmap_mode="c")), targets, split_hash, mapped)


@dataclass(frozen=True, slots=True)
class SealedTest:
    """The test split before its one use; `open_test` hands it out, and writes down for which networks."""

    _split: Split

    def __len__(self) -> int:
        return len(self._split)

    def __reduce__(self) -> tuple[Any, ...]:
        """Sends nothing of it to another process: only the one that opens it tests."""
        return SealedTest, (Split(torch.zeros(0), torch.zeros(0), self._split.hash),)


@dataclass(frozen=True, slots=True)
class Data:
    """The examples of a run: two splits that a search may see, and the test split, sealed.

    `mean` and `std` are per channel, in units where white is 1, over the training split; empty if the examples are
    not images. `classes` is empty if the targets are not classes. `hashes` has the keys 'train', 'validation' and
    'test'. `test` is for `open_test` only. `summary` says in a line what the data are, for people.
    """

    train: Split
    validation: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hashes: dict[str, str]
    test: SealedTest = field(repr=False)
    summary: str = ""

    @property
    def inputs(self) -> Any:
        """Types and shapes of an example as a network gets it, as `supernet.base.trees.describe` tells them."""
        described = trees.describe(self.train.examples)
        return described.replace("uint8", "float32") if self.mean else described

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example without the batch dimension, for images (C, H, W) in pixels; () where it is not one tensor."""
        return tuple(self.train.examples.shape[1:]) if isinstance(self.train.examples, Tensor) else ()


def load(config: DataConfig, *, seed: int) -> Data:
    """Reads the source and splits it; the test split is sealed until `open_test`.

    The test split is the source's own test part, or a stratified share. The validation split is a
    stratified choice from the training images; the rest, in source order, is the training split.

    Args:
        config: the source and its options.
        seed: chooses the splits; the global random state is neither used nor changed.

    Raises:
        DataError: the configuration or the source cannot be used; the message says what to do.
    """
    source = read(config)
    return _data(source, _split(source, config, seed))


def open_test(
    sealed: SealedTest, *, record: Path, networks: Sequence[str], digests: Mapping[str, str] | None = None
) -> Split:
    """Writes `record`, then returns the test split.

    The record is JSON: opened (ISO time, UTC), networks, digests, split_hash, examples. It is written before the images
    are handed out. It opens the split for these networks only: a test that was killed continues, but no other network,
    and none with other weights, is tested on the same split afterwards. Of several processes at the same time one
    writes the record.

    Args:
        sealed: the test split of `load`.
        record: the file that says that the test split was opened.
        networks: what is tested; the identity of each network.
        digests: of the weights that are tested and of the configuration that they come from, each by a name. Records of
            earlier versions have none.

    Raises:
        DataError: the split was opened for other networks, other weights or another configuration before.
        DiskFull: there is no space for the record; the test split stays closed.
    """
    digests = dict(sorted((digests or {}).items()))
    if record.exists():
        _same_test(record, networks, digests)
    test = sealed._split
    entry = {
        "opened": datetime.now(UTC).isoformat(timespec="seconds"),
        "networks": sorted(networks),
        "digests": digests,
        "split_hash": test.hash,
        "examples": len(test),
    }
    if not record.exists():
        whole = record.with_name(f".{record.name}.{uuid.uuid4().hex}.tmp")
        write_json(whole, entry)
        try:
            os.link(whole, record)  # unlike a rename it fails if another process was first
        except FileExistsError:
            pass
        except OSError:  # a disk without hard links, such as exFAT; the lock of the run folder keeps others away
            if not record.exists():
                whole.replace(record)
        finally:
            whole.unlink(missing_ok=True)
        record_digest(record)
    _same_test(record, networks, digests)
    return test


def _same_test(record: Path, networks: Sequence[str], digests: Mapping[str, str]) -> None:
    entry = read_json(record)
    if entry.get("networks") != sorted(networks):
        raise DataError(
            f"the test split of this run was opened on {entry.get('opened')} for other networks; it is opened once "
            f"({record})"
        )
    before = entry.get("digests") or {}
    differing = [name for name in sorted({*before, *digests}) if before.get(name) != digests.get(name)]
    if before and differing:
        raise DataError(
            f"the test split of this run was opened on {entry.get('opened')} with another {differing[0]}; it is opened "
            f"once ({record}): put it back as it was, or choose another folder"
        )


def from_arrays(
    examples: Any,
    targets: Any,
    *,
    seed: int,
    validation: int | None = None,
    test_examples: Any = None,
    test_targets: Any = None,
    test: float = 0.2,
    classes: Sequence[str] | None = None,
) -> tuple[Data, Split]:
    """Splits examples that are already in memory; returns the data and, apart from it, the test split.

    Keep the second away from any ranking: it is for the one final evaluation.

    Args:
        examples: Images, uint8 [N, H, W], [N, C, H, W] or [N, H, W, C] with 1 or 3 channels; if both readings fit,
            channels come first. Or an array or tensor of anything else, or a tuple or dict of them.
        targets: Classes, integers [N], 0..K-1; or an array or tensor of anything else, or a tuple or dict of them.
        seed: chooses the splits.
        validation: examples for the validation split, >= 1; None = a fifth of the examples that are not for the test.
        test_examples: the test split, if it is fixed; needs `test_targets`.
        test_targets: its targets.
        test: share of the examples for the test split otherwise, in (0, 1).
        classes: names of the K classes; None = the labels' numbers, which then have no gap.

    Raises:
        DataError: Shapes, types, labels or counts do not fit.
    """
    config = DataConfig(name="arrays", validation=validation, test=test)
    check(config)
    if (test_examples is None) != (test_targets is None):
        raise DataError("test_examples and test_targets come together, one is missing: give both or none")
    pairs = [(examples, targets)]
    if test_examples is not None:
        pairs.append((test_examples, test_targets))
    source = join(pairs, classes, None)
    data = _data(source, _split(source, config, seed))
    return data, data.test._split


def normalise(
    images: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Turns uint8 images [N, C, H, W] into floats of mean 0 and deviation 1, on the same device.

    Args:
        images: uint8, any device.
        mean: per channel, in [0, 1].
        std: per channel, > 0, in the same unit.
        dtype: of the result; half precisions are computed in float32 and rounded once.
    """
    wide = torch.promote_types(dtype, torch.float32)
    centre = torch.tensor(mean, dtype=wide, device=images.device).view(1, -1, 1, 1)
    scale = torch.tensor(std, dtype=wide, device=images.device).view(1, -1, 1, 1)
    return images.to(wide).sub(255 * centre).div_(255 * scale).to(dtype)


def augment(images: Tensor, config: DataConfig, *, generator: torch.Generator) -> Tensor:
    """Random crop from the zero-padded image, mirror and cutout, drawn for each image by itself.

    Args:
        images: normalised floats [N, C, H, W], any device; never changed. Zero is the mean colour.
        config: `crop`, `flip` and `cutout`.
        generator: on the CPU or on the images' device; equal states give equal results.

    Returns:
        The same shape, type and device (`images` itself when all three are off).
    """
    return _augment(images, None, config, generator)[0]


def _augment(images: Tensor, targets: Any, config: DataConfig, generator: torch.Generator) -> tuple[Tensor, Any]:
    """As `augment`, with the targets: masks are cropped and mirrored with their images, all others stay."""
    count, _, height, width = images.shape

    def draw(columns: int, below: int) -> Tensor:
        numbers = torch.randint(below, (count, columns), generator=generator, device=generator.device)
        return numbers.to(images.device)

    offsets = draw(2, 2 * config.crop + 1) if config.crop else None
    flips = draw(1, 2).bool() if config.flip else None
    centres = torch.cat([draw(1, height), draw(1, width)], dim=1) if config.cutout else None
    moved_targets = trees.map_tensors(
        targets, lambda t: _move_mask(t, offsets, flips, config.crop) if are_masks(t, height, width) else t
    )
    return _apply(images, offsets, flips, centres, config), moved_targets


def _apply(
    images: Tensor, offsets: Tensor | None, flips: Tensor | None, centres: Tensor | None, config: DataConfig
) -> Tensor:
    """Apply drawn offsets [N, 2] in 0..2*crop, flips [N, 1] and centres [N, 2] (row, column)."""
    moved = _move(images, offsets, flips, config.crop)
    return moved if centres is None else _cut(moved, centres, config.cutout)


def _move(images: Tensor, offsets: Tensor | None, flips: Tensor | None, crop: int, fill: int = 0) -> Tensor:
    """The crops and mirror images of [N, C, H, W]; `fill` is what lies outside of an image."""
    if offsets is None and flips is None:
        return images
    count, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(count, height)
    columns = torch.arange(width, device=images.device).expand(count, width)
    top, left = (0, 0) if offsets is None else (offsets[:, :1], offsets[:, 1:])
    source_columns = columns if flips is None else torch.where(flips, width - 1 - columns, columns)
    padding = crop if offsets is not None else 0
    # One gather over flat pixels does crop and mirror; it is faster than indexing rows and columns.
    index = ((rows + top) * (width + 2 * padding))[:, :, None] + (source_columns + left)[:, None, :]
    index = index.view(count, 1, height * width).expand(-1, channels, -1)
    return F.pad(images, (padding,) * 4, value=fill).flatten(2).gather(2, index).view(images.shape)


def _move_mask(masks: Tensor, offsets: Tensor | None, flips: Tensor | None, crop: int) -> Tensor:
    """As `_move` for masks [N, ..., H, W]; classes outside of the image are those that are left out."""
    are_classes = not masks.is_floating_point() and masks.dtype != torch.bool
    planes = masks.reshape(len(masks), -1, *masks.shape[-2:])
    return _move(planes, offsets, flips, crop, IGNORED if are_classes else 0).view(masks.shape)


def _cut(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Sets squares around drawn centres [N, 2] (row, column) to zero."""
    count, _, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(count, height)
    columns = torch.arange(width, device=images.device).expand(count, width)
    start = centres - side // 2
    in_rows = (rows >= start[:, :1]) & (rows < start[:, :1] + side)
    in_columns = (columns >= start[:, 1:]) & (columns < start[:, 1:] + side)
    return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0)


def feed(
    split: Split, data: Data, config: DataConfig, *, batch_size: int, seed: int, device: torch.device
) -> Callable[[int], tuple[Any, Any]]:
    """Batches for training, by number of the step.

    The passes over the split, each in a new random order, form one endless stream: the last images
    of a pass that do not fill a batch open the next pass. A batch is a function of the step alone,
    so that a killed training continues with the same batches.

    Args:
        split: the examples to train on.
        data: gives the normalisation.
        config: `crop`, `flip` and `cutout`.
        batch_size: examples in a batch, >= 1.
        seed: chooses the orders and the augmentation.
        device: of the batches; a split of less than 1 GB is kept there as a whole.

    Returns:
        For the step, from 0: images float32 [batch_size, C, H, W], normalised, augmented and channels-last, or other
        examples as they are; and their targets, whole numbers as int64, masks moved with their images.
    """
    count = len(split)
    small = sum(tensor.nbytes for tensor in trees.tensors(split.examples)) < _ON_DEVICE
    examples = trees.map_tensors(split.examples, lambda t: t.to(device)) if small else split.examples
    targets = trees.map_tensors(split.targets, lambda t: t.to(device))

    @lru_cache(maxsize=2)  # a batch may lie across the end of a pass
    def order(epoch: int) -> Tensor:
        return torch.randperm(count, generator=stream(seed, "order", epoch))

    def batch(step: int) -> tuple[Any, Any]:
        start = step * batch_size
        stop = start + batch_size
        epochs = range(start // count, (stop - 1) // count + 1)
        index = torch.cat([order(e)[max(0, start - e * count) : stop - e * count] for e in epochs])
        chosen = trees.map_tensors(examples, lambda t: t[index.to(t.device)].to(device))
        expected = _as_int64(trees.take_rows(targets, index.to(device)))
        if data.mean:
            normalised = normalise(chosen, data.mean, data.std)
            chosen, expected = _augment(normalised, expected, config, stream(seed, "augment", step))
            chosen = chosen.contiguous(memory_format=torch.channels_last)
        return chosen, expected

    return batch


def _as_int64(targets: Any) -> Any:
    """Whole numbers as int64, as losses expect; masks are kept as they came, which takes less memory."""
    return trees.map_tensors(
        targets, lambda t: t if t.is_floating_point() or t.is_complex() or t.dtype == torch.bool else t.long()
    )


def prepare(split: Split, data: Data, *, device: torch.device, examples: int | None = None) -> tuple[Any, Any]:
    """Brings a split to the device, for scoring.

    Args:
        split: the examples to score on.
        data: gives the normalisation.
        device: of the result.
        examples: how many of the first ones; None = all.

    Returns:
        Images float32 [N, C, H, W], normalised and channels-last, or other examples as they are; and their targets,
        whole numbers as int64.
    """
    inputs, targets = (
        trees.map_tensors(tree, lambda t: t[:examples].to(device)) for tree in (split.examples, split.targets)
    )
    if data.mean:
        inputs = normalise(inputs, data.mean, data.std).contiguous(memory_format=torch.channels_last)
    return inputs, _as_int64(targets)


def batches(split: Split, data: Data, *, device: torch.device, size: int = 250) -> Iterator[tuple[Any, Any]]:
    """The whole split in order, `size` examples at a time, each batch as from `prepare`; for splits of any size."""
    for start in range(0, len(split), size):
        part = slice(start, start + size)
        examples, targets = trees.take_rows(split.examples, part), trees.take_rows(split.targets, part)
        yield prepare(Split(examples, targets, split.hash), data, device=device)


def some_of(split: Split, number: int, *, generator: torch.Generator) -> Split:
    """Examples of a split drawn at random, in random order; all if there are not as many."""
    drawn = torch.randperm(len(split), generator=generator)[:number]
    return Split(trees.take_rows(split.examples, drawn), trees.take_rows(split.targets, drawn), split.hash)


def joined(splits: Sequence[Split]) -> Split:
    """Splits as one, in this order."""
    return Split(
        trees.join_rows([split.examples for split in splits]),
        trees.join_rows([split.targets for split in splits]),
        "+".join(split.hash for split in splits),
    )


def _split(source: Source, config: DataConfig, seed: int) -> dict[str, NDArray[np.int64]]:
    """Indices into the source for 'train', 'validation' and 'test'.

    Those of the validation split are in random order, so that its first images and every ghost batch of it are a
    random sample even where the source is sorted by class; the others ascend.
    """
    generator = torch.Generator().manual_seed(seed)
    total = trees.rows(source.targets)
    labels = source.targets.numpy() if source.classes else np.zeros(total, np.int64)

    def choose(pool: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        chosen = _stratified(labels[pool], count, generator)
        return pool[chosen], np.delete(pool, chosen)

    train = np.arange(total - source.own_test - source.own_validation)
    own_validation = np.arange(len(train), len(train) + source.own_validation)
    test = np.arange(len(train) + source.own_validation, total)
    if not source.own_test:
        test, train = choose(train, max(1, round(config.test * total)))
    if source.own_validation and config.validation is not None:
        raise DataError(
            f"data.validation={config.validation}: the source has its own validation split of "
            f"{source.own_validation} examples: set data.validation=null to use it"
        )
    size = max(1, len(train) // 5) if config.validation is None else config.validation
    if not source.own_validation and size >= len(train):
        raise DataError(
            f"data.validation={size} leaves none of the {len(train)} training examples: "
            f"set data.validation to less, for example data.validation={max(1, len(train) // 5)}"
        )
    validation, train = (own_validation, train) if source.own_validation else choose(train, size)
    validation = validation[torch.randperm(len(validation), generator=generator).numpy()]
    if config.train_examples is not None:
        train, _ = choose(train, min(config.train_examples, len(train)))
    for part, index, setting in (
        ("test", test, "raise data.test"),
        ("validation", validation, "raise data.validation"),
        ("train", train, "raise data.train_examples" if config.train_examples else "lower data.validation"),
    ):
        counts = np.bincount(labels[index], minlength=len(source.classes))
        if not counts.all():
            missing = int(counts.argmin())
            places = {
                "validation": "add images of it to val/" if source.own_validation else "",
                "test": "add examples of it to the test part (test/ of a folder)" if source.own_test else "",
            }
            if places.get(part):
                raise DataError(
                    f"class {source.classes[missing]!r} has no example in the source's own {part} split: "
                    f"{places[part]}, or drop the class"
                )
            raise DataError(
                f"class {source.classes[missing]!r} has {(labels == missing).sum()} examples, too few to "
                f"appear in the {part} split: add examples of it or {setting}"
            )
    return {"train": train, "validation": validation, "test": test}


def _stratified(labels: NDArray[np.int64], count: int, generator: torch.Generator) -> NDArray[np.int64]:
    """Chooses `count` positions, ascending; each class in proportion, by the largest remainder."""
    sizes = np.bincount(labels)
    quota, remainder = np.divmod(count * sizes, len(labels))
    quota[np.argsort(-remainder, kind="stable")[: count - quota.sum()]] += 1
    order = torch.randperm(len(labels), generator=generator).numpy()
    order = order[np.argsort(labels[order], kind="stable")]
    rank = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels[order]]
    return np.sort(order[rank < quota[labels[order]]])


def _data(source: Source, parts: dict[str, NDArray[np.int64]]) -> Data:
    splits = {name: _take(source, index) for name, index in parts.items()}
    train = splits["train"]
    mean, std = _statistics(train.examples) if source.is_images else ((), ())
    hashes = {name: split.hash for name, split in splits.items()}
    return Data(
        train, splits["validation"], source.classes, mean, std, hashes, SealedTest(splits["test"]),
        _summary(source, parts),
    )  # fmt: skip


def _summary(source: Source, parts: dict[str, NDArray[np.int64]]) -> str:
    """One line: how many examples of what, what is ignored, and where the splits are from."""
    total = trees.rows(source.targets)
    kind = "images" if source.is_images else "examples"
    text = f"{total:,} {kind}"
    if source.classes:
        counts = np.bincount(source.targets.numpy(), minlength=len(source.classes))
        number = f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"
        text += f" of {len(source.classes):,} classes ({number} each)"
    else:
        text += f" with targets {trees.form_text(source.targets)}"
    if source.is_images:
        channels, height, width = source.examples.shape[1:]
        text += f", {width}x{height} {'RGB' if channels == 3 else 'grey'}"
        if any(are_masks(target, height, width) for target in trees.tensors(source.targets)):
            text += ", with masks"
    if source.ignored:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(source.ignored.items()))
        files = sum(source.ignored.values())
        text += f"; {files:,} file{'s' * (files != 1)} ignored ({reasons})"
    if source.damaged:
        text += f"; {len(source.damaged):,} damaged image{'s' * (len(source.damaged) != 1)} left out"
    sizes = {name: len(index) for name, index in parts.items()}
    places = {"validation": source.own_validation, "test": source.own_test}
    splits = [f"{name} {sizes[name]:,} ({'its own' if own else 'chosen here'})" for name, own in places.items()]
    return f"{text}; train {sizes['train']:,}, {', '.join(splits)}"


def _hash(source: Source, index: NDArray[np.int64]) -> str:
    form = source.examples.shape[1:] if source.is_images else (trees.describe(source.examples),)
    digest = hashlib.sha256(repr((len(index), *form)).encode())
    digest.update(index.astype("<i8").tobytes())
    for target in trees.tensors(source.targets):
        digest.update(target.numpy()[index].tobytes())
    if not source.is_images:
        for tensor in trees.tensors(source.examples):
            digest.update(tensor[torch.from_numpy(index)].view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]
    # Of a split that is too large to be read each time some thousand images stand for all.
    step = max(1, len(index) // _HASHED)
    for start in range(0, len(index), step * _CHUNK):
        digest.update(
            zlib.crc32(source.examples[index[start : start + step * _CHUNK : step]].tobytes()).to_bytes(4, "big")
        )
    return digest.hexdigest()[:16]


def _take(source: Source, index: NDArray[np.int64]) -> Split:
    split_hash, at = _hash(source, index), torch.from_numpy(index)
    targets = trees.take_rows(source.targets, at)
    if not source.is_images:
        return Split(trees.take_rows(source.examples, at), targets, split_hash)
    shape = (len(index), *source.examples.shape[1:])

    def write(file: IO[bytes]) -> None:
        write_header(file, shape)
        for start in range(0, len(index), _CHUNK):
            file.write(source.examples[index[start : start + _CHUNK]].tobytes())

    if source.cache is None or math.prod(shape) < _IN_MEMORY:
        return Split(torch.from_numpy(np.ascontiguousarray(source.examples[index])), targets, split_hash)
    path = source.cache.with_name(f"{source.cache.stem}-{split_hash}.npy").absolute()
    if not path.exists():
        write_cache(path, write)
    return Split(torch.from_numpy(np.load(path, mmap_mode="c")), targets, split_hash, path)


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel in [0, 1], from exact integer histograms."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].transpose(0, 1).flatten(1)
        counts += torch.stack([torch.bincount(channel, minlength=256) for channel in chunk])
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(dim=1, keepdim=True, dtype=torch.float64)
    mean = share @ levels
    std = (share * (levels - mean[:, None]) ** 2).sum(dim=1).sqrt()
    # A channel of one value has nothing to scale; dividing by its 0 would turn it into NaN.
    std = torch.where((counts > 0).sum(dim=1) > 1, std, 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())
