"""The page about a run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernet import draw, spaces
from supernet.cli import main
from supernet.files import read_json, write_json
from supernet.report import network_rows, write_report

Refused = Callable[..., str]


class Page(HTMLParser):
    """Counts elements, and collects what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("src", "srcset", "data") or (
                name in ("href", "xlink:href") and not (value or "").startswith("#")
            ):
                self.fetched.append(f"{tag} {name}={value}")


POINTS = [
    {
        "id": f"n{i}", "architecture": "", "params": 100 + i, "macs": 1000 * i, "score": 0.5 + 0.02 * i,
        "divergence": 3 - 0.1 * i, "untrained": 0.1, "accuracies": [0.8 + 0.005 * i, 0.81 + 0.004 * i],
    }
    for i in range(12)
]  # fmt: skip


@pytest.fixture(scope="module")
def page_of_a_study(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run with every part of an analysis, made by hand so that each figure is drawn."""
    from supernet.analysis import agreement, trust

    folder = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("runs") / "studied"))
    scores, accuracies = [p["score"] for p in POINTS], [p["accuracies"] for p in POINTS]
    found = agreement(scores, [a for a, _ in accuracies])
    write_json(
        folder / "analysis.json",
        {
            "points": POINTS,
            "trust": trust(scores, accuracies, {"params": [p["params"] for p in POINTS]}, noise=0.012),
            "divergence": {
                "with_score": found, "with_accuracy": found, "followed": ["n0", "n11"],
                "course": [{"step": s, "divergence": [s / 10, s / 20]} for s in (1, 5, 9)],
            },
            "sweep": [{"rate": rate, "scores": scores, "agreement": found} for rate in (0.01, 0.3)],
            "options": [
                {"choice": "a", "option": name, "everything_on": 0.1, "candidates": 0.05, "number": 3}
                for name in ("x", "y<z")
            ],
            "diagnosis": [
                {"name": "unconverged", "found": True, "rule": "loss < before", "value": 0.1, "limit": 0.05,
                 "advice": "raise train.epochs"},
            ],
        },
    )  # fmt: skip
    assert main(["report", str(folder)]) == 0
    return (folder / "report.html").read_text()


def test_the_page_stands_alone_and_shows_every_figure(page_of_a_study: str) -> None:
    page = Page(page_of_a_study)
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe"} & page.counts.keys()
    assert page.counts["svg"] == page.counts["figure"] == 8
    assert "@import" not in page_of_a_study
    assert "url(http" not in page_of_a_study
    ids = re.findall(r'<clipPath id="([^"]+)"', page_of_a_study)
    assert len(ids) == len(set(ids))  # figures do not cut each other


def test_the_verdict_comes_first_and_texts_are_escaped(page_of_a_study: str) -> None:
    verdict = page_of_a_study.index("Differences under 1.2 points of score are noise.")
    assert page_of_a_study.index("<main>") < verdict < page_of_a_study.index("<h2>")
    assert "loss &lt; before" in page_of_a_study
    assert "The test set was used once, at 20" in page_of_a_study
    assert "y<z" not in page_of_a_study


def test_without_a_study_the_page_says_so(run_folder: Path) -> None:
    text = write_report(run_folder).read_text()
    assert "How far this ranking can be trusted is not known yet" in text
    result = read_json(run_folder / "results.json")
    assert result["networks"][0]["architecture"] in text
    assert write_report(run_folder).read_text() == text


def test_wrong_empty_and_unfinished_folders(tmp_path: Path, run_folder: Path, refused: Refused) -> None:
    assert "is no run folder" in refused("report", tmp_path)
    assert "is no run folder" in refused("report", tmp_path / "nothing")
    (run_folder / "results.json").unlink()
    assert f"run `supernet retrain {run_folder}` first" in refused("report", run_folder)
    (run_folder / "results.json").write_text("{")
    assert "results.json is damaged" in refused("report", run_folder)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_front_is_whom_nobody_beats(points: list[tuple[int, int]]) -> None:
    sizes, accuracies = zip(*points, strict=True)
    front = draw.pareto(sizes, accuracies)
    chosen = {points[i] for i in front}
    for size, accuracy in points:
        beaten = any((s <= size and a > accuracy) or (s < size and a >= accuracy) for s, a in points)
        assert ((size, accuracy) in chosen) == (not beaten)


@pytest.mark.parametrize("name", ["bender", "nasbench201", "macro"])
def test_every_space_has_a_picture_of_its_winner(name: str) -> None:
    import torch

    space = spaces.SPACES[name]()
    architecture = space.sample(generator=torch.Generator().manual_seed(0))
    picks = dict(architecture.picks)
    svg = draw.cell(picks, {choice.name: choice.options for choice in space.choices})
    for options in picks.values():
        for option in options:
            assert option == "none" or option in svg
    assert (draw.arrows(picks) is None) == (name == "macro")


def test_the_parts_of_a_network() -> None:
    import torch

    space = spaces.bender(filters=2, cells=2, num_classes=5, input_shape=(3, 16, 16))
    rows = network_rows(space, space.sample(generator=torch.Generator().manual_seed(0)))
    assert [row[0] for row in rows] == ["stem1", "stem2", "cells.0", "cells.1", "head"]
    assert rows[0][1:] == ("Conv2d", "54", "2 x 16 x 16")
    assert rows[-1][3] == "5"


def test_the_front_of_a_search_with_several_objectives(run_folder: Path) -> None:
    """Its points have the numbers by which they can be retrained; the times of the device are named."""
    config = (run_folder / "config.yaml").read_text()
    config = config.replace("objectives: accuracy\n", "objectives: accuracy,params,macs\n")
    (run_folder / "config.yaml").write_text(config.replace("strategy: random\n", "strategy: nsga2\n"))
    facts = {"device": "abacus", "batch_size": 1, "threads": 1, "networks": [1, 2], "error": 0.2, "largest_error": 0.3}
    write_json(run_folder / "latency.json", facts)
    page = write_report(run_folder).read_text()
    assert page.count("Pareto front of accuracy, params, macs (hypervolume ") == 2
    assert "The best so far under the strategy nsga2" in page
    assert "abacus, batch 1, 1 threads; sums are off by 20.0% on 2 whole networks (at most 30.0%): do not rely" in page
