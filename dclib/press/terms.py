"""Words of the glossary in a built book: the first use of each in a section links to it and shows what it means.

The definitions are those of the built glossary, and nothing else. A script in ``book/_static`` shows them beside the
word; without scripts the link is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from dclib.records import write_atomically

GLOSSARY = "glossary"
SCRIPT = "glossary_terms.js"  # beside the glossary
ENTRY = re.compile(r'<dt id="(term-[^"]+)">(.*?)<a class="headerlink".*?</dt>\s*<dd>(.*?)</dd>', re.DOTALL)
VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"])
PROSE = frozenset(("p", "li"))  # what words are looked for in
# what is no running text, by its tag or by one of its classes
OTHER = frozenset(("a", "code", "pre", "table", "figure", "dl", "svg", "script", "style", "button", "summary"))
OTHER |= {f"h{level}" for level in range(1, 7)}
OTHER_CLASSES = frozenset(("math", "cell", "where", "bibtex-citation", "dclib-finding"))
# everyday words too: they mean what the glossary says on pages whose names hold one of these
NARROW: Mapping[str, tuple[str, ...]] = {
    "clip": ("data", "transitive", "what_came_after", "deviations"),
    "memory": ("deepcluster_v2", "what_came_after"),
    "queue": ("swav", "what_came_after"),
    "track": ("data", "transitive", "what_came_after"),
}


@dataclass(frozen=True)
class Term:
    """A word of the glossary: its name there, its anchor, and its definition as HTML without links."""

    name: str
    anchor: str
    definition: str


def read_terms(html: str) -> list[Term]:
    """The entries of a built glossary.

    Raises:
        ValueError: it has none.
    """
    found = [
        Term(re.sub(r"<[^>]+>", "", n).strip(), a, re.sub(r"</?a\b[^>]*>", "", d)) for a, n, d in ENTRY.findall(html)
    ]
    if not found:
        raise ValueError("need a built glossary with terms, each a dt with an anchor before its dd; it has none")
    return found


def pattern_of(name: str) -> str:
    """What finds a term in running text, in the singular and the plural; a name with a capital as it is written."""
    plural = f"{re.escape(name)}(?:e?s)?" if not name.endswith("s") else re.escape(name)
    written = plural if name != name.lower() else f"(?i:{plural})"
    return rf"(?<![\w-]){written}(?![\w-])"


def marked(html: str, terms: Iterable[Term], page: str) -> str:
    """A built page with links from the first use of each term in each section; all else is as it was.

    Args:
        page: Its name below the book, without suffix: links lead from there.
    """
    known = [term for term in terms if term.name not in NARROW or any(part in page for part in NARROW[term.name])]
    if not known:
        return html
    reader = _Marker(html, sorted(known, key=lambda term: -len(term.name)), "../" * page.count("/"))
    reader.feed(html)
    reader.close()
    for start, end, before in sorted(reader.links, reverse=True):
        html = f"{html[:start]}{before}{html[start:end]}</a>{html[end:]}"
    return html


def mark_terms(site: Path, pages: Iterable[str]) -> None:
    """Mark the words of the glossary in the pages of a built book, and put the definitions beside them.

    Raises:
        ValueError: the book's glossary has no terms.
    """
    path = site / f"{GLOSSARY}.html"
    if not path.is_file():
        return  # a book without one has nothing to show
    terms = read_terms(path.read_text(encoding="utf-8"))
    definitions = {term.anchor: f"<strong>{term.name}</strong> {term.definition}" for term in terms}
    write_atomically(site / SCRIPT, f"window.dclibTerms = {json.dumps(definitions, ensure_ascii=False)};\n".encode())
    for page in pages:
        if page != GLOSSARY:
            file = site / f"{page}.html"
            html = file.read_text(encoding="utf-8")
            write_atomically(file, marked(html, terms, page).encode())


class _Marker(HTMLParser):
    """Finds where links go: (first, end, the link's opening tag), in places of the text that is read."""

    def __init__(self, html: str, terms: list[Term], root: str) -> None:
        super().__init__(convert_charrefs=False)
        self.starts = [0, *(found.end() for found in re.finditer("\n", html))]  # of each line
        self.root, self.terms = root, terms
        self.pattern = re.compile("|".join(f"(?P<t{i}>{pattern_of(term.name)})" for i, term in enumerate(terms)))
        self.open: list[tuple[str, bool]] = []  # tags, and whether each is no running text
        self.seen: list[set[str]] = [set()]  # anchors, of each open section
        self.links: list[tuple[int, int, str]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in VOID:
            return
        classes = (dict(attributes).get("class") or "").split()
        self.open.append((tag, tag in OTHER or not OTHER_CLASSES.isdisjoint(classes)))
        if tag == "section":
            self.seen.append(set())

    def handle_endtag(self, tag: str) -> None:
        while any(tag == one for one, _ in self.open):
            last, _ = self.open.pop()
            if last == "section":
                self.seen.pop()
            if last == tag:
                return

    def handle_data(self, data: str) -> None:
        tags = {tag for tag, _ in self.open}
        if "article" not in tags or PROSE.isdisjoint(tags) or any(other for _, other in self.open):
            return
        line, column = self.getpos()
        begin = self.starts[line - 1] + column
        for found in self.pattern.finditer(data):
            term = self.terms[int((found.lastgroup or "t0")[1:])]
            if term.anchor not in self.seen[-1]:
                self.seen[-1].add(term.anchor)
                link = f'<a class="dclib-term" href="{self.root}{GLOSSARY}.html#{term.anchor}">'
                self.links.append((begin + found.start(), begin + found.end(), link))
