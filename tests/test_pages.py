"""What pages cost: counts against the procedures that do the work, on a machine where one thing alone takes time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from dclib.data.samplers import images_shown
from dclib.evaluate.finetune import RECIPES, scaled_epochs
from dclib.evaluate.finetune_runs import starts_of
from dclib.evaluate.voc_runs import IN_TABLE, tasks_of
from dclib.planner import pages
from dclib.planner.hardware import CPU, Hardware
from dclib.planner.pages import page_costs, stage_seconds
from dclib.planner.passes import Pass, passes_of
from dclib.pocket.world import world_sizes
from dclib.presets import load_preset, preset_folder
from dclib.press.stages import plan_stages

FAST = 1e30
POCKET = load_preset("pocket")
METHODS = tuple(POCKET.methods)
NAMES = [stage.page for stage in plan_stages("pocket")[1]]


def machine_where(seconds: Mapping[str, float]) -> Hardware:
    """Nothing takes time but the passes named."""
    rates = dict.fromkeys(("conv_flops", "linear_flops", "double_flops", "memory_rate", "disk_rate", "crop_rate"), FAST)
    free = {one.name: 1e-12 for one in passes_of(POCKET)}
    rest = {"overhead": 0.0, "interpreter_rate": FAST, "decode_rate": FAST}
    return replace(CPU, passes={**free, **seconds}, **rates, **rest)


def own(trains: bool, batch: int, precision: str, stem: str = "sobel") -> Pass:
    model = replace(POCKET.method("rotnet").model, stem=stem)
    return Pass(model=model, batch=batch, precision=precision, trains=trains)


def test_the_pocket_worlds_shares_are_those_that_are_drawn() -> None:
    sizes = world_sizes(10_000)
    drawn = (sizes.objects_train, sizes.objects_val, sizes.scenes_train, sizes.scenes_val)
    assert tuple(pages.POCKET.values()) == tuple(n / 10_000 for n in drawn)
    assert tuple(n / 10_000 for n in (sizes.voc_train, sizes.voc_val, sizes.voc_test)) == pages.POCKET_VOC
    assert pages.IN_TABLE_4 == IN_TABLE


def test_training_steps_are_those_of_a_run() -> None:
    step = own(True, POCKET.method("rotnet").train.batch_size, "auto")
    found = stage_seconds(POCKET, ["rotnet"], machine_where({step.name: 1.0}), {})
    config = POCKET.method("rotnet").train
    shown = images_shown(config.epoch_images, config.batch_size)
    assert found["pretrain"] == pytest.approx(config.epochs * shown / config.batch_size)


def test_fine_tuning_steps_are_those_of_both_recipes() -> None:
    tune = POCKET.finetune
    step = own(True, tune.batch_size, "float32", stem="folded")
    found = stage_seconds(POCKET, METHODS, machine_where({step.name: 1.0}), {})
    epochs = sum(scaled_epochs(recipe, tune.epochs) for recipe in RECIPES)
    # a last batch that is not full counts as its share here
    assert found["finetune"] == pytest.approx(len(starts_of(POCKET)) * epochs * tune.train_images / tune.batch_size)


def test_fine_tuning_steps_are_those_of_every_share() -> None:
    """1,500 images in batches of 64, ten epochs: 1 % has 500 steps in as many passes of one batch, all of them 230."""
    asking = load_preset("pocket", {"finetune.shares": [0.01, 0.1, 1.0], "finetune.steps": 500})
    tune = asking.finetune
    step = own(True, tune.batch_size, "float32", stem="folded")
    found = stage_seconds(asking, METHODS, machine_where({step.name: 1.0}), {})
    images = 50 * 15 + 25 * 150 + 3 * 1500  # in an epoch: 1, 2 and 23 whole batches, ten times 50, 25 and 3
    assert found["finetune"] == pytest.approx(len(starts_of(asking)) * 19 * images / tune.batch_size)


def test_steps_on_voc_are_those_of_its_tasks() -> None:
    for trains, setting in ((False, "fc68"), (True, "all")):
        steps = [own(trains, POCKET.voc.batch_size, "float32", stem) for stem in ("sobel", "rgb")]
        found = stage_seconds(POCKET, METHODS, machine_where({one.name: 1.0 for one in steps}), {})
        tasks = [task for method in METHODS for task in tasks_of(POCKET, method) if task.setting == setting]
        assert found["voc"] == pytest.approx(sum(task.iterations for task in tasks))


def test_more_seeds_cost_more_and_what_is_left_out_nothing() -> None:
    one = page_costs(POCKET, NAMES, CPU, {})
    three = page_costs(replace(POCKET, seeds=(0, 1, 2)), NAMES, CPU, {})
    start = pages.WORK_START / CPU.interpreter_rate
    for page in set(NAMES) - {"data"}:
        assert three[page].work - start == pytest.approx(3 * (one[page].work - start)) or not one[page].work
        assert three[page].shown == one[page].shown > 0
    worked = {page for page, cost in one.items() if cost.work}
    training = {f"pretraining_{method}" for method in METHODS}
    assert worked == {"data", *training, "finetuning", "voc", "recipes", "retrieval", "colour", "metadata"}
    assert page_costs(POCKET, NAMES, CPU, {}, left_out=["voc"])["voc"].work == 0
    drawn = [page_costs(POCKET, NAMES, CPU, {}, drawers=n)["data"].work - start for n in (1, 4)]
    assert drawn[0] == pytest.approx(4 * drawn[1])


@pytest.mark.parametrize("name", [path.stem for path in sorted(preset_folder().glob("*.yaml"))])
@pytest.mark.parametrize("counts", [{"pool": 3000}, {"pool": 60, "objects_train": 60, "objects_test": 40}])
def test_every_page_of_every_preset_has_a_price(name: str, counts: Mapping[str, int]) -> None:
    """Also where a set is missing, and where analyses have no number of clusters of their own."""
    preset = load_preset(name)
    names = [*(page for page in NAMES if not page.startswith("pre")), *(f"pretraining_{m}" for m in preset.methods)]
    costs = page_costs(preset, names, CPU, counts)
    assert all(0 <= cost.shown < math.inf and 0 <= cost.work < math.inf for cost in costs.values())


def test_a_folder_s_own_counts_are_taken() -> None:
    folder = load_preset("folder", {"data.root": "x"})
    names = ["data", *(f"pretraining_{method}" for method in folder.methods), "linear_probes", "voc"]
    few, many = (
        page_costs(folder, names, CPU, {"pool": n, "objects_train": n, "objects_test": n}) for n in (500, 5000)
    )
    assert few["data"].work == pages.WORK_START / CPU.interpreter_rate  # its images are there already
    method = next(name for name in folder.methods if folder.method(name).method == "rotnet")
    assert many[f"pretraining_{method}"].work > 2 * few[f"pretraining_{method}"].work
