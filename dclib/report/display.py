"""Pieces of a page: text and pictures that a notebook shows as HTML, and as plain text where it cannot.

Pictures are inlined with alternative text that the caller made from the plotted data.
"""

from __future__ import annotations

import base64
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from PIL import Image

from dclib.presets import project_root, shown_folder
from dclib.records import Record, RunCard, read_records
from dclib.report.commands import papermill_command
from dclib.report.series import cards_of

PIXELS_PER_INCH = 96  # a CSS inch
JPEG_QUALITY = 88
HALF_LINE = 5.0  # inches: words in a wider image cannot be read at half the width of a line
PIXEL_RATIO = 2  # pixels drawn for each CSS pixel: sharp on a phone


@dataclass(frozen=True, repr=False)
class Fragment:
    """One piece of a page: HTML for the book, text for everything else.

    There is no Markdown: names and titles in the text are people's own, and would mean something there.
    """

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text

    def __add__(self, other: Fragment) -> Fragment:
        return Fragment(f"{self.html}\n{other.html}", f"{self.text}\n\n{other.text}")


def say(sentence: str) -> Fragment:
    """A plain paragraph; the words are escaped."""
    return Fragment(f"<p>{escape(sentence)}</p>", sentence)


def without_markup(text: str) -> str:
    """Text on one line that MyST, or any other reader of Markdown, does not take for markup, mathematics or a role."""
    return re.sub(r"([\\`*_{}\[\]|$~#])", r"\\\1", escape(" ".join(text.split()), quote=False))


def with_code(text: str, *, html: bool = False) -> str:
    """Text whose commands stand between backticks, in Markdown or HTML: they are code, and nothing else is markup."""
    if html:
        return re.sub("`(.+?)`", r"<code>\1</code>", escape(text))
    code = iter(re.findall("`.+?`", text))
    return re.sub(r"\\`.+?\\`", lambda _: next(code), without_markup(text))


def fold(summary: str, shown: Any) -> Fragment:
    """Something long, a fragment or a table, behind a line that opens it."""
    html = f'<details class="dclib-fold"><summary>{escape(summary)}</summary>{shown._repr_html_()}</details>'
    return Fragment(html, f"{summary}\n\n{shown!r}")


def linked(text: str) -> str:
    """Text as HTML: escaped, with deviations in brackets, ``(D9, D12)``, as links to their ledger.

    In brackets only, and only those that the ledger has: a camera may be called D70.
    """
    known = _ledger(project_root() / "book" / "deviations.md")

    def link(found: re.Match[str]) -> str:
        number = found[1]
        return f'<a href="../deviations.html#d{number}">{found[0]}</a>' if number in known else found[0]

    return re.sub(r"\(D\d+(?:, D\d+)*\)", lambda found: re.sub(r"D(\d+)", link, found[0]), escape(text))


@cache
def _ledger(path: Path) -> frozenset[str]:
    """The numbers of the deviations that the book lists; none where it is not there."""
    return frozenset(re.findall(r"\{#D(\d+)\}", path.read_text(encoding="utf-8")) if path.is_file() else ())


def show(
    drawing: Figure | Axes,
    *,
    alt: str,
    caption: str,
    name: str = "",
    pictures: bool = False,
    source: Fragment | None = None,
) -> Fragment:
    """A figure with its caption, inlined at twice the page's resolution, never wider than the page.

    Args:
        drawing: A figure, or axes of the figure meant.
        alt: What the picture shows, in words and numbers, for who cannot see it.
        caption: What to look for; escaped.
        name: Anchor that links on the page can point to.
        pictures: The figure is made of images: JPEG, a fifth of the size, in place of PNG.
        source: Where it comes from, to stand below (see ``provenance.under``).

    Raises:
        ValueError: ``alt`` or ``caption`` is empty.
    """
    return show_side_by_side([(drawing, alt)], caption=caption, name=name, pictures=pictures, source=source)


def show_side_by_side(
    drawings: Sequence[tuple[Figure | Axes, str]],
    *,
    caption: str,
    name: str = "",
    pictures: bool = False,
    source: Fragment | None = None,
) -> Fragment:
    """Several figures under one caption, each with its words; one below the other where the page is too narrow.

    See :func:`show`, which is the case of one.
    """
    for _, alt in drawings:
        if not alt.strip() or not caption.strip():
            raise ValueError(f"a figure needs alternative text and a caption; got alt {alt!r} and caption {caption!r}")
    images = "".join(_image(_figure_of(drawing), alt, pictures, alone=len(drawings) == 1) for drawing, alt in drawings)
    anchor = f' id="{escape(name)}"' if name else ""
    html = (
        f'<figure{anchor} class="dclib-figure" style="margin:1em 0">'
        f'<div style="display:flex;flex-wrap:wrap;gap:.5em">{images}</div>'
        f"<figcaption>{linked(caption)}</figcaption>{source.html if source else ''}</figure>"
    )
    text = [f"[Figure] {caption}", *(alt for _, alt in drawings), *([source.text] if source else [])]
    return Fragment(html, "\n\n".join(text))


