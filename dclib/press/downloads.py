"""The records behind a book's numbers, as files to download: one JSON and one CSV for each stage."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dclib.records import Record, write_atomically

CARD_COLUMNS = ("preset", "method", "seed", "device", "seconds", "created", "config_hash", "data_hash", "code_hash")


def write_downloads(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write ``<stage>.json`` and ``<stage>.csv`` for every stage that has records; returns the files."""
    stages: dict[str, list[Record]] = {}
    for record in records:
        if record.card is not None:
            stages.setdefault(record.card.stage, []).append(record)
    written = []
    for stage, found in sorted(stages.items()):
        for suffix, content in (("json", as_json(found)), ("csv", as_csv(found))):
            path = folder / f"{stage}.{suffix}"
            write_atomically(path, content.encode())
            written.append(path)
    return written


def as_json(records: Sequence[Record]) -> str:
    """Runs, each with its card and its records, as in the files of a run."""
    runs: dict[int, list[Record]] = {}
    for record in records:
        runs.setdefault(id(record.card), []).append(record)
    content = [
        {
            "card": asdict(found[0].card) if found[0].card else None,
            "records": [{k: v for k, v in asdict(r).items() if k != "card"} for r in found],
        }
        for found in runs.values()
    ]
    return json.dumps(content, indent=1, allow_nan=False)


def as_csv(records: Sequence[Record]) -> str:
    """A line for each record: name, value, unit, n, the keys that any record has, and its run."""
    keys = list(dict.fromkeys(key for record in records for key in record.keys))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", "value", "unit", "n", *keys, *CARD_COLUMNS])
    for record in records:
        own = [record.keys.get(key, "") for key in keys]
        run = [getattr(record.card, column, "") for column in CARD_COLUMNS]
        writer.writerow([record.name, record.value, record.unit, record.n, *own, *run])
    return file.getvalue()
