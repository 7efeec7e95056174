"""Words of the glossary in pages: which are marked, what stays as it was, and what a reader sees in a browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from screenshots import BROWSERS, open_browser, open_page
from test_explorer_page import Reader

from dclib.press.notebooks import read_notebook
from dclib.press.terms import NARROW, Term, mark_terms, marked, pattern_of, read_terms

ROOT = Path(__file__).resolve().parent.parent
TERMS = [
    Term("cluster", "term-cluster", "<p>A group.</p>"),
    Term("super-cluster", "term-super-cluster", "<p>One of C.</p>"),
]
needs_browser = pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="needs a browser")
GLOSSARY = """<article><dl class="simple glossary">
<dt id="term-cluster">cluster<a class="headerlink" href="#term-cluster">#</a></dt><dd><p>A group: there are
<span class="math">\\(C\\)</span>. See <a href="health.html">there</a>.</p></dd>
<dt id="term-whitening">whitening<a class="headerlink" href="#term-whitening">#</a></dt><dd><p>Stretching.</p></dd>
</dl></article>"""


def sources() -> dict[str, str]:
    """The running text of the book, by page: story pages but the glossary, and the notebooks' words."""
    found = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        words = [cell.source for cell in read_notebook(path).cells if cell.cell_type == "markdown"]
        found[path.stem] = "\n\n".join(words)
    return {
        page: re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
        for page, text in found.items()
        if page != "glossary"
    }


def glossary_names() -> list[str]:
    body = re.search(
        r"```\{glossary\}\n(.*?)```", (ROOT / "book" / "glossary.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert body
    return [line for line in body[1].splitlines() if line and not line.startswith(" ")]


def test_every_word_of_the_glossary_is_defined_once_and_used() -> None:
    names, pages = glossary_names(), sources()
    assert len(names) == len(set(names)) > 30
    assert NARROW.keys() <= set(names)
    unused = [n for n in names if not any(re.search(pattern_of(n), text) for text in pages.values())]
    assert unused == []


def test_the_first_use_in_each_section_is_marked_and_nothing_else_changes() -> None:
    page = (
        "<p>cluster</p><article><h1>A cluster</h1><p>Two clusters &amp; a cluster, a super-cluster.</p>"
        '<p><code>cluster</code> <a href="x">cluster</a> <img alt="cluster"></p>'
        "<section><h2>cluster</h2><div class='cell'><p>cluster</p></div><p>sub-cluster, Cluster.<br>cluster</p>"
        "</section><p>cluster</p></article>"
    )
    found = marked(page, TERMS, "stages/page")
    link = r'<a class="dclib-term" href="\.\./glossary\.html#(term-[\w-]+)">(.*?)</a>'
    assert re.findall(link, found) == [
        ("term-cluster", "clusters"),
        ("term-super-cluster", "super-cluster"),
        ("term-cluster", "Cluster"),
    ]
    assert re.sub(link, r"\2", found) == page


def test_everyday_words_are_marked_where_they_mean_it_only() -> None:
    memory = [Term("memory", "term-memory", "<p>Vectors.</p>")]
    page = "<article><p>Much memory.</p></article>"
    assert marked(page, memory, "stages/performance") == page
    assert "term-memory" in marked(page, memory, "stages/what_came_after")


def test_definitions_are_the_glossarys_without_its_links() -> None:
    first, second = read_terms(GLOSSARY)
    assert (first.name, first.anchor, second.definition) == ("cluster", "term-cluster", "<p>Stretching.</p>")
    assert "See there" in first.definition
    assert "\\(C\\)" in first.definition
    with pytest.raises(ValueError, match="need a built glossary"):
        read_terms("<article></article>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of two pages with the real script and style."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "book" / "_static", folder / "_static")
    head = '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="_static/glossary.css">'
    words = "<p>A cluster.</p><p style='margin-top:5em;text-align:right'>Then whitening.</p>"
    script = '<script src="_static/glossary.js"></script>'
    body = f'<article class="bd-article">{words}</article>'
    (folder / "index.html").write_text(f"<!doctype html><html><head>{head}</head><body>{body}{script}</body></html>")
    (folder / "glossary.html").write_text(GLOSSARY)
    mark_terms(folder, ["index", "glossary"])
    return folder


@needs_browser
def test_a_reader_sees_what_a_word_means(site: Path) -> None:
    """Under the pointer, with the keyboard alone, and at a tap; Escape closes it, a second tap follows the link."""
    with open_browser() as browser:
        reader = Reader(browser, open_page(browser, (site / "index.html").as_uri(), "desktop")[1], site)
        shown = "document.querySelector('#dclib-meaning:not([hidden])')"
        corner = "document.querySelector('a.dclib-term').getBoundingClientRect()"
        place = f"[{corner}.x + 5, {corner}.y + 5]"
        x, y = reader.js(place)
        reader.mouse("Moved", x, y)
        reader.until(f"{shown}?.textContent.includes('A group')")
        assert reader.js("document.querySelector('a.dclib-term').getAttribute('aria-describedby')") == "dclib-meaning"
        assert reader.js(f"{shown}.getAttribute('role')") == "tooltip"
        reader.key("Escape")
        reader.until(f"!{shown} && !document.querySelector('[aria-describedby]')")
        reader.mouse("Moved", 400, 500)
        for _ in range(2):  # the second word
            reader.key("Tab")
        reader.until(f"{shown}?.textContent.includes('Stretching')")
        assert reader.js("document.activeElement.textContent") == "whitening"
        reader.look("phone")  # a narrower window takes the box along
        reader.until(f"{shown}.getBoundingClientRect().right <= document.documentElement.clientWidth")
        reader.key("Escape")
        reader.until(f"!{shown}")
        browser.call("Emulation.setTouchEmulationEnabled", reader.session, enabled=True)
        x, y = reader.js(place)
        for tap in ("first", "second"):
            browser.call("Input.dispatchTouchEvent", reader.session, type="touchStart", touchPoints=[{"x": x, "y": y}])
            browser.call("Input.dispatchTouchEvent", reader.session, type="touchEnd", touchPoints=[])
            if tap == "first":
                reader.until(f"{shown}?.textContent.includes('A group')")
        reader.until("location.pathname.endsWith('glossary.html')")
        assert reader.complaints() == []
