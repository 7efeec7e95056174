"""Data and clusters counted: which networks are made, on which images, what the page says of them, and where it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from notebook_cells import run_notebook
from synthetic_records import make_card, make_curve, make_training

from dclib.config import Preset
from dclib.counted import Count, compared, count_of, counted
from dclib.data.images import ImageSet, drawn_subset
from dclib.evaluate import networks
from dclib.planner.hardware import CPU
from dclib.planner.pages import WORK_START, page_costs
from dclib.presets import load_preset, parse_preset
from dclib.press.publish import publish, results_table
from dclib.press.site import asked_toc, toc_pages
from dclib.press.stages import plan_stages
from dclib.records import Record, read_records, select, write_records
from dclib.report import counts
from dclib.report.counts import variants_in
from dclib.report.margins import Values, are_clear
from dclib.report.provenance import find_mismatches, load_records
from dclib.report.published import load_published
from dclib.train.runnable import images_of

ROOT = Path(__file__).resolve().parent.parent
ASKING: dict[str, Any] = {"counts.images": [150, 300, 600], "counts.clusters": [4, 8, 16]}
NAMES = ("deepercluster", "deepercluster_on_150_images", "deepercluster_on_300_images")


def asking(**changes: Any) -> Preset:
    return load_preset("smoke", {**ASKING, **changes})


# which networks


def test_each_network_differs_from_its_method_in_one_setting_and_what_a_method_has_anyway_is_no_other_network() -> None:
    """The smoke preset has 600 images in its pool and 8 clusters: the largest count of images and the middle of k."""
    preset = asking()
    made = counted(preset)
    more = [name for name in made.methods if name not in preset.methods]
    assert more == [
        *("deepercluster_on_150_images", "deepercluster_on_300_images"),
        *("deepercluster_in_4_clusters", "deepercluster_in_16_clusters"),
        *("rotnet_on_150_images", "rotnet_on_300_images"),
    ]
    assert compared(preset) == ("deepercluster", "rotnet", *more)
    for name in more:
        count = count_of(name)
        assert count is not None
        assert count.name == name
        own, varied = asdict(preset.method(count.method)), asdict(made.method(name))
        flat = {**own, **{f"cluster.{k}": v for k, v in own["cluster"].items()}, "cluster": 0}
        other = {**varied, **{f"cluster.{k}": v for k, v in varied["cluster"].items()}, "cluster": 0}
        key = "pool_images" if count.kind == "images" else "cluster.n_sub"
        assert {k: v for k, v in other.items() if flat[k] != v} == {key: count.value}
    assert made.common_clustering == preset.common_clustering
    assert compared(load_preset("pocket")) == ()
    assert counted(load_preset("pocket")) == load_preset("pocket")


def test_clusters_are_counted_over_both_levels() -> None:
    two = {"cluster": {"n_super": 2, "n_sub": 8}}
    raw = {"methods": {"deepercluster": two}, "counts": {"clusters": [4, 16], "methods": ["deepercluster"]}}
    preset = parse_preset("two", raw)
    assert compared(preset) == ("deepercluster", "deepercluster_in_4_clusters")
    made = counted(preset).method("deepercluster_in_4_clusters").cluster
    assert (made.n_super, made.n_sub) == (2, 2)
    with pytest.raises(ValueError, match="a multiple of its 2"):
        parse_preset("two", {**raw, "counts": {**raw["counts"], "clusters": [5]}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counts.images": [601]}, "at most the 600 images of the pool; got 601"),
        ({"train.epoch_images": 0}, "train.epoch_images, for as many passes"),
        ({"counts.methods": ["deepercluster_hierarchy"]}, "no other network's weights"),
        ({"counts.methods": ["supervised"]}, "learns from the pool"),
        ({"counts.methods": ["swav9"]}, "unknown method 'swav9'"),
        ({"counts.clusters": [601]}, "at least one image per cluster; got 600 for 601"),
        ({"counts.images": [150, 150]}, "each of images once"),
        ({"counts.clusters": [1]}, "images and clusters >= 2"),
    ],
)
def test_counts_that_cannot_be_compared_are_refused_with_the_preset(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        asking(**change)


def test_a_part_of_the_pool_is_nothing_for_a_method_that_learns_from_labelled_objects() -> None:
    for own in ({"method": "rotnet", "images": "objects"}, {"method": "supervised"}):
        with pytest.raises(ValueError, match="pool_images for a method that learns from the pool alone; got 10"):
            parse_preset("own", {"methods": {"own": {**own, "pool_images": 10}}})
    preset = parse_preset("own", {"methods": {"own": {"method": "rotnet", "pool_images": 10}}})
    assert preset.method("own").pool_images == 10


def test_images_are_drawn_once_and_fewer_are_part_of_more() -> None:
    class Reader:
        root = Path()

    pool = ImageSet("pool", tuple(f"{i:03}" for i in range(600)), Reader())  # type: ignore[arg-type]
    made = counted(asking())
    few, more, alike = (
        list(images_of(made.method(name), pool, None).ids) for name in (NAMES[1], NAMES[2], "rotnet_on_300_images")
    )
    assert (len(few), len(more)) == (150, 300)
    assert set(few) < set(more)
    assert alike == more == sorted(more)
    assert list(images_of(made.method(NAMES[0]), pool, None).ids) == list(pool.ids)
    # at random: not the first ones, and a quarter of them in each quarter, within five standard deviations
    assert abs(sum(int(image) < 300 for image in few) - 75) < 5 * np.sqrt(150 / 4)
    with pytest.raises(ValueError, match="asks for 300 images; pool has 200"):
        images_of(made.method(NAMES[2]), drawn_subset(pool, 200), None)


# what a page says


def planted(
    gains: Mapping[str, float], seeds: int = 3, noise: float = 0.2, clusters: Mapping[int, float] | None = None
) -> list[Record]:
    """Networks on 1,250 to 10,000 images, and in clusters: so many points a doubling on both measures."""
    rng, found = np.random.default_rng(0), list[Record]()
    for seed, (method, gain) in itertools.product(range(seeds), gains.items()):
        for step, images in enumerate((1250, 2500, 5000, 10_000)):
            name = method if images == 10_000 else Count(method, "images", images).name
            found += network(name, seed, 50 + gain * step + noise * rng.normal(), images)
    for seed, (k, value) in itertools.product(range(seeds), (clusters or {}).items()):
        name = Count("deepercluster", "clusters", k).name
        found += network(name, seed, value + noise * rng.normal(), 10_000, k)
    return found


def network(name: str, seed: int, value: float, images: int, k: int = 32, learned: bool = True) -> list[Record]:
    config = {"cluster": {"n_super": 1, "n_sub": k}}
    card = make_card(name, seed, "pretrain", notes={"images": images}, config=config)
    voc = make_card(name, seed, "voc")
    turns = {"turn_accuracy": 80.0 if learned else 25.5, "turn_chance": 25.0}
    return [
        *(
            Record(name=r.name, value=r.value, unit=r.unit, n=r.n, keys=r.keys, card=card)
            for r in make_training(name, seed)
        ),
        *(Record(name=n, value=v, unit="%", n=12_000, keys={"epoch": 3}, card=card) for n, v in turns.items()),
        Record(name="voc_map", value=value - 20, unit="%", n=300, keys={"setting": "fc68", "split": "val"}, card=voc),
        Record(name="voc_map", value=1.0, unit="%", n=300, keys={"setting": "fc68", "split": "test"}, card=voc),
        *make_curve(name, seed, [0.0] * 10 + [value + 3, value, value - 3]),
    ]


def said(records: list[Record]) -> list[str]:
    return [line[2:] for line in counts.counts_came_out(records, []).text.splitlines() if line.startswith("- ")]


def test_what_rises_falls_or_does_neither_is_said_so_with_its_slope() -> None:
    """Planted slopes of 2 and -1.5 points, noise of 0.2: what is said lies within three standard errors of 0.05."""
    lines = said(planted({"deepercluster": 2.0, "rotnet": -1.5}, clusters={8: 56.0, 128: 56.0, 512: 56.0}))
    assert len(lines) == 10
    for where in ("Classification", "Linear probes on objects"):
        rising, falling, flat = (
            next(line for line in lines if line.startswith(f"{where}, {what}"))
            for what in ("DeeperCluster by images", "RotNet by images", "DeeperCluster by clusters")
        )
        assert ": rising, +" in rising
        assert abs(float(rising.split("+")[1].split()[0]) - 2.0) < 0.15
        assert ": falling, −" in falling
        assert abs(float(falling.split("−")[1].split()[0]) - 1.5) < 0.15
        assert ": flat within luck, " in flat
        assert f"{where}: DeeperCluster by images gains more than RotNet by images" in " ".join(lines)
        assert f"{where}: DeeperCluster by images gains more than DeeperCluster by clusters" in " ".join(lines)
    assert "30.0 % at 1,250" in lines[0] or "30.1 %" in lines[0] or "29.9 %" in lines[0]


def test_a_middle_above_the_ends_is_told_from_a_straight_line() -> None:
    hump = {8: 50.0, 128: 58.0, 512: 50.0}  # 32 clusters, the method itself, have 56
    line = next(line for line in said(planted({"deepercluster": 2.0}, clusters=hump)) if "by clusters" in line)
    assert "it bends: the middle is +" in line
    assert "bends" not in said(planted({"deepercluster": 2.0}))[0]


def test_a_mean_above_zero_is_not_enough_to_rise() -> None:
    """Slopes of 2.0, 0.1 and 1.5 points are above zero, and their mean is known to 1.7 only; so is one of -0.1."""
    for low, word in ((0.1, "flat within luck"), (-0.1, "flat within luck"), (1.7, "rising")):
        points = {2**n: Values({0: 40 + 2.0 * n, 1: 40 + low * n, 2: 40 + 1.5 * n}) for n in range(3, 7)}
        assert counts.trend_words(counts.Course("rotnet", "images", points)).startswith(f"{word}, +")


def test_one_seed_judges_nothing() -> None:
    (line, _) = (text for text in said(planted({"rotnet": 3.0}, seeds=1)))
    assert "which one seed cannot tell from luck" in line
    assert "rising" not in line
    assert "more than RotNet by images, which one seed cannot tell" in " ".join(
        said(planted({"rotnet": 3.0, "deepercluster": 1.0}, seeds=1))
    )


@pytest.mark.parametrize("n_counts", [2, 4, 7])
def test_lines_of_noise_are_called_rising_falling_or_bent_in_one_of_twenty_cases_at_most(n_counts: int) -> None:
    """20,000 draws of three seeds, each with a level of its own: the standard error of 5 % is 0.15 %."""
    rng = np.random.default_rng(0)
    levels = rng.normal(scale=5, size=(3, 1, 20_000))
    noise = levels + rng.normal(scale=2, size=(3, n_counts, 20_000))
    points = {2 ** (3 + i): Values({seed: noise[seed, i] for seed in range(3)}) for i in range(n_counts)}
    course = counts.Course("deepercluster", "clusters", points)
    for check in filter(None, (course.slope, course.bend)):
        slopes = np.array(check.values)
        for side in (slopes, -slopes):
            assert 0.02 < are_clear(side).mean() < 0.0545
    assert (course.bend is None) == (n_counts == 2)
    # and the level of a seed does not count
    flat = {k: Values({s: v - levels[s, 0] for s, v in values.items()}) for k, values in points.items()}
    without = counts.Course("deepercluster", "clusters", flat).slope
    assert np.allclose(without.values, course.slope.values, atol=1e-9)


def test_slope_and_bend_are_those_of_a_known_curve() -> None:
    """3 points a doubling, and a parabola that is one point above its chord in the middle."""
    x = np.arange(5.0)
    points = {2 ** (i + 3): Values({0: 40 + 3 * x[i] + 1 - ((x[i] - 2) / 2) ** 2}) for i in range(5)}
    course = counts.Course("rotnet", "images", points)
    assert course.slope.values == pytest.approx([3.0])
    assert course.bend is not None
    assert course.bend.values == pytest.approx([1.0])


def test_a_network_that_has_not_learned_its_task_is_left_out_and_named() -> None:
    """With its 40 points at 1,250 images RotNet would rise by 3.6 points a doubling; without, by the planted one."""
    idle = "rotnet_on_1250_images"
    records = [r for r in planted({"deepercluster": 2.0, "rotnet": 1.0}) if r.card.method != idle]
    for seed in range(3):
        records += network(idle, seed, 40.0, 1250, learned=False)
    deeper, rotnet, *others = said(records)
    assert ": rising, +2." in deeper or ": rising, +1.9" in deeper
    assert "without" not in deeper
    assert ": rising, +1." in rotnet or ": rising, +0.9" in rotnet
    assert "; without 1,250 images, on which it has not learned its task." in rotnet
    assert not [line for line in others if "gains" in line]  # two methods are compared on the same images alone
    table = counts.counts_table(records, [])
    rows = {row.label: row.cells[-1].text for row in table.groups[1].rows}
    assert rows["2,500 images"] == "yes"
    assert rows["1,250 images"].startswith("has not learned to tell turns (26 %, 26 %, 26 % ")
    hollow = [
        line for line in counts.plot_counts(records, "images", "voc").lines if line.get_markerfacecolor() == "white"
    ]
    assert [line.get_xdata().tolist() for line in hollow] == [[1250]]
    only = [r for r in records if r.card.method in (idle, "rotnet")]
    assert said(only)[0].endswith(
        "RotNet by images: not judged, without 1,250 images, on which it has not learned its task."
    )


def test_the_table_has_both_measures_the_method_itself_among_its_counts_and_the_passes() -> None:
    table = counts.counts_table(counts.records_of(planted({"deepercluster": 1.0}, noise=0.0, clusters={64: 70.0})), [])
    images, clusters = ({row.label: [c.text for c in row.cells] for row in group.rows} for group in table.groups)
    assert images["1,250 images"] == ["30.0", "50.0", "yes"]
    assert images["10,000 images"] == ["33.0", "53.0", "yes"]
    assert clusters == {"32 clusters": ["33.0", "53.0", "yes"], "64 clusters": ["50.0", "70.0", "yes"]}
    assert "Each was shown 48,000 images in training." in table.notes[0]  # three epochs of 16,000
    uneven = [*planted({"rotnet": 1.0}), *network("rotnet_on_625_images", 0, 50.0, 625)[:-20]]
    uneven = [r for r in uneven if (r.card.method, r.keys.get("epoch")) != ("rotnet_on_625_images", 1)]
    assert "from 32,000 to 48,000 images in training, not as many each" in counts.passes_words(uneven)


def test_figures_have_a_panel_for_each_count_with_every_seed() -> None:
    records = planted({"deepercluster": 1.0, "rotnet": 0.5}, clusters={8: 50.0, 128: 50.0})
    ax = counts.plot_counts(records, "images", "voc")
    assert [len(dots.get_offsets()) for dots in ax.collections] == [12, 12]  # four counts, three seeds
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1,250", "2,500", "5,000", "10,000"]
    assert counts.plot_counts(records, "clusters", "probes").get_xscale() == "log"
    shown = counts.counts_figure(records, [], "probes")
    assert shown.html.count("<img") == 2
    assert "D52" in shown.html
    assert "DeeperCluster 1,250" in shown.text


def test_published_seeds_speak_where_the_run_has_none_or_fewer() -> None:
    published = planted({"rotnet": 3.0})
    alone = counts.counts_table([], published)
    assert alone.source == ()
    assert len(alone.beside) > 0
    assert "published: seeds 0, 1, 2" in counts.counts_figure([], published, "voc").text
    assert "3 published seeds" in counts.counts_came_out([], published).text
    run = planted({"rotnet": 3.0}, seeds=1)
    beside = counts.counts_table(run, published)
    assert [row.label for row in beside.groups[0].rows][:2] == ["1,250 images", "1,250 images, 3 published seeds"]
    assert counts.counts_figure(run, published, "voc").html.count("<img") == 2
    for shown in (counts.counts_table([], []), counts.counts_came_out([], []), counts.counts_figure([], [], "voc")):
        assert "Nothing was measured here" in repr(shown)


# where the page is


def test_only_presets_that_ask_have_the_page_and_it_takes_what_others_measure() -> None:
    by_page = {stage.page: stage for stage in plan_stages("smoke", settings=ASKING)[1]}
    assert by_page["data_and_clusters"].notebook.stem == "18_data_and_clusters"
    assert {"pretraining_rotnet", "linear_probes", "voc"} <= set(by_page["data_and_clusters"].needs)
    assert not [page for page in by_page if "_on_" in page or "_in_" in page]
    assert "data_and_clusters" not in {stage.page for stage in plan_stages("smoke")[1]}
    pages = toc_pages(asked_toc(ROOT / "book" / "_toc.yml", [*by_page.values()]))
    assert "stages/data_and_clusters" in pages


def test_the_page_costs_what_its_networks_cost() -> None:
    """Six networks more, each trained, probed and put to VOC; twelve at twice the seeds."""
    pages = ["data_and_clusters", "pretraining_rotnet"]
    one = page_costs(asking(), pages, CPU, {})["data_and_clusters"].work
    two = page_costs(asking(seeds=[0, 1]), pages, CPU, {})["data_and_clusters"].work
    assert page_costs(load_preset("smoke"), pages, CPU, {})["data_and_clusters"].work == 0  # it shows what is published
    none = WORK_START / CPU.interpreter_rate  # what any page that measures costs before it begins
    assert none < one < two
    assert two - none == pytest.approx(2 * (one - none))
    rotnet = page_costs(asking(**{"counts.clusters": [], "counts.methods": ["rotnet"]}), pages, CPU, {})
    alone = page_costs(load_preset("smoke"), pages, CPU, {})["pretraining_rotnet"].work - none
    assert rotnet["data_and_clusters"].work - none > 2.001 * alone  # two networks, and their VOC on top


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose published records hold networks of other counts."""
    monkeypatch.setattr("dclib.report.counts.project_root", lambda: tmp_path)
    monkeypatch.setattr("dclib.report.published.project_root", lambda: tmp_path)
    write(tmp_path / "results" / "smoke", planted({"rotnet": 1.0}))
    return tmp_path


