"""Where sets for evaluation lie among other images, told by the names of files: they are never trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterable

QUERY = "_query.txt"  # ends the name of a file with a query for a landmark: hall_1_query.txt


def evaluation_layouts(images: Collection[str], others: Iterable[str]) -> set[str]:
    """Folders below the root that hold Pascal VOC (``JPEGImages`` with lists or annotations) or landmarks (queries)."""
    pictures, lists = set(), set()
    truths: dict[str, set[str]] = {}  # folder of ground truth -> landmarks that its queries name
    for path in images:
        before, found, _ = f"/{path}".partition("/JPEGImages/")
        pictures |= {before[1:]} if found else set()
    for path in others:
        folder, _, name = path.rpartition("/")
        if name.endswith(QUERY):
            truths.setdefault(folder, set()).add(name.removesuffix(QUERY).rpartition("_")[0])
        elif name.startswith("gnd_") and name.endswith(".pkl"):
            truths.setdefault(folder, set())
        for part in ("/ImageSets/", "/Annotations/"):
            before, found, _ = f"/{path}".partition(part)
            lists |= {before[1:]} if found else set()
    landmarks = {layout for folder, names in truths.items() for layout in _landmark_folders(folder, names, images)}
    return ((pictures & lists) | landmarks) - {""}


def _landmark_folders(truth: str, landmarks: Collection[str], images: Iterable[str]) -> set[str]:
    """Folders with the images of a set whose ground truth lies in the folder ``truth``: with it, or in one beside it.

    They are called by their landmarks (``hall_000013``, ``paris_hall_000013``), so that other folders stay; where
    names do not say, it is all that lies in the first folder above with images, unless that is the root.
    """
    place, climbed = truth, 0
    while place and not any(path.startswith(f"{place}/") for path in images):
        place, climbed = place.rpartition("/")[0], climbed + 1
    if place and not climbed:
        return {place}
    named: dict[str, bool] = {}  # folder or loose image in this place -> whether a landmark is among its images
    for path in images:
        if not place or path.startswith(f"{place}/"):
            below, slash, _ = path[len(place) + 1 if place else 0 :].partition("/")
            called = path.rpartition("/")[2].rpartition("_")[0]
            here = called in landmarks or called.partition("_")[2] in landmarks
            named[f"{below}{slash}"] = named.get(f"{below}{slash}", False) or here
    is_near = climbed == 1 or not landmarks  # a pickle's name has no landmark
    if all(named.values()) or (is_near and place and not any(named.values())):
        return {place}  # the root, where it is nothing else: who asks for it gets it
    return {f"{place}/{name}".strip("/") for name, here in named.items() if here and name.endswith("/")}
