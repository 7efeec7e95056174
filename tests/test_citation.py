"""How the book is cited: one version, one DOI or none, and BibTeX that says what CITATION.cff says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from dclib import __version__
from dclib.press.citation import bibtex, citation_facts, cited

ROOT = Path(__file__).resolve().parent.parent
DOI = "10.1234/example.5"


def fields_of(entry: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\w+) = \{+(.*?)\}+,$", entry, re.MULTILINE))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's own words on how to cite it, to be changed."""
    (tmp_path / "book").mkdir()
    for name in ("CITATION.cff", "_config.yml", "book/references.bib"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def put_doi(project: Path, *, config: str = "", cff: str = "") -> None:
    path = project / "_config.yml"
    path.write_text(path.read_text().replace('doi: ""', f'doi: "{config}"'))
    if cff:
        (project / "CITATION.cff").write_text((project / "CITATION.cff").read_text() + f"doi: {cff}\n")


def test_the_file_agrees_with_the_package_and_with_the_references() -> None:
    work = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert work["version"] == __version__
    own, paper = (fields_of(entry) for entry in bibtex(ROOT).split("\n\n"))
    assert (own["title"], own["version"], own["author"]) == (work["title"], __version__, work["authors"][0]["name"])
    named = work["references"][0]
    assert (paper["title"], paper["year"]) == (named["title"], str(named["year"]))
    assert paper["author"].split(" and ") == [f"{a['family-names']}, {a['given-names']}" for a in named["authors"]]
    assert named["identifiers"][0]["value"] == f"arXiv:{paper['eprint']}"


def test_a_doi_stands_everywhere_or_nowhere(project: Path) -> None:
    assert "doi" not in bibtex(project) + str(citation_facts(project)) + str(cited(project))
    put_doi(project, config=DOI, cff=DOI)
    assert fields_of(bibtex(project).split("\n\n")[0])["doi"] == DOI
    assert f"doi:{DOI}" in dict(citation_facts(project))["To cite"]


@pytest.mark.parametrize(
    ("config", "cff", "message"),
    [
        (DOI, "", "need one DOI"),
        ("", DOI, "need one DOI"),
        (DOI, "10.1234/x", "need one DOI"),
        ("soon", "soon", "need a DOI"),
    ],
)
def test_two_dois_or_none_at_all_stop_the_book(project: Path, config: str, cff: str, message: str) -> None:
    put_doi(project, config=config, cff=cff)
    with pytest.raises(ValueError, match=message):
        bibtex(project)


def test_a_project_without_the_file_says_nothing(project: Path) -> None:
    (project / "CITATION.cff").unlink()
    assert (bibtex(project), citation_facts(project)) == ("", [])
