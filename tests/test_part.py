"""Two editions in one book: pages of both by the same notebooks, that nothing of one is taken for the other's."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from synthetic_records import make_card, make_curve, make_training
from test_site import dead_links, pages_of

from dclib import records as records_module
from dclib.press import book, edition, stages
from dclib.press.book import Wanted, make_book
from dclib.press.edition import find_edition
from dclib.press.site import asked_toc, build_book, toc_pages
from dclib.press.stages import EVALUATIONS, ON_REQUEST, SUMMARIES, stage_parts
from dclib.records import PROTOCOL, Record, write_records
from dclib.report import error_rates
from dclib.report.ladder import LADDER
from dclib.report.published import BESIDE

PARAMETERS = 'preset: str = "tiny"\ndata: str = ""\nsettings: dict = {}'
SETUP = """\
from dclib.presets import edition, load_preset
from dclib.report import exhibits, provenance
from dclib.train.shown import sets_to_show
chosen = load_preset(preset, settings)
print("of", edition().name)
exhibits.contact_sheet(sets_to_show(chosen).pool, "images of the pool", chosen.data)"""
FIGURE = """\
probes = [r for r in provenance.load_records(chosen) if r.card.stage == "linear_probe"]
exhibits.accuracy_against_depth(probes, "objects")"""
TOC = """\
format: jb-book
root: index
parts:
  - caption: Pages
    chapters:
      - file: stages/data
        sections:
          - file: stages/pretraining_first
      - file: stages/linear_probes
      - file: stages/sobel
  - caption: What held
    chapters:
      - file: stages/scorecard
      - file: deviations
      - file: _generated/run_status
"""
CONFIG = 'title: Tiny\nonly_build_toc_files: true\nexecute: {execute_notebooks: "off"}\n'
LEDGER = "# Deviations\n" + "".join(f"\n(d{n})=\n## D{n}\n\nOne.\n" for n in (15, 16, 24, 25, 26))
CURVES = {"tiny": [80.0] * 13, "photos": [40.0] * 13}
SEEDS = {"tiny": (0,), "photos": (0, 1, 2)}


def publish(project: Path, name: str) -> None:
    """Records of an edition: one network, probed; the ladder of its preset has a rung of its own."""
    for seed in SEEDS[name]:
        for stage, records in (
            ("pretrain", make_training("first", seed)),
            ("linear_probe", make_curve("first", seed, CURVES[name])),
        ):
            card = make_card("first", seed, stage, preset=name, config={"init": "", "method": "x"})
            plain = [Record(name=r.name, value=r.value, unit=r.unit, n=r.n, keys=r.keys) for r in records]
            write_records(project / "results" / name / "records" / stage / f"first-s{seed}.json", card, plain)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with two editions, of drawings and of images that are not on this machine."""
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(records_module, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(BESIDE, "tiny", "photos")
    monkeypatch.setattr(stages, "EVALUATIONS", {page: EVALUATIONS[page] for page in ("linear_probes", "sobel")})
    monkeypatch.setattr(stages, "SUMMARIES", {"scorecard": SUMMARIES["scorecard"]})
    links = new_markdown_cell("See [the probes](linear_probes), [filters](sobel) and [the ledger](../deviations).")
    drawn = new_markdown_cell("Of drawings alone.", metadata={"tags": ["of-drawings"]})
    for name in ("01_data", "02_pretraining", *EVALUATIONS.values(), *SUMMARIES.values(), *ON_REQUEST.values()):
        parameters = PARAMETERS + ('\nmethod: str = ""' if name.startswith("02") else "")
        first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        cells = [new_markdown_cell(f"# Page {name[3:]}\n\nIts question."), first, links, drawn]
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        notebook = new_notebook(cells=[*cells, new_code_cell(SETUP), new_code_cell(FIGURE)])
        notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    (tmp_path / "notebooks" / "presets").mkdir()
    (tmp_path / "notebooks" / "presets" / "tiny.yaml").write_text("methods:\n  first: {method: rotnet}\n")
    (tmp_path / "notebooks" / "presets" / "photos.yaml").write_text(
        "data: {root: data/gone}\nmethods:\n  first: {method: rotnet}\n  never: {method: rotnet}\n"
    )
    publish(tmp_path, "tiny")
    publish(tmp_path, "photos")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "_toc.yml").write_text(TOC)
    (tmp_path / "book" / "index.md").write_text("# Start\n\n```{raw} html\n:file: _generated/front.html\n```\n")
    (tmp_path / "book" / "deviations.md").write_text(LEDGER)
    (tmp_path / "_config.yml").write_text(CONFIG)
    for page in ("data", "pretraining_first", "linear_probes", "sobel", "scorecard"):
        write_own_page(tmp_path, page)
    return tmp_path


