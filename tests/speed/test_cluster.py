"""Workers on a Ray cluster of two nodes on this machine, one of which is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supernet.base.progress import Interrupted, Watch
from supernet.speed.pool import Cluster, Failure, Pool, PoolError, Task

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
    deadline = time.monotonic() + 60
    while pool.ready < 2 and time.monotonic() < deadline:
        list(pool.run(object(), slow_squares, map(Task, range(4))))
    assert pool.ready == 2
