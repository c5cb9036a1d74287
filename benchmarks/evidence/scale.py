"""How scoring and trainings divide among workers: measured with two, simulated with up to 10,000.

    python benchmarks/evidence/scale.py --out benchmarks/results/scale_DATE.json [--ray] [--rounds 3]

One worker and two with a core each score the same candidates and make the same trainings, in turn, on random images;
with --ray two workers of a Ray cluster that the script starts do so too. Wall times say little where other work shares
the machine, whose load is noted. CPU times of all processes together say in any case what dividing costs: workers that
wait for the driver take none, so a share that is lost by waiting shows in the simulation only.

The simulation has a driver that deals with one result at a time, and workers whose batches take as long as measured
ones. Its numbers are the measured times and sizes, and two assumptions, which stand in the file: how long a message
travels, and how much the driver's network carries.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from supernet.base.progress import Watch
from supernet.retrain.trainings import Lessons, RetrainConfig, retrain
from supernet.search.scoring import Evaluation, outcomes_of
from supernet.space.choices import Space
from supernet.space.model import build
from supernet.spaces import bender
from supernet.speed.kernels import processor_name
from supernet.speed.pool import Job, Task
from supernet.speed.runtime import Runtime, RuntimeConfig, start
from supernet.train.fit import Batch, TrainConfig

WORKERS = (10, 100, 1_000, 10_000)

LATENCY = 0.5e-3
"""Seconds that a message travels; assumed, as in the network of one room."""

BANDWIDTH = 1.25e9
"""Bytes per second of the driver's network; assumed: 10 Gbit/s."""

BATCH = 2.0
"""Intended seconds of a batch; that of supernet.search.scoring."""

CANDIDATES, EXAMPLES, TRAININGS, STEPS = 160, 256, 4, 20


# ---- what is measured ----


def evaluation(space: Space, runtime: Runtime) -> Evaluation:
    generator = torch.Generator().manual_seed(0)
    examples = torch.randn(EXAMPLES, 1, 8, 8, generator=generator).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, 10, (EXAMPLES,), generator=generator)
    model = build(space, seed=0)
    runtime.place(model)
    return Evaluation(model=model, examples=examples, targets=targets, runtime=runtime)


def lessons() -> Lessons:
    generator = torch.Generator().manual_seed(1)
    examples, targets = torch.randn(64, 1, 8, 8, generator=generator), torch.arange(64) % 10

    def batch(step: int) -> Batch:
        return examples, targets

    return Lessons(feed=lambda seed: batch, steps=STEPS, validation=lambda: [(examples, targets)])


def score(space: Space, runtime: Runtime) -> list[Any]:
    drawn = space.sample_distinct(CANDIDATES, generator=torch.Generator().manual_seed(2))
    drawn.sort(key=lambda architecture: architecture.picks)
    return list(outcomes_of(evaluation(space, runtime), drawn))


def train(space: Space, runtime: Runtime) -> list[Any]:
    drawn = space.sample_distinct(TRAININGS, generator=torch.Generator().manual_seed(3))
    config = RetrainConfig(train=TrainConfig(steps=STEPS, batch_size=64, ghost_size=32))
    with tempfile.TemporaryDirectory() as place:
        retrain(space, drawn, lessons(), config, runtime=runtime, seed=0, folder=Path(place))
        return [path.read_bytes() for path in sorted(Path(place).rglob("weights.safetensors"))]


def runtime_of(**settings: Any) -> Runtime:
    return start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch", threads=1, **settings))


def process_of(runtime: Runtime) -> Job:
    """A job that says in which process it is done, after a while in which others get a task too."""

    def job(number: Any, folder: Path | None, watch: Watch) -> int:
        time.sleep(0.2)
        return os.getpid()

    return job


def processes_of(runtime: Runtime) -> set[int]:
    """The processes of all workers, which are ready then: their start is not measured."""
    pool = runtime.pool
    processes: set[int] = set()
    while pool is not None and len(processes) < pool.size:
        processes |= set(pool.run("processes", process_of, map(Task, range(4 * pool.size))))
    return processes


