"""The table of a busy machine: what two processes on the same cores cost each other."""

from __future__ import annotations

from collections.abc import Sequence

from dclib.records import Record, select
from dclib.report.display import Fragment, say
from dclib.report.scaling import ABSENT, origin
from dclib.report.series import plural
from dclib.report.tables import Cell, Group, Row, Table

PROGRAM = "neighbours"
COMPANIES = ("alone", "side by side")


def neighbours_table(records: Sequence[Record]) -> Table | Fragment:
    """Rates alone and of two side by side together, for every way in which threads wait; a group for each work."""
    found = select(records, "neighbours_rate")
    if not found:
        return say(ABSENT.format(PROGRAM))
    works = dict.fromkeys(str(record.keys["work"]) for record in found)
    return Table(
        caption="Two at once on the same cores",
        columns=("How threads wait, and threads", *COMPANIES, "side by side, of one after the other"),
        groups=tuple(Group(work, _rows([r for r in found if r.keys["work"] == work])) for work in works),
        notes=(
            "Side by side: both together. A book's stages have one thread each where there are as many as cores. "
            f"{origin(found, PROGRAM)}",
        ),
    )


def _rows(records: Sequence[Record]) -> tuple[Row, ...]:
    rows = []
    for wait, threads in dict.fromkeys((str(r.keys["wait"]), int(r.keys["threads"])) for r in records):
        own = {str(r.keys["company"]): r for r in select(records, "neighbours_rate", wait=wait, threads=threads)}
        alone, together = (own[company].value for company in COMPANIES)
        cells = (
            *(Cell(f"{rate:,.0f} {records[0].unit}") for rate in (alone, together)),
            Cell(f"{together / alone:.0%}"),
        )
        rows.append(Row(f"{wait}, {plural(threads, 'thread')} each", cells))
    return tuple(rows)
