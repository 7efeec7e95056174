"""The page of few labels: its table and words from planted records, and which presets have it."""

from __future__ import annotations

from pathlib import Path

import yaml
from synthetic_records import make_card, make_curve

from dclib.config import DataConfig
from dclib.planner.hardware import CPU
from dclib.planner.pages import page_costs
from dclib.presets import load_preset
from dclib.press.site import asked_toc, toc_pages
from dclib.press.stages import EVALUATIONS, plan_stages
from dclib.records import DATA, Record
from dclib.report.few_labels import few_labels_table, in_short, records_of
from dclib.report.provenance import find_mismatches
from dclib.report.published import with_published
from dclib.report.tables import Table

ROOT = Path(__file__).resolve().parent.parent
DRAWN, REAL = DataConfig(), DataConfig(root="somewhere")
ASKING = {"low_shot.shares": [0.1, 1.0], "low_shot.centroids": [8]}


def network(method: str, seed: int, layer: int, base: float) -> list[Record]:
    """conv13 has ``base`` per cent, a layer above it a point more each; with few labels 20 less, by votes 10 less."""
    values = {number: base + 13 - number + seed for number in range(1, 14)}
    card = make_card(method, seed, "low_shot", notes={"labels": "500 (1 %), 50,000 (100 %)", "neighbours": 20})
    found = [Record(name="best_layer", value=layer, unit="1", n=5000, card=card)]
    for number, value in values.items():
        keys = {"share": "1 %", "layer": number}
        found.append(Record(name="low_shot_top1", value=value - 20, unit="%", n=10_000, keys=keys, card=card))
    for number in {layer, 13}:
        keys = {"layer": number}
        found.append(Record(name="neighbour_top1", value=values[number] - 10, unit="%", n=10_000, keys=keys, card=card))
    return found + make_curve(method, seed, list(values.values()), n=10_000)


def old(features: str, seed: int, few: float, many: float, votes: float) -> list[Record]:
    card = make_card(DATA, seed, "baselines", config_hash=features)
    keys = {"features": features}
    return [
        Record(name="neighbour_top1", value=votes, unit="%", n=10_000, keys=keys, card=card),
        *(
            Record(name="low_shot_top1", value=v, unit="%", n=10_000, keys={**keys, "share": share}, card=card)
            for share, v in (("1 %", few), ("100 %", many))
        ),
    ]


def planted() -> list[Record]:
    """Two seeds of three networks and of two methods without one; a page's other records lie among them."""
    found = make_curve("rotnet", 0, [1.0] * 13, "scenes")
    for seed in (0, 1):
        found += network("rotnet", seed, 10 + seed, 50.0) + network("supervised", seed, 13, 90.0)
        found += network("deepercluster", seed, 9, 55.0)
        found += old("pixels", seed, 20.0, 40.0, 35.0) + old("k-means-1600", seed, 42.0, 70.0, 30.0)
        found += old("k-means-400", seed, 41.0, 65.0, 31.0)
    return found


def rows(table: Table, group: int) -> dict[str, list[str]]:
    return {row.label: [f"{c.text} {c.small}".strip() for c in row.cells] for row in table.groups[group].rows}


def test_the_table_has_two_layers_of_each_network_and_the_methods_without_one() -> None:
    assert {r.keys.get("dataset", "objects") for r in records_of(planted())} == {"objects"}
    table = few_labels_table(records_of(planted()), REAL)
    assert table.columns == ("Features", "1 % of the labels", "100 % of the labels", "neighbours")
    last, best, others = (rows(table, group) for group in range(3))
    assert list(last) == ["Supervised", "DeeperCluster", "RotNet"]
    assert last["RotNet"] == ["30.5 ± 0.7", "50.5 ± 0.7", "40.5 ± 0.7"]
    # seed 0 chose conv10, three above conv13, seed 1 conv11, two above it
    assert best["RotNet, conv10 or conv11"] == ["33.0 ± 0.0", "53.0 ± 0.0", "43.0 ± 0.0"]
    assert list(others) == ["Raw pixels", "K-means features, 400 centroids", "K-means features, 1,600 centroids"]
    assert others["Raw pixels"] == ["20.0 ± 0.0", "40.0 ± 0.0", "35.0 ± 0.0"]
    said = " ".join(table.notes)
    assert "On 10,000 test images" in said
    assert "500 (1 %), 50,000 (100 %)" in said
    assert "20 neighbours" in said


