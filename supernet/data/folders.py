"""Folders of images as people have them: which files are images, of which class and split, and which are ignored.

A class is a folder below the root of a split, and its images lie in it at any depth, as torchvision's `ImageFolder`
has them. Nothing is opened here.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from supernet.data.images import SUFFIXES, DataError

_SPLITS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of the folders that hold a split, in the order in which they are looked for."""

_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini", "icon\r"})
"""What operating systems leave in folders, in lower case."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of a folder.

    Attributes:
        files: those for training, then those for validation, then those for the test.
        labels: the class of each, as an index into `classes`.
        classes: names of the classes, sorted.
        own_validation, own_test: how many files belong to a split that the folder has itself; 0 if it has none.
        ignored: number of files that are not read, by the reason.
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    own_validation: int = 0
    own_test: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)


def list_folder(path: Path) -> Listing:
    """Lists the images of ``path/CLASS/**``, or of ``path/train/CLASS/**`` with ``val`` and ``test`` beside it.

    Args:
        path: the folder. A folder ``train`` counts as a split if it holds folders; otherwise it is a class.

    Raises:
        DataError: there is no class folder, a class has no image, or a split has a class that training does not have.
    """
    ignored: Counter[str] = Counter()
    roots = _split_roots(path, ignored)
    images = {split: _classes_of(root, ignored) for split, root in roots.items()}
    classes = sorted(images["train"])
    if not classes:
        raise DataError(f"no class folder in {roots['train']}: put the images into {roots['train']}/CLASS/")
    files: list[Path] = []
    labels: list[int] = []
    for split, of_class in images.items():
        if unknown := sorted(set(of_class) - set(classes)):
            raise DataError(
                f"{split} class {unknown[0]!r} has no folder in {roots['train']}: add it or remove it from {split}"
            )
        for name in sorted(of_class):
            files += of_class[name]
            labels += [classes.index(name)] * len(of_class[name])
    own = {split: sum(map(len, of_class.values())) for split, of_class in images.items()}
    return Listing(
        tuple(files), tuple(labels), tuple(classes), own.get("validation", 0), own.get("test", 0), dict(ignored)
    )


def list_classes(path: Path) -> Listing:
    """As `list_folder`, of a folder that has to have several classes.

    Raises:
        DataError: as `list_folder`; or its only class folder holds folders, which then look like the classes.
    """
    listing = list_folder(path)
    if len(listing.classes) == 1:
        only = _split_roots(path, Counter())["train"] / listing.classes[0]
        if len(inner := [repr(folder.name) for folder in _folders(only)]) > 1:
            raise DataError(
                f"{only.parent} has one class folder only, {only.name!r}: expected one for each class; did you mean "
                f"{only}, which has {', '.join(inner[:3])}{', ...' if len(inner) > 3 else ''}?"
            )
    return listing


def _split_roots(path: Path, ignored: Counter[str]) -> dict[str, Path]:
    """The folder of each split; only the root itself if it holds the classes."""
    by_name = {folder.name.lower(): folder for folder in _folders(path)}
    roots = {split: by_name[name] for split, names in _SPLITS.items() for name in names[::-1] if name in by_name}
    if "train" not in roots or not _folders(roots["train"]):
        return {"train": path}
    for entry in sorted(path.iterdir()):
        if entry not in roots.values() and not _is_junk(entry):
            ignored["beside the splits"] += sum(1 for _ in _walk(entry)) if entry.is_dir() else 1
    return {split: roots[split] for split in _SPLITS if split in roots}


def _classes_of(root: Path, ignored: Counter[str]) -> dict[str, list[Path]]:
    """The images of each class folder below a root, sorted."""
    ignored["beside the class folders"] += sum(1 for e in root.iterdir() if not e.is_dir() and not _is_junk(e))
    if not ignored["beside the class folders"]:
        del ignored["beside the class folders"]
    images: dict[str, list[Path]] = {}
    for folder in _folders(root):
        try:
            folder.name.encode()
        except UnicodeEncodeError:
            raise DataError(f"the name of class folder {os.fsencode(folder)!r} is not UTF-8: rename it") from None
        images[folder.name] = []
        for file in _walk(folder):
            if file.suffix.lower() not in SUFFIXES:
                ignored[file.suffix.lower() or "no suffix"] += 1
            elif not file.is_file():
                ignored["not a regular file"] += 1
            else:
                images[folder.name].append(file)
        if not images[folder.name]:
            raise DataError(f"no image in class folder {folder}: add {', '.join(sorted(SUFFIXES))} or remove it")
    return images


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder at any depth, in a fixed order; links to folders are followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    for place, names, files in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        names[:] = sorted(name for name in names if not _is_junk(Path(name)))
        yield from (Path(place) / name for name in sorted(files) if not _is_junk(Path(name)))


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not _is_junk(entry))


def _is_junk(path: Path) -> bool:
    """Whether an operating system made it: hidden files, resource forks, thumbnails. They are not counted."""
    return path.name.startswith(".") or path.name.lower() in _JUNK
