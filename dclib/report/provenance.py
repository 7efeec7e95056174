"""Where the numbers of a page come from: records of a preset, and the strip under every result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from dclib.config import Preset
from dclib.methods import MODULES
from dclib.paper import task_of
from dclib.presets import edition, shown_folder
from dclib.records import DATA, Record, RunCard, read_records
from dclib.report.display import Fragment
from dclib.report.series import cards_of, order_methods, plural, title_of

CODE_SHOWN = 7  # digits of a hash that tell one code from another
DATA_FOLDER = "data"  # of the files to download, in the book
WHOSE = {True: "published", False: "own"}  # how files to download tell records apart that stand beside each other
# keys by which runs of one method and stage are meant to differ
VARIANTS = ("recipe", "setting", "split", "features", "share")


def load_records(preset: Preset) -> list[Record]:
    """Every record of a preset's runs, of the methods and seeds it has now; none when nothing ran yet.

    Those about the images themselves, whatever the network, have ``DATA`` for a method and come too.
    """
    found = read_records(shown_folder(preset.name) / "records")
    known = {*preset.methods, DATA}
    wanted = (r for r in found if r.card and r.card.method in known)
    return [r for r in wanted if r.card and (r.card.seed in preset.seeds or r.card.method == DATA)]


def strip(records: Sequence[Record], published: Sequence[Record] = (), *, folder: str = "") -> Fragment:
    """Whose the records above it are, and what they were made with: a line that opens, and one for those published.

    With a warning where they do not match. ``folder`` is where below its data the book keeps their files, if they are
    not those of its own runs and pages.
    """
    lines = [
        _line(of, there, folder)
        for of, there in ((records, edition() is not None), (published, True))
        if any(record.card for record in of)
    ]
    nothing = Fragment("<p><em>No records yet.</em></p>", "No records yet.")
    return sum(lines[1:], start=lines[0]) if lines else nothing


def _line(records: Sequence[Record], published: bool, folder: str = "") -> Fragment:
    """The line of records that are all published, or all this machine's."""
    cards, warnings = cards_of(records), find_mismatches(records)
    line = _summary(cards, published)
    rows = [(name, value) for name, value in _details(cards) if value]
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    alarm = "".join(f"<p><strong>Mind:</strong> {escape(warning)}</p>" for warning in warnings)
    files = "".join(f" {_links(stage, folder)}" for stage in dict.fromkeys(card.stage for card in cards))
    rows_html = f"{listed}<dt>files, in the book</dt><dd>{files} (whose: {WHOSE[published]})</dd>"
    html = (
        f'{alarm}<details class="dclib-provenance" style="font-size:.85em"><summary>{escape(line)}</summary>'
        f"<dl>{rows_html}</dl></details>"
    )
    text = [
        *(f"Mind: {warning}" for warning in warnings),
        line,
        *(f"{name}: {value}" for name, value in rows),
    ]
    return Fragment(html, "\n\n".join(text))


def named(records: Sequence[Record], *names: str) -> tuple[Record, ...]:
    """The records called ``names``, of which an exhibit is made."""
    return tuple(record for record in records if record.name in names)


def under(records: Sequence[Record], *names: str, published: Sequence[Record] = ()) -> Fragment | None:
    """The strip of the records called ``names``, to stand below what was made of them; None where there are none."""
    used, beside = named(records, *names), named(published, *names)
    return strip(used, beside) if used or beside else None


def under_pictures(preset: Preset, stage: str, method: str, seed: int) -> Fragment | None:
    """The strip of one run whose pictures are shown; None where its records are gone."""
    found = read_records(shown_folder(preset.name) / "records" / stage)
    used = [r for r in found if r.card and (r.card.method, r.card.seed) == (method, seed)]
    return strip(used) if used else None


def _links(stage: str, folder: str) -> str:
    """Links to the records of a stage as the book keeps them, beside its folder of pages."""
    name = escape(stage)
    place = "/".join(filter(None, (DATA_FOLDER, escape(folder), name)))
    return f'<a href="../{place}.json">{name}.json</a> <a href="../{place}.csv">{name}.csv</a>'


