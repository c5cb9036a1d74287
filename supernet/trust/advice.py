"""What went wrong in a finished run, and what to do about it: sentences from results and histories.

Ours; the thresholds are stated with each rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

_ERRORS = 3
"""Standard errors by which an accuracy has to be above chance."""

_NEARLY = 0.98
"""A loss of candidates above this share of the loss of guessing says that the one-shot model learnt hardly anything."""

_STILL = 0.02
"""A training is said to learn still at its end if its loss fell in the last fifth by more than this share of its whole
fall, on average over the trainings, and by two standard errors. The cosine ends flat, so the last fifth is compared
with the one before it and not with its own beginning. Of resnet8 on digits 0.12 after 2 epochs, 0.013 after 10, 0.005
after 60."""

_FEW = 50
"""Training examples of a class below which a class is said to be small."""

_History = Sequence[Mapping[str, float]]
"""Records of `supernet.fit`."""


def advice(
    result: Mapping[str, Any],
    histories: Sequence[_History],
    classes: Sequence[str],
    counts: Mapping[str, Sequence[int]],
    loss: str = "cross-entropy",
) -> list[str]:
    """Sentences about a run, each with what to do; nothing if nothing stands out.

    Args:
        result: `results.json`.
        histories: of the trainings of finalists from scratch.
        classes: names of the classes; empty if the targets are not classes.
        counts: training and validation examples of each class, by "train" and "validation".
        loss: name of the loss; only of cross-entropy it is known what guessing gives.
    """
    lines = [*_all_on(result), *_still_learning(histories)]
    if classes and result.get("metric") in ("accuracy", "binary-accuracy"):
        of_scores = _scores_near_chance(result, counts["validation"])
        is_known = loss == "cross-entropy" and result.get("score") != "kl"
        lines = [
            *_near_chance(result, counts["validation"]), *(of_scores if is_known else ()), *lines,
            *_few_examples(classes, counts["train"]),
        ]  # fmt: skip
    return lines


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _near_chance(result: Mapping[str, Any], counts: Sequence[int]) -> Iterator[str]:
    """Whether the winner is within three standard errors of the share of the largest class."""
    winner = result["networks"][0] if result["networks"] else {}
    shares = [count / sum(counts) for count in counts]
    chance = max(shares)
    if winner.get("validation"):
        value = _mean(winner["validation"])
        if value <= chance + _ERRORS * math.sqrt(chance * (1 - chance) / sum(counts)):
            yield (
                f"The winner is near chance: {value:.1%}, where always naming the largest class gives {chance:.1%}. "
                "Check the labels and the images; then train longer (--hours), or with another learning rate "
                "(--retrain.train.lr)."
            )


def _scores_near_chance(result: Mapping[str, Any], counts: Sequence[int]) -> Iterator[str]:
    """Whether the loss of the best candidate is about that of guessing by the shares of the classes."""
    shares = [count / sum(counts) for count in counts]
    losses = [row["score_loss"] for row in result["networks"] if row.get("score_loss") is not None]
    guessing = -sum(share * math.log(share) for share in shares if share)
    if losses and guessing and min(losses) > _NEARLY * guessing:
        yield (
            f"Scores are near chance: the lowest loss of a candidate is {min(losses):.2f}, that of guessing "
            f"{guessing:.2f}. The ranking is worth nothing; train the one-shot model longer (--train.epochs, --hours), "
            "or take a smaller space."
        )


def _all_on(result: Mapping[str, Any]) -> Iterator[str]:
    """Whether everything on is better than the winner on the validation split."""
    members = result["groups"].get("All On", {}).get("members", ())
    rows = {row["id"]: row for row in result["networks"]}
    winner = result["networks"][0] if result["networks"] else {}
    for member in members:
        if "rank" in winner and winner["validation"] and rows[member]["validation"]:
            everything, best = _mean(rows[member]["validation"]), _mean(winner["validation"])
            if everything > best:
                yield (
                    f"All On is better than the winner on the validation split ({everything:.4g} and {best:.4g}): "
                    "size counts more than what is chosen. Raise the limits or the width of the space, or take "
                    "All On if it is not too large."
                )


def _learns_still(histories: Sequence[_History]) -> float | None:
    """By how much the training loss fell from the last fifth but one to the last, as a share of its whole fall.

    The mean over the trainings; None if it is below `_STILL` or may be chance.
    """
    falls, errors = [], []
    for history in histories:
        losses = np.array([record["loss"] for record in history])
        number = len(losses)
        if number < 20:
            continue
        before, last = losses[int(0.6 * number) : int(0.8 * number)], losses[int(0.8 * number) :]
        whole = losses[: number // 20].mean() - losses[-(number // 10) :].mean()
        if whole > 0:
            falls.append((before.mean() - last.mean()) / whole)
            errors.append(math.sqrt(before.var(ddof=1) / len(before) + last.var(ddof=1) / len(last)) / whole)
    if not falls:
        return None
    fall, error = float(np.mean(falls)), math.sqrt(sum(e * e for e in errors)) / len(errors)
    return fall if fall > max(_STILL, 2 * error) else None


def _still_learning(histories: Sequence[_History]) -> Iterator[str]:
    fall = _learns_still(histories)
    if fall is not None:
        yield (
            f"Trainings from scratch learn still at their end: {fall:.1%} of the fall of their loss came in the last "
            "fifth. Longer ones give better networks, and perhaps another winner: --hours or --retrain.train.epochs."
        )


def _few_examples(classes: Sequence[str], counts: Sequence[int]) -> Iterator[str]:
    least = min(counts)
    if least < _FEW:
        yield (
            f"Class {classes[list(counts).index(least)]!r} has {least:,} training examples, fewer than {_FEW}: its "
            "accuracy is uncertain. Add examples, or augment more (--data.crop, --data.flip, --data.cutout)."
        )
