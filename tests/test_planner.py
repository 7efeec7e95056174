"""The planner: its counts against the real network and the real clustering, its memories, refusals and remedies."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_images import write_pictures
from torch.utils.flop_counter import FlopCounterMode

from dclib.__main__ import MISUSED, main
from dclib.cluster import kmeans as kmeans_module
from dclib.cluster import stored_rows, whitening
from dclib.cluster.pseudo_labels import Clustering, cluster_features
from dclib.cluster.stored_rows import StoredRows
from dclib.config import ClusterConfig, MethodConfig, ModelConfig, TrainConfig
from dclib.data.samplers import images_shown
from dclib.evaluate import linear_probe
from dclib.machine import cpu_model
from dclib.models.device import products_in
from dclib.models.heads import Heads, joint_loss
from dclib.models.vgg import LAYERS, Trunk
from dclib.planner import network, phases, plan, workload
from dclib.planner.hardware import CPU, GPUS, Hardware, hardware_named
from dclib.planner.network import heads_size, network_size
from dclib.planner.plan import Plan, make_plan
from dclib.planner.workload import Workload
from dclib.pocket.pictures import CLASSES
from dclib.pocket.world import world_sizes
from dclib.presets import load_preset, preset_folder
from dclib.records import Record, RunCard, read_records, write_records
from dclib.report import planner as report_planner
from dclib.train import features, placement, pretrain

pytestmark = pytest.mark.usefixtures("one_thread")

PAPER, PAPER_IMAGES = "deepercluster_yfcc100m", 95_920_149
MODELS = [
    ModelConfig(image_size=32, width=0.125, hidden_dim=24, feature_dim=16),
    ModelConfig(image_size=64, width=0.25, stem="rgb", hidden_dim=16, feature_dim=24, dropout=0.0),
    ModelConfig(image_size=37, width=0.1, stem="folded", hidden_dim=8, feature_dim=8),
    ModelConfig(image_size=48, width=0.1, grid=224, hidden_dim=8, feature_dim=8),
]


def trunk_of(model: ModelConfig) -> Trunk:
    return Trunk(model, torch.Generator().manual_seed(0))


def pictures(model: ModelConfig, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(1))


def benchmark_card(config: dict[str, Any]) -> RunCard:
    return RunCard(
        stage="benchmark",
        preset="benchmarks",
        method="data",
        seed=0,
        config_hash="",
        data_hash="",
        code_hash="",
        device="",
        seconds=1.0,
        config=config,
    )


def paper_plan(gpu: str = "h100", processes: int = 64, n_images: int = PAPER_IMAGES, **settings: Any) -> Plan:
    preset = load_preset(PAPER, settings)
    return make_plan(preset, "deepercluster", hardware_named(gpu), processes=processes, n_images=n_images)


def workload_of(config: MethodConfig, n_images: int, processes: int = 1) -> Workload:
    preset = load_preset("smoke")
    return Workload(
        config=config,
        data=preset.data,
        probe=preset.probe,
        n_images=n_images,
        hardware=CPU,
        processes=processes,
        labelled_images=100,
        test_images=100,
        n_classes=4,
    )


def with_parts(config: MethodConfig, parts: int) -> MethodConfig:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, accumulate=parts))


# counts of the network


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.stem}-{m.image_size}-{m.grid}")
def test_flops_are_those_that_pytorch_counts(model):
    trunk, images = trunk_of(model), pictures(model)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        trunk(images)
    assert forward.get_total_flops() == len(images) * network_size(model).forward_flops
    with FlopCounterMode(display=False) as training:
        trunk(images).sum().backward()
    assert training.get_total_flops() == len(images) * network_size(model).training_flops


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.stem}-{m.image_size}-{m.grid}")
def test_parameters_and_maps_are_those_of_the_real_trunk(model):
    trunk, size = trunk_of(model), network_size(model)
    assert size.parameters == sum(p.numel() for p in trunk.parameters())
    maps = [one.nbytes for one in trunk.conv_activations(pictures(model, 1))]
    assert (size.maps_bytes, size.largest_map_bytes) == (sum(maps), max(maps))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.stem}-{m.image_size}-{m.grid}")
def test_a_training_step_keeps_what_is_planned(model, precision):
    """The storages that autograd saves, each once, without parameters and with little of a batch's own besides."""
    trunk, images = trunk_of(model), pictures(model, 8)
    own = {p.untyped_storage().data_ptr() for p in trunk.parameters()}
    kept: dict[int, int] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), products_in(precision, images.device):
        out = trunk(images)
    planned = network_size(model, precision).kept_bytes
    # 3 %: means and variances of batch normalisation; the features themselves are kept by the heads' ReLU
    copies = sum(p.nbytes // 2 for p in trunk.parameters() if p.dim() > 1) if precision == "bfloat16" else 0
    assert (sum(kept.values()) - copies) / len(images) == pytest.approx(planned, rel=0.03)
    assert out.shape[1] == model.feature_dim


@pytest.mark.parametrize(
    "config",
    [
        MethodConfig(method="rotnet", model=MODELS[0]),
        MethodConfig(method="deepercluster", model=MODELS[0], cluster=ClusterConfig(n_super=2, n_sub=5)),
        MethodConfig(method="deepcluster", model=MODELS[0], cluster=ClusterConfig(n_sub=5)),
        MethodConfig(method="supervised", model=MODELS[0]),
    ],
    ids=lambda c: c.method,
)
def test_heads_are_counted_as_they_are(config):
    size = heads_size(config, n_classes=7)
    heads = Heads(16, size.n_super_classes, size.n_sub_classes, torch.Generator().manual_seed(0))
    assert size.super_parameters == sum(p.numel() for p in heads.super_parameters())
    assert size.n_super_classes * size.sub_parameters == sum(p.numel() for p in heads.sub_parameters())
    classes = torch.arange(8) % size.n_super_classes
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        joint_loss(heads, torch.rand(8, 16), classes, torch.zeros(8, dtype=torch.int64))
    assert counter.get_total_flops() == 8 * size.flops


def test_classifiers_see_what_is_pooled_for_them():
    for model in (*MODELS[:3], ModelConfig(width=1 / 64, hidden_dim=4, feature_dim=4)):
        pooled = linear_probe.pool_activations(trunk_of(model).conv_activations(pictures(model, 1)))
        assert workload.pooled_sizes(workload_of(MethodConfig(model=model), 100)) == [x.shape[1] for x in pooled]


def test_bfloat16_and_parts_of_a_batch_need_less():
    config = MethodConfig(model=ModelConfig(), train=TrainConfig(batch_size=512))
    low = dataclasses.replace(config, train=dataclasses.replace(config.train, precision="bfloat16"))
    work = dataclasses.replace(workload_of(config, 10_000), hardware=hardware_named("h100"))
    exact, half, quarter = (
        phases.training_phase(dataclasses.replace(work, config=c)) for c in (config, low, with_parts(config, 4))
    )
    weights = 12 * work.own_weights
    # maps of half the size, but for the places that pools keep, and copies of the weights on top
    assert 0.5 < (half.device_bytes - weights) / (exact.device_bytes - weights) < 0.6
    assert (quarter.device_bytes - weights) / (exact.device_bytes - weights) == pytest.approx(1 / 4)
    assert half.parts["convolutions"] == pytest.approx(exact.parts["convolutions"] / 2)  # tensor cores
    assert quarter.parts["overhead"] == pytest.approx(4 * exact.parts["overhead"])
    auto = dataclasses.replace(config, train=dataclasses.replace(config.train, precision="auto"))
    for gain, as_one in ((1.0, config), (2.0, low)):
        machine = dataclasses.replace(work.hardware, bfloat16_gain=gain)
        one, other = (
            phases.training_phase(dataclasses.replace(work, config=c, hardware=machine)) for c in (auto, as_one)
        )
        assert one == other
    on = {c.train.precision: phases.evaluation_phase(dataclasses.replace(work, config=c)) for c in (config, low)}
    assert on["float32"] == on["bfloat16"]  # what is measured is measured in float32


# what is copied from the code that it plans


def test_constants_are_those_of_the_code():
    assert network.LAYERS == LAYERS
    assert phases.FEATURE_BATCH == features.FEATURE_BATCH == linear_probe.FEATURE_BATCH
    assert phases.BLOCK_ROWS == whitening.BLOCK_ROWS
    assert phases.BLOCK_ELEMENTS == kmeans_module.BLOCK_ELEMENTS
    assert phases.CUDA_BLOCK_ELEMENTS == kmeans_module.CUDA_BLOCK_ELEMENTS
    assert phases.LARGEST_FILE == stored_rows.LARGEST_FILE
    assert {name: dtype.itemsize for name, dtype in stored_rows.DTYPES.items()} == workload.BYTES
    assert {name: getattr(torch, name).itemsize for name in network.MAP_BYTES} == network.MAP_BYTES
    assert inspect.signature(pretrain.pretrain).parameters["save_every"].default == phases.SAVE_EVERY
    sizes = world_sizes(10_000)
    assert sizes.objects_train / sizes.pool == plan.POCKET_OBJECTS
    assert sizes.objects_val / sizes.pool == plan.POCKET_TEST
    assert len(CLASSES) == plan.POCKET_CLASSES


@pytest.mark.parametrize(("every", "until", "epochs"), [(1, 1.0, 6), (3, 1.0, 100), (2, 0.75, 7), (1, 0.5, 1)])
def test_clusterings_and_steps_are_as_many_as_a_run_has(every, until, epochs):
    config = MethodConfig(
        cluster=ClusterConfig(reassign_every=every, reassign_until=until),
        train=TrainConfig(epochs=epochs, batch_size=32, epoch_images=1000),
    )
    due = [e for e in range(epochs) if e % every == 0 and e / epochs < until]
    work = workload_of(config, 500)
    assert work.clusterings == len(due)
    assert work.steps * 32 == images_shown(1000, 32)


@pytest.mark.parametrize("processes", [2, 4, 8, 16, 32])
def test_heads_and_images_are_placed_as_by_the_code(processes, monkeypatch):
    config = MethodConfig(
        cluster=ClusterConfig(n_super=2, n_sub=5),
        train=TrainConfig(batch_size=96, head_placement="sharded"),
    )
    work = workload_of(config, 1000, processes)
    monkeypatch.setattr(placement, "world_size", lambda: processes)
    held = [placement.held_by(process, 8) for process in range(processes)]
    assert work.held_heads == max(map(len, held))
    images = [96 // 8 * len(own) / held.count(own) for own in held]
    assert work.local_batch == -(-max(images) // 1)
    assert dataclasses.replace(work, config=with_parts(config, 2)).part == -(-work.local_batch // 2)


def test_stored_matrices_are_as_large_and_read_as_often_as_planned(tmp_path, monkeypatch):
    """Rows read by the real two-level clustering of one process, against the planned passes."""
    n, d, cluster = 600, 12, ClusterConfig(n_super=2, n_sub=3, pca_dim=8, n_iter=4, precision="float16")
    points = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    rows = StoredRows.at(tmp_path / "features", n, d, "float16")
    for file in range(rows.n_files):
        rows.write(file, points[rows.file_rows(file).start : rows.file_rows(file).stop])
    read, real = {d: 0, 8: 0}, StoredRows._read

    def count(self: StoredRows, numbers: torch.Tensor | range) -> torch.Tensor:
        read[self.d] += 2 * self.d * len(numbers)
        return real(self, numbers)

    monkeypatch.setattr(StoredRows, "_read", count)
    found: Clustering = cluster_features(rows, cluster, torch.Generator().manual_seed(0), work=tmp_path / "points")
    assert found.pca_dim == 8
    model = dataclasses.replace(MODELS[0], feature_dim=d)
    work = workload_of(MethodConfig(cluster=cluster, model=model), n)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "features").iterdir())
    assert workload.stored_bytes(work, d) == on_disk - 4 * rows.n_files  # a checksum each
    assert phases.whitening_phase(work).read_bytes == read[d]
    planned = phases.first_level_phase(work).read_bytes + phases.second_level_phase(work).read_bytes
    assert read[8] - planned == 2 * 8 * (2 + 2 * 3)  # the initial centroids of both levels


def test_a_ring_sends_what_is_planned():
    """Each of w processes hands on w - 1 parts to add up and w - 1 that are done."""
    for processes in (1, 2, 5, 8):
        sent = sum(1000 / processes for _ in range(2 * (processes - 1)))
        assert workload.reduced_bytes(1000, processes) == pytest.approx(sent)


# plans


@pytest.mark.parametrize("path", sorted(preset_folder().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_preset_can_be_planned(path):
    preset = load_preset(path)
    for method in preset.methods:
        for hardware in (CPU, GPUS["h100"]):
            found = make_plan(preset, method, hardware, processes=4, n_images=2_000_000 if preset.data.root else 0)
            assert found.phases
            assert all(0 < phase.seconds < float("inf") for phase in found.phases)
            assert all(phase.bottleneck in {**phase.parts, **phase.beside} for phase in found.phases)


def test_more_processes_take_less_time_and_memory():
    plans = [paper_plan(processes=processes) for processes in (16, 32, 64, 128)]
    for fewer, more in zip(plans, plans[1:], strict=False):
        assert fewer.seconds > more.seconds
        for one, other in zip(fewer.phases, more.phases, strict=True):
            assert one.seconds >= other.seconds
            assert one.device_bytes >= other.device_bytes


def test_more_images_take_more_of_everything():
    plans = [paper_plan(n_images=n) for n in (1_000_000, 10_000_000, 100_000_000)]
    for fewer, more in zip(plans, plans[1:], strict=False):
        for one, other in zip(fewer.phases, more.phases, strict=True):
            assert one.seconds < other.seconds or one.name == "evaluation"
            assert one.ram_bytes < other.ram_bytes or one.name == "evaluation"
            assert one.disk_bytes < other.disk_bytes
            assert one.read_bytes <= other.read_bytes


def test_the_papers_disk_is_the_arithmetic_of_its_features():
    by_name = {phase.name: phase for phase in paper_plan().phases}
    both = 2 * PAPER_IMAGES * 4096 * 2  # features and points of 4096 float16
    heads = 16 * 80_000 * 4097 * 2 * 4  # with momentum
    trunk = 2 * 4 * network_size(ModelConfig()).parameters
    labels = 2 * 8 * PAPER_IMAGES
    assert by_name["k-means, level 2"].disk_bytes == pytest.approx(both + heads + trunk + labels, rel=1e-6)


def test_decoding_beside_the_training_is_waited_for_only_while_it_is_slower():
    few, many = (
        next(phase for phase in paper_plan(**{"data.workers": workers}).phases if phase.name == "training")
        for workers in (1, 1000)
    )
    assert few.bottleneck == "decoding"
    assert few.seconds == few.beside["decoding"]
    assert many.seconds == sum(many.parts.values())


# what does not fit


def applied(remedy: str, preset: str, processes: int, gpu: str, **given: Any) -> Plan:
    """The plan with a remedy's words carried out."""
    settings, hardware = dict(given.pop("settings", {})), hardware_named(gpu)
    for words in remedy.split(" and "):
        if found := re.fullmatch(r"([\w.]+)=(\w+)", words):
            settings[found[1]] = int(found[2]) if found[2].isdigit() else found[2]
        elif found := re.fullmatch(r"(\d+) ([\w-]+)", words):
            processes = int(found[1])
            hardware = hardware if found[2] in ("GPUs", "processes") else hardware_named(found[2])
        else:
            raise AssertionError(words)
    return make_plan(load_preset(preset, settings), "deepercluster", hardware, processes=processes, **given)


@pytest.mark.parametrize(
    ("gpu", "processes", "settings", "given", "reason", "remedy"),
    [
        ("h100", 16, {"train.head_placement": "replicated"}, {}, "GPU memory", "train.head_placement=sharded"),
        ("h100", 64, {"cluster.precision": "float32"}, {"disk_bytes": 2e12}, "of disk", "cluster.precision=float16"),
        ("h100", 2, {}, {}, "GPU memory", "GPUs"),
        ("h100", 16, {"train.batch_size": 4096 * 8}, {}, "GPU memory", "GPUs"),
        ("a100-40gb", 1024, {"train.batch_size": 4096 * 128}, {}, "GPU memory", "train.accumulate="),
        ("v100-16gb", 64, {"probe.batch_size": 1024}, {}, "evaluation needs", "64 v100-32gb"),
        ("h100", 64, {"cluster.n_sub": 30_000_000}, {}, "clusters need as many images", "cluster.n_sub="),
        ("h100", 64, {"train.batch_size": 48}, {}, "cannot be shared by 64", "train.batch_size=64"),
    ],
)
def test_what_cannot_fit_is_refused_with_a_remedy_that_fits(gpu, processes, settings, given, reason, remedy):
    preset = load_preset(PAPER, settings)
    found = make_plan(preset, "deepercluster", hardware_named(gpu), processes=processes, n_images=PAPER_IMAGES, **given)
    assert reason in found.refusal
    assert remedy in found.remedy
    again = applied(found.remedy, PAPER, processes, gpu, settings=settings, n_images=PAPER_IMAGES, **given)
    assert again.problems == ()
    assert paper_plan().refusal == ""


def test_a_folder_has_to_be_counted_first():
    with pytest.raises(ValueError, match="--images N"):
        make_plan(load_preset(PAPER), "deepercluster", GPUS["h100"])


# hardware


def test_measured_values_win_over_peaks(tmp_path: Path):
    with pytest.raises(ValueError, match="unknown hardware 'h1000'"):
        hardware_named("h1000", tmp_path)
    assert hardware_named("cpu", tmp_path) == CPU
    card = dataclasses.replace(benchmark_card({"hardware": "cpu"}), device="Some CPU (2 threads)")
    records = [Record(name=name, value=7.0, unit="1", n=1) for name in ("conv_flops", "something_else")]
    write_records(tmp_path / "phases-cpu.json", card, records)
    measured: Hardware = hardware_named("cpu", tmp_path)
    assert measured == dataclasses.replace(CPU, name="Some CPU (2 threads)", conv_flops=7.0, measured=("conv_flops",))
    assert hardware_named("h100", tmp_path) == GPUS["h100"]


# the command and the page


def test_the_command_prints_a_table_or_one_sentence(capsys):
    asked = ["plan", "--preset", PAPER, "--images", str(PAPER_IMAGES), "--gpu", "h100", "--set", "data.workers=0"]
    assert main([*asked, "--gpus", "64"]) == 0
    printed = capsys.readouterr().out
    assert all(phase.name in printed for phase in paper_plan().phases)
    assert "Bottleneck: decoding, in training" in printed  # in the process that trains, for want of workers
    assert main([*asked, "--gpus", "2"]) == MISUSED
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "it fits with 8 GPUs" in said.err


def test_the_page_says_what_does_not_fit_and_what_its_numbers_rest_on(monkeypatch):
    table = report_planner.paper_table()._repr_html_()
    assert "This run does not fit" not in table
    assert "v100-32gb: measured: none. Published peaks times an assumed efficiency" in table
    figure = report_planner.paper_figure().text
    assert all(f"{count} x {gpu}: features" in figure for gpu, count in report_planner.MACHINES)
    assert "DeeperCluster" in report_planner.preset_table(load_preset("smoke"))._repr_html_()
    assert "needs their number" in report_planner.preset_table(load_preset(PAPER))._repr_html_()
    monkeypatch.setattr(report_planner, "MACHINES", (("v100-16gb", 1),))
    assert "This run does not fit: training needs" in report_planner.paper_table()._repr_html_()


def test_accuracy_counts_the_plans_that_are_near(tmp_path):
    records = [
        Record(name=name, value=value, unit=unit, n=1, keys={"run": run, "phase": phase, "source": source})
        for run, seconds, memory in (("near", 12.9, 1.14e9), ("slower", 13.1, 0.84e9))
        for name, phase, unit, plan, real in (
            ("plan_seconds", "all phases", "s", seconds, 10.0),
            ("plan_seconds", "training", "s", 1.0, 100.0),
            ("plan_memory", "peak", "B", memory, 1e9),
        )
        for source, value in (("planned", plan), ("measured", real))
    ]
    write_records(tmp_path / "plan_accuracy.json", benchmark_card({}), records)
    text = report_planner.accuracy_table(read_records(tmp_path))._repr_html_()
    for said in ("12.9 s", "+29%", "1.14 GB", "+14%", "+31%", "−16%", "Of 2 plans 1 are within 30% of the time and 1 "):
        assert said in text
    assert "plan_accuracy.py" in report_planner.accuracy_table([])._repr_html_()


def test_images_of_a_folder_are_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    asked = ["plan", "--preset", "folder", "--method", "rotnet", "--data", str(tmp_path / "photos")]
    assert main(asked) == MISUSED
    assert "--images N, or where they are, --data DIR" in capsys.readouterr().err
    write_pictures(tmp_path / "photos", 130)
    assert main(asked) == 0
    assert f"130 images on 1 x {cpu_model()}" in capsys.readouterr().out
