"""Strategies, which choose the candidates that are scored next.

Random, enumeration, evolution, local search, REINFORCE, NSGA-II and Parzen estimators.

A strategy is an object with three methods. ``ask(n)`` gives up to n architectures: fewer where it wants no more in one
round, none where it is at its end. ``tell(architectures, scores)`` says what became of them: a score each, or a tuple
with one for each objective, more is better in all of them. ``state_dict()`` gives what it remembers, as values that
JSON has.

What a strategy asks for follows from its seed and from what it was told, nothing else: a search that continues makes
it anew and tells it again what it was told before. If that is not enough, a fourth method, ``load_state_dict``, takes
what ``state_dict`` gave. Two attributes are optional: ``several = True`` says that it can use more than one objective,
without which it is never given them; and ``figures()`` gives numbers to show.

To add a strategy, write a class with these methods and put it into `STRATEGIES` (and into `AT_ONCE` and
`SEVERAL_OBJECTIVES` if they apply). A user's own needs no entry: it is named by its dotted path or as FILE.py:CLASS.
Either is called with the `Region`, ``seed=`` and its settings.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from supernet.base.names import did_you_mean
from supernet.base.own import file_of, is_function, load_function, users_code
from supernet.base.randomness import derive, stream
from supernet.search.limits import Region
from supernet.space.changes import mutated, neighbours
from supernet.space.choices import Architecture

_TRIES = 20
"""Mutations that may bring nothing new before an architecture is drawn at random instead."""

GENERATION = 50
"""Candidates asked for at once where no number is given and the strategy learns from scores."""

IDLE = 100
"""Times in a row that a strategy may ask for nothing new before it is at its end."""

Scores = Sequence[Any]
"""A number for each architecture, or a tuple of numbers where there are several objectives."""


class Strategy(Protocol):
    """See the head of this file."""

    def ask(self, n: int, /) -> list[Architecture]:
        """Up to n architectures to score."""

    def tell(self, architectures: Sequence[Architecture], scores: Scores, /) -> None:
        """What became of them."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""


