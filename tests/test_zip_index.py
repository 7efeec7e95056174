"""The index of zip archives: against the zipfile module, and through changes, damage and many processes."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from zip_archives import archive_of, small_jpeg, write_archives

from dclib.config import DataConfig
from dclib.data import zip_index
from dclib.data.images import UnreadableImageError
from dclib.data.layouts import open_images
from dclib.data.pixels import load_pixels
from dclib.data.yfcc import ZipReader, open_yfcc
from dclib.data.zip_index import HEAD, PHOTO, open_index
from dclib.records import read_records, select

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = [0, 7, 999, 1_000, 12_345_678, 12_345_000, 12_346_001, 99_999_999]
ARCHIVES = [0, 1, 12_345, 12_346, 99_999]


@pytest.fixture
def opened(monkeypatch) -> list[int]:
    """The archives whose lists are read."""
    archives: list[int] = []
    original = zip_index.read_directory
    monkeypatch.setattr(
        zip_index, "read_directory", lambda root, archive: archives.append(archive) or original(root, archive)
    )
    return archives


def cut_off_lists(root: Path) -> None:
    """Leave the photos of every archive and take the list at its end away: only an index still knows where they are."""
    for path in root.glob("*/*.zip"):
        content = path.read_bytes()
        path.write_bytes(content[: content.index(b"PK\x01\x02")])


# --- what it says


def test_index_says_what_zipfile_says(tmp_path):
    write_archives(tmp_path, PHOTOS, method=zipfile.ZIP_DEFLATED, notes=b"no photo")
    index = open_index(tmp_path, np.array(ARCHIVES))
    for archive in ARCHIVES:
        with zipfile.ZipFile(archive_of(tmp_path, 1_000 * archive)) as file:
            members = {int(m.filename[:3]): m for m in file.infolist() if m.filename.endswith(".jpg")}
        assert index.members(archive).tolist() == sorted(members)
        for number, member in members.items():
            low, high, stored, size, checksum = index.photos(archive)[number].item()
            assert high * 2**32 + low == member.header_offset
            assert (stored, size, checksum) == (member.compress_size, member.file_size, member.CRC)


def test_a_photo_takes_17_bytes(tmp_path):
    write_archives(tmp_path, [*range(500), *range(1_000, 1_600)])
    open_index(tmp_path, np.array([0, 1]))
    (path,) = (tmp_path / "zip_index").iterdir()
    assert path.stat().st_size == HEAD + 17 * 1_100
    assert PHOTO.itemsize * 100_000_000 + 100 * HEAD < 2e9  # all of YFCC100M


def test_sizes_are_those_of_the_photos_whatever_the_order(tmp_path):
    packed = write_archives(tmp_path, PHOTOS)
    index = open_index(tmp_path, np.array([0, 12_345, 99_999]))  # two are read as they are used
    asked = np.random.default_rng(0).permutation([*PHOTOS, *PHOTOS, 1, 998, 2_000, 12_345_679, 55_555_555])
    assert index.sizes(asked).tolist() == [len(packed.get(number, b"")) or -1 for number in asked.tolist()]
    assert index.sizes(asked.astype(np.uint32)).tolist() == index.sizes(asked).tolist()
    assert index.sizes(asked[:0]).tolist() == []


def test_photos_beyond_four_gibibytes_are_found(tmp_path):
    (tmp_path / "00").mkdir()
    with (tmp_path / "00" / "000.zip").open("wb") as file:
        file.seek(5 * 2**30)  # a hole, which takes no space
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("003.jpg", small_jpeg(3))
    assert open_yfcc(tmp_path).reader.read("00000003") == small_jpeg(3)


# --- once and for all processes


def test_lists_are_read_once(tmp_path, opened):
    packed = write_archives(tmp_path, PHOTOS)
    fingerprint = open_yfcc(tmp_path).fingerprint
    assert sorted(opened) == ARCHIVES
    opened.clear()
    images = open_images(tmp_path)
    assert images.fingerprint == fingerprint
    assert [images.reader.read(i) for i in images.ids] == [packed[int(i)] for i in images.ids]
    assert opened == []


def test_only_what_has_changed_or_is_new_is_read_again(tmp_path, opened):
    packed = write_archives(tmp_path, PHOTOS)
    open_yfcc(tmp_path)
    opened.clear()
    packed |= write_archives(tmp_path, [1_002, 1_005])  # another archive under the name of an old one
    del packed[1_000]
    packed |= write_archives(tmp_path, [2_000, 55_555_555])
    images = open_yfcc(tmp_path)
    assert sorted(opened) == [1, 2, 55_555]
    assert images.ids == [f"{number:08d}" for number in sorted(packed)]
    assert [images.reader.read(i) for i in images.ids] == [packed[int(i)] for i in images.ids]


def test_same_size_at_another_time_is_another_archive(tmp_path):
    write_archives(tmp_path, [7])
    open_yfcc(tmp_path)
    path = archive_of(tmp_path, 7)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"007.jpg", b"006.jpg"))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert open_yfcc(tmp_path).ids == ["00000006"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_use_the_index(tmp_path, start):
    packed = write_archives(tmp_path, PHOTOS)
    images = open_yfcc(tmp_path)
    cut_off_lists(tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        zip_index.read_directory(tmp_path, 0)  # whoever looks into an archive is lost
    with multiprocessing.get_context(start).Pool(2) as pool:
        found = pool.map(images.reader.read, list(images.ids) * 5, chunksize=3)
    assert found == [packed[int(i)] for i in images.ids] * 5
    assert len(pickle.dumps(images.reader)) < 1_000


def test_index_is_mapped_and_shared_rather_than_held(tmp_path):
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("needs /proc to see what is mapped")
    write_archives(tmp_path, PHOTOS)
    images = open_yfcc(tmp_path)
    images.reader.read("00000007")
    lines = [line.split() for line in maps.read_text().splitlines() if str(tmp_path) in line]
    assert [(line[1], Path(line[-1]).name) for line in lines] == [("r--s", "00.index")]  # read only, shared; one of 3


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_may_build_at_once(tmp_path):
    numbers = list(range(0, 40_000, 250))
    packed = write_archives(tmp_path, numbers)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        fingerprints = pool.map(partial(_open_part_of, tmp_path), [numbers, numbers, numbers[:80], numbers[80:]])
    assert fingerprints[0] == fingerprints[1]
    reader = ZipReader(tmp_path)
    assert [reader.read(f"{n:08d}") for n in numbers] == [packed[n] for n in numbers]
    assert [p.name for p in (tmp_path / "zip_index").iterdir()] == ["00.index"]


def _open_part_of(root: Path, numbers: list[int]) -> str:
    return open_yfcc(root, usable_ids=numbers).fingerprint


def test_an_archive_that_the_index_lacks_is_read_as_it_is_used(tmp_path, opened):
    """Of two processes that build for different photos at once, one overwrites what the other found."""
    packed = write_archives(tmp_path, PHOTOS)
    images = open_yfcc(tmp_path, usable_ids=PHOTOS)
    fingerprint = images.fingerprint
    for path in (tmp_path / "zip_index").iterdir():
        path.unlink()
    opened.clear()
    late = pickle.loads(pickle.dumps(images))
    for _ in range(2):
        assert [late.reader.read(i) for i in late.ids] == [packed[int(i)] for i in late.ids]
    assert late.reader.sizes(late.ids).tolist() == [len(packed[int(i)]) for i in late.ids]
    assert late.fingerprint == fingerprint
    assert len(opened) == len(ARCHIVES)


# --- where it is kept


def test_beside_archives_that_cannot_be_written_the_cache_is_used(tmp_path, opened):
    root, cache = tmp_path / "archives", tmp_path / "cache"
    packed = write_archives(root, PHOTOS)
    (root / "zip_index").write_text("in the way")  # permissions would not stop a superuser
    for _ in range(2):
        images = open_images(root, cache=cache)
        assert [images.reader.read(i) for i in images.ids] == [packed[int(i)] for i in images.ids]
    assert len(opened) == len(ARCHIVES)
    (folder,) = cache.iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["00.index", "12.index", "99.index"]
    other = tmp_path / "others"
    write_archives(other, [7])
    (other / "zip_index").write_text("in the way")
    assert open_yfcc(other, cache=cache).ids == ["00000007"]
    assert len(list(cache.iterdir())) == 2


def test_without_any_place_it_lives_as_long_as_the_process_and_says_so(tmp_path):
    write_archives(tmp_path, PHOTOS)
    (tmp_path / "zip_index").write_text("in the way")
    code = (
        "import os, sys; from dclib.data.yfcc import open_yfcc\n"
        f"images = open_yfcc({str(tmp_path)!r})\n"
        "if os.fork() == 0: images.reader.read('00000007'), sys.exit()\n"
        "assert os.wait()[1] == 0\n"  # a child's end is not that of the process
        "print(images.reader.index.folder, len(list(images.reader.index.folder.iterdir())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("UserWarning") == 1
    assert "cannot be kept beside the archives: it is built anew in every process; make" in done.stderr
    folder, files = done.stdout.split()
    assert files == "3"
    assert not Path(folder).exists()


def test_progress_is_shown_on_a_terminal_alone(tmp_path, capsys, monkeypatch):
    write_archives(tmp_path, PHOTOS)
    open_yfcc(tmp_path)
    assert capsys.readouterr() == ("", "")
    write_archives(tmp_path, [2_000])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    open_yfcc(tmp_path)
    assert "index" in capsys.readouterr().err


# --- damage


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: b"?" + c[1:], lambda c: c[:100], lambda c: b""])
def test_a_damaged_index_is_built_again(tmp_path, opened, damage):
    packed = write_archives(tmp_path, PHOTOS)
    open_yfcc(tmp_path)
    path = tmp_path / "zip_index" / "12.index"
    content = path.read_bytes()
    path.write_bytes(damage(content))
    opened.clear()
    images = open_yfcc(tmp_path)
    assert sorted(opened) == [12_345, 12_346]
    assert path.read_bytes() == content
    assert [images.reader.read(i) for i in images.ids] == [packed[int(i)] for i in images.ids]


def test_what_was_built_before_an_interruption_stays(tmp_path, opened, monkeypatch):
    write_archives(tmp_path, PHOTOS)
    original = zip_index._update_part

    def interrupted(root: Path, folder: Path, number: int, *rest: object) -> None:
        if number == 99:
            raise KeyboardInterrupt
        original(root, folder, number, *rest)

    monkeypatch.setattr(zip_index, "_update_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_yfcc(tmp_path)
    assert sorted(p.name for p in (tmp_path / "zip_index").iterdir()) == ["00.index", "12.index"]
    monkeypatch.undo()
    opened.clear()
    assert len(open_yfcc(tmp_path)) == len(PHOTOS)
    assert sorted(p.name for p in (tmp_path / "zip_index").iterdir()) == ["00.index", "12.index", "99.index"]


def test_a_broken_archive_costs_its_own_photos_alone(tmp_path, opened):
    packed = write_archives(tmp_path, PHOTOS)
    path = archive_of(tmp_path, 12_345_678)
    path.write_bytes(path.read_bytes()[:-30])
    images = open_yfcc(tmp_path, usable_ids=PHOTOS)
    broken = {12_345_678, 12_345_000}
    for i, number in enumerate(PHOTOS):
        if number in broken:
            with pytest.raises(UnreadableImageError, match=r"12/345\.zip cannot be read"):
                images[i]
        else:
            assert images.reader.read(images.ids[i]) == packed[number]
    sizes = images.reader.sizes(images.ids).tolist()
    assert sizes == [-1 if number in broken else len(packed[number]) for number in PHOTOS]
    opened.clear()
    open_yfcc(tmp_path, usable_ids=PHOTOS)
    assert opened == []  # it is known to be broken
    packed |= write_archives(tmp_path, sorted(broken))
    assert open_yfcc(tmp_path).reader.read("12345678") == packed[12_345_678]


def test_an_archive_that_the_system_does_not_give_out_is_tried_again(tmp_path, monkeypatch):
    packed = write_archives(tmp_path, PHOTOS)
    original = zip_index.read_directory

    def refused(root: Path, archive: int) -> np.ndarray:
        if archive == 1:
            raise PermissionError("not now")
        return original(root, archive)

    monkeypatch.setattr(zip_index, "read_directory", refused)
    images = open_yfcc(tmp_path, usable_ids=PHOTOS)
    assert images.reader.sizes(["00001000", "00000007"]).tolist() == [-1, len(packed[7])]
    monkeypatch.undo()
    assert open_yfcc(tmp_path).reader.sizes(["00001000"]).tolist() == [len(packed[1_000])]


def test_a_broken_archive_is_replaced_photo_by_photo_in_training(tmp_path):
    """A damaged archive in a set that is read as it is used: no photo changes its number, and nothing stops."""
    numbers = [*range(20), *range(1_000, 1_020), *range(2_000, 2_020)]
    write_archives(tmp_path, numbers)
    path = archive_of(tmp_path, 1_000)
    path.write_bytes(path.read_bytes()[:-30])
    images = open_yfcc(tmp_path, usable_ids=numbers)
    settings = DataConfig(resize=32, memory_gb=0.0, workers=2, max_unreadable=0.4)
    pixels = load_pixels(images, settings, 32)
    views = torch.cat(list(pixels.centre_batches(7)))
    assert pixels.unreadable == tuple(f"{n:08d}" for n in range(1_000, 1_020))
    # each photo is of its number's grey; JPEG may miss it by two levels
    shown = views.float().mean(dim=(1, 2, 3))
    greys = torch.tensor([number % 251 for number in numbers])
    assert (shown - greys)[[*range(20), *range(40, 60)]].abs().max() <= 2
    readable = greys[[*range(20), *range(40, 60)]]
    assert (shown[20:40, None] - readable).abs().min(dim=1).values.max() <= 2
    assert len(set(shown[20:40].round().tolist())) > 5  # not one neighbour twenty times


def test_the_benchmark_runs_and_records(tmp_path):
    script = ROOT / "benchmarks" / "zip_reading.py"
    sizes = ["--archives", "3", "--photos", "30", "--reads", "20", "--repeats", "2", "--output", tmp_path / "out.json"]
    done = subprocess.run([sys.executable, script, *sizes], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    records = read_records(tmp_path)
    for way in ("index", "zipfile", "index and decoding"):
        for cache in ("warm", "cold"):
            (rate,) = select(records, "images_per_second", way=way, cache=cache, statistic="median")
            assert (rate.n, rate.card.stage, rate.card.preset) == (20, "benchmark", "benchmarks")
    (size,) = select(records, "index_bytes_per_photo")
    assert size.value == (HEAD + 17 * 30) / 30
