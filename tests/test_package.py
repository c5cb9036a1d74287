"""What is in the wheel, and what users of notebooks see."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import supernet
from supernet.program.commands import main
from supernet.program.listing import example_files, recipe_files

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="WHEEL NOT TRIED: hatchling is not installed")
@pytest.mark.slow
def test_a_wheel_holds_all_that_is_used_and_says_what_it_is(tmp_path: Path) -> None:
    words = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(archive.read(name).decode() for name in names if name.endswith("METADATA"))
        archive.extractall(tmp_path / "installed")
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "supernet").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    assert package <= names
    assert {"supernet/py.typed", "supernet/speed/kernels.c", "supernet/trust/page.html.j2"} <= names
    assert {f"supernet/program/recipes/{name}.yaml" for name in recipe_files()} <= names
    assert {f"supernet/examples/{name}.py" for name in example_files()} <= names
    assert not any(name.startswith(("tests", "benchmarks")) for name in names)
    readme = metadata.partition("\n\n")[2]
    assert "# supernet" in readme and "supernet run digits-smoke" in readme
    assert "](docs/" not in readme and "](examples/" not in readme and "<!--" not in readme
    assert "Requires-Python: >=3.11" in metadata and "Classifier: Typing :: Typed" in metadata
    script = "import sys; from supernet.program.commands import main; main(['example', 'image'])"
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert printed.stdout == (ROOT / "examples" / "image.py").read_text()


def test_examples_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["example"]) == 0
    out = capsys.readouterr().out
    for name, path in example_files().items():
        assert f"  {name} " in out
        assert main(["example", name]) == 0
        assert capsys.readouterr().out == path.read_text()
    assert main(["example", "imge"]) == 2
    assert "'image'" in capsys.readouterr().err


def test_only_public_names_are_shown() -> None:
    assert dir(supernet) == sorted([*supernet.__all__, "__version__"])


def test_what_notebooks_show_is_short(finished_run: Path) -> None:
    space = supernet.spaces.bender(filters=4)
    architecture = space.sample(generator=torch.Generator().manual_seed(0))
    run = supernet.Run(finished_run)
    costs = supernet.cost_table(space)
    for thing in (space, architecture, run, costs):
        assert len(repr(thing)) < 120 + len(str(finished_run))
    assert repr(space).startswith("Space(bender: ") and "6,002,115,840 architectures" in repr(space)
    assert architecture.id in repr(architecture)
    assert repr(run) == f"Run({finished_run}: train, search, retrain done)"


def test_notebooks_show_tables(finished_run: Path) -> None:
    space = supernet.spaces.bender(filters=4)
    architecture = space.sample(generator=torch.Generator().manual_seed(0))
    text = space._repr_markdown_()
    assert all(f"| {choice.name} |" in text for choice in space.choices)
    assert all(f"| {name} |" in architecture._repr_markdown_() for name, _ in architecture.picks)
    cost = supernet.cost_table(space).cost(architecture)
    assert f"{cost.params:,}" in cost._repr_markdown_()
    page = supernet.Run(finished_run)._repr_markdown_()
    assert "| Top |" in page and "supernet analyze" in page