class _Known:
    """What was told so far: how often, and of which architectures."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.rounds = 0
        self.keys: set[str] = set()

    def add(self, architectures: Sequence[Architecture]) -> None:
        self.rounds += 1
        self.keys.update(map(self.region.key, architectures))

    def draw(self, number: int, generator: torch.Generator, asked: Sequence[Architecture] = ()) -> list[Architecture]:
        """New architectures at random, also other than those asked for already in this round."""
        without = self.keys | set(map(self.region.key, asked)) if asked else self.keys
        return self.region.draw(number, generator=generator, without=without)


class Random:
    """Uniform draws without repeats (Bender et al., section 3.3)."""

    def __init__(self, region: Region, *, seed: int) -> None:
        self.seed, self.known = seed, _Known(region)

    def ask(self, n: int) -> list[Architecture]:
        """New architectures, uniform over those within the limits."""
        round_ = self.known.rounds
        return self.known.draw(n, stream(self.seed, "search", *([round_] if round_ else [])))

    def tell(self, architectures: Sequence[Architecture], scores: Scores) -> None:
        """Remembers what it need not draw again."""
        self.known.add(architectures)

    def state_dict(self) -> dict[str, Any]:
        """How many it knows."""
        return {"known": len(self.known.keys)}


class Enumeration:
    """Every architecture within the limits, in the order of the space; for small spaces."""

    def __init__(self, region: Region, *, seed: int) -> None:
        self.known = _Known(region)
        self.rest: Iterator[Architecture] = iter(region.space)

    def ask(self, n: int) -> list[Architecture]:
        """The next ones."""
        asked: dict[str, Architecture] = {}
        for architecture in self.rest:
            key = self.known.region.key(architecture)
            if key not in self.known.keys and self.known.region.allows([architecture])[0]:
                asked.setdefault(key, architecture)
            if len(asked) == n:
                break
        return list(asked.values())

    def tell(self, architectures: Sequence[Architecture], scores: Scores) -> None:
        """Remembers how far it came."""
        self.known.add(architectures)

    def state_dict(self) -> dict[str, Any]:
        """How many it knows."""
        return {"known": len(self.known.keys)}


class Evolution:
    """Regularised (ageing) evolution: children of the best of a few, in place of the oldest.

    Mutations change one choice (Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI
    2019). That a whole generation is asked for at once, and that no candidate is scored twice, is ours.

    Args:
        region: what may be asked for.
        seed: of the run.
        population: how many are alive: those told last.
        tournament: how many of these are drawn for each child; the best of them is its parent.
    """

    def __init__(self, region: Region, *, seed: int, population: int = 50, tournament: int = 10) -> None:
        _at_least(population=(population, 2), tournament=(tournament, 1))
        self.seed, self.known = seed, _Known(region)
        self.population, self.tournament = population, tournament
        self.alive: deque[tuple[Architecture, float]] = deque(maxlen=population)

    def ask(self, n: int) -> list[Architecture]:
        """Random ones until the population is full, then children."""
        generator = stream(self.seed, "search", "evolution", self.known.rounds)
        if len(self.alive) < self.population:
            return self.known.draw(min(n, self.population - len(self.alive)), generator)
        asked: list[Architecture] = []
        new: set[str] = set()
        for _ in range(n):
            child = self._child(new, generator)
            if child is None:
                drawn = self.known.draw(1, generator, asked)
                if not drawn:
                    break
                (child,) = drawn
            asked.append(child)
            new.add(self.known.region.key(child))
        return asked

    def _child(self, new: set[str], generator: torch.Generator) -> Architecture | None:
        """A child of the best of some, neither told before nor with one of these keys; None if it is hard to find."""
        region = self.known.region
        for _ in range(_TRIES):
            drawn = torch.randperm(len(self.alive), generator=generator)[: self.tournament].tolist()
            parent = max((self.alive[i] for i in drawn), key=lambda pair: pair[1])[0]
            child = region.repaired(mutated(region.space, parent, generator=generator), generator=generator)
            if (key := region.key(child)) not in self.known.keys and key not in new:
                return child
        return None

    def tell(self, architectures: Sequence[Architecture], scores: Scores) -> None:
        """The new ones are born, the oldest die."""
        self.known.add(architectures)
        self.alive.extend(zip(architectures, scores, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The architectures that are alive, the oldest first."""
        return {"rounds": self.known.rounds, "alive": [[str(a), score] for a, score in self.alive]}


