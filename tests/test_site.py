"""The built book: whole, offline, without dead links, readable by everyone, and free of machine debris.

The site that was built last is checked where it exists: the folder named by DCLIB_BUILT_HTML, else _build/html.
A small site of the real configuration and story pages with stand-in stage pages is built and checked always, and
each check is tried on a page that has the fault.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from stand_in_site import BOOK, ROOT, shared_stand_in_site, toc_files

from dclib.presets import parse_preset
from dclib.press.search import page_words
from dclib.report.names import DRAWN_NOTICE
from dclib.report.published import BESIDE

LOADS = {  # what a browser fetches by itself: tag -> attributes
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
LINKS_NOT_LOADED = {"canonical", "author", "license", "next", "prev", "search", "index", "copyright", "help"}
REMOTE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
REMOTE_IN_CSS = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])(?:https?:)?//[^)'\"]+", re.IGNORECASE)
REMOTE_IN_SCRIPT = re.compile(r"(?:import|fetch|importScripts)\s*\(\s*['\"]https?://|\.src\s*=\s*['\"]https?://")
MACHINE_PATH = re.compile(r"(?<![\w.:/-])(?:/(?:home|root|tmp|work|Users|mnt|opt/\w+)/[\w.-]+|[A-Z]:\\Users\\\w+)")
RAW_TEX = re.compile(r"\$\$|\\[()\[\]]|\\[a-zA-Z]{2,}\s*[{_^]|(?<![\w$])\$[^$\s][^$\n]*[\\_^][^$\n]*\$")
RAW_MYST = re.compile(r"\{(?:cite|ref|doc|term|numref|glue|eq)(?::\w+)?\}`|^:::|^```\{", re.MULTILINE)
FILE_NAME = re.compile(r"\.(?:png|svg|jpe?g|gif|webp|pdf)\b|^_images|^[\w./-]*/[\w./-]+$", re.IGNORECASE)

REAL_NAMES = re.compile(r"[Pp]hotograph|\bVOC|Oxford|Paris|ImageNet|Places205|YFCC")
SAID_TO_BE_ELSEWHERE = re.compile(r"[Dd]rawn stand-in|\bpaper\b|supplement|\breal\b")
CREDITED = re.compile(r"Photographs? by [^.]*|Photographers of [^.]*")
# speed and plans are of generated files and of the paper's set-up; the scorecard gives the paper's claims in its words
NOT_OF_THESE_IMAGES = ("judging", "performance", "planner", "scaling", "scorecard")


@dataclass(frozen=True)
class Page:
    """One HTML file of a site."""

    site: Path
    path: Path

    @cached_property
    def soup(self) -> BeautifulSoup:
        return BeautifulSoup(self.path.read_text(encoding="utf-8"), "html.parser")

    @property
    def name(self) -> str:
        return self.path.relative_to(self.site).as_posix()

    @cached_property
    def anchors(self) -> set[str]:
        return {str(t[a]) for t in self.soup.find_all(True) for a in ("id", "name") if t.get(a)}


def pages_of(site: Path) -> list[Page]:
    return [Page(site, p) for p in sorted(site.rglob("*.html")) if "_static" not in p.relative_to(site).parts]


def remote_loads(page: Page) -> Iterator[str]:
    """What the browser would fetch from elsewhere; links to click on are free to lead away."""
    for tag in page.soup.find_all([*LOADS, "link"]):
        if tag.name == "link":
            rel = set(tag.get_attribute_list("rel"))
            urls = [] if rel & LINKS_NOT_LOADED else [str(tag.get("href", ""))]
        else:
            urls = [u for a in LOADS[tag.name] for u in str(tag.get(a, "")).split(",")]
        yield from (f"<{tag.name}> loads {u.strip()}" for u in urls if REMOTE.match(u))
    for tag in page.soup.find_all("style"):
        yield from (f"a style loads {m}" for m in REMOTE_IN_CSS.findall(tag.get_text()))
    for tag in page.soup.find_all(style=True):
        yield from (f"a style attribute loads {m}" for m in REMOTE_IN_CSS.findall(str(tag["style"])))
    for tag in page.soup.find_all("script", src=False):
        yield from (f"a script loads {m}" for m in REMOTE_IN_SCRIPT.findall(tag.get_text()))


def dead_links(page: Page) -> Iterator[str]:
    """Links and files inside the site that are not there, and anchors that no element has."""
    for tag in page.soup.find_all(True):
        for attribute in ("href", "src", "data", "xlink:href"):
            url = tag.get(attribute)
            if url and not REMOTE.match(str(url)) and (problem := _dead(page, str(url))):
                yield f"<{tag.name} {attribute}={url!r}>: {problem}"


def _dead(page: Page, url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme:  # mailto:, data:, javascript:
        return None
    target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path.resolve()
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return "no such file"
    fragment = unquote(parts.fragment)
    if fragment and target.suffix == ".html" and fragment not in _anchors(page.site, target):
        return f"no element is called {fragment!r}"
    return None


@cache
def _anchors(site: Path, path: Path) -> set[str]:
    return Page(site, path).anchors | {"top"}


def unreadable_images(page: Page) -> Iterator[str]:
    """Images that say nothing to a reader who cannot see them."""
    for tag in page.soup.find_all("img"):
        alt = str(tag.get("alt") or "").strip()
        if not alt or FILE_NAME.search(alt) or len(alt.split()) < 2:
            yield f"image {tag.get('src', '')!r} needs an alt text in words; it has {alt!r}"
    for tag in page.soup.find_all("svg"):
        hidden = tag.get("aria-hidden") == "true"
        if not (hidden or tag.get("aria-label") or tag.get("aria-labelledby") or tag.find("title", recursive=False)):
            yield "an inline <svg> needs a <title> or an aria-label, or aria-hidden"


def machine_paths(text: str) -> Iterator[str]:
    """Paths of the machine that built the site."""
    yield from (f"path of the building machine: {m}" for m in sorted(set(MACHINE_PATH.findall(text))))


def errors_shown(page: Page) -> Iterator[str]:
    """Tracebacks, warnings of stderr and unresolved markup that ended up on the page."""
    for css in (".traceback", ".cell_output .stderr", ".system-message", ".problematic"):
        yield from (f"{css}: {t.get_text(' ', strip=True)[:80]!r}" for t in page.soup.select(css))
    if "Traceback (most recent call last)" in page.soup.get_text():
        yield "a traceback"
    if page.soup.find(string=re.compile("papermill-error-cell-tag|An Exception was encountered")):
        yield "papermill's error banner"


def raw_markup(page: Page) -> Iterator[str]:
    """TeX or MyST that was not typeset."""
    body = BeautifulSoup(str(page.soup.select_one("article") or page.soup.body or ""), "html.parser")
    for tag in body(["script", "style", "code", "pre", "svg", "textarea", "math"]):
        tag.decompose()
    text = body.get_text()
    for pattern in (RAW_TEX, RAW_MYST):
        yield from (f"not typeset: {m.group(0)[:60]!r}" for m in pattern.finditer(text))
    for tag in body.select(".math"):
        if tag.get_text(strip=True):
            yield f"a formula was not typeset: {tag.get_text(' ', strip=True)[:60]!r}"


def broken_tables(page: Page) -> Iterator[str]:
    """Rows of a table that was cut in two: what follows an empty line is set as words."""
    for tag in page.soup.find_all("p"):
        if tag.get_text(strip=True).startswith("|"):
            yield f"a row outside its table: {tag.get_text(' ', strip=True)[:60]!r}"


def unnamed(page: Page) -> Iterator[str]:
    """Language, title, view port: what a screen reader and a phone ask for first."""
    html = page.soup.find("html")
    if not (isinstance(html, Tag) and html.get("lang")):
        yield "<html> needs lang"
    title = page.soup.find("title")
    if title is None or not title.get_text(strip=True).strip(" —-"):
        yield "needs a <title>"
    if page.soup.find("meta", attrs={"name": "viewport"}) is None:
        yield "needs <meta name=viewport>"


PAGE_CHECKS = (remote_loads, dead_links, unreadable_images, errors_shown, raw_markup, broken_tables, unnamed)


def drawings_called_real(page: Page) -> Iterator[str]:
    """Captions, heads and alternative texts that name a public set or speak of photographs, and credits of people.

    The published numbers are of the real sets, and what is said of the paper may name them.
    """
    shown = [*page.soup.select("figcaption, caption, .cell_output th"), *page.soup.select(".cell_output img")]
    for tag in shown if page.path.stem not in NOT_OF_THESE_IMAGES else []:
        words = " ".join(str(tag.get("alt") or tag.get_text(" ")).split())
        if REAL_NAMES.search(words) and not SAID_TO_BE_ELSEWHERE.search(words):
            yield f"a drawn set is called real: {words[:90]!r}"
    for tag in page.soup.select(".cell_output p, .cell_output figcaption"):
        if found := CREDITED.search(tag.get_text(" ")):
            yield f"invented people are credited: {found[0]!r}"


def is_drawn(site: Path) -> bool:
    """Whether a book says of its images that they were drawn."""
    path = site / "stages" / "data.html"
    return path.is_file() and DRAWN_NOTICE in " ".join(Page(site, path).soup.get_text(" ").split())


def faults(site: Path) -> list[str]:
    """Everything wrong with a built site, one line each."""
    found = [f"{page.name}: {fault}" for page in pages_of(site) for check in PAGE_CHECKS for fault in check(page)]
    drawn = [page for page in pages_of(site) if page.path.parent.name not in BESIDE.values()] if is_drawn(site) else []
    found += [f"{page.name}: {fault}" for page in drawn for fault in drawings_called_real(page)]
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site).as_posix()
        if path.suffix == ".css":
            found += [f"{name}: loads {m}" for m in REMOTE_IN_CSS.findall(path.read_text(encoding="utf-8"))]
        if path.suffix in {".html", ".ipynb", ".md", ".txt"} or name == "searchindex.js":
            found += [f"{name}: {fault}" for fault in machine_paths(path.read_text(encoding="utf-8"))]
    return found


def missing_pages(site: Path, toc: Path) -> list[str]:
    return [name for name in toc_files(toc) if not (site / f"{name}.html").is_file()]


# ---- the site that was built last


@pytest.fixture(scope="module")
def built_site() -> Path:
    site = Path(os.environ.get("DCLIB_BUILT_HTML", ROOT / "_build" / "html"))
    if not (site / "index.html").is_file():
        pytest.skip("no built book in _build/html (make book builds it; DCLIB_BUILT_HTML names another folder)")
    return site


def test_built_book_has_every_page_of_its_contents(built_site: Path) -> None:
    assert missing_pages(built_site, BOOK / "_toc.yml") == []


def test_built_book_has_no_fault(built_site: Path) -> None:
    assert faults(built_site) == []


# ---- the real configuration and story pages, with stand-ins for the stage pages


@pytest.fixture(scope="module")
def stand_in_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_stand_in_site(tmp_path_factory)


@pytest.mark.slow
def test_story_pages_build_without_a_warning_and_without_a_fault(stand_in_site: Path) -> None:
    assert missing_pages(stand_in_site, BOOK / "_toc.yml") == []
    assert faults(stand_in_site) == []


def test_search_has_the_words_of_every_page(stand_in_site: Path) -> None:
    script = (stand_in_site / "search_texts.js").read_text(encoding="utf-8")
    texts = json.JSONDecoder().raw_decode(script.removeprefix("const TEXTS = "))[0]
    assert list(texts) == toc_files(BOOK / "_toc.yml")
    for name, html in texts.items():
        article = Page(stand_in_site, stand_in_site / f"{name}.html").soup.select_one("article")
        for tag in article.select("script, style, svg, button, a.headerlink"):
            tag.decompose()
        told = BeautifulSoup(html, "html.parser")
        words = told.get_text().split()
        assert "".join(words) == "".join(article.get_text().split()), name
        cells = [cell.string for cell in article.select("th, td, dt, dd, h2") if cell.string and cell.string.strip()]
        first = {cell.split()[0] for cell in cells}
        assert first <= set(words), name  # each apart from what stands before it
        assert {t["id"] for t in told.find_all(id=True)} == {t["id"] for t in article.select("section[id], dt[id]")}
        assert not told.find_all(lambda tag: tag.name not in ("section", "dt"))
    scripts = [str(s.get("src")) for s in Page(stand_in_site, stand_in_site / "search.html").soup.select("script[src]")]
    own, theirs = scripts.index("search_texts.js"), next(i for i, s in enumerate(scripts) if "searchtools" in s)
    assert own < theirs


def test_words_of_a_page_are_text_and_anchors() -> None:
    inner = "<section id='a&amp;\"'><h1>1 &lt; 2</h1><script>x</script> <b>so</b><a class='headerlink'>#</a></section>"
    html = f"<nav>up</nav><article>{inner}</article>on"
    assert page_words(html) == '<section id="a&amp;&quot;"> 1 &lt; 2 so</section>'
    row = "<tr><th>conv1<small>± 0.4</small></th><td>two<br>lines</td><td>w<b>or</b>d</td></tr>"
    assert page_words(f"<article>{row}</article>") == "conv1 ± 0.4 two lines word"


def variables(site: Path, mode: str) -> dict[str, str]:
    """The custom properties of a colour mode: the theme's, and ours over them."""
    css = "".join(p.read_text("utf-8") for p in [*sorted(site.glob("_static/styles/*.css")), BOOK / "_static/book.css"])
    found: dict[str, str] = {}
    for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)):
        parts = [part.strip() for part in selector.split(",")]
        if any(re.fullmatch(rf'html(\[data-theme="?{mode}"?\])?|:root', part) for part in parts):
            found |= dict(re.findall(r"(--[\w-]+)\s*:\s*([^;]+)", body))
    return found


