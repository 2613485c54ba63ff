"""Loader of the batches of an epoch. After a resume it starts at the first batch that was not used for training."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from pcclip.batch import PairBatch
from pcclip.data.damage import DamageTally
from pcclip.data.stream import GroupStream


class EpochLoader:
    """Iterable over the batches of an epoch, starting at the first batch that training has not used yet.

    Lightning restores its count of epochs and batches after it calls `iter`. So the position is read when the first batch is
    requested. This class is no DataLoader, since Lightning would replace its sampler.

    Args:
        batches: The batches.
        place: Returns epoch and number of the next batch.
        tally: Counts damage.
        num_workers: Worker processes; with 0, batches are made in this process.
        persistent: Whether workers live for all epochs, with their cached token ids and open shards.
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
        self._order: list[tuple[int, int]] = []  # epoch and number of the batches to make
        self._loader: DataLoader[PairBatch] = DataLoader(
            batches,
            batch_size=None,
            sampler=self._order,
            num_workers=num_workers,
            persistent_workers=persistent and num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_obey_parent_alone,
            generator=torch.Generator(),  # does not advance the model's random numbers
        )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[PairBatch]:
        epoch, number = self._place()
        self._order[:] = [(epoch, later) for later in range(number, len(self._batches))]
        self.tally.begin_epoch()
        self.roleless = 0
        iterator = iter(self._loader)  # forks the workers, before a second thread starts
        stop = threading.Event()
        if self._batches.is_remote:
            threading.Thread(target=self._fetch_ahead, args=(epoch, number, stop), daemon=True).start()
        try:
            for left in reversed(range(len(self._order))):
                began = time.perf_counter()
                batch = next(iterator)
                if not left:  # Lightning requests no batch after the last one, so non-persistent workers would not end
                    next(iterator, None)
                self.waited += time.perf_counter() - began
                self.tally.add(batch.damaged)
                self.roleless += batch.roleless
                yield batch
        finally:
            stop.set()

    def close(self) -> None:
        """End the worker processes. Without this call Python would wait for them at exit."""
        iterator, self._loader._iterator = self._loader._iterator, None
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state. Lightning stores the position; this method only marks the loader as resumable."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing; see `state_dict`."""

    def _fetch_ahead(self, epoch: int, number: int, stop: threading.Event) -> None:
        """Copy the epoch's remote shards in the order in which the workers need them."""
        for shard in self._batches.shards_of(epoch, number):
            if stop.is_set():
                return
            try:
                self._batches.fetch(shard)
            except ConnectionError:  # the worker that needs the shard raises it
                return


def _obey_parent_alone(worker: int) -> None:
    """Let a worker ignore signals that a scheduler sends to all processes of a job, and obey only its parent.

    The parent saves a checkpoint first. It would fail if a worker had already ended.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS, where no scheduler is expected
        return
    signals = {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=_wait_for_parent, args=(signals,), daemon=True).start()


def _wait_for_parent(signals: set[signal.Signals]) -> None:
    while True:
        sent = signal.sigwaitinfo(signals)
        if sent.si_signo == signal.SIGTERM and sent.si_pid == os.getppid():
            os._exit(0)
