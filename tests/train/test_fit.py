"""The training loop against its slow definition, and what it promises about decay, resuming and equal runs."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supernet.base.progress import Interrupted, Watch
from supernet.base.randomness import seeded, stream
from supernet.space.choices import Space
from supernet.space.layers import Choose
from supernet.space.model import build, from_network
from supernet.space.network import parameters_inside
from supernet.spaces import bender
from supernet.speed.runtime import Runtime, RuntimeConfig, start
from supernet.train import fit as fit_module
from supernet.train.fit import Diverged, TrainConfig, divergence, fit, has_checkpoint, remove_checkpoints
from supernet.train.paths import PathsConfig, draw, largest
from tests import reference
from tests.spaces_for_tests import nested, one_shot, tiny_bender

SGD: dict[str, Any] = {"momentum": 0.9, "nesterov": True}

BARE = TrainConfig(
    batch_size=12, ghost_size=4, optimizer="SGD", optimizer_settings={}, lr=1.0, schedule="constant", weight_decay=0.0
)
"""A step subtracts the gradient, and does nothing else."""


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return start(RuntimeConfig(device="cpu", precision="32-true", threads=2))


def feed_for(space: Space, batch: int, dtype: torch.dtype = torch.float32) -> Callable[[int], tuple[Tensor, Tensor]]:
    def feed(step: int) -> tuple[Tensor, Tensor]:
        generator = stream(0, "examples", step)
        x = torch.randn(batch, *space.input_shape, generator=generator)
        y = torch.randint(0, 3, (batch,), generator=generator)
        return (x + y.view(-1, *[1] * (x.ndim - 1))).to(dtype), y

    return feed


def draws_for(space: Space, ghosts: int, rate: float = 0.3) -> Callable[[int], Tensor]:
    config = PathsConfig(rate=rate, schedule="constant")
    return lambda step: draw(space, config, ghosts, 1.0, generator=stream(0, "paths", step))


def test_a_stand_alone_network_is_the_same_on_any_number_of_threads() -> None:
    """Weights and running statistics, with ghost batches side by side or one after the other."""
    space = bender(filters=2, cells=2, num_classes=3, input_shape=(1, 8, 8))
    x, y = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 3
    config = TrainConfig(steps=3, batch_size=32, ghost_size=8, lr=0.05)
    networks = []
    for threads in (1, 2, 3):
        network = build(space, space.at(1234), seed=0)
        fit(network, lambda _: (x, y), 3, config, runtime=start(RuntimeConfig(device="cpu", threads=threads)))
        networks.append(network.state_dict())
    for other in networks[1:]:
        for name, tensor in networks[0].items():
            assert torch.equal(tensor, other[name]), name
    assert int(networks[0]["head.1.num_batches_tracked"]) == 3 * 4


@pytest.mark.parametrize("space", [tiny_bender(), nested()], ids=lambda s: s.name)
@pytest.mark.parametrize("per_forward", [1, 2, 4])
def test_steps_equal_the_reference(space: Space, per_forward: int, runtime: Runtime) -> None:
    """Five steps of 4 ghost batches: same weights as the definition, whichever way the ghost batches are grouped."""
    steps, ghosts, size = 5, 4, 3
    model = one_shot(space)
    slow = copy.deepcopy(model)
    buffers: dict[str, Tensor] = {}
    feed, draws = feed_for(space, ghosts * size, torch.float64), draws_for(space, ghosts)
    config = TrainConfig(
        steps=steps, batch_size=ghosts * size, ghost_size=size, lr=0.05, schedule="constant", weight_decay=0.1,
        ghosts_per_forward=per_forward,
    )  # fmt: skip
    losses: list[float] = []
    fit(
        model,
        feed,
        steps,
        config,
        runtime=runtime,
        draw_live=draws,
        watch=Watch(lambda *_, loss, **__: losses.append(loss)),
    )
    expected = [
        reference.train_step(
            slow, *feed(step), draws(step), lr=0.05, momentum=0.9, weight_decay=0.1, buffers=buffers
        )
        for step in range(steps)
    ]  # fmt: skip
    assert losses == pytest.approx(expected, rel=1e-6)
    for (name, fast), exact in zip(model.named_parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(fast, exact, rtol=1e-7, atol=1e-9, msg=name)


def test_what_threads_need_is_kept_until_the_end(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kept(list[Tensor]):
        """A list that can be referred to weakly."""

    space, kept = tiny_bender(), []
    model = build(space, seed=0).double()
    draws = draws_for(space, 4)

    def keep(weights: Iterable[Tensor]) -> list[Tensor]:
        kept.append(weakref.ref(found := Kept(weights)))
        return found

    def draw_live(step: int) -> Tensor:
        (found,) = [reference() for reference in kept]
        assert found is not None and list(map(id, found)) == list(map(id, model.parameters()))
        return draws(step)

    monkeypatch.setattr(fit_module, "shared_by_threads", keep)
    config = TrainConfig(steps=3, batch_size=8, ghost_size=2, lr=0.1)
    fit(model, feed_for(space, 8, torch.float64), 3, config, runtime=runtime, draw_live=draw_live)
    assert kept


def test_decay_is_in_proportion_to_the_live_ghost_batches(runtime: Runtime) -> None:
    """With a loss that gives no gradient only decay moves the weights: by lr * decay * share, exactly."""
    space = tiny_bender()
    model = build(space, seed=0).double()
    before = copy.deepcopy(model)
    live = draws_for(space, 4)(7)
    config = TrainConfig(steps=1, batch_size=8, ghost_size=2, lr=0.5, weight_decay=0.2, optimizer_settings={})
    fit(
        model, feed_for(space, 8, torch.float64), 1, config, runtime=runtime, draw_live=lambda _: live,
        loss_function=lambda outputs, targets: 0 * outputs.sum(),
    )  # fmt: skip
    shares = set()
    for (name, after), old in zip(model.named_parameters(), before.parameters(), strict=True):
        share = reference.live_share(before, name, live)
        shares.add(share)
        torch.testing.assert_close(after, old * (1 - 0.5 * 0.2 * share) if after.ndim > 1 else old, msg=name)
    assert {0.0, 1.0} < shares, "the drawn case is too plain to show anything"


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "RMSprop", "Adagrad"])
def test_what_is_never_live_is_never_touched(optimizer: str, runtime: Runtime) -> None:
    """Neither gradient, momentum nor decay reaches it, with any optimiser."""
    space = tiny_bender()
    model = build(space, seed=0)
    before = copy.deepcopy(model)
    live = space.live([space.at(3)]).expand(4, -1)
    config = TrainConfig(
        steps=3, batch_size=8, ghost_size=2, lr=0.01, optimizer=optimizer, optimizer_settings={}, weight_decay=0.3,
    )  # fmt: skip
    fit(model, feed_for(space, 8), 3, config, runtime=runtime, draw_live=lambda _: live)
    moved = {
        name: not torch.equal(a, b) for (name, a), b in zip(model.named_parameters(), before.parameters(), strict=True)
    }
    for within, parameters in parameters_inside(model.network).items():
        is_live = all(bool(live[0, [space.columns[name, o] for o in options]].any()) for name, options in within)
        for name, _ in parameters:
            assert moved[f"network.{name}"] == is_live, name


def test_decoupled_decay_equals_adamw(runtime: Runtime) -> None:
    """A stand-alone network, whose weights all have more than one dimension, trains as with torch's own AdamW."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Tanh(), nn.Linear(8, 3, bias=False))
    other = copy.deepcopy(network)
    feed = feed_for(nested(), 8)
    config = TrainConfig(
        steps=4, batch_size=8, ghost_size=8, lr=0.02, schedule="constant", weight_decay=0.1, optimizer="AdamW",
        optimizer_settings={},
    )  # fmt: skip
    fit(network, feed, 4, config, runtime=runtime)
    torch_own = torch.optim.AdamW(other.parameters(), lr=0.02, weight_decay=0.1)
    for step in range(4):
        torch_own.zero_grad()
        x, y = feed(step)
        nn.functional.cross_entropy(other(x), y).backward()
        torch_own.step()
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_stand_alone_network_is_normalised_in_ghost_batches(runtime: Runtime) -> None:
    """Its running statistics are those of ordinary batch norm that saw one ghost batch after the other."""
    space = tiny_bender()
    network = build(space, space.at(0), seed=0)
    other = copy.deepcopy(network).train()
    feed = feed_for(space, 8)
    fit(network, feed, 1, TrainConfig(steps=1, batch_size=8, ghost_size=4), runtime=runtime)
    for part in feed(0)[0].split(4):
        other(part)
    for (name, mine), theirs in zip(network.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


def train(
    folder: Path | None,
    threads: int,
    steps: int = 6,
    stop_at: int | None = None,
    seed: int = 0,
    optimizer: str = "SGD",
    average: float = 0.0,
) -> Tensor:
    space = tiny_bender()
    model = build(space, seed=seed)
    calls = iter(range(1000))
    fit(
        model, feed_for(space, 16), steps,
        TrainConfig(
            steps=steps, batch_size=16, ghost_size=4, clip_norm=1.0, weight_decay=0.01, optimizer=optimizer,
            optimizer_settings=SGD if optimizer == "SGD" else {}, lr=0.01, average=average,
        ),
        runtime=start(RuntimeConfig(device="cpu", precision="32-true", threads=threads)),
        draw_live=draws_for(space, 4), folder=folder,
        watch=Watch(stop=lambda: stop_at is not None and next(calls) == stop_at),
    )  # fmt: skip
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class _Shared(nn.Module):
    """Automatic differentiation gives parameters of this network one tensor as the gradient of several of them, parts
    of another's, and one number in place of many."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.randn(3, 4, generator=stream(0, name))) for name in "ab")
        self.c = nn.Parameter(torch.randn(2, 4, generator=stream(0, "c")))
        self.d = nn.Parameter(torch.randn(2, 2, generator=stream(0, "d")))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.a + self.b + nn.functional.pad(self.c, (0, 0, 0, 1))
        return x @ weight.T * self.d.sum()


@pytest.mark.parametrize("ghosts", [1, 2, 4])
def test_gradients_that_lie_in_one_memory_are_added_up_apart(ghosts: int, runtime: Runtime) -> None:
    x, y = torch.randn(8, 4, generator=stream(0, "x")), torch.arange(8) % 3
    config = TrainConfig(
        steps=3, batch_size=8, ghost_size=8 // ghosts, lr=0.1, schedule="constant", weight_decay=0.01,
        optimizer_settings=SGD,
    )  # fmt: skip
    network, plain = _Shared(), _Shared()
    fit(network, lambda _: (x, y), 3, config, runtime=runtime)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, weight_decay=0.01, **SGD)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        optimizer.step()
    for got, expected in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got, expected)


def test_equal_seeds_give_equal_weights_on_any_number_of_threads() -> None:
    first = train(None, threads=2)
    assert torch.equal(first, train(None, threads=2))
    assert torch.equal(first, train(None, threads=1))
    assert not torch.equal(first, train(None, threads=1, seed=1))


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("stop_at", [0, 1, 4, 5])
def test_a_stopped_training_continues_to_the_same_weights(tmp_path: Path, stop_at: int, optimizer: str) -> None:
    with pytest.raises(Interrupted, match=f"before step {stop_at + 1} of 6"):
        train(tmp_path, threads=1, stop_at=stop_at, optimizer=optimizer)
    assert torch.equal(train(tmp_path, threads=1, optimizer=optimizer), train(None, threads=1, optimizer=optimizer))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".digests.json", "checkpoint.earlier.pt", "checkpoint.pt"]
    remove_checkpoints(tmp_path)
    assert not has_checkpoint(tmp_path) and not list(tmp_path.iterdir())


def flip(path: Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_earlier_checkpoint_is_taken_if_the_last_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for stop_at in (2, 1):
        with pytest.raises(Interrupted):
            train(tmp_path, threads=1, stop_at=stop_at)
    last, earlier = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.earlier.pt"
    saved = earlier.read_bytes()
    flip(last)
    with pytest.raises(Interrupted):
        train(tmp_path, threads=1, stop_at=1)
    assert f"{last} is damaged" in caplog.text and "checkpoint.earlier.pt, after step 2" in caplog.text
    assert earlier.read_bytes() == saved, "the damaged one did not take its place"
    assert torch.equal(train(tmp_path, threads=1), train(None, threads=1))
    flip(last)
    flip(earlier)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged .*: delete .* to train from the beginning"):
        train(tmp_path, threads=1)


def test_a_kill_between_two_checkpoints_leaves_the_earlier_one(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, threads=1, stop_at=2)
    (tmp_path / "checkpoint.pt").rename(tmp_path / "checkpoint.earlier.pt")
    assert torch.equal(train(tmp_path, threads=1), train(None, threads=1))


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_a_stopped_training_continues_to_the_same_means(tmp_path: Path, stop_at: int) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, threads=1, stop_at=stop_at, average=0.7)
    assert torch.equal(train(tmp_path, threads=1, average=0.7), train(None, threads=1, average=0.7))
    assert torch.equal(train(tmp_path, threads=1, average=0.7), train(None, threads=1, average=0.7))  # done already


def test_averaged_weights_are_the_mean_over_the_last_steps(runtime: Runtime) -> None:
    space, seen = tiny_bender(), list[Tensor]()
    models = [build(space, seed=0) for _ in range(2)]

    def look(done: int, total: int, **figures: float) -> None:
        seen.append(torch.cat([p.detach().flatten() for p in models[0].parameters()]))

    for model, average in zip(models, (0.0, 0.5), strict=True):
        fit(
            model, feed_for(space, 8), 7, TrainConfig(steps=7, batch_size=8, ghost_size=4, average=average),
            runtime=runtime, draw_live=draws_for(space, 2), watch=Watch(look),
        )  # fmt: skip
    averaged = torch.cat([p.detach().flatten() for p in models[1].parameters()])
    torch.testing.assert_close(averaged, torch.stack(seen[3:7]).mean(0))
    assert not torch.allclose(averaged, seen[6])


def test_weights_of_a_stand_alone_network_are_not_averaged(runtime: Runtime) -> None:
    space = tiny_bender()
    with pytest.raises(ValueError, match="averaged of one-shot models only"):
        fit(build(space, space.at(0), seed=0), feed_for(space, 8), 1, TrainConfig(average=0.1), runtime=runtime)


def test_history_is_complete_after_resuming(tmp_path: Path, runtime: Runtime) -> None:
    space = nested()
    config = TrainConfig(steps=10, batch_size=8, ghost_size=4)
    calls = iter(range(100))
    arguments: dict[str, Any] = {"runtime": runtime, "draw_live": draws_for(space, 2), "folder": tmp_path}
    with pytest.raises(Interrupted):
        fit(
            build(space, seed=0),
            feed_for(space, 8),
            10,
            config,
            watch=Watch(stop=lambda: next(calls) == 4),
            **arguments,
        )
    history = fit(build(space, seed=0), feed_for(space, 8), 10, config, **arguments)
    assert [record["step"] for record in history] == list(range(1, 11))
    assert {"loss", "gradient_norm", "lr", "examples_per_second"} < set(history[0])


def test_training_learns(runtime: Runtime) -> None:
    space = tiny_bender()
    history = fit(
        build(space, seed=0), feed_for(space, 32), 60, TrainConfig(batch_size=32, ghost_size=8, clip_norm=5.0),
        runtime=runtime, draw_live=draws_for(space, 4, rate=0.01),
    )  # fmt: skip
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path, runtime: Runtime, poison: str
) -> None:
    space = nested()
    model = build(space, seed=0)
    config = TrainConfig(steps=5, batch_size=8, ghost_size=4, checkpoint_seconds=0.0)
    good: dict[str, Tensor] = {}

    def feed(step: int) -> tuple[Tensor, Tensor]:
        if step == 3:
            good.update({name: value.clone() for name, value in model.state_dict().items()})
        return feed_for(space, 8)(step)

    def loss_function(outputs: Tensor, targets: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(outputs, targets)
        if not good:
            return loss
        return loss * float("nan") if poison == "loss" else loss + (outputs.sum() * 0).sqrt()

    with pytest.raises(Diverged, match="at step 4 of 5: lower the learning rate"):
        fit(
            model, feed, 5, config, runtime=runtime, draw_live=draws_for(space, 2), loss_function=loss_function,
            folder=tmp_path,
        )  # fmt: skip
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 3
    assert all(torch.equal(saved["model"][name], value) for name, value in good.items())


@pytest.mark.parametrize("stopped", [True, False])
def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path, runtime: Runtime, stopped: bool) -> None:
    space = nested()
    config = TrainConfig(steps=2, batch_size=8, ghost_size=4, lr=1e38, optimizer_settings={}, schedule="constant")
    calls = iter(range(10))
    with pytest.raises(Diverged, match="weights are NaN or infinite at step 1"):
        fit(
            build(space, seed=0), feed_for(space, 8), 1 + stopped, config, runtime=runtime,
            draw_live=draws_for(space, 2), folder=tmp_path, watch=Watch(stop=lambda: stopped and next(calls) == 1),
            loss_function=lambda outputs, targets: 1e5 * outputs.square().mean(),
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_the_divergence_from_the_largest_equals_its_definition() -> None:
    space = nested()
    model = build(space, seed=0).eval()
    x, _ = feed_for(space, 12)(0)
    live = space.live([largest(space), space.first(), space.sample(generator=stream(1, "x"))])
    outputs = model(x, live)
    expected = torch.zeros(3)
    for ghost in range(3):
        part = x[4 * ghost : 4 * ghost + 4]
        taught = model(part, live[:1]).softmax(1)
        expected[ghost] = (taught * (taught.log() - model(part, live[ghost : ghost + 1]).log_softmax(1))).sum(1).mean()
    value = divergence(model, x, outputs, live[0], [1, 2], 3)
    torch.testing.assert_close(value, expected.mean(), rtol=1e-4, atol=1e-6)
    assert divergence(model, x, outputs, live[0], [], 3) == 0.0
    assert expected[1] > 1e-4


@pytest.mark.parametrize("per_forward", [1, 3])
def test_distillation_adds_its_gradient(per_forward: int, runtime: Runtime) -> None:
    space = nested()
    live = space.live([largest(space), space.first(), space.first()])
    config = replace(BARE, ghosts_per_forward=per_forward)

    def trained(distill: tuple[float, Tensor] | None) -> dict[str, Tensor]:
        model = build(space, seed=0)
        fit(model, feed_for(space, 12), 1, config, runtime=runtime, draw_live=lambda step: live, distill=distill)
        return dict(model.named_parameters())

    x, _ = feed_for(space, 12)(0)
    model, plain = build(space, seed=0), trained(None)
    divergence(model.train(), x, model(x, live), live[0], [1, 2], 3).backward()  # type: ignore[union-attr]  # others
    for name, parameter in trained((0.5, live[0])).items():
        gradient = model.get_parameter(name).grad
        moved = plain[name] - parameter
        torch.testing.assert_close(
            moved, torch.zeros_like(moved) if gradient is None else 0.5 * gradient, rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("per_forward", [1, 3])
def test_the_loss_of_each_ghost_batch_counts_by_its_weight(per_forward: int, runtime: Runtime) -> None:
    space = nested()
    live = space.live([largest(space), space.first(), space.first()])
    config = replace(BARE, ghosts_per_forward=per_forward)
    weights, seen = torch.tensor([2.0, 0.5, 0.0]), []

    def weights_of(progress: float, live_GP: Tensor) -> Tensor:
        seen.append((progress, live_GP))
        return weights

    model, before = build(space, seed=0), build(space, seed=0)
    (record,) = fit(
        model, feed_for(space, 12), 1, config, runtime=runtime, draw_live=lambda step: live, emphasis=weights_of
    )  # fmt: skip
    assert [progress for progress, _ in seen] == [0.0] and torch.equal(seen[0][1], live)
    x, y = feed_for(space, 12)(0)
    losses = [
        torch.nn.functional.cross_entropy(before.train()(x[part], live[ghost : ghost + 1]), y[part])
        for ghost, part in enumerate([slice(0, 4), slice(4, 8), slice(8, 12)])
    ]
    assert record["loss"] == pytest.approx(
        sum(float(loss.detach()) for loss in losses) / 3, rel=1e-5
    )  # what is shown is not weighted
    sum(weight * loss / 3 for weight, loss in zip(weights, losses, strict=True)).backward()
    for name, parameter in model.named_parameters():
        old = before.get_parameter(name)
        expected = old if old.grad is None else old - old.grad
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_step(runtime: Runtime) -> None:
    space = nested()
    model = build(space, seed=0)
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    config = TrainConfig(
        steps=1, batch_size=8, ghost_size=4, lr=1.0, clip_norm=1e-3, weight_decay=0.0, optimizer_settings={}
    )
    fit(model, feed_for(space, 8), 1, config, runtime=runtime, draw_live=draws_for(space, 2))
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_learning_rate() -> None:
    cosine = TrainConfig(lr=0.4, warmup=0.2)
    assert [cosine.rate_at(p) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.0, 0.2, 0.4, 0.2, 0.0])
    assert [TrainConfig(lr=0.4).rate_at(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.4, 0.2, 0.0])
    assert TrainConfig(lr=0.4, schedule="constant").rate_at(0.9) == 0.4


def test_length() -> None:
    assert TrainConfig(epochs=2.5, batch_size=64).total_steps(1000) == 39
    assert TrainConfig(steps=7, batch_size=64).total_steps(1000) == 7
    with pytest.raises(ValueError, match="batch_size: expected at most the 100 training examples, got 1,024"):
        TrainConfig().total_steps(100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 100}, "expected a multiple of ghost_size 32, got 100"),
        ({"lr": 0.0}, "expected to be above 0"),
        ({"steps": 0}, "expected to be above 0"),
        ({"warmup": 2.0}, "warmup: expected from 0 to below 1"),
        ({"weight_decay": -1.0}, "at least 0"),
        ({"optimizer": "Sgd"}, "expected a class of torch.optim, got 'Sgd'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_live_paths_are_for_one_shot_models_only(runtime: Runtime) -> None:
    config = TrainConfig(steps=1, batch_size=8, ghost_size=4)
    with pytest.raises(ValueError, match="draw_live: expected for a one-shot model"):
        fit(build(nested()), feed_for(nested(), 8), 1, config, runtime=runtime)
    with pytest.raises(ValueError, match="and for no other"):
        fit(nn.Linear(4, 3), feed_for(nested(), 8), 1, config, runtime=runtime, draw_live=draws_for(nested(), 2))


class _Chance(nn.Module):
    """Takes two tensors, draws at random, gives two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.act = Choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()}, max_picks=2)
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        y = self.out(self.drop(self.act(a * b)))
        return {"first": y, "second": y.detach()}


