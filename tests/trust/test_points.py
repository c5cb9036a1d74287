from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.base.csv_file import read_table
from supernet.trust.points import Points, facts_of, is_size, plain_name, points_of, published_points, table_lines


def points(folder: Path, content: str, sizes: Sequence[str] | None = None) -> Points:
    file = folder / "points.csv"
    file.write_text(content)
    return points_of(read_table(file), sizes)


def refused(folder: Path, content: str, sizes: Sequence[str] | None = None) -> str:
    with pytest.raises(ValueError, match=r"points\.csv") as error:
        points(folder, content, sizes)
    return str(error.value).removeprefix(f"{folder / 'points.csv'}")


@pytest.mark.parametrize(
    "name",
    [
        *("params", "Params", "#params", "n_params", "nParams", "num_parameters", "params_M", "params (M)", "paramsM"),
        *("macs", "MACs", "GMACs", "flops", "FLOPs", "flops(G)", "numFLOPs", "FLOPsG", "mult-adds", "Multiply-Adds"),
        *("madds", "latency", "latency_ms", "edgegpu_latency", "memory", "peak_memory_mb", "params_without_norm"),
        *("size", "model_size", "size (MB)", "modelSize", "flops_reduction"),
    ],
)
def test_sizes_by_name(name: str) -> None:
    assert is_size(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "Unnamed: 0", "index", "id", "rank", "epoch", "seed", "test_accuracy", "loss", "score2", "batch_size"),
        *("image_size", "train_size", "params_rank", "latency_std", "lr", "memorable", "time", "größe", "kernel_size"),
    ],
)
def test_no_sizes_by_name(name: str) -> None:
    assert not is_size(name)


def test_plain_names() -> None:
    texts = {"Params (M)": "params_m", "nParams": "n_params", "FLOPs": "flops", "Größe": "größe", " a-b ": "a_b"}
    assert {text: plain_name(text) for text in texts} == texts


HEADER = ("architecture", "seed", "score", "accuracy", "params", "note")
ROWS = (
    ("a", "1", "0.1", "0.5", "1000", "x"),
    ("b", "1", "0.2", "0.6", "1500", "y"),
    ("a", "2", "0.1", "0.7", "1000", "z"),
    ("c", "1", "0.3", "0.65", "900", "x"),
)


@settings(max_examples=50, deadline=None)
@given(
    order=st.permutations(range(len(HEADER))),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    comma=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    index=st.booleans(),
    upper=st.booleans(),
)
def test_the_form_of_a_table_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    order: list[int],
    delimiter: str,
    comma: bool,
    encoding: str,
    end: str,
    index: bool,
    upper: bool,
) -> None:
    """Any order of columns, delimiter, decimal mark, encoding and line ends."""
    rows: list[list[str]] = [[name.upper() if upper else name for name in HEADER], *map(list, ROWS)]
    if comma:
        rows = [[f'"{cell.replace(".", ",")}"' for cell in row] for row in rows]
    rows = [[row[i] for i in order] for row in rows]
    if index:
        rows = [["" if number == 0 else str(number - 1), *row] for number, row in enumerate(rows)]
    file = tmp_path_factory.mktemp("table") / "points.csv"
    file.write_bytes(end.join(delimiter.join(row) for row in rows).encode(encoding))
    read = points_of(read_table(file))
    assert list(read.keys) == ["a", "b", "c"]
    assert read.scores is not None
    assert read.scores.tolist() == [0.1, 0.2, 0.3]
    np.testing.assert_array_equal(read.accuracies, [[0.5, 0.7], [0.6, np.nan], [0.65, np.nan]])
    assert [sizes.tolist() for sizes in read.sizes.values()] == [[1000, 1500, 900]]
    assert {name.lower() for name in read.columns["not_used"]} == {
        "seed", "note", *(["(column 1, no name)"] if index else [])
    }  # fmt: skip


def test_columns_that_are_no_sizes_are_named_in_one_line(tmp_path: Path) -> None:
    content = ",rank,id,epoch,seed,test_accuracy,score,accuracy,flops,accuracy_std\n"
    content += "".join(f"{i},{i},{i},200,777,0.{i}1,0.{i},0.{i}2,{i * i},0.01\n" for i in range(9))
    read = points(tmp_path, content)
    assert list(read.sizes) == ["flops"]
    assert read.accuracies.shape == (9, 1)
    lines = table_lines(facts_of(read_table(tmp_path / "points.csv"), read))
    assert lines == [
        "points.csv: 9 networks in 9 rows; read: id, score, accuracy; sizes: flops; not used: (column 1, no name), "
        "rank, epoch, seed, test_accuracy, accuracy_std"
    ]


