"""The seam: a way of pre-training is an outline and a task, and nothing else needs to know of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from task_checks import CPU, made_pixels, task_class
from tiny_images import CLASSES, TINY_MODEL, method_config, picture_tensor, write_pictures

from dclib.data.pixels import Pixels
from dclib.methods import MODULES, OUTLINES
from dclib.paper.tables import task_of
from dclib.presets import parse_preset
from dclib.report.series import title_of
from dclib.train.chance import TASKS
from dclib.train.start import ROOMS, own_rooms
from dclib.train.tasks import Task, begin_task

ROOT = Path(__file__).resolve().parent.parent
TRAINED = [method for method, outline in OUTLINES.items() if outline.learns_from != "nothing"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return made_pixels(picture_tensor([CLASSES[i % 4] for i in range(60)]), torch.arange(60) % 4, 32)


# --- outline and task agree


@pytest.mark.parametrize("method", TRAINED)
def test_every_outline_has_a_task_that_agrees_with_it(method: str, pixels: Pixels) -> None:
    outline, config = OUTLINES[method], method_config(method, model=TINY_MODEL)
    assert issubclass(task_class(method), Task)
    task = begin_task(config, pixels, 0, CPU)
    assert isinstance(config.task, outline.settings)
    assert task.views == outline.views(config)
    asked = task.asked([1.0] * task.n_hits)
    assert asked.keys() <= outline.asks.keys()
    assert all(right == 1 and classes > 1 for right, classes in asked.values())
    assert task.chance_loss > 0
    assert {p for some in task.optimised().values() for p in some} == set(task.head.parameters())
    assert all(TASKS[name] == words for name, words in outline.asks.items())


def test_every_method_is_in_a_module_of_either_kind_and_says_what_a_page_needs() -> None:
    cited = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE))
    for method, outline in OUTLINES.items():
        for folder in ("methods", "train/tasks"):
            assert (ROOT / "dclib" / folder / f"{MODULES[method]}.py").is_file()
        assert outline.words.endswith(".")
        assert outline.title == title_of(method)
        assert not outline.cite or outline.cite in cited
        for room in outline.rooms:
            assert (ROOT / "dclib" / f"{room}.py").is_file()
    names = [words for outline in OUTLINES.values() for words in outline.asks]
    assert all(TASKS[name] for name in names)


def test_a_snapshot_holds_all_that_a_task_keeps_and_a_restored_task_has_it(pixels: Pixels) -> None:
    """Tensors of the task's own that change and are not in a snapshot would be lost by a resume."""
    for method in TRAINED:
        config = method_config(method, model=TINY_MODEL)
        one, other = (begin_task(config, pixels, seed, CPU) for seed in (0, 1))
        other.restore(one.snapshot())
        for name, value in vars(one).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, getattr(other, name)), (method, name)
        for name, value in one.head.state_dict().items():
            assert torch.equal(value, other.head.state_dict()[name]), (method, name)


# --- names


@pytest.mark.parametrize(
    ("name", "task", "title"),
    [
        ("deepcluster_v2_x", "deepcluster_v2", "DeepCluster-v2, x"),
        ("deepcluster_v2", "deepcluster_v2", "DeepCluster-v2"),
        ("deepcluster_v3", "deepcluster", "DeepCluster, v3"),
        ("deepcluster_rgb", "deepcluster", "DeepCluster, RGB"),
        ("context_rgb", "context", "Context prediction, RGB"),
        ("transitive_no_context", "transitive", "Transitive invariance, no context"),
        ("contextual", "contextual", "contextual"),
    ],
)
def test_variants_are_called_after_the_longest_name_that_fits(name: str, task: str, title: str) -> None:
    assert task_of(name) == task
    assert title_of(name) == title


def test_a_variant_says_its_method_and_a_name_alone_is_none() -> None:
    entry = {"method": "deepcluster_v2", "task": {"partitions": 1}}
    preset = parse_preset("tiny", {"methods": {"deepcluster_v2_x": entry}})
    config = preset.methods["deepcluster_v2_x"]
    assert (config.method, config.task.partitions) == ("deepcluster_v2", 1)
    with pytest.raises(ValueError, match="unknown method 'deepcluster_v2_x'; use one of"):
        parse_preset("tiny", {"methods": {"deepcluster_v2_x": {}}})


# --- whose code a network rests on


@pytest.mark.parametrize("method", TRAINED)
def test_rooms_hold_all_modules_that_its_task_imports(method: str) -> None:
    """And no other task's: its networks stay as they are when another's code does not. An outline counts by what it
    decides, see ``Outline.decides``."""
    rooms = {*ROOMS, *own_rooms(method_config(method))}
    reached, waiting = set(), {f"train/tasks/{MODULES[method]}"}
    while waiting:
        room = waiting.pop()
        reached.add(room)
        source = (ROOT / "dclib" / f"{room}.py").read_text()
        found = re.findall(r"from dclib\.(train\.tasks\.\w+|data\.\w+|cluster\.\w+) import", source)
        waiting |= {name.replace(".", "/") for name in found if name.startswith("train")} - reached
        for name in found:
            covered = {name.replace(".", "/"), name.split(".")[0]} & rooms
            assert covered, f"{room} imports {name}"
    assert reached <= rooms
    assert rooms & {f"train/tasks/{other}" for other in MODULES.values()} == {f"train/tasks/{MODULES[method]}"}
    assert not any(room.startswith("methods") for room in rooms)