class Local:
    """Local search: the neighbours of the best, then those of the next best.

    Neighbours differ in one choice (White et al., "Exploring the Loss Landscape in Neural Architecture Search", UAI
    2021). Where the best has no neighbour left that is not scored, that is at a local optimum, the search goes on with
    the next best; theirs begins anew at random.

    Args:
        region: what may be asked for.
        seed: of the run.
        start: how many are drawn at random to begin with.
    """

    def __init__(self, region: Region, *, seed: int, start: int = 20) -> None:
        _at_least(start=(start, 1))
        self.seed, self.known, self.start = seed, _Known(region), start
        self.told: list[tuple[Architecture, float]] = []
        self.used_up: set[Architecture] = set()

    def ask(self, n: int) -> list[Architecture]:
        """Random ones in the first round, then new neighbours of the best."""
        generator = stream(self.seed, "search", "local", self.known.rounds)
        if not self.told:
            return self.known.draw(min(n, self.start), generator)
        region = self.known.region
        asked: dict[str, Architecture] = {}
        for architecture, _ in sorted(self.told, key=lambda pair: -pair[1]):  # of equals the one told first
            if architecture in self.used_up:
                continue
            # A stream for each architecture: its neighbours are the same whenever they are looked at.
            own = stream(self.seed, "neighbours", str(architecture))
            around = neighbours(region.space, architecture, generator=own)
            new = [a for a, allowed in zip(around, region.allows(around), strict=True) if allowed]
            new = [a for a in new if region.key(a) not in self.known.keys]
            if not new:
                self.used_up.add(architecture)
            for index in torch.randperm(len(new), generator=own).tolist():
                asked.setdefault(region.key(new[index]), new[index])
                if len(asked) == n:
                    return list(asked.values())
        rest = self.known.draw(n - len(asked), generator, list(asked.values()))
        return [*asked.values(), *rest]

    def tell(self, architectures: Sequence[Architecture], scores: Scores) -> None:
        """Remembers all of them."""
        self.known.add(architectures)
        self.told.extend(zip(architectures, scores, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        best = max(self.told, key=lambda pair: pair[1], default=None)
        return {"told": len(self.told), "best": best and [str(best[0]), best[1]]}


class Reinforce:
    """REINFORCE with a baseline, over choices that are independent of each other.

    Every choice has a distribution over its picks, whose logits are moved by Adam along score minus baseline times the
    gradient of the logarithm of the probability (Williams, 1992; without a recurrent controller as in Bender et al.,
    "Can Weight Sharing Outperform Random Architecture Search?", CVPR 2020). Distributions begin so that all
    architectures are alike. What it asks for again is not scored again.

    Args:
        region: what may be asked for.
        seed: of the run.
        rate: the learning rate.
        memory: share of the baseline, a moving mean of scores, that a round leaves.
        entropy: weight of the entropy of the distributions in what is maximised, which keeps them from settling early.
    """

    def __init__(
        self, region: Region, *, seed: int, rate: float = 0.1, memory: float = 0.9, entropy: float = 0.0
    ) -> None:
        if not (rate > 0 and 0 <= memory < 1 and entropy >= 0):
            raise ValueError(
                f"expected rate above 0, memory from 0 to below 1, entropy not below 0; got {rate}, {memory}, {entropy}"
            )
        self.seed, self.known = seed, _Known(region)
        self.memory, self.weight = memory, entropy
        self.baseline: float | None = None
        self.logits = {
            name: torch.tensor(region.space.ways(name), dtype=torch.float64).log() for name in region.space.subsets
        }
        self.optimizer = torch.optim.Adam(self.logits.values(), lr=rate)

    def ask(self, n: int) -> list[Architecture]:
        """Draws from the distributions."""
        generator = stream(self.seed, "search", "reinforce", self.known.rounds)
        space = self.known.region.space
        drawn = {
            name: torch.multinomial(values.softmax(0), n, replacement=True, generator=generator).tolist()
            for name, values in self.logits.items()
        }
        asked = [space.reached({name: space.subsets[name][at[i]] for name, at in drawn.items()}) for i in range(n)]
        return [self.known.region.repaired(a, generator=generator) for a in asked]

    def tell(self, architectures: Sequence[Architecture], scores: Scores) -> None:
        """One step of the optimiser."""
        self.known.add(architectures)
        if not architectures:
            return
        mean = sum(scores) / len(scores)
        self.baseline = mean if self.baseline is None else self.memory * self.baseline + (1 - self.memory) * mean
        subsets = self.known.region.space.subsets
        with torch.enable_grad():
            for values in self.logits.values():
                values.requires_grad_(True)
            logs = {name: values.log_softmax(0) for name, values in self.logits.items()}
            goal = self.weight * -sum((log.exp() * log).sum() for log in logs.values())
            for architecture, score in zip(architectures, scores, strict=True):
                log = sum(logs[name][subsets[name].index(picked)] for name, picked in architecture.picks)
                goal = goal + (score - self.baseline) * log / len(scores)
            self.optimizer.zero_grad()
            (-goal).backward()  # type: ignore[union-attr]  # a sum of tensors that begins with 0
            self.optimizer.step()
        for values in self.logits.values():
            values.requires_grad_(False)

    def figures(self) -> dict[str, float]:
        """The entropy of the distributions as a share of the largest possible, 0 (decided) to 1."""
        logs = [values.log_softmax(0) for values in self.logits.values()]
        most = sum(math.log(len(log)) for log in logs)
        return {"entropy": sum(float(-(log.exp() * log).sum()) for log in logs) / most if most else 0.0}

    def state_dict(self) -> dict[str, Any]:
        """Logits and baseline."""
        logits = {name: values.tolist() for name, values in self.logits.items()}
        return {"rounds": self.known.rounds, "baseline": self.baseline, "logits": logits, **self.figures()}


class _Sampled:
    """A sampler of Optuna, which is asked in batches.

    One study in memory takes what is told. Each round has a sampler with a seed of its own, and what it only asked for
    is marked as failed, which samplers leave out. So the proposals follow from the seed and from what was told.
    """

    def __init__(self, region: Region, seed: int, name: str, sampler: Callable[[int], Any], generation: int) -> None:
        optuna = load_optuna()
        self.seed, self.known, self.name = seed, _Known(region), name
        self.sampler, self.generation = sampler, generation
        self.distributions = {
            choice: optuna.distributions.CategoricalDistribution(list(range(len(subsets))))
            for choice, subsets in region.space.subsets.items()
            if len(subsets) > 1
        }
        self.trials = 0
        self.study = self._made(objectives=1)

    def ask(self, n: int) -> list[Architecture]:
        """What the sampler suggests, repaired where it is beyond the limits."""
        optuna = load_optuna()
        generator = stream(self.seed, "search", self.name, self.known.rounds)
        region, subsets = self.known.region, self.known.region.space.subsets
        study = self.study
        self._forget()
        study.sampler = self.sampler(derive(self.seed, "search", self.name, self.known.rounds) % 2**32)
        trials = []
        asked = []
        for _ in range(n):
            trial = study.ask()
            trials.append(trial)
            picks: dict[str, tuple[str, ...]] = {}
            for choice in region.space.choices:
                inside = choice.inside
                if inside is None or not set(inside[1]).isdisjoint(picks.get(inside[0], ())):
                    known = self.distributions.get(choice.name)
                    number = trial.suggest_categorical(choice.name, known.choices) if known else 0
                    picks[choice.name] = subsets[choice.name][number]
            asked.append(region.repaired(Architecture(tuple(picks.items())), generator=generator))
        for trial in trials:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return asked

    def _made(self, objectives: int) -> Any:
        """A study without trials."""
        optuna = load_optuna()
        self.storage = optuna.storages.InMemoryStorage()
        return optuna.create_study(storage=self.storage, directions=["maximize"] * objectives)

    def _forget(self) -> None:
        """Takes out of the study what the sampler of another round put there, such as the parents of a generation."""
        study = self.storage.get_study_id_from_name(self.study.study_name)
        for name in list(self.storage.get_study_system_attrs(study)):
            if name.startswith("NSGAIISampler:"):
                self.storage.set_study_system_attr(study, name, None)

    def tell(self, architectures: Sequence[Architecture], scores: Scores) -> None:
        """Keeps each as a finished trial."""
        optuna = load_optuna()
        self.known.add(architectures)
        subsets = self.known.region.space.subsets
        for architecture, score in zip(architectures, scores, strict=True):
            values = list(score) if isinstance(score, (tuple, list)) else [score]
            if self.trials == 0 and len(values) > 1:
                self.study = self._made(len(values))
            params = {n: subsets[n].index(p) for n, p in architecture.picks if n in self.distributions}
            self.study.add_trial(
                optuna.trial.create_trial(
                    params=params,
                    distributions={n: self.distributions[n] for n in params},
                    values=values,
                    system_attrs={"NSGAIISampler:generation": self.trials // self.generation},
                )
            )
            self.trials += 1

    def state_dict(self) -> dict[str, Any]:
        """How much it was told; the table has what."""
        return {"rounds": self.known.rounds, "trials": self.trials}


def nsga2(region: Region, *, seed: int, population: int = 50) -> Strategy:
    """NSGA-II of Optuna, for one or more objectives (Deb et al., 2002).

    Args:
        region: what may be asked for.
        seed: of the run.
        population: in a generation; the round's batch should be the same.
    """
    _at_least(population=(population, 2))
    samplers = load_optuna().samplers
    return _Sampled(
        region, seed, "nsga2", lambda own: samplers.NSGAIISampler(population_size=population, seed=own), population
    )


def tpe(region: Region, *, seed: int, start: int = 20) -> Strategy:
    """Tree-structured Parzen estimators of Optuna, for one or more objectives (Bergstra et al., 2011).

    Args:
        region: what may be asked for.
        seed: of the run.
        start: how many are drawn at random to begin with.
    """
    _at_least(start=(start, 1))
    samplers = load_optuna().samplers
    return _Sampled(region, seed, "tpe", lambda own: samplers.TPESampler(n_startup_trials=start, seed=own), 1)


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "random": Random,
    "enumeration": Enumeration,
    "evolution": Evolution,
    "local": Local,
    "reinforce": Reinforce,
    "nsga2": nsga2,
    "tpe": tpe,
}
"""The strategies by name; add one to use it by name."""

NEED_OPTUNA = ("nsga2", "tpe")
"""Strategies of Optuna, which an extra brings."""

AT_ONCE = ("random", "enumeration")
"""Strategies that learn nothing from scores, and are asked for everything at once: the race is then among all."""

SEVERAL_OBJECTIVES = ("random", "enumeration", "nsga2", "tpe")
"""Strategies that can use more than one objective."""


def is_own(name: str) -> bool:
    """Whether a name stands for a class of the user's."""
    return is_function(name) or "." in name


def find(name: str) -> Callable[..., Strategy]:
    """A strategy by its name, its dotted path or FILE.py:CLASS.

    Raises:
        ValueError: there is none; the message says which exist.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    if is_function(name):
        try:
            return load_function(name)
        except ValueError as error:
            raise ValueError(f"strategy: {error}") from error
    home, _, last = name.rpartition(".")
    if home and not home.startswith("."):  # a relative name has no package that it is relative to
        try:
            return getattr(importlib.import_module(home), last)  # type: ignore[no-any-return]  # a class of the user's
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"strategy: {name!r} cannot be imported ({error})") from None
    hint = did_you_mean(name, STRATEGIES)
    raise ValueError(
        f"strategy: no {name!r}; {hint and f'{hint} '}there are: {', '.join(STRATEGIES)}; or a class of your own by "
        "its dotted path or as FILE.py:CLASS"
    )


def users_own(name: str) -> AbstractContextManager[None]:
    """Inside the ``with`` block errors of a user's file become one line that names the line of the file."""
    return users_code(file_of(name)) if is_function(name) else nullcontext()


def check(name: str, settings: dict[str, Any]) -> None:
    """Finds without any work what `make` would refuse.

    Raises:
        ValueError: no such strategy, or no such setting of it.
    """
    parameters = inspect.signature(find(name)).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    allowed = [n for n in list(parameters)[1:] if n != "seed"]
    if unknown := [n for n in settings if n not in allowed]:
        raise ValueError(
            f"strategy_settings: {name!r} has no setting {unknown[0]!r}; it has: {', '.join(allowed) or 'none'}"
        )


def check_objectives(name: str, number: int, strategy: Strategy | None = None) -> None:
    """Refuses several objectives for a strategy that cannot use them.

    Args:
        name: of the strategy.
        number: of objectives.
        strategy: a user's own, which says itself whether it can (``several``).

    Raises:
        ValueError: it cannot; the message says what to do.
    """
    if number > 1 and name not in SEVERAL_OBJECTIVES and not getattr(strategy, "several", False):
        own = "" if strategy is None else "; a class of your own that can use several says so: several = True"
        raise ValueError(
            f"objectives: strategy {name!r} takes one objective, got {number}; those that take several: "
            f"{', '.join(SEVERAL_OBJECTIVES)}{own}"
        )


def make(name: str, settings: dict[str, Any], region: Region, *, seed: int, objectives: int = 1) -> Strategy:
    """A new strategy.

    Args:
        name: of the strategy.
        settings: of the strategy.
        region: what it may ask for.
        seed: of the run.
        objectives: how many scores it is told of each architecture.

    Raises:
        ValueError: see `find`, `check` and `check_objectives`; or a user's class lacks a method.
    """
    check(name, settings)
    with users_own(name):
        try:
            made = find(name)(region, seed=seed, **settings)
        except TypeError as error:
            raise ValueError(f"strategy {name!r}: {error}") from error
    for method in ("ask", "tell", "state_dict"):
        if not callable(getattr(made, method, None)):
            raise ValueError(f"strategy {name!r}: expected a class with ask, tell and state_dict; it has no {method}")
    check_objectives(name, objectives, made)
    return made


def load_optuna() -> Any:
    """Optuna, quiet.

    Raises:
        ValueError: it is not installed; the message says how to install it.
    """
    try:
        import optuna
    except ImportError:
        raise ValueError("Optuna is not installed: pip install 'supernet[optuna]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _at_least(**settings: tuple[int, int]) -> None:
    for name, (value, least) in settings.items():
        if not isinstance(value, int) or value < least:
            raise ValueError(f"strategy_settings.{name}: expected a whole number of at least {least}, got {value}")
