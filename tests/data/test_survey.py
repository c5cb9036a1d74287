"""What images are like."""

from pathlib import Path

import pytest

from supernet.data.images import DataError
from supernet.data.sources import DataConfig
from supernet.data.survey import survey
from tests.makers import write_classes, write_fashion, write_image


def test_a_folder_is_described_without_its_own_splits(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 20, 30, 3, each=5)
    write_classes(tmp_path / "test", 4, 4, 3, each=1)
    write_image(tmp_path / "train" / "a" / "more.png", 50, 40, 3)
    (tmp_path / "train" / "a" / "broken.png").write_bytes(b"no image")
    found = survey(DataConfig(name="folder", path=str(tmp_path)))
    assert found.classes == ("a", "b") and found.counts == (7, 5)
    assert (found.side, found.channels, found.own_validation, found.own_test) == (20, 3, 0, 2)


def test_grey_images_have_one_channel_until_one_is_coloured(tmp_path: Path) -> None:
    write_classes(tmp_path, 12, 9)
    assert survey(DataConfig(name="folder", path=str(tmp_path))).channels == 1
    write_image(tmp_path / "b" / "colour.png", 12, 9, 3)
    assert survey(DataConfig(name="folder", path=str(tmp_path))).channels == 3


def test_other_sources_are_read(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    found = survey(DataConfig(name="fashion-mnist", path=str(tmp_path)))
    assert found.counts == (6,) * 10 and (found.side, found.channels, found.own_test) == (4, 1, 20)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.py").write_text("import torch\ndef data():\n    return torch.randn(9, 3), torch.arange(9) % 3\n")
    with pytest.raises(DataError, match=r"expected images with classes.*own-network"):
        survey(DataConfig(name=f"{tmp_path / 'rows.py'}:data"))
    write_classes(tmp_path / "photos", 9, 9)
    for file in (tmp_path / "photos").rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="can be opened"):
        survey(DataConfig(name="folder", path=str(tmp_path / "photos")))
