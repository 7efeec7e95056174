"""Measured values with their provenance: the only bridge from a run to the book.

A records file holds one run card (what ran, on what, from which code) and a list of values. No torch here, so
that the book builds where torch is absent.
"""

from __future__ import annotations

import ast
import ctypes
import errno
import fcntl
import glob
import hashlib
import itertools
import json
import math
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any

VERSIONED = ("torch", "torchvision", "faiss-gpu", "faiss-cpu", "numpy", "pillow", "scikit-learn", "scipy", "duckdb")

# what a disk without locks answers, and (EBADF) NFS where a folder is to be locked
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}
ELSEWHERE = (
    "choose a folder that can be written (for runs by the environment variable DCLIB_RUNS, for a book by --out, for a "
    "set of images by --to)"
)
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2: names as seen from here, and each takes the other's place
RESULTS = Path(__file__).parent.parent / "results"  # what is published, by preset; not there in an installed package
PROTOCOL = "PROTOCOL.md"  # in a preset's folder of them: what was settled before its runs
CHANGED = "-changed"  # ends a commit where dclib is not as it was committed
PARTIAL = ".partial"  # ends the name of a file that is being written
DATA = "data"  # stands for the method in records about the images themselves


class UnwrittenError(OSError):
    """A file or a folder could not be written; the message says which, why and what to do."""


@cache
def installed_versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that can change a number."""
    versions = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@cache
def source_commit() -> str:
    """The commit of the project that runs, by its first digits, with CHANGED if dclib is not as it was committed.

    The environment variable DCLIB_COMMIT says it for a copy that has no history, or another one.
    """
    if told := os.environ.get("DCLIB_COMMIT"):
        return told

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != RESULTS.parent.resolve():
            return ""  # the history of something around it
        return git("rev-parse", "--short=10", "HEAD") + (CHANGED if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def protocol_hash(preset: str) -> str:
    """Hash of what was settled for a preset before its runs, as it is written now; empty where nothing was."""
    path = RESULTS / preset / PROTOCOL
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""


@dataclass(frozen=True, kw_only=True)
class RunCard:
    """Where a value came from."""

    stage: str  # "pretrain", "linear_probe", ...
    preset: str
    method: str  # name in the preset
    seed: int
    config_hash: str
    data_hash: str
    code_hash: str
    device: str  # "AMD EPYC (2 threads, float32)", or the GPU's name
    seconds: float  # wall time of the stage; over several sittings, their sum
    protocol: str = ""  # hash of that under which it was made; put in where it is written
    commit: str = field(default_factory=source_commit)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    versions: Mapping[str, str] = field(default_factory=installed_versions)
    config: Mapping[str, Any] = field(default_factory=dict)  # the settings themselves, as read
    notes: Mapping[str, Any] = field(default_factory=dict)  # facts worth a line: back-end that ran, images skipped


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measured value."""

    name: str  # what was measured: "top1", "nmi_labels", "loss", ...
    value: float
    unit: str  # "%", "nats", "1" for dimensionless, "clusters", "s"
    n: int  # how many images (or repeats) it was measured on
    keys: Mapping[str, str | int] = field(default_factory=dict)  # where: layer, dataset, epoch, assignment
    card: RunCard | None = None  # filled in when read back


def write_records(path: Path, card: RunCard, records: Sequence[Record]) -> None:
    """Write a run card, with the protocol of its preset, and its values to ``path`` in one atomic step.

    Raises:
        ValueError: a value is not finite; the message names it. Nothing is written.
    """
    for record in records:
        if not math.isfinite(record.value):
            raise ValueError(
                f"record {record.name!r} {dict(record.keys)} must be finite to be published; got {record.value}"
            )
    rows = [json.dumps({k: v for k, v in asdict(record).items() if k != "card"}, allow_nan=False) for record in records]
    # one value a line, so that files stay small and their differences readable
    card = replace(card, protocol=protocol_hash(card.preset))
    content = f'{{"card": {json.dumps(asdict(card), indent=1)},\n"records": [\n' + ",\n".join(rows) + "\n]}\n"
    write_atomically(path, content.encode())


def read_records(folder: Path) -> list[Record]:
    """Every record under ``folder``, in file order, each with its run card."""
    found: list[Record] = []
    for path in sorted(Path(folder).rglob("*.json")):
        state = path.stat()
        found += _records_of(path, state.st_mtime_ns, state.st_size, state.st_ino)
    return found


