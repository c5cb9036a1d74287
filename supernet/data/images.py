"""Images: opened, made square and of one size, checked, and kept in the cache."""

from __future__ import annotations

import errno
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from supernet.base.files import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image


_VERSION = 2
"""Of the way from a file to pixels; a change makes caches anew."""

FORMATS = ("PNG", "JPEG", "MPO", "BMP", "GIF", "WEBP", "TIFF", "PPM", "HEIF", "AVIF")
"""The formats that are read, by Pillow's names. Others could start programs (EPS) or are not images."""

SUFFIXES = frozenset(
    {
        ".png",
        ".jpg",
        ".jpeg",
        ".bmp",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".heic",
        ".heif",
        ".avif",
    }
)
"""Endings of names of image files, in lower case."""

_NAMED = 10
"""Damaged images that a message names."""


class DataError(ValueError):
    """Broken or unsuitable input: one line with what was expected, what came and what to do."""


def check_images(array: NDArray[Any], image_size: int | None) -> NDArray[np.uint8]:
    """Checks the pixels of images and returns them as uint8 [N, C, H, W], of the size that is asked for.

    Raises:
        DataError: they are not bytes, or of another shape.
    """
    shape = list(array.shape)
    if array.dtype != np.uint8:
        raise DataError(f"images must be uint8 (0..255), got {array.dtype}: convert them")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not all(array.shape[2:]):
        raise DataError(
            f"images must be [N, H, W], [N, C, H, W] or [N, H, W, C] with 1 or 3 channels, got {shape}: reshape them"
        )
    if image_size is None or array.shape[2:] == (image_size, image_size) or not len(array):
        return array
    from PIL import Image

    squares = [
        _planes(_square(Image.fromarray(one[0] if len(one) == 1 else one.transpose(1, 2, 0)), image_size))
        for one in np.ascontiguousarray(array)
    ]
    return np.stack(squares)


Blob = tuple[str, bytes | DataError]
"""Name and content of an image, or why its content cannot be read."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Images that were decoded into the cache.

    Attributes:
        images: uint8 [N, C, H, W], mapped from the file.
        file: the file in the cache.
        kept: the indices of these among all images, ascending: int64 [N].
        damaged: one line for each image that could not be read.
    """

    images: NDArray[np.uint8]
    file: Path
    kept: NDArray[np.int64]
    damaged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """How an image becomes pixels.

    Attributes:
        size: pixels of each side: the shorter side is resized and a centred square is cut; None to keep the size.
        background: the colour that shows through what is transparent, as Pillow names colours.
        skip_damaged: whether to go on without images that cannot be read.
    """

    size: int | None = None
    background: str = "white"
    skip_damaged: bool = False


def decode(blobs: Callable[[], Iterator[Blob]], count: int, files: Sequence[Path], form: Form, folder: Path) -> Decoded:
    """Decodes all images once, into the cache.

    Args:
        blobs: gives name and content of each image, in order; called again for each pass.
        count: number of images.
        files: the files that they are in; the cache is made anew if one of them has changed.
        form: how they become pixels.
        folder: of the cache.

    Raises:
        DataError: images are damaged (all of them are named at once), have different sizes, or the disk is full.
    """
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps([_VERSION, form.size, form.background, stats]).encode()).hexdigest()[:16]
    path, report = folder / f"decoded-{key}.npy", folder / f"decoded-{key}.json"
    # A cache that cannot be read is made again.
    with suppress(OSError, ValueError):
        return _refused_or(_cached(path, report), count, form)
    broken: dict[int, str] = {}

    def write(file: IO[bytes]) -> None:
        # Only one coloured image makes all of them RGB, so grey is tried until one is met.
        if not _write_decoded(file, blobs(), count, "L", form, broken):
            file.seek(0)
            file.truncate()
            broken.clear()
            _write_decoded(file, blobs(), count, "RGB", form, broken)
        if broken:
            write_cache(report, lambda file: _write_report(file, broken))

    write_cache(path, write)
    return _refused_or(_cached(path, report), count, form)