def cpu_of(processes: set[int]) -> float:
    """CPU seconds of processes, by Linux."""
    fields = [Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() for process in processes]
    return sum(int(row[11]) + int(row[12]) for row in fields) / os.sysconf("SC_CLK_TCK")


def timed(work: Any, space: Space, runtime: Runtime, processes: set[int]) -> tuple[dict[str, float], list[Any]]:
    """Wall time, CPU time of this process and of the workers, and what the work gave."""
    wall, cpu, of_workers = time.perf_counter(), time.process_time(), cpu_of(processes)
    result = work(space, runtime)
    driver = time.process_time() - cpu
    return {"wall": time.perf_counter() - wall, "driver": driver, "workers": cpu_of(processes) - of_workers}, result


def compare(space: Space, ways: dict[str, Runtime], rounds: int) -> dict[str, Any]:
    """Each way's shortest times over some rounds, in turn; all have to give the same."""
    measured: dict[str, Any] = {}
    processes = {way: processes_of(runtime) for way, runtime in ways.items()}
    for name, work in {"scoring": score, "trainings": train}.items():
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        results = []
        for turn in range(rounds):
            for way, runtime in ways.items():
                times, result = timed(work, space, runtime, processes[way])
                print(f"{name}, turn {turn + 1} of {rounds}, {way}: {times['wall']:.1f} s", file=sys.stderr, flush=True)
                runs[way].append(times)
                results.append(result)
        assert all(result == results[0] for result in results), f"{name}: the ways give different results"
        best = {way: {key: min(run[key] for run in some) for key in some[0]} for way, some in runs.items()}
        cpu = {way: times["driver"] + times["workers"] for way, times in best.items()}
        measured[name] = {
            "seconds": best,
            "wall, one / 2 times two": best["one worker"]["wall"] / (2 * best["two workers"]["wall"]),
            "cpu, one process / two workers": cpu["one process"] / cpu["two workers"],
            "cpu, one worker / two workers": cpu["one worker"] / cpu["two workers"],
            **({"cpu, ray / two workers": cpu["ray"] / cpu["two workers"]} if "ray" in ways else {}),
            **({"wall, ray / two workers": best["ray"]["wall"] / best["two workers"]["wall"]} if "ray" in ways else {}),
        }
    return measured


def batches(space: Space, runtime: Runtime) -> dict[str, Any]:
    """Sizes of messages, seconds of a candidate, and the driver's CPU time for a result."""
    drawn = space.sample_distinct(64, generator=torch.Generator().manual_seed(4))
    once = runtime_of()
    alone = evaluation(space, once)
    cpu = time.process_time()
    outcomes = list(outcomes_of(alone, drawn))
    seconds = (time.process_time() - cpu) / len(drawn)
    number = max(1, round(BATCH / seconds))
    outcome, architecture = cloudpickle.dumps(outcomes), cloudpickle.dumps(drawn)
    pool = runtime.pool
    assert pool is not None
    empty = 400
    cpu = time.process_time()
    list(pool.run("empty", lambda runtime: lambda arguments, folder, watch: outcomes, [Task(drawn)] * empty))
    driver = (time.process_time() - cpu) / empty
    return {
        "seconds of a candidate": seconds,
        "candidates of a batch": number,
        "bytes of a batch": len(architecture) / len(drawn) * number,
        "bytes of its result": len(outcome) / len(drawn) * number,
        "bytes of model and examples": len(cloudpickle.dumps(replace(alone, runtime=None, held=None))),  # type: ignore[arg-type]  # as it is sent
        "driver's seconds for a batch of 64": driver,
        "driver's seconds for a batch": driver / len(drawn) * number if number > len(drawn) else driver,
    }


@contextmanager
def ray_cluster() -> Iterator[None]:
    """A Ray cluster of two nodes on this machine."""
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = nodes.address
    try:
        yield
    finally:
        ray.shutdown()
        nodes.shutdown()


