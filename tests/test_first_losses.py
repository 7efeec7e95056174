"""The supplement's methods take the steps that they took before other ways of pre-training came beside them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tiny_images import CLASSES, labelled, method_config, picture_tensor, silent

from dclib.config import MethodConfig
from dclib.train.pretrain import train_epoch
from dclib.train.replay import _Enough, _Watch, in_double
from dclib.train.state import State

TORCH = {"cluster": {"backend": "torch"}}
TWO_LEVELS = {"cluster": {"n_super": 2, "n_sub": 3, "backend": "torch"}}
# losses of the first three steps in float64, made by commit 6858743, in which there were no tasks yet
BEFORE: dict[str, tuple[MethodConfig, list[float]]] = {
    "rotnet": (method_config("rotnet"), [1.4006132596, 1.406533758, 1.37794863851]),
    "deepcluster": (method_config("deepcluster", **TORCH), [1.76893988014, 1.84228680314, 1.77907875051]),
    "deepercluster": (method_config("deepercluster", **TORCH), [3.19084519822, 3.16693629229, 3.20264574921]),
    "two levels": (method_config("deepercluster", **TWO_LEVELS), [3.20503481741, 3.18023912936, 3.26031901683]),
    "supervised": (method_config("supervised"), [1.40066220229, 1.37272445177, 1.348461753]),
    "parts": (method_config("rotnet", train={"accumulate": 2}), [1.3949761732, 1.40258281843, 1.37575417855]),
}


@pytest.mark.parametrize("name", BEFORE)
def test_first_losses_are_those_of_before(name: str, tmp_path: Path) -> None:
    """To what float32 rounds off in a crop; a thousandth more of the learning rate moves step 2 by ten times that."""
    config, expected = BEFORE[name]
    kinds = [CLASSES[i % 4] for i in range(48)]
    pixels = labelled(picture_tensor(kinds), [i % 4 for i in range(48)], 32)
    state, watch = in_double(State.begin(config, pixels, 0, torch.device("cpu"), None)), _Watch(3)
    with suppress(_Enough):
        if state.task.is_due(state):
            state.task.renew(state, tmp_path, silent)
        train_epoch(state, state.task.plan_epoch(0), config.train, 0, watch)
    assert watch.losses == pytest.approx(expected, rel=1e-6)
