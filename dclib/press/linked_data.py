"""What a page's records say, for programs that read the web: schema.org's words, as JSON-LD in the page's head.

Made of the built pages and of the files of records that they link to, and of nothing else. No torch here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import unescape
from pathlib import Path
from statistics import fmean
from typing import Any

from dclib.press.citation import authors_of, cited
from dclib.records import write_atomically
from dclib.report.provenance import DATA_FOLDER, VARIANTS

CONTEXT = "https://schema.org"
LICENCES = "https://spdx.org/licenses"
MAX_BYTES = 30_000  # of a page
OPENS, CLOSES = '<script type="application/ld+json" id="page-records">', "</script>\n"
OF_A_METHOD = "pretraining_"  # begins the names of pages that are about the network of one method
MACHINES = "/benchmarks"  # how fast machines are: no result of the book, and told by keys of each program's own
OVER_TIME = "epoch"  # a value of the last one stands for those before it
CONDITIONS = ("dataset", "assignment", *VARIANTS)  # of a whole series of values
DIGITS = 6  # significant ones

ROOM_AROUND = 200  # bytes of a page's own that stand between its parts
LEAST_BYTES = 100  # of a property

Node = dict[str, Any]


@dataclass(frozen=True)
class Value:
    """One measured value, whose it is, and the card of the run that it is of, as a file to download has them."""

    whose: str
    card: Mapping[str, Any]
    name: str
    value: float
    unit: str
    n: int
    keys: Mapping[str, str | int]  # but the epoch


Groups = Mapping[tuple[tuple[str, object], ...], Sequence[Value]]


@dataclass(frozen=True, eq=False)
class Measured:
    """The values in a file, and in how many words they can be told."""

    values: Sequence[Value]

    @cached_property
    def groups(self) -> list[Groups]:
        """The values together that one property tells of, from the finest detail on."""
        return [_grouped(self.values, *detail) for detail in DETAILS]

    @cached_property
    def by_method(self) -> dict[str, Measured]:
        """Those of each method."""
        found: dict[str, list[Value]] = {}
        for one in self.values:
            found.setdefault(one.card["method"], []).append(one)
        return {method: Measured(values) for method, values in found.items()}


def write_linked_data(site: Path, pages: Iterable[str]) -> None:
    """Put into the head of each page of a built site what it is, of what it is a part, and what its records say.

    Raises:
        ValueError: as :func:`dclib.press.citation.cited`; or a page has no head.
    """
    work = cited()
    files: dict[Path, Measured] = {}
    for page in pages if work else ():
        path = site / f"{page}.html"
        html = path.read_text(encoding="utf-8")
        if "</head>" not in html:
            raise ValueError(f"need a page with a head at {path}; build the book with its theme")
        linked: dict[str, Measured] = {}
        for link in re.findall(rf'href="((?:\.\./)*{DATA_FOLDER}/[\w/]+)\.json"', html):
            if link.endswith(MACHINES):
                continue
            file = (path.parent / f"{link}.json").resolve()
            if file not in files:
                files[file] = Measured(values_of(json.loads(file.read_text(encoding="utf-8"))))
            linked[link] = files[file]
        text = as_json(page_node(page, _title(html), linked, work))
        html = re.sub(rf"{re.escape(OPENS)}.*?{CLOSES}", "", html, flags=re.DOTALL)
        write_atomically(path, html.replace("</head>", f"{OPENS}{text}{CLOSES}</head>", 1).encode())


def page_node(page: str, title: str, linked: Mapping[str, Measured], work: Mapping[str, Any]) -> Node:
    """A page as schema.org has it: an article of the book, with a set of data for each file that it links to.

    A page about the network of one method says what was measured of that one.

    Args:
        linked: What each file of records holds, by the link that the page has to it, without its suffix.
        work: The project's CITATION.cff.
    """
    stem = page.rpartition("/")[2]
    method = stem.removeprefix(OF_A_METHOD) if stem.startswith(OF_A_METHOD) else ""
    own = {link: found.by_method.get(method) if method else found for link, found in linked.items()}
    node = _article(title, work)
    if own := {link: found for link, found in own.items() if found}:
        node["hasPart"] = _fitting(own, work, MAX_BYTES - len(as_json(node).encode()) - ROOM_AROUND)
    return node


def as_json(node: Node | list[Node]) -> str:
    """JSON that can stand in a script of a page: nothing in it ends the script."""
    return json.dumps(node, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")


def _article(title: str, work: Mapping[str, Any]) -> Node:
    made_by = {"@type": "Organization", "name": authors_of(work)}
    paper = work["references"][0]
    node: Node = {"@context": CONTEXT, "@type": "TechArticle", "headline": title, "inLanguage": "en"}
    node |= {"author": made_by, "license": f"{LICENCES}/{work['license']}.html"}
    book = {"@type": "Book", "name": work["title"], "version": str(work["version"]), "author": made_by}
    node["isPartOf"] = book | ({"identifier": f"https://doi.org/{work['doi']}"} if "doi" in work else {})
    node["about"] = {
        "@type": "SoftwareSourceCode",
        "name": "dclib",
        "programmingLanguage": "Python",
        "version": str(work["version"]),
        "license": node["license"],
    }
    node["citation"] = {
        "@type": "ScholarlyArticle",
        "name": paper["title"],
        "author": [{"@type": "Person", "name": f"{a['given-names']} {a['family-names']}"} for a in paper["authors"]],
        "datePublished": str(paper["year"]),
        "identifier": [identifier["value"] for identifier in paper.get("identifiers", ())],
    }
    return node


def _fitting(own: Mapping[str, Measured], work: Mapping[str, Any], room: int) -> list[Node]:
    """The sets of data, each told in as much detail as there is room for beside the others, the first ones first."""
    nodes = {link: _described(link, found.values, work) | _told(found.groups[-1]) for link, found in own.items()}
    room -= sum(_size(node) for node in nodes.values())
    for link in reversed([*own]):
        if room >= 0:
            break
        bare = _described(link, own[link].values, work)  # its files say the rest
        room += _size(nodes[link]) - _size(bare)
        nodes[link] = bare
    for link, found in own.items():
        for groups in found.groups[:-1]:
            if len(groups) * LEAST_BYTES > room + _size(nodes[link]):
                continue
            finer = nodes[link] | _told(groups)
            if (more := _size(finer) - _size(nodes[link])) <= room:
                nodes[link], room = finer, room - more
                break
    return list(nodes.values())


def _size(node: Node) -> int:
    """Bytes of a node and the comma behind it."""
    return len(as_json(node).encode()) + 1


def _described(link: str, values: Sequence[Value], work: Mapping[str, Any]) -> Node:
    """Where the data are, when, with which code and on what they were made."""
    cards = list({id(one.card): one.card for one in values}.values())
    node: Node = {"@type": "Dataset", "name": link.partition(f"{DATA_FOLDER}/")[2]}
    node["description"] = (
        f"Records of the stage {_all(card['stage'] for card in cards)}, {_all(one.whose for one in values)}: preset "
        f"{_all(card['preset'] for card in cards)}, seeds {_all(card['seed'] for card in cards)}, on "
        f"{_all(card['device'] for card in cards)}"
    )
    node["license"] = f"{LICENCES}/{work['license']}.html"
    node["creator"] = {"@type": "Organization", "name": authors_of(work)}
    node["dateModified"] = max(card["created"] for card in cards)
    commits = _all(card["commit"] for card in cards if card["commit"])
    node["version"] = f"code {_all(card['code_hash'] for card in cards)}" + (f", commit {commits}" if commits else "")
    types = {"json": "application/json", "csv": "text/csv"}
    node["distribution"] = [
        {"@type": "DataDownload", "encodingFormat": kind, "contentUrl": f"{link}.{suffix}"}
        for suffix, kind in types.items()
    ]
    return node


def _all(values: Iterable[object]) -> str:
    return ", ".join(map(str, sorted(set(values), key=lambda value: (isinstance(value, str), value))))


def values_of(runs: Iterable[Mapping[str, Any]]) -> list[Value]:
    """The values in a file to download; of those over epochs the last one of each run."""
    found: list[Value] = []
    for run in runs:
        last: dict[tuple[object, ...], tuple[int, Value]] = {}
        for record in run["records"]:
            keys = {key: value for key, value in record["keys"].items() if key != OVER_TIME}
            epoch = record["keys"].get(OVER_TIME, -1)
            place = (record["name"], *keys.items())
            if place not in last or epoch >= last[place][0]:
                one = Value(
                    run["whose"], run["card"], record["name"], record["value"], record["unit"], record["n"], keys
                )
                last[place] = (epoch, one)
        found += [one for _, one in last.values()]
    return found


def _grouped(values: Sequence[Value], by_method: bool, keeps: Callable[[str], bool]) -> Groups:
    """Values by name and conditions: whose they are, the method if it tells them apart, and some keys."""
    groups: dict[tuple[tuple[str, object], ...], list[Value]] = {}
    for one in values:
        of = (("method", one.keys.get("method", one.card["method"])),) if by_method else ()
        kept = ((key, value) for key, value in one.keys.items() if keeps(key) and key != "method")
        groups.setdefault((("name", one.name), ("whose", one.whose), *of, *kept), []).append(one)
    return groups


def _told(groups: Groups) -> Node:
    """What was measured: each group's range, its mean over seeds where they are all it is over, and what it is of."""
    return {"variableMeasured": [_property(place[1:], found) for place, found in groups.items()]}