def test_sizes_of_ones_choice(tmp_path: Path) -> None:
    content = "score,accuracy,params,depth\n0.1,0.2,30,4\n0.2,0.4,40,5\n"
    assert list(points(tmp_path, content).sizes) == ["params"]
    assert list(points(tmp_path, content, ["Depth"]).sizes) == ["depth"]
    assert list(points(tmp_path, content, []).sizes) == []
    assert "no column 'width'; there are: score" in refused(tmp_path, content, ["width"])
    assert "column 'accuracy' is no size" in refused(tmp_path, content, ["accuracy"])


@pytest.mark.parametrize("key", ["architecture", "arch_str", "Genotype", "arch_id", "name", "id"])
def test_rows_of_one_network_are_its_repeats(tmp_path: Path, key: str) -> None:
    rows = [
        f"{i},{seed},0.{i},{0.5 + i / 100 + seed / 1000}" for seed in range(3) for i in range(4) if seed < 2 or i % 2
    ]
    read = points(tmp_path, f"{key},seed,score,accuracy\n" + "\n".join(rows))
    assert read.accuracies.shape == (4, 3)
    np.testing.assert_array_equal((~np.isnan(read.accuracies)).sum(1), [2, 3, 2, 3])
    np.testing.assert_allclose(np.nanmean(read.accuracies, 1), [0.5005, 0.511, 0.5205, 0.531])
    assert read.notes == (
        "repeats: 2 of 2 networks, 3 of 2 networks; those of one network differ at most by 0.51 (line 3) and 0.512 "
        "(line 10)",
    )


def test_repeats_in_columns_and_rows_are_put_together(tmp_path: Path) -> None:
    read = points(tmp_path, "arch,score,accuracy,accuracy_2\na,1,0.5,0.6\nb,2,0.7,\na,1,0.4,nan\n")
    np.testing.assert_array_equal(read.accuracies, [[0.5, 0.6, 0.4], [0.7, np.nan, np.nan]])


def test_rows_with_seeds_and_no_architecture(tmp_path: Path) -> None:
    content = "score,params,seed,accuracy\n1,10,1,0.5\n1,10,2,0.6\n1,20,1,0.7\n2,10,1,0.8\n"
    read = points(tmp_path, content)
    np.testing.assert_array_equal(read.accuracies, [[0.5, 0.6], [0.7, np.nan], [0.8, np.nan]])
    assert read.notes[0] == "no column architecture: rows with the same score and sizes, and another seed, are repeats"
    message = refused(tmp_path, content + "1,10,2,0.9\n")
    assert "lines 3 and 6 have the same score, sizes and seed: one network or two?" in message