def _cached(path: Path, report: Path) -> Decoded:
    """What is in the cache; the report is there only if images are damaged."""
    images = np.load(path, mmap_mode="c")
    damaged: dict[str, str] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    kept = np.delete(np.arange(len(images) + len(damaged)), [int(number) for number in damaged])
    return Decoded(images, path, kept, tuple(damaged.values()))


def _write_report(file: IO[bytes], broken: dict[int, str]) -> None:
    file.write(json.dumps({str(number): broken[number] for number in sorted(broken)}, indent=1).encode())


def _refused_or(decoded: Decoded, count: int, form: Form) -> Decoded:
    """The images, unless some are damaged and are not to be skipped."""
    lines = decoded.damaged
    if not lines or (form.skip_damaged and len(decoded.kept)):
        return decoded
    shown = "; ".join(lines[:_NAMED]) + (f"; and {len(lines) - _NAMED:,} more" if len(lines) > _NAMED else "")
    several = f"{len(lines):,} of {count:,} images cannot be read: " if len(lines) > 1 else ""
    go_on = ", or set data.skip_damaged=true to go on without them" if len(decoded.kept) else ""
    where = f" (all of them: {decoded.file.with_suffix('.json')})" if len(lines) > _NAMED else ""
    raise DataError(f"{several}{shown}{where}; replace or remove {'them' if several else 'it'}{go_on}")


def _write_decoded(
    file: IO[bytes], blobs: Iterator[Blob], count: int, mode: str, form: Form, broken: dict[int, str]
) -> bool:
    """Writes the images as one .npy; False when `mode` is grey but an image has colour. Notes the damaged ones."""
    shape: tuple[int, ...] | None = None
    for number, (name, blob) in enumerate(blobs):
        try:
            image = _open_image(name, blob, form)
        except DataError as error:
            broken[number] = str(error)
            continue
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
    if broken:  # fewer images than the header says
        file.seek(0)
        write_header(file, (count - len(broken), *(shape or (1, 1, 1))))
        file.seek(0, 2)
    return True


def _open_image(name: str, blob: bytes | DataError, form: Form) -> Image:
    """Decodes to mode L (grey) or RGB: upright as its EXIF data say, opaque, of the size that is asked for."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(blob, DataError):
        raise blob
    try:
        Image.init()
        picture = Image.open(io.BytesIO(blob), formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:  # its own text holds an address in memory
        raise DataError(f"{name} is not an image of a format that is read") from None
    except Exception as error:
        raise DataError(f"cannot read {name} as an image ({line(error)})") from error
    try:
        with picture as opened:
            if opened.mode.startswith(("I", "F")):
                raise ValueError("it has more than 8 bits per channel")
            image = _opaque(ImageOps.exif_transpose(opened), form.background)
            return _square(image.convert("L" if image.mode in ("L", "1") else "RGB"), form.size)
    except Exception as error:  # decoders raise many types, some of their own
        raise DataError(f"cannot read {name} as an image ({line(error)})") from error


def _opaque(image: Image, background: str) -> Image:
    """The image on a background where it is transparent; otherwise as it is."""
    from PIL import Image as images

    if not image.has_transparency_data:
        # Pillow warns when the transparency of a palette is dropped in one step.
        return image.convert("RGBA") if image.mode == "P" else image
    over = image.convert("RGBA")
    flat = images.alpha_composite(images.new("RGBA", over.size, background), over).convert("RGB")
    return flat.convert("L") if image.mode == "LA" and background in ("white", "black") else flat


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
    """Begins a .npy file of bytes; the bytes themselves follow."""
    # Plain writes report a full disk as an error; writing through a memory map would kill the process.
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def write_cache(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Writes a file of the cache whole or not at all; raises `DataError` if that fails."""
    try:
        write_atomically(path, write)
    except OSError as error:
        # DiskFull has one of these numbers, and so has a failure to make the folder on a full disk.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        problem = "no space left in" if full else f"cannot write ({line(error)}) in"
        raise DataError(f"{problem} {path.parent}: set data.cache to another folder") from error


@contextmanager
def reading(what: Path | str, kind: str) -> Iterator[None]:
    """Turns whatever a decoder raises on a broken file into one line that names the file."""
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
