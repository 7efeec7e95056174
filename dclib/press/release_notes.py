"""What is new in a release, told by its records: verdicts that changed, figures that changed, pages that came or went.

Two states of the project are compared, each as a folder: the one that is here, and an older one out of its history.
No torch here.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from dclib import __version__
from dclib.paper import CLAIMS
from dclib.presets import project_root
from dclib.press.publish import SHOWN_LAYERS, results_rows
from dclib.press.site import toc_pages
from dclib.records import Record, read_records
from dclib.report.scorecard import judge, tally
from dclib.report.series import cards_of, listed, plural

COMPARED = ("results", "book/_toc.yml")
SAME = "Nothing of it has changed."


def notes_since(revision: str = "") -> str:
    """Markdown on what has changed since a tag or commit; by default since the last tag, or from nothing on.

    Raises:
        ValueError: the project has no history, or no such revision.
    """
    root = project_root()
    if not revision:
        try:
            revision = _git(root, "describe", "--tags", "--abbrev=0", "HEAD^").decode().strip()
        except ValueError:
            return release_notes(None, root)
    with tempfile.TemporaryDirectory() as folder:
        there = _git(root, "ls-tree", "--name-only", revision, *COMPARED).decode().split()
        archive = _git(root, "archive", revision, *there) if there else b""
        if archive:
            with tarfile.open(fileobj=io.BytesIO(archive)) as files:
                files.extractall(folder, filter="data")
        return release_notes(Path(folder), root, since=revision)


def release_notes(old: Path | None, new: Path, *, since: str = "") -> str:
    """What the records and pages below ``new`` say otherwise than those below ``old``, as Markdown."""
    before, after = (_editions(folder) for folder in (old, new))
    title = f"# The book of DeeperCluster {__version__}"
    parts = [title, f"Changes since {since}, from records." if since else "The first release, told by its records."]
    for name in sorted({*before, *after}):
        parts += [f"## {name.capitalize()}", *_edition_notes(before.get(name, []), after.get(name, []))]
    return "\n\n".join([*parts, "## Pages", *_page_notes(_pages(old), _pages(new))]) + "\n"


def _git(root: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [""]
        raise ValueError(f"need a tag or commit of this project's history to compare with; git says: {said[0]}")
    return done.stdout


def _editions(root: Path | None) -> Mapping[str, list[Record]]:
    """The published records of each edition, by its name."""
    folders = sorted(root.glob("results/*/records")) if root else []
    return {folder.parent.name: read_records(folder) for folder in folders}


def _edition_notes(before: Sequence[Record], after: Sequence[Record]) -> list[str]:
    parts = [_verdict_notes(before, after), _figure_notes(before, after), _record_notes(before, after)]
    return [part for part in parts if part] or [SAME]


def _verdict_notes(before: Sequence[Record], after: Sequence[Record]) -> str:
    """The claims whose verdict is another one, and all verdicts counted."""
    claims = [claim for claim in CLAIMS if claim.is_the_papers]
    old, new = judge(before, claims), judge(after, claims)
    changed = [(was, now) for was, now in zip(old, new, strict=True) if was.outcome != now.outcome]
    if not changed:
        return ""
    rows = [f"| {now.claim.id} | {now.claim.statement} | {was.outcome} | {now.outcome} |" for was, now in changed]
    counted = f"{plural(len(changed), 'verdict')} changed. Now: {tally(new)}."
    return "\n".join([counted, "", "| claim | | before | now |", "|---|---|---|---|", *rows])


def _figure_notes(before: Sequence[Record], after: Sequence[Record]) -> str:
    """README's table where a number in it is another one: what was, and what is."""
    (header, *old), (_, *new) = results_rows(before), results_rows(after)
    known = {row[0]: row for row in old}
    lines = []
    for row in new:
        was = known.get(row[0], [row[0], *[""] * (len(row) - 1)])
        cells = [now if now == then else f"{then or '–'} → {now or '–'}" for then, now in zip(was, row, strict=True)]
        lines += [f"| {' | '.join(cells)} |"] if cells != row else []
    gone = [name for name in known if name not in {row[0] for row in new}]
    layers = f"Accuracy of linear probes on conv{listed(map(str, SHOWN_LAYERS))}, %, and agreement of clusters (NMI)"
    table = [f"{layers}, before → now.", "", f"| {' | '.join(header)} |", "|" + "---|" * len(header), *lines]
    said = ["\n".join(table)] if lines else []
    return "\n\n".join([*said, *([f"No longer measured: {listed(gone)}."] if gone else [])])


def _record_notes(before: Sequence[Record], after: Sequence[Record]) -> str:
    """The stages whose records are others, each with how many runs and values there are, and of which code."""
    old, new = _by_stage(before), _by_stage(after)
    changed = [stage for stage in sorted({*old, *new}) if _contents(old.get(stage)) != _contents(new.get(stage))]
    lines = [f"* {stage}: {_counted(new[stage]) if stage in new else 'gone'}" for stage in changed]
    return "\n".join(["Records that are others:", "", *lines]) if lines else ""


def _by_stage(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.card:
            found.setdefault(record.card.stage, []).append(record)
    return found


def _contents(records: Sequence[Record] | None) -> Counter[tuple[object, ...]]:
    """What was measured, of what, and by which code; not when, nor on what."""
    cards = ((record, record.card) for record in records or () if record.card)
    return Counter((r.name, r.value, *sorted(r.keys.items()), c.method, c.seed, c.code_hash) for r, c in cards)


def _counted(records: Sequence[Record]) -> str:
    cards = cards_of(records)
    codes = listed(sorted({card.code_hash for card in cards}))
    days = sorted({card.created[:10] for card in cards})
    return f"{plural(len(cards), 'run')}, {plural(len(records), 'value')}, code {codes}, until {days[-1]}"


def _pages(root: Path | None) -> list[str]:
    toc = root / "book" / "_toc.yml" if root else None
    return toc_pages(toc) if toc and toc.is_file() else []


def _page_notes(before: Sequence[str], after: Sequence[str]) -> list[str]:
    new, gone = [p for p in after if p not in before], [p for p in before if p not in after]
    lines = [
        f"{what}: {listed(f'`{page}`' for page in pages)}." for what, pages in (("New", new), ("Gone", gone)) if pages
    ]
    return lines or [f"{plural(len(after), 'page')}, as before."]
