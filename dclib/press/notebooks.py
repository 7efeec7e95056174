"""One notebook with parameters: checked before it runs, executed whole, cleaned for publication.

Papermill puts the parameters in, and nbclient executes. The one only warns about a mistyped parameter, and a notebook
whose kernel was killed can look finished. Here the first is an error before anything runs, and the second an error
before anything is published.
As a program it is the process in which stages execute, told which by :mod:`dclib.press.workers`, a line each.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from dclib.press.titles import fill_titles
from dclib.records import write_atomically

KERNEL = "python3"  # every environment with ipykernel has it: nothing needs registering
KERNEL_STARTS = 3
KERNEL_SECONDS = 300  # until one answers, on a machine where others work too; it takes two
KERNEL_DIED = "Kernel died before replying to kernel_info"  # what jupyter_client says, as a plain RuntimeError
EMPTIES = "empties-the-kernel"  # tag of the cell that does, which is not published
EMPTY_KERNEL = """\
get_ipython().reset()
__spec__ = None  # which a process that is started from here asks for
import sys
if "matplotlib.pyplot" in sys.modules:
    sys.modules["matplotlib.pyplot"].close("all")
if "torch" in sys.modules:
    sys.modules["torch"].cuda.empty_cache()  # for others; without effect where there is no GPU
del sys
"""
PARENT_SECONDS = 0.5  # between two looks whether the parent is there
INJECTED_ID = "injected-parameters"  # papermill would draw a new cell id at every run
TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


class Kernel:
    """One in which notebooks run one after the other; the first of them starts it."""

    def __init__(self) -> None:
        self.manager = AsyncKernelManager(kernel_name=KERNEL)

    def end(self) -> None:
        """End it, if it is there."""
        if self.manager.has_kernel:
            run_sync(self.manager.shutdown_kernel)(now=True)

    def renew(self) -> None:
        """Put another one in its place, with another manager: one whose kernel has ended starts no other."""
        self.end()
        self.manager = AsyncKernelManager(kernel_name=KERNEL)


class NotebookError(Exception):
    """A notebook did not run to its end; the message says in which cell and why, in a few lines."""


def read_notebook(path: Path) -> Any:
    """The notebook at ``path``, with the environment's own kernel whatever it was saved with.

    Raises:
        ValueError: there is no such file, or it is no notebook.
    """
    try:
        notebook = _read(path)
    except OSError as error:
        raise ValueError(f"need a notebook at {path}; it cannot be read: {error.strerror or error}") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{path} is not a notebook: {reason}") from None
    notebook.metadata["kernelspec"] = {"name": KERNEL, "language": "python", "display_name": "Python 3"}
    return notebook


def source_of(notebook: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Kind, text and metadata (captions, tags) of every cell: what a notebook is, without outputs and ids."""
    return [(cell.cell_type, cell.source, dict(cell.metadata)) for cell in notebook.cells]


