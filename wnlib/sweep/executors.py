"""Who computes a sweep: executors that speak concurrent.futures, and how many cells each should be given at once."""

import asyncio
import multiprocessing
import os
import re
import signal
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext

from wnlib.collection.jobs import Problem

ANSWER_SECONDS = 10  # to wait for a Dask scheduler
# How long to wait for the first Dask worker, and for new ones when all are gone.
WORKERLESS_SECONDS = 600


def start(processes, report):
    """Return a context manager that gives (executor, capacity): capacity() is how many cells to have under way.

    With SCHEDULER=tcp://host:port in the environment, the workers of that Dask scheduler; else `processes` processes
    here, each with one thread; with 0 of them, this very process. Leaving ends the processes, whatever they are at.
    `report` is called with a line when there are no workers to wait for. Problem (2) when no scheduler answers,
    Problem (1) when it is lost or stays without workers.
    """
    if scheduler := os.environ.get("SCHEDULER"):
        return _dask(scheduler, report)
    return _processes(processes) if processes else nullcontext((_Here(), lambda: 1))


class _Here(Executor):
    """Computes in this very process, when asked."""

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def _attend(lifeline):
    """Start a worker process: it ends when the lifeline does, however its parent ended."""
    import tqdm

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the parent, which sees to the rest
    os.environ["WNLIB_TERMINAL"] = os.devnull  # the bars are the parent's too
    tqdm.tqdm.set_lock(threading.RLock())  # its own would be a semaphore, which a killed process leaves behind

    def wait():
        try:
            lifeline.recv_bytes()
        except EOFError:
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _processes(count):
    """Yield (executor, capacity) for `count` processes; the second tells how many cells it should be given at once."""
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that BLAS or a kernel's threads hold
    reader, writer = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(count, context, _attend, (reader,))
    try:
        yield executor, lambda: 2 * count
    finally:
        writer.close()
        executor.shutdown(cancel_futures=True)
        reader.close()


@contextmanager
def _dask(scheduler, report):
    """Yield (executor, capacity) for the workers of the Dask scheduler at that address."""
    if not re.fullmatch(r"(tcp|tls)://\S+:\d+", scheduler):
        raise Problem(2, f"SCHEDULER={scheduler}: must be tcp://host:port, or tls://host:port")
    try:
        from distributed import Client

        asyncio.run(asyncio.wait_for(_asked(scheduler), ANSWER_SECONDS))
        client = Client(scheduler, timeout=ANSWER_SECONDS, set_as_default=False)
    except ImportError:
        raise Problem(2, f"SCHEDULER={scheduler}: needs the extra cluster (pip install dask distributed)") from None
    except Exception as error:  # whatever listens there may answer anything
        reason = str(error) or f"silent for {ANSWER_SECONDS} s"
        raise Problem(2, f"SCHEDULER={scheduler}: no Dask scheduler answers there ({reason})") from None
    alone_since = None

    def capacity():
        nonlocal alone_since
        try:
            threads = sum(client.nthreads().values())
        except OSError:
            raise Problem(1, f"SCHEDULER={scheduler}: lost; the cells before are kept") from None
        if threads:
            alone_since = None
        elif alone_since is None:
            alone_since = time.monotonic()
            report(f"SCHEDULER={scheduler}: no workers; waiting for some to join")
        elif time.monotonic() > alone_since + WORKERLESS_SECONDS:
            raise Problem(1, f"SCHEDULER={scheduler}: no workers for {WORKERLESS_SECONDS} s; the cells before are kept")
        return 2 * threads

    try:
        yield client.get_executor(pure=False), capacity
    finally:
        client.close()


async def _asked(scheduler):
    """Return once the scheduler has answered: a client would wait for minutes, and be noisy about it."""
    from distributed.core import connect, send_recv
    from distributed.security import Security

    comm = await connect(scheduler, **Security().get_connection_args("client"))
    await send_recv(comm, op="identity")
    comm.abort()
