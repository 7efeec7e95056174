"""The book on paper: a small one is printed, and read back with Poppler's tools, which know nothing of the printer."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup
from PIL import ImageFile

from dclib.presets import project_root
from dclib.press import print_formulas, print_pages
from dclib.press.forms import _block
from dclib.press.formulas import as_mathml
from dclib.press.print import load_printer, print_book, read_imprint
from dclib.press.print_formulas import draw_formulas
from dclib.press.print_pages import SOLVED, read_chapters, read_contents
from dclib.report.tables import STYLE

POINTS = 72 / 25.4  # in a millimetre
LISTED = '<li class="toctree-l{}"><a class="reference internal" href="{}">{}</a>'
NAV = f"""<nav class="bd-links"><ul>{LISTED.format(1, "#", "The small book")}</li></ul>
<p class="caption"><span>First part</span></p><ul>{LISTED.format(1, "method.html", "Method")}
<ul>{LISTED.format(2, "stages/wide.html", "Wide tables")}</li></ul></li></ul></nav>"""
PAGES = {
    "index.html": """<h1>The small book<a class="headerlink" href="#x">#</a></h1><p>Words of the front.</p>
<p>See <a href="stages/wide.html#far">the far place</a> and <a href="https://example.org/a/long/address">a site</a>.</p>
<p>And <a href="explorer/index.html">the explorer</a>.</p><button>press me</button><script>alert(1)</script>
<noscript><p>what stands without scripts</p></noscript>""",
    "method.html": """<h1>Method</h1>
