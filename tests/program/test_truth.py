"""`supernet analyze FILE.csv` and `--truth`: tables as people have them, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from supernet.base.files import read_json
from supernet.program.commands import main
from supernet.program.folder import open_run
from supernet.program.load import space_of_run

Refused = Callable[..., str]


def rows_of(number: int) -> list[tuple[float, float, int]]:
    """Scores, accuracies and sizes."""
    draw = np.random.default_rng(0)
    scores = draw.random(number).round(4)
    accuracies = (scores + 0.5 * draw.random(number)).round(4)
    return list(zip(scores.tolist(), accuracies.tolist(), draw.integers(1000, 9000, number).tolist(), strict=True))


def test_every_form_of_a_table_has_one_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(14)
    plain = "score,accuracy,params\n" + "".join(f"{x},{y},{z}\n" for x, y, z in rows)
    forms: dict[str, str | bytes] = {
        "plain.csv": plain,
        "bom.csv": b"\xef\xbb\xbf" + plain.encode(),
        "utf16.csv": plain.encode("utf-16"),
        "excel.CSV": plain.replace(",", ";").replace(".", ",").replace("\n", "\r\n"),
        "tabs.tsv": plain.replace(",", "\t"),
        "text.txt": "# made by hand\n" + plain.replace(",", " "),
        "percent.csv": "score,accuracy,params\n" + "".join(f"{100 * x:.2f}%,{y},{z}\n" for x, y, z in rows),
        "thousands.csv": "score,accuracy,params\n" + "".join(f'{x},{y},"{z:,}"\n' for x, y, z in rows),
        "index.csv": ",Score,Accuracy,nParams\n" + "".join(f"{i},{x},{y},{z}\n" for i, (x, y, z) in enumerate(rows)),
        "large.csv": "score,accuracy,params\n" + "".join(f"{x * 1e300},{y},{z}\n" for x, y, z in rows),
        "seeds.csv": "arch,seed,score,accuracy,params\n"
        + "".join(f"a{i},{seed},{x},{y},{z}\n" for seed in (7, 8) for i, (x, y, z) in enumerate(rows)),
    }
    verdicts = set()
    for name, content in forms.items():
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert main(["analyze", str(file), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["trust"]["n"] == 14
        assert len(found["table"]["columns"]["sizes"]) == 1
        verdicts.add(found["trust"]["verdict"].partition(").")[0])  # what follows is on the repeats
    assert len(verdicts) == 1, verdicts


def test_what_was_not_used_is_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "points.csv"
    rows = "".join(f"{x},{y},{z},{i},777\n" for i, (x, y, z) in enumerate(rows_of(12)))
    file.write_text("score,accuracy,params,rank,seed\n" + rows)
    assert main(["analyze", str(file)]) == 0
    out = capsys.readouterr().out
    line = "points.csv: 12 networks in 12 rows; read: score, accuracy; sizes: params; not used: rank, seed"
    assert out.splitlines().count(line) == 1
    assert "rank (" not in out
    assert main(["analyze", str(file), "--sizes", "params,rank"]) == 0
    assert "sizes: params, rank; not used: seed" in capsys.readouterr().out
    assert main(["analyze", str(file), "--sizes", "none"]) == 0
    assert "sizes: none" in capsys.readouterr().out


def test_sizes_need_a_table(run_folder: Path, refused: Refused) -> None:
    assert "--sizes: expected with --truth or FILE.csv" in refused("analyze", run_folder, "--sizes", "params")


def test_rows_of_one_architecture_are_repeats_of_the_truth(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = space_of_run(open_run(run_folder))
    architectures = space.sample_distinct(12, generator=torch.Generator().manual_seed(0))
    file = tmp_path / "truth.csv"
    rows = [
        f"{i};{' '.join(sorted(str(architecture).split(), reverse=seed == 1))};{seed};{80 + i},{seed}"
        for seed in range(3)
        for i, architecture in enumerate(architectures)
        if seed < 2 or i % 2
    ]
    file.write_bytes("\n".join(["index;arch_str;seed;acc", *rows]).encode("utf-16"))
    assert main(["analyze", str(run_folder), "--truth", str(file), "--column", "acc"]) == 0
    out = capsys.readouterr().out
    assert "truth.csv: 12 networks in 30 rows; read: arch_str, acc; sizes: params and macs of the space; " in out
    assert "; not used: index, seed\n" in out
    assert "repeats: 2 of 6 networks, 3 of 6 networks; those of one network differ at most by" in out
    truth = read_json(run_folder / "analysis.json")["truth"]
    assert [len(point["accuracies"]) for point in truth["points"]] == [2, 3] * 6
    assert truth["trust"]["ceiling"]["value"] == pytest.approx(1)
    assert main(["report", str(run_folder)]) == 0


def test_a_text_that_is_no_architecture_is_refused_by_its_line(
    run_folder: Path, tmp_path: Path, refused: Refused
) -> None:
    file = tmp_path / "truth.csv"
    file.write_text(f"# from a paper\narch_str,acc\n{space_of_run(open_run(run_folder)).at(0)},1\n\nnonsense,2\n")
    message = refused("analyze", run_folder, "--truth", file, "--column", "acc")
    assert message.startswith(f"{file}, line 5: ")
    assert not list(run_folder.glob("analysis/truth-*"))


def test_texts_with_marks_and_comments_are_scored(run_folder: Path, tmp_path: Path, refused: Refused) -> None:
    texts, out = tmp_path / "texts", tmp_path / "scores.csv"
    space = space_of_run(open_run(run_folder))
    texts.write_text("# none yet\n")
    assert "expected one architecture a line, and there is none" in refused(
        "score", run_folder, "--architectures", texts, "--out", out
    )
    texts.write_bytes(f"# mine\r\n{space.at(0)}\r\n\r\n{space.at(1)}\r\n".encode("utf-16"))
    assert main(["score", str(run_folder), "--architectures", str(texts), "--out", str(out)]) == 0
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == [str(space.at(0)), str(space.at(1))]
