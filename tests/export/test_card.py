"""The texts around a network: the head of its module, its card, `predict.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from supernet import load
from supernet.export.card import run_text
from supernet.export.reading import FILES


def test_the_files_of_an_export(exported: Path, finished_run: Path) -> None:
    names = {*FILES.values(), "export.json", "README.md", "network.svg", "cell.svg", "predict.py"}
    assert {path.name for path in exported.iterdir()} == names
    facts = json.loads((exported / "export.json").read_text())
    winner = json.loads((finished_run / "results.json").read_text())["networks"][0]
    assert facts["architecture"] == winner["architecture"] and facts["validation"] == winner["validation"][0]
    assert facts["folded"]["batch_norms"] >= 0 and facts["licence"] == "cc0-1.0"
    assert all(row["difference"] <= 1e-4 and row["examples"] == 300 for row in facts["parity"]["forms"].values())
    text = (exported / "network.py").read_text()
    assert winner["architecture"].split()[0] in text and "do not train" in text and "import supernet" not in text
    card = (exported / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "cc0-1.0" and head["pipeline_tag"] == "image-classification"
    for said in (winner["architecture"], "supernet analyze", "digits", "multiply-adds", "latency"):
        assert said in card
    assert (exported / "network.svg").read_text().startswith("<svg")


def test_the_network_without_supernet(exported: Path, tmp_path: Path) -> None:
    """The lines in the head of the module, run where supernet cannot be imported; and `predict.py`."""
    text = (exported / "network.py").read_text()
    lines = [line.strip() for line in text.split('"""')[1].splitlines() if line.startswith("    ")]
    lines = lines[lines.index("from safetensors.torch import load_file") :]
    code = ["import sys", "sys.modules['supernet'] = None", "import torch", "from network import *", *lines]
    code.append("print(sum(p.numel() for p in network.parameters()), network(torch.zeros(2, 1, 8, 8)).shape)")
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(code)], cwd=exported, capture_output=True, text=True, check=True
    )
    assert ran.stdout.endswith("torch.Size([2, 10])\n")
    Image.fromarray(np.full((20, 30), 90, np.uint8)).save(tmp_path / "image.png")
    command = [sys.executable, str(exported / "predict.py"), str(tmp_path / "image.png")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    network = load(exported)
    facts = json.loads((exported / "export.json").read_text())
    pixels = torch.full((1, 1, 8, 8), 90.0)
    outputs = network((pixels / 255 - facts["mean"][0]) / facts["std"][0])
    assert printed == facts["classes"][int(outputs.argmax())]


def test_a_value_that_differs_from_that_of_the_run_has_its_reason() -> None:
    facts = {"metric": "accuracy", "validation": 0.363, "finalist": {"validation": [0.3605]}, "precision": "bf16-mixed"}
    text = run_text(facts) or ""
    assert text.startswith("36.05%") and "half precision (bf16-mixed)" in text and "single precision" in text
    assert "other kernels" in (run_text({**facts, "precision": "32-true"}) or "")
    assert run_text({**facts, "validation": 0.3605}) is None
    assert run_text({**facts, "precision": None}) is None and run_text({**facts, "finalist": {}}) is None
