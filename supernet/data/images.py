"""Images: opened, made square and of one size, checked, and kept in the cache."""

from __future__ import annotations

import errno
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from supernet.base.files import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image


_VERSION = 3
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


def square_masks(masks: NDArray[Any], size: int) -> NDArray[Any]:
    """Masks [..., H, W] cut and resized as their images are (see `Form`), each place with the nearest value."""
    height, width = masks.shape[-2:]
    rows, columns = (_nearest(side, min(height, width), size) for side in (height, width))
    return masks[..., rows[:, None], columns]


def _nearest(side: int, shorter: int, size: int) -> NDArray[np.int64]:
    """For each of the pixels that are kept of a side the pixel that it was before resizing."""
    resized = max(size, round(side * size / shorter))
    places = np.arange(size) + (resized - size) // 2
    return ((places + 0.5) * side / resized).astype(np.int64)


def decode_mask(name: str, blob: bytes, image: bytes, size: int | None) -> NDArray[Any]:
    """The whole numbers of a mask, [H, W], from an image file without loss, of one channel or with a palette.

    Args:
        name: of the mask, for messages.
        blob: its file.
        image: the file of its image, which has to be as large.
        size: pixels of each side, as for `Form`.

    Raises:
        DataError: it cannot be read, has colours, is lossy, or is not of the size of its image.
    """
    from PIL import Image

    with reading(name, "a mask"):
        with Image.open(io.BytesIO(blob), formats=_readable_formats()) as opened:
            kind, mode = opened.format, opened.mode
            values = np.asarray(opened)
        upright = _upright_size(image)
    if kind in ("JPEG", "MPO") or mode not in ("1", "L", "P", "I", "I;16"):
        raise DataError(
            f"{name} is {kind} of mode {mode}: expected a mask as PNG, with one whole number for each pixel"
        )
    if values.shape[::-1] != upright:
        raise DataError(
            f"{name} is {values.shape[1]}x{values.shape[0]}, and its image {upright[0]}x{upright[1]}: give masks of "
            "the size of their images"
        )
    values = values.astype(np.uint8 if mode in ("1", "L", "P") else np.int32)
    return values if size is None else square_masks(values, size)


def _upright_size(blob: bytes) -> tuple[int, int]:
    """Width and height of an image as its EXIF data say that it is seen; its pixels are not decoded."""
    from PIL import ExifTags, Image

    with Image.open(io.BytesIO(blob), formats=_readable_formats()) as opened:
        width, height = opened.size
        return (height, width) if opened.getexif().get(ExifTags.Base.Orientation, 1) > 4 else (width, height)


Blob = tuple[str, bytes | OSError]
"""Name and content of an image, or why its file cannot be read."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Images that were decoded into the cache.

    Attributes:
        images: uint8 [N, C, H, W], mapped from the file.
        file: the file in the cache.
        kept: the indices of these among all images, ascending: int64 [N].
        damaged: one line for each image that could not be read.
        is_final: whether all of these are damaged for good. The file of an image that could not be opened may be
            readable the next time.
    """

    images: NDArray[np.uint8]
    file: Path
    kept: NDArray[np.int64]
    damaged: tuple[str, ...]
    is_final: bool


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
    # An image of a format that was not readable then may be readable with what is installed now.
    identity = [_VERSION, _readable_formats(), form.size, form.background, stats]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    path = folder / f"decoded-{key}.npy"
    decoded = _cached(path, count)
    if decoded is None or not decoded.is_final:
        write_cache(path, lambda file: _write_all(file, blobs, count, form))
        decoded = _read_cache(path)
    return _refused_or(decoded, count, form)


def _cached(path: Path, count: int) -> Decoded | None:
    """What is in the cache; None if it is not there or damaged, so that it is made again."""
    try:
        decoded = _read_cache(path)
    except (OSError, ValueError, EOFError):
        return None
    return decoded if len(decoded.kept) + len(decoded.damaged) == count else None


def _read_cache(path: Path) -> Decoded:
    """Reads what `_write_all` wrote."""
    images: np.memmap[Any, np.dtype[np.uint8]] = np.load(path, mmap_mode="c")
    with path.open("rb") as file:
        file.seek(images.offset + images.nbytes)
        broken: list[tuple[int, str, bool]] = json.loads(file.read())
    kept = np.delete(np.arange(len(images) + len(broken)), [number for number, _, _ in broken])
    return Decoded(images, path, kept, tuple(text for _, text, _ in broken), all(final for _, _, final in broken))


def _write_all(file: IO[bytes], blobs: Callable[[], Iterator[Blob]], count: int, form: Form) -> None:
    """Writes the images as one .npy, and after its array which images are missing and why.

    Both are in one file, so that they belong together at all times. NumPy does not read what follows the array.
    """
    broken: dict[int, tuple[str, bool]] = {}
    # Only one coloured image makes all of them RGB, so grey is tried until one is met.
    if not _write_decoded(file, blobs(), count, "L", form, broken):
        file.seek(0)
        file.truncate()
        broken.clear()
        _write_decoded(file, blobs(), count, "RGB", form, broken)
    file.write(json.dumps([(number, *broken[number]) for number in sorted(broken)]).encode())


def _refused_or(decoded: Decoded, count: int, form: Form) -> Decoded:
    """The images, unless some are damaged and are not to be skipped."""
    lines = decoded.damaged
    if not lines or (form.skip_damaged and len(decoded.kept)):
        return decoded
    shown = "; ".join(lines[:_NAMED])
    if len(lines) > _NAMED:
        report = decoded.file.with_suffix(".txt")
        write_cache(report, lambda file: file.write("".join(f"{text}\n" for text in lines).encode()))
        shown += f"; and {len(lines) - _NAMED:,} more (all of them: {report})"
    several = f"{len(lines):,} of {count:,} images cannot be read: " if len(lines) > 1 else ""
    them = "them" if several else "it"
    advice = f"replace or remove {them}" if decoded.is_final else f"make {them} readable, or remove {them}"
    go_on = f", or set data.skip_damaged=true to go on without {them}" if len(decoded.kept) else ""
    raise DataError(f"{several}{shown}; {advice}{go_on}")


def _write_decoded(
    file: IO[bytes], blobs: Iterator[Blob], count: int, mode: str, form: Form, broken: dict[int, tuple[str, bool]]
) -> bool:
    """Writes the images as one .npy; False when `mode` is grey but an image has colour.

    Adds to `broken` the images that cannot be read: the reason, and whether it is in the content and thus final.
    """
    shape: tuple[int, ...] | None = None
    for number, (name, blob) in enumerate(blobs):
        if isinstance(blob, OSError):
            broken[number] = f"cannot read {name} ({blob.strerror or line(blob)})", False
            continue
        try:
            image = _open_image(name, blob, form)
        except DataError as error:
            broken[number] = str(error), True
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
    if broken:  # fewer images than the header says; its length is the same, since NumPy leaves room in it
        file.seek(0)
        write_header(file, (count - len(broken), *(shape or (1, 1, 1))))
        file.seek(0, 2)
    return True


def _readable_formats() -> list[str]:
    """Those of `FORMATS` that the installed Pillow reads, with what was added to it."""
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _open_image(name: str, blob: bytes, form: Form) -> Image:
    """Decodes to mode L (grey) or RGB: upright as its EXIF data say, opaque, of the size that is asked for."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        picture = Image.open(io.BytesIO(blob), formats=_readable_formats())
    except MemoryError:  # not the image's fault
        raise
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
    except MemoryError:
        raise
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


def write_cache(path: Path, write: Callable[[IO[bytes]], object]) -> None:
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
