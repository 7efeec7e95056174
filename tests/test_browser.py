"""Pages in a browser: what no look at their source tells, and that what is wrong there is found.

The whole book that DCLIB_BUILT_HTML names is read, or else a few pages of a small one of the real configuration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from reading_pages import Faults, Reader, pages_of, read_site, why_no_axe, why_not
from screenshots import open_browser
from stand_in_site import shared_stand_in_site

from dclib.press.formulas import as_mathml

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

FEW = ("index.html", "method.html", "search.html", "stages/linear_probes.html")
KINDS = ("loads", "console", "sideways", "set", "keyboard", "contrast", "formulas", "search")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Faults]:
    """What is wrong with each page."""
    built = os.environ.get("DCLIB_BUILT_HTML")
    site = Path(built) if built else shared_stand_in_site(tmp_path_factory)
    return read_site(site, pages_of(site) if built else [site / name for name in FEW])


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_has_a_fault(found: dict[str, Faults], kind: str) -> None:
    assert [f"{page}: {line}" for page, faults in found.items() for line in faults.get(kind, [])] == []
    assert any(kind in faults for faults in found.values())


@pytest.mark.skipif(bool(why_no_axe()), reason=why_no_axe())
def test_axe_finds_nothing_serious(found: dict[str, Faults]) -> None:
    assert [f"{page}: {line}" for page, faults in found.items() for line in faults["axe"]] == []


# ---- each fault is found, and a good page has none

GOOD = """<!DOCTYPE html><html lang="en"><head><title>A page</title><meta name="viewport" content="width=device-width">
<style>body {color: #222; background: #fff} a:focus-visible, button:focus-visible {outline: 2px solid #06c}
@media (prefers-color-scheme: dark) {body {color: #ddd; background: #111} a {color: #9cf}}
.striped {background: linear-gradient(to right, #fff, #eee); color: #222} .math {display: inline-block}
</style></head><body><a href="#words">Past the menus</a><main><article id="words"><h1>A page</h1>
<p>Words that can be read, <a href="other.html">a link</a>, <button type="button">a button</button>.</p>
<p class="striped">Words on a picture.</p>
<p>A formula: <span class="math">MATH</span>.</p><details><summary>More</summary><p>Even more.</p></details>
<svg width="120" height="30" role="img" aria-label="a word in a box"><rect width="120" height="30" fill="#333"/>
<text x="5" y="20" fill="#fff">in a box</text></svg>
</article></main></body></html>""".replace("MATH", as_mathml("a^2"))


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with open_browser() as browser:
        yield Reader(browser)


def read(reader: Reader, folder: Path, fragment: str = "", *, html: str = GOOD) -> list[str]:
    """What is said of a page with something more in it."""
    page = folder / "page.html"
    page.write_text(html.replace("</article>", f"{fragment}</article>"), encoding="utf-8")
    reader.known.clear()
    return [f"{kind}: {line}" for kind, lines in reader.read(page, folder).items() for line in lines]


def test_a_good_page_has_no_fault(reader: Reader, tmp_path: Path) -> None:
    assert read(reader, tmp_path) == []


PLANTED = (  # what is put into the good page, and what must be said of it
    ('<img alt="a far picture" src="https://example.org/x.png">', "loads: asks for https://example.org/x.png"),
    ('<img alt="a near picture" src="../x.png">', "which is not in the book's folder"),
    ('<script src="heavy.js"></script>', "loads: weighs 3.1"),
    ("<script>undefinedName()</script>", "console: script error: ReferenceError"),
    ("<script>console.error('it is broken')</script>", "console: error in the console: it is broken"),
    ('<p style="width: 500px">wide</p>', 'sideways: 390 px, dark: scrolls sideways by'),
    ('<p style="font-weight: 300">Thin words.</p>', 'set: 1280 px, light: words in a thin face: <p> "Thin words."'),
    ('<table><tr><th style="max-width: 3em; overflow-wrap: anywhere">Unbreakable</th></tr></table>',
     "set: 820 px, light: a word of a table's head is broken: <th> \"Unbreakable\""),
    ("<p style='color: #888'>Pale words.</p>", 'contrast: 1280 px, light: contrast 3.54'),
    ("<p style='background: #eee'><b style='opacity: .6'>Pale</b></p>", "1280 px, light: contrast 4.0"),
    ("<p style='color: #666'>Dark words.</p>", "contrast: 390 px, dark: contrast 3.29"),
    ('<p class="striped" style="color: #999">Pale.</p>', "contrast: 1280 px, light: contrast 2.8"),
    ('<svg width="90" height="30" aria-hidden="true"><rect width="90" height="30" fill="#777"/>'
     '<text y="20" fill="#aaa">pale</text></svg>', "with what is seen behind it: <text> \"pale\""),
    ('<input aria-label="word" placeholder="word" style="color: #222; background: #fff" class="pale">'
     "<style>.pale::placeholder {color: #aaa}</style>", "contrast: 1280 px, light: contrast 2.32"),
    ('<span onclick="1" style="cursor: pointer">press</span>', "keyboard: can be pressed by a mouse alone: <span>"),
    ('<a href="#words" style="outline: none">link</a>', 'keyboard: focus is not to be seen on <a> "link"'),
    ('<input aria-label="trap" onkeydown="event.preventDefault()"><button type="button">after</button>',
     'keyboard: the Tab key never comes to <button> "after"'),
    ('<span class="math">x_1</span>', "formulas: a formula is not shown: <span.math>"),
)  # fmt: skip


@pytest.fixture(scope="module")
def said(reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is said of a page with all of them: each stands for itself, for the good page has none."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "heavy.js").write_text(" " * 3_100_000)
    return read(reader, folder, "".join(fragment for fragment, _ in PLANTED))


@pytest.mark.parametrize(("fragment", "sentence"), PLANTED)
def test_a_fault_is_found(said: list[str], fragment: str, sentence: str) -> None:
    assert any(sentence in line for line in said), said


def test_a_page_without_a_way_past_its_menus_is_found(reader: Reader, tmp_path: Path) -> None:
    found = read(reader, tmp_path, html=GOOD.replace("#words", "#nowhere"))
    assert any("it must be a link past the menus" in line for line in found), found


@pytest.mark.skipif(bool(why_no_axe()), reason=why_no_axe())
def test_axe_is_asked(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(GOOD.replace("</article>", "<button></button></article>"), encoding="utf-8")
    found = read_site(tmp_path, [tmp_path / "page.html"])["page.html"]["axe"]
    assert found
    assert found[0].startswith("1280 px, light: axe button-name (critical): <button></button>")
