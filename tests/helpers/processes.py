"""Processes that a test starts, alone or as ranks, and may kill. They are forked from one that has done the imports."""

import os
import socket
import sys
from collections.abc import Callable
from multiprocessing import connection, get_all_start_methods, get_context, set_start_method
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["pcclip.training_cli", "data_prep.steps.describe"])


def start(function: Callable[..., Any], *arguments: Any, printed: Path, **environment: str) -> BaseProcess:
    """Start a process that calls a function and exits with what it returns; stdout and stderr are appended to `printed`."""
    process = CONTEXT.Process(target=_call, args=(function, arguments, printed, environment))
    process.start()
    return process


def run_ranks(world_size: int, function: Callable[..., Any], *arguments: Any, printed: Path) -> str:
    """Call a function in processes that know of each other, as torchrun starts them, and return what they printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world_size)}
    ranks = [
        start(function, *arguments, printed=printed, RANK=str(rank), LOCAL_RANK=str(rank), **shared)
        for rank in range(world_size)
    ]
    running = {rank.sentinel: rank for rank in ranks}
    while running:
        ended = [running.pop(sentinel) for sentinel in connection.wait([*running], timeout=200)]
        if not ended or any(rank.exitcode for rank in ended):  # the others would wait for it
            for rank in running.values():
                rank.kill()
    said = printed.read_text()
    assert [rank.exitcode for rank in ranks] == [0] * world_size, said
    return said


def _call(function: Callable[..., Any], arguments: Any, printed: Path, environment: dict[str, str]) -> None:
    descriptor = os.open(printed, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    set_start_method(get_all_start_methods()[0], force=True)  # of workers, as in a process that was not forked
    sys.exit(function(*arguments))
