"""This machine, measured: what is asked, what is kept, and what a plan makes of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from dclib.config import ModelConfig
from dclib.planner import calibration
from dclib.planner.calibration import as_hardware, calibration_path, kept_machine, read_calibration, this_machine
from dclib.planner.hardware import CPU
from dclib.planner.passes import Pass, fitted_passes, passes_of
from dclib.planner.plan import make_plan
from dclib.presets import load_preset
from dclib.train import speed

CONV, MEMORY, OVERHEAD = 1e11, 5e9, 1e-3  # of a machine that keeps to the model of its rates
GENERAL = {"linear_flops": 2e10, "double_flops": 1e10, "crop_rate": 5e7, "interpreter_rate": 250.0, "bfloat16": 0.0}
TINY = Pass(model=ModelConfig(image_size=32, width=1 / 32), batch=4, precision="float32", trains=True)


def exact_seconds(one: Pass) -> float:
    return one.flops / CONV + one.moved / MEMORY + OVERHEAD


@pytest.fixture
def asked(tmp_path, monkeypatch) -> list[list[str]]:
    """The names of passes that were asked of such a machine, call by call; those of 224 pixels take too long."""
    calls: list[list[str]] = []

    def measure(passes, threads, beside):
        calls.append([one.name for one in passes])
        return {**GENERAL, **{one.name: exact_seconds(one) for one in passes if one.model.image_size < 224}}

    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(calibration, "_measure", measure)
    return calls


def test_rates_are_found_again(asked) -> None:
    machine = this_machine(load_preset("smoke"), threads=1)
    # six passes of three unknowns without noise: only rounding is left
    assert machine.conv_flops == pytest.approx(CONV, rel=1e-6)
    assert machine.memory_rate == pytest.approx(MEMORY, rel=1e-6)
    assert machine.overhead == pytest.approx(OVERHEAD, rel=1e-6)
    assert (machine.linear_flops, machine.bfloat16_gain) == (2e10, 1.0)


def test_a_preset_s_own_passes_are_measured_once(asked) -> None:
    smoke = load_preset("smoke")
    first = this_machine(smoke, threads=1)
    assert set(asked[0]) == {one.name for one in [*fitted_passes(), *passes_of(smoke)]}
    assert this_machine(smoke, threads=1) == first == kept_machine(1)
    assert len(asked) == 1
    pocket = load_preset("pocket")
    this_machine(pocket, threads=1)
    assert set(asked[1]) == {one.name for one in passes_of(pocket)}  # what is new of it
    this_machine(pocket, threads=2)
    assert len(asked) == 3  # other threads are another machine
    assert kept_machine(3) is None


def test_what_takes_too_long_is_left_to_the_rates_and_not_asked_for_again(asked) -> None:
    paper = load_preset("deepercluster_yfcc1m")
    machine = this_machine(paper, threads=1)
    assert this_machine(paper, threads=1) == machine
    assert len(asked) == 1
    assert not any("224 pixels" in name for name in machine.passes)
    step = next(one for one in passes_of(paper) if one.trains)
    assert step.seconds(machine) > 1.0


@pytest.mark.parametrize("kept", [0, 1, 40, -2])
def test_a_cut_file_is_measured_anew(asked, kept) -> None:
    smoke = load_preset("smoke")
    machine = this_machine(smoke, threads=1)
    path = calibration_path(1, 1)
    path.write_bytes(path.read_bytes()[:kept])
    assert read_calibration(path) == {}
    assert kept_machine(1) is None
    assert this_machine(smoke, threads=1) == machine
    assert len(asked) == 2


def test_a_machine_that_cannot_be_measured_is_guessed_and_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(calibration, "SPEED", "dclib.no_such_module")
    said: list[str] = []
    machine = this_machine(load_preset("smoke"), threads=1, report=said.append)
    assert replace(machine, name="cpu") == CPU
    assert "not measured" in machine.name
    assert "times are guesses" in said[-1]
    assert "no_such_module" in said[-1]
    assert not list(tmp_path.rglob("*.json"))


def test_a_folder_that_cannot_be_written_costs_the_keeping_only(asked, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "file" / "runs"))
    said: list[str] = []
    assert this_machine(load_preset("smoke"), threads=1, report=said.append).conv_flops == pytest.approx(CONV)
    assert "the next run measures again" in said[-1]


def test_processes_side_by_side_measure(monkeypatch) -> None:
    monkeypatch.setattr(calibration, "BUDGET", 60.0)
    found = calibration._measure([TINY], threads=1, beside=2)
    assert set(found) == {TINY.name, *GENERAL}
    assert all(value > 0 for name, value in found.items() if name != "bfloat16")
    assert as_hardware({**found, **{one.name: 1.0 for one in fitted_passes()}}, "x").passes[TINY.name] < 1.0


def test_a_long_pass_and_what_comes_after_the_budget_are_left_out(monkeypatch) -> None:
    monkeypatch.setattr(speed, "LEAST", 0.0)
    monkeypatch.setattr(speed, "general_works", dict)
    long = replace(TINY, batch=8, trains=False)
    passes = [TINY.asked(), {**long.asked(), "flops": 1e30}]
    assert set(speed.measure(passes, budget=60.0, longest=1.0)) == {"bfloat16", TINY.name}
    assert set(speed.measure(passes, budget=-1.0, longest=1.0)) == {"bfloat16"}


def test_a_pass_is_asked_for_in_plain_values() -> None:
    asked = json.loads(json.dumps(TINY.asked()))
    assert ModelConfig(**asked["model"]) == TINY.model
    assert asked == {**asdict(TINY), "name": TINY.name, "flops": TINY.flops}


def test_a_measured_step_takes_the_place_of_its_parts() -> None:
    pocket = load_preset("pocket")
    config = pocket.method("rotnet")
    step = Pass(model=config.model, batch=config.train.batch_size, precision=config.train.precision, trains=True)
    plan = make_plan(pocket, "rotnet", replace(CPU, passes={step.name: 7.0}))
    (training,) = [phase for phase in plan.phases if phase.name == "training"]
    assert training.parts["network"] == 7.0 * plan.work.steps * config.train.epochs
    assert "convolutions" not in training.parts


def test_bfloat16_gains_what_it_was_measured_to_gain(asked) -> None:
    found = {**GENERAL, "bfloat16": 1.0, **{one.name: exact_seconds(one) for one in fitted_passes()}}
    forward = replace(TINY, trains=False)
    for precision, seconds in (("float32", 0.3), ("auto", 0.2)):
        found[replace(forward, precision=precision).name] = seconds
    assert as_hardware(found, "x").bfloat16_gain == pytest.approx(1.5)
    assert as_hardware({**found, "bfloat16": 0.0}, "x").bfloat16_gain == 1.0
