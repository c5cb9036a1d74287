"""Reading the folder of an export."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from torch import nn

from supernet.base.files import read_json, read_weights

FILES = {"python": "network.py", "safetensors": "network.safetensors", "torch": "network.pt2", "onnx": "network.onnx"}
"""The files of an export, by the name of the form."""

FORMS = tuple(FILES)


FACTS = "export.json"
"""The file that says what an export holds."""


class ExportError(ValueError):
    """A network cannot be exported, or a file of an export is missing, damaged or of another network."""


def is_export(folder: Path) -> bool:
    """Whether a folder holds an export."""
    return (folder / FACTS).is_file()


def load_export(folder: Path) -> nn.Module:
    """The network of an export, from its Python and safetensors files, in evaluation mode.

    Raises:
        ExportError: a file is missing, damaged, or of another network.
    """
    facts = read_json(folder / FACTS, ("forms",))
    for form in ("python", "safetensors"):
        if not (folder / FILES[form]).is_file():
            raise ExportError(f"{folder / FILES[form]} is missing: export the network again with --to {form}")
    spec = importlib.util.spec_from_file_location("network", folder / FILES["python"])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folders = [folder for folder in facts.get("imports", ()) if folder not in sys.path]
    sys.path += folders  # the folders of a user's modules
    try:
        spec.loader.exec_module(module)
        network: nn.Module = getattr(module, facts["class"])()
    except Exception as error:  # a changed file may raise any error
        raise ExportError(f"{folder / FILES['python']} is damaged ({error}): export the network again") from error
    finally:
        sys.path[:] = [folder for folder in sys.path if folder not in folders]
    read_weights(folder / FILES["safetensors"], network)
    return network.eval()
