"""What is taken out of a built site, what is put in, and its formulas; all on text, without a browser."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont

from dclib.press.access import accessible
from dclib.press.formulas import as_mathml
from dclib.press.light import FONTS, STYLE, lighten

ICONS = {"list": "\uf03a", "moon": "\uf186", "xmark": "\uf00d", "ghost": "\uf6e2"}  # the last one is shown nowhere
CSS = (
    ".btn{color:red}"
    + "".join(f'.fa-{name}:before{{content:"\\{ord(letter):x}"}}' for name, letter in ICONS.items())
    + 'html{--pst-icon-bell:"\uf0f3"}.more:after{content:"\\f107";font-family:Font Awesome\\ 6 Free}'
    + "@font-face{font-family:Font Awesome\\ 6 Free;src:url(../vendor/fontawesome/webfonts/fa-solid-900.woff2) "
    + 'format("woff2"),url(../vendor/fontawesome/webfonts/fa-solid-900.ttf) format("truetype")}'
    + "\n/*# sourceMappingURL=theme.css.map*/"
)
HTML = """<html><head>
    <script src="_static/scripts/fontawesome.js?digest=1"></script>
</head><body><i class="fa-solid fa-list"></i><span class="fa-solid fa-moon"></span></body></html>"""


def make_font(path: Path) -> None:
    """A font with a triangle for each icon."""
    letters = [*ICONS.values(), "\uf0f3", "\uf107"]
    names = [".notdef", *(f"u{ord(letter):x}" for letter in letters)]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((500, 0))
    pen.lineTo((0, 500))
    pen.closePath()
    glyph = pen.glyph()
    builder = FontBuilder(512)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(names, glyph))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (512, 0)))
    builder.setupHorizontalHeader()
    builder.setupNameTable({"familyName": "Icons", "styleName": "Solid"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True)
    builder.save(path)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    files = {
        STYLE: CSS,
        "index.html": HTML,
        "_static/scripts/fontawesome.js": "fa-ghost",
        "_static/scripts/fontawesome.js.map": "{}",
        "_static/scripts/theme.js": 'x.className = "fa-solid fa-xmark";\n//# sourceMappingURL=theme.js.map',
        "_static/scripts/theme.js.map": "{}",
        "_static/locales/fr/booktheme.mo": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    make_font(tmp_path / FONTS / "webfonts" / "fa-solid-900.ttf")
    return tmp_path


def test_a_light_site_keeps_the_icons_that_are_shown_and_nothing_that_no_page_loads(site: Path) -> None:
    lighten(site)
    css = (site / STYLE).read_text(encoding="utf-8")
    data = re.search(r'src:url\(data:font/woff;base64,([^)]+)\) format\("woff"\)\}', css)
    assert data
    kept = TTFont(io.BytesIO(base64.b64decode(data[1]))).getBestCmap()
    assert {chr(code) for code in kept} == {*ICONS.values(), "\uf0f3", "\uf107"} - {ICONS["ghost"]}
    assert "fa-moon:before" in css
    assert "fa-ghost" not in css
    assert ".btn{color:red}" in css
    left = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert left == {STYLE, "index.html", "_static/scripts/theme.js"}
    soup = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.find("script") is None
    assert soup.i["aria-hidden"] == "true"
    assert "sourceMappingURL" not in css + (site / "_static/scripts/theme.js").read_text(encoding="utf-8")
    lighten(site)  # nothing is left to do
    assert (site / STYLE).read_text(encoding="utf-8") == css


def test_a_list_of_sources_holds_its_entries() -> None:
    html = '<div role="list"><div class="citation" id="id4" role="doc-biblioentry"><a href="#id1">A</a></div></div>'
    assert BeautifulSoup(accessible(html), "html.parser").find(id="id4")["role"] == "listitem"


def test_another_theme_is_told(tmp_path: Path) -> None:
    lighten(tmp_path)  # there is none
    (tmp_path / STYLE).parent.mkdir(parents=True)
    (tmp_path / STYLE).write_text("body { color: red }")
    with pytest.raises(ValueError, match="need the theme's icons in _static/styles/"):
        lighten(tmp_path)


def test_what_opens_a_part_of_the_menu_has_a_name() -> None:
    html = (
        '<a class="reference internal" href="a.html">Nets &amp; <em>more</em></a><details><summary><i></i></summary>'
        '<summary aria-label="Toggle hidden content"><p>Show code</p></summary>'
        '<button class="btn search-button-field x" title="Search" aria-label="Search" data-x="1">Search Ctrl+K</button>'
        '<button class="btn" aria-label="Search"></button>'
    )
    soup = BeautifulSoup(accessible(html), "html.parser")
    first, second = soup.find_all("summary")
    assert first["aria-label"] == "Pages below: Nets & more"
    assert not second.attrs
    field, other = soup.find_all("button")
    assert set(field.attrs) == {"class", "title", "data-x"}
    assert other["aria-label"] == "Search"


@pytest.mark.parametrize(
    ("tex", "words"),
    [
        (r"x_1, \dots, x_n", "x1,…,xn"),
        (r"\big(\max(\lambda_j, 1)\big)^{-1/2}", "(max(λj,1))−1/2"),
        (r"\ln \operatorname{softmax}(V)", "ln\u2061softmax\u2061(V)"),
        (r"\bar c_K", "cˉK"),
        (r"90°\,q", "90°q"),
        (r"\begin{split}\begin{gathered} a = b, \\[4pt] \small c = d \end{gathered}\end{split}", "a=b,c=d"),
        (r"\lVert x \rVert^2 < 2", "‖x‖2<2"),
    ],
)
def test_formulas_of_our_pages_become_mathml(tex: str, words: str) -> None:
    made = BeautifulSoup(as_mathml(tex, block=True), "html.parser")
    assert made.math["display"] == "block"
    assert "".join(made.get_text().split()) == words
    assert made.math.attrs.pop("alttext") == tex
    assert "\\" not in str(made)


def test_an_index_is_beside_a_letter_with_a_bar() -> None:
    made = BeautifulSoup(as_mathml(r"\bar c_K"), "html.parser")
    assert made.find("munderover") is None
    assert made.msub.mover.mi.get_text() == "c"


def test_a_formula_that_cannot_be_typeset_is_told() -> None:
    with pytest.raises(ValueError, match=r"got 'a \\\\wrong b' \(Unknown LaTeX command"):
        as_mathml(r"a \wrong b")
