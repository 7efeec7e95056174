"""The part of labelled images that is held back to choose settings by."""

import sys
import tarfile
from pathlib import Path

from tiny_images import write_pictures

from dclib.data.layouts import open_images

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from hold_out import EVERY, hold_out


def test_parts_are_the_whole_set_and_share_nothing_and_classes_are_held_back_alike(tmp_path):
    write_pictures(tmp_path / "train", 25 * EVERY // 4)
    with tarfile.open(tmp_path / "train.tar", "w") as file:
        file.add(tmp_path / "train", "train")
    whole = open_images(tmp_path / "train.tar")
    part, held = map(open_images, hold_out(tmp_path / "train.tar"))
    assert sorted([*part.ids, *held.ids]) == sorted(whole.ids)
    assert not {*part.ids} & {*held.ids}
    assert part.classes == held.classes == whole.classes
    counts = {
        name: [list(one.labels).count(i) for i, name in enumerate(one.classes)]
        for name, one in (("whole", whole), ("held", held))
    }
    assert counts["held"] == [count // EVERY for count in counts["whole"]]
    assert min(counts["held"]) > 0
    for one in (part, held):  # each with its own bytes
        where = {name: i for i, name in enumerate(whole.ids)}
        assert all(one.read(i, bytes) == whole.read(where[name], bytes) for i, name in enumerate(one.ids))
