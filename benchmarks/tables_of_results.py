"""The tables of docs/results/README.md, each a function of the result files (see documents.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from formats import Results, accuracies, group, interval, middle, percent, plain, rows_as_table

from supernet.trust.probes import differences

QUARTER = "tau of the best quarter"
LOSS, BONUS, SIZE = "loss", "loss with size_bonus 0.1", "with 1.5 x size"


def summary(results: Results) -> str:
    cells, macro = results("nasbench201_run")["trust"], results("macro_run")["trust"]
    scoring = results("nasbench201_scoring")["as in the run"]
    size = results("nasbench201")["size alone"]
    longer, short = results("paper_longer"), results("paper")
    again, audit = longer["another run"], results("audit")
    weighted = audit["longer truth, all candidates"]
    rows = [
        ("NAS-Bench-201, recipe `cifar10-nasbench201`", "400 cells", cells["as_drawn"]["kendall"], interval(size)),
        ("the same, scores without the size", "400 cells", scoring["alone"], interval(size)),
        (
            "NAS-Bench-Macro, recipe `cifar10-macro`", "46", macro["as_drawn"]["kendall"],
            interval(macro["floor"]["macs"]),
        ),
        (
            "the paper's space, truth of 120,000 images", "30", longer["trust"]["as_drawn"]["kendall"],
            interval(longer["trust"]["floor"]["params"]),
        ),
        (
            "the same, another one-shot model", "30", again["trust"]["as_drawn"]["kendall"],
            interval(again["trust"]["floor"]["params"]),
        ),
        ("the same two, all candidates (audit): the first", "30", weighted["first one-shot model"], "-"),
        ("the other", "30", weighted["another one-shot model"], "-"),
        (
            "the first of these models, truth of 5 short epochs", "30", short["trust"]["as_drawn"]["kendall"], "-",
        ),
        ("the same, all candidates", "30", short["trust"]["population"]["kendall"], "-"),
    ]  # fmt: skip
    head = ("space and scores", "networks", "Kendall's tau with the truth", "tau of size alone")
    return rows_as_table(head, ((name, n, interval(tau), floor) for name, n, tau, floor in rows))


def audit(results: Results) -> str:
    """What holds on published accuracies that chose nothing here."""
    of = results("audit")
    names = ("tau", "tau of size", "tau, best quarter", "tau of size, best quarter")
    rows = [(space, *(f"{of[space][name]:g}" for name in names)) for space in ("NAS-Bench-201", "NAS-Bench-Macro")]
    return rows_as_table(("as a search ranks", "tau", "size alone", "best quarter", "size, best quarter"), rows)


# NAS-Bench-201


def run_of_nasbench201(results: Results) -> str:
    file = results("nasbench201_run")
    trust, size = file["trust"], results("nasbench201")["size alone"]
    published = results("nasbench201")["parameters as published"]
    bands = [plain(band["kendall"]) for band in trust["bands"]["accuracy"]]
    weights = results("nasbench201_scoring")["as in the run"]
    rows = [
        ("Kendall's tau, as the search ranks", interval(trust["as_drawn"]["kendall"])),
        ("by quarters of the truth, from the worst to the best", ", ".join(bands)),
        ("tau of the published parameters alone", interval(published)),
        ("tau of the parameters that matter alone", f"{interval(size)}; best quarter {plain(size[QUARTER])}"),
        ("tau beyond the published parameters", interval(trust["beyond"]["params"])),
        (
            "tau with 0.5, 1, 1.5 and 2 times the rank of the size",
            ", ".join(middle(weights[f"with {weight} x size"]) for weight in (0.5, 1, 1.5, 2)),
        ),
        (
            "points below the best of 400: best of the first 1, 5, 10 by score",
            ", ".join(plain(trust["regret"][n]) for n in ("1", "5", "10")),
        ),
    ]  # fmt: skip
    return rows_as_table((f"{file['candidates scored']:,} cells scored, 400 with a truth", "measured"), rows)


WAYS = {
    "as in the run": "loss, 2,048 images, ghost batches of 64 (the run)",
    "divergence from the reference outputs": "divergence from the references",
}


def ways_of_scoring(results: Results) -> str:
    rows = [
        (
            WAYS.get(name, name), str(row["seconds"]), interval(row["alone"]), plain(row["alone"][QUARTER]),
            middle(row["with 1 x size"]), plain(row["with 1 x size"][QUARTER]),
            middle(row["with size_bonus"]) if "with size_bonus" in row else "-",
        )
        for name, row in results("nasbench201_scoring").items()
    ]  # fmt: skip
    head = ("one thing changed", "s", "alone", "its best quarter", "with size", "its best quarter", "`size_bonus`")
    return rows_as_table(head, rows)


def _recipe(label: str, row: dict[str, Any]) -> tuple[str, ...]:
    return (
        label, str(row["training_seconds"]), percent(row["mean accuracy"]), middle(row["accuracy"]["alone"]),
        interval(row[LOSS]["alone"]), middle(row[LOSS][SIZE]), interval(row[BONUS]), plain(row[BONUS][QUARTER]),
    )  # fmt: skip


RECIPE_HEAD = ("recipe", "s", "mean", "accuracy", "loss", "loss + size", "`size_bonus`", "best quarter")
RECIPES = {
    "8 channels": "8 channels",
    "16 channels": "16 channels",
    "8 channels, classes": "8, classes",
    "16 channels, classes": "16, classes",
    "8 channels, rate 0.2, average": "8, rate 0.2, mean",
    "8 channels, rate 0.5, average": "8, rate 0.5, mean",
    "16 channels, rate 0.3, average, long": "16, rate 0.3, mean, long",
    "8 channels, 3 cells, rate 0.3, average": "8, 3 cells, rate 0.3, mean",
    "16 channels, 3 cells, rate 0.3, average": "16, 3 cells, rate 0.3, mean",
    "16 channels, 3 cells, rate 0.3, average, seed 1": "the same, seed 1",
}


def recipes(results: Results) -> str:
    file = results("nasbench201")
    rows = [_recipe(label, file[name]) for name, label in RECIPES.items()]
    return rows_as_table(RECIPE_HEAD, rows)


def sizes_alone(results: Results) -> str:
    file = results("nasbench201")
    epochs = file["12 epochs as published"]
    helped = epochs["with 1 x size"]
    rows = [
        ("parameters that matter", interval(file["size alone"]), plain(file["size alone"][QUARTER])),
        (
            "parameters as published", interval(file["parameters as published"]),
            plain(file["parameters as published"][QUARTER]),
        ),
        ("published accuracies after 12 epochs", interval(epochs["alone"]), plain(epochs["alone"][QUARTER])),
        ("the same and the rank of the size", interval(helped), plain(helped[QUARTER])),
    ]  # fmt: skip
    return rows_as_table(("without a one-shot model", "tau", "best quarter"), rows)


FACTORS = {
    "factor": "base",
    "factor, seed 1": "seed 1",
    "factor, another processor": "base (Xeon)",
    "factor, 1 path": "one path",
    "factor, 1 path, longer": "one path, 7,400 steps",
    "factor, 8 paths": "8 paths, ghost batches of 32",
    "factor, fair": "fair paths",
    "factor, path dropout": "dropout, rising",
    "factor, path dropout, constant": "dropout, constant (Xeon)",
    "factor, everything on first": "everything on first",
    "factor, averages": "averages",
    "factor, all decayed": "all weights decayed",
    "factor, decay 5e-5": "decay 5e-5",
    "factor, affine": "scales and offsets",
    "factor, no average": "last weights (Xeon)",
    "factor, 12 pixels": "12 pixels (Xeon)",
    "factor, 12 pixels, longer": "12 pixels, 8,900 steps (Xeon)",
    "factor, 32 pixels": "32 pixels, 1,250 steps (Xeon)",
    "factor, tuned": "tuned (Xeon)",
}


def factors(results: Results) -> str:
    file = results("nasbench201")
    return rows_as_table(RECIPE_HEAD, (_recipe(label, file[name]) for name, label in FACTORS.items()))


def short_trainings(results: Results) -> str:
    file = results("nasbench201")
    rows = [(label, interval(file[name][LOSS]["alone"])) for name, label in SHORT.items()]
    return rows_as_table(("2,000 steps", "loss alone"), rows)


SHORT = {"short": "seed 0", "short, seed 1": "seed 1", "short, fair": "fair paths"}


# NAS-Bench-Macro

MACRO = {
    "uniform": "base",
    "uniform, seed 1": "seed 1",
    "1 path": "one path",
    "1 path, longer": "one path, 800,000 images",
    "fair": "fair paths",
    "dropout": "dropout, rising, 300,000 images",
    "everything-on-first": "everything on first, 500,000 images",
    "rate 0.1, no average": "rate 0.1, last weights",
    "averages": "averages",
}


def macro(results: Results) -> str:
    file = results("macro")
    rows = [
        (
            label, str(row["training_seconds"]), middle(row["accuracy"]["alone"]), interval(row[LOSS]["alone"]),
            middle(row[BONUS]), "-" if name == "uniform" else interval(row["less the first"][LOSS]),
        )
        for name, label in MACRO.items()
        for row in [file[name]]
    ]  # fmt: skip
    rows += [
        (f"{label} alone", "-", "-", interval(file[f"{name} alone"]), "-", "-")
        for name, label in (("macs", "multiply-adds"), ("params", "parameters"))
    ]
    return rows_as_table(("recipe", "s", "accuracy", "loss", "`size_bonus`", "loss, less the base"), rows)


def macro_run(results: Results) -> str:
    file = results("macro_run")
    trust = file["trust"]
    first, five = (100 * trust["regret"][n] for n in ("1", "5"))
    rows = [
        ("Kendall's tau, as the search ranks", interval(trust["as_drawn"]["kendall"])),
        ("Spearman", interval(trust["as_drawn"]["spearman"])),
        ("tau of multiply-adds alone", interval(trust["floor"]["macs"])),
        ("tau beyond multiply-adds", interval(trust["beyond"]["macs"])),
        ("points below the best of 46: the first by score, the best of the first five", f"{first:.1f}, {five:.1f}"),
    ]
    return rows_as_table((f"{file['candidates scored']:,} networks scored, 46 with a truth", "measured"), rows)


# The paper


def paper(results: Results) -> str:
    file = results("paper")
    trust, divergence = file["trust"], file["divergence"]
    bias = file["candidates"]["size_bias"]["params"]
    likes = {"value": bias["kendall"], "interval": bias["kendall_interval"]}

    def both(row: dict[str, Any]) -> str:
        return f"{interval(row['spearman'])}, {interval(row['kendall'])}"

    rows = [
        ("Fig 5: Spearman, Kendall of score and accuracy, as drawn", "0.94, 0.78", both(trust["as_drawn"])),
        ("the same, all candidates", "0.75, 0.56", both(trust["population"])),
        ("the most that any score can have (ceiling)", "-", interval(trust["ceiling"])),
        ("Kendall of parameters alone, all candidates", "-", interval(trust["floor"]["params"])),
        ("4.3: Kendall of parameters and score", "larger is higher", interval(likes)),
        ("Fig 6: Spearman of divergence and score", "-0.98", interval(divergence["with_score"]["spearman"])),
        ("Spearman of divergence and accuracy", "-0.93", interval(divergence["with_accuracy"]["spearman"])),
    ]
    return rows_as_table(("short truth: 5 epochs, twice", "paper, published", "ours"), rows)


def course(results: Results) -> str:
    file = results("paper")["divergence"]
    steps = file["course"]
    shown = [steps[0], steps[2], steps[-1]]
    scores = {point["id"]: point["score"] for point in results("paper")["points"]}
    order = sorted(range(len(file["followed"])), key=lambda i: scores[file["followed"][i]])
    rows = [(percent(scores[file["followed"][i]]), *(plain(row["divergence"][i]) for row in shown)) for i in order]
    head = ("score", *(f"step {row['step']:,}" for row in shown))
    return rows_as_table(head, rows)


GROUPS = ("Top", "Small", "Random", "All On")
PUBLISHED = {
    "paper, published, F=16": ("94.6 ± 0.2", "94.6 ± 0.2", "94.1 ± 0.5", "95.0"),
    "paper, published, F=32": ("95.5 ± 0.1", "95.6 ± 0.2", "95.0 ± 0.5", "95.6"),
    "paper, published, F=64": ("95.9 ± 0.2", "96.0 ± 0.1", "95.6 ± 0.2", "96.0"),
    "paper, published, F=128": ("96.1 ± 0.2", "96.1 ± 0.2", "95.8 ± 0.2", "96.2"),
}
OTHERS = {
    "ENAS, cell search": ("96.5", "4.6"), "ENAS, general": ("95.8", "34.9"), "ENAS, masks": ("95.7", "12.6"),
    "ENAS, skips": ("95.0", "14.1"), "ENAS, skips, large": ("96.1", "38.0"), "NASNet-A": ("96.6", "3.3"),
    "SMASHv2": ("96.0", "16.0"),
}  # fmt: skip
"""The other rows of the paper's Table 1: accuracy and millions of parameters."""