def write(folder: Path, records: list[Record]) -> None:
    of = {id(r.card): r.card for r in records if r.card}
    for card in of.values():
        own = [r for r in records if r.card is card]
        write_records(folder / "records" / card.stage / f"{card.method}-s{card.seed}.json", card, own)


def test_a_book_has_the_page_where_such_networks_are_published(project: Path) -> None:
    assert "data_and_clusters" in {stage.page for stage in plan_stages("smoke")[1]}
    assert compared(load_preset("smoke")) == ()  # and nothing is trained for it
    found = counts.load_published(load_preset("smoke"), [])
    assert {r.card.method for r in found} >= {"rotnet", "rotnet_on_1250_images"}


def test_other_pages_do_not_show_these_networks(project: Path) -> None:
    own = [r for r in planted({"rotnet": 1.0}, seeds=1) if r.card.method == "rotnet"]
    for everything in (True, False):
        beside = load_published(load_preset("smoke"), own, all_methods=everything)
        assert {r.card.method for r in beside} == {"rotnet"}
    assert [line for line in results_table(planted({"rotnet": 1.0})).splitlines() if "RotNet, on" in line] == []
    assert "| RotNet |" in results_table(planted({"rotnet": 1.0}))


def test_a_run_is_published_with_these_networks_whether_its_preset_asks_for_them_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    (tmp_path / "README.md").write_text("<!-- results: tiny -->\n<!-- end -->\n")
    write(tmp_path / "runs" / "tiny", planted({"rotnet": 1.0}, seeds=1))
    preset = parse_preset("tiny", {"methods": {"rotnet": None}, "train": {"epoch_images": 12_000}})
    folder = publish(preset)
    assert variants_in(folder / "records") == [f"rotnet_on_{n}_images" for n in (1250, 2500, 5000)]
    assert (tmp_path / "README.md").read_text().count("RotNet") == 1


