"""Fixtures for every test."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from dclib.planner import calibration

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
# of every process that a test starts
os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "quick_start")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests come first: no process is left with a long one while the others have ended."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Path of a real data set or a file of one, by name below the shared data; skips where it is not there."""

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"needs the real data {name}, looked for at ../shared/data beside the project")
        return path

    return find


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A run that a test starts does not measure this machine first, which takes seconds; its times are guesses."""
    if request.module.__name__ != "test_calibration":
        monkeypatch.setattr(calibration, "SPEED", "")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for a module's tests: sums then have one order, so that results can be compared bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
