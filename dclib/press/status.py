"""What a book says of its own pages, in MyST: which ran, are old, published or missing. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dclib.config import Preset
from dclib.machine import cpu_name
from dclib.press.forecast import show_seconds
from dclib.press.runner import read_card
from dclib.press.stages import Stage, changed_parts, key_of
from dclib.records import read_records
from dclib.report.display import without_markup
from dclib.report.provenance import moment
from dclib.report.series import title_of

STAGES = "stages"  # folder of the executed pages below book/, as the table of contents names them
SHOWN_CHANGES = 6  # sources that a notice on a stale page names


def status_page(
    preset: Preset,
    stages: Sequence[Stage],
    keys: Mapping[str, str],
    folder: Path,
    listed: Sequence[str],
    *,
    other: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
) -> str:
    """A page: what ran for each page of the book, when, how long, where and on which versions.

    ``other``: of another edition in it, folder of its pages -> page -> run card, all of them up to date.
    """
    ran = {stage.page: card for stage in stages if (card := read_card(folder, stage.page))}
    devices = _devices(folder / "records")
    rows = [
        "| Page | Notebook | Time | Device | Finished | Key | State |",
        "|---|---|---|---|---|---|---|",
        *(_status_row(f"{STAGES}/{page}", card, keys[page], devices, listed) for page, card in ran.items()),
    ]
    for name, cards in (other or {}).items():
        rows += [_status_row(f"{name}/{page}", card, card["key"], {}, listed) for page, card in cards.items()]
    versions = {f"{name} {version}" for card in ran.values() for name, version in card["versions"].items()}
    parts = [
        "# What ran",
        f"Preset {without_markup(preset.name)}. {without_markup(preset.description)}".rstrip(),
        "Every page with results is a notebook that was executed for this book. Its key changes with anything it "
        "depends on: the notebook, its parameters, the preset, the source of the library it imports, the images, and "
        "the pages before it.",
        "\n".join(rows),
        f"Versions: {', '.join(sorted(versions)) or 'none recorded'}.\n",
    ]
    return "\n\n".join(parts)


def absent_page(page: str, preset: Preset, left_out: Mapping[str, str]) -> str:
    """What stands in for the page of a method that this preset did not run."""
    method = page.removeprefix(f"{STAGES}/pretraining_")
    why = left_out.get(page.removeprefix(f"{STAGES}/"), f"preset {preset.name} has no method of that name")
    return f"# Pre-training: {title_of(method)}\n\nThis network was not trained for this book: {without_markup(why)}.\n"


def missing_page(page: str) -> str:
    """What stands in for a page that could not be made."""
    title = page.replace("_", " ")
    return f"# {title[:1].upper()}{title[1:]}\n\nThis page has not been made: `make book` says why it could not be.\n"


def notices(stages: Sequence[Stage], parts: Mapping[str, Mapping[str, str]], folder: Path) -> dict[str, str]:
    """What stands at the top of pages that are published, or older than something they depend on."""
    found = {}
    for stage in stages:
        card = read_card(folder, stage.page) or {}
        if card.get("edition"):
            found[stage.page] = published_notice(card["edition"])
        elif card and card["key"] != key_of(parts[stage.page]):
            found[stage.page] = stale_notice(changed_parts(card.get("parts", {}), parts[stage.page]))
    return found


def stale_notice(changed: Sequence[str]) -> str:
    """Of a page that is older than something it depends on."""
    names = ", ".join(f"`{name}`" for name in changed[:SHOWN_CHANGES])
    more = f" and {len(changed) - SHOWN_CHANGES} more" if len(changed) > SHOWN_CHANGES else ""
    return (
        "```{warning}\nThis page is older than its sources: it was not run again since a change of "
        f"{names or 'something it depends on'}{more}. Run `make book` to renew it.\n```"
    )


def published_notice(origin: str, preset: str = "") -> str:
    """Of a page of the published edition; ``preset`` is that of another edition than the book's own."""
    own = "`make book` trains on this machine and puts its own numbers in their place."
    if preset:
        own = f"`make book PRESET={preset}` trains on this machine and makes a book of its own numbers."
    return f"```{{note}}\nPublished edition. What this page shows was not measured here: {origin}. {own}\n```"


def _status_row(
    page: str, card: Mapping[str, Any], key: str, devices: Mapping[str, set[str]], listed: Sequence[str]
) -> str:
    method = card["parameters"].get("method", "")
    device = ", ".join(sorted(devices.get(method, set()))) or cpu_name(card["threads"])
    state = "up to date" if card["key"] == key else "older than its sources"
    state = "published edition" if card.get("edition") else state
    cells = [
        f"[](../{page})" if page in listed else f"`{page.removeprefix(f'{STAGES}/')}`",
        f"`{card['notebook']}`",
        show_seconds(card["seconds"]).replace(" ", "\u00a0"),  # in one line
        device,
        moment(card["finished"]),
        f"`{card['key']}`",
        state,
    ]
    return f"| {' | '.join(cells)} |"


def _devices(records: Path) -> dict[str, set[str]]:
    """Devices on which each method was pre-trained, from its records."""
    cards = [r.card for r in read_records(records) if r.card and r.card.stage == "pretrain"]
    return {card.method: {c.device for c in cards if c.method == card.method} for card in cards}
