"""Work in several processes through joblib, whose `parallel_config` may name other backends, such as dask on many machines."""

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
    """Yield the results of a function for items, in the order of the items.

    Args:
        function: What to do with an item. It, the items and the results can be pickled.
        items: The items, each worth at least some 50 ms of work. At most two for each process are taken ahead.
        workers: Number of processes. Up to 1 works in this process.
        option: Name of the option with that number, for the error, e.g. `shard.workers`.

    Raises:
        ChildProcessError: A process died.
    """
    if workers < 2:
        yield from map(function, items)
        return
    stream = iter(items)
    # Two windows are under way, so that memory does not grow with the number of items.
    windows = iter(lambda: list(islice(stream, workers)), [])
    started = (_start(function, window, workers) for window in windows)
    under_way: deque[Results[R]] = deque()
    try:
        under_way.extend(islice(started, 2))
        while under_way:
            for result, failure in under_way[0]:
                if failure is not None:
                    raise failure[0] from RuntimeError(failure[1])
                yield result  # type: ignore[misc]  # there is one
            under_way.popleft()
            under_way.extend(islice(started, 1))
    except BrokenProcessPool as error:
        under_way.clear()
        raise ChildProcessError(
            f"a worker process died, most likely for lack of memory; run the step again, with a smaller {option}"
        ) from error
    except KeyboardInterrupt:
        under_way.clear()
        raise
    finally:
        for results in under_way:  # wait for them: joblib would kill the processes, and its own thread may fail at that
            deque(results, maxlen=0)


def _start(function: Callable[[T], R], window: list[T], workers: int) -> Results[R]:
    pool = Parallel(workers, return_as="generator", pre_dispatch="all", batch_size=1, max_nbytes=None)
    call, own = delayed(_call), os.getpid()
    results: Results[R] = pool(call(function, own, item) for item in window)
    return results


def _call(function: Callable[[T], R], parent: int, item: T) -> Outcome[R]:
    if os.getppid() == parent and parent not in _watched:  # joblib's own workers outlive a killed parent
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
