"""YFCC100M's metadata as a Parquet table that DuckDB queries, so that 10^8 lines need a laptop's memory.

Every line is read by :func:`dclib.data.yfcc_metadata.parse_metadata`, as in memory; DuckDB writes the columns and
answers questions about them, in files where memory does not suffice.
"""

from __future__ import annotations

import bz2
import codecs
import gc
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import astuple, dataclass
from itertools import count, repeat
from operator import attrgetter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dclib.config import config_hash
from dclib.data.yfcc_metadata import N_COLUMNS, N_NUMBERED, is_bz2, parse_lines, refuse_too_many, text_bytes
from dclib.machine import count_cores
from dclib.reading import encoding_of
from dclib.records import code_hash, lock, make_folder

# In memory a line takes five times its text: a table of this size, 170,000 lines, takes 330 MB and ten seconds, which
# any machine has; one process of a table's import needs about as much.
LARGE_BYTES = 2**26
PART_BYTES = 2**22  # of text that a process parses at once, about 10,000 lines
MEMORY = "1GB"  # that DuckDB may use before it goes on in files
SHOWN_BAD = 10  # malformed lines kept with the reason, of a part and of the table
TEXT, LIST, WHOLE, DEGREES, TIME = "VARCHAR", "VARCHAR[]", "BIGINT", "DOUBLE", "TIMESTAMP"
DTYPES: Mapping[str, str] = {WHOLE: "int64", DEGREES: "float64", TIME: "datetime64[us]"}

# Fields of PhotoMetadata; a row is a photograph, so none says that it is a video. Unknown dates and degrees are NULL;
# date_uploaded is UTC without saying so.
COLUMNS: Mapping[str, str] = {
    **{"line": WHOLE, "identifier": WHOLE, "user_id": TEXT, "user_nickname": TEXT},
    **{"date_taken": TIME, "date_uploaded": TIME, "capture_device": TEXT, "title": TEXT, "description": TEXT},
    **{"user_tags": LIST, "machine_tags": LIST, "longitude": DEGREES, "latitude": DEGREES, "accuracy": WHOLE},
    **{"page_url": TEXT, "download_url": TEXT, "licence_name": TEXT, "licence_url": TEXT},
    **{"server_id": TEXT, "farm_id": TEXT, "secret": TEXT, "secret_original": TEXT, "extension": TEXT},
    **{"hashtags": LIST},
}


@dataclass(frozen=True)
class TableFacts:
    """What an import came across."""

    n_lines: int  # blank ones left out
    n_bad: int  # malformed, so not in the table
    bad_lines: tuple[tuple[int, str], ...]  # the first of them: number from 0, and what is wrong
    n_videos: int  # left out of the table too


def is_large(path: Path) -> bool:
    """Whether a metadata file is better imported than read into memory."""
    return text_bytes(path) > LARGE_BYTES


def import_metadata(source: str | Path, folder: str | Path, *, max_bad: float = 0.01, processes: int = 0) -> Path:
    """The Parquet table of a metadata file, in ``folder``: one row per photo, in the order of the file.

    It is made unless it is there; its name holds the size and the time of the source and the code. An import that is
    stopped goes on, when started again, after the lines that it had written.

    Args:
        source: A file for :func:`dclib.data.yfcc_metadata.read_metadata`, plain or ``.bz2``, of any length.
        folder: Where the table is kept. Needs room for it twice while it is made; it is smaller than the text.
        max_bad: Share of lines that may be malformed; those are left out, and :func:`table_facts` tells of them.
        processes: That parse, each in some 150 MB of memory; 0 means one for each core, at most 8. With more than
            one, a script must guard its main part by ``if __name__ == "__main__":``.

    Raises:
        ValueError: the file is missing or empty, or more lines are malformed; the message shows the first.
        OSError: the folder cannot be written.
    """
    source, folder = Path(source), Path(folder)
    if not source.is_file():
        raise ValueError(f"no metadata at {source}: need a file of {N_COLUMNS} or {N_NUMBERED} tab-separated columns")
    state = source.stat()
    stamp = config_hash(
        state.st_size, state.st_mtime_ns, code_hash("reading", "data/yfcc_metadata", "data/metadata_table")
    )
    target = folder / f"{source.name}-{stamp}.parquet"
    make_folder(folder)
    with (folder / ".importing").open("w") as file:
        lock(file.fileno())  # two pages may want one table: the second waits and finds it
        if not target.is_file():
            _import(source, target, processes or min(8, count_cores()))
    facts = table_facts(target)
    refuse_too_many(source, facts.n_lines, facts.n_bad, facts.bad_lines, max_bad)
    return target