# --- adding a file is enough

OUTLINE = '''
"""Whether a picture is shown in a mirror."""

from dataclasses import dataclass

from dclib.methods.outline import Outline


@dataclass(frozen=True, kw_only=True)
class MirrorSettings:
    """Of one kind."""

    share: float = 0.5  # of pictures that are mirrored

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"need share in (0, 1); got {self.share}")


def _head(config):
    return 2 * (config.model.feature_dim + 1), 4 * config.model.feature_dim


OUTLINES = {
    "mirror": Outline(
        title="Mirror",
        words="Upside down or not.",
        asks={"mirrored": "mirrorings"},
        settings=MirrorSettings,
        head=_head,
    )
}
'''
TASK = '''
"""Whether a picture is upside down."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from dclib.models.vgg import initialise
from dclib.randomness import generator
from dclib.train.tasks.task import Task


class Mirror(Task):
    def __init__(self, config, pixels, seed, device):
        super().__init__(config, pixels, seed, device)
        self.head = nn.Sequential(nn.Linear(config.model.feature_dim, 2))
        initialise(self.head, generator(seed, "heads"))

    def add_gradients(self, trunk, views, plan, rows):
        chosen = torch.rand(len(plan.index), generator=generator(self.seed, "mirror")) < self.settings.share
        target = chosen[rows].long()
        shown = torch.where(chosen[rows][:, None, None, None], views[0].flip(2), views[0])
        logits = self.head(self.features(trunk, [shown]))
        loss = F.cross_entropy(logits, target, reduction="sum") / plan.batch_size
        loss.backward()
        return torch.stack([loss.detach(), (logits.argmax(dim=1) == target).sum().float()])

    @property
    def chance_loss(self):
        return math.log(2)

    def asked(self, hits):
        return {"mirrored": (hits[0], 2)}


TASK = Mirror
'''
PRESET = """
data: {root: IMAGES, pool: pool, resize: 36, objects_train: "", objects_test: "", scenes_train: "", scenes_test: ""}
model: {image_size: 32, width: 0.0625, hidden_dim: 16, feature_dim: 16, dropout: 0.0}
train: {epochs: 6, epoch_images: 192, batch_size: 16, lr: 0.02, crop_area: 0.8}
methods:
  mirror_half: {method: mirror, task: {share: 0.4}}
"""
SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import task_checks
from tiny_images import decoded_pixels
from dclib.__main__ import main
from dclib.data.layouts import open_images
from dclib.planner import calibration
from dclib.presets import load_preset
from dclib.records import code_hash, read_records
from dclib.report.methods import describe_method
from dclib.train.start import run_identity

calibration.SPEED = ""
folder = Path(sys.argv[1])
preset = load_preset(folder / "mine.yaml")
config = preset.method("mirror_half")
pixels = decoded_pixels(open_images(folder / "pool"))
others = task_checks.replace(config, method="rotnet")


def identities():
    code_hash.cache_clear()
    return [run_identity(one, pixels, 0, None) for one in (config, others)]


short = task_checks.replace(config, train=task_checks.replace(config.train, epochs=2, epoch_images=48))
task_checks.check_killed_is_left_alone(short, pixels, folder / "killed")
task_checks.check_counts(config, pixels, folder)
task_checks.check_refused("mirror", [({"share": 0.0}, "share in")])
for command in (["plan"], ["pretrain"]):
    assert main([*command, "--preset", str(folder / "mine.yaml"), "--method", "mirror_half"]) == 0
print("PAGE", describe_method("mirror_half", config))
records = [r for r in read_records(folder / "runs" / "mine" / "records") if r.name == "mirrored_accuracy"]
print("RIGHT", max(r.value for r in records))
before = identities()
task = folder / "dclib" / "train" / "tasks" / "mirror.py"
task.write_text(task.read_text().replace("views[0].flip(2)", "views[0].flip(3)"))
print("CHANGED", *(one != other for one, other in zip(before, identities(), strict=True)))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with a method more, a preset of it, and pictures."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "dclib", folder / "dclib", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notebooks" / "presets").mkdir(parents=True)
    (folder / "dclib" / "methods" / "mirror.py").write_text(OUTLINE)
    (folder / "dclib" / "train" / "tasks" / "mirror.py").write_text(TASK)
    write_pictures(folder / "pool", 48, flat=True)
    (folder / "mine.yaml").write_text(PRESET.replace("IMAGES", str(folder)))
    return folder


def run_copy(folder: Path) -> dict[str, str]:
    """What the script says, by its first word."""
    paths = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "DCLIB_RUNS": str(folder / "runs")}
    environment["DCLIB_ROOT"] = str(folder)
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.partition(" ")[0].isupper())


@pytest.mark.slow
def test_a_method_is_two_files_and_no_network_of_others_is_touched(copy: Path) -> None:
    """It is parsed, planned, trained, resumed and described; then its code changes, and only its networks do."""
    said = run_copy(copy)
    assert said["PAGE"].startswith("Mirror, half. Upside down or not. Input: image gradients (Sobel) of 32 x 32")
    assert float(said["RIGHT"]) > 80  # pictures are darker above
    assert said["CHANGED"] == "True False"