def groups(results: Results) -> str:
    sizes, first = results("paper_sizes"), results("paper")["groups"]["test"]
    rows: list[Iterable[str]] = [(name, *row) for name, row in PUBLISHED.items()]
    rows.append(("ours, F=8, first search", *(accuracies(first[name]) for name in GROUPS)))
    for size in ("F=4", "F=8"):
        of = sizes[size]["groups"]
        rows.append((f"ours, {size}, another search", *(group(of[name], "test") for name in GROUPS)))
        rows.append((f"thousands of parameters, {size}", *(group(of[name], "params", 1e-3) for name in GROUPS)))
    return rows_as_table(("test accuracy (%)", *GROUPS), [tuple(row) for row in rows])


def other_methods(results: Results) -> str:
    rows = ((name, *values) for name, values in OTHERS.items())
    head = ("published, as the paper's Table 1 has it", "test accuracy (%)", "millions of parameters")
    return rows_as_table(head, rows)


def differences_of_groups(results: Results) -> str:
    """Welch's tests, computed from the test accuracies in the files."""
    accuracies_of = {"F=8, first search": results("paper")["groups"]["test"]}
    for size in ("F=4", "F=8"):
        file = results("paper_sizes")[size]
        test = {row["id"]: row["test"][0] for row in file["networks"]}
        accuracies_of[f"{size}, another search"] = {
            name: [test[member] for member in row["members"]] for name, row in file["groups"].items()
        }
    rows = []
    for title, of in accuracies_of.items():
        for row in differences({name: of[name] for name in ("Top", "Small", "Random")}):
            first, second = row["groups"]
            if first == "Top":
                difference = {"value": 100 * row["difference"], "interval": [100 * end for end in row["interval"]]}
                rows.append((title, f"Top less {second}", interval(difference, 1), plain(row["p"], 3)))
    return rows_as_table(("finalists", "groups", "points (95 % interval)", "p (Welch)"), rows)


