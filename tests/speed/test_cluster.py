"""Workers on a Ray cluster of two nodes on this machine, one of which is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.base.progress import Interrupted, Watch
from supernet.retrain.trainings import Lessons, RetrainConfig, retrain
from supernet.search.config import SearchConfig
from supernet.search.rounds import search
from supernet.search.scoring import Evaluation
from supernet.search.table import read_candidates, read_rounds
from supernet.space.cost import cost_table
from supernet.space.model import build
from supernet.speed.pool import Cluster, Failure, Pool, PoolError, Task
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig
from tests.spaces_for_tests import tiny_bender
from tests.train.test_fit import feed_for

SPACE = tiny_bender()
EXAMPLES = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 3, (200,), generator=torch.Generator().manual_seed(1))
TRAINED = [SPACE.at(5), SPACE.at(77), SPACE.everything_on()]

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install ray"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::Warning"),  # those of Ray itself
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with a core each; a node is added in place of one that a test kills."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = nodes.address
    yield nodes
    ray.shutdown()
    nodes.shutdown()
    del os.environ["RAY_ADDRESS"]


def prepared() -> tuple[str, list[str]]:
    return "prepared", []


@pytest.fixture(scope="module")
def pool(cluster: Any) -> Iterator[Pool]:
    pool = Pool(Cluster("auto", None, 1, 0.0), prepared)
    yield pool
    pool.close()


def slow_squares(context: Any) -> Callable[[Any, Path | None, Watch], Any]:
    import ray

    node = ray.get_runtime_context().get_node_id()

    def job(number: int, folder: Path | None, watch: Watch) -> tuple[int, str]:
        time.sleep(0.05)
        return number**2, node

    return job


def test_workers_are_on_both_nodes_and_results_in_order(pool: Pool) -> None:
    assert pool.size == 2
    results = list(pool.run(object(), slow_squares, map(Task, range(60))))
    assert [value for value, _ in results] == [number**2 for number in range(60)]
    assert len({node for _, node in results}) == 2


def wait_for_two(pool: Pool) -> None:
    """Returns when both workers are ready."""
    deadline = time.monotonic() + 120
    while pool.ready < 2 and time.monotonic() < deadline:
        list(pool.run("waiting", slow_squares, map(Task, range(4))))
    assert pool.ready == 2


def fragile(context: Any) -> Callable[[Any, Path | None, Watch], Any]:
    def job(arguments: Any, folder: Path | None, watch: Watch) -> int:
        number, marks = arguments
        tries = len(list(Path(marks).glob(f"{number}-*")))
        (Path(marks) / f"{number}-{tries}").touch()
        if number == 3 and tries < 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 5:
            raise RuntimeError("the device is lost")
        return int(number)

    return job


def test_a_worker_that_is_killed_and_a_task_that_fails(pool: Pool, tmp_path: Path) -> None:
    results = list(pool.run(object(), fragile, [Task((number, str(tmp_path))) for number in range(8)]))
    assert [result for result in results if not isinstance(result, Failure)] == [0, 1, 2, 3, 4, 6, 7]
    assert results[5].error == "RuntimeError: the device is lost"
    assert len(list(tmp_path.glob("3-*"))) == 2
    assert len(list(tmp_path.glob("5-*"))) == 3


def writing(context: Any) -> Callable[[Any, Path | None, Watch], Any]:
    def job(steps: int, folder: Path | None, watch: Watch) -> int:
        assert folder is not None
        state = folder / "state"
        first = int(state.read_text()) if state.exists() else 0
        for step in range(first, steps):
            if watch.stop():
                raise Interrupted("stopped")
            time.sleep(0.02)
            state.write_text(str(step + 1))
            watch.progress(step + 1, steps)
        return first

    return job


def test_a_stop_lets_tasks_save_their_state(pool: Pool, tmp_path: Path) -> None:
    """Files come back from a folder that only the worker has."""
    steps: list[int] = []
    task = Task(10**6, tmp_path / "a", progress=lambda count, total, **_: steps.append(count))
    with pytest.raises(Interrupted):
        list(pool.run(object(), writing, [task], stop=lambda: bool(steps)))
    assert int((tmp_path / "a" / "state").read_text()) == steps[-1] > 0
    assert list(pool.run(object(), writing, [Task(steps[-1] + 5, tmp_path / "a")])) == [steps[-1]]


def test_a_cluster_that_has_no_room_is_refused(pool: Pool) -> None:
    with pytest.raises(PoolError, match="no room for a worker with 64 cores and 0 GPUs; it has 2 cores and 0 GPUs"):
        Cluster("auto", None, 64, 0.0)


def test_a_node_that_is_killed_costs_its_tasks_which_are_repeated_on_the_other(cluster: Any, pool: Pool) -> None:
    """With another node in its place there are two workers again."""
    (node,) = cluster.worker_nodes
    results, places = [], []
    for value, place in pool.run(object(), slow_squares, map(Task, range(120))):
        results.append(value)
        places.append(place)
        if len(results) == 40:
            cluster.remove_node(node, allow_graceful=False)
    assert results == [number**2 for number in range(120)]
    assert len(set(places)) == 2
    assert len(set(places[-20:])) == 1
    assert pool.ready == 1
    cluster.add_node(num_cpus=1)
    wait_for_two(pool)


def test_a_search_and_trainings_on_a_cluster_are_those_of_one_process_also_if_a_node_is_killed(
    cluster: Any, pool: Pool, tmp_path: Path
) -> None:
    """A node is killed in the middle of a search, and another one in the middle of trainings."""
    pool.close()
    one_process = RuntimeConfig(device="cpu", precision="32-true", kernels="torch", threads=1)
    alone, shared = start(one_process), start(replace(one_process, cluster="auto", workers=2))
    assert shared.pool is not None
    config = SearchConfig(
        candidates=24, top=2, random=2, small=2, top_of=4, ghost_size=8, strategy="evolution", batch=12
    )
    settings = RetrainConfig(train=TrainConfig(steps=60, batch_size=8, ghost_size=4, checkpoint_seconds=0.01))
    lessons = Lessons(feed=lambda seed: feed_for(SPACE, 8), steps=60, validation=lambda: [feed_for(SPACE, 40)(999)])
    killed: list[str] = []

    def kill(what: str, after: int) -> Watch:
        def progress(done: int, total: int, **figures: float) -> None:
            if done >= after and what not in killed and shared.pool is not None and shared.pool.ready == 2:
                killed.append(what)
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

        return Watch(progress)

    for name, runtime in (("one", alone), ("two", shared)):
        model = build(SPACE, seed=0)
        evaluation = Evaluation(model=model, examples=EXAMPLES, targets=TARGETS, runtime=runtime, ghost_size=8)
        watch = kill("search", 1) if name == "two" else Watch()
        if name == "two":
            wait_for_two(shared.pool)
        search(evaluation, cost_table(SPACE), config, seed=3, table=tmp_path / f"{name}.sqlite", watch=watch)
        if name == "two":
            cluster.add_node(num_cpus=1)
            wait_for_two(shared.pool)
        watch = kill("training", 20) if name == "two" else Watch()
        retrain(SPACE, TRAINED, lessons, settings, runtime=runtime, seed=3, folder=tmp_path / name, watch=watch)
    assert killed == ["search", "training"]
    tables = [tmp_path / "one.sqlite", tmp_path / "two.sqlite"]
    assert read_candidates(tables[0], SPACE) == read_candidates(tables[1], SPACE)
    assert list(read_rounds(tables[0])) == list(read_rounds(tables[1]))
    weights = [
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.safetensors")}
        for name in ("one", "two")
    ]
    assert len(weights[0]) == len(TRAINED)
    assert weights[0] == weights[1]
    shared.pool.close()
