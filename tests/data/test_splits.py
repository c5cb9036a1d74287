"""Splits, normalisation, augmentation and batches of `supernet.data.splits`, on small made data only."""

import errno
import json
import multiprocessing
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.base.files import DiskFull, write_json
from supernet.data import splits as data
from supernet.data.images import DataError
from supernet.data.sources import DataConfig
from supernet.data.splits import Split, augment, feed, from_arrays, load, normalise, open_test, prepare, some_of
from supernet.data.task import IGNORED
from tests.makers import config, labels, pixels, tagged, tags, write_arrays, write_classes

quick = settings(max_examples=30, deadline=None)
CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path


# --- splits


@quick
@given(
    sizes=st.lists(st.integers(20, 60), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
    share=st.floats(0.15, 0.4),
    part=st.floats(0.2, 0.5),
)
def test_splits_are_disjoint_cover_all_and_are_stratified(
    sizes: list[int], seed: int, share: float, part: float
) -> None:
    numbers = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    total = len(numbers)
    wanted_test = round(share * total)
    validation = round(part * (total - wanted_test))
    made, test = from_arrays(tagged([*range(total)]), numbers, seed=seed, validation=validation, test=share)
    found = [tags(split) for split in (made.train, made.validation, test)]
    assert sorted(sum(found, [])) == list(range(total))
    assert found[0] == sorted(found[0])
    assert found[2] == sorted(found[2])
    assert (len(found[1]), len(found[2])) == (validation, wanted_test)
    for split, chosen in zip((made.train, made.validation, test), found, strict=True):
        assert split.targets.tolist() == numbers[chosen].tolist()
        assert split.targets.dtype == torch.int64 and split.examples.dtype == torch.uint8
    test_counts = np.bincount(numbers[found[2]], minlength=len(sizes))
    assert (abs(test_counts - wanted_test * np.array(sizes) / total) < 1).all()
    rest = np.array(sizes) - test_counts
    assert (abs(np.bincount(numbers[found[1]], minlength=len(sizes)) - validation * rest / rest.sum()) < 1).all()


@quick
@given(seed=st.integers(0, 2**31), other=st.integers(0, 2**31))
def test_the_seed_alone_chooses_the_splits(seed: int, other: int) -> None:
    def make(seed: int) -> data.Data:
        return from_arrays(tagged([*range(200)]), labels(200, 4), seed=seed, validation=40)[0]

    torch.manual_seed(other)
    before = torch.get_rng_state()
    first = make(seed)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert make(seed).hashes == first.hashes
    assert tags(make(seed).train) == tags(first.train)
    if other != seed:
        assert make(other).validation.hash != first.validation.hash


def test_own_test_images_stay_the_test_split_for_every_seed() -> None:
    def make(seed: int) -> tuple[data.Data, data.Split]:
        own = tagged([*range(100, 120)])
        return from_arrays(
            tagged([*range(100)]),
            labels(100, 2),
            seed=seed,
            validation=10,
            test_examples=own,
            test_targets=labels(20, 2),
        )

    (first, test), (second, again) = make(0), make(1)
    assert tags(test) == tags(again) == list(range(100, 120))
    assert first.hashes["test"] == second.hashes["test"] == test.hash
    assert first.hashes["validation"] != second.hashes["validation"]
    assert len(first.train.targets) == 90


def test_train_examples_limits_the_training_split_only(root: Path) -> None:
    write_arrays(root / "in", tagged([*range(100)]), labels(100, 4))
    whole = load(config(root, "arrays", 20), seed=3)
    small = load(config(root, "arrays", 20, train_examples=8), seed=3)
    assert small.validation.hash == whole.validation.hash and small.hashes["test"] == whole.hashes["test"]
    assert small.train.targets.bincount().tolist() == [2, 2, 2, 2]
    assert set(tags(small.train)) < set(tags(whole.train))
    assert load(config(root, "arrays", 20, train_examples=999), seed=3).hashes == whole.hashes


def test_splits_hold_no_test_image_and_the_sealed_one_does_not_show_it(root: Path) -> None:
    write_arrays(root / "in", tagged([*range(100)]), labels(100, 4))
    made = load(config(root, "arrays", 20), seed=0)
    test = open_test(load(config(root, "arrays", 20), seed=0).test, record=root / "test.json", networks=["a"])
    seen = set(tags(made.train)) | set(tags(made.validation))
    assert not seen & set(tags(test)) and len(seen) == 80
    assert "SealedTest" not in repr(made)
    assert not [name for name in dir(made.test) if not name.startswith("_")]
    # Whatever the tensors share memory with must not reach the test images either.
    for split in (made.train, made.validation):
        assert split.examples.untyped_storage().nbytes() == split.examples.numel()


def test_the_test_split_is_opened_once(root: Path) -> None:
    write_arrays(root / "in", tagged([*range(50)]), labels(50, 2))
    record = root / "run" / "test.json"
    made = load(config(root, "arrays"), seed=0)
    test = open_test(load(config(root, "arrays"), seed=0).test, record=record, networks=["a"])
    entry = json.loads(record.read_text())
    assert entry["split_hash"] == test.hash == made.hashes["test"] and entry["examples"] == 10
    assert entry["opened"].endswith("+00:00") and sorted(os.listdir(record.parent)) == [".digests.json", "test.json"]
    again = open_test(made.test, record=record, networks=["a"])  # a test that was killed goes on
    assert again.hash == test.hash
    with pytest.raises(DataError, match=rf"opened on {re.escape(entry['opened'])} for other networks"):
        open_test(load(config(root, "arrays"), seed=0).test, record=record, networks=["a", "b"])
    assert json.loads(record.read_text()) == entry
    record.unlink()
    digests = {"configuration": "1", "retrain/a/0/weights.safetensors": "2"}
    for _ in range(2):
        open_test(made.test, record=record, networks=["a"], digests=digests)
    for other in ({**digests, "retrain/a/0/weights.safetensors": "3"}, {"configuration": "1"}):
        with pytest.raises(DataError, match=r"with another retrain/a/0/weights\.safetensors; it is opened once"):
            open_test(made.test, record=record, networks=["a"], digests=other)
    with pytest.raises(DataError, match=r"with another configuration; it is opened once"):
        open_test(made.test, record=record, networks=["a"], digests={**digests, "configuration": "4"})
    record.write_text("[broken")
    with pytest.raises(ValueError, match="damaged"):
        open_test(load(config(root, "arrays"), seed=0).test, record=record, networks=["a"])


def test_from_arrays_reads_every_layout_and_copies() -> None:
    images = pixels(40, 5, 6, 3)
    as_last, _ = from_arrays(images, labels(40, 2), seed=0, validation=8)
    as_first, _ = from_arrays(
        torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels(40, 2)), seed=0, validation=8
    )
    grey, _ = from_arrays(images[..., 0], labels(40, 2), seed=0, validation=8, classes=("x", "y"))
    assert as_last.input_shape == as_first.input_shape == (3, 5, 6)
    assert torch.equal(as_last.train.examples, as_first.train.examples) and as_last.train.examples.is_contiguous()
    assert torch.equal(grey.train.examples, as_last.train.examples[:, :1])
    assert as_last.classes == ("0", "1") and grey.classes == ("x", "y")
    before = images.copy()
    as_last.train.examples.zero_()
    assert (images == before).all()


