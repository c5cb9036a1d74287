"""The page of a run."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supernet.base.files import read_json, write_json
from supernet.program.commands import main
from supernet.program.folder import open_run
from supernet.program.report import write_report
from supernet.trust.tables import result_rows
from tests.draw.test_plots import dots

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
                name in ("href", "xlink:href") and not (value or "").startswith(("#", "data:"))
            ):
                self.fetched.append(f"{tag} {name}={value}")


POINTS: list[dict[str, Any]] = [
    {
        "id": f"n{i}", "architecture": "", "params": 100 + i, "macs": 1000 * i, "score": 0.5 + 0.02 * i,
        "divergence": 3 - 0.1 * i, "untrained": 0.1, "accuracies": [0.8 + 0.005 * i, 0.81 + 0.004 * i],
    }
    for i in range(12)
]  # fmt: skip


FIGURES = 17
"""Of a study with two dropout rates."""


@pytest.fixture(scope="module")
def studied(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its page and every part of an analysis, made by hand so that each figure is drawn."""
    from supernet.trust.correlation import agreement, trust

    folder = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("runs") / "studied"))
    scores, accuracies = [p["score"] for p in POINTS], [p["accuracies"] for p in POINTS]
    agreed = agreement(scores, [a for a, _ in accuracies])
    sizes = {"params": [p["params"] for p in POINTS]}
    groups = read_json(folder / "results.json")["groups"]
    write_json(
        folder / "analysis.json",
        {
            "metric": "accuracy",
            "points": POINTS,
            "trust": trust(scores, accuracies, sizes, noise=0.012),
            "truth": {
                "file": "cells.csv", "column": "published", "trust": trust(scores, [90 - s for s in scores], sizes),
                "points": [{**p, "accuracies": [90 - p["score"]]} for p in POINTS],
            },
            "candidates": {
                "value": scores, **sizes, "macs": scores, "examples": scores, "number": len(scores),
                "size_bias": {"params": {"kendall": 0.25, "kendall_interval": [0.1, 0.4]}},
            },
            "at": [
                {
                    "setting": "filters", "value": value, "groups": groups, "networks": [],
                    "differences": [{"groups": ["Top", "Random"], "networks": [2, 3], "difference": 0.01 * value,
                                     "interval": [-0.1, 0.2], "p": 0.04}],
                }
                for value in (4, 8)
            ],
            "best_rate": {"best": 0.01, "others": [{"name": 0.3, "value": 0.0, "interval": [-0.1, 0.1]}]},
            "divergence": {
                "with_score": agreed, "with_accuracy": agreed, "followed": ["n0", "n11"],
                "course": [{"step": s, "divergence": [s / 10, s / 20]} for s in (1, 5, 9)],
            },
            "sweep": [{"rate": rate, "scores": scores, "agreement": agreed} for rate in (0.01, 0.3)],
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
    return folder


@pytest.fixture(scope="module")
def page_of_a_study(studied: Path) -> str:
    return (studied / "report.html").read_text()


def test_the_page_stands_alone_and_shows_every_figure(page_of_a_study: str) -> None:
    page = Page(page_of_a_study)
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe"} & page.counts.keys()
    assert page.counts["svg"] == page.counts["figure"] == FIGURES
    assert "@import" not in page_of_a_study
    assert "url(http" not in page_of_a_study
    ids = re.findall(r'<clipPath id="([^"]+)"', page_of_a_study)
    assert len(ids) == len(set(ids))  # figures do not cut each other


def tables(page: str) -> list[list[list[str]]]:
    """The texts of the cells of each table."""
    return [
        [
            [html.unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", table)
        ]
        for table in re.findall(r"<table.*?>(.*?)</table>", page, re.DOTALL)
    ]


def test_the_numbers_of_the_tables_are_those_of_the_files(studied: Path, page_of_a_study: str) -> None:
    analysis, results = read_json(studied / "analysis.json"), read_json(studied / "results.json")
    of_page = {table[0][0]: table for table in reversed(tables(page_of_a_study))}  # the first of each kind
    groups, networks, classes = (of_page[title] for title in ("group", "network", "class"))
    rankings, figures, tops = (of_page[title] for title in ("ranking by", "rank correlation", "best by score"))
    options = of_page["choice"]
    for row in groups[1:]:
        group = results["groups"][row[0]]
        assert row[1] == str(group["networks"])
        for column, name in ((4, "score"), (5, "validation"), (6, "test")):
            assert row[column].split(" ± ")[0] == f"{100 * group[name]['mean']:.2f}"
    for at in analysis["at"]:
        rows = result_rows({**at, "metric": "accuracy"}, ("params", "macs", "validation"))
        assert [list(row) for row in rows] in tables(page_of_a_study)
    assert "validation, Top (2) minus Random (3) networks: +8.0 points (-10.0 to +20.0)" in page_of_a_study
    for row, network in zip(networks[1:], results["networks"], strict=True):
        assert row[0].startswith(network["id"]) and float(row[4]) == pytest.approx(
            100 * network["validation"][0], abs=0.01
        )
    data = read_json(studied / "data.json")
    assert [row[:2] for row in classes[1:]] == [
        [name, str(count)] for name, count in zip(data["classes"], data["counts"]["validation"], strict=True)
    ]
    right = sum(int(row[1]) * float(row[2]) for row in classes[1:]) / sum(int(row[1]) for row in classes[1:])
    assert right == pytest.approx(100 * results["networks"][0]["validation"][0], abs=0.1)  # the winner's own accuracy
    cells = {row[0]: row[1:] for row in figures}
    trust = analysis["trust"]
    estimates: tuple[tuple[str, dict[str, Any]], ...] = (
        ("Spearman, as drawn", trust["as_drawn"]["spearman"]),
        ("tau of params and score", {"value": 0.25, "interval": [0.1, 0.4]}),
        ("Kendall tau-b at dropout rate 0.3", analysis["sweep"][1]["agreement"]["kendall"]),
    )
    for title, estimate in estimates:
        assert cells[title][0] == f"{estimate['value']:.2f}", title
        assert cells[title][1] == "{:.2f} to {:.2f}".format(*estimate["interval"]), title
    of_rankings: tuple[tuple[str, dict[str, Any]], ...] = (
        ("scores", trust["tau"]),
        ("most that any score can have", trust["ceiling"]),
        ("params", trust["floor"]["params"]),
    )
    beside = {row[0]: row[1:] for row in rankings}
    for title, estimate in of_rankings:
        assert beside[title][0] == f"{estimate['value']:.2f}", title
        assert beside[title][1] == "{:.2f} to {:.2f}".format(*estimate["interval"]), title
    assert beside["params"][2].startswith(f"{trust['beyond']['params']['value']:.2f} (")
    assert {row[0]: row[1].split()[0] for row in tops[1:]} == {
        name: f"{100 * row['value']:.2f}" for name, row in trust["regret"].items()
    }
    assert options[1:] == [["a", name, "+10.00", "+5.00", "3"] for name in ("x", "y<z")]
    assert "Of the dropout rates 0.01 has the highest tau, but cannot be told from 0.3" in page_of_a_study


def test_the_points_of_the_figures_are_those_of_the_files(studied: Path, page_of_a_study: str) -> None:
    """Places in a drawing and numbers in the file are the same up to scale and origin."""
    analysis = read_json(studied / "analysis.json")
    score = [p["score"] for p in analysis["points"]]
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page_of_a_study)
    by_caption = dict(zip(captions, re.findall(r"<svg.*?</svg>", page_of_a_study, re.DOTALL), strict=True))
    for start, values in (
        ("Does the score predict?", (score, [np.mean(p["accuracies"]) for p in analysis["points"]])),
        ("Do the scores predict", (score, [p["accuracies"][0] for p in analysis["truth"]["points"]])),
        ("Does the score favour", (analysis["candidates"]["params"], analysis["candidates"]["value"])),
    ):
        (svg,) = (svg for caption, svg in by_caption.items() if caption.startswith(start))
        marks = dots(svg)[:-1] if start == "Does the score favour" else dots(svg)  # the last one is the winner's star
        drawn = np.array(marks)[-len(score) :]  # before them are the paper's own points
        for axis, sign in ((0, 1), (1, -1)):
            scale, origin = np.polyfit(values[axis], drawn[:, axis], 1)
            assert np.sign(scale) == sign
            assert drawn[:, axis] == pytest.approx(scale * np.array(values[axis], float) + origin, abs=0.01)


def test_every_source_that_the_page_names_is_there(studied: Path, page_of_a_study: str) -> None:
    named = re.findall(r"\(((?:analysis|results)\.json)(?:: ([^)]*))?\)", page_of_a_study)
    assert len(named) >= 12
    for file, keys in named:
        content: Any = read_json(studied / file)
        for part in keys.split("; "):
            *way, last = part.split(": ")
            inner = content
            for name in way:
                for key in name.split(", "):
                    inner = inner[0][key] if isinstance(inner, list) else inner[key]
            for key in filter(None, last.split(", ")):
                assert key in (inner[0] if isinstance(inner, list) else inner), (file, keys, key)
    assert list((studied / "retrain").glob("*/*/result.json"))


def test_the_verdict_comes_first_and_texts_are_escaped(page_of_a_study: str) -> None:
    verdict = page_of_a_study.index("Differences under 1.2 points of score are noise.")
    assert page_of_a_study.index("<main>") < verdict < page_of_a_study.index("<h2>")
    assert "loss &lt; before" in page_of_a_study
    assert "The test split was opened once, at 20" in page_of_a_study
    assert "y<z" not in page_of_a_study


def test_without_a_study_the_page_says_so(run_folder: Path) -> None:
    text = write_report(open_run(run_folder)).read_text()
    assert "How far this ranking can be trusted is not known yet" in text
    result = read_json(run_folder / "results.json")
    assert result["networks"][0]["architecture"] in text
    assert write_report(open_run(run_folder)).read_text() == text


def test_wrong_empty_and_unfinished_folders(tmp_path: Path, run_folder: Path, refused: Refused) -> None:
    assert "is no run folder" in refused("report", tmp_path)
    assert "is no run folder" in refused("report", tmp_path / "nothing")
    write_json(run_folder / "analysis.json", {"trust": {"verdict": "old"}})
    assert "damaged or of another version" in refused("report", run_folder)
    (run_folder / "analysis.json").unlink()
    (run_folder / "results.json").unlink()
    (run_folder / "results.json").write_text("{")
    assert "results.json is damaged" in refused("report", run_folder)


def test_a_run_that_is_under_way_has_a_page_of_what_there_is(
    run_folder: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_folder / "results.json").unlink()
    assert main(["watch", str(run_folder), "--once", "--report"]) == 0
    text = (run_folder / "report.html").read_text()
    assert "done: train, search" in text and 'http-equiv="refresh"' in text
    for caption in ("Scores of the candidates", "Training of the one-shot model", "Training of the finalists"):
        assert caption in text
    assert "The course of the strategy random" in text and "Winner" not in text
    for left in ("candidates.sqlite", "retrain", "train/history.json"):
        place = run_folder / left
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert main(["report", str(run_folder)]) == 0
    assert "Scores of the candidates" not in (run_folder / "report.html").read_text()
    (run_folder / "environment.json").unlink()
    assert "has nothing to show yet" in refused("report", run_folder)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000",
    "--enable-logging=stderr", "--dump-dom",
)  # fmt: skip
LOOK = """
const found = {};
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, root = page.documentElement;
  const cut = [], size = [], pixels = [];
  for (const svg of page.querySelectorAll("svg")) {
    const box = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const own = text.getBoundingClientRect();
      size.push(own.height);
      const matrix = text.getScreenCTM();
      pixels.push(parseFloat(getComputedStyle(text).fontSize) * Math.hypot(matrix.a, matrix.b));
      if (own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1)
        cut.push(text.textContent);
    }
  }
  found[frame.id] = {
    wide: root.scrollWidth, screen: root.clientWidth, cut, letters: Math.min(...size), pixels: Math.min(...pixels),
    drawn: [...page.querySelectorAll("figure svg")].filter((svg) => svg.getBoundingClientRect().height > 50).length,
    requests: frame.contentWindow.performance.getEntriesByType("resource").map((entry) => entry.name),
  };
}
document.body.textContent = JSON.stringify(found);
"""


def look(page: str, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What a browser makes of a page: on a phone, the same with scripts off, and on a wide screen; and its console."""
    assert CHROMIUM is not None
    frames = {"phone": (400, ""), "no-scripts": (400, 'sandbox="allow-same-origin"'), "desk": (1400, "")}
    code = "".join(
        f'<iframe id={name} {more} style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(page)}"></iframe>'
        for name, (width, more) in frames.items()
    )
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f"<!doctype html><body>{code}<script>window.onload = () => {{{LOOK}}}</script>")
    command = [CHROMIUM, *SWITCHES, f"--user-data-dir={folder / 'profile'}", wrapper.as_uri()]
    browser = subprocess.run(command, capture_output=True, text=True, timeout=120)
    body = re.search(r"<body>(.*?)</body>", browser.stdout, re.DOTALL)
    assert body is not None, browser.stderr[-2000:]
    return json.loads(html.unescape(body[1])), [line for line in browser.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="NOT CHECKED IN A BROWSER: there is no chromium on this machine")
def test_a_browser_shows_all_of_it_and_asks_for_nothing(page_of_a_study: str, tmp_path: Path) -> None:
    views, console = look(page_of_a_study, tmp_path)
    assert console == []
    for name, seen in views.items():
        assert seen["wide"] == seen["screen"] <= (1400 if name == "desk" else 400)  # no sideways scrolling
        assert seen["drawn"] == FIGURES
        assert seen["cut"] == []
        assert seen["requests"] == []
        assert seen["pixels"] >= 12


@pytest.mark.skipif(CHROMIUM is None, reason="NOT CHECKED IN A BROWSER: there is no chromium on this machine")
def test_a_browser_would_have_seen_what_is_wrong(tmp_path: Path) -> None:
    """The test above can fail."""
    wrong = (
        "<!doctype html><script>console.error('a')</script><img src='http://127.0.0.1:9/x.png'>"
        "<p style='width:1500px'>wide</p><figure><svg width='60' height='60'>"
        "<text y='30' font-size='5'>much longer than the figure is wide</text></svg></figure>"
    )
    views, console = look(wrong, tmp_path)
    assert console
    for seen in views.values():
        assert seen["wide"] > seen["screen"]
        assert (seen["drawn"], len(seen["cut"]), len(seen["requests"])) == (1, 1, 1)
        assert seen["letters"] < 7


def test_the_front_of_a_search_with_several_objectives(run_folder: Path) -> None:
    """Its points have the numbers by which they can be retrained; the times of the device are named."""
    config = (run_folder / "config.yaml").read_text()
    config = config.replace("objectives: score\n", "objectives: score,params,macs\n")
    (run_folder / "config.yaml").write_text(config.replace("strategy: random\n", "strategy: nsga2\n"))
    facts = {"device": "abacus", "batch_size": 1, "threads": 1, "checked": [1, 2], "error": 0.1, "largest_error": 0.3}
    write_json(run_folder / "latency.json", facts)
    page = write_report(open_run(run_folder)).read_text()
    assert page.count("Pareto front of score, params, macs (hypervolume ") == 2
    assert "The course of the strategy nsga2, with " in page
    assert "abacus, batch 1, 1 threads; sums are off by 10.0% on 2 whole networks (at most 30.0%); more than" in page
