"""The same pages under mystmd, the engine that follows Jupyter Book 1: its settings and sources from a built book.

Nothing here is kept by hand. Pages and notebooks are those the built book offers for download; ``myst.yml`` comes from
``_config.yml`` and the order of the built pages. Three things are spelled otherwise in mystmd and are rewritten: files
of HTML that a page takes in, names and classes of words, and the terms of the glossary. Its theme comes from a network,
so what is built here is the content: every page read, every reference resolved, and no look.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from dclib.presets import project_root
from dclib.press.print_pages import Entry, read_contents
from dclib.records import replacing_folder

MYSTMD = "mystmd@1.8.3"
SOURCES = "_sources"  # of a built book: every page as it was before it was built
COPIED = ("references.bib", "diagrams", "_static")  # what pages name, from the sources of the book
LINKED = ("data", "explorer")  # what pages lead to, of the built book
BUILD = ("build", "--site", "--ci", "--strict")
THEME = {  # a site without a look, for mystmd asks for one
    "jtex": "v1",
    "title": "Content alone",
    "description": "Pages without a look",
    "version": "1.0.0",
    "license": "MIT",
    "kind": "site",
    "build": {"install": "true", "start": "true"},
}
NAMED = re.compile(
    r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\{([#.][^{}\n]*)\}"
)  # words with a name or classes: [words]{#name .class}


class MystError(Exception):
    """mystmd found an error, which it names above."""


def write_project(site: Path, target: Path) -> list[Path]:
    """Write what mystmd builds into the folder ``target``, in place of what is there; returns its pages.

    Args:
        site: A built book.

    Raises:
        ValueError: there is no built book at ``site``, or it lacks the source of a page.
    """
    entries, book = read_contents(site), project_root() / "book"
    pages = [_source(site, entry) for entry in entries]
    with replacing_folder(target) as new:
        for path in [*(book / name for name in COPIED), *(site / name for name in LINKED)]:
            if path.is_dir():
                shutil.copytree(path, new / path.name)
            elif path.is_file():
                shutil.copyfile(path, new / path.name)
        for page in pages:
            path = new / page
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_translated(site / SOURCES / page, [site / SOURCES, book]), encoding="utf-8")
        (new / "theme").mkdir()
        (new / "theme" / "template.yml").write_text(_yaml(THEME), encoding="utf-8")
        config = yaml.safe_load((project_root() / "_config.yml").read_text(encoding="utf-8"))
        (new / "myst.yml").write_text(_yaml(settings(config, entries, pages)), encoding="utf-8")
    return [target / page for page in pages]


def settings(config: dict[str, Any], entries: Sequence[Entry], pages: Sequence[Path]) -> dict[str, Any]:
    """``myst.yml`` as a dictionary: what ``_config.yml`` says of the book, and the pages in their parts."""
    toc: list[dict[str, Any]] = []
    part = ""
    for entry, page in zip(entries, pages, strict=True):
        if entry.part != part:
            part = entry.part
            toc.append({"title": part, "children": []})
        below = toc[-1]["children"] if part else toc
        if entry.level > 1 and below:
            below = below[-1].setdefault("children", [])
        below.append({"file": page.as_posix()})
    project = {
        "title": config["title"],
        "authors": [{"name": config["author"]}],
        "bibliography": config["bibtex_bibfiles"],
        "toc": toc,
    }
    return {"version": 1, "project": project, "site": {"title": config["title"], "template": "./theme"}}


def build_content(folder: Path) -> None:
    """Let mystmd read a project and resolve its references; what it says goes to the terminal.

    Raises:
        ValueError: npx is not there.
        MystError: mystmd found an error.
    """
    npx = shutil.which("npx")
    if npx is None:
        raise ValueError("need npx to run mystmd, and it is not on the PATH: on Debian, apt install npm")
    if subprocess.run([npx, "--yes", MYSTMD, *BUILD], cwd=folder, check=False).returncode != 0:
        raise MystError("mystmd could not build the pages without an error; it names them above")


def translate(text: str, included: Callable[[str], str]) -> str:
    """A page's Markdown with the four spellings that mystmd has otherwise; code stays as it is.

    Args:
        included: The text of a file that a page takes in.
    """
    text = re.sub(r"^```\{raw\} html\n(.*?)^```$", lambda raw: _as_html(raw[1], included), text, flags=re.M | re.S)
    listed = r"^```\{literalinclude\} (\S+)\n.*?^```$"
    text = re.sub(listed, lambda name: f"```\n{included(name[1]).strip()}\n```", text, flags=re.M | re.S)
    text = re.sub(r"^```\{glossary\}\n(.*?)^```$", lambda terms: _as_definitions(terms[0]), text, flags=re.M | re.S)
    parts = re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else NAMED.sub(_as_span, part) for part in parts)


def _as_span(found: re.Match[str]) -> str:
    marks = found[2].split()
    names = [mark[1:] for mark in marks if mark.startswith("#")]
    classes = " ".join(mark[1:] for mark in marks if mark.startswith("."))
    name = f' id="{names[0]}"' if names else ""
    return f"<span{name}{f' class={json.dumps(classes)}' if classes else ''}>{found[1]}</span>"


def _as_html(block: str, included: Callable[[str], str]) -> str:
    """HTML that stands in the page; of a drawing, which mystmd takes no HTML of, the picture."""
    named = re.match(r":file: *(\S+)", block)
    if named and named[1].endswith(".svg"):
        described = re.search(r"<title[^>]*>(.*?)</title>", included(named[1]), flags=re.S)
        return f"![{html.unescape(described[1]) if described else ''}]({named[1]})"
    text = included(named[1]) if named else block
    text = re.sub(r"<(script|style|svg|noscript)\b.*?</\1>", "", text, flags=re.S)
    text = re.sub(r"<(/?)figure\b", r"<\1div", text)  # mystmd asks a figure for a picture of its own kind
    text = re.sub(r"<(/?)figcaption\b", r"<\1p", text)
    text = re.sub(r"</?a\b[^>]*>", "", text)  # they lead to pages as Jupyter Book names them
    return "<div>" + re.sub(r"\n\s*\n", "\n", text).strip() + "</div>\n"


def _as_definitions(block: str) -> str:
    """Terms with what they mean indented below them, as a list of definitions."""
    return re.sub(r"^(?!:|\s|`)(.+)\n((?:(?:[ \t]+.*)?\n)+)", _as_definition, block, flags=re.M)


def _as_definition(found: re.Match[str]) -> str:
    lines = found[2].rstrip().split("\n")
    return f"{found[1]}\n: {lines[0].strip()}\n" + "".join(f"  {line.strip()}\n" for line in lines[1:]) + "\n"


def _source(site: Path, entry: Entry) -> Path:
    name = entry.page.removesuffix(".html")
    for suffix in (".md", ".ipynb"):
        if (site / SOURCES / f"{name}{suffix}").is_file():
            return Path(f"{name}{suffix}")
    raise ValueError(f"need the source of the page {name} below {site / SOURCES}; build the book anew")


def _translated(path: Path, folders: Sequence[Path]) -> str:
    def included(name: str) -> str:
        places = [folder / each for folder in folders for each in (f"{name}.txt", name)]  # a kept one is no page
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise ValueError(f"{path.name} takes in {name}, which the built book did not keep; build the book anew")
        return found.read_text(encoding="utf-8")

    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return translate(text, included)
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            source = cell["source"]
            cell["source"] = translate(source if isinstance(source, str) else "".join(source), included)
    return json.dumps(notebook)


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
