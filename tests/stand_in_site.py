"""A small site of the real configuration and story pages, with stand-ins for the stage pages, built once."""

from __future__ import annotations

import base64
import fcntl
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
import yaml
from PIL import Image
from synthetic_records import make_probes

from dclib.paper import CLAIMS
from dclib.presets import load_preset
from dclib.press.citation import CITE, bibtex
from dclib.press.downloads import write_downloads
from dclib.press.front import FRONT, front_html
from dclib.press.light import lighten
from dclib.press.network import page_networks, write_scripts
from dclib.press.network_blocks import write_blocks
from dclib.press.search import write_search_texts
from dclib.press.terms import mark_terms
from dclib.report.display import show
from dclib.report.method_pictures import PICTURES, write_method_pictures
from dclib.report.provenance import strip
from dclib.report.tables import probe_table
from dclib.report.verdict_figure import lanes_of, verdict_picture

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"


def toc_files(toc: Path) -> list[str]:
    """Every page a _toc.yml names, the root first."""
    entries = yaml.safe_load(toc.read_text(encoding="utf-8"))

    def files(node: object) -> Iterator[str]:
        if isinstance(node, list):
            for item in node:
                yield from files(item)
        elif isinstance(node, dict):
            yield from (str(node[key]) for key in ("root", "file") if key in node)
            for key in ("parts", "chapters", "sections"):
                yield from files(node.get(key))

    return list(files(entries))


def stand_in(title: str) -> nbformat.NotebookNode:
    """An executed page as a stage leaves it: prose, a picture, a text, and what the gallery shows."""
    v4 = nbformat.v4
    buffer = io.BytesIO()
    Image.new("RGB", (320, 120), "white").save(buffer, "PNG")
    picture = v4.new_code_cell("draw()", metadata={"mystnb": {"image": {"alt": "an empty white drawing"}}})
    png = base64.b64encode(buffer.getvalue()).decode()
    picture.outputs = [v4.new_output("display_data", {"image/png": png, "text/plain": "<Figure>"})]
    text = v4.new_code_cell("print('done')", outputs=[v4.new_output("stream", name="stdout", text="done\n")])
    prose = v4.new_markdown_cell(f"# {title}\n\nA stand-in {{cite:p}}`caron2019`, with $a^2$.")
    cells = [prose, v4.new_code_cell('preset: str = "smoke"', metadata={"tags": ["parameters"]}), picture, text]
    records = make_probes({"rotnet": [40.0 + n for n in range(13)], "random": [38.0] * 13})
    figure, axes = plt.subplots(figsize=(5, 2))
    axes.plot([1, 13], [20, 40])
    shown = show(figure, alt="one curve that rises from 20 to 40", caption="A curve. Look at its slope.", name="c")
    plt.close(figure)
    picture_of_verdicts = verdict_picture(lanes_of(records, [], CLAIMS))  # its rows are what the front page links to
    for html in (shown.html, probe_table(records)._repr_html_(), strip(records).html, picture_of_verdicts.html):
        output = v4.new_output("execute_result", {"text/html": html, "text/plain": "..."}, execution_count=1)
        cells.append(v4.new_code_cell("shown", metadata={"tags": ["hide-input"]}, outputs=[output]))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def build_stand_in_site(project: Path) -> Path:
    """Build the book of the real configuration and story pages, with stand-ins for the stage pages, in a new folder."""
    shutil.copytree(BOOK, project / "book", ignore=shutil.ignore_patterns("stages", "_generated", "_build"))
    shutil.copy(ROOT / "_config.yml", project)
    for name in toc_files(BOOK / "_toc.yml"):
        path = project / "book" / name
        path.parent.mkdir(exist_ok=True)
        if name.startswith("stages/"):
            nbformat.write(stand_in(path.name.replace("_", " ")), path.with_suffix(".ipynb"))
        elif name.startswith("_generated/"):
            path.with_suffix(".md").write_text(f"# A stand-in for {path.name}\n", encoding="utf-8")
    front = front_html(load_preset("smoke"), make_probes({"rotnet": [40.0] * 13}), [], project / "book" / "stages")
    (project / "book" / FRONT).write_text(front, encoding="utf-8")
    write_method_pictures(project / "book" / PICTURES)
    networks = page_networks("smoke", runs=False)
    write_blocks(networks, project / "book" / "_generated")
    (project / "book" / CITE).write_text(bibtex(), encoding="utf-8")
    run = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    build = [
        *run,
        "build",
        "book",
        "--config",
        "_config.yml",
        "--path-output",
        ".",
        "-W",
        "-n",
        "--keep-going",
    ]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}
    done = subprocess.run(build, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, "\n".join(x for x in done.stderr.splitlines() if x.strip())[-4000:]
    site = project / "_build" / "html"
    write_downloads(make_probes({"rotnet": [40.0] * 13}), [], site / "data")  # what the strips link to
    write_scripts(networks, site)
    lighten(site)
    mark_terms(site, toc_files(BOOK / "_toc.yml"))
    write_search_texts(site, toc_files(BOOK / "_toc.yml"))
    return site


def shared_stand_in_site(folders: pytest.TempPathFactory) -> Path:
    """The site, built by whichever of some processes that test side by side asks first."""
    pytest.importorskip("jupyter_book", reason="needs jupyter-book, of the extra 'book'")
    beside = "PYTEST_XDIST_WORKER" in os.environ
    shared = (folders.getbasetemp().parent if beside else folders.getbasetemp()) / "stand-in-site"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        site = shared / "project" / "_build" / "html"
        if not (site / "search_texts.js").is_file():  # what is written last
            shutil.rmtree(shared / "project", ignore_errors=True)
            build_stand_in_site(shared / "project")
    return site
