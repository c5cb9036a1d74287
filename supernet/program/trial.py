"""Network, loss and metric, tried on two examples before anything is trained."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from supernet.base.randomness import nothing_drawn, stream
from supernet.base.trees import form_text, join_rows, rows, take_rows, tensors
from supernet.data.checks import check_loss, check_outputs, check_targets, misfit
from supernet.data.images import DataError
from supernet.data.splits import Data, Split, feed, prepare
from supernet.data.task import IGNORED, METRICS, TaskConfig, default_metric, fault_in, metric_of, number_of
from supernet.program.config import Config, check_space
from supernet.program.settings import ConfigError
from supernet.program.weights import begin
from supernet.search.measures import MEASURES, examples_of
from supernet.space.agreement import check_agreement
from supernet.space.choices import Space
from supernet.space.layers import OneShot
from supernet.space.model import build
from supernet.spaces import SPACES

log = logging.getLogger(__name__)

_LOOKED_AT = 1000
"""Examples among which two with different targets are looked for."""

_COMPARED, _LARGE = 8, 20_000
"""Training examples on which the one-shot model is compared with stand-alone networks; half as many if one example
holds more numbers than the second."""

_MORE = 256
"""Validation examples on which a metric is tried that cannot be taken of two: some need both classes in each column."""

_MEASURED, _NETWORKS = 4, 3
"""Examples and architectures on which measures of untrained networks are tried."""

_CPU = torch.device("cpu")


def tried_space(config: Config, data: Data, *, check: bool = False) -> Space:
    """The space of a run, of which network, loss and metric were tried on two training examples.

    Loss and metric are taken of outputs of the one-shot model with everything on and new weights, as training and
    scoring do it.

    Args:
        config: of the run, with its metric by name.
        data: its data.
        check: as for `check_space`; and whether the one-shot model of a user's network is compared with stand-alone
            networks.

    Raises:
        ValueError: a setting does not fit the data; the one-shot model computes something else than the networks that
            would be trained; or loss, metric, outputs and targets do not fit each other; the
            message is one line with both shapes and what to do.
    """
    with _with_outputs(config, data):
        check_targets(config.task, data.train.targets)
    space = check_space(config, len(data.classes), data.inputs, check=check)
    with nothing_drawn(_CPU):
        model = build(space, seed=0)
        assert isinstance(model, OneShot)
        if check and config.space.weights is not None:
            begin(model, config.space.weights)
        _try_training(config, data, model)
        _try_scoring(config, data, model)
        _try_measures(config, data, space)
    if check and config.space.name not in SPACES:  # the tests of built-in spaces have compared them
        is_large = sum(part[0].numel() for part in tensors(data.train.examples)) > _LARGE
        number = min(_COMPARED // 2 if is_large else _COMPARED, len(data.train))
        examples, targets = (take_rows(part, slice(number)) for part in (data.train.examples, data.train.targets))
        first = Split(examples, targets, data.train.hash)
        log.info(
            "the one-shot model agrees with %d stand-alone networks in outputs, parameters and costs",
            check_agreement(space, prepare(first, data, device=_CPU)[0]),
        )
    return space


@contextmanager
def _with_outputs(config: Config, data: Data) -> Iterator[None]:
    """Adds to an error about targets what the network gives, if it can be made for them."""
    try:
        yield
    except DataError as error:
        try:
            with nothing_drawn(_CPU), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that weights for no class are empty
                space = check_space(config, len(data.classes), data.inputs)
                model = build(space, seed=0)
                assert isinstance(model, OneShot)
                outputs = outputs_of_two(model, data)
        except (ValueError, RuntimeError):  # no network can be made for targets of this form
            raise error from None
        made = "" if data.classes else ", made for num_classes 0,"
        raise DataError(f"{error}; the network{made} gives {form_text(outputs)}") from None


def _try_training(config: Config, data: Data, model: OneShot) -> None:
    """The loss of two training examples, augmented as in training."""
    two = two_examples(data.train)
    examples, targets = feed(two, data, config.data, batch_size=2, seed=config.seed, device=_CPU)(0)
    outputs = _run(model.train(), examples, " in training")
    check_outputs(config.task, outputs, _all_targets(data), " in training")
    try:
        check_loss(config.task, outputs, targets, " in training")
    except DataError as error:
        is_padded = config.data.crop and any((t == IGNORED).any() for t in tensors(targets))
        hint = f"; data.crop gives places outside of an image the class {IGNORED}, which the loss has to leave out"
        raise DataError(f"{error}{hint if is_padded else ''}") from None


def _try_scoring(config: Config, data: Data, model: OneShot) -> None:
    """Loss and metric of two training examples, as candidates are scored."""
    task, where = config.task, " in evaluation mode"
    examples, targets = prepare(two_examples(data.train), data, device=_CPU)
    with torch.no_grad():
        outputs = _run(model.eval(), examples, where)
        check_outputs(task, outputs, _all_targets(data), where)
        check_loss(task, outputs, targets, where, learns=False)
        if config.search.score == "kl" and not gives_classes(outputs):
            raise ConfigError(
                f"search.score kl: expected a network whose outputs are classes, [N, classes], got "
                f"{form_text(outputs)}: set search.score to metric or loss"
            )
        _try_metric(task, data, model, outputs, targets)
    if data.classes and gives_classes(outputs) and outputs.shape[1] > len(data.classes):
        log.warning(
            "the network gives %s for %d classes: the last outputs have no example to learn from",
            form_text(outputs), len(data.classes),
        )  # fmt: skip


def _try_measures(config: Config, data: Data, space: Space) -> None:
    """Measures a few architectures as the search will do, on few examples."""
    names = [name for name in config.search.figures if name in MEASURES]
    examples = examples_of(data, seed=config.seed, device=_CPU, number=_MEASURED) if names else None
    drawn = space.sample_distinct(min(_NETWORKS, space.size), generator=stream(config.seed, "try measures"))
    for architecture in drawn if names else ():
        network = build(space, architecture, seed=0)
        for name in names:
            try:
                MEASURES[name](network, examples)
            except ValueError as error:
                raise ConfigError(f"search.measures, search.rank: {error}; architecture {architecture}") from None


def _try_metric(task: TaskConfig, data: Data, model: OneShot, outputs: Any, targets: Any) -> None:
    """Takes the metric of two examples, or of more if it cannot be taken of two."""
    metric = metric_of(task)
    try:
        number_of(metric, outputs, targets)
    except ValueError:
        examples, targets = prepare(data.validation, data, device=_CPU, examples=_MORE)
        outputs = _run(model, examples, " in evaluation mode")
        try:
            number_of(metric, outputs, targets)
        except ValueError as error:
            advice = f"set task.metric={_fitting_metric(task, outputs, targets)}, or to a function of your own"
            reason = fault_in(metric, error.__cause__ if isinstance(error.__cause__, Exception) else error)
            raise misfit("metric", task.metric_name, outputs, targets, f"{reason}; {advice}") from None


def _fitting_metric(task: TaskConfig, outputs: Any, targets: Any) -> str:
    """The name of a metric that can be taken of some outputs and targets."""
    for name in (default_metric(task.loss, targets), *METRICS):
        try:
            number_of(metric_of(replace(task, metric=name)), outputs, targets)
        except ValueError:
            continue
        return name
    return "loss"


def _run(model: OneShot, examples: Any, where: str) -> Any:
    """The outputs of everything on.

    Raises:
        DataError: the network does not run on these examples.
    """
    (everything,) = model.space.live([model.space.everything_on()])
    try:
        return model(examples, everything[None])
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"the network does not run on {rows(examples)} examples, {form_text(examples)}{where}: "
            f"{' '.join(str(error).split())}"
        ) from error


def outputs_of_two(model: OneShot, data: Data) -> Any:
    """What everything on gives for two training examples, in evaluation mode.

    Args:
        model: on the CPU.
        data: of the run.
    """
    with torch.no_grad():
        return _run(model.eval(), prepare(two_examples(data.train), data, device=_CPU)[0], " in evaluation mode")


def gives_classes(outputs: Any) -> bool:
    """Whether outputs are those of a classifier, [N, classes]: only between them there is a divergence."""
    return isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[1] > 1


def _all_targets(data: Data) -> Any:
    """The targets of training and validation."""
    return join_rows([data.train.targets, data.validation.targets])


def two_examples(split: Split) -> Split:
    """The first example, and the next with another target; the second one if the first 1,000 have the same."""
    number = min(rows(split.targets), _LOOKED_AT)
    differ = torch.zeros(number, dtype=torch.bool)
    for target in tensors(split.targets):
        values = target[:number].flatten(1) if target.ndim > 1 else target[:number, None]
        differ |= (values != values[0]).any(1)
    places = differ.nonzero().flatten().tolist()
    which = torch.tensor([0, places[0] if places else min(1, number - 1)])
    return Split(take_rows(split.examples, which), take_rows(split.targets, which), split.hash)
