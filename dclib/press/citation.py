"""How this book is cited: by CITATION.cff, its list of references, and the setting that says its DOI. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dclib.presets import project_root
from dclib.report.series import listed

CITE = "_generated/cite.bib"  # below book/, which the front page shows
PAPER = "caron2019"  # the entry of book/references.bib
DOI = re.compile(r"10\.\d{4,9}/\S+")


def cited(root: Path | None = None) -> dict[str, Any]:
    """CITATION.cff of the project, with ``doi`` where ``_config.yml`` names one; empty where there is no such file.

    Raises:
        ValueError: the setting is no DOI, or CITATION.cff gives another.
    """
    root = root or project_root()
    path = root / "CITATION.cff"
    if not path.is_file():
        return {}
    work: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    doi = doi_of(root / "_config.yml")
    if work.get("doi", "") != doi:
        raise ValueError(f"need one DOI in _config.yml and CITATION.cff; got {doi!r} and {work.get('doi', '')!r}")
    return work


def doi_of(config: Path) -> str:
    """The book's DOI by its settings, ``html_context: doi``; empty until it has one.

    Raises:
        ValueError: it is none.
    """
    doi = str(_settings(config).get("sphinx", {}).get("config", {}).get("html_context", {}).get("doi") or "")
    if doi and not DOI.fullmatch(doi):
        raise ValueError(f"need a DOI such as 10.1234/abc, or nothing, as doi in {config.name}; got {doi!r}")
    return doi


def citation_facts(root: Path | None = None) -> list[tuple[str, str]]:
    """Licence, where the source is, and how to cite; nothing where the project does not say."""
    work = cited(root)
    if not work:
        return []
    paper = work["references"][0]
    authors = listed(author["family-names"] for author in paper["authors"])
    number = listed(identifier["value"] for identifier in paper.get("identifiers", ()))
    doi = f", doi:{work['doi']}" if "doi" in work else ""
    return [
        ("Licence", f"{work['license']}, of code and text; the file LICENSE of the project"),
        ("Source", "the project's folder; each page with results can be downloaded as the notebook that made it"),
        ("To cite", f"{authors_of(work)}, {work['title']}, version {work['version']}{doi}"),
        ("and the paper", f"{authors}, {paper['title']}, {paper['year']}, {number}"),
    ]


def authors_of(work: Mapping[str, Any]) -> str:
    """Who made a work, in words."""
    return listed(
        author.get("name") or f"{author['given-names']} {author['family-names']}" for author in work["authors"]
    )


def bibtex(root: Path | None = None) -> str:
    """Two entries: this book in its version, and the paper as the book's own references have it; empty without a cff.

    Raises:
        ValueError: as :func:`cited`, or the references lack the paper.
    """
    root = root or project_root()
    work = cited(root)
    if not work:
        return ""
    path = root / "book" / "references.bib"
    paper = re.search(rf"^@\w+\{{{PAPER},.*?^\}}$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if not paper:
        raise ValueError(f"need the entry {PAPER} in {path.name}, to say how to cite the book; it is not there")
    fields = {
        "author": f"{{{authors_of(work)}}}",
        "title": work["title"],
        "version": work["version"],
        "year": _settings(root / "_config.yml").get("copyright", ""),
        "doi": work.get("doi", ""),
        "note": f"{work['license']} licence",
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join(["@software{dclib,", *lines, "}", "", paper[0], ""])


def _settings(config: Path) -> dict[str, Any]:
    return (yaml.safe_load(config.read_text(encoding="utf-8")) or {}) if config.is_file() else {}
