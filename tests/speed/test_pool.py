"""Workers: results in order, what reaches them, files, failures and deaths."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from supernet.base.own import load_function
from supernet.base.progress import Interrupted, Watch
from supernet.speed.pool import Divided, Failure, Pool, PoolError, Processes, Task, here, parts_of


def prepared() -> tuple[str, list[str]]:
    return "prepared", []


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Two workers; tests that end some of them get new ones in their place."""
    pool = Pool(Processes([{}, {}]), prepared)
    yield pool
    pool.close()


def squares(context: Any) -> Callable[[Any, Path | None, Watch], Any]:
    """A job that says in which process it was done."""
    assert context == "prepared"
    return lambda number, folder, watch: (number**2, os.getpid())


def test_results_come_in_order_and_workers_stay(pool: Pool) -> None:
    held = object()
    results = [list(pool.run(held, squares, map(Task, range(20)))) for _ in range(2)]
    for result in results:
        assert [value for value, _ in result] == [number**2 for number in range(20)]
    processes = {process for result in results for _, process in result}
    assert len(processes) <= 2
    assert os.getpid() not in processes
    assert pool.ready == 2
    assert list(pool.run(held, squares, [])) == []


def counting(path: Path) -> Callable[[Any], Callable[[Any, Path | None, Watch], Any]]:
    """Makes a job, and leaves a line for each worker in which it is made."""

    def make(context: Any) -> Callable[[Any, Path | None, Watch], Any]:
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return lambda number, folder, watch: os.getpid()

    return make


def test_what_all_tasks_need_reaches_each_worker_once(pool: Pool, tmp_path: Path) -> None:
    held, make = object(), counting(tmp_path / "made")
    processes: set[int] = set()
    for _ in range(3):
        processes |= set(pool.run(held, make, map(Task, range(8))))
    made = (tmp_path / "made").read_text().split()
    assert sorted(made) == sorted(map(str, processes))


def fragile(marks: Path) -> Callable[[Any], Callable[[Any, Path | None, Watch], Any]]:
    """A job that kills its worker the first `deaths` times that it does a number, and raises `errors` times."""

    def make(context: Any) -> Callable[[Any, Path | None, Watch], Any]:
        def job(arguments: Any, folder: Path | None, watch: Watch) -> Any:
            numbers, deaths, errors = arguments
            for number in numbers:
                tries = len(list(marks.glob(f"{number}-*")))
                (marks / f"{number}-{tries}").touch()
                if tries < deaths.get(number, 0):
                    os.kill(os.getpid(), signal.SIGKILL)
                if tries < errors.get(number, 0):
                    raise RuntimeError(f"no luck with {number}")
            return [number * 10 for number in numbers]

        return job

    return make


def test_a_worker_that_is_killed_costs_its_task_which_is_repeated(pool: Pool, tmp_path: Path) -> None:
    tasks = [Task(([number], {3: 1, 5: 2}, {6: 2})) for number in range(10)]
    assert list(pool.run(object(), fragile(tmp_path), tasks)) == [[number * 10] for number in range(10)]
    assert len(list(tmp_path.glob("3-*"))) == 2
    assert len(list(tmp_path.glob("5-*"))) == 3
    assert len(list(tmp_path.glob("4-*"))) == 1


def test_a_task_that_fails_three_times_is_given_up_and_the_others_go_on(pool: Pool, tmp_path: Path) -> None:
    tasks = [Task(([number], {}, {2: 9})) for number in range(6)]
    *results, last = list(pool.run(object(), fragile(tmp_path), [*tasks[:2], *tasks[3:], tasks[2]]))
    assert results == [[number * 10] for number in (0, 1, 3, 4, 5)]
    assert isinstance(last, Failure)
    assert last.error == "RuntimeError: no luck with 2"
    assert "in job" in last.trace
    assert len(list(tmp_path.glob("2-*"))) == 3


def test_a_task_that_fails_is_divided_to_tell_which_part_does(pool: Pool, tmp_path: Path) -> None:
    def task(numbers: list[int]) -> Task:
        parts = (lambda: [task([number]) for number in numbers]) if len(numbers) > 1 else None
        return Task((numbers, {}, {4: 99}), parts=parts)

    results = list(pool.run(object(), fragile(tmp_path), [task([0, 1, 2]), task([3, 4, 5]), task([6])]))
    assert [type(result) for result in results] == [list, Divided, list]
    parts = parts_of(results[1])
    assert (parts[0], parts[2]) == ([30], [50])
    assert isinstance(parts[1], Failure)


def test_where_nothing_succeeds_the_work_ends_with_the_error(pool: Pool, tmp_path: Path) -> None:
    tasks = [Task(([number], {}, {number: 99})) for number in range(50)]
    with pytest.raises(PoolError, match="3 tasks failed 3 times and none succeeded: RuntimeError: no luck with"):
        list(pool.run(object(), fragile(tmp_path), tasks))
    assert len({path.name.partition("-")[0] for path in tmp_path.iterdir()}) < 10


def bad_input(context: Any) -> Callable[[Any, Path | None, Watch], Any]:
    def job(number: int, folder: Path | None, watch: Watch) -> int:
        if number == 3:
            raise ValueError("expected something else")
        return number

    return job