@lru_cache(maxsize=4096)  # a page reads them several times, and several pages may be made by one process
def _records_of(path: Path, *state: int) -> tuple[Record, ...]:
    """The records in a file, while it is in one ``state``."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not (isinstance(content, dict) and {"card", "records"} <= content.keys()):
        raise ValueError(f"{path} is not a records file: it needs 'card' and 'records'; delete it and run again")
    card = RunCard(**{"commit": "", **content["card"]})
    return tuple(Record(**row, card=card) for row in content["records"])


def select(records: Iterable[Record], name: str, **where: str | int) -> list[Record]:
    """Records called ``name`` whose keys or run card (method, seed, preset, stage) have the given values."""

    def value_of(record: Record, key: str) -> object:
        return record.keys[key] if key in record.keys else getattr(record.card, key, None)

    return [r for r in records if r.name == name and all(value_of(r, k) == v for k, v in where.items())]


@cache
def code_hash(*rooms: str) -> str:
    """Hash of the source of dclib's rooms (``"models"``, ``"train/pretrain"``), or of all of it.

    Comments, docstrings and layout do not count, nor which Python reads it: two sources that run alike hash alike.
    """
    package = Path(__file__).parent
    files: set[Path] = set()
    for room in rooms:
        found = {f for f in [*(package / room).rglob("*.py"), package / f"{room}.py"] if f.is_file()}
        if not found:
            raise ValueError(f"no source for the room {room!r} in {package.name}")
        files |= found
    digest = hashlib.sha256()
    for path in sorted(files or package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(_spelled(_without_docstrings(ast.parse(path.read_text(encoding="utf-8")))).encode())
    return digest.hexdigest()[:12]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or none; see :func:`replacing`."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of ``path`` once it is complete, and vanishes if it never is.

    Raises:
        OSError: the folder cannot be written or the disk is full; what was at ``path`` is untouched.
    """
    path = Path(path)
    make_folder(path.parent)
    try:
        with temporary_for(path) as temporary, temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except UnwrittenError:
        raise  # of something written on the way
    except OSError as error:
        raise _unwritten(path, error) from error


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``path`` once it is complete; :func:`replacing` for folders.

    Beside it there is room for what is needed on the way, which vanishes in any case.

    Raises:
        OSError: it cannot be written or the disk is full; what was at ``path`` is untouched.
    """
    path = Path(path)
    make_folder(path.parent)
    try:
        _remove_leftovers(path)
        around, descriptor = _locked_folder(path)
        try:
            around.chmod(0o755)
            (around / "new").mkdir()
            yield around / "new"
            _swap(around / "new", path, around)
        finally:
            os.close(descriptor)
            if path.exists() or not any(around.glob("old*")):  # else it holds the only one there is
                shutil.rmtree(around, ignore_errors=True)
    except UnwrittenError:
        raise  # of something written on the way
    except OSError as error:
        raise _unwritten(path, error) from error


def lock(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file or folder until it is closed; False on a disk that has no locks, where all goes on without.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is not wanted.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    return True


@contextmanager
def held(path: Path, *, shared: bool = False) -> Iterator[None]:
    """While this lasts, ``path`` (a file or folder that is there) is locked; others wait for it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        lock(descriptor, shared=shared)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def temporary_for(path: Path) -> Iterator[Path]:
    """An empty file beside ``path`` that takes its place if all goes well, and vanishes if not.

    What a writer of ``path`` has left that was killed outright is deleted by the next one.
    """
    _remove_leftovers(path)
    with _locked_file(path) as file:
        temporary = Path(file.name)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def reserve(path: Path) -> None:
    """Take the room on the disk that a file's length stands for.

    Else a file that is written through memory has holes, and a disk that is full by then ends the process by a signal.

    Raises:
        OSError: there is no such room.
    """
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, path.stat().st_size))
        except AttributeError:  # a system without it
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # else a disk without it
                raise _unwritten(path, error) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises OSError with what to do where that cannot be."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwrittenError(f"could not make the folder {folder}: {error.strerror or error}; {ELSEWHERE}") from error


def _locked_file(path: Path) -> IO[bytes]:
    """A new file beside ``path``, locked; one that another writer took for a leftover before it was is made anew."""
    while True:
        new = tempfile.NamedTemporaryFile(  # noqa: SIM115, for the caller closes it
            dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL, delete=False
        )
        lock(new.fileno())  # a disk without locks keeps leftovers
        if os.fstat(new.fileno()).st_nlink:
            return new
        new.close()


def _locked_folder(path: Path) -> tuple[Path, int]:
    """A new folder beside ``path`` and what holds it locked; as with :func:`_locked_file`."""
    while True:
        around = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL))
        with suppress(FileNotFoundError):
            descriptor = os.open(around, os.O_RDONLY)
            lock(descriptor)
            if around.exists():
                return around, descriptor
            os.close(descriptor)


def _remove_leftovers(path: Path) -> None:
    """Delete unfinished versions of ``path`` whose writer is dead: one that lives holds its own locked."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL}"):
        with suppress(OSError):  # it is locked, or gone already
            descriptor = os.open(leftover, os.O_RDONLY if leftover.is_dir() else os.O_RDWR)
            try:
                if not lock(descriptor, wait=False):
                    return
                for before in leftover.glob("old*") if not path.exists() else ():  # it ended between two renames
                    before.rename(path)
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            finally:
                os.close(descriptor)


def _swap(new: Path, path: Path, around: Path) -> None:
    """``new`` in the place of ``path``, and what was there below ``around``; back again if that cannot be.

    Where the system can exchange two names there is no moment without a ``path``.
    """
    if _exchanged(new, path):
        return
    for attempt in itertools.count():
        before = around / f"old{attempt}"
        if path.exists():
            path.rename(before)
        try:
            new.rename(path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else another has just put its own there
                with suppress(OSError):
                    before.rename(path)
                raise


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two files or folders that are there have changed their names in one step, which Linux can."""
    exchange: Any = getattr(ctypes.CDLL(None), "renameat2", None)
    return exchange is not None and exchange(AT_FDCWD, bytes(one), AT_FDCWD, bytes(other), RENAME_EXCHANGE) == 0


def _unwritten(path: Path, error: OSError) -> UnwrittenError:
    """One sentence; many failures of a copied folder are told by the first."""
    several = isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list)
    reason = error.args[0][0][2] if several else error.strerror or error
    return UnwrittenError(
        f"could not write {path}: {reason}; the last complete version, if any, is intact. "
        f"Free some space or {ELSEWHERE}, then run again: a run continues by itself"
    )


def _spelled(part: object) -> str:
    """A syntax tree in letters, without what is empty: each Python has fields of its own that say nothing."""
    if isinstance(part, ast.AST):
        fields = ((name, getattr(part, name, None)) for name in part._fields)
        return (
            f"{type(part).__name__}({', '.join(f'{n}={_spelled(v)}' for n, v in fields if v is not None and v != [])})"
        )
    return f"[{', '.join(map(_spelled, part))}]" if isinstance(part, list) else repr(part)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    return tree
