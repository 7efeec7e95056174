"""The pages under mystmd: what they are written in, and what is rewritten. The build itself is a line of .ci/run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dclib.presets import project_root
from dclib.press import mystmd
from dclib.press.mystmd import MystError, build_content, translate, write_project

ROOT = project_root()
# what both engines know; raw and glossary are rewritten on the way
ADMONITIONS = {"admonition", "caution", "danger", "hint", "important", "note", "tip", "warning"}
DIRECTIVES = {"bibliography", "code-block", "dropdown", "figure", "glossary", "image", "list-table", "math", "raw"}
DIRECTIVES |= {"table", "literalinclude", *ADMONITIONS}
ROLES = {"cite:p", "cite:t", "doc", "eq", "math", "numref", "ref", "term"}
DIRECTIVE = re.compile(r"(?:`{3,}|~{3,}|:{3,})\{{1,2}([\w:.-]+)\}{1,2}")
ROLE = re.compile(r"(?<![\w`$\\])\{([a-z][\w:-]*)\}`[^`\n]")
EXTENSIONS = {
    "amsmath",
    "attrs_block",
    "attrs_inline",
    "colon_fence",
    "deflist",
    "dollarmath",
    "fieldlist",
    "html_image",
}


def texts() -> Iterator[tuple[str, str]]:
    """Name and Markdown of every page, every notebook, and every module that writes a page."""
    for path in sorted((ROOT / "book").glob("*.md")):
        yield path.name, path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path.name, "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for room in ("press", "report"):
        for path in sorted((ROOT / "dclib" / room).glob("*.py")):
            if path.name != "mystmd.py":
                yield f"{room}/{path.name}", re.sub(r"f?\"[^\"\n]*\{\w+\}`[^\"\n]*\"", "", path.read_text("utf-8"))


def used(text: str) -> tuple[set[str], set[str]]:
    """Directives and roles of a page; roles inside of code are none."""
    words = re.sub(r"^```(?!\{).*?^```$", "", text, flags=re.M | re.S)
    return set(DIRECTIVE.findall(text)), set(ROLE.findall(words))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```{versionadded}\nx\n```", ({"versionadded"}, set())),
        ("::::{grid} 2\n::::", ({"grid"}, set())),
        ("as {glue:text}`fig` says", (set(), {"glue:text"})),
        ("$x_{i}`$ `{code}`", (set(), set())),
        ('f"```{{warning}} html"', ({"warning"}, set())),
    ],
)
def test_directives_and_roles_are_found(text: str, found: tuple[set[str], set[str]]) -> None:
    assert used(text) == found


def test_no_page_uses_what_one_of_the_engines_lacks() -> None:
    seen: set[str] = set()
    for name, text in texts():
        directives, roles = used(text)
        assert directives <= DIRECTIVES, f"{name}: mystmd may lack {directives - DIRECTIVES}"
        assert roles <= ROLES, f"{name}: mystmd may lack {roles - ROLES}"
        seen |= directives | roles
    assert {"raw", "bibliography", "glossary", "cite:p"} <= seen


def test_no_extension_is_on_that_was_not_thought_of() -> None:
    """One that mystmd lacks would be on all pages at once; substitutions are on, and no page uses one."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert set(config["parse"]["myst_enable_extensions"]) - {"substitution"} == EXTENSIONS
    assert not [name for name, text in texts() if name.endswith((".md", ".ipynb")) and re.search(r"\{\{ ?\w", text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[a.py]{.where} and [**D4** [x]]{#D4}", '<span class="where">a.py</span> and <span id="D4">**D4** [x]</span>'),
        ("[a](b.md) {cite:p}`x` $a[0]_{i}$", "[a](b.md) {cite:p}`x` $a[0]_{i}$"),
        ("```bash\n[a]{.b}\n```\n[a]{.b}", '```bash\n[a]{.b}\n```\n<span class="b">a</span>'),
        ("```{raw} html\n:file: d/x.svg\n```\n", "![A drawing](d/x.svg)\n"),
        ("```{raw} html\n:file: f.html\n```\n", "<div><p>one</p>\n<p>two</p></div>\n\n"),
        ("```{literalinclude} c.bib\n:language: bibtex\n```\n", "```\n@a{b}\n```\n"),
        (
            "```{raw} html\n<figure><a href='p.html'>x</a><figcaption>y</figcaption></figure>\n```\n",
            "<div><div>x<p>y</p></div></div>\n\n",
        ),
        ("```{raw} html\n<b>x</b>\n\n<script>y</script>\n```\n", "<div><b>x</b></div>\n\n"),
        (
            "```{glossary}\ncluster\n  A group\n  of images.\n\nempty one\n  None.\n```\n",
            "```{glossary}\ncluster\n: A group\n  of images.\n\nempty one\n: None.\n\n```\n",
        ),
    ],
)
def test_some_things_are_spelled_as_mystmd_has_them(text: str, wanted: str) -> None:
    files = {
        "c.bib": "@a{b}\n",
        "d/x.svg": "<svg><title>A drawing</title></svg>",
        "f.html": "<style>s</style><p>one</p>\n\n<p>two</p><svg></svg>",
    }
    assert translate(text, files.__getitem__) == wanted


def test_a_project_is_written_from_a_built_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(level: int, page: str) -> str:
        return f'<li class="toctree-l{level}"><a class="reference internal" href="{page}">{page}</a></li>'

    site, sources = tmp_path / "site", tmp_path / "site" / "_sources"
    (sources / "stages").mkdir(parents=True)
    nav = f'{listed(1, "#")}<p class="caption">One</p>{listed(1, "method.html")}{listed(2, "stages/a.html")}'
    (site / "index.html").write_text(
        f'<nav class="bd-links">{nav}<p class="caption">Two</p>{listed(1, "b.html")}</nav>'
    )
    for name in ("index.md", "method.md"):
        (sources / name).write_text("[x]{.where}")
    (sources / "stages" / "a.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": c, "source": ["[x]", "{.where}"]} for c in ("markdown", "code")]})
    )
    with pytest.raises(ValueError, match="need the source of the page b below .*build the book anew"):
        write_project(site, tmp_path / "myst")
    assert not (tmp_path / "myst").exists()
    (sources / "b.md").write_text("```{raw} html\n:file: absent.html\n```\n")
    with pytest.raises(ValueError, match=r"b\.md takes in absent\.html.* build the book anew"):
        write_project(site, tmp_path / "myst")
    (sources / "b.md").write_text("# B")
    write_project(site, tmp_path / "myst")

    written = yaml.safe_load((tmp_path / "myst" / "myst.yml").read_text())
    one = {"title": "One", "children": [{"file": "method.md", "children": [{"file": "stages/a.ipynb"}]}]}
    two = {"title": "Two", "children": [{"file": "b.md"}]}
    assert written["project"]["toc"] == [{"file": "index.md"}, one, two]
    assert (tmp_path / "myst" / written["project"]["bibliography"][0]).is_file()
    assert (tmp_path / "myst" / "index.md").read_text() == '<span class="where">x</span>'
    cells = json.loads((tmp_path / "myst" / "stages" / "a.ipynb").read_text())["cells"]
    assert [cell["source"] for cell in cells] == ['<span class="where">x</span>', ["[x]", "{.where}"]]

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="need npx .*apt install npm"):
        build_content(tmp_path / "myst")
    (tmp_path / "npx").write_text(f"#!/bin/sh\necho $* > {tmp_path}/said\nexit 1\n")
    (tmp_path / "npx").chmod(0o755)
    with pytest.raises(MystError, match="names them above"):
        build_content(tmp_path / "myst")
    assert (tmp_path / "said").read_text().split()[:2] == ["--yes", mystmd.MYSTMD]
