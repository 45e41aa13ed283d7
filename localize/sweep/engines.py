"""Who does the units of a sweep: this process, several on this machine, or a dask scheduler's workers wherever they are."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from localize.errors import LocalizeError, first_line, how_to_install
from localize.sweep.bench import Bench, Outcome, WorkUnit
from localize.sweep.training_cells import TrainingUnit
from localize.threads import available_cpus

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 10.0
"""Seconds to wait for a scheduler's first answer."""

AHEAD = 2
"""Units that each worker's thread has waiting, so that results not yet written stay few."""


Unit = WorkUnit | TrainingUnit


@runtime_checkable
class Engine(Protocol):
    """Does units in about their order, and gives each outcome as it comes."""

    def outcomes(self, units: Sequence[Unit]) -> Iterator[Outcome]:
        """Every unit's outcome, once."""
        ...


class InProcess:
    """One unit after another, here."""

    def __init__(self, bench: Bench):
        self.bench = bench

    def outcomes(self, units: Sequence[Unit]) -> Iterator[Outcome]:
        """Every unit's outcome, once."""
        return map(self.bench.outcome, units)


class OnCluster:
    """The workers of a dask client; a unit whose worker dies is done by another."""

    def __init__(self, client: "Client", resources: Mapping[str, float] | None = None):
        self.client, self.resources = client, dict(resources or {})

    def outcomes(self, units: Sequence[Unit]) -> Iterator[Outcome]:
        """Every unit's outcome, once."""
        from distributed import KilledWorker, as_completed

        waiting, running = iter(enumerate(units)), {}
        done = as_completed()

        def send() -> bool:
            # earlier units first, so that all workers are at the same model
            for number, unit in waiting:
                future = self.client.submit(
                    work, unit, key=f"localize-{unit.hash[:16]}-{unit.rows[0]}-{number}", priority=-number,
                    resources=self.resources or None, pure=False,
                )  # fmt: skip
                running[future] = unit
                done.add(future)
                return True
            return False

        for _ in range(self._room()):
            send()
        for future in done:
            unit = running.pop(future)
            try:
                yield future.result()
            except KilledWorker as error:
                yield Outcome(unit, None, 0.0, "", error=f"KilledWorker: {first_line(error)}", trace=str(error))
            future.release()
            room = self._room()
            while len(running) < room and send():
                pass

    def _room(self) -> int:
        """How many units may be on their way; workers can come and go."""
        threads = sum(worker["nthreads"] for worker in self.client.scheduler_info(n_workers=-1)["workers"].values())
        return AHEAD * max(1, threads)


_BENCH = Bench(shows=False)
"""Of a worker's process."""


def work(unit: Unit) -> Outcome:
    """What a worker runs."""
    return _BENCH.outcome(unit)


@contextmanager
def local_pool(workers: int, threads: int | None = None) -> Iterator["Client"]:
    """So many processes on this machine, each with its share of the cores.

    Args:
        workers: Processes.
        threads: Of torch in each; None divides the cores.

    Raises:
        LocalizeError: If dask.distributed is not installed.
    """
    distributed = _distributed()
    from dask import config as dask_config

    each = threads or max(1, available_cpus() // workers)
    # Dask's own choices make the same calls take twice as long: memory given back after every call, a profiler in every worker.
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    choices = {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(variables, str(each)),
        "distributed.worker.profile.enabled": False,
    }
    with (
        dask_config.set(choices),
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=40
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def scheduler_at(address: str) -> Iterator["Client"]:
    """A scheduler that is running somewhere: "tcp://host:8786".

    Raises:
        LocalizeError: If dask.distributed is not installed, the address is none, or nobody answers in time.
    """
    distributed, patience = _distributed(), PATIENCE
    try:
        # A client waits for ever for one that takes the call and says nothing. In a thread, as notebooks have a loop of their own.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _greeted(address, patience)).result()
    except (OSError, ValueError, TimeoutError) as error:
        raise LocalizeError(
            f"scheduler {address}: no answer within {patience:g} s ({first_line(error)}); is `dask scheduler` running there?"
        ) from None
    with distributed.Client(address, timeout=patience) as client:
        yield client


async def _greeted(address: str, patience: float) -> None:
    """Exchange greetings and hang up."""
    from distributed.comm.core import connect

    (await asyncio.wait_for(connect(address, timeout=patience), patience)).abort()


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise LocalizeError(
            f"several workers need dask.distributed: {how_to_install('cluster')}; or leave out --workers and --scheduler."
        ) from None
    return distributed
