"""What comes from others is read and not run: folders of runs, YAML, names, exports."""

from __future__ import annotations

import ast
import html
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from supernet.base.files import read_json, without_password, without_secrets, write_json
from supernet.export import card
from supernet.export.hub import push
from supernet.export.reading import ExportError
from supernet.program.commands import main
from supernet.program.settings import load_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{b}: &{b} [{', '.join(9 * [f'*{a}'])}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


# ---- YAML ----


@pytest.mark.parametrize("text", [BOMB, "&a [*a]", "[" * 3000, "{a: " * 3000, "a: &a {b: *a}"])
def test_yaml_that_is_small_to_write_and_large_to_read(text: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    began = time.process_time()
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
    (tmp_path / "x.yaml").write_text(text)
    assert "expected a YAML file" in refused("run", tmp_path / "x.yaml", "--out", tmp_path / "X")
    refused("run", "digits-smoke", "--out", tmp_path / "X", f"--space.settings={text}")
    assert time.process_time() - began < 60, "an expanded one takes hours"


@pytest.mark.parametrize(
    "text", ["", "a: 1", "a: &x [1, 2]\nb: *x", "{a: {b: [1, 2.5, null, yes]}}", "x", "- &k v\n- *k"]
)
def test_other_yaml_is_read_as_before(text: str) -> None:
    assert load_yaml(text) == yaml.safe_load(text)


# ---- files of a run ----


def test_the_files_of_a_strangers_run_are_not_executed(run_folder: Path, tmp_path: Path) -> None:
    trap, sprung = tmp_path / "trap.py", tmp_path / "sprung"
    trap.write_text(f"open({str(sprung)!r}, 'w')\ndef network(): ...\n")
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    config["space"] = {"name": f"{trap}:network", "settings": {}}
    config["task"] |= {"loss": f"{trap}:network", "metric": f"{trap}:network"}
    config["search"]["strategy"] = f"{trap}:network"
    (run_folder / "config.yaml").write_text(yaml.safe_dump(config))
    (run_folder / "settings.json").unlink()
    assert main(["top", str(run_folder)]) == 0
    assert main(["run", "--out", str(run_folder), "--print_config"]) == 0
    assert main(["train", str(run_folder), "--print_config"]) == 0
    assert main(["show", str(run_folder)]) == 0
    main(["doctor", str(run_folder)])
    assert not sprung.exists()


# ---- exports ----


@pytest.mark.parametrize(
    "name", ['a"""+print(1)+"""b', "back\\slash", 'ends with "', "line\nend", "\u202ebidi", "\ud800"]
)
def test_names_are_text_in_an_exported_module(name: str) -> None:
    facts: dict[str, Any] = {
        "inputs": "float32 1 8 8", "cost": {"macs": 1}, "mean": [], "weights": "new", "seed": 0, "data": name,
        "folded": None, "imports": [name], "versions": {"supernet": "0"}, "space": name, "architecture": name,
    }  # fmt: skip
    written: Any = SimpleNamespace(code="x = 1", name="Network", tensors={}, imported=())
    tree = ast.parse(card.module_text(written, facts).encode().decode())
    text = ast.get_docstring(tree)
    assert text is not None and len(tree.body) == 3
    if name.isprintable():
        assert name in " ".join(text.split())


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a | b", "[x](http://y)", "one\n\n# two", "`code`"])
def test_names_are_text_in_a_model_card(name: str) -> None:
    line = card._line(name)
    assert not set(line) & set("<|[`\n")
    assert html.unescape(line) == " ".join(name.split())


class _Hub:
    def create_repo(self, *words: Any, **more: Any) -> str:
        return "address"

    def upload_folder(self, *, folder_path: str, **more: Any) -> None:
        self.names = sorted(path.name for path in Path(folder_path).iterdir())


def test_a_push_uploads_what_the_export_lists(tmp_path: Path) -> None:
    (tmp_path / "network.py").write_text("")
    (tmp_path / "secret.txt").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "secret.txt")
    write_json(tmp_path / "export.json", {"id": "a", "files": ["network.py"]})
    hub = _Hub()
    push(tmp_path, "me/x", api=hub)
    assert hub.names == ["export.json", "network.py"]
    for name in ("../secret", "/etc/passwd", "link"):
        write_json(tmp_path / "export.json", {"id": "a", "files": [name]})
        with pytest.raises(ExportError, match="which is no file of the export"):
            push(tmp_path, "me/x", api=hub)


# ---- passwords ----


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("postgresql://ann:p?ssw@rd@host/db", "ssw@"),
        ("postgresql://host:5432/db?user=ann&password=ab@cdef", "cdef"),
        ("postgresql://ann:pa#ssword@host/db", "ssword"),
        ("mysql://ann:geh/eim@host/db", "geh/"),
        ("redis://:geheim", "geheim"),
    ],
)
def test_no_part_of_a_password_is_shown(address: str, secret: str) -> None:
    shown = without_password(address)
    assert secret not in shown and shown.startswith(address.partition("://")[0])
    message = f"could not translate host name {address.partition('://')[2][4:]!r} to address"
    if "redis" not in address:
        assert secret not in without_secrets(message, address)


# ---- messages ----


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_the_signs_can_print_the_table(
    encoding: str, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main(["show", str(finished_run)]) == 0
        print("name \ud800 \N{MULTIPLICATION SIGN}")
        sys.stdout.flush()
    text = buffer.getvalue().decode(encoding)
    assert "Top" in text and "name ? " in text


@pytest.mark.parametrize("change", [{"networks": 3}, {"groups": [1]}, {"groups": None}])
def test_results_of_another_shape(change: dict[str, Any], run_folder: Path, refused: Callable[..., str]) -> None:
    results = read_json(run_folder / "results.json")
    (run_folder / "results.json").write_text(json.dumps({**results, **change}))
    assert "damaged or of another version" in refused("show", run_folder)