def show_photographs(
    photographs: Sequence[tuple[Image.Image, str, Sequence[str]]], *, kind: str, caption: str
) -> Fragment:
    """Pictures in a grid that folds to the width of the page, each with a title and lines under it.

    Args:
        photographs: (picture, title, lines); the title is in the picture's alternative text too.
        kind: What each of them is, for that text: a photograph, a drawing.
        caption: What the pictures are; escaped.
    """
    cards = "".join(_card(picture, f"{kind}: {title}", title, lines) for picture, title, lines in photographs)
    grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(130px,1fr));gap:.8em"
    words = f"<figcaption>{escape(caption)}</figcaption>"
    html = f'<figure style="margin:1em 0"><div style="{grid}">{cards}</div>{words}</figure>'
    text = "\n".join(f"- {title}: {'; '.join(lines)}" for _, title, lines in photographs)
    return Fragment(html, f"{caption}\n\n{text}")


def rerun_command(notebook: str, parameters: Mapping[str, Any], *, took: str) -> Fragment:
    """A box with the command that executes a notebook which makes no page, and how long it takes, in words.

    Args:
        parameters: Of the notebook; empty ones are left out.
    """
    command = papermill_command(notebook, parameters)
    html = (
        '<div style="border:1px solid rgba(128,128,128,.4);border-radius:6px;padding:.2em 1em">'
        "<p><strong>Reproduce this.</strong> In the project's folder and its environment:</p>"
        f'<pre style="overflow-x:auto">{escape(command)}</pre><p>{escape(took)}</p></div>'
    )
    return Fragment(html, f"Reproduce this:\n\n```bash\n{command}\n```\n\n{took}")


def pretraining_taken(records: Sequence[Record]) -> Fragment:
    """What the pre-training took on which some records rest and which their strip leaves out; nothing where none."""
    before = _pretraining_before(cards_of(records))
    if not before:
        return Fragment("", "")
    return say(f"The pre-training before these runs took {_seconds_of(before)}.")


def _seconds_of(cards: Sequence[RunCard]) -> str:
    devices = sorted({card.device for card in cards})
    parts = [(device, sum(card.seconds for card in cards if card.device == device)) for device in devices]
    return "; ".join(f"{seconds:,.0f} s on {device}" for device, seconds in parts)


def _pretraining_before(cards: Sequence[RunCard]) -> list[RunCard]:
    """The pre-trainings of the networks that some runs look at, and of those they start from; not those among them."""
    found = {}
    for preset in sorted({card.preset for card in cards}):
        for record in read_records(shown_folder(preset) / "records" / "pretrain"):
            if record.card is not None:
                found[preset, record.card.method, record.card.seed] = record.card
    wanted = [(card.preset, card.method, card.seed) for card in cards]
    for preset, method, seed in wanted:  # grows by what a network starts from
        start = found[preset, method, seed].config.get("init") if (preset, method, seed) in found else ""
        if start and (preset, start, seed) not in wanted:
            wanted.append((preset, start, seed))
    there = {(card.preset, card.method, card.seed) for card in cards if card.stage == "pretrain"}
    return [card for key, card in found.items() if key in wanted and key not in there]


def _figure_of(drawing: Figure | Axes) -> Figure:
    figure = drawing.figure if isinstance(drawing, Axes) else drawing
    while isinstance(figure, SubFigure):
        figure = figure.figure
    return figure


def _image(figure: Figure, alt: str, pictures: bool, *, alone: bool) -> str:
    width = round(figure.get_figwidth() * PIXELS_PER_INCH)
    # beside others an image that was drawn for it takes half of the line, as long as it stays wide enough to read: a
    # third one no more
    alone = alone or figure.get_figwidth() > HALF_LINE
    share = "" if alone else ",max(340px,50% - .25em)"
    room = f"{'' if alone else 'flex:1 1 270px;min-width:0;'}max-width:min(100%,{width}px{share})"
    return f'<img src="{_uri(figure, pictures)}" alt="{escape(alt)}" width="{width}" style="{room};height:auto">'


def _uri(figure: Figure, pictures: bool) -> str:
    buffer = io.BytesIO()
    # no software tag: the bytes are then the same for the same data
    options = {"pil_kwargs": {"quality": JPEG_QUALITY}} if pictures else {"metadata": {"Software": None}}
    kind = "jpeg" if pictures else "png"
    figure.savefig(buffer, format=kind, dpi=PIXEL_RATIO * PIXELS_PER_INCH, facecolor="white", **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _card(picture: Image.Image, alt: str, title: str, lines: Sequence[str]) -> str:
    buffer = io.BytesIO()
    small = picture.convert("RGB")
    small.thumbnail((260, 260))
    small.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    words = "<br>".join(map(escape, itertools.chain([title], lines)))
    return (
        f'<div style="min-width:0;overflow-wrap:anywhere;font-size:.8em;line-height:1.3">'
        f'<img src="{uri}" alt="{escape(alt)}" style="width:100%;height:auto;background:#fff">'
        f"{words}</div>"
    )