# ---- what is simulated ----


def simulate(workers: int, tasks: Sequence[float], driver: float, latency: float, batches: int) -> dict[str, float]:
    """A driver that deals with one result at a time, and workers that wait for it.

    Args:
        workers: number of them.
        tasks: seconds of batches, of which each is drawn at random.
        driver: its seconds for a result, sending the next batch included.
        latency: of a message.
        batches: how many each worker does, on average.

    Returns:
        `busy`: the share of time in which workers work; `driver`: that in which the driver does.
    """
    chance = random.Random(0)  # a simulation
    arrivals: list[float] = []
    for _ in range(workers):  # they begin spread over a batch, as after a while
        heapq.heappush(arrivals, chance.random() * chance.choice(tasks))
    free, worked, served = 0.0, 0.0, 0
    total = workers * batches
    while served < total:
        arrival = heapq.heappop(arrivals)
        free = max(free, arrival + latency) + driver
        seconds = chance.choice(tasks)
        worked += seconds
        served += 1
        heapq.heappush(arrivals, free + latency + seconds)
    return {"busy": worked / (workers * free), "driver": served * driver / free}


def scaling(tasks: Sequence[float], driver: float, size: float) -> list[dict[str, Any]]:
    """How busy workers are, for each number of them, and how long batches have to be for 95 %.

    Args:
        tasks: seconds of batches.
        driver: its CPU seconds for a batch.
        size: bytes of a batch and its result.
    """
    rows = []
    for workers in WORKERS:
        number = max(3, 20_000 // workers)
        longer = 1
        first = simulate(workers, tasks, driver + size / BANDWIDTH, LATENCY, number)
        stretched_run = first
        while stretched_run["busy"] < 0.95 and longer < 1024:
            longer *= 2
            stretched = [seconds * longer for seconds in tasks]
            stretched_run = simulate(workers, stretched, driver + longer * size / BANDWIDTH, LATENCY, number)
        rows.append(
            {"workers": workers, **first, "batches longer for 95 %": longer if stretched_run["busy"] >= 0.95 else None}
        )
    return rows


def saturation(tasks: Sequence[float], driver: float, size: float) -> float:
    """The number of workers at which the driver has no time left."""
    one = driver + size / BANDWIDTH
    return (statistics.mean(tasks) + 2 * LATENCY + one) / one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ray", action="store_true", help="also two workers of a Ray cluster")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    space = bender(filters=4, cells=1, choice_blocks=2, num_classes=10, input_shape=(1, 8, 8))
    loads = [os.getloadavg()[0]]
    ways = {"one process": runtime_of(), "one worker": runtime_of(workers=1), "two workers": runtime_of(workers=2)}
    measured: dict[str, Any] = {}
    if options.ray:
        with ray_cluster():
            ways["ray"] = runtime_of(cluster="auto", workers=2)
            measured = compare(space, ways, options.rounds)
            ways["ray"].pool.close()  # type: ignore[union-attr]  # it has one
    else:
        measured = compare(space, ways, options.rounds)
    sizes = batches(space, ways["one worker"])
    loads.append(os.getloadavg()[0])
    spread = [BATCH * factor for factor in (0.5, 0.8, 1.0, 1.2, 1.5)]
    size = sizes["bytes of a batch"] + sizes["bytes of its result"]
    driver = sizes["driver's seconds for a batch"]
    facts = {
        "command": f"python benchmarks/evidence/scale.py{' --ray' if options.ray else ''} --rounds {options.rounds}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores of {processor_name()}",
        "torch": torch.__version__,
        "load average of the last minute, before and after": loads,
        **measured,
        "messages": sizes,
        "assumed": {"latency": LATENCY, "bandwidth": BANDWIDTH, "seconds of batches": spread},
        "simulated": scaling(spread, driver, size),
        "driver saturates at": saturation(spread, driver, size),
        "peak memory of the driver in MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    options.out.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
