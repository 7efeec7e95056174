"""Whether every comparison that the supplement makes has a claim, cell by cell and sentence by sentence."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_paper import SUPPLEMENT

from dclib import paper
from dclib.report.evidence import gather
from dclib.report.finder import published_records, source_of
from dclib.report.margins import Source, Values

Cell = tuple[str, str]  # row, column of a table

# our names of the rows and columns, read off the tables once more
ROWS = {
    1: {
        f"{data}, {row}": (half, row.lower())
        for data, half in (("ImageNet", "objects"), ("Places205", "scenes"))
        for row in ("Supervised", "RotNet", "DeeperCluster")
    },
    2: {
        "Supervised (our code)": "random",
        "Supervised + RotNet pre-training": "rotnet",
        "Supervised + DeeperCluster pre-training": "deepercluster",
    },
    3: {
        "ImageNet labels, ImageNet": "supervised",
        "Random, -": "random",
        "Doersch et al., ImageNet": "context",
        "Wang et al., Youtube 9M": "transitive",
        "RotNet, ImageNet": "rotnet_curated",
        "DeepCluster, ImageNet": "deepcluster_curated",
        "RotNet, YFCC100M": "rotnet",
        "DeepCluster, YFCC100M": "deepcluster",
        "DeeperCluster, YFCC100M": "deepercluster",
    },
    4: {"RotNet, YFCC 1M": "rotnet", "DeeperCluster, YFCC 20M": "deepercluster"},
}
COLUMNS = {
    "PyTorch doc hyperparam": "pytorch_doc",
    "Our hyperparam": "ours",
    "Oxford5K": "oxford",
    "Paris6K": "paris",
    "RGB": "_rgb",
    "Sobel": "",
}


def source_of_cell(table: int, row: str, column: str) -> Source:
    of = ROWS[table][row]
    if table == 1:
        return source_of("top1", of[1], {"dataset": of[0], "layer": int(column.removeprefix("conv"))})
    assert isinstance(of, str)
    if table == 2:
        return source_of("finetuned_top1", of, {"recipe": COLUMNS[column]})
    if table == 3:
        return source_of("retrieval_map", of, {"dataset": COLUMNS[column]})
    return source_of("voc_map", of + COLUMNS[column], {"setting": "fc68", "split": "val"})


def values_of(table: int) -> dict[Cell, float]:
    return {(n.row, n.column): n.value for n in paper.published_numbers() if n.table == table}


def pairs_of(table: int) -> Iterator[tuple[Cell, Cell]]:
    """Cells of one column, from the higher to the lower; in Tables 2 and 4, of one row as well.

    The halves of Table 1 are tables of their own. Columns of Table 3 are different images and those of Table 1
    different layers, whose order in a row is spoken of for the best layer alone: see the peaks below.
    """
    cells = values_of(table)
    for a, b in itertools.combinations(cells, 2):
        same_column = a[1] == b[1] and (table != 1 or a[0].split(", ")[0] == b[0].split(", ")[0])
        if same_column or (table in (2, 4) and a[0] == b[0]):
            yield (a, b) if cells[a] > cells[b] else (b, a)


def compared(number_of_cells: int | None = 2) -> set[frozenset[Source]]:
    """The cells that each check compares, from the evidence on the published tables; by default those of two cells."""
    found = set()
    for claim_id, evidence in gather(published_records()).items():
        if claim_id.startswith("C"):
            for check in (*evidence.checks, *evidence.premises):
                assert check.margins is None or isinstance(check.margins, Values)
                assert all(margin > -1e-9 for margin in check.values), (claim_id, check)
                found.add(check.sources)
    return {cells for cells in found if number_of_cells is None or len(cells) == number_of_cells}


def half_disagrees(row: str, other: str, layer: int) -> bool:
    """Whether the two data sets of Table 1 have two methods in different orders at a layer."""
    curves = [[paper.TABLE1[data][m][layer] for m in (row, other)] for data in ("ImageNet", "Places205")]
    return (curves[0][0] > curves[0][1]) != (curves[1][0] > curves[1][1])


# no claim is made of these pairs; each with its reason
ALTERNATES = {("ImageNet", "conv2"), ("ImageNet", "conv4"), ("Places205", "conv2"), ("Places205", "conv4")}


def exempt(table: int, a: Cell, b: Cell) -> str:
    """Why the order of two cells is not a claim; empty where it must be one."""
    if table == 1:
        (data, first), (_, second) = (cell[0].split(", ") for cell in (a, b))
        if half_disagrees(first, second, paper.LAYERS.index(a[1])):
            return "the two data sets of the table disagree, so it says nothing in general"
        if {first, second} == {"Supervised", "DeeperCluster"} and (data, a[1]) in ALTERNATES:
            return "in the first four layers labels and DeeperCluster take turns, which no statement sums up"
    if table == 2 and "Supervised (PyTorch documentation)" in (a[0], b[0]):
        return "the number of a web page beside that of the authors' own code: how well they reproduce it"
    return ""


@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_every_order_of_two_cells_is_compared_by_a_claim(table: int) -> None:
    """Itself, or as the end of a chain of claims: labels over DeepCluster over RotNet."""
    direct = compared()
    orders: dict[Source, set[Source]] = {}
    exempted = set()
    wanted = []
    for a, b in pairs_of(table):
        if exempt(table, a, b):
            exempted.add(frozenset((a, b)))
            continue
        high, low = source_of_cell(table, *a), source_of_cell(table, *b)
        wanted.append((high, low))
        if frozenset((high, low)) in direct:
            orders.setdefault(high, set()).add(low)

    def follows(high: Source, low: Source) -> bool:
        return any(step == low or follows(step, low) for step in orders.get(high, ()))

    assert wanted
    assert [pair for pair in wanted if not follows(*pair)] == []


def test_nothing_is_exempt_that_is_a_claim() -> None:
    direct = compared()
    for table in (1, 2):
        for a, b in pairs_of(table):
            if exempt(table, a, b) and "documentation" not in f"{a}{b}":
                assert frozenset((source_of_cell(table, *a), source_of_cell(table, *b))) not in direct


@pytest.mark.parametrize("row", ROWS[1])
def test_the_best_layer_of_every_row_is_a_claim(row: str) -> None:
    """Against conv13 at least, where it is not conv13 itself: then against every other one."""
    curve = {column: value for (of, column), value in values_of(1).items() if of == row}
    best = [column for column, value in curve.items() if value == max(curve.values())]
    end = source_of_cell(1, row, "conv13")
    assert any(
        source_of_cell(1, row, column) in cells and end in cells and {m for _, m, _ in cells} == {end[1]}
        for column in best
        for cells in compared(None)
    )


def test_all_rows_have_a_network() -> None:
    assert set(ROWS[3].values()) == set(paper.TABLE3_METHODS.values())
    for table, rows in ROWS.items():
        left_out = {n.row for n in paper.published_numbers() if n.table == table} - set(rows)
        assert left_out == ({"Supervised (PyTorch documentation)"} if table == 2 else set())


# sentences of the supplement that compare: its words -> the claims, or why there is none
SENTENCES: dict[str, tuple[str, ...] | str] = {
    "Comparison of the hashtag distribution in YFCC100M with the label distribution": ("C12",),
    "very unbalanced, with a “long-tail” distribution of hashtags contrasting with": ("C12",),
    "correspond to labels with 1300 associated images in ImageNet, while": ("C12",),
    "we compare the performance of a network trained with supervision": ("C5", "C6"),
    "following the hyperparam-": "a setting",
    "This setting is unfair towards the supervised from scratch baseline": ("C14", "C21"),
    "arrive at convergence earlier": ("C21",),
    "the gap between our pretraining and the baseline shrinks from 1.0 to 0.8": ("C14",),
    "the gap for the RotNet pretraining with the baseline remains the same: 0.4": ("C20",),
    "retrieving from a corpus the most similar images": "what the task is",
    "class-level supervision induces invariance": "another paper's finding",
    "This property may not be beneficial": "a supposition; Table 3, where labels are first, is C7 and C22",
    "unsupervised feature learning might provide performance improvements": "a supposition, as before",
    "allowing a straightforward comparison": "on the protocol",
    "We evaluate our method and compare it to previous work": ("C23",),
    "significantly worse performance than DeepCluster both on Oxford5K and Paris6K": ("C16",),
    "This performance discrepancy means": "an explanation of C16",
    "it suffers an important performance loss on Oxford5K, but is not affected much": ("C8",),
    "DeepCluster does not scale to the full YFCC100M": "on cost, which the planner's page is about",
    "sobel filtering is crucial to obtain good performance": ("C9",),
    "sort them by standard deviation": "how Figure 2 is made",
    "If the standard deviation of a cluster to its mean color is low": "how Figure 2 is read",
    "show in Figure 3 some clusters with a low standard deviation": ("C11",),
    "focuses more on color than the clustering on RotNet features": ("C10",),
    "low-level information produces balanced clusters that can easily be predicted": ("C30",),
    "greatly improve the performance of our features": ("C9",),
    "Sobel filter improves slightly RotNet features as well": ("C19",),
    "clusters with an uniform colorization": ("C11",),
    "choose the best performing hyperparameters": "how settings are chosen",
    "stop training as soon as performance on Pascal VOC 2007 classification task saturates": "when training ends",
    "We compare a VGG-16 trained with supervision on ImageNet to VGG-16s": ("C1", "C24", "C26", "C27", "C28", "C29"),
    "We compare a network initialized randomly to networks pre-trained": ("C5", "C6", "C15"),
    "We disassociate the methods using unsupervised ImageNet": ("C22", "C31"),
    "Influence of applying Sobel filter or using raw RGB input": ("C9", "C17", "C18", "C19"),
}
COMPARING = re.compile(
    r"\b(compar|contrast|better|worse|more\b|earlier|shrink|gap\b|remains|improve|loss on|low\b|uniform|balanced|"
    r"crucial|long-tail|unfair|beneficial|performance|similar|discrepancy|scale\b|invariance|disassociate|influence)",
    re.IGNORECASE,
)


def sentences() -> list[str]:
    """Those of sections 1 to 5 and of the captions, in which a word of comparison stands; pages' breaks are closed."""
    if not SUPPLEMENT.is_file():
        pytest.skip("the supplement's text is not beside the project")
    text = SUPPLEMENT.read_text(encoding="utf-8").split("6. Usernames of cluster")[0]
    lines = [re.sub(r"[*]|</?i>", "", line) for line in text.splitlines() if "\t" not in line]
    heading = re.compile(r"^(\d\.(\d\.)? |Supplementary Material)")
    whole = [line for line in lines if not heading.match(line)]
    found = [s for line in whole for s in re.split(r"(?<=[a-z0-9)\]][.:])\s+(?=[A-Z])", line)]
    return [s for s in found if COMPARING.search(s)]


