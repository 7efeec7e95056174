"""Everything malformed at once, through commands, the runner and the book: nothing may end in a traceback.

    OMP_NUM_THREADS=1 python benchmarks/malformed.py            # commands, a minute
    OMP_NUM_THREADS=1 python benchmarks/malformed.py --book     # a run and its book as well, which takes longer

The inputs are those of ``tests/malformed.py``, each of which the tests take through its loader. Here each set of images
among them goes through ``python -m dclib plan``, which opens what a run would, and each preset through ``run``. Then a
drawn world is spoiled: a part of its photographs is replaced by malformed ones, its lists are saved as Windows does,
and people's names, titles, hashtags and classes are markup; the smoke preset, with one method of each way to make
labels, runs on it and its book is built. Counts by kind and door go to ``results/benchmarks/malformed.json``; without
``--book`` what that file says of the book stays.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path
from random import Random
from urllib.parse import quote_plus

import yaml
from measuring import benchmark_card, record_path

from dclib.__main__ import main as command
from dclib.machine import cpu_name
from dclib.pocket.world import make_pocket_world
from dclib.presets import project_root
from dclib.records import Record, read_records, select, write_records

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.malformed import Malformed, all_malformed, malformed_words, zip_of

POOL_IMAGES = 600
SPOILED = 0.15  # of the photographs, of which about two thirds cannot be read
METHODS = ("random", "rotnet", "deepercluster", "supervised")  # of the smoke preset: each page that can fail is there
SETTINGS = ("data.max_unreadable=0.3", "probe.epochs=2", "voc.iterations=5")
BOOK = "everything at once", "runner and book"  # kind and door
POOLS = {"picture": "set", "tar": "set.tar", "list": "list.txt", "sheet": "list.csv", "shards": "", "classes": ""}
OUTCOMES = {0: "result", 1: "failed page", 2: "sentence"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--book", action="store_true", help="run on a spoiled world, and build a book")
    parser.add_argument("--output", type=Path, default=record_path("malformed"), help="file of the records")
    options = parser.parse_args()
    began = time.monotonic()
    counts: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DCLIB_RUNS"] = str(Path(folder, "runs"))
        for number, case in enumerate(all_malformed()):
            if found := through_a_command(case, Path(folder, str(number))):
                counts[case.kind, *found] += 1
        if options.book:
            counts[*BOOK, through_the_book(Path(folder, "spoiled"))] += 1
        else:
            counts.update(counted_before(options.output))
    for (kind, door, outcome), count in sorted(counts.items()):
        print(f"{kind:24} {door:16} {outcome:12} {count:4}")
    settings = {"pool_images": POOL_IMAGES, "spoiled": SPOILED, "book": options.book}
    card = benchmark_card(settings, ("data", "reading", "presets"), began, device=cpu_name(1))
    records = [
        Record(name="malformed", value=count, unit="1", n=1, keys={"kind": kind, "door": door, "outcome": outcome})
        for (kind, door, outcome), count in sorted(counts.items())
    ]
    write_records(options.output, card, records)
    if any(
        out in ("traceback", "failed page") or (kind, door, out) == (*BOOK, "sentence") for kind, door, out in counts
    ):
        raise SystemExit("something ended in a traceback, or there is no book, see above")


def counted_before(path: Path) -> Counter[tuple[str, str, str]]:
    """What an earlier call found of the book, which takes long."""
    kept = [r for r in select(read_records(path.parent), "malformed") if (r.keys["kind"], r.keys["door"]) == BOOK]
    return Counter({(*BOOK, str(record.keys["outcome"])): int(record.value) for record in kept})


def through_a_command(case: Malformed, folder: Path) -> tuple[str, str] | None:
    """The door and the outcome; None for what no command takes."""
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if case.door == "preset":
        return "run", outcome_of("run", "--preset", str(folder / "own.yaml"), "--data", str(folder / "none"))
    if case.door not in POOLS:
        return None
    pool = f"data.pool={POOLS[case.door] or '.'}"
    rest = [f"data.{half}=" for half in ("objects_train", "objects_test", "scenes_train", "scenes_test")]
    options = [part for setting in (pool, *rest) for part in ("--set", setting)]
    images = ("--images", "600", "--method", "rotnet")
    return "plan", outcome_of("plan", "--preset", "smoke", "--data", str(folder), *images, *options)


def outcome_of(*arguments: str) -> str:
    """What became of a command."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = command(arguments)
    except BaseException:  # whatever ends the command is what is looked for
        traceback.print_exc()
        return "traceback"
    if status and said.getvalue().count("\n") != 1:
        print(said.getvalue(), file=sys.stderr)
        return "traceback"
    return OUTCOMES.get(status, "traceback")