# --- errors


def rare_class(root: Path) -> DataConfig:
    write_classes(root / "in", 4, 4, each=20)
    write_classes(root / "in", 4, 4, each=2, classes="c")
    return config(root, "folder", 4)


def class_without_test(root: Path) -> DataConfig:
    write_classes(root / "in" / "train", 4, 4)
    write_classes(root / "in" / "test", 4, 4, classes="a")
    return config(root, "folder", 2)


def class_without_validation(root: Path) -> DataConfig:
    write_classes(root / "in" / "train", 4, 4)
    write_classes(root / "in" / "val", 4, 4, classes="a")
    return config(root, "folder", None)


def few_training_images(root: Path) -> DataConfig:
    write_classes(root / "in", 4, 4)
    return config(root, "folder", 2, train_examples=1)


ERRORS: dict[str, tuple[Callable[[Path], DataConfig], str]] = {
    "validation too large": (
        lambda root: DataConfig(name="digits", validation=5000),
        r"data.validation=5000 leaves none of the 1438 training examples: .* for example data.validation=287",
    ),
    "rare class": (
        rare_class,
        r"class 'c' has 2 examples, too few to appear in the .* split: add examples of it or raise",
    ),
    "class without test": (
        class_without_test,
        r"class 'b' has no example in the source's own test split: add examples of it to the test part",
    ),
    "class without validation": (
        class_without_validation,
        r"class 'b' has no example in the source's own validation split: add images of it to val/, or drop the class",
    ),
    "few training images": (
        few_training_images,
        r"in the train split: add examples of it or raise data.train_examples",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_clear_line(root: Path, case: str) -> None:
    make, message = ERRORS[case]
    with pytest.raises(DataError, match=message) as caught:
        load(make(root), seed=0)
    assert "\n" not in str(caught.value)
    # No failure may leave a partial file behind.
    assert not [file for file in (root / "cache").glob("*") if not re.fullmatch(r"decoded-\w+\.npy", file.name)]


square, two = pixels(20, 4, 4), labels(20, 2)


def test_from_arrays_errors() -> None:
    with pytest.raises(DataError, match=r"label 1 at index 1 is out of range: expected 0..0 for 1 classes"):
        from_arrays(square, two, seed=0, validation=4, classes=["only"])
    with pytest.raises(DataError, match="test_examples and test_targets come together"):
        from_arrays(square, two, seed=0, validation=4, test_examples=square)
    with pytest.raises(DataError, match="class 'c' has 0 examples"):
        from_arrays(square, two, seed=0, validation=4, classes="abc")


def test_no_space_for_the_record_leaves_the_test_split_closed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "refused")

    write_arrays(root / "in", tagged([*range(50)]), labels(50, 2))
    record = root / "run" / "test.json"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull, match="no space"):
            open_test(load(config(root, "arrays"), seed=0).test, record=record, networks=["a"])
    assert not list(record.parent.iterdir())
    assert len(open_test(load(config(root, "arrays"), seed=0).test, record=record, networks=["a"]).targets) == 10