def find_mismatches(records: Sequence[Record]) -> list[str]:
    """One sentence for each way in which records that stand in one table were not made alike.

    Within a stage all networks of one kind of task must come from one version of the code; the seeds of one method from
    one configuration and one set of images; probes of one data set, whatever the method, from the same images.
    """
    cards = cards_of(records)
    variants = {id(r.card): "".join(f", {r.keys[k]}" for k in VARIANTS if k in r.keys) for r in records}
    said = []
    for stage in sorted({card.stage for card in cards}):
        here = [card for card in cards if card.stage == stage]
        for task in sorted({_task_of(card) for card in here}):  # each kind of task has code that is its alone
            alike = [card for card in here if _task_of(card) == task]
            said += _differences(alike, f"{stage}: records", lambda card: card.code_hash, "versions of the code")
        for method in order_methods(card.method for card in here):
            for variant in sorted({variants[id(card)] for card in here if card.method == method}):
                own = [card for card in here if card.method == method and variants[id(card)] == variant]
                who = f"{stage}: the seeds of {title_of(method)}{variant}"
                said += _differences(own, who, lambda card: card.config_hash, "configurations")
    return said + _data_mismatches(records)


def _task_of(card: RunCard) -> str:
    """The module of a network's task; empty for what is no network's."""
    return MODULES.get(str(card.config.get("method", task_of(card.method))), "")


def _data_mismatches(records: Sequence[Record]) -> list[str]:
    groups: dict[str, list[RunCard]] = {}
    of_each = {(id(r.card), r.keys.get("dataset"), r.keys.get("split")): r for r in records}  # a run has thousands
    for record in of_each.values():
        if record.card is not None:
            half, split = record.keys.get("dataset"), record.keys.get("split")
            seeds = f"{record.card.stage}: the seeds of {title_of(record.card.method)}{f', {split}' if split else ''}"
            who = f"probes on {half}" if half else seeds
            groups.setdefault(who, []).append(record.card)
    return [
        s for who, cards in groups.items() for s in _differences(cards, who, lambda c: c.data_hash, "sets of images")
    ]


def _differences(cards: Sequence[RunCard], who: str, hash_of: Callable[[RunCard], str], what: str) -> list[str]:
    hashes = sorted({hash_of(card) for card in cards})
    if len(hashes) < 2:
        return []
    return [f"{who} come from {len(hashes)} {what} ({', '.join(hashes)}); run the page again to make them alike."]


def _summary(cards: Sequence[RunCard], published: bool) -> str:
    return " · ".join(
        [
            origin(cards, published=published),
            f"preset {_listed(card.preset for card in cards)}",
            plural(len(cards), "run"),
            duration(sum(card.seconds for card in cards)),
        ]
    )


def origin(cards: Sequence[RunCard], *, published: bool) -> str:
    """Whose numbers these are: ``published: seeds 0, 1, 2, cpu (1 thread), 2026-01-02, code 0123abc``, or yours."""
    seeds = sorted({card.seed for card in cards})
    codes = list(dict.fromkeys(card.code_hash[:CODE_SHOWN] for card in cards))
    return ", ".join(
        [
            f"{'published' if published else 'yours'}: "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}",
            _listed(card.device for card in cards),
            max(card.created for card in cards)[:10],
            f"code {codes[0]}" if len(codes) == 1 else f"code of {len(codes)} stages",
        ]
    )


def _details(cards: Sequence[RunCard]) -> list[tuple[str, str]]:
    methods = order_methods(card.method for card in cards)
    configs = ", ".join(f"{title_of(m)} {_listed(c.config_hash for c in cards if c.method == m)}" for m in methods)
    versions = [", ".join(f"{package} {version}" for package, version in card.versions.items()) for card in cards]
    return [
        ("stage", _listed(card.stage for card in cards)),
        ("configuration", configs),
        ("data", _listed(card.data_hash for card in cards)),
        ("code", _listed(card.code_hash for card in cards)),
        *([("commit", commits)] if (commits := _listed(card.commit for card in cards if card.commit)) else []),
        ("versions", "; or ".join(dict.fromkeys(versions))),
        (
            "notes",
            "; ".join(dict.fromkeys(f"{key}: {value}" for card in cards for key, value in card.notes.items())),
        ),
        ("finished", moment(max(card.created for card in cards))),
    ]


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def moment(stamp: str) -> str:
    """A time as ISO 8601 has it, to be read: ``2 January 2026, 03:04 UTC``; as it is where it is no such time."""
    try:
        time = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    zone = f" {time.astimezone(UTC):UTC}" if time.tzinfo else ""
    time = time.astimezone(UTC) if time.tzinfo else time
    return f"{time.day} {time:%B %Y, %H:%M}{zone}"


def duration(seconds: float) -> str:
    """A time in the unit that reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
