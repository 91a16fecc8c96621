"""Work shared over processes and machines, on Dask: the same results for any sharing, and after any kill (decision 0047).

A job is a function of one task alone. It travels to each worker once, results come back in any order and are put into that of the
tasks. A worker that dies is replaced, and its task goes to another one.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from edge_tse.errors import EngineError
from edge_tse.install_line import install_line
from edge_tse.report import versions
from quantization.journal import Journal, plain

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["ALONE", "Workers", "results"]

Task = TypeVar("Task")

_ANSWER_S = 30.0
"""Time that a scheduler, and then its first worker, have to answer."""
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who computes."""

    count: int = 1
    """Processes of this machine; 1: this one alone, without Dask."""
    scheduler: str = ""
    """Address of a running Dask scheduler (``tcp://host:8786``), whose workers compute instead."""


ALONE = Workers()


def results(
    job: Callable[[Task], Any],
    tasks: Mapping[str, Task],
    workers: Workers = ALONE,
    journal: Journal | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Any]:
    """``job`` of every task, in their order, as JSON gives it back: what ``journal`` holds already is not computed again.

    The job and the tasks are pickled; processes are spawned, so that a script that asks for several needs a ``__main__`` guard. A
    worker computes one task at a time. An error of the job is raised here. ``EngineError``: no Dask, no scheduler or no worker, a
    worker with other versions, a task that ended several workers.
    """
    done: dict[str, Any] = {name: journal.found[name] for name in tasks if name in journal.found} if journal else {}
    left = {name: task for name, task in tasks.items() if name not in done}
    alone = workers.count == 1 and not workers.scheduler
    computed = ((name, job(task)) for name, task in left.items()) if alone else _shared(job, left, workers)
    if progress and done:
        progress(len(done) / len(tasks))
    for name, result in computed:
        done[name] = plain(result)
        if journal:
            journal.add(name, done[name])
        if progress:
            progress(len(done) / len(tasks))
    return [done[name] for name in tasks]


def _shared(job: Callable[[Task], Any], tasks: Mapping[str, Task], workers: Workers) -> Iterator[tuple[str, Any]]:
    if not tasks:
        return
    with _client(workers) as client:
        from distributed import CancelledError, KilledWorker, as_completed
        from distributed.comm.core import CommClosedError

        kept = client.submit(_itself, job, pure=False)  # as a task: if every worker that has it dies, it is made again
        wanted = versions()
        names = {client.submit(_one, kept, task, wanted, pure=False): name for name, task in tasks.items()}
        try:
            for future, result in as_completed(names, with_results=True):
                yield names[future], result
                future.release()
        except KilledWorker as failure:
            raise EngineError("one task ended several workers in turn: give each more memory, or start fewer") from failure
        except (CancelledError, CommClosedError) as failure:
            raise EngineError(f"the scheduler went away ({failure}): start again, finished work is kept") from failure


@contextmanager
def _client(workers: Workers) -> Iterator[Client]:
    """A connection to the scheduler, or to processes of this machine that end with the block."""
    try:
        import distributed
    except ImportError as failure:
        raise EngineError(f"{failure.name} is not installed, several workers need it: {install_line('cluster')}") from failure
    if workers.scheduler:
        with _connected(workers.scheduler) as client:
            yield client
        return
    # Keys for this run alone (else every user of this machine could send code), no page, no limit of memory.
    with (
        distributed.LocalCluster(
            n_workers=workers.count,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            silence_logs="ERROR",
            security=True,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout=_ANSWER_S)
    except (OSError, ValueError) as failure:
        raise EngineError(f"no scheduler answers at {address}: start one with `dask scheduler`") from failure
    try:
        try:
            client.wait_for_workers(1, timeout=_ANSWER_S)
        except TimeoutError as failure:
            raise EngineError(f"the scheduler at {address} has 0 workers, 1 is needed: `dask worker {address}`") from failure
        yield client
    finally:
        with suppress(OSError, TimeoutError):
            client.close()


def _itself(job: Callable[[Task], Any]) -> Callable[[Task], Any]:
    return job


@cache
def _own_versions() -> dict[str, str]:
    return versions()


def _one(job: Callable[[Task], Any], task: Task, wanted: Mapping[str, str]) -> Any:
    """One result, on a worker: refused where another version might compute something else."""
    own = _own_versions()
    for name in sorted(own.keys() | wanted.keys()):
        if own.get(name) != wanted.get(name):
            raise EngineError(
                f"worker {socket.gethostname()} has {name} {own.get(name, 'not installed')}, here it is "
                f"{wanted.get(name, 'not installed')}: install the same"
            )
    with _one_at_a_time:  # engines carry state, and a worker may have several threads
        return job(task)
