"""What one should have seen: lines at the end of a page, and words for what numbers say.

Every word that judges (rises, ahead, luck) is chosen by the numbers, by the rule of the scorecard where networks are
compared, so that a page of other records ends otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from statistics import mean

from dclib.records import Record
from dclib.report.display import Fragment, fold
from dclib.report.margins import Check, Values, lead
from dclib.report.provenance import strip
from dclib.report.published import label_of
from dclib.report.series import plural, seeds_of, spread

Lines = Iterator[str]
MOVED = 0.02  # of mutual information: less is called the same
NOTHING = "The records of this page hold nothing yet that could be seen."


def shown_beside(
    own: Sequence[str], records: Sequence[Record], theirs: Sequence[str], published: Sequence[Record]
) -> Fragment:
    """The lines of a run, folded those of the published seeds, where there are any, and whose records these are."""
    lines, made_by = shown(own, _label(records)), strip(records, published)
    if published:
        whose = plural(len(seeds_of(published)), "published seed")
        lines += fold(f"The same by {whose}", shown(theirs, whose))
    return lines + made_by if any(record.card for record in (*records, *published)) else lines


def _label(records: Sequence[Record]) -> str:
    return label_of(records) if seeds_of(records) or not records else "what was counted"


def shown(lines: Sequence[str], whose: str) -> Fragment:
    """Lines as a list, under a word on whose records they follow from."""
    said = list(lines) or [NOTHING]
    head = f"By {whose}:" if lines else ""
    items = "".join(f"<li>{escape(line)}</li>" for line in said)
    html = f'<div class="dclib-finding dclib-seen">{f"<p><strong>{escape(head)}</strong></p>" if head else ""}'
    return Fragment(f"{html}<ul>{items}</ul></div>", "\n".join([head, "", *(f"- {line}" for line in said)]).strip())


def amount(values: Sequence[float], form: str = ".1f") -> str:
    """``42.1 ± 0.8``; without a deviation for one value."""
    deviation = f" ± {spread(values):{form.removeprefix('+')}}" if len(values) > 1 else ""
    return f"{mean(values):{form}}{deviation}".replace("-", "−")


def compared(one: str, other: str, where: str, margins: Values | None, unit: str = "points") -> Lines:
    """How far one is above the other, and whether luck explains it; nothing where one of them was not measured."""
    check = Check(one, other, margins, unit)
    if check.values:
        n = len(check.values)
        sure = f"in each of {n} seeds" if check.is_clear or check.is_against else "which luck may explain"
        said = sure if n > 1 else "in one seed, which cannot tell it from luck"
        yield f"{where}, {one} over {other}: {amount(check.values, '+.1f')} {unit}, {said}."


def moved(what: str, begin: Values, end: Values) -> Lines:
    """Whether an agreement rose, fell, or stayed, from first to last."""
    steps = lead(end, begin)
    if steps:
        change = mean(steps.values())
        verb = "rose" if change > MOVED else "fell" if change < -MOVED else "stayed"
        yield f"{what} {verb}, from {mean(begin.values()):.2f} to {mean(end.values()):.2f}."
