"""The page of what came before the paper and after it: order, cost, leads, health; panels of Table 1's figure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import pytest
from synthetic_records import make_card, make_probes, make_training
from test_learning import trained

from dclib.config import Preset
from dclib.methods import OUTLINES
from dclib.paper import NAMES, TABLE1, TABLE3_METHODS
from dclib.presets import parse_preset, project_root
from dclib.records import Record
from dclib.report import after, exhibits, figures
from dclib.report.series import BY_YEAR, METHOD_ORDER, era_of, order_methods, title_of
from dclib.report.tables import Table

SEEDS = (0, 1, 2)
FLAT = {"random": 30.0, "rotnet": 40.0, "deepcluster": 45.0, "deepercluster": 50.0, "supervised": 60.0}
OTHERS = [method for method in BY_YEAR if era_of(method) != "paper"]


def preset_of(*methods: str) -> Preset:
    entries = {m: {"init": "context"} if m == "transitive" else None for m in methods}
    return parse_preset("tiny", {"methods": entries})


WHOLE = preset_of(*FLAT, *OTHERS)


def probes(**curves: Sequence[float]) -> list[Record]:
    """Flat curves of the paper's methods, and these."""
    return make_probes({**{m: [v] * 13 for m, v in FLAT.items()}, **curves}, SEEDS)


def rows_of(table: Table) -> dict[str, list[str]]:
    return {row.label: [cell.text for cell in row.cells] for group in table.groups for row in group.rows}


# order and names


def test_methods_stand_from_labels_over_the_latest_to_the_earliest() -> None:
    assert METHOD_ORDER[0] == "supervised"
    assert METHOD_ORDER[-1] == "random"
    years = [OUTLINES[method].year for method in METHOD_ORDER[1:-1]]
    assert years == sorted(years, reverse=True)
    given = ["context", "rotnet_rgb", "random", "deepcluster_v2", "deepercluster", "rotnet", "transitive"]
    wanted = ["deepcluster_v2", "deepercluster", "rotnet", "rotnet_rgb", "transitive", "context", "random"]
    assert order_methods(given) == wanted


def test_the_papers_methods_are_those_of_its_own_tables() -> None:
    """Its Table 1 and the rows of Table 3 that it trained; other methods are before or after, with a year."""
    named = {m for m, name in NAMES.items() if name in TABLE1["ImageNet"]} | {"random", "deepcluster", "released"}
    assert {m for m in OUTLINES if era_of(m) == "paper"} == named
    assert [m for m in TABLE3_METHODS.values() if era_of(m) == "before"] == ["context", "transitive"]
    assert era_of("deepcluster_v2_small") == "after"
    assert era_of("deepercluster_hierarchy") == "paper"


def test_every_source_is_in_the_bibliography_under_its_year() -> None:
    entries = (project_root() / "book" / "references.bib").read_text(encoding="utf-8").split("\n@")
    years = {m[1]: y[1] for e in entries if (m := re.search(r"\{(\w+),", e)) and (y := re.search(r"year = \{(\d+)", e))}
    cited = {outline.cite for outline in OUTLINES.values() if outline.cite}
    assert cited <= years.keys()
    assert all(key.endswith(years[key]) for key in cited)
    pages = " ".join(path.read_text(encoding="utf-8") for path in (project_root() / "notebooks").glob("19_*.ipynb"))
    assert all(key in pages for key in cited)


def test_methods_beyond_the_paper_have_looks_of_their_own() -> None:
    looks = [figures.look_of(method) for method in OTHERS]
    assert figures.VARIANT_LOOK not in looks
    assert len({look.marker for look in figures.LOOKS.values()}) == len(figures.LOOKS)


# Table 1's figure