def test_every_sentence_that_compares_has_a_claim_or_a_reason() -> None:
    missing = [s for s in sentences() if not any(words in s for words in SENTENCES)]
    assert missing == []


def test_the_words_are_the_supplements_and_the_claims_are_there() -> None:
    ids = {claim.id for claim in paper.CLAIMS}
    text = re.sub(r"[*]", "", SUPPLEMENT.read_text(encoding="utf-8")) if SUPPLEMENT.is_file() else ""
    for words, claims in SENTENCES.items():
        assert claims
        assert isinstance(claims, str) or set(claims) <= ids
        assert not text or words in text, words


def test_every_claim_of_the_papers_has_its_place() -> None:
    """In a sentence, in cells of a table, or, of the clusters of section 6, in the main paper's figure."""
    said = {claim_id for claims in SENTENCES.values() if not isinstance(claims, str) for claim_id in claims}
    assert {c.id for c in paper.CLAIMS if c.is_the_papers and not c.numbers} - said == {"C13"}


def test_no_page_types_how_many_claims_there_are() -> None:
    """A number that changes with the claims is computed."""
    root = Path(__file__).parent.parent
    pages = [root / "README.md", *(root / "book").glob("*.md"), *(root / "notebooks").glob("*.ipynb")]
    words = "ten|eleven|twelve|thirteen|fourteen|fifteen|twenty|thirty"
    typed = re.compile(rf"\b(\d+|{words})([- ]\w+)? (of the paper's )?claims\b|\b({words}) claims", re.IGNORECASE)
    assert [path.name for path in pages if typed.search(path.read_text(encoding="utf-8"))] == []