@pytest.mark.parametrize("alone", [False, True])
def test_dropout_follows_the_seed_and_batches_are_trees(alone: bool) -> None:
    def feed(step: int) -> tuple[dict[str, Tensor], tuple[Tensor]]:
        a, b = torch.randn(2, 16, 4, generator=stream(0, "examples", step))
        return {"a": a, "b": b}, (a[:, :2],)

    def loss(outputs: dict[str, Tensor], targets: tuple[Tensor]) -> Tensor:
        return (outputs["first"] - targets[0]).abs().mean()

    def weights(seed: int, threads: int) -> Tensor:
        space = from_network(_Chance, feed(0)[0])
        model = build(space, space.at(0) if alone else None, seed=0)
        torch.manual_seed(threads)  # what the global generator would draw does not matter
        config = TrainConfig(steps=4, batch_size=16, ghost_size=4, optimizer="Adam", optimizer_settings={}, lr=0.01)
        runtime = start(RuntimeConfig(device="cpu", precision="32-true", threads=threads))
        live = None if alone else draws_for(space, 4)
        fit(model, feed, 4, config, runtime=runtime, draw_live=live, loss_function=loss, seed=seed)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first = weights(0, 2)
    assert torch.equal(first, weights(0, 2)) and torch.equal(first, weights(0, 1))
    assert not torch.equal(first, weights(1, 1))


def test_seeded_dropout_drops_its_share() -> None:
    """Of 4,000 numbers a half and a quarter, within five standard deviations."""
    with seeded(torch.device("cpu"), 0, "some"):
        kept = (nn.Dropout(0.5)(torch.ones(4000)) == 2).sum()
        fused, mask = torch.native_dropout(torch.ones(4000), 0.25, True)
    assert abs(kept - 2000) < 5 * 32 and abs(mask.sum() - 3000) < 5 * 28
    assert torch.allclose(fused, mask * 4 / 3)
