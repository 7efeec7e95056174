"""How far a run is, on the front page: words that were true when the book was built, and a file that is read again.

A page opened as a file cannot fetch, but it can load a script: ``progress/state.js`` is written anew while a run goes
on, and ``progress/watch.js`` loads it every few seconds and puts what it says into the page. No torch here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from dclib.press.forecast import show_seconds
from dclib.press.runner import Progress
from dclib.records import write_atomically
from dclib.report.series import plural

STATE = "progress/state.js"  # below the book


def edition_html(total: int, published: Sequence[str], origin: str, beside: str = "") -> str:
    """Whose numbers a book of ``total`` pages with results shows, and the place for how far a run is, as HTML.

    ``beside`` is the name of another edition that is a part of it.
    """
    if published:
        own = f"{total - len(published) or 'None'} of {plural(total, 'page')} with results were made on this machine"
        others = "the others" if len(published) < total else "they"
        said = f"{own}; {others} are the published edition ({origin}), and each says so."
    else:
        said = "Every page with results was made on this machine; published seeds stand beside where that is said."
    said += f" The part {beside.capitalize()} is a published edition of its own." if beside else ""
    return (
        f'<div class="dclib-edition"><p>{escape(said)}</p><p id="dclib-progress" role="status"></p></div>'
        '<script src="progress/watch.js"></script>'
    )


def write_state(html: Path, state: Mapping[str, object]) -> None:
    """Put a state where the front page of the book at ``html`` reads it; nothing where no book is at this moment."""
    stamp = {"updated": datetime.now(UTC).isoformat(timespec="seconds")}
    if html.is_dir():
        with suppress(OSError):  # the book was just replaced, and the next state goes to the new one
            write_atomically(html / STATE, f"dclibProgress({json.dumps({**state, **stamp})});\n".encode())


def running_state(progress: Progress) -> dict[str, object]:
    """A run under way."""
    counts = [outcome.status for outcome in progress.settled.values()]
    return {
        "running": list(progress.running),
        "done": [page for page, outcome in progress.settled.items() if outcome.status in ("done", "skipped")],
        "failed": [page for page, outcome in progress.settled.items() if outcome.is_missing],
        "waiting": list(progress.waiting),
        "total": len(counts) + len(progress.running) + len(progress.waiting),
        "left": show_seconds(progress.seconds_left) if progress.seconds_left >= 1 else "",
    }


def ended_state(words: str) -> dict[str, object]:
    """A run that is over, in words."""
    return {"ended": words}
