"""What came out, for the front page: made from records and from figures of pages that have run, when the book is built.

Nothing is drawn anew here, so that it needs neither images nor torch. No torch here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from dclib import __version__
from dclib.config import Preset
from dclib.paper import CLAIMS
from dclib.press.citation import citation_facts
from dclib.press.part import ABOUT, Part
from dclib.records import Record
from dclib.report.display import say, with_code
from dclib.report.exhibits import data_notice
from dclib.report.provenance import duration
from dclib.report.scorecard import tally
from dclib.report.series import cards_of, listed, plural
from dclib.report.verdict_figure import DRAWINGS, Lane, lanes_of, verdict_strip

FRONT = "_generated/front.html"  # below book/, which the front page includes
ACCURACY = ("linear_probes", "accuracy-objects")  # page and name of a figure
CLUSTERS = (("colour", "uniform-deepercluster_rgb"), ("colour", "uniform-deepercluster"))
SHOWN = ("python", "torch")  # whose versions are named; each strip of a page names all
NOTHING = "Nothing has been measured yet: the result stands here once the pages have run."


def front_html(
    preset: Preset, records: Sequence[Record], published: Sequence[Record], pages: Path, part: Part | None = None
) -> str:
    """The result as HTML, with links as seen from the book's first page.

    Args:
        records: Of this run.
        published: Of several seeds, where the project has them.
        pages: Folder of the executed notebooks.
        part: Another edition in the same book, which gets a strip of its own.
    """
    lanes = lanes_of(records, published, [claim for claim in CLAIMS if claim.is_the_papers])
    measured = any(verdict.found.measured for lane in lanes for verdict in lane.verdicts)
    strips = [_verdicts(lanes) if measured else say(NOTHING).html, _strip_of(part) if part else ""]
    curves = [figure_of(pages, *ACCURACY), _figure_of(part, *ACCURACY) if part else ""]
    if part:
        strips[0], curves[0] = _headed(DRAWINGS, strips[0]), _headed(DRAWINGS, curves[0])
        curves[1] = _headed(part.name, curves[1])
    parts = [_side_by_side(strips) if part else strips[0], say(data_notice(preset).text).html, _side_by_side(curves)]
    clusters = _side_by_side([figure_of(pages, *place) for place in CLUSTERS])
    parts.append(_headed(DRAWINGS, clusters) if part else clusters)
    parts.append(_facts(records, published, part))
    return "\n".join(filter(None, parts)).replace('href="../', 'href="')


def figure_of(pages: Path, page: str, name: str) -> str:
    """The figure of that name on an executed page, as HTML; empty where the page or the figure is not there."""
    path = pages / f"{page}.ipynb"
    if not path.is_file():
        return ""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = [output.get("data", {}).get("text/html", "") for cell in cells for output in cell.get("outputs", [])]
    found = re.search(rf'<figure id="{re.escape(name)}".*?</figure>', "\n".join(map("".join, shown)), re.DOTALL)
    return found[0] if found else ""


def _verdicts(lanes: Sequence[Lane]) -> str:
    said = "; ".join(f"{lane.label}: {tally(lane.verdicts)}" for lane in lanes)
    link = '<a href="../stages/scorecard.html">the scorecard</a>'
    words = f"<p>The paper's claims, judged from records. {escape(said[:1].upper() + said[1:])}. Each mark leads to "
    return f"{words}its row on {link}.</p>{verdict_strip(lanes).html}"


def _strip_of(part: Part) -> str:
    """The strip of another edition: the verdicts, and below them whose numbers, under which protocol."""
    edition = part.edition
    lanes = lanes_of([], edition.records, [claim for claim in CLAIMS if claim.is_the_papers])
    link = f'<a href="../{part.name}/{ABOUT}.html">What was run</a>'
    words = f"<p>The same claims: {escape(tally(lanes[0].verdicts))}. {link} has a page of its own.</p>"
    made = f"<p>{with_code(edition.made, html=True)}</p>" if edition.made else ""
    whose = f"<summary>{escape(edition.origin)}</summary>{made}"
    whose = f'<details class="dclib-provenance" style="font-size:.85em">{whose}</details>'
    return _headed(part.name, f"{words}{verdict_strip(lanes).html}{whose}")


def _headed(name: str, html: str) -> str:
    """HTML under the name of the images that it is about; empty if it is."""
    return f"<p><strong>{escape(name.capitalize())}</strong></p>{html}" if html else ""


def _figure_of(part: Part, page: str, name: str) -> str:
    """A figure of another edition's page, under a name of its own on this one."""
    found = part.html(figure_of(part.run / "pages", page, name))
    return found.replace(f'id="{name}"', f'id="{part.name}-{name}"', 1)


def _side_by_side(figures: Sequence[str]) -> str:
    """Figures of other pages, one below the other where the page is narrow."""
    cells = "".join(f'<div style="flex:1 1 300px;min-width:0">{figure}</div>' for figure in figures if figure)
    return f'<div style="display:flex;flex-wrap:wrap;gap:0 1.5em">{cells}</div>' if cells else ""


def _facts(records: Sequence[Record], published: Sequence[Record], part: Part | None) -> str:
    """What it took, on what, and what it is: a list of terms."""
    rows = [("This run took", took(records)), ("The published seeds took", took(published))]
    rows += [(f"The {part.name} took", took(part.edition.records))] if part else []
    rows += [("Version", __version__), *citation_facts()]
    listed_rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows if value
    )
    return f'<dl class="dclib-facts">{listed_rows}</dl>'


def took(records: Sequence[Record]) -> str:
    """How long the runs behind some records took, on which devices and versions; empty without records."""
    cards = cards_of(records)
    if not cards:
        return ""
    trained = [card for card in cards if card.stage == "pretrain"]
    others = [card for card in cards if card.stage != "pretrain"]
    parts = [
        f"{duration(sum(card.seconds for card in some))} for {plural(len(some), what)}"
        for some, what in ((trained, "pre-training"), (others, "evaluation"))
        if some
    ]
    devices = listed(dict.fromkeys(card.device for card in cards))
    versions = {f"{name} {number}" for card in cards for name, number in card.versions.items() if name in SHOWN}
    days = sorted({card.created[:10] for card in cards})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{listed(parts)}, one after the other, on {devices} ({', '.join(sorted(versions))}), {when}"