def table_facts(table: Path) -> TableFacts:
    """What an imported table was made from."""
    with connect(table.parent, threads=1) as connection:
        return _added_facts(connection, [table])


def connect(folder: Path, *, memory: str = MEMORY, threads: int = 0) -> duckdb.DuckDBPyConnection:
    """A DuckDB without a database, which uses at most ``memory`` and goes on in files below ``folder``.

    ``threads`` 0 means one for each core.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "threads": threads or count_cores(),
        "temp_directory": str(folder / f".spilled-{os.getpid()}"),
        "autoinstall_known_extensions": False,  # nothing is fetched
    }
    return duckdb.connect(config=settings)


def _import(source: Path, target: Path, processes: int) -> None:
    """Write the table from parts of some consecutive lines each; those that are there are kept."""
    parts = target.with_suffix(".parts")
    make_folder(parts)
    try:
        _write_parts(source, parts, processes)
        _join_parts(source, parts, target)
    except ValueError:
        shutil.rmtree(parts)  # the source is to blame: going on would not help
        raise
    shutil.rmtree(parts)


def _write_parts(source: Path, folder: Path, processes: int) -> None:
    jobs = (job for job in _read_parts(source, folder) if not job[1].is_file())
    if processes == 1:
        for job in jobs:
            _write_part(*job)
        return
    spawn = multiprocessing.get_context("spawn")
    # photos make no cycles; looking for some takes a fifth of the time
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=gc.disable) as pool:
        running: deque[Future[None]] = deque()
        for job in jobs:
            running.append(pool.submit(_write_part, *job))
            if len(running) > processes:  # no more text in memory than is needed to keep them busy
                running.popleft().result()
        for future in running:
            future.result()


def _read_parts(source: Path, folder: Path) -> Iterator[tuple[Path, Path, int, list[bytes]]]:
    """The source and the file of each part, the number of its first line and its lines, with a bar on a terminal."""
    first, start = 0, time.monotonic()
    with (
        source.open("rb") as stored,
        bz2.BZ2File(stored) if is_bz2(source) else nullcontext(stored) as text,
        tqdm(
            desc=source.name,
            total=source.stat().st_size,
            unit="B",
            unit_scale=True,
            disable=not sys.stderr.isatty(),
        ) as bar,
    ):
        for number in count():
            try:
                lines = text.readlines(PART_BYTES)
            except (EOFError, OSError) as error:
                what = "cut short" if isinstance(error, EOFError) else f"damaged ({error})"
                raise ValueError(f"{source} is {what}, after line {first:,} at least; fetch it again") from None
            if not lines:
                return
            if not first:
                lines[0] = _without_mark(source, lines[0])
            yield source, folder / f"{number:06d}.parquet", first, lines
            first += len(lines)
            bar.set_postfix_str(f"{first / (time.monotonic() - start):,.0f} lines/s", refresh=False)
            bar.update(stored.tell() - bar.n)


def _without_mark(source: Path, line: bytes) -> bytes:
    """The first line without a byte order mark. Raises ValueError where that says UTF-16: lines are parsed as bytes."""
    encoding = encoding_of(line)
    if encoding not in ("utf-8", "utf-8-sig"):
        raise ValueError(f"need {source} in UTF-8, it is in {encoding.upper()}; save it as UTF-8")
    return line.removeprefix(codecs.BOM_UTF8)


def _write_part(source: Path, target: Path, first: int, lines: list[bytes]) -> None:
    # broken UTF-8 in one title must not cost the table
    texts = ((first + i, line.decode("utf-8-sig", "replace")) for i, line in enumerate(lines))
    photos, bad_lines, n_videos = parse_lines((number, text) for number, text in texts if text.strip())
    if first == 0 and bad_lines and not (photos or n_videos):
        reason = bad_lines[0][1]
        raise ValueError(f"no metadata in {source}: none of its first {len(bad_lines):,} lines can be read; {reason}")
    n_lines = len(photos) + len(bad_lines) + n_videos
    facts = TableFacts(n_lines, len(bad_lines), tuple(bad_lines[:SHOWN_BAD]), n_videos)
    with connect(target.parent, memory="512MB", threads=1) as connection:
        fields = zip(*map(attrgetter(*COLUMNS), photos), strict=True) if photos else repeat((), len(COLUMNS))
        values = {n: _column(column, k) for (n, k), column in zip(COLUMNS.items(), fields, strict=True)}
        connection.register("photos", values)
        columns = ", ".join(f"{name}{'::JSON' * (kind == LIST)}::{kind} AS {name}" for name, kind in COLUMNS.items())
        _copy(connection, f"SELECT {columns} FROM photos", target, facts)


def _column(values: Iterable[Any], kind: str) -> NDArray[Any]:
    """A field of every photo, as DuckDB takes it."""
    if kind == TIME:
        values = (time and time.replace(tzinfo=None) for time in values)
    elif kind == LIST:
        # a list would be typed by a sample, which may hold empty ones only
        values = (json.dumps(tags) if tags else "[]" for tags in values)
    return np.fromiter(values, dtype=DTYPES.get(kind, object))


def _join_parts(source: Path, folder: Path, target: Path) -> None:
    """One table of all parts, in their order."""
    parts = sorted(folder.glob("[0-9]*.parquet"))
    with connect(folder) as connection:
        facts = _added_facts(connection, parts)
        if not facts.n_lines:
            raise ValueError(f"no metadata in {source}: it has no lines")
        files = ", ".join(_quoted(str(part)) for part in parts)
        _copy(connection, f"FROM read_parquet([{files}])", target, facts)


def _added_facts(connection: duckdb.DuckDBPyConnection, parts: Sequence[Path]) -> TableFacts:
    """What the import of some parts came across, in all."""
    query = "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = 'facts' ORDER BY file_name"
    rows = connection.execute(query, [list(map(str, parts))]).fetchall() if parts else []
    found = [json.loads(text) for (text,) in rows]
    n_lines, n_bad, n_videos = (sum(facts[place] for facts in found) for place in (0, 1, 3))
    bad_lines = [(number, reason) for facts in found for number, reason in facts[2]]
    return TableFacts(n_lines, n_bad, tuple(bad_lines[:SHOWN_BAD]), n_videos)


def _copy(connection: duckdb.DuckDBPyConnection, query: str, target: Path, facts: TableFacts) -> None:
    """Write the rows of a query to a Parquet file, in one atomic step. Raises OSError where the disk is full."""
    text = json.dumps(astuple(facts))
    options = f"FORMAT parquet, COMPRESSION zstd, KV_METADATA {{facts: {_quoted(text)}}}"
    unfinished = target.with_suffix(".unfinished")
    try:
        connection.execute(f"COPY ({query}) TO {_quoted(str(unfinished))} ({options})")
    except duckdb.IOException as error:
        unfinished.unlink(missing_ok=True)
        raise OSError(f"could not write {target}: {error}; free some space, then run again: it goes on") from error
    unfinished.replace(target)


def _quoted(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"
