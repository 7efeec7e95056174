"""The built book as one document for paper: its pages in order, without what only a screen can do.

Every page is taken as it is without scripts. What is folded there stays folded where it is code or a run card; other
folds are reading matter and stand open. A link says on which page its target is, or, leading out, its address.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bs4 import BeautifulSoup, Tag

from dclib.presets import project_root
from dclib.press.print_formulas import draw_formulas

SCREEN_ONLY = (
    "script, button, form, input, canvas, audio, video, iframe, .headerlink, .d-print-none, [hidden], "
    "details.hide, #dclib-progress, .genindex-jumpbox, .toctree-wrapper, .dclib-rerun, .dclib-downloads"
)
COMMAND = ".dclib-rerun :is(#rerun-alone, [data-command=alone])"  # that runs a page again, and the words above it
SOLUTION = ".tag_solution"
SOLVED = "The solution, with what came out, is in a fold of this page of the book on the screen."
DIAGRAM, DIAGRAM_STYLE = ".dclib-diagram", Path("book", "_static", "diagrams.css")
LIGHT = {  # colours of the theme that its style names
    "--pst-color-text-base": "#222832",
    "--pst-color-text-muted": "#48566b",
    "--pst-color-background": "#ffffff",
}
FORMULA = ".math.notranslate"
_MAKER = BeautifulSoup("", "html.parser")  # of new elements
LONG = re.compile(r"\S{13,}")  # words in a table that may be broken, where they have a joint
BREAKS = re.compile(r"([_/·.,;:=-])(?=\w)")
LETTER, GAP = 0.53, 0.9  # em: of a word's letters, with bold ones among them, and beside a column; as in print.css
UPRIGHT, ON_ITS_SIDE = 470, 717  # points from margin to margin
FITS = (  # class, size of letters in points, points there are
    ("", 8.8, UPRIGHT),
    ("small", 7.6, UPRIGHT),
    ("smaller", 6.4, UPRIGHT),
    ("wide", 8.2, ON_ITS_SIDE),
    ("wide small", 6.8, ON_ITS_SIDE),
    ("wide smaller", 5.6, ON_ITS_SIDE),
)


@dataclass(frozen=True)
class Entry:
    """One page of the book."""

    page: str  # below the book's folder, such as stages/data.html
    title: str
    part: str  # what it stands under; empty for the first page
    level: int  # 1, or 2 for a page below another one

    @property
    def anchor(self) -> str:
        """Its name in the one document."""
        return "page-" + re.sub(r"\W", "-", self.page.removesuffix(".html"))


def read_contents(site: Path) -> list[Entry]:
    """The pages of a built book in their order, as its first page lists them beside the text.

    Raises:
        ValueError: there is no book, or its list is not as the theme writes it.
    """
    index = site / "index.html"
    if not index.is_file():
        raise ValueError(f"need a built book at {site}; there is no index.html: run make book first")
    listed = _soup(index).select_one("nav.bd-links")
    entries, part = [], ""
    for node in listed.select("p.caption, li > a.reference.internal") if listed else ():
        if node.name == "p":
            part = _words(node)
            continue
        page = str(node["href"])
        level = next(int(name[-1]) for name in _names(node.parent or node) if name.startswith("toctree-l"))
        entries.append(Entry("index.html" if page == "#" else page, _words(node), part, min(level, 2)))
    if len(entries) < 2:
        raise ValueError(f"need the list of pages in {index}, and found {len(entries)}; build the book anew")
    return entries


def read_chapters(site: Path, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Tag]]:
    """Each page's article, ready for paper, one after the other.

    Raises:
        ValueError: a page is not there, has no text, or has a formula that cannot be set.
    """
    articles = {entry: _article(site / entry.page) for entry in entries}
    formulas = [_formula(node) for article in articles.values() for node in article.select(FORMULA)]
    drawings = draw_formulas(formulas)
    anchors = {entry.page: entry.anchor for entry in entries}
    targets = {f"{e.anchor}--{node['id']}" for e, article in articles.items() for node in article.select("[id]")}
    for entry, article in articles.items():
        _unfold(article)
        _set_formulas(article, drawings)
        _style_diagrams(article)
        _resolve_colours(article)
        _frame_drawings(article)
        for table in article.select("table"):
            _fit_table(table)
        for node in article.select('[style*="flex"], figure img:not(.drawing)'):
            _fit_width(node)
        for link in article.select("a[href]"):
            _rewrite_link(link, entry, anchors, targets)
        for node in article.select("[id]"):
            node["id"] = f"{entry.anchor}--{node['id']}"
        yield entry, article


def _soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def _words(node: Tag) -> str:
    return " ".join(node.get_text().split())


def _article(path: Path) -> Tag:
    if not path.is_file():
        raise ValueError(f"the book lists {path.name}, which is not at {path}; build the book anew")
    article = _soup(path).find("article")
    if not isinstance(article, Tag) or article.find("h1") is None:
        raise ValueError(f"need an article with a title in {path}; build the book anew")
    for node in article.select("noscript"):
        node.unwrap()
    for node in article.select(COMMAND):  # of the form, which is of no use on paper, this much goes to the end
        article.append(node.extract())
    for node in article.select(SOLUTION):
        said = _MAKER.new_tag("p")
        said.string = SOLVED
        node.replace_with(said)
    for node in article.select(SCREEN_ONLY):
        if not node.decomposed:
            node.decompose()
    return article


def _unfold(article: Tag) -> None:
    """Run cards keep their first line, and every other fold is open."""
    for fold in article.select("details"):
        summary = fold.find("summary")
        if "dclib-provenance" in _names(fold):
            for child in list(fold.children):
                if child is not summary:
                    child.extract()
        if isinstance(summary, Tag):
            summary.name = "div"
            summary["class"] = "fold-summary"
        fold.name = "div"


def _formula(node: Tag) -> tuple[str, bool]:
    """TeX, and whether it stands alone."""
    tex = str(node.math["alttext"])  # type: ignore[index]
    in_lines = r"\\" in tex and not tex.startswith(r"\begin{split}")
    return rf"\begin{{split}}{tex}\end{{split}}" if in_lines else tex, node.name == "div"


def _set_formulas(article: Tag, drawings: Mapping[tuple[str, bool], str]) -> None:
    for node in article.select(FORMULA):
        tex, _ = formula = _formula(node)
        drawing = drawings[formula]
        lengths = dict(re.findall(r'\b(width|height)="([^"]+)"', drawing[: drawing.index(">")]))
        aligned = re.search(r"vertical-align: ([^;\"]+)", drawing)
        shown = "; ".join([*(f"{name}: {value}" for name, value in lengths.items())])
        shown += f"; vertical-align: {aligned[1]}" if aligned else ""
        source = _as_picture(drawing)
        node.clear()
        node.append(_MAKER.new_tag("img", attrs={"src": source, "alt": " ".join(tex.split()), "style": shown}))


def _style_diagrams(article: Tag) -> None:
    """The diagrams of the method get their style into themselves, in the colours of light mode."""
    drawings = article.select(f"{DIAGRAM} svg")
    if not drawings:
        return
    rules = (project_root() / DIAGRAM_STYLE).read_text(encoding="utf-8").partition("@media")[0]
    rules = re.sub(r"var\((--[\w-]+)\)", lambda name: LIGHT[name[1]], rules)
    rules = rules.replace(f"{DIAGRAM} {{", "svg {").replace(f"{DIAGRAM} ", "")
    for drawing in drawings:
        style = _MAKER.new_tag("style")
        style.string = rules
        drawing.insert(0, style)


def _resolve_colours(article: Tag) -> None:
    """Colours that drawings have from their exhibit's style, written out: those of light mode, which come first."""
    style = " ".join(node.get_text() for node in article.select("style"))
    named: dict[str, str] = {}
    for name, value in re.findall(r"(--[\w-]+):\s*([^;}]+)", style):
        named.setdefault(name, value.strip())
    classes = dict(re.findall(r"\.([\w-]+)\s*\{color:\s*var\((--[\w-]+)\)", style))
    for node in article.select("svg *"):
        if node.name == "svg":
            node["overflow"] = "visible"
        for attribute, value in list(node.attrs.items()):
            if isinstance(value, str) and (found := re.fullmatch(r"var\((--[\w-]+)\)", value)):
                node[attribute] = named.get(found[1], "currentColor")
            elif value == "currentColor":
                above = (classes.get(name) for parent in node.parents for name in _names(parent))
                node[attribute] = named.get(next(filter(None, above), ""), "currentColor")


