"""Small made data for the tests of `supernet.data.sources` and `supernet.data.splits`."""

import gzip
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from supernet.data.sources import DataConfig
from supernet.data.splits import Split


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def labels(count: int, classes: int) -> np.ndarray:
    return np.arange(count) % classes


def write_image(path: Path, *shape: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(*shape, seed=seed)).save(path)


def write_classes(root: Path, *shape: int, each: int = 6, classes: str = "ab") -> None:
    for name in classes:
        for number in range(each):
            write_image(root / name / f"{number}.png", *shape, seed=ord(name) * 100 + number)


def png(*shape: int, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(*shape, seed=seed)).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, blobs: list[Any], values: list[Any], image: str = "img", struct: bool = True) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": blob, "path": None} for blob in blobs] if struct else blobs
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if struct else pa.binary()
    pq.write_table(pa.table({image: pa.array(cells, kind), "label": values}), path)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def write_fashion(root: Path) -> None:
    for prefix, count in (("train", 60), ("t10k", 20)):
        write_idx(root / f"{prefix}-images-idx3-ubyte.gz", pixels(count, 4, 4))
        write_idx(root / f"{prefix}-labels-idx1-ubyte.gz", labels(count, 10))


def write_batches(root: Path, protocol: int = 2) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate([f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]):
        batch = {b"data": pixels(20, 3072, seed=seed), b"labels": labels(20, 10).tolist()}
        (root / name).write_bytes(pickle.dumps(batch, protocol=protocol))


def write_arrays(root: Path, images: np.ndarray, numbers: np.ndarray, prefix: str = "") -> None:
    np.save(root / f"{prefix}images.npy", images)
    np.save(root / f"{prefix}labels.npy", numbers)


def config(root: Path, name: str, validation: int | None = 4, **options: Any) -> DataConfig:
    return DataConfig(name=name, path=str(root / "in"), cache=str(root / "cache"), validation=validation, **options)


def tagged(numbers: list[int]) -> np.ndarray:
    """Images whose pixels spell their own index."""
    return np.array(numbers, dtype="<u4").view(np.uint8).reshape(-1, 1, 2, 2)


def tags(split: Split) -> list[int]:
    """The indices that `tagged` put into the pixels."""
    return split.examples.contiguous().numpy().reshape(-1).view("<u4").tolist()