def test_published_figures_stand_beside_photographs_with_their_source_and_not_beside_drawings() -> None:
    table = few_labels_table(records_of(planted()), REAL)
    published = rows(table, 3)
    assert published["SwAV, ResNet-18, 1,000 epochs"] == ["–", "89.2", "–"]
    assert published["SwAV, ResNet-18, 200 epochs"] == ["–", "–", "81.2"]
    assert published["K-means features, 1,600 centroids, one whitened layer"] == ["–", "77.9", "–"]
    assert all(row.paper for row in table.groups[3].rows)
    assert "77.9 and 79.6: Coates, Ng and Lee 2011" in " ".join(table.notes)
    drawn = few_labels_table(records_of(planted()), DRAWN)
    assert drawn.groups[3].rows == ()
    assert "Coates" not in " ".join(drawn.notes)


def test_the_best_network_without_labels_is_set_beside_the_best_method_without_a_network() -> None:
    """Seed 0 of DeeperCluster has 55 + 4 at conv9, seed 1 a point more: 59.5; with few labels 39.5, by votes 49.5."""
    assert in_short(records_of(planted())).text == (
        "With 1 % of the labels: DeeperCluster, conv9 39.5 %, k-means features, 1,600 centroids 42.0 %: the network is "
        "2.5 points behind. With 100 % of the labels: DeeperCluster, conv9 59.5 %, k-means features, 1,600 centroids "
        "70.0 %: the network is 10.5 points behind. By votes of neighbours: DeeperCluster, conv9 49.5 %, raw pixels "
        "35.0 %: the network is 14.5 points ahead."
    )


def test_records_of_several_methods_without_a_network_are_made_alike() -> None:
    assert find_mismatches(records_of(planted())) == []


def test_published_seeds_stand_under_those_of_the_run() -> None:
    records = [r for r in records_of(planted()) if r.card.seed == 0]
    table = with_published(lambda r: few_labels_table(r, REAL), records, records_of(planted()))
    assert "RotNet, 2 published seeds" in rows(table, 0)
    assert "Raw pixels, 2 published seeds" in rows(table, 2)


def test_without_records_a_page_says_so() -> None:
    assert "Nothing was measured here" in few_labels_table([], REAL)._repr_markdown_()
    assert "Nothing was measured here" in in_short([]).text
    probes = records_of(make_curve("rotnet", 0, [1.0] * 13))  # those of Table 1 alone
    assert "Nothing was measured here" in few_labels_table(probes, REAL)._repr_markdown_()


def test_only_presets_that_ask_have_the_page() -> None:
    for name in ("smoke", "pocket"):
        assert "few_labels" not in {stage.page for stage in plan_stages(name)[1]}
    _, stages = plan_stages("smoke", settings=ASKING)
    by_page = {stage.page: stage for stage in stages}
    assert by_page["few_labels"].notebook.stem == "16_few_labels"
    assert "pretraining_rotnet" in by_page["few_labels"].needs
    assert by_page["scorecard"].needs == (*EVALUATIONS, "few_labels")


def test_a_book_lists_the_page_where_a_preset_asks_for_it() -> None:
    toc = ROOT / "book" / "_toc.yml"
    plain = asked_toc(toc, plan_stages("smoke")[1])
    assert plain == toc.read_text(encoding="utf-8")
    text = asked_toc(toc, plan_stages("smoke", settings=ASKING)[1])
    pages = toc_pages(text)
    assert pages[pages.index("stages/linear_probes") + 1] == "stages/few_labels"
    assert [page for page in pages if page != "stages/few_labels"] == toc_pages(plain)
    assert yaml.safe_load(text).keys() == yaml.safe_load(plain).keys()


def test_the_page_costs_as_much_as_its_probes() -> None:
    """Of each network the probes of one share, and of the choice of a layer, are two of Table 1's on objects."""
    asking = load_preset("pocket", ASKING)
    costs = page_costs(asking, ["few_labels", "pretraining_random"], CPU, {})
    alone = page_costs(load_preset("pocket", {"low_shot.shares": [1.0]}), ["few_labels", "pretraining_random"], CPU, {})
    begins = page_costs(load_preset("pocket"), ["few_labels", "pretraining_random"], CPU, {})["few_labels"].work
    share = alone["few_labels"].work - begins
    assert share > 0
    assert abs(costs["few_labels"].work - begins - 2 * share) < 1e-9 * share