def test_other_methods_have_a_panel_of_their_own() -> None:
    """Not on top of the paper's: the main panel is the same with them as without, and they stand over it in grey."""
    records = probes(context=[20.0] * 13, deepcluster_v2=[55.0] * 13, rotnet_rgb=[35.0] * 13)
    main = figures.plot_accuracy_against_depth(records, "objects")
    assert [text.get_text() for text in main.texts] == [title_of(m) for m in order_methods(FLAT)]
    assert main.get_ylim() == figures.plot_accuracy_against_depth(probes(), "objects").get_ylim()
    assert figures.kinds_beside(records, "objects") == ["before and after", "variants"]
    panel = figures.plot_beside(records, "objects", "before and after", limits=main.get_ylim())
    assert [text.get_text() for text in panel.texts] == ["DeepCluster-v2", "Context prediction ↓ 20 %"]
    shown = exhibits.accuracy_against_depth(records, "objects")
    assert shown.html.count("<figure") == 3
    assert "of methods before and after it against layer" in shown.text
    alone = [r for r in records if r.card and r.card.method == "context"]
    assert exhibits.accuracy_against_depth(alone, "objects").html.count("<figure") == 1


def test_the_loss_of_distances_is_not_in_nats() -> None:
    for method, unit in (("transitive", ""), ("context", "nats"), ("rotnet", "nats")):
        ax = figures.plot_training_loss(make_training(method, 0), method)
        assert ax.get_ylabel() == ("loss, nats" if unit else "loss")
        assert ("ln(classes)" in ax.texts[0].get_text()) == bool(unit)
        assert ("nats" in figures.describe_training_loss(make_training(method, 0), method)) == bool(unit)


def test_what_a_method_found_before_it_learned_is_said() -> None:
    card = make_card("transitive", 0, "pretrain")
    found = [
        Record(name=name, value=value, unit="1", n=400, keys={"assignment": 0}, card=card)
        for name, value in (("tracks", 100.0), ("without_neighbour", 12.0))
    ]
    said = exhibits.cluster_agreement(found, "transitive").text
    assert "followed 100 patches through clips before it learned; 12 % of them have no other like them." in said
    assert "followed" not in exhibits.cluster_agreement([], "context").text


# the page


def test_methods_stand_year_by_year_and_none_where_all_are_the_papers() -> None:
    labels = list(rows_of(after.asked_table(WHOLE)))
    assert labels[:5] == ["Context prediction", "Transitive invariance", "RotNet", "DeepCluster", "DeeperCluster"]
    assert labels[5:] == [OUTLINES[m].title for m in OTHERS if era_of(m) == "after"]
    only = preset_of(*FLAT)
    assert after.in_line(only) == []
    shown = [after.asked_table(only), after.cost_table([], only), after.who_is_ahead([], only), after.health([], only)]
    shown += [after.lead_table([], only, "objects"), after.retrieval_table([], only)]
    assert all(after.EMPTY in repr(part) for part in shown)


def test_passes_are_those_that_the_network_made_with_those_of_its_start() -> None:
    """16,000 images in each of three epochs, context's and transitive's in two views each."""
    records = [r for m in ("context", "transitive", "deepcluster", "deepcluster_v2") for r in _training(m)]
    rows = rows_of(after.cost_table(records, WHOLE))
    assert rows["Context prediction"][:4] == ["96,000", "96,000", "61", "0"]
    assert rows["Transitive invariance"][:2] == ["96,000", "192,000"]
    assert rows["DeepCluster"][:5] == ["48,000", "48,000", "61", "2", "32,000"]
    assert rows["DeepCluster-v2"][3:5] == ["2", "16,000"]  # remembered from training but for the first
    d = WHOLE.method("context").model.feature_dim
    assert rows["Context prediction"][5] == f"{(2 * d + 1) * d + (d + 1) * 8:,}"
    assert rows["RotNet"] == ["not run", *["–"] * 5]


def _training(method: str) -> list[Record]:
    return [r for s in SEEDS for r in make_training(method, s, (0.2, 0.3) if method.startswith("deep") else ())]


