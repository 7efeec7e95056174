"""Search that works in a book opened from a folder: what a result shows of its page comes with the book.

The theme fetches each page found for an excerpt, and browsers refuse that to a page opened as a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from html.parser import HTMLParser
from pathlib import Path

from dclib.records import write_atomically

SCRIPT = "search_texts.js"
ANCHORED = ("section", "dt")  # what a result may point to, and is then excerpted from
SILENT = ("script", "style", "svg", "button")
# what stands in a cell or a line of its own is no part of the word before it
APART = re.compile("br|caption|d[dlt]|div|fig(caption|ure)|h[1-6]|li|[ou]l|option|p|pre|small|summary|t(able|d|h|r)")
ANSWER = """
// the theme asks for a page by its address, relative to this one
window.fetch = (address) => {
  const page = new URL(address, document.baseURI).href.slice(new URL(".", document.baseURI).href.length);
  return Promise.resolve({ text: () => `<div role="main">${TEXTS[page.replace(/\\.html$/, "")] || ""}</div>` });
};
"""


class _Words(HTMLParser):
    """The words of a page's article, with the elements that results point to around them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []
        self.inside = 0  # articles that are open
        self.silent = 0  # elements without words that are open
        self.mark = False  # inside the sign by which a heading links to itself

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.inside += tag == "article"
        self.silent += tag in SILENT
        self._end_word(tag)
        given = dict(attributes)
        self.mark |= tag == "a" and "headerlink" in (given.get("class") or "")
        if self.inside and tag in ANCHORED:
            name = given.get("id")
            self.kept.append(f'<{tag} id="{escape(name)}">' if name else f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        self.inside -= tag == "article"
        self.silent -= tag in SILENT
        self.mark &= tag != "a"
        self._end_word(tag)
        if self.inside and tag in ANCHORED:
            self.kept.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if self.inside and not self.silent and not self.mark:
            self.kept.append(escape(data, quote=False))

    def _end_word(self, tag: str) -> None:
        if self.inside and APART.fullmatch(tag):
            self.kept.append(" ")


def page_words(html: str) -> str:
    """A page's words, as HTML without anything else; empty where it has no article."""
    reader = _Words()
    reader.feed(html)
    return " ".join("".join(reader.kept).split())


def write_search_texts(site: Path, pages: Iterable[str]) -> None:
    """Put the words of some pages beside a built site's search page, and let it answer from them.

    Raises:
        ValueError: the search page is not as the theme writes it.
    """
    page = site / "search.html"
    html = page.read_text(encoding="utf-8") if page.is_file() else ""
    before = '<script src="_static/searchtools.js'
    if before not in html:
        raise ValueError(f"need a search page at {page} that loads searchtools.js; build the book with its theme")
    texts = {name: page_words((site / f"{name}.html").read_text(encoding="utf-8")) for name in pages}
    write_atomically(site / SCRIPT, f"const TEXTS = {json.dumps(texts, ensure_ascii=False)};\n{ANSWER}".encode())
    tag = f'<script src="{SCRIPT}"></script>\n  '
    if tag not in html:
        write_atomically(page, html.replace(before, tag + before, 1).encode())
