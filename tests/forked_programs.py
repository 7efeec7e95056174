"""Programs one after the other, each forked from a process that has imported what takes long; run as a script.

Its argument is a JSON list of command lines: a program's path and its options. It ends with the first that fails.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from pathlib import Path

import faiss  # noqa: F401
import sklearn.cluster  # noqa: F401
import torchvision.transforms  # noqa: F401

import dclib.evaluate.linear_probe
import dclib.train.runs  # noqa: F401


def run(program: str, *options: str) -> int:
    """In a child: the program as Python would start it. Its exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        sys.argv, sys.path[0] = [program, *options], str(Path(program).parent)
        runpy.run_path(program, run_name="__main__")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    for command in json.loads(sys.argv[1]):
        if status := run(*command):
            sys.exit(f"{command[0]} ended with status {status}")