def write_own_page(project: Path, page: str) -> None:
    """A page of the run of drawings, as it was executed; the scorecard's has the row that others lead to."""
    shown = '<figure id="accuracy-objects"><img alt="of tiny" src="data:,"></figure>'
    if page == "scorecard":
        shown = "".join(f'<div id="claim-{kind}{n}"></div>' for kind in "CK" for n in range(1, 60))
    output = new_output("display_data", {"text/html": shown, "text/plain": "of tiny"})
    cells = [new_markdown_cell(f"# Page {page.split('_first')[0]}"), new_code_cell("1", outputs=[output])]
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    pages = project / "runs" / "tiny" / "pages"
    pages.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, pages / f"{page}.ipynb")
    card = {"notebook": "n.ipynb", "parameters": {}, "key": "0", "seconds": 1.0, "threads": 1, "versions": {}}
    (pages / f"{page}.json").write_text(json.dumps({**card, "finished": "2026-01-02T03:04:05+00:00"}))


def article(html: Path, page: str) -> BeautifulSoup:
    return BeautifulSoup((html / f"{page}.html").read_text(), "html.parser").select_one("article")


@pytest.mark.slow
def test_both_editions_stand_in_one_book_and_nothing_of_one_is_the_others(project, capfd):
    """Executed without any image, built by Jupyter Book with warnings as errors, and looked at page by page."""
    (project / "results" / "photos" / PROTOCOL).write_text("# What is measured\n\nAnd what would be a failure.\n")
    kept = project / "results" / "photos" / LADDER / "records" / "pretrain" / "rung-s100.json"
    write_records(kept, make_card("rung", 100, "pretrain", config={"init": "", "method": "rotnet"}), [
        Record(name="loss", value=1.0, unit="nats", n=45_000, keys={"epoch": 1})
    ])  # fmt: skip
    found = find_edition("tiny")
    assert found.beside.own_pages == ["data", "pretraining_first", "linear_probes", "ladder"]  # what has records
    book.show_edition(found, Wanted("tiny"))
    assert "without" not in capfd.readouterr().out
    html = build_book("tiny").parent

    for page in ("data", "pretraining_first", "linear_probes"):
        own, other = article(html, f"stages/{page}"), article(html, f"photos/{page}")
        assert "of tiny" in str(own)
        assert "of photos" in other.text
        assert "Of drawings alone" not in other.text
        assert "gone is not on this machine" not in own.text
        assert "Not shown here" in other.text  # the pool's pictures, of which there is no file
        assert other.h1.text.startswith(f"{own.h1.text.removesuffix('#')} (photos)")
        assert "make book PRESET=photos" in other.text
    pages = pages_of(html)
    for page in ("about", "ladder", "linear_probes"):
        assert "published: seed" in article(html, f"photos/{page}").text
        assert "yours" not in article(html, f"photos/{page}").text
    assert article(html, "photos/ladder").select(".note") == []  # whose seeds are those of nothing else
    titles = Counter(page.soup.title.text for page in pages)
    assert [title for title, n in titles.items() if n > 1] == []
    for page in [page for page in pages if page.soup.select_one("article")]:
        ids = Counter(tag["id"] for tag in page.soup.select_one("article").select("[id]"))
        assert [name for name, n in ids.items() if n > 1] == [], page.name
        assert [link for link in dead_links(page) if "watch.js" not in link] == []  # which comes with the real book
    assert [f["id"] for f in article(html, "index").select("figure[id]")] == [
        "accuracy-objects",
        "photos-accuracy-objects",
    ]

    # links of a page lead to its own part, and to the book where that has no such page
    links = {a["href"] for a in article(html, "photos/data").select("a[href]")}
    assert {"linear_probes.html", "../stages/sobel.html", "../deviations.html"} <= links
    assert "../data/photos/linear_probe.csv" in {a["href"] for a in article(html, "photos/linear_probes").select("a")}
    for folder, name in (("data", "tiny"), ("data/photos", "photos")):
        with (html / folder / "linear_probe.csv").open() as file:
            rows = [*csv.DictReader(file)]
        assert {row["preset"] for row in rows} == {name}
        assert {float(row["value"]) for row in rows} == set(CURVES[name])
    texts = (html / "search_texts.js").read_text()
    assert '"photos/linear_probes"' in texts
    assert '"stages/linear_probes"' in texts
    captions = [
        p.text.strip() for p in BeautifulSoup((html / "index.html").read_text(), "html.parser").select("p.caption")
    ]
    assert captions == ["Pages", "Photos", "What held"]


