"""What is published: records as they were measured, and a README whose numbers are those records."""

import re
from pathlib import Path
from statistics import mean, stdev

import pytest
from failing_disk import each_failure
from synthetic_records import make_card, make_curve, make_probes, make_training

from dclib.presets import parse_preset
from dclib.press.publish import SHOWN_LAYERS, picture_files, publish, renew_block, results_table
from dclib.records import read_records, select, write_records

ROOT = Path(__file__).resolve().parent.parent
CURVE = [10.0 + layer for layer in range(13)]


def rows_of(table: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in cells}


def test_the_table_holds_mean_and_deviation_over_seeds():
    records = [
        r for seed, shift in enumerate((0.0, 1.0, 5.0)) for r in make_curve("rotnet", seed, [v + shift for v in CURVE])
    ]
    row = rows_of(results_table(records))["RotNet"]
    for cell, layer in zip(row, SHOWN_LAYERS, strict=False):
        values = [CURVE[layer - 1] + shift for shift in (0.0, 1.0, 5.0)]
        assert cell == f"{mean(values):.1f} ± {stdev(values):.1f}"


def test_the_table_shows_the_rise_of_agreement_only_where_there_are_clusters():
    probes = make_probes({"rotnet": CURVE, "deepercluster": CURVE}, seeds=(0,))
    rows = rows_of(results_table(probes + make_training("deepercluster", 0, nmi=(0.21, 0.4, 0.66))))
    assert rows["DeeperCluster"][len(SHOWN_LAYERS)] == "0.21 to 0.66"
    assert rows["RotNet"][len(SHOWN_LAYERS)] == ""


def test_only_what_is_between_the_markers_is_renewed():
    text = "before\n<!-- results: tiny -->\nold\n<!-- end -->\nafter <!-- results: other -->\nkept\n<!-- end -->\n"
    renewed = renew_block(text, "tiny", make_probes({"rotnet": CURVE}))
    assert renewed.startswith("before\n<!-- results: tiny -->\n| network |")
    assert renewed.endswith("<!-- end -->\nafter <!-- results: other -->\nkept\n<!-- end -->\n")
    assert "old" not in renewed
    assert renew_block(renewed, "tiny", make_probes({"rotnet": CURVE})) == renewed


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one measured method, and the preset that measured it."""
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    (tmp_path / "README.md").write_text("<!-- results: tiny -->\n<!-- end -->\n")
    return tmp_path


def preset():
    return parse_preset("tiny", {"seeds": [0, 1], "methods": {"rotnet": None}})


def measure(project: Path, seed: int, **changes: object) -> None:
    path = project / "runs" / "tiny" / "records" / "linear_probe" / f"rotnet-objects-s{seed}.json"
    write_records(path, make_card("rotnet", seed, **changes), make_curve("rotnet", seed, CURVE))


def test_records_are_published_as_they_were_measured(project):
    measure(project, 0)
    measure(project, 1)
    (project / "results" / "tiny" / "records").mkdir(parents=True)
    (project / "results" / "tiny" / "records" / "stale.json").write_text("of an earlier run")
    (project / "results" / "tiny" / "network").mkdir()
    (project / "runs" / "tiny" / "network").mkdir()
    for place, weights in (("results", "old"), ("runs", "new")):
        (project / place / "tiny" / "network" / "rotnet.bin").write_text(weights)
    folder = publish(preset())
    assert (folder / "network" / "rotnet.bin").read_text() == "new"
    assert read_records(folder / "records") == read_records(project / "runs" / "tiny" / "records")
    assert (folder / "accuracy.png").read_bytes()[:4] == b"\x89PNG"
    assert "14.0" in (project / "README.md").read_text()


def test_what_else_lies_beside_published_records_stays(project):
    kept = {
        "PROTOCOL.md": "written before",
        "ladder/records/pretrain/k8-s100.json": "{}",
        "ladder.yaml": "seeds: [100]",
    }
    for name, text in kept.items():
        (project / "results" / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / "results" / "tiny" / name).write_text(text)
    measure(project, 0)
    folder = publish(preset())
    assert {name: (folder / name).read_text() for name in kept} == kept
    assert {path.name for path in folder.iterdir()} == {
        "PROTOCOL.md",
        "ladder",
        "ladder.yaml",
        "records",
        "accuracy.png",
    }


@pytest.mark.parametrize(("root", "published"), [("", True), ("data/cifar10", False)])
def test_no_picture_of_a_photograph_is_published(project, root, published):
    """What is seen through a first layer is one; names of images are not."""
    pictures = project / "runs" / "tiny" / "pictures"
    pictures.mkdir(parents=True)
    for name in ("clusters-rotnet-s0.json", "first-layer-rotnet-s0.npz", "clusters-rotnet-s7.json"):
        (pictures / name).write_text("")
    own = parse_preset("tiny", {"seeds": [0, 1], "methods": {"rotnet": None}, "data": {"root": root}})
    names = ["clusters-rotnet-s0.json", *(["first-layer-rotnet-s0.npz"] if published else [])]
    assert [path.name for path in picture_files(own)] == names


def test_a_disk_that_fails_at_any_write_leaves_what_was_published(project, monkeypatch):
    measure(project, 0)
    folder = publish(preset())
    before = {path: path.read_bytes() for path in [*folder.rglob("*.*"), project / "README.md"]}
    measure(project, 1)
    failures = 0
    for error in each_failure(lambda: publish(preset()), project):
        failures += 1
        assert re.match(r"could not (write|make) [^;\n]*: No space left on device;[^\n]*$", str(error)), error
        assert str(error).count("could not") == 1
        assert (project / "README.md").read_bytes() == before[project / "README.md"]
        if not str(error).startswith(f"could not write {project / 'README.md'}"):  # its renaming is the very last step
            assert {path: path.read_bytes() for path in [*folder.rglob("*.*"), project / "README.md"]} == before
    assert failures > 7
    assert "over 2 seeds" in (project / "README.md").read_text()
    assert {record.card.seed for record in read_records(folder / "records")} == {0, 1}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_nothing_measured_is_nothing_to_publish(project):
    with pytest.raises(ValueError, match="nothing to publish: preset 'tiny' has no probe records; run it first"):
        publish(preset())
    assert not (project / "results").exists()


def test_records_of_two_versions_of_the_code_are_not_published_together(project):
    measure(project, 0)
    measure(project, 1, code_hash="another")
    with pytest.raises(ValueError, match="were not made alike: .*2 versions of the code"):
        publish(preset())
    assert not (project / "results").exists()


def test_the_readme_says_what_the_published_records_say():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"<!-- results: (\w+) -->", text)
    assert shown
    for name in shown:
        records = read_records(ROOT / "results" / name / "records")
        assert select(records, "top1"), f"README shows results of {name}, which has no published records"
        assert renew_block(text, name, records) == text
