"""A reader's tasks on the published book that was built last, where one is named and there is a browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from reader_tasks import TASKS, do_tasks
from screenshots import BROWSERS

BUILT = Path(os.environ.get("DCLIB_BUILT_HTML", "no-book-is-named"))
pytestmark = [
    pytest.mark.skipif(
        not (BUILT / "explorer" / "index.html").is_file(),
        reason="needs a published book, which DCLIB_BUILT_HTML names; .ci/check does",
    ),
    pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason=f"needs a browser: one of {', '.join(BROWSERS)}"),
]


@pytest.mark.parametrize("name", TASKS)
def test_a_reader_can(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = do_tasks(BUILT, tmp_path, only=name)
    said = capsys.readouterr().out
    assert not failed, said
    if "absent" in said:
        pytest.skip(said)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