def test_the_front_page_and_the_first_page_of_the_part_say_whose_and_under_which_protocol(project, monkeypatch):
    path = project / "results" / "photos" / PROTOCOL
    path.write_text("# What is measured\n")
    publish(project, "photos")
    monkeypatch.setattr("dclib.press.site.BUILDER", BUILT_AS_TEXT)
    monkeypatch.setattr(
        edition, "replay_sentence", lambda results: f"{results.name}: `dclib replay --of my_own` says so."
    )
    book.show_edition(find_edition("tiny"), Wanted("tiny"))
    html = build_book("tiny").parent
    front = (html / "_generated" / "front.html").read_text()
    assert "The part Photos is a published edition of its own." in front
    headings = BeautifulSoup(front, "html.parser").select("p > strong")
    assert [heading.text for heading in headings] == ["Drawings", "Photos", "Drawings", "Photos"]
    strip = front[front.index("<strong>Photos</strong>") :]
    places = [strip.index(words) for words in ("The same claims: of 31", "</ol>", "published: seeds 0, 1, 2, cpu")]
    assert places == sorted(places), "what came out stands before whose it is"
    for text in (front, (html / "photos" / "about.html").read_text()):
        assert "published: seeds 0, 1, 2, cpu (2 threads), 2026-01-02, code" in text
        assert "All 6 runs were made under the protocol that was written before" in text
    assert "photos: <code>dclib replay --of my_own</code> says so." in front
    assert "photos: `dclib replay --of my_own` says so." in (html / "photos" / "about.html").read_text()
    assert (html / "photos" / "protocol.html").read_text() == "# What is measured\n"


BUILT_AS_TEXT = """
from pathlib import Path
html = Path("_build/html")
for p in sorted(p for p in Path("book").rglob("*") if p.suffix in (".md", ".ipynb", ".html")):
    page = (html / p.relative_to("book")).with_suffix(".html")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(p.read_text())
(html / "searchindex.js").touch()
(html / "search.html").write_text('<script src="_static/searchtools.js"></script>')
"""


def test_a_book_without_pages_of_the_other_edition_has_no_such_part(project, monkeypatch):
    monkeypatch.setattr("dclib.press.site.BUILDER", BUILT_AS_TEXT)
    html = build_book("tiny").parent
    assert not (html / "photos").exists()
    assert "Photos" not in (html / "_generated" / "front.html").read_text()
    # and of images of one's own there is no edition at all
    assert find_edition("tiny", data="mine") is None
    assert find_edition("photos").beside is None