def finalists(results: Results) -> str:
    rows = []
    for size in ("F=4", "F=8"):
        row = results("paper_sizes")[size]["rank_correlation"]
        rows.append((size, interval({"value": row["kendall"], "interval": row["kendall_interval"]})))
    return rows_as_table(("12 finalists", "Kendall of score and test accuracy"), rows)


RATES = {1e-06: "0.68, 0.50", 0.01: "0.83, 0.66", 0.3: "0.71, 0.51"}


def rates(results: Results) -> str:
    short, longer = results("paper"), results("paper_longer")
    rows = []
    for row, other in zip(short["sweep"], longer["sweep"], strict=True):
        low, high = min(row["scores"]), max(row["scores"])
        rows.append(
            (
                f"{row['rate']:g}", RATES[row["rate"]], f"{100 * low:.0f} to {100 * high:.0f} %",
                interval(row["agreement"]["kendall"]), interval(other["agreement"]["kendall"]),
                interval(other["agreement"]["spearman"]),
            )
        )  # fmt: skip
    scores = [point["score"] for point in short["points"]]
    rows.append(
        (
            "rising to 0.1", "0.94, 0.78", f"{100 * min(scores):.0f} to {100 * max(scores):.0f} %",
            interval(short["trust"]["as_drawn"]["kendall"]), interval(longer["trust"]["as_drawn"]["kendall"]),
            interval(longer["trust"]["as_drawn"]["spearman"]),
        )
    )  # fmt: skip
    head = ("rate", "published", "scores", "Kendall, short truth", "Kendall, long truth", "Spearman, long truth")
    return rows_as_table(head, rows)


