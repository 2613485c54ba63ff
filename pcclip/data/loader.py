"""The loader: worker processes make the batches of the trainer's epoch, from where the epoch stands."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from pcclip.batch import PairBatch
from pcclip.data.damage import DamageTally
from pcclip.data.stream import GroupStream


class EpochLoader:
    """Iterates the batches of an epoch, beginning at the first that has not been consumed.

    Lightning restores its count of epochs and batches after it has asked for an iterator, so the place is looked up when the
    first batch is asked for. Not a DataLoader itself, for Lightning would replace its sampler.

    Args:
        batches: The batches.
        place: Epoch and number of the batch that comes next.
        tally: Counts what is damaged.
        num_workers: Worker processes; with 0, batches are made in this process.
        persistent: Whether the workers live on from epoch to epoch, with their token ids and open shards.
    """

    def __init__(
        self,
        batches: GroupStream,
        place: Callable[[], tuple[int, int]],
        tally: DamageTally,
        num_workers: int,
        persistent: bool,
    ) -> None:
        self.tally = tally
        self.waited = 0.0  # seconds
        self.roleless = 0  # pairs of this epoch
        self._batches = batches
        self._place = place
        self._order = _Order()
        self._loader: DataLoader[PairBatch] = DataLoader(
            batches,
            batch_size=None,
            sampler=self._order,
            num_workers=num_workers,
            persistent_workers=persistent and num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_obey_parent_alone,
            generator=torch.Generator(),  # the model's own random numbers stay as they are
        )

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[PairBatch]:
        epoch, number = self._place()
        self._order.places = [(epoch, n) for n in range(number, len(self._batches))]
        self.tally.begin_epoch()
        self.roleless = 0
        iterator = iter(self._loader)  # which starts the workers, before there is a thread that they would copy half
        stop = threading.Event()
        if self._batches.is_remote:
            threading.Thread(target=self._fetch_ahead, args=(epoch, number, stop), daemon=True).start()
        try:
            for left in reversed(range(len(self._order.places))):
                began = time.perf_counter()
                batch = next(iterator)
                if not left:  # which ends workers that do not live on: Lightning asks for no more than there are
                    next(iterator, None)
                self.waited += time.perf_counter() - began
                self.tally.add(batch.damaged)
                self.roleless += batch.roleless
                yield batch
        finally:
            stop.set()

    def close(self) -> None:
        """End the workers. Must be called: when Python exits it waits for them, and torch no longer tells them to end."""
        iterator, self._loader._iterator = self._loader._iterator, None
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: Lightning keeps the place itself. That there is a state tells it that the place can be taken up."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load; see `state_dict`."""

    def _fetch_ahead(self, epoch: int, number: int, stop: threading.Event) -> None:
        """Fetch the epoch's remote shards in the order in which the workers need them."""
        for shard in self._batches.shards_of(epoch, number):
            if stop.is_set():
                return
            try:
                self._batches.fetch(shard)
            except ConnectionError:  # which the worker that needs the shard will meet as well, and report
                return


class _Order(Sampler[tuple[int, int]]):
    """The epoch and numbers of the batches that are to be made."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _obey_parent_alone(worker: int) -> None:
    """Let a worker end when its parent says so, not when a scheduler signals all processes of a job.

    The parent saves a checkpoint first, and a worker that died would end it before.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS, where no scheduler is to be expected
        return
    signals = {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=_wait_for_parent, args=(signals,), daemon=True).start()


def _wait_for_parent(signals: set[signal.Signals]) -> None:
    while True:
        sent = signal.sigwaitinfo(signals)
        if sent.si_signo == signal.SIGTERM and sent.si_pid == os.getppid():
            os._exit(0)