def test_bad_input_ends_the_work_at_once_with_its_own_error(pool: Pool) -> None:
    with pytest.raises(ValueError, match="expected something else"):
        list(pool.run(object(), bad_input, map(Task, range(1000))))
    assert list(pool.run(object(), bad_input, map(Task, range(3)))) == [0, 1, 2]


def writing(context: Any) -> Callable[[Any, Path | None, Watch], Any]:
    """A job in steps that leaves its state in a file, continues from it, and removes it at the end."""

    def job(arguments: Any, folder: Path | None, watch: Watch) -> list[int]:
        steps, dies_at = arguments
        assert folder is not None
        state = folder / "state"
        first = int(state.read_text()) if state.exists() else 0
        for step in range(first, steps):
            if watch.stop():
                raise Interrupted(f"stopped before {step}")
            time.sleep(0.02)
            state.write_text(str(step + 1))
            watch.progress(step + 1, steps, worker=os.getpid())
            if step + 1 == dies_at and first < dies_at - 1:
                time.sleep(0.6)
                watch.progress(step + 1, steps, worker=os.getpid())
                os.kill(os.getpid(), signal.SIGKILL)
        (folder / "result").write_text(f"{first}")
        state.unlink()
        return [first, os.getpid()]

    return job


def test_files_are_those_of_this_process_and_a_repeated_task_continues_from_them(pool: Pool, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folders = [tmp_path / "a", tmp_path / "b"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "state").write_text("2")
    tasks = [
        Task((6, 4), folders[0], progress=lambda count, total, **_: seen.append((count, total))),
        Task((6, 0), folders[1]),
    ]
    (first, _), (second, _) = pool.run(object(), writing, tasks)
    assert 0 < first <= 4, "the second try began anew"
    assert second == 2
    assert [[path.name for path in folder.iterdir()] for folder in folders] == [["result"], ["result"]]
    assert (tmp_path / "a" / "result").read_text() == str(first)
    assert seen[-1] == (6, 6)


def test_a_stop_lets_tasks_save_their_state(pool: Pool, tmp_path: Path) -> None:
    steps: list[int] = []
    task = Task((10**6, 0), tmp_path / "a", progress=lambda count, total, **_: steps.append(count))
    with pytest.raises(Interrupted):
        list(pool.run(object(), writing, [task], stop=lambda: bool(steps)))
    state = int((tmp_path / "a" / "state").read_text())
    assert steps[-1] == state > 0


def test_one_that_breaks_off_leaves_the_workers_usable(pool: Pool) -> None:
    results = pool.run(object(), squares, map(Task, range(1000)))
    assert next(results)[0] == 0
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert [value for value, _ in pool.run(object(), squares, map(Task, range(4)))] == [0, 1, 4, 9]


def test_workers_that_cannot_start_are_an_error() -> None:
    def broken() -> tuple[Any, list[str]]:
        raise OSError("no such device")

    pool = Pool(Processes([{}]), broken)
    with pytest.raises(PoolError, match="a worker cannot start: OSError: no such device"):
        list(pool.run(object(), squares, [Task(1)]))
    pool.close()


def test_workers_end_with_their_pool() -> None:
    other = Pool(Processes([{}]), prepared)
    ((_, process),) = other.run(object(), squares, [Task(1)])
    other.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_workers_leave_no_files_also_if_they_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("marks", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    pool = Pool(Processes([{}]), prepared)
    tasks = [Task(([number], {1: 1}, {}), tmp_path / "folder") for number in range(3)]
    assert list(pool.run(object(), fragile(tmp_path / "marks"), tasks)) == [[0], [10], [20]]
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    pool.close()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_cannot_be_sent_is_refused(pool: Pool) -> None:
    with pytest.raises(PoolError, match=r"set runtime\.workers and"):
        list(pool.run(object(), squares, [Task(number for number in [1])]))


def calling(function: Callable[[int], int], context: Any) -> Callable[[Any, Path | None, Watch], Any]:
    return lambda number, folder, watch: function(number)


def test_functions_of_users_files_and_of_their_neighbours_are_sent(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "next_door.py").write_text("FACTOR = 7\n\ndef plus(number):\n    return number + 1\n")
    text = "import next_door\nfrom next_door import plus\ndef times(n):\n    return plus(n * next_door.FACTOR)\n"
    (tmp_path / "users.py").write_text(text)
    times = load_function(f"{tmp_path / 'users.py'}:times")
    for path in tmp_path.glob("*.py"):
        path.unlink()
    assert list(pool.run(object(), partial(calling, times), map(Task, range(3)))) == [1, 8, 15]


def test_in_this_process_the_first_error_stops_the_others(tmp_path: Path) -> None:
    started: list[int] = []

    def job(number: int, folder: Path | None, watch: Watch) -> int:
        started.append(number)
        if number == 2:
            raise ZeroDivisionError
        return number

    assert here(map, job, map(Task, (0, 1)), lambda: False) == [0, 1]
    with pytest.raises(ZeroDivisionError), suppress(Interrupted):
        here(map, job, map(Task, range(9)), lambda: False)
    assert started == [0, 1, 0, 1, 2]
