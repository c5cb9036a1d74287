"""`predict.py` of an export: it reads images as the training does, and refuses others in one line."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from supernet.data.images import DataError, Form, decode
from supernet.data.splits import normalise
from supernet.export.card import predict_text

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14, 4), dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(image: Image.Image, orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return saved(image, kind, exif=exif)


COLOUR, CLEAR = Image.fromarray(PIXELS[:, :, :3]), Image.fromarray(PIXELS)
GREY, GREY_CLEAR = Image.fromarray(PIXELS[:, :, 0]), Image.fromarray(np.ascontiguousarray(PIXELS[:, :, :2]), "LA")

GREYS = {
    "L": saved(GREY),
    "1": saved(GREY.convert("1")),
    "L upside down": turned(GREY, 3, "JPEG"),
    "L with a transparent level": saved(GREY, transparency=int(PIXELS[4, 7, 0])),
}
COLOURS = {
    "RGB": saved(COLOUR),
    **{f"EXIF {number}": turned(COLOUR, number, "JPEG") for number in range(1, 9)},
    "RGBA": saved(CLEAR),
    "RGBA turned": turned(CLEAR, 6, "PNG"),
    "LA": saved(GREY_CLEAR),
    "P": saved(COLOUR.quantize(16)),
    "P with transparency": saved(CLEAR.quantize(16)),
    "P with a transparent colour": saved(COLOUR.quantize(16), transparency=3),
    "GIF": saved(COLOUR.quantize(16), "GIF", transparency=3),
    "RGB with a transparent colour": saved(COLOUR, transparency=tuple(int(v) for v in PIXELS[4, 7, :3])),
    "CMYK": saved(COLOUR.convert("CMYK"), "JPEG"),
    "WEBP": saved(CLEAR, "WEBP"),
}


def script(folder: Path, channels: int, background: str, size: int = 8) -> Any:
    """`predict.py` as a module."""
    facts = {
        "inputs": f"float32 {channels} {size} {size}",
        "mean": [0.31, 0.42, 0.53][:channels],
        "std": [0.21, 0.22, 0.23][:channels],
        "background": background,
        "classes": ["a", "b"],
        "preprocess": False,
    }
    (folder / "export.json").write_text(json.dumps(facts))
    (folder / "predict.py").write_text(predict_text("torch", facts))
    spec = importlib.util.spec_from_file_location("predict", folder / "predict.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("background", ["white", "black", "#3080c0"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_read_as_the_training_reads_them(channels: int, background: str, tmp_path: Path) -> None:
    """Not one pixel differs, whatever the file is; nor do the inputs of the network."""
    greys = {name: GREYS[name] for name in ("L", "1", "L upside down")}
    if background != "#3080c0":
        greys["LA"] = COLOURS["LA"]  # its colours are grey only on such a background
    blobs = greys if channels == 1 else {**COLOURS, **GREYS}
    training = decode(lambda: iter(blobs.items()), len(blobs), [], Form(8, background), tmp_path).images
    assert training.shape == (len(blobs), channels, 8, 8)
    predict = script(tmp_path, channels, background)
    for (name, blob), expected in zip(blobs.items(), training, strict=True):
        (tmp_path / "image").write_bytes(blob)
        pixels = predict.read(str(tmp_path / "image"))
        np.testing.assert_array_equal(pixels[0], expected, name)
        inputs = normalise(torch.from_numpy(expected[None].copy()), predict.FACTS["mean"], predict.FACTS["std"])
        assert torch.equal(torch.from_numpy(predict.normalised(pixels)), inputs), name


REFUSED = {
    "missing": (None, "cannot be read (No such file"),
    "text": (b"no image\n", "is not one"),
    "EPS": (saved(COLOUR, "EPS"), "is not one"),
    "truncated": (saved(COLOUR)[:-200], "is damaged"),
    "truncated JPEG": (saved(COLOUR, "JPEG")[:-200], "is damaged"),
    "16 bits": (saved(Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 200)), "8 bits per channel"),
    "floats": (saved(Image.fromarray(PIXELS[:, :, 0].astype(np.float32)), "TIFF"), "8 bits per channel"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_training_refuses_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    blob, reason = REFUSED[case]
    predict, path = script(tmp_path, 3, "white"), tmp_path / "image.png"
    if blob is not None:
        path.write_bytes(blob)
        with pytest.raises(DataError):
            decode(lambda: iter([("image", blob)]), 1, [], Form(8), tmp_path)
    with pytest.raises(predict.InputError) as caught:
        predict.main([str(path)])
    text = str(caught.value)
    assert reason in text and str(path) in text and text.startswith("expected") and "\n" not in text
    with pytest.raises(predict.InputError, match="got 2"):
        predict.main(["a", "b"])


def test_the_exit_code_is_2(tmp_path: Path) -> None:
    script(tmp_path, 3, "white")
    ran = subprocess.run(
        [sys.executable, str(tmp_path / "predict.py"), "nofile.png"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert (
        ran.stderr.startswith("predict.py: error: expected an image file, but nofile.png")
        and ran.stderr.count("\n") == 1
    )
