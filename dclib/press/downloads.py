"""The records behind a book's numbers, as files to download: one JSON and one CSV for each stage.

Both say of each run whose it is: this machine's own, or published.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dclib.records import Record, write_atomically
from dclib.report.provenance import WHOSE

CARD_COLUMNS = (
    "preset",
    "method",
    "seed",
    "device",
    "seconds",
    "created",
    "config_hash",
    "data_hash",
    "code_hash",
    "commit",
    "protocol",
)


Rows = Sequence[tuple[str, Record]]  # whose it is, and a record


def write_downloads(own: Sequence[Record], published: Sequence[Record], folder: Path) -> list[Path]:
    """Write ``<stage>.json`` and ``<stage>.csv`` for every stage that has records; returns the files."""
    stages: dict[str, list[tuple[str, Record]]] = {}
    for whose, records in ((WHOSE[False], own), (WHOSE[True], published)):
        for record in records:
            if record.card is not None:
                stages.setdefault(record.card.stage, []).append((whose, record))
    written = []
    for stage, rows in sorted(stages.items()):
        for suffix, content in (("json", as_json(rows)), ("csv", as_csv(rows))):
            path = folder / f"{stage}.{suffix}"
            write_atomically(path, content.encode())
            written.append(path)
    return written


def as_json(rows: Rows) -> str:
    """Runs, each with whose it is, its card and its records, as in the files of a run."""
    runs: dict[int, list[tuple[str, Record]]] = {}
    for whose, record in rows:
        runs.setdefault(id(record.card), []).append((whose, record))
    content = [
        {
            "whose": found[0][0],
            "card": asdict(found[0][1].card) if found[0][1].card else None,
            "records": [{k: v for k, v in asdict(r).items() if k != "card"} for _, r in found],
        }
        for found in runs.values()
    ]
    return json.dumps(content, indent=1, allow_nan=False)


def as_csv(rows: Rows) -> str:
    """A line for each record: name, value, unit, n, the keys that any record has, whose it is, and its run."""
    keys = list(dict.fromkeys(key for _, record in rows for key in record.keys))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", "value", "unit", "n", *keys, "whose", *CARD_COLUMNS])
    for whose, record in rows:
        own = [record.keys.get(key, "") for key in keys]
        run = [getattr(record.card, column, "") for column in CARD_COLUMNS]
        writer.writerow([record.name, record.value, record.unit, record.n, *own, whose, *run])
    return file.getvalue()