def longer(results: Results) -> str:
    file = results("paper_longer")
    other = file["another run"]

    def row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
        return name, interval(found["spearman"]), interval(found["kendall"])

    rows = [
        row("scores (Fig 5; published: 0.94, 0.78)", file["trust"]["as_drawn"]),
        row("scores of the other one-shot model", other["trust"]["as_drawn"]),
        row("divergence, no labels (published: Spearman -0.93)", file["divergence"]),
        row("divergence of the other one-shot model", other["divergence"]),
        row("the short trainings", file["short trainings"]),
        ("parameters alone", "-", interval(file["trust"]["floor"]["params"])),
        ("multiply-adds alone", "-", interval(file["trust"]["floor"]["macs"])),
        ("scores beyond parameters", "-", interval(file["trust"]["beyond"]["params"])),
        ("the other model's scores beyond parameters", "-", interval(other["trust"]["beyond"]["params"])),
        ("scores given parameters, partial tau", "-", plain(file["trust"]["partial"]["params"])),
        row("the other model's divergence with its score (published: -0.98)", other["divergence with score"]),
    ]
    return rows_as_table(("with the accuracy after 120,000 images", "Spearman", "Kendall"), rows)


def choice(results: Results) -> str:
    file = results("paper_longer")
    rows = [
        (
            name, plain(100 * trust["regret"]["1"], 1), f"{10 * trust['recall']['10']:.0f}",
        )
        for name, trust in (("the run", file["trust"]), ("the other one-shot model", file["another run"]["trust"]))
    ]  # fmt: skip
    head = ("scores of", "points from the first to the best of 30", "of the best ten among the first ten")
    return rows_as_table(head, rows)