def code_of(notebook: Any) -> str:
    """The Python of all code cells, without IPython's own commands."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code" and not cell.source.startswith("%%")]
    lines = "\n".join(cells).splitlines()
    return "\n".join("" if line.startswith(("%", "!")) else line for line in lines)


def check_parameters(path: Path, parameters: Mapping[str, Any]) -> None:
    """Compare ``parameters`` with the notebook's own annotated cell.

    Raises:
        ValueError: the notebook has no cell tagged ``parameters`` or several, or one of ``parameters`` is not
            in it, or has another type than its annotation, or a title asks for one that is not there.
    """
    notebook = read_notebook(path)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{path.name} needs exactly one cell tagged 'parameters'; it has {len(tagged)}")
    known = papermill.inspect_notebook(notebook)
    for name, value in parameters.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known) or 'none'}"
            raise ValueError(f"{path.name} has no parameter {name!r}; {hint}")
        annotation = known[name]["inferred_type_name"]
        allowed = TYPES.get(annotation.split("[")[0].strip())
        # bool is an int to Python, but True epochs is a mistake
        if allowed and (not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)):
            raise ValueError(f"parameter {name!r} of {path.name} must be {annotation}; got {value!r}")
    fill_titles(notebook, parameters)


def execute(
    path: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    cwd: Path,
    timeout: int,
    kernel: Kernel | None = None,
) -> None:
    """Run the notebook at ``path`` and write it, executed and cleaned, to ``output``.

    After a failure ``output`` holds what had run, for the reader of the error.

    Args:
        timeout: Seconds one cell may take.
        kernel: One that other notebooks have run in, and will; it is started if it is not, and emptied first. By
            default a new one, which ends with the notebook.

    Raises:
        NotebookError: a cell failed or took too long, or the kernel was killed.
    """
    notebook = fill_titles(read_notebook(path), parameters)
    if kernel is not None:
        first = new_code_cell(EMPTY_KERNEL, metadata={"tags": [EMPTIES]})  # type: ignore[no-untyped-call]
        notebook.cells.insert(0, first)
    notebook = load_notebook_node(notebook)  # with the metadata that the next line fills
    notebook = parameterize_notebook(notebook, dict(parameters), kernel_name=KERNEL, language="python")
    failure = ""
    try:
        _execute_where_a_kernel_starts(kernel, notebook, cwd, timeout)
    except CellExecutionError as error:
        failure = f"{error.ename}: {error.evalue}\nin {_failed(notebook)}"
    except DeadKernelError:
        failure = _killed(notebook)
    except CellTimeoutError:
        failure = f"a cell took longer than {timeout} s\nin {_begun(notebook)}; raise --timeout"
    if not failure and unfinished_cells(notebook):
        failure = _killed(notebook)
    write_atomically(output, _written(notebook if failure else clean(notebook)))
    if failure:
        raise NotebookError(failure)


def _execute_where_a_kernel_starts(kernel: Kernel | None, notebook: Any, cwd: Path, timeout: int) -> None:
    """Execute all cells in place, again where the kernel died before its first cell.

    Kernels that start at the same moment can be given the same port; the one that comes second dies. Nothing has run
    by then, so another try is safe.
    """
    for attempt in range(KERNEL_STARTS):
        client = NotebookClient(
            notebook,
            km=kernel.manager if kernel else None,
            kernel_name=KERNEL,
            timeout=timeout,
            startup_timeout=KERNEL_SECONDS,
            raise_on_iopub_timeout=True,
            resources={"metadata": {"path": str(cwd)}},
        )
        try:
            _execute_cells(client)
            return
        except RuntimeError as error:
            if str(error) != KERNEL_DIED or attempt + 1 == KERNEL_STARTS:
                raise
            if kernel:
                kernel.renew()


def _execute_cells(client: NotebookClient) -> None:
    """As the client would by itself, which however ends at exit a kernel that others go on with, too."""
    client.reset_execution_trackers()
    with client.setup_kernel():
        for index, cell in enumerate(client.nb.cells):
            client.execute_cell(cell, index)
        kernel: Any = client.kc
        told: Any = client.wait_for_reply(kernel.kernel_info())
        client.nb.metadata["language_info"] = told["content"]["language_info"]
        client.set_widgets_metadata()


def unfinished_cells(notebook: Any) -> list[str]:
    """First line of each code cell that the kernel never answered for.

    The reply's time stamp is the only trace that tells a finished cell from one whose kernel was killed.
    """
    return [
        _first_line(cell.source)
        for cell in notebook.cells
        if cell.cell_type == "code"
        and cell.source.strip()
        and "shell.execute_reply" not in cell.metadata.get("execution", {})
    ]


def clean(notebook: Any) -> Any:
    """The same notebook without time stamps, machine paths and random ids, so that two runs compare."""
    notebook.metadata["papermill"] = {"parameters": notebook.metadata.get("papermill", {}).get("parameters", {})}
    notebook.cells = [cell for cell in notebook.cells if EMPTIES not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = INJECTED_ID
    return notebook


def modules_used(code: str) -> tuple[str, ...]:
    """The modules of dclib that ``code`` imports, and all that they import, as ``code_hash`` names them.

    Raises:
        SyntaxError: ``code`` is not Python.
    """
    package = Path(__file__).resolve().parent.parent
    found: set[str] = set()
    waiting = [code]
    while waiting:
        for module in _imports(waiting.pop()):
            name = module.removeprefix("dclib.").replace(".", "/")
            path = package / f"{name}.py"
            if not path.is_file():
                name, path = f"{name}/__init__", package / name / "__init__.py"
            if path.is_file() and name not in found:
                found.add(name)
                waiting.append(source := path.read_text(encoding="utf-8"))
                if "import_module(" in source and path.stem == "__init__":  # it finds what lies beside it by itself
                    beside = name.removesuffix("__init__").replace("/", ".")
                    waiting += [f"import dclib.{beside}{other.stem}" for other in sorted(path.parent.glob("*.py"))]
    return tuple(sorted(found))


@cache  # every page imports much the same modules
def _imports(code: str) -> frozenset[str]:
    """Dotted names below dclib that ``code`` may import; names that are no modules are among them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return frozenset(name for name in names if name.startswith("dclib."))


def _killed(notebook: Any) -> str:
    return (
        f"the kernel was killed, most often because memory ran out\nin {_begun(notebook)}; "
        "try fewer --jobs or smaller settings"
    )


def _failed(notebook: Any) -> str:
    """The cell that raised."""
    for cell in notebook.cells:
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            return f"cell {cell.execution_count}, which begins {_first_line(cell.source)!r}"
    return "no cell"


def _begun(notebook: Any) -> str:
    """The cell at work when the kernel fell silent."""
    unfinished = unfinished_cells(notebook)
    return f"the cell which begins {unfinished[0]!r}" if unfinished else "no cell: all had ended"


def _first_line(source: str) -> str:
    lines = [line.strip() for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
    return lines[0] if lines else ""


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def _written(notebook: Any) -> bytes:
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text.encode()


def _main(jobs: Iterable[str]) -> None:
    """Execute the jobs that come, a line each, one after the other in one kernel; after a failure in a new one."""
    kernel = Kernel()
    threading.Thread(target=_leave_with_parent, args=(kernel, os.getppid()), daemon=True).start()
    for job in jobs:
        if not _execute_job(json.loads(job), kernel):
            kernel.renew()  # a notebook that failed may have left anything behind


def _execute_job(job: Mapping[str, Any], kernel: Kernel) -> bool:
    """Whether a job was executed to its end; its file ``error`` says why not, its file ``done`` that it was."""
    os.chdir(job["cwd"])
    try:
        execute(
            Path(job["notebook"]),
            Path(job["output"]),
            job["parameters"],
            cwd=Path(job["cwd"]),
            timeout=job["timeout"],
            kernel=kernel,
        )
    except (NotebookError, ValueError, OSError) as error:
        write_atomically(Path(job["error"]), str(error).encode())
        return False
    write_atomically(Path(job["done"]), b"")
    return True


def _leave_with_parent(kernel: Kernel, parent: int) -> None:
    """End this process, and the kernel with what it has started, once the parent has gone: nobody waits."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    manager = kernel.manager
    if manager.provisioner is not None and manager.has_kernel:
        with suppress(OSError):
            os.killpg(manager.provisioner.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    os._exit(1)


if __name__ == "__main__":
    _main(sys.stdin)
