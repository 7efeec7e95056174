"""The whole book as a PDF: cover, contents, chapters, from the built pages and with the numbers of its own pages.

WeasyPrint sets it: it knows footnotes, running heads and which page a target is on, which browsers do not. Its letters
are those that come with matplotlib, so that every machine makes the same pages, and are part of the file.
"""

from __future__ import annotations

import datetime
import html
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import ImageFile

from dclib.presets import project_root
from dclib.press.print_pages import Entry, read_chapters, read_contents
from dclib.records import source_commit, write_atomically
from dclib.report.series import listed

STYLE = Path("_print") / "print.css"  # below the sources of the book
CITATION = "CITATION.cff"
FACES = {  # family: files by weight and slant
    "Book Text": ("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "STIXGeneralBolIta"),
    "Book Signs": ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSans-Bold", "DejaVuSans-BoldOblique"),
    "Book Code": ("DejaVuSansMono", "DejaVuSansMono-Oblique", "DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique"),
}
UPRIGHT, SLANTED = "font-style: normal", "font-style: italic"
CUTS = tuple(f"font-weight: {weight}; {slant}" for weight in (400, 700) for slant in (UPRIGHT, SLANTED))


@dataclass(frozen=True)
class Imprint:
    """What stands on the cover."""

    title: str
    authors: tuple[str, ...]
    paper: str  # title of the paper whose method the book implements
    paper_authors: tuple[str, ...]
    version: str
    edition: str  # whose numbers the book shows
    date: str
    commit: str


def print_book(site: Path, target: Path) -> int:
    """Write the built book in ``site`` as a PDF to ``target``; returns its number of pages.

    Raises:
        ValueError: a tool is missing, or ``site`` is no built book.
    """
    printer = load_printer()
    entries = read_contents(site)
    chapters = [(entry, article) for entry, article in read_chapters(site, entries)]
    imprint = read_imprint(project_root(), chapters[0][1].select_one(".dclib-edition"))
    text = _document(imprint, entries, [(entry, str(article)) for entry, article in chapters])
    style = (project_root() / "book" / STYLE).read_text(encoding="utf-8")
    fonts = printer.text.fonts.FontConfiguration()
    sheet = printer.CSS(string=_faces() + style, font_config=fonts)
    document = printer.HTML(string=text, base_url=str(site)).render(stylesheets=[sheet], font_config=fonts)
    write_atomically(target, document.write_pdf(pdf_tags=True))
    return len(document.pages)


def load_printer() -> Any:
    """WeasyPrint.

    Raises:
        ValueError: it, or a library of the system that it needs, is not installed.
    """
    strict = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        printer = importlib.import_module("weasyprint")
        importlib.import_module("weasyprint.text.fonts")
    except ModuleNotFoundError:
        raise ValueError("need weasyprint to print the book; install it with: pip install '.[print]'") from None
    except OSError as error:
        raise ValueError(
            f"need Pango to print the book, and a part of it is missing ({str(error).split(':')[0]}): "
            "on Debian, apt install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
        ) from None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = strict  # it has broken pictures read as if they were whole, by everybody
    return printer


def read_imprint(root: Path, edition: Any = None) -> Imprint:
    """What ``CITATION.cff`` says of the book and the paper, what the front page says of the edition, and when it is.

    Raises:
        ValueError: the file is not there or lacks the paper.
    """
    path = root / CITATION
    if not path.is_file():
        raise ValueError(f"need the book's title and authors in {path}; it is not there")
    cited = yaml.safe_load(path.read_text(encoding="utf-8"))
    papers = cited.get("references") or []
    if not papers:
        raise ValueError(f"need the paper under references: in {path}; it names none")
    said = edition.find("p").get_text() if edition is not None and edition.find("p") else ""
    return Imprint(
        title=str(cited["title"]),
        authors=_people(cited["authors"]),
        paper=str(papers[0]["title"]),
        paper_authors=_people(papers[0]["authors"]),
        version=str(cited.get("version", "")),
        edition=" ".join(said.split()),
        date=f"{datetime.date.today():%-d %B %Y}",
        commit=source_commit(),
    )


def _people(authors: Sequence[dict[str, str]]) -> tuple[str, ...]:
    return tuple(a.get("name") or f"{a.get('given-names', '')} {a.get('family-names', '')}".strip() for a in authors)


def _faces() -> str:
    """The letters, from the folder that matplotlib brings."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return "".join(
        f"@font-face {{ font-family: '{family}'; src: url('{(folder / name).as_uri()}.ttf'); {cut} }}\n"
        for family, names in FACES.items()
        for name, cut in zip(names, CUTS, strict=True)
    )


def _document(imprint: Imprint, entries: Sequence[Entry], chapters: Sequence[tuple[Entry, str]]) -> str:
    """One HTML document: metadata, cover, contents, and the chapters with the titles of their parts."""
    people = "".join(f'<meta name="author" content="{html.escape(name)}">' for name in imprint.authors)
    about = f"<title>{html.escape(imprint.title)}</title>{people}"
    about += f'<meta name="description" content="{html.escape(imprint.paper)}"><meta name="generator" content="dclib">'
    body, part = [], ""
    for entry, text in chapters:
        if entry.part != part:
            part = entry.part
            body.append(f'<section class="part"><h1>{html.escape(part)}</h1></section>')
        kind = "chapter" if part else "chapter front"
        body.append(f'<section class="{kind}" id="{entry.anchor}">{text}</section>')
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{about}</head><body>'
        f"{_cover(imprint)}{_contents(entries)}{''.join(body)}</body></html>"
    )


def _cover(imprint: Imprint) -> str:
    lines = {
        "title": imprint.title,
        "authors": ", ".join(imprint.authors),
        "paper": f"The method of “{imprint.paper}” by {listed(imprint.paper_authors)}, implemented, run and measured",
        "edition": imprint.edition,
        "made": " · ".join(
            filter(None, [f"Version {imprint.version}", imprint.date, imprint.commit and f"commit {imprint.commit}"])
        ),
    }
    return (
        '<section class="cover">'
        + "".join(f'<p class="{name}">{html.escape(line)}</p>' for name, line in lines.items() if line)
        + "</section>"
    )


def _contents(entries: Sequence[Entry]) -> str:
    lines, part = [], ""
    for entry in entries:
        if entry.part != part:
            part = entry.part
            lines.append(f'<p class="contents-part">{html.escape(part)}</p>')
        title = re.sub(r"\s+", " ", html.escape(entry.title))
        lines.append(f'<p class="contents-{entry.level}"><a href="#{entry.anchor}">{title}</a></p>')
    return f'<section class="contents"><h1>Contents</h1>{"".join(lines)}</section>'
