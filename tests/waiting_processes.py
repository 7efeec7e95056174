"""Processes that wait for others which never come, and are asked to leave; run as a script, it prints what they did.

A line for each: what it waits for, the signal, its exit status and the seconds it took to leave. The processes are
forked from one that has imported everything.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import torch

from dclib.distributed import all_reduce_sum, process_group, rank, share_gradients, wait_for_all
from dclib.preemption import EXIT_STATUS, PreemptedError, heed_signals

INTERRUPTED = 130
WAITS = (
    ("to be joined", signal.SIGTERM),
    ("to join", signal.SIGTERM),
    ("a sum", signal.SIGTERM),
    ("gradients", signal.SIGTERM),
    ("gradients", signal.SIGINT),
)
JOINING = ("to be joined", "to join")


def wait_for(what: str, ready: Path) -> None:
    """Two processes that have met; the second goes away without a word, and its connections stay open."""
    with heed_signals(), process_group():
        if what not in JOINING:
            module = share_gradients(torch.nn.Linear(2, 2)) if what == "gradients" else None
            wait_for_all()
            ready.touch()
            if rank() == 1:
                time.sleep(60)
            elif module:
                module(torch.ones(1, 2)).sum().backward()
            else:
                all_reduce_sum(torch.zeros(3))


def forked(what: str, number: int, port: int, ready: Path) -> int:
    child = os.fork()
    if child:
        return child
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    status = 1
    faulthandler.dump_traceback_later(20, file=sys.stderr)  # where it is, if it has not left by then
    try:
        wait_for(what, ready)
    except PreemptedError:
        status = EXIT_STATUS
    except KeyboardInterrupt:
        status = INTERRUPTED
    os._exit(status)


def main(folder: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, and says nothing
    began: dict[int, tuple[str, str]] = {}
    others = []
    for i, (what, number) in enumerate(WAITS):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        ready = folder / str(i)
        place = (1, silent.getsockname()[1]) if what == "to join" else (0, port)
        waiting = forked(what, *place, ready)
        if what not in JOINING:
            others.append(forked(what, 1, port, ready))
        began[waiting] = what, number.name
    met = [folder / str(i) for i in range(len(WAITS)) if WAITS[i][0] not in JOINING]
    while not all(path.exists() for path in met):
        time.sleep(0.05)
    time.sleep(1)  # so that all of them are in the call that waits
    asked = time.monotonic()
    for process, (_, name) in began.items():
        os.kill(process, signal.Signals[name])
    while began and time.monotonic() - asked < 25:
        for process in list(began):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                what, name = began.pop(process)
                row = what, name, os.waitstatus_to_exitcode(status), f"{time.monotonic() - asked:.2f}"
                print(*row, sep="\t", flush=True)
        time.sleep(0.02)
    for process in [*began, *others]:
        os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job is started without
    importlib.import_module("torch._dynamo")  # the sharing of gradients would import it in each process
    main(Path(sys.argv[1]))
