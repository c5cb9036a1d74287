"""Images: opened, made square and of one size, checked, and kept in the cache."""

from __future__ import annotations

import errno
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from supernet.base.files import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image


class DataError(ValueError):
    """Broken or unsuitable input: one line with what was expected, what came and what to do."""


def check_images(array: NDArray[Any], image_size: int | None) -> NDArray[np.uint8]:
    """Check the pixels of images and return them as uint8 [N, C, H, W], of the size that is asked for.

    Raises:
        DataError: they are no bytes, or of another shape.
    """
    given = list(array.shape)
    if array.dtype != np.uint8:
        raise DataError(f"images must be uint8 (0..255), got {array.dtype}: convert them")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not all(array.shape[2:]):
        raise DataError(
            f"images must be [N, H, W], [N, C, H, W] or [N, H, W, C] with 1 or 3 channels, got {given}: reshape them"
        )
    if image_size is None or array.shape[2:] == (image_size, image_size) or not len(array):
        return array
    from PIL import Image

    squares = [
        _planes(_square(Image.fromarray(one[0] if len(one) == 1 else one.transpose(1, 2, 0)), image_size))
        for one in np.ascontiguousarray(array)
    ]
    return np.stack(squares)


def decode(
    blobs: Callable[[], Iterator[tuple[str, bytes]]],
    count: int,
    files: Sequence[Path],
    image_size: int | None,
    folder: Path,
) -> tuple[NDArray[np.uint8], Path]:
    """Decode all images once into the cache folder; return the mapped array and its file."""
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps([image_size, stats]).encode()).hexdigest()[:16]
    path = folder / f"decoded-{key}.npy"
    # A cache that cannot be read is made again.
    with suppress(OSError, ValueError):
        return np.load(path, mmap_mode="c"), path

    def write(file: IO[bytes]) -> None:
        # Only one coloured image makes all of them RGB, so grey is tried until one is met.
        if not _write_decoded(file, blobs(), count, "L", image_size):
            file.seek(0)
            file.truncate()
            _write_decoded(file, blobs(), count, "RGB", image_size)

    write_cache(path, write)
    return np.load(path, mmap_mode="c"), path


def _write_decoded(
    file: IO[bytes], blobs: Iterator[tuple[str, bytes]], count: int, mode: str, image_size: int | None
) -> bool:
    """Write the images as one .npy; False when `mode` is grey but an image has colour."""
    shape: tuple[int, ...] | None = None
    for name, blob in blobs:
        image = _open_image(name, blob, image_size)
        if mode == "L" and image.mode != "L":
            return False
        pixels = _planes(image.convert(mode))
        if shape is None:
            shape = pixels.shape
            write_header(file, (count, *shape))
        elif pixels.shape != shape:
            raise DataError(
                f"images of different sizes: {shape[2]}x{shape[1]} and {image.width}x{image.height} "
                f"({name}); set data.image_size, for example data.image_size=32"
            )
        file.write(pixels.tobytes())
    return True


def _open_image(name: str, blob: bytes, image_size: int | None) -> Image:
    """Decode to mode L (grey) or RGB."""
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(io.BytesIO(blob))
    except UnidentifiedImageError:  # its own text holds an address in memory
        raise DataError(f"{name} is no image: replace or remove it") from None
    with reading(name, "an image"), picture as opened:
        if opened.mode.startswith(("I", "F")):
            raise ValueError("it has more than 8 bits per channel")
        # Pillow warns when the transparency of a palette is dropped in one step.
        image = opened.convert("RGBA") if opened.mode == "P" else opened
        return _square(image.convert("L" if image.mode in ("L", "1") else "RGB"), image_size)


def _square(image: Image, size: int | None) -> Image:
    if size is None or image.size == (size, size):
        return image
    from PIL.Image import Resampling

    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def _planes(image: Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    return pixels.reshape(image.height, image.width, -1).transpose(2, 0, 1)


def write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """Begin a .npy file of bytes; the bytes themselves follow."""
    # Plain writes report a full disk as an error; writing through a memory map would kill the process.
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def write_cache(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file of the cache whole or not at all; raise `DataError` where that fails."""
    try:
        write_atomically(path, write)
    except OSError as error:
        # DiskFull has one of these numbers, and so has a failure to make the folder on a full disk.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        problem = "no space left in" if full else f"cannot write ({line(error)}) in"
        raise DataError(f"{problem} {path.parent}: set data.cache to another folder") from error


@contextmanager
def reading(what: Path | str, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises on a broken file into one line that names the file."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"no such file: {what}; correct data.path or add the file") from error
    except Exception as error:  # decoders raise many types, some of their own
        raise DataError(f"cannot read {what} as {kind} ({line(error)}): replace or remove it") from error


def line(error: Exception) -> str:
    """The message of an error as one line."""
    return " ".join(str(error).split()) or type(error).__name__
