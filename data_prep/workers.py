"""Work in several processes with joblib. Its `parallel_config` can select other backends, such as dask on many machines."""

import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from joblib import Parallel, delayed

T = TypeVar("T")
R = TypeVar("R")
Failure = tuple[Exception, str]
Outcome = tuple[R | None, Failure | None]
Results = Iterator[Outcome[R]]
_watched: set[int] = set()


def in_order(function: Callable[[T], R], items: Iterable[T], workers: int, option: str) -> Iterator[R]:
    """Apply a function to items in worker processes, and yield the results in the order of the items.

    Args:
        function: The function. It must be picklable, like items and results.
        items: The items. Each should take at least 50 ms. At most two per worker are prefetched.
        workers: Number of worker processes. 0 and 1 use this process.
        option: Name of the option `workers` for errors, e.g. `shard.workers`.

    Raises:
        ChildProcessError: A worker process died.
    """
    if workers < 2:
        yield from map(function, items)
        return
    stream = iter(items)
    # joblib would take all items at once. Two windows of items at a time bound the memory.
    windows = iter(lambda: list(islice(stream, workers)), [])
    started = (_start(function, window, workers) for window in windows)
    under_way: deque[Results[R]] = deque()
    try:
        under_way.extend(islice(started, 2))
        while under_way:
            for result, failure in under_way[0]:
                if failure is not None:
                    raise failure[0] from RuntimeError(failure[1])
                yield result  # type: ignore[misc]  # set if there is no failure
            under_way.popleft()
            under_way.extend(islice(started, 1))
    except BrokenProcessPool as error:
        under_way.clear()
        raise ChildProcessError(
            f"a worker process died, most likely out of memory; run the step again with a smaller {option}"
        ) from error
    except KeyboardInterrupt:
        under_way.clear()
        raise
    finally:
        for results in under_way:  # wait: joblib would kill the workers, and its own thread may fail then
            deque(results, maxlen=0)


def _start(function: Callable[[T], R], window: list[T], workers: int) -> Results[R]:
    pool = Parallel(workers, return_as="generator", pre_dispatch="all", batch_size=1, max_nbytes=None)
    call, own = delayed(_call), os.getpid()
    results: Results[R] = pool(call(function, own, item) for item in window)
    return results


def _call(function: Callable[[T], R], parent: int, item: T) -> Outcome[R]:
    if os.getppid() == parent and parent not in _watched:  # workers of joblib would outlive a killed parent
        _watched.add(parent)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        return function(item), None
    except Exception as error:  # raised again by `in_order`
        return None, (error, traceback.format_exc())


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