def through_the_book(folder: Path) -> str:
    """Run the smoke preset with fewer methods on a spoiled world, in a copy of the project, and build its book."""
    root = project_root()
    for part in ("book", "notebooks", "results", "_config.yml", "README.md", "CITATION.cff"):
        if (root / part).is_dir():
            shutil.copytree(root / part, folder / part)
        else:
            shutil.copy(root / part, folder / part)
    world = spoil(make_pocket_world(folder / "world", pool_images=POOL_IMAGES, processes=1))
    os.environ["DCLIB_ROOT"] = str(folder)
    preset = yaml.safe_load((root / "notebooks" / "presets" / "smoke.yaml").read_text(encoding="utf-8"))
    preset["methods"] = {name: preset["methods"][name] for name in METHODS}
    (folder / "spoiled.yaml").write_text(yaml.safe_dump(preset, sort_keys=False), encoding="utf-8")
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    status = command(["book", "--preset", str(folder / "spoiled.yaml"), "--data", str(world), *settings])
    pages = list((folder / "_build" / "html").rglob("*.html"))
    if status == 0 and any("Traceback (most recent call last)" in p.read_text(encoding="utf-8") for p in pages):
        return "traceback"
    print(f"the book has {len(pages)} pages")
    return OUTCOMES.get(status, "traceback")


def spoil(world: Path) -> Path:
    """Replace some photographs of a drawn world, save its lists as Windows does, and put markup into its words."""
    random, words = Random(0), [word for word in malformed_words() if word.strip()]
    odd = [next(iter(case.files.values())) for case in all_malformed() if case.door == "picture"]
    for path in sorted(world.glob("pool/*/*.zip")):
        _spoil_archive(path, odd, random)
    for path in sorted(world.glob("*/train/*/*")):
        if random.random() < SPOILED:
            path.write_bytes(random.choice(odd))
    for path in [*world.glob("VOC2007/ImageSets/Main/*.txt"), *world.glob("*/groundtruth/*.txt")]:
        text = path.read_text(encoding="utf-8")
        path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "  \r\n").encode())
    table = world / "pool" / "yfcc100m_dataset.tsv"
    lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    for fields in lines:
        for column in (2, 5, 6, 7):
            fields[column] = quote_plus(random.choice(words))
        fields[8] = ",".join([fields[8], quote_plus(random.choice(words))])
    table.write_bytes("".join("\t".join(fields) + "\r\n" for fields in lines).encode())
    classes = world / "pool" / "hidden_classes.tsv"
    named = [line.split("\t") for line in classes.read_text(encoding="utf-8").splitlines()]
    short = [" ".join(word.replace("\0", "").split())[:60] for word in words]  # a zero byte would be refused
    new = dict(zip(sorted({row[-1] for row in named}), short, strict=False))
    classes.write_text("".join(f"{row[0]}\t{new.get(row[-1], row[-1])}\n" for row in named), encoding="utf-8")
    return world


def _spoil_archive(path: Path, odd: list[bytes], random: Random) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    path.write_bytes(zip_of({n: random.choice(odd) if random.random() < SPOILED else c for n, c in files.items()}))


if __name__ == "__main__":
    main()