TRICKS = {
    "with all tricks": "all tricks",
    "without decay": "all weights decayed",
    "without ghosts": "one path a step",
    "without statistics": "averages in place of batch statistics",
}


def tricks(results: Results) -> str:
    long, short = results("tricks_longer"), results("tricks")
    rows = [
        (
            label, interval(long[name]), "-" if name == "with all tricks" else interval(long[name]["less all tricks"]),
            interval(short[name]) if name in short else "-",
        )
        for name, label in TRICKS.items()
    ]  # fmt: skip
    head = ("scores", "Kendall, long truth", "less all tricks", "first one-shot model, short truth")
    return rows_as_table(head, rows)


def parts(results: Results) -> str:
    """What single parts of the method are worth in each of the spaces."""
    cells, networks, bender = results("nasbench201"), results("macro"), results("tricks_longer")

    def of(name: str, file: dict[str, Any]) -> str:
        return interval(file[name][LOSS]["alone"])

    rows = [
        ("with all parts", of("factor", cells), of("uniform", networks), interval(bender["with all tricks"])),
        (
            "averages in place of batch statistics", of("factor, averages", cells), of("averages", networks),
            interval(bender["without statistics"]),
        ),
        (
            "one path a step, equal steps", of("factor, 1 path", cells), of("1 path", networks),
            interval(bender["without ghosts"]),
        ),
        ("one path a step, equal time", of("factor, 1 path, longer", cells), of("1 path, longer", networks), "-"),
        ("all weights decayed", of("factor, all decayed", cells), "-", interval(bender["without decay"])),
    ]  # fmt: skip
    return rows_as_table(("tau of scores alone", "NAS-Bench-201", "NAS-Bench-Macro", "the paper's space"), rows)


def pays(results: Results) -> str:
    """Winners of searches against known networks, networks of timm and random search, on the test split."""
    rows = []
    at_timm = results("pays_timm_2026-11-30")["cases"]
    for name, case in results("pays_2026-11-30")["cases"].items():
        told, runs = case["summary"], list(case["runs"].values())
        winners = [sum(run["winner"]["test"]) / len(run["winner"]["test"]) for run in runs]
        error = told["its standard error"]
        timm = [run["difference"] for run in at_timm.get(name, {"runs": {}})["runs"].values()]
        at_random = [run["difference"] for run in case.get("random", {}).values()]
        rows.append(
            (
                name, str(told["seeds"]), percent(sum(winners) / len(winners), 1),
                f"{told['mean difference, points']:+.1f}" + ("" if error is None else f" ± {error:.1f}"),
                f"{told['least difference, points']:+.1f}", f"{told['wins']} of {told['seeds']}",
                _points(timm), _points(at_random), f"{told['cost in trainings of the reference']:.0f}",
            )
        )  # fmt: skip
    head = ("data, limit", "seeds", "winner", "points", "least", "ahead", "timm", "random", "cost")
    return rows_as_table(head, rows)