def test_seeds_of_these_networks_are_made_alike() -> None:
    assert find_mismatches(planted({"rotnet": 1.0, "deepercluster": 1.0}, clusters={8: 50.0})) == []


# the whole way


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCLIB_RUNS", str(folder))
        yield folder


@pytest.mark.slow
def test_the_page_trains_and_measures_each_network_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        **{"data.pocket_images": 120, "counts.images": [60, 120], "counts.clusters": [4], "train.epochs": 1},
        **{"counts.methods": ["deepercluster"], "train.epoch_images": 64, "voc.iterations": 2, "voc.test_crops": 1},
        **{"probe.epochs": 1, "probe.train_images": 32, "probe.test_images": 16},
    }
    shown = run_notebook("18_data_and_clusters", preset="smoke", settings=settings)
    preset = load_preset("smoke", settings)
    records = read_records(runs / "smoke" / "records")
    trained = {r.card.method: r.card for r in records if r.card and r.card.stage == "pretrain"}
    assert {name: card.notes["images"] for name, card in trained.items()} == {
        "deepercluster": 120,
        "deepercluster_on_60_images": 60,
        "deepercluster_in_4_clusters": 120,
    }
    shown_images = {m: sum(r.n for r in select(records, "loss", method=m)) for m in trained}
    assert set(shown_images.values()) == {64}
    agreements = {m: r.n for m in trained for r in select(records, "final_nmi_labels", method=m)}
    assert agreements == dict.fromkeys(trained, 120)  # judged on the whole pool, whatever was trained on
    (value,) = (
        r.value for r in select(records, "voc_map", method="deepercluster_on_60_images", setting="fc68", split="val")
    )
    row = next(line for line in shown.splitlines() if line.startswith("| 60 images |"))
    assert row.split("|")[2].strip() == f"{value:.1f}"
    assert "| 4 clusters |" in shown
    assert "Each was shown 64 images" in shown
    assert {r.card.method for r in load_records(preset) if r.card} == {"deepercluster"}
    monkeypatch.setattr(networks, "pretrain_method", lambda *_, **__: pytest.fail("trained again"))
    again = run_notebook("18_data_and_clusters", preset="smoke", settings=settings)
    assert again.partition("[Figure]")[2] == shown.partition("[Figure]")[2] != ""
