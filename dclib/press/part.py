"""The pages of another edition in a book, as a part of it: the same notebooks, below a folder of their own.

An executed page does not know which book it is in. Here its heading is told from that of the page it is the twin of,
and its links lead to the pages of its own part, and to those of the book where it has no such page. No torch here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dclib.press.edition import Edition
from dclib.press.runner import read_card
from dclib.press.status import STAGES, missing_page, published_notice
from dclib.records import PROTOCOL, write_atomically
from dclib.report.display import with_code, without_markup
from dclib.report.ladder import LATE
from dclib.report.provenance import DATA_FOLDER
from dclib.report.series import listed, title_of
from dclib.report.tables import Table, layer_lead_table, run_table

ABOUT, PROTOCOL_PAGE, LADDER_PAGE = "about", "protocol", "ladder"
COMPARED = ("deepercluster", "rotnet")
DRAWN = "of-drawings"  # tag of a cell that only a page about drawings needs
SCORECARD = f"{STAGES}/scorecard"  # the page of both editions, before which the part stands


@dataclass(frozen=True)
class Part:
    """An edition's pages as a part of the book of another one."""

    edition: Edition
    run: Path  # folder that holds its executed pages

    @property
    def name(self) -> str:
        """Of the edition, and of the folder of its pages in the book."""
        return self.edition.name

    @property
    def is_made(self) -> bool:
        """Whether a page of it was made: a book without any has no such part."""
        return bool(self.cards)

    @property
    def cards(self) -> dict[str, dict[str, Any]]:
        """The run cards of its pages that were made."""
        return {page: card for page in self.edition.own_pages if (card := read_card(self.run, page))}

    @property
    def pages(self) -> list[str]:
        """Its pages in the order of the book, without the folder: those made of records, and what is said of them."""
        protocol = [PROTOCOL_PAGE] if (self.edition.results / PROTOCOL).is_file() else []
        made = [page for page in self.edition.own_pages if page != LADDER_PAGE]
        ladder = [LADDER_PAGE] if LADDER_PAGE in self.edition.own_pages else []
        return [ABOUT, *protocol, *ladder, *made]

    def in_toc(self, toc: str) -> str:
        """A table of contents with this part, before the part that has the scorecard, or at the end."""
        book = yaml.safe_load(toc)
        if "parts" not in book:
            book["parts"] = [{"chapters": book.pop("chapters", [])}]
        at = next((i for i, part in enumerate(book["parts"]) if SCORECARD in yaml.safe_dump(part)), len(book["parts"]))
        book["parts"].insert(at, {"caption": self.name.capitalize(), "chapters": self._chapters()})
        return yaml.safe_dump(book, sort_keys=False)

    def _chapters(self) -> list[dict[str, Any]]:
        """A chapter for each page, the networks below the first; titled as their twins, for the part says which."""
        entries = {page: {"file": f"{self.name}/{page}", **self._title(page)} for page in self.pages}
        networks = [entries.pop(page) for page in self.pages if page.startswith("pretraining_")]
        first: dict[str, Any] = entries.pop(ABOUT)
        return [{**first, "sections": networks} if networks else first, *entries.values()]

    def _title(self, page: str) -> dict[str, str]:
        if read_card(self.run, page) is None:
            return {}
        cells = json.loads(self._path(page).read_text(encoding="utf-8"))["cells"]
        return {"title": _heading(cells).removeprefix("# ")}

    def _path(self, page: str) -> Path:
        return self.run / "pages" / f"{page}.ipynb"

    @property
    def notebooks(self) -> dict[str, dict[str, Any]]:
        """Its executed pages as they are in the book."""
        return {page: self.moved(json.loads(self._path(page).read_text(encoding="utf-8"))) for page in self.cards}

    def write(self, book: Path, put: Callable[[dict[str, Any], str, str], None]) -> None:
        """Put its pages into the source of a book.

        ``put`` adds to a notebook, given its name and its folder, what pages have at the top.
        """
        notebooks = self.notebooks
        for page in self.edition.own_pages:
            card = read_card(self.run, page)
            if card is None:
                text = missing_page(page).replace("\n", f" ({self.name})\n", 1)
                write_atomically(book / self.name / f"{page}.md", text.encode())
                continue
            notebook = notebooks[page]
            put(notebook, page, self.name)
            if page != LADDER_PAGE:  # whose seeds are others, and which no book makes anew
                notice = published_notice(str(card.get("edition", "")), self.name)
                cell = {"cell_type": "markdown", "id": "edition-notice", "metadata": {}, "source": notice}
                notebook["cells"].insert(1, cell)
            write_atomically(book / self.name / f"{page}.ipynb", json.dumps(notebook).encode())
        write_atomically(book / self.name / f"{ABOUT}.md", self._about().encode())
        if PROTOCOL_PAGE in self.pages:
            protocol = (self.edition.results / PROTOCOL).read_bytes()
            write_atomically(book / self.name / f"{PROTOCOL_PAGE}.md", protocol)

    def moved(self, notebook: dict[str, Any]) -> dict[str, Any]:
        """An executed page as one of this part, in place."""
        notebook["cells"] = [c for c in notebook["cells"] if DRAWN not in c["metadata"].get("tags", [])]
        titled = False
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                source = self._links("".join(cell["source"]))
                if not titled:
                    source, titled = (
                        re.sub(r"^(# .*)$", rf"\1 ({self.name})", source, count=1, flags=re.MULTILINE),
                        True,
                    )
                cell["source"] = source
            for output in cell.get("outputs", []):
                if "text/html" in output.get("data", {}):
                    output["data"]["text/html"] = self.html("".join(output["data"]["text/html"]))
        return notebook

    def html(self, shown: str) -> str:
        """HTML of one of its pages, with links to its own records."""
        return shown.replace(f'href="../{DATA_FOLDER}/', f'href="../{DATA_FOLDER}/{self.name}/')

    def _links(self, text: str) -> str:
        """Links to pages that this part has not lead to those of the book."""

        def link(found: re.Match[str]) -> str:
            return found[0] if found[1] in self.pages else f"](../{STAGES}/{found[1]})"

        return re.sub(r"\]\((\w+)\)", link, text)

    def _about(self) -> str:
        """The first page: what was run, on what, and under which protocol."""
        edition = self.edition
        more = {PROTOCOL_PAGE: "The protocol", LADDER_PAGE: "Every rung that was tried"}
        links = [f"[{title}]({page})" for page, title in more.items() if page in self.pages]
        trained = [record for record in edition.records if record.card and record.card.stage == "pretrain"]
        table = replace(run_table(trained), source=(), beside=trained)  # that is, published
        parts = [
            f"# What was run on {self.name}",
            without_markup(edition.preset.description),
            "The pages of this part are made by the notebooks that make those of the drawings, from other records "
            f"({without_markup(edition.origin)}). [The scorecard](../{SCORECARD}) judges both, side by side.",
            with_code(edition.made),
            f"See also: {', '.join(links)}." if links else "",
            f"No {self.name} come with the book: pictures of them are drawn where the set is on this machine, and a "
            "sentence says what to do where it is not.",
            self._shown(table),
        ]
        lead = layer_lead_table(edition.records, *COMPARED, LATE)
        if lead.groups:
            words = (
                "What the last layers know of each data set by a linear classifier, DeeperCluster's less RotNet's. "
                f"{self._epochs()}"
            )
            parts += [
                "## DeeperCluster or RotNet?",
                words,
                self._shown(replace(lead, source=(), beside=edition.records)),
            ]
        return "\n\n".join(filter(None, parts)) + "\n"

    def _epochs(self) -> str:
        """How long the two that are compared were trained, with the networks that they start from."""
        preset, total = self.edition.preset, []
        for compared in COMPARED:
            method, epochs = compared, 0
            while method:
                epochs, method = epochs + preset.method(method).train.epochs, preset.method(method).init
            total.append(f"{title_of(compared)} {epochs}")
        return f"Epochs, with those of the network that one starts from: {listed(total)}."

    def _shown(self, table: Table) -> str:
        return f"```{{raw}} html\n{self.html(table._repr_html_())}\n```"


def _heading(cells: Sequence[Mapping[str, Any]]) -> str:
    """The line of a notebook's title."""
    for cell in cells:
        for line in "".join(cell["source"]).splitlines() if cell["cell_type"] == "markdown" else ():
            if line.startswith("# "):
                return line
    return "# "