def joint(results: Results) -> str:
    """Kendall's tau with the truth of score, size, and joint ranks: all networks, and in brackets the best quarter."""
    result = results("joint_2026-11-30")
    rows = []
    for space, equal in result["equal parts"].items():
        left_out = result["left out"][space]

        def both(row: dict[str, Any]) -> str:
            return f"{row['tau']:.2f} ({row['best quarter']:.2f})"

        low, high = equal["joint"]["interval"]
        rows.append(
            (
                space, both(equal["alone"]["score"]), both(equal["alone"]["macs"]), both(equal["joint"]),
                f"{low:.2f} to {high:.2f}", f"{equal['joint']['first is below the best']:.2f}",
                both(left_out["joint"]),
            )
        )  # fmt: skip
    head = ("space", "score", "multiply-adds", "equal parts", "95 %", "first", "chosen elsewhere")
    return rows_as_table(head, rows)


def ways(results: Results) -> str:
    """Kendall's tau of ways to train, in the mean over seeds; in brackets the best quarter."""
    result = results("ways_2026-12-01")
    rows = []
    for space, of in ((name, of) for name, of in result.items() if name not in ("command", "made")):
        for way, seeds in of.items():
            shared = sorted(set(seeds) & set(of.get("uniform", ())))

            def mean(ranking: str, name: str, seeds: dict[str, Any] = seeds) -> float:
                return float(sum(row[ranking][name] for row in seeds.values()) / len(seeds))

            rankings = ("scores", "with size", "joint")
            more = [seeds[seed]["joint"]["tau"] - of["uniform"][seed]["joint"]["tau"] for seed in shared]
            rows.append(
                (
                    space, way, str(len(seeds)),
                    *(f"{mean(k, 'tau'):.2f} ({mean(k, 'best quarter'):.2f})" for k in rankings),
                    "-" if way == "uniform" or not more else ", ".join(f"{value:+.2f}" for value in more),
                )
            )  # fmt: skip
    head = ("space", "way", "seeds", "scores", "with size", "joint rank", "joint, less uniform")
    return rows_as_table(head, rows)


def pay(results: Results) -> str:
    """The best network so far on published accuracies, in per cent, after some hours of one core."""
    result = results("pay_2026-11-30")
    rows = []
    marks = [min(range(len(result["hours"])), key=lambda i: abs(result["hours"][i] - hours)) for hours in PAY_HOURS]
    for space, methods in result["spaces"].items():
        for name, values in methods.items():
            told = (values["mean"][mark] for mark in marks)
            rows.append((space, name, *("-" if value is None else f"{value:.2f}" for value in told)))
    return rows_as_table(("space", "method", *(f"{result['hours'][mark]:.0f} h" for mark in marks)), rows)


PAY_HOURS = (25, 50, 100, 250, 1000)


def times(results: Results) -> str:
    """How long the runs of `pays` took: the steps by the clock, and the processor time, in minutes."""
    rows = []
    for name, case in results("pays_2026-11-30")["cases"].items():
        runs = list(case["runs"].values())
        steps = [_minutes(run["seconds"][step] for run in runs) for step in ("train", "search", "retrain")]
        processor, reference = "processor seconds", "processor seconds of one reference"
        steps += [_minutes(run[key] for run in runs) for key in (processor, reference)]
        rows.append((name, str(len(runs)), *steps))
    return rows_as_table(("data, limit", "seeds", "train", "search", "retrain", "processor", "a reference"), rows)


def _minutes(seconds: Iterable[float | None]) -> str:
    """The mean of some times, in minutes."""
    values = [value for value in seconds if value is not None]
    return plain(sum(values) / len(values) / 60, 1)


def _points(differences: Sequence[float | None]) -> str:
    """The mean of differences in points, and their number."""
    values = [100 * value for value in differences if value is not None]
    return f"{sum(values) / len(values):+.1f} ({len(values)})" if values else "-"


TABLES: dict[str, Callable[[Results], str]] = {
    "summary": summary,
    "pays": pays,
    "joint": joint,
    "ways": ways,
    "pay": pay,
    "times": times,
    "audit": audit,
    "NAS-Bench-201 run": run_of_nasbench201,
    "ways of scoring": ways_of_scoring,
    "recipes": recipes,
    "sizes alone": sizes_alone,
    "factors": factors,
    "short trainings": short_trainings,
    "macro recipes": macro,
    "macro run": macro_run,
    "paper": paper,
    "groups": groups,
    "other methods": other_methods,
    "finalists": finalists,
    "differences of groups": differences_of_groups,
    "dropout rates": rates,
    "divergence in training": course,
    "longer truth": longer,
    "choice": choice,
    "tricks": tricks,
    "parts": parts,
}
"""By the name that the page gives."""