def _property(conditions: Sequence[tuple[str, object]], found: Sequence[Value]) -> Node:
    numbers, sizes = [one.value for one in found], sorted({one.n for one in found})
    node: Node = {"@type": "PropertyValue", "name": found[0].name, "unitText": found[0].unit}
    if len({(one.card["method"], *one.keys.items()) for one in found}) == 1:  # else a mean says nothing
        node["value"] = _short(fmean(numbers))
    if len(found) > 1:
        node |= {"minValue": _short(min(numbers)), "maxValue": _short(max(numbers))}
    seeds = ",".join(map(str, sorted({one.card["seed"] for one in found})))
    n = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}"
    said = [*conditions, ("seeds", seeds), ("n", n), *([("values", len(found))] if len(found) > 1 else [])]
    return node | {"valueReference": "; ".join(f"{key} {value}" for key, value in said)}


# from the finest on: whether methods stand apart, and by which keys of a record its values do
DETAILS: Sequence[tuple[bool, Callable[[str], bool]]] = (
    (True, lambda key: True),
    (True, lambda key: key in CONDITIONS),
    (False, lambda key: False),
)


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _title(html: str) -> str:
    """A page's own title, in front of the book's."""
    found = re.search(r"<title>(.*?)</title>", html, re.DOTALL)
    return (
        unescape(found[1] if found else "").rpartition(" — ")[0].strip() or unescape(found[1] if found else "").strip()
    )