def _frame_drawings(article: Tag) -> None:
    """Drawings with a style of their own become pictures of their own size, up to the page's."""
    for drawing in article.select("svg:has(style)"):
        box = str(drawing.get("viewbox", drawing.get("viewBox", ""))).split()
        described = drawing.find("desc") or drawing.find("title")
        if len(box) == 4:
            text = re.sub(r"\bviewbox=", "viewBox=", str(drawing)).replace("refx=", "refX=").replace("refy=", "refY=")
            text = re.sub("marker(width|height)=", lambda name: f"marker{name[1].title()}=", text)
            text = re.sub(r"font-family: ?inherit", "font-family: 'Book Signs'", text)
            words = _words(described) if isinstance(described, Tag) else ""
            about = {"src": _as_picture(text), "alt": words, "style": f"width: {box[2]}px", "class": "drawing"}
            drawing.replace_with(_MAKER.new_tag("img", attrs=about))


def _as_picture(drawing: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode()


def _fit_table(table: Tag) -> None:
    """Choose letters, and the way the sheet lies, by the narrowest line that the table can be set in."""
    widths: dict[int, int] = {}
    for row in table.select("tr"):
        column = 0
        for cell in row.find_all(["td", "th"], recursive=False):
            span = int(str(cell.get("colspan", "1")))
            if span == 1:
                for text in cell.find_all(string=LONG):
                    text.replace_with(LONG.sub(lambda word: BREAKS.sub("\\1\u200b", word[0]), text))
                widths[column] = max(widths.get(column, 0), *map(len, _unbroken(cell)))
            column += span
    needed = sum(width * LETTER + GAP for width in widths.values())
    kind = next((name for name, size, room in FITS if size * needed <= room), f"{FITS[-1][0]} broken")
    _mark(table, *(f"fit-{name}" for name in kind.split()))
    if "wide" in kind.split() and isinstance(table.parent, Tag):
        _mark(table.parent, "sheet-wide")


def _unbroken(cell: Tag) -> list[str]:
    """What of a cell stays on one line: numbers of our own tables whole, and words."""
    if cell.name == "td" and "words" not in _names(cell) and cell.find_parent(class_="dclib-table"):
        return ["", *cell.stripped_strings]
    return re.split(r"[\s\u200b]+", cell.get_text())


def _names(node: Tag) -> list[str]:
    """Classes of an element."""
    return " ".join(name for name in node.get_attribute_list("class") if isinstance(name, str)).split()


def _mark(node: Tag, *names: str) -> None:
    """Add classes to an element."""
    node["class"] = " ".join([*_names(node), *names])


def _fit_width(node: Tag) -> None:
    """Pictures that stand beside each other share the width; other boxes that do stand one above the other."""
    beside = len(node.parent.find_all("img", recursive=False)) if node.name == "img" and node.parent else 1
    del node["style"]
    if beside > 1:
        _mark(node, "beside")


def _rewrite_link(link: Tag, entry: Entry, anchors: Mapping[str, str], targets: set[str]) -> None:
    """Into the document, with the page of its target; or out of it, with its address in a footnote."""
    address = str(link["href"])
    if re.match(r"[a-z]+:", address):
        if _words(link) != address:
            _add_note(link, address)
        return
    path, _, place = address.partition("#")
    page = posixpath.normpath(posixpath.join(posixpath.dirname(entry.page), path)) if path else entry.page
    if page not in anchors:
        _add_note(link, f"{page}, a file of the book on the screen")
        del link["href"]
        return
    target = f"{anchors[page]}--{place}" if place else anchors[page]
    link["href"] = f"#{target if target in targets else anchors[page]}"
    if page != entry.page and link.find_parent(class_=["bibtex-citation", "dclib-verdicts"]) is None:
        _mark(link, "to-page")


def _add_note(link: Tag, text: str) -> None:
    """A footnote behind a link; in a table, whose rows cannot carry one, the words in brackets."""
    note = _MAKER.new_tag("span")
    in_table = link.find_parent(["table", "figcaption"]) is not None
    note["class"] = "address" if in_table else "footnote"
    note.string = f" ({text})" if in_table else text
    link.insert_after(note)