def resolve(value: str, known: dict[str, str]) -> list[float]:
    """#rgb or #rrggbb, also behind a variable, as three channels of 255."""
    while name := re.match(r"var\((--[\w-]+)", value):
        value = known[name[1]].strip()
    digits = value.strip().lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    return [int(digits[i : i + 2], 16) for i in (0, 2, 4)]


def contrast(one: list[float], other: list[float]) -> float:
    """Of WCAG 2, from 1 to 21."""
    channels = [
        [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb] for rgb in (one, other)
    ]
    light, dark = sorted((0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in channels), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_links_can_be_read_on_every_ground(stand_in_site: Path, mode: str) -> None:
    known = variables(stand_in_site, mode)
    page = resolve("var(--pst-color-background)", known)
    tint = re.search(
        r"--pst-color-table-row-zebra-low-bg: rgb\(128 128 128 / (\d+)%\)", (BOOK / "_static/book.css").read_text()
    )
    assert tint
    share = int(tint[1]) / 100
    grounds = {
        name: resolve(f"var(--pst-color-{name})", known) for name in ("background", "surface", "table-row-hover-bg")
    }
    grounds["a tinted row"] = [share * 128 + (1 - share) * channel for channel in page]
    for link in ("link", "link-hover"):
        color = resolve(f"var(--pst-color-{link})", known)
        low = {name: contrast(color, ground) for name, ground in grounds.items() if contrast(color, ground) < 4.5}
        assert not low, (link, low)


def test_every_story_page_is_in_the_contents() -> None:
    listed = set(toc_files(BOOK / "_toc.yml"))
    assert {p.stem for p in BOOK.glob("*.md")} == {name for name in listed if "/" not in name}


def test_story_pages_name_modules_that_exist() -> None:
    places = re.compile(r"\[((?:dclib|notebooks)/[\w/.]+)\]\{\.where\}")
    named = {(page.name, place) for page in BOOK.glob("*.md") for place in places.findall(page.read_text("utf-8"))}
    assert len(named) > 20
    assert sorted((page, place) for page, place in named if not (ROOT / place).is_file()) == []


def code_blocks(page: str, language: str) -> list[str]:
    text = (BOOK / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_imports_on_the_pages_name_what_the_modules_define() -> None:
    nodes = [n for block in code_blocks("own_images.md", "python") for n in ast.walk(ast.parse(block))]
    imports = [n for n in nodes if isinstance(n, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = ROOT / f"{str(node.module).replace('.', '/')}.py"
        body = ast.parse(module.read_text(encoding="utf-8")).body
        defined = {n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        assert {alias.name for alias in node.names} <= defined, node.module


def test_settings_on_the_pages_are_a_preset() -> None:
    blocks = code_blocks("own_images.md", "yaml")
    assert blocks
    for block in blocks:
        parse_preset("page", yaml.safe_load(block))


def test_code_on_the_pages_fits_the_column() -> None:
    blocks = [b for page in BOOK.glob("*.md") for b in code_blocks(page.name, r"\w+")]
    assert [line for block in blocks for line in block.splitlines() if len(line) > 79] == []


def test_deviations_are_numbered_through() -> None:
    text = (BOOK / "deviations.md").read_text(encoding="utf-8")
    labels = re.findall(r"\[\*\*D(\d+)\*\*.*?\]\{#D(\d+)\}", text)
    assert labels
    assert labels == [(str(n), str(n)) for n in range(1, len(labels) + 1)]


def test_no_empty_line_cuts_a_table_in_two() -> None:
    """The first row of a table is followed by the line that makes it one."""
    for page in BOOK.glob("*.md"):
        blocks = re.split(r"\n\s*\n", page.read_text(encoding="utf-8"))
        for block in (b.strip("\n") for b in blocks if b.lstrip("\n").startswith("|")):
            assert re.match(r"\|.*\n\|[-:| ]+\|(\n|$)", block), (page.name, block[:60])


# ---- each check finds its fault, and leaves the good page alone

GOOD = """<html lang="en"><head><title>A page</title><meta name="viewport" content="width=device-width">
<link rel="canonical" href="https://example.org/page.html"><link rel="stylesheet" href="style.css">
<script src="page.js"></script></head><body><article><h1 id="start">A page</h1>
<a href="#start">up</a> <a href="https://example.org/root/x">away</a> <a href="other.html#there">on</a>
<img src="p.png" alt="two curves that rise"> <span class="math"><math><mi>a</mi></math></span> costs $5 or $6,
<code>$x_1$</code> <pre>/usr/bin/env</pre> <svg aria-hidden="true"></svg> <svg><title>a dot</title></svg>
</article></body></html>"""


@pytest.fixture
def small_site(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text(GOOD)
    (tmp_path / "other.html").write_text(GOOD.replace('id="start"', 'id="there"').replace("#start", "#there"))
    for name in ("style.css", "page.js", "p.png"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_a_good_page_has_no_fault(small_site: Path) -> None:
    assert faults(small_site) == []


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        (
            '<script src="https://cdn.example.org/x.js"></script>',
            "<script> loads https://cdn.example.org/x.js",
        ),
        ('<link rel="stylesheet" href="//cdn.example.org/x.css">', "<link> loads //cdn"),
        ('<link rel="preconnect" href="https://fonts.example.org">', "<link> loads https://fonts"),
        ('<img alt="a fine picture" src="http://example.org/x.png">', "<img> loads http://example"),
        (
            '<img alt="a fine picture" src="p.png" srcset="p.png 1x, https://example.org/2.png 2x">',
            "loads https://ex",
        ),
        ('<iframe src="https://example.org"></iframe>', "<iframe> loads"),
        ("<style>@font-face {src: url('https://example.org/f.woff')}</style>", "a style loads"),
        ('<p style="background: url(//example.org/b.png)">x</p>', "a style attribute loads"),
        ("<script>import('https://example.org/m.js')</script>", "a script loads"),
        ('<a href="nowhere.html">x</a>', "no such file"),
        ('<img alt="a fine picture" src="lost.png">', "no such file"),
        ('<a href="#nobody">x</a>', "no element is called 'nobody'"),
        ('<a href="other.html#nobody">x</a>', "no element is called 'nobody'"),
        ('<svg aria-hidden="true"><use href="#gone"/></svg>', "no element is called 'gone'"),
        ('<img src="p.png">', "needs an alt text"),
        ('<img src="p.png" alt="  ">', "needs an alt text"),
        ('<img src="p.png" alt="../_images/3fa9.png">', "needs an alt text"),
        ('<img src="p.png" alt="stages/linear_probes">', "needs an alt text"),
        ('<img src="p.png" alt="figure">', "needs an alt text"),
        ("<svg><path d='M0 0'/></svg>", "an inline <svg> needs"),
        ("<p>saved to /home/someone/run</p>", "path of the building machine: /home/someone"),
        ('<a href="page.html" title="/tmp/x1/page">x</a>', "path of the building machine: /tmp/x1"),
        ('<div class="output traceback">ValueError</div>', ".traceback"),
        ("<pre>Traceback (most recent call last): x</pre>", "a traceback"),
        ('<div class="cell_output"><div class="output stderr">warning</div></div>', "stderr"),
        ('<span class="problematic">|x|</span>', ".problematic"),
        ("<p>An Exception was encountered at cell 3</p>", "papermill's error banner"),
        ("<p>the sum $\\sum_i x_i$ of</p>", "not typeset"),
        ("<p>of size $n_k$ here</p>", "not typeset"),
        ("<p>\\(x\\) here</p>", "not typeset"),
        ("<td>\\mathbf{x}</td>", "not typeset"),
        ("<p>see {ref}`nmi` there</p>", "not typeset"),
        ("<p>| <b>D27</b> | late | time |</p>", "a row outside its table: '| D27 | late"),
    ],
)
def test_a_fault_is_found(small_site: Path, fragment: str, message: str) -> None:
    page = small_site / "page.html"
    page.write_text(GOOD.replace("</article>", f"{fragment}</article>"))
    found = faults(small_site)
    assert found
    assert all(line.startswith("page.html: ") for line in found)
    assert any(message in line for line in found), found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (' lang="en"', "", "needs lang"),
        ("<title>A page</title>", "<title> </title>", "needs a <title>"),
        ('<meta name="viewport" content="width=device-width">', "", "viewport"),
        ("<math><mi>a</mi></math>", "a^2", "a formula was not typeset: 'a^2'"),
    ],
)
def test_what_a_page_lacks_is_found(small_site: Path, old: str, new: str, message: str) -> None:
    (small_site / "page.html").write_text(GOOD.replace(old, new))
    assert any(message in line for line in faults(small_site))


@pytest.mark.parametrize(
    "fragment",
    [
        "<figure><figcaption>Classes of VOC2007, 400 test images.</figcaption></figure>",
        "<table><caption>How uneven: 10,000 photographs</caption></table>",
        "<table><tr><th>Oxford5K</th></tr></table>",
        '<img src="p.png" alt="Photograph: a red wall">',
        "<p>Photographers of cluster 3 (cat), left to right: ann, bob.</p>",
        "<figure><figcaption>Drawn stand-in for VOC2007. Photographs by ann.</figcaption></figure>",
    ],
)
def test_a_drawing_called_real_is_found_in_a_drawn_book_only(small_site: Path, fragment: str) -> None:
    page = small_site / "page.html"
    page.write_text(GOOD.replace("</article>", f'<div class="cell_output">{fragment}</div></article>'))
    assert faults(small_site) == []
    (small_site / "stages").mkdir()
    said = f"<p>Preset pocket. {DRAWN_NOTICE}</p></article>"
    (small_site / "stages" / "data.html").write_text(
        GOOD.replace("</article>", said)
        .replace('src="', 'src="../')
        .replace('href="', 'href="../')
        .replace("../http", "http")
        .replace('href="../#', 'href="#')
    )
    found = faults(small_site)
    assert found
    assert all(line.startswith("page.html: ") for line in found), found
    above = fragment.replace('src="', 'src="../')
    (small_site / "photographs").mkdir()  # the pages of another edition are of real ones
    (small_site / "photographs" / "page.html").write_text(
        (small_site / "stages" / "data.html")
        .read_text()
        .replace("</article>", f'<div class="cell_output">{above}</div></article>')
    )
    good = "<figcaption>Drawn stand-in for VOC2007; the paper's numbers are of the real one.</figcaption>"
    page.write_text(GOOD.replace("</article>", f'<div class="cell_output">{good}</div></article>'))
    assert faults(small_site) == []


def test_faults_outside_html_are_found(small_site: Path) -> None:
    (small_site / "style.css").write_text("@import 'https://example.org/x.css';")
    (small_site / "source.ipynb").write_text('{"text": "in /root/secret"}')
    assert len(faults(small_site)) == 2


def test_a_missing_page_is_found(small_site: Path) -> None:
    toc = small_site / "_toc.yml"
    part = {"chapters": [{"file": "lost", "sections": [{"file": "sub/lost"}]}, {"file": "other"}]}
    toc.write_text(yaml.safe_dump({"root": "page", "parts": [part]}))
    assert missing_pages(small_site, toc) == ["lost", "sub/lost"]