<details class="hide"><summary>Show code</summary><pre>hidden_code()</pre></details>
<details class="dclib-provenance"><summary>seeds 0 and 1</summary><dl><dd>the whole card</dd></dl></details>
<details class="dclib-fold"><summary>More</summary><p>reading matter in a fold</p></details>"""
    + "".join(f"<p id='p{i}'>Paragraph {i}. {'Many words follow here. ' * 30}</p>" for i in range(12)),
    "stages/wide.html": f"<h1>Wide tables</h1><p>Before the table.</p>{STYLE}<div class='dclib-table'>"
    + "<table><tr><th>layer</th>"
    + "".join(f"<th>convolution{i}</th>" for i in range(15))
    + "</tr><tr><td>accuracy</td>"
    + "".join(f"<td>{i}.12 ± 0.5</td>" for i in range(15))
    + "</tr></table></div><p id='far'>The far place is here.</p>",
}


def write_site(folder: Path, **changed: str) -> Path:
    for name, text in {**PAGES, **changed}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<html><body>{NAV}<article>{text}</article></body></html>", encoding="utf-8")
    return folder


def poppler(tool: str, *arguments: object) -> str:
    return subprocess.run([tool, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, list[str]]:
    """The small book, its number of pages as the printer says, and the text of each."""
    try:
        load_printer()
    except ValueError as error:
        pytest.skip(str(error))
    if shutil.which("pdftotext") is None:
        pytest.skip("needs pdftotext to read a PDF: on Debian, apt install poppler-utils")
    folder = tmp_path_factory.mktemp("printed")
    n_pages = print_book(write_site(folder / "site"), folder / "book.pdf")
    return folder / "book.pdf", n_pages, poppler("pdftotext", "-layout", folder / "book.pdf", "-").split("\f")[:-1]


def page_with(words: str, pages: list[str]) -> int:
    """Number of the one page with these words."""
    (found,) = [i for i, text in enumerate(pages, start=1) if words in " ".join(text.split())]
    return found


def test_every_sheet_is_a4_and_counted(printed) -> None:
    path, n_pages, pages = printed
    assert len(pages) == n_pages
    facts = poppler("pdfinfo", "-f", 1, "-l", n_pages, path)
    sizes = re.findall(r"size: +([\d.]+) x ([\d.]+) pts", facts)
    assert len(sizes) == n_pages
    assert {tuple(round(float(side) / POINTS) for side in sorted(size, key=float)) for size in sizes} == {(210, 297)}
    imprint = read_imprint(project_root())
    assert re.search(rf"Title: +{imprint.title}", facts)
    assert all(name in facts for name in imprint.authors)
    assert imprint.title in " ".join(pages[0].split())
    assert all(name in pages[0] for name in imprint.paper_authors[:2])


def test_contents_name_the_pages_where_the_chapters_begin(printed) -> None:
    _, _, pages = printed
    begins = {"The small book": "Words of the front.", "Method": "Paragraph 0.", "Wide tables": "Before the table."}
    for title, words in begins.items():
        (line,) = re.findall(rf"^ *{title}[ .]+(\d+)$", pages[1], flags=re.M)
        assert int(line) == page_with(words, pages)
    for number, text in enumerate(pages[1:], start=2):  # each says its number at the foot, or beside it above notes
        assert re.search(rf"^ +{number}$", text, flags=re.M)
    assert page_with("Paragraph 11.", pages) > page_with("Paragraph 0.", pages)


def test_links_say_their_page_or_their_address(printed) -> None:
    _, _, pages = printed
    front = " ".join(pages[page_with("Words of the front.", pages) - 1].split())
    assert f"the far place (p. {page_with('The far place is here.', pages)})" in front
    assert re.search(r"\b1\. https://example\.org/a/long/address", front)
    assert re.search(r"\b2\. explorer/index\.html, a file of the book on the screen", front)


def test_no_word_leaves_the_sheet(printed) -> None:
    path, n_pages, _ = printed
    tree = ElementTree.fromstring(poppler("pdftotext", "-bbox", path, "-"))
    pages = tree.findall(".//{*}page")
    assert len(pages) == n_pages
    for page in pages:
        edges = [float(word.get("xMax", 0)) for word in page.findall("{*}word")]
        assert max(edges, default=0) <= float(page.get("width", 0)) - 21.9 * POINTS  # the margin is 22 mm


def test_fonts_are_in_the_file_and_the_outline_too(printed) -> None:
    path, _, _ = printed
    rows = [row.split() for row in poppler("pdffonts", path).splitlines()[2:]]
    assert rows
    assert all(row[-5] == "yes" for row in rows)  # name, type, encoding, emb, sub, uni, object, ID
    assert {"Book-Text", "Book-Signs-Bold"} <= {row[0].split("+")[1] for row in rows}
    outline = poppler("pdftohtml", "-xml", "-i", "-stdout", path).split("<outline>", 1)[1]
    pages = dict(re.findall(r'<item page="(\d+)">([^<]+)</item>', outline))
    assert list(pages.values()) == ["Contents", "The small book", "First part", "Method", "Wide tables"]
    assert int(next(page for page, title in pages.items() if title == "Wide tables")) == page_with(
        "Before the table.", printed[2]
    )


def test_what_only_a_screen_can_do_is_left_out(printed) -> None:
    text = " ".join(" ".join(printed[2]).split())
    assert all(word not in text for word in ("press me", "alert", "Show code", "hidden_code", "the whole card", "#"))
    assert all(word in text for word in ("what stands without scripts", "seeds 0 and 1", "reading matter in a fold"))


@pytest.mark.parametrize(
    ("columns", "word", "wanted"),
    [(4, "short", []), (14, "longish1", ["fit-smaller"]), (18, "convolution", ["fit-wide", "fit-smaller"])],
)
def test_a_table_gets_the_letters_that_it_fits_in(columns: int, word: str, wanted: list[str]) -> None:
    soup = BeautifulSoup(f"<div><table><tr>{f'<td>{word}</td>' * columns}</tr></table></div>", "html.parser")
    print_pages._fit_table(soup.table)
    assert print_pages._names(soup.table) == wanted
    assert ("sheet-wide" in print_pages._names(soup.div)) == ("fit-wide" in wanted)


def test_formulas_are_drawn_from_their_tex(tmp_path: Path) -> None:
    try:
        print_formulas.find_browser()
    except ValueError as error:
        pytest.skip(str(error))
    two_lines = r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"
    text = f'<h1>F</h1><p>A <span class="math notranslate">{as_mathml("x<y")}</span> and</p>'
    text += f'<div class="math notranslate">{as_mathml(two_lines, block=True)}</div>'
    site = write_site(tmp_path, **{"method.html": text})
    article = {entry.page: article for entry, article in read_chapters(site, read_contents(site))}["method.html"]
    inline, alone = article.select("img")
    assert [inline["alt"], alone["alt"]] == ["x<y", rf"\begin{{split}}{two_lines}\end{{split}}"]
    heights = [float(re.search(r"height: ([\d.]+)em", str(image["style"]))[1]) for image in (inline, alone)]
    assert 0.4 < heights[0] < 1.2 < heights[1]  # a line of letters, and brackets around two lines
    with pytest.raises(ValueError, match=r"cannot be set .*: \\frac\{1"):
        draw_formulas([(r"\frac{1", False)])


def test_where_a_solution_is_folded_paper_says_where_it_is(tmp_path: Path) -> None:
    fold = '<details class="hide above-input"><summary>Show code</summary><pre>solve()</pre></details>'
    text = f'<h1>F</h1><p>A task.</p><div class="cell tag_hide-cell tag_solution">{fold}</div><p>Another task.</p>'
    site = write_site(tmp_path, **{"method.html": text})
    article = {entry.page: article for entry, article in read_chapters(site, read_contents(site))}["method.html"]
    assert list(article.stripped_strings) == ["F", "A task.", SOLVED, "Another task."]


def test_of_a_page_s_form_its_own_command_stands_at_the_end(tmp_path: Path) -> None:
    form = f'<details class="dclib-rerun">{_block("alone", "This page:", "run it")}{_block("whole", "All:", "make")}'
    site = write_site(tmp_path, **{"method.html": f"<h1>F</h1>{form}</details><p>The last words.</p>"})
    article = {entry.page: article for entry, article in read_chapters(site, read_contents(site))}["method.html"]
    assert list(article.stripped_strings) == ["F", "The last words.", "This page:", "run it"]


def test_diagrams_keep_their_colours_and_forms_stay_on_the_screen(tmp_path: Path) -> None:
    text = '<h1>F</h1><figure class="dclib-diagram"><svg viewBox="0 0 9 9"><rect class="dd-core"/></svg></figure>'
    text += '<details class="dclib-rerun">a form</details><details class="dclib-downloads">files</details>'
    site = write_site(tmp_path, **{"method.html": text})
    article = {entry.page: article for entry, article in read_chapters(site, read_contents(site))}["method.html"]
    assert article.select_one("img")["style"] == "width: 9px"  # it has no size of its own
    drawing = base64.b64decode(str(article.select_one("img")["src"]).partition(",")[2]).decode()
    assert re.search(r"(?<!\w )\.dd-core \{\s*fill: #2f7fb8", drawing)
    assert "var(" not in drawing
    assert not re.search(r"[}/]\s*\{", drawing)  # a rule for nothing, at which a printer stops
    assert "dclib-diagram" not in drawing
    assert "a form" not in article.get_text()
    assert "files" not in article.get_text()


def test_broken_pictures_stay_broken_for_others() -> None:
    try:
        load_printer()
    except ValueError as error:
        pytest.skip(str(error))
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="need a built book at .*: run make book first"):
        read_contents(tmp_path)
    (tmp_path / "index.html").write_text("<p>no list</p>")
    with pytest.raises(ValueError, match="need the list of pages in .*build the book anew"):
        read_contents(tmp_path)
    with pytest.raises(ValueError, match=r"authors in .*CITATION\.cff; it is not there"):
        read_imprint(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="need a browser .*apt install chromium"):
        draw_formulas([("x", False)])
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(ModuleNotFoundError(name)))
    with pytest.raises(ValueError, match="need weasyprint .*pip install"):
        load_printer()