def open_at_once(options: DataConfig, record: Path, network: str, barrier: Any, results: Any) -> None:

    def wait(*arguments: Any) -> None:  # all have seen that there is no record
        barrier.wait(400)
        write_json(*arguments)

    vars(data)["write_json"] = wait
    try:
        open_test(load(options, seed=0).test, record=record, networks=[network])
        results.put("")
    except DataError as error:
        results.put(str(error))


def test_of_several_processes_one_opens_the_test_split(root: Path) -> None:
    write_arrays(root / "in", tagged([*range(50)]), labels(50, 2))
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    record = root / "run" / "test.json"
    arguments = [(config(root, "arrays"), record, name, barrier, results) for name in "abc"]
    processes = [context.Process(target=open_at_once, args=a) for a in arguments]
    for process in processes:
        process.start()
    messages = sorted(results.get(timeout=500) for _ in processes)
    for process in processes:
        process.join()
    opened = json.loads(record.read_text())["opened"]
    assert messages[0] == "" and all(f"was opened on {opened}" in message for message in messages[1:])
    assert sorted(os.listdir(root / "run")) == [".digests.json", "test.json"]


# --- normalisation and augmentation


def test_normalise() -> None:
    made, _ = from_arrays(pixels(60, 3, 5, 6), labels(60, 2), seed=0, validation=8)
    result = normalise(made.train.examples, made.mean, made.std, torch.float64)
    assert torch.allclose(result.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(result.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(normalise(made.train.examples, made.mean, made.std), result.float(), atol=1e-5)
    assert normalise(made.train.examples, made.mean, made.std, torch.bfloat16).dtype == torch.bfloat16


def test_normalise_keeps_a_constant_channel_finite() -> None:
    made, _ = from_arrays(np.full((20, 4, 4), 77, np.uint8), labels(20, 2), seed=0, validation=4)
    assert made.std == (1.0,) and normalise(made.train.examples, made.mean, made.std).abs().max() < 1e-6


def one_by_one(
    images: torch.Tensor,
    offsets: torch.Tensor | None,
    flips: torch.Tensor | None,
    centres: torch.Tensor | None,
    config: DataConfig,
) -> torch.Tensor:
    """The slow reference: each image by itself, pixel by pixel."""
    count, _, height, width = images.shape
    result = torch.zeros_like(images)
    for n in range(count):
        for row in range(height):
            for column in range(width):
                if centres is not None:
                    top, left = (int(c) - config.cutout // 2 for c in centres[n])
                    if top <= row < top + config.cutout and left <= column < left + config.cutout:
                        continue
                from_row, from_column = row, width - 1 - column if flips is not None and flips[n] else column
                if offsets is not None:
                    from_row += int(offsets[n, 0]) - config.crop
                    from_column += int(offsets[n, 1]) - config.crop
                if 0 <= from_row < height and 0 <= from_column < width:
                    result[n, :, row, column] = images[n, :, from_row, from_column]
    return result


@quick
@given(
    crop=st.integers(0, 5),
    flip=st.booleans(),
    cutout=st.integers(0, 7),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 2**31),
)
def test_augment_agrees_with_the_slow_reference(
    crop: int, flip: bool, cutout: int, shape: tuple[int, ...], seed: int
) -> None:
    options = DataConfig(crop=crop, flip=flip, cutout=cutout)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    before = images.clone()
    seen: list[Any] = []
    apply = data._apply

    def spy(*arguments: Any) -> torch.Tensor:
        seen.append(arguments)
        return apply(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_apply", spy)
        result = augment(images, options, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(result, one_by_one(*seen[0]))
    assert torch.equal(images, before)
    assert result.shape == images.shape and result.dtype == images.dtype
    assert torch.equal(result, augment(images, options, generator=torch.Generator().manual_seed(seed)))


def test_augment_draws_for_each_image_and_over_the_whole_range() -> None:
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_apply", lambda *arguments: seen.append(arguments))
        options = DataConfig(crop=2, flip=True, cutout=3)
        augment(torch.zeros(2000, 1, 3, 4), options, generator=torch.Generator().manual_seed(0))
    _, offsets, flips, centres, _ = seen[0]
    assert [set(offsets[:, i].tolist()) for i in (0, 1)] == [set(range(5))] * 2
    assert [set(centres[:, i].tolist()) for i in (0, 1)] == [set(range(3)), set(range(4))]
    assert 900 < flips.sum() < 1100 and len(torch.unique(torch.cat([offsets, flips, centres], 1), dim=0)) > 500


def test_augment_ignores_the_global_random_state() -> None:
    options, images = DataConfig(crop=1, flip=True, cutout=1), torch.randn(8, 3, 4, 4)
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    first, second = (augment(images, options, generator=generator) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state) and not torch.equal(first, second)
    assert augment(images, DataConfig(), generator=generator) is images


# --- batches


def batches_of(
    made: data.Data, batch_size: int, seed: int = 0, **options: Any
) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    return feed(made.train, made, DataConfig(**options), batch_size=batch_size, seed=seed, device=CPU)


@quick
@given(batch_size=st.integers(1, 70), seed=st.integers(0, 2**31), limit=st.sampled_from([10**9, 0]))
def test_feed_is_an_endless_stream_of_whole_passes(batch_size: int, seed: int, limit: int) -> None:
    made, _ = from_arrays(tagged([*range(40)]), labels(40, 4), seed=0, validation=8)
    count = len(made.train.targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_ON_DEVICE", limit)
        batch = batches_of(made, batch_size, seed)
    known = {
        normalise(image[None], made.mean, made.std).numpy().tobytes(): i for i, image in enumerate(made.train.examples)
    }
    found: list[int] = []
    for step in range(-(-3 * count // batch_size)):
        images, numbers = batch(step)
        assert images.shape == (batch_size, 1, 2, 2) and images.dtype == torch.float32
        places = [known[image.numpy().tobytes()] for image in images]
        assert numbers.tolist() == made.train.targets[places].tolist()
        found += places
    passes = [found[start : start + count] for start in range(0, 3 * count, count)]
    assert all(sorted(one) == list(range(count)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_feed_is_a_function_of_the_step_alone() -> None:
    made, _ = from_arrays(pixels(60, 6, 6, 3), labels(60, 2), seed=0, validation=8)
    options: dict[str, Any] = {"crop": 2, "flip": True, "cutout": 2}
    state = torch.get_rng_state()
    one = batches_of(made, 7, **options)
    sequential = [one(step) for step in range(30)]
    other = batches_of(made, 7, **options)
    for step in (29, 3, 17, 0, 16, 3):
        for batch in (other, one):
            assert all(torch.equal(x, y) for x, y in zip(batch(step), sequential[step], strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(batches_of(made, 7, seed=1, **options)(0)[0], sequential[0][0])
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in sequential)


def test_feed_augments_differently_in_every_step() -> None:
    # All images are equal, so only the augmentation can make a difference.
    made, _ = from_arrays(np.repeat(pixels(1, 8, 8), 40, axis=0), labels(40, 2), seed=0, validation=8)
    plain, changed = batches_of(made, 8), batches_of(made, 8, crop=3)
    assert torch.equal(plain(0)[0], plain(1)[0])
    seen = [changed(step)[0] for step in range(8)]
    assert not any(torch.equal(seen[i], seen[j]) for i in range(8) for j in range(i))


def test_feed_changes_no_split() -> None:
    made, _ = from_arrays(pixels(40, 4, 4), labels(40, 2), seed=0, validation=8)
    before = made.train.examples.clone(), made.train.targets.clone()
    images, numbers = batches_of(made, 32)(0)
    images.zero_()
    numbers.zero_()
    assert torch.equal(made.train.examples, before[0]) and torch.equal(made.train.targets, before[1])


def test_prepare_is_the_normalised_split() -> None:
    made, _ = from_arrays(pixels(60, 5, 6, 3), labels(60, 2), seed=0, validation=8)
    images, numbers = prepare(made.validation, made, device=CPU)
    assert torch.equal(images, normalise(made.validation.examples, made.mean, made.std))
    assert torch.equal(numbers, made.validation.targets)
    assert images.dtype == torch.float32 and images.is_contiguous(memory_format=torch.channels_last)


def test_the_first_validation_images_are_a_random_sample_of_a_sorted_source() -> None:
    """200 of 1,000 in a source sorted by class: a class misses the first 64 with chance below 1e-6."""
    made, _ = from_arrays(pixels(1000, 2, 2), np.repeat(np.arange(4), 250), seed=0, validation=200)
    assert made.train.targets.tolist() == sorted(made.train.targets.tolist())
    assert made.validation.targets[:64].bincount(minlength=4).min() >= 5


def test_the_hash_of_a_split_changes_with_a_pixel() -> None:
    images = pixels(100, 4, 4)
    other = images.copy()
    made, _ = from_arrays(images, labels(100, 2), seed=0, validation=20)
    other[:] += 1
    changed, _ = from_arrays(other, labels(100, 2), seed=0, validation=20)
    assert all(made.hashes[name] != changed.hashes[name] for name in made.hashes)


@pytest.mark.parametrize("classes", [True, False])
def test_examples_of_any_kind_are_split_without_loss(classes: bool) -> None:
    array = np.arange(100.0).reshape(50, 2)
    examples = {"a": array, "b": (torch.arange(50, dtype=torch.int32), torch.ones(50, 1) > 0)}
    targets = np.arange(50) % 3 if classes else np.arange(50.0)
    made, test = from_arrays(examples, targets, seed=1)
    assert made.inputs == {"a": "float32 2", "b": ("int32", "bool 1")} and made.input_shape == () and made.mean == ()
    assert made.classes == (("0", "1", "2") if classes else ())
    parts = [made.train, made.validation, test]
    assert [len(part) for part in parts] == [32, 8, 10]
    numbers = torch.cat([part.examples["b"][0] for part in parts])
    assert sorted(numbers.tolist()) == list(range(50))
    for part in parts:
        index = part.examples["b"][0]
        assert torch.equal(part.examples["a"][:, 0], 2.0 * index)
        assert torch.equal(part.targets, index.long() % 3 if classes else index.float())
    batch, wanted = data.feed(made.train, made, DataConfig(), batch_size=8, seed=0, device=torch.device("cpu"))(5)
    assert torch.equal(batch["a"][:, 0], 2.0 * batch["b"][0]) and len(wanted) == 8
    whole = data.joined([made.train, made.validation])
    assert len(whole) == 40 and whole.examples["a"].shape == (40, 2)
    assert sum(len(y) for _, y in data.batches(whole, made, device=torch.device("cpu"), size=7)) == 40
    again, _ = from_arrays(examples, targets, seed=1)
    other, _ = from_arrays({**examples, "a": array + 1}, targets, seed=1)
    assert again.hashes == made.hashes and not set(other.hashes.values()) & set(made.hashes.values())


@quick
@given(crop=st.integers(0, 3), flip=st.booleans(), cutout=st.integers(0, 3), step=st.integers(0, 5))
def test_masks_move_with_their_images(crop: int, flip: bool, cutout: int, step: int) -> None:
    """A mask that says of each pixel which it is: what is moved finds its own pixel again."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(1, 256, (30, 1, 5, 4), dtype=torch.uint8, generator=generator)
    places = (torch.arange(30)[:, None, None] * 20 + torch.arange(20).view(5, 4)).int()
    masks = {"place": places, "value": images[:, 0].float(), "tags": torch.arange(30.0)[:, None]}
    made, _ = from_arrays(images, masks, seed=0)
    options = DataConfig(crop=crop, flip=flip, cutout=cutout)
    moved, targets = feed(made.train, made, options, batch_size=8, seed=3, device=torch.device("cpu"))(step)
    plain, untouched = feed(made.train, made, DataConfig(), batch_size=8, seed=3, device=torch.device("cpu"))(step)
    assert torch.equal(targets["tags"], untouched["tags"]) and targets["place"].dtype == torch.int64
    outside = targets["place"] == IGNORED
    assert torch.equal(outside, targets["value"] == 0)
    assert torch.equal(targets["value"][~outside], images.flatten()[targets["place"][~outside]].float())
    seen = normalise(images, made.mean, made.std).flatten()[targets["place"].clamp_min(0)].where(~outside, 0.0)
    cut = moved[:, 0] != seen
    assert (moved[:, 0][cut] == 0).all() and (cutout or not cut.any())
    if not (crop or flip):
        assert torch.equal(targets["place"], untouched["place"])
    if not (crop or flip or cutout):
        assert torch.equal(moved, plain)


def test_a_disk_without_hard_links_opens_the_test_once_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made, _ = from_arrays(torch.zeros(40, 3), torch.arange(40) % 2, seed=0)
    record = tmp_path / "test_opened.json"
    open_test(made.test, record=record, networks=["a"])
    before = record.read_bytes()
    open_test(made.test, record=record, networks=["a"])
    with pytest.raises(DataError, match="for other networks"):
        open_test(made.test, record=record, networks=["b"])
    assert record.read_bytes() == before and sorted(os.listdir(tmp_path)) == [".digests.json", record.name]


def test_some_examples_of_a_split_keep_their_targets() -> None:
    made, _ = from_arrays(torch.arange(60.0)[:, None], torch.arange(60) % 3, seed=0)
    for number, expected in ((7, 7), (10_000, len(made.train))):
        part = some_of(made.train, number, generator=torch.Generator().manual_seed(1))
        assert len(part) == len(part.targets) == expected and part.hash == made.train.hash
        rows = {float(x): int(y) for x, y in zip(made.train.examples[:, 0], made.train.targets, strict=True)}
        assert len({float(x) for x in part.examples[:, 0]}) == expected
        assert all(rows[float(x)] == int(y) for x, y in zip(part.examples[:, 0], part.targets, strict=True))


def test_the_test_split_is_not_sent() -> None:
    """Data that go to another process: two splits as they are, and of the test split no example."""
    arrays = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    whole, test = from_arrays(arrays, np.arange(40) % 4, seed=0)
    copy = pickle.loads(pickle.dumps(whole))
    assert torch.equal(copy.train.examples, whole.train.examples)
    assert torch.equal(copy.validation.targets, whole.validation.targets)
    assert len(whole.test) == len(test) == 8
    assert len(copy.test) == 0


def test_images_that_are_mapped_are_mapped_again_and_not_sent(tmp_path: Path) -> None:
    images = torch.arange(2 * 3 * 64 * 64, dtype=torch.int64).remainder(256).to(torch.uint8).view(2, 3, 64, 64)
    np.save(tmp_path / "images.npy", images.numpy())
    split = Split(images, torch.zeros(2, dtype=torch.long), "hash", tmp_path / "images.npy")
    pickled = pickle.dumps(split)
    assert len(pickled) < images.nbytes / 4
    assert torch.equal(pickle.loads(pickled).examples, images)
    (tmp_path / "images.npy").unlink()
    with pytest.raises(DataError, match="on a disk that all machines share"):
        pickle.loads(pickled)