def test_who_is_ahead_where_is_said_by_the_margins_of_the_house() -> None:
    early, late = [52.0] * 4, [48.0] * 8
    records = make_probes({"deepercluster": [50.0] * 13, "random": [30.0] * 13}, SEEDS)
    records += [
        r
        for seed, by in zip(SEEDS, (-1.0, 1.5, 3.0), strict=True)
        for r in make_probes({"context": [*early, 50.0 + by, *late]}, (seed,))
    ]
    said = after.who_is_ahead(records, WHOLE).text.split("\n\n")
    assert said[0] == (
        "Objects: beside DeeperCluster, Context prediction is ahead at conv1 to conv4, behind at conv6 to conv13, and "
        "within luck at conv5, by 3 seeds."
    )
    table = after.lead_table(records, WHOLE, "objects")
    less, floor = table.groups
    assert [cell.bold for cell in less.rows[0].cells] == [True] * 4 + [False] + [True] * 8
    assert [row.label for row in floor.rows] == ["Context prediction"]
    one = [r for r in records if r.card and r.card.seed == 1]
    both = after.who_is_ahead(one, WHOLE, records).text.split("\n\n")
    assert both[:2] == ["By 3 published seeds:", said[0]]
    assert "which cannot tell a lead from luck" in after.who_is_ahead(one, WHOLE).text
    groups = after.lead_table(one, WHOLE, "objects").groups
    assert not any(cell.bold for group in groups for row in group.rows for cell in row.cells)


def test_what_learned_nothing_or_is_behind_a_random_network_is_told() -> None:
    training = [r for s in SEEDS for m in ("context", "deepcluster_v2") for r in make_training(m, s)]
    good = training + probes(context=[40.0] * 13, deepcluster_v2=[31.0] * 13)
    assert "WARNING" not in after.health(good, WHOLE).text
    behind = training + probes(context=[*[40.0] * 10, 30.0, 29.0, 28.0], deepcluster_v2=[31.0] * 13)
    said, *others = after.health(behind, WHOLE).text.split("\n\n")
    assert "WARNING" not in " ".join(others)
    assert said.startswith("WARNING: Context prediction is not ahead of a random network on objects at any of conv11")
    asked = [dataclasses.replace(r, name=r.name.replace("turn", "position")) for r in trained("context", 0, turn=26.0)]
    assert "Context prediction has not learned to tell positions (26 %" in after.health(good + asked, WHOLE).text


def test_the_figure_has_these_methods_between_two_it_is_measured_by() -> None:
    records = probes(context=[20.0] * 13, transitive=[25.0] * 13, rotnet_rgb=[35.0] * 13)
    text = after.depth_figure(records, WHOLE, "objects").text
    named = {
        title: f"{title} " in text.split("here.")[1] for title in ("Random", "Context prediction", "DeeperCluster")
    }
    assert all(named.values())
    assert "RotNet" not in text
    assert "Supervised" not in text


def test_retrieval_stands_year_by_year() -> None:
    values = {"supervised": 60, "random": 5, "context": 10, "rotnet": 30, "deepercluster": 44, "rotnet_rgb": 1}
    records = [
        Record(name="retrieval_map", value=v, unit="%", n=55, keys={"dataset": c}, card=make_card(m, 0, "retrieval"))
        for m, v in values.items()
        for c in ("oxford", "paris")
    ]
    rows = rows_of(after.retrieval_table(records, WHOLE))
    assert list(rows) == ["Random", "Context prediction", "RotNet", "DeeperCluster", "Supervised"]
    assert rows["RotNet"] == ["30.0", "30.0"]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "no layer"),
        ([3], "conv3"),
        ([1, 2], "conv1 to conv2"),
        ([1, 3, 4, 5, 13], "conv1, conv3 to conv5 and conv13"),
    ],
)
def test_layers_are_named_in_runs(layers: list[int], words: str) -> None:
    assert after._named([f"conv{i}" for i in layers]) == words
