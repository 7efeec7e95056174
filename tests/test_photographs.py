"""What is said in words of the photographs' records (book/evidence.md, README) is so in the records."""

from __future__ import annotations

from statistics import mean

import pytest

from dclib.presets import project_root
from dclib.records import Record, read_records
from dclib.report.series import accuracy_by_layer, select

DEEPEST = (11, 12, 13)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return read_records(project_root() / "results" / "photographs" / "records")


def test_rotnet_is_ahead_on_objects_and_deepercluster_on_scenes_in_every_seed(records: list[Record]) -> None:
    objects, scenes = (accuracy_by_layer(records, half) for half in ("objects", "scenes"))
    assert list(objects["deepercluster"]) == list(scenes["deepercluster"]) == [0, 1, 2]
    for seed in (0, 1, 2):
        behind = [objects["rotnet"][seed][n - 1] - objects["deepercluster"][seed][n - 1] for n in DEEPEST]
        ahead = [scenes["deepercluster"][seed][n - 1] - scenes["rotnet"][seed][n - 1] for n in DEEPEST]
        assert min(behind) > 0
        assert 0 < ahead[0] < ahead[1] < ahead[2]
        assert scenes["rotnet"][seed][12] < scenes["rotnet_start"][seed][12]  # of half the passes
        labels = [scenes["supervised"][seed][n - 1] - scenes["deepercluster"][seed][n - 1] for n in DEEPEST]
        assert max(labels) < 3


def test_clusters_fine_tuning_and_the_old_method(records: list[Record]) -> None:
    nmi = {r.card.method: [] for r in records if r.card}
    for record in select(records, "final_nmi_labels"):
        nmi[record.card.method].append(record.value)
    assert min(nmi["deepercluster"]) > max(nmi["rotnet"])
    ends: dict[tuple[str, str, str], dict[int, float]] = {}
    for record in [*select(records, "finetuned_top1"), *select(records, "share_top1")]:  # in the order of epochs
        key = (record.card.method, str(record.keys["share"]), str(record.keys["recipe"]))
        ends.setdefault(key, {})[record.card.seed] = record.value
    for recipe in ("ours", "pytorch_doc"):
        ours, rotnet, scratch = (ends[m, "10 %", recipe] for m in ("deepercluster", "rotnet", "random"))
        assert 0 < mean(ours[s] - rotnet[s] for s in ours) < 2
        assert min(min(ours[s], rotnet[s]) - scratch[s] for s in ours) > 10
        assert max(ends["deepercluster", "100 %", recipe][s] - ends["random", "100 %", recipe][s] for s in ours) < 4
    (old,) = (r.value for r in select(records, "low_shot_top1", features="k-means-1600", share="100 %"))
    curves = accuracy_by_layer(records, "objects")
    best = [max(map(mean, zip(*curves[m].values(), strict=True))) for m in ("deepercluster", "rotnet")]
    assert max(best) - old < 1