def test_a_page_that_failed_has_a_page_in_its_place(project, monkeypatch, capfd):
    notebook = project / "notebooks" / "03_linear_probes.ipynb"
    notebook.write_text(notebook.read_text().replace("accuracy_against_depth", "no_such_exhibit"))
    monkeypatch.setattr("dclib.press.site.BUILDER", BUILT_AS_TEXT)
    book.show_edition(find_edition("tiny"), Wanted("tiny"))
    assert "without photos/linear_probes: " in capfd.readouterr().out
    html = build_book("tiny").parent
    assert (html / "photos" / "linear_probes.html").read_text().startswith("# Linear probes (photos)\n")
    assert "has not been made" in (html / "photos" / "linear_probes.html").read_text()


def test_a_book_of_published_photographs_needs_none_of_them(project, monkeypatch):
    """Its own preset's book too: nothing asks for the images before it is there."""
    monkeypatch.setattr("dclib.press.site.BUILDER", BUILT_AS_TEXT)
    assert find_edition("photos").lacks_images
    monkeypatch.setattr(error_rates, "SPREADS_FROM", "tiny")
    make_book(Wanted("photos"), train=False)
    page = json.loads((project / "_build" / "html" / "stages" / "linear_probes.html").read_text())
    with (project / "_build" / "html" / "data" / "linear_probe.csv").open() as file:  # the rates are of drawings
        assert {row["preset"] for row in csv.DictReader(file)} == {"tiny", "photos"}
    assert "of photos" in str(page["cells"])
    # networks that this preset alone has are in its contents, behind the others
    pages = toc_pages(asked_toc(project / "book" / "_toc.yml", find_edition("photos").stages))
    assert pages[2:4] == ["stages/pretraining_first", "stages/pretraining_never"]
    assert len(pages) == len(set(pages)) == len(toc_pages(TOC)) + 1
    with pytest.raises(ValueError, match="reads images from data/gone, which is not there"):
        make_book(Wanted("photos"))


def test_a_book_fetches_the_set_that_its_pool_is_of(project, monkeypatch):
    """Also where several sets lie below one folder; nothing where it is there, or where none is known."""
    fetched = []
    monkeypatch.setattr(book, "fetch_set", lambda wanted, place, **_: fetched.append((wanted.name, place)))
    preset = project / "notebooks" / "presets" / "photos.yaml"

    def wanted(data: str) -> list[tuple[str, Path]]:
        fetched.clear()
        preset.write_text(f"data: {data}\nmethods:\n  first: {{method: rotnet}}\n")
        book._fetch_missing(Wanted("photos"))
        return list(fetched)

    place = project / "data" / "cifar10"
    assert (
        wanted("{root: data, pool: cifar10/train}")
        == wanted("{root: data/cifar10, pool: train}")
        == [("cifar10", place)]
    )
    assert wanted("{root: data/mine, pool: train}") == wanted("{}") == []
    place.mkdir(parents=True)
    assert wanted("{root: data, pool: cifar10/train}") == []


def test_the_scorecard_is_made_anew_when_the_other_edition_changes(project):
    """And no other page of the drawings."""

    def parts() -> dict[str, dict[str, str]]:
        found = find_edition("tiny")
        return stage_parts(found.stages, found.preset)

    notebook = project / "notebooks" / "12_scorecard.ipynb"
    notebook.write_text(notebook.read_text().replace("print(", "published.load_beside; print("))
    before = parts()
    (project / "results" / "photos" / "records" / "pretrain" / "first-s2.json").unlink()
    after = parts()
    assert {page for page in before if before[page] != after[page]} == {"scorecard"}
    (project / "results" / "photos" / PROTOCOL).write_text("written later")
    assert {page for page in before if parts()[page] != after[page]} == {"scorecard"}
    assert re.search("records of photos", " ".join(after["scorecard"]))