def test_rows_that_are_copies(tmp_path: Path) -> None:
    rows = "".join(f"{i},0.{i},0.{i}5\n" for i in range(1, 6))
    read = points(tmp_path, "name,score,accuracy\n" + rows + rows)
    assert read.accuracies.shape == (5, 1)
    assert read.notes == ("5 rows are the same as an earlier one (line 7 as line 2), and left out",)
    # Two trainings with one accuracy, among repeats that differ, are no copies.
    assert points(tmp_path, "name,score,accuracy\n" + rows + "1,0.1,0.15\n2,0.2,0.5\n").accuracies.shape == (5, 2)
    assert "left out" in points(tmp_path, "score,accuracy\n0.1,0.2\n0.1,0.2\n0.3,0.4\n").notes[0]
    read = points(tmp_path, "score,accuracy\n0.1,0.2\n0.1,0.2\n0.1,0.4\n")
    assert read.accuracies.shape == (3, 1)
    assert "count as other networks, since no column architecture" in read.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("score,other\n1,2\n", "expected columns score and accuracy (accuracy_2, ... for repeats), got score, other"),
        ("score,accuracy_std\n1,2\n", "expected columns score and accuracy"),
        ("score,accuracy,accuracy\n1,2,3\n", "columns 2 and 3 are both named 'accuracy'"),
        ("score,accuracy,Accuracy\n1,2,3\n", "columns 2 and 3 are both named 'accuracy'"),
        ("score,accuracy,params,params\n1,2,3,4\n", "columns 3 and 4 are both named 'params'"),
        ("name,name,score,accuracy\na,b,1,2\nb,c,1,2\n", "columns 1 and 2 are both named 'name'"),
        ("score,accuracy,params\n1,2,3\n1,3,\n", "no number in column 'params' on line 3; "),
        ("score,accuracy,params\n1,2,small\n", ", line 2: expected a number in column 'params', got 'small'"),
        ("score,accuracy\n1,x\n", ", line 2: expected a number in column 'accuracy', got 'x'"),
        ("score,accuracy\n1,\n", "no row has both a score and an accuracy"),
        ("arch,score,accuracy\na,1,2\na,1.5,3\n", "one network has score 1 on line 2 and 1.5 on line 3"),
        ("arch,score,accuracy,params\na,1,2,5\na,1,3,6\n", "one network has params 5 on line 2 and 6 on line 3"),
        ("arch,score,accuracy\n,1,2\nb,1,3\n", ", line 2: nothing in column 'arch'"),
        (
            "seed,epoch,score,accuracy\n1,1,1,2\n1,2,1,3\n2,1,5,4\n",
            "lines 2 and 3 have the same score and sizes with epoch 1 and 2",
        ),
        ("arch,epoch,score,accuracy\na,1,1,2\na,2,1,3\n", "lines 2 and 3 have the same arch with epoch 1 and 2"),
        ("arch,dataset,score,accuracy\na,c10,1,2\na,c100,1,3\n", "keep the rows of one dataset"),
        ("score,accuracy,accuracy_2\n1,75,0.8\n2,85,0.79\n", "'accuracy_2' seems to be in fractions and 'accuracy' in"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path: Path, content: str, message: str) -> None:
    assert message in refused(tmp_path, content)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    read = points(tmp_path, "score,accuracy,params\n1,2,3\n2,,4\n,5,6\n3,nan,\n4,5,6\n")
    assert read.notes == ("2 rows without accuracy left out: lines 3, 5", "1 row without score left out: line 4")
    assert read.sizes["params"].tolist() == [3, 6]


def test_measured_sizes_are_averaged(tmp_path: Path) -> None:
    read = points(tmp_path, "arch,score,accuracy,latency_ms\na,1,2,5.0\nb,1,2,7\na,1,3,6.0\n")
    assert read.sizes["latency_ms"].tolist() == [5.5, 7]
    assert "one network has latency_ms 5.0 on line 2 and 6.0 on line 4: means count" in read.notes


def test_repeats_that_differ_much_are_shown(tmp_path: Path) -> None:
    read = points(tmp_path, "arch,score,accuracy\na,1,81.66\nb,1,70\na,1,18.34\nb,1,71\n")
    assert read.notes == (
        "repeats: 2 of 2 networks; those of one network differ at most by 18.34 (line 4) and 81.66 (line 2); they "
        "differ as much as different networks do: are they repeats?",
    )


def test_fractions_among_percents_are_suspected(tmp_path: Path) -> None:
    content = "score,accuracy\n" + "".join(f"{i},{value}\n" for i, value in enumerate([93.1, 0.921, 91.5, 89.9]))
    assert points(tmp_path, content).notes == (
        "fractions among percents? Accuracies at most 1 on line 3, others up to 93.1",
    )
    assert not points(tmp_path, content.replace("0.921", "1.0")).notes  # chance of 100 classes, in percent


def test_published_accuracies(tmp_path: Path) -> None:
    file = tmp_path / "truth.csv"
    file.write_text("arch_str,c10_777,c10_888,params\nb a,90,91,5\na,80,,6\na b,92,93,5\n")

    def parse(text: str) -> str:
        if set(text) - set("ab "):
            raise ValueError(f"no architecture: {text}")
        return "".join(sorted(text.split()))

    read = published_points(read_table(file), ["c10_777", "c10_888"], parse)
    assert list(read.keys) == ["ab", "a"]
    assert read.rows == [[0, 2], [1]]
    assert read.scores is None
    np.testing.assert_array_equal(read.accuracies, [[90, 91, 92, 93], [80, np.nan, np.nan, np.nan]])
    assert read.columns["not_used"] == ["params"]
    assert list(published_points(read_table(file), ["c10_777"], parse, ["params"]).sizes) == ["params"]
    file.write_text("\narch_str,acc\na,1\nc,2\n")
    with pytest.raises(ValueError, match=r"truth\.csv, line 4: no architecture: c"):
        published_points(read_table(file), ["acc"], parse)
    file.write_text("text,acc\na,1\n")
    with pytest.raises(ValueError, match="expected a column architecture with texts, got text, acc"):
        published_points(read_table(file), ["acc"], parse)
