"""Fetching public sets: all six at toy size from a server here, and what may go wrong on the way."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import resource
import shutil
import socket
import tarfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import public_archives
import pytest
import torchvision
from failing_disk import each_failure
from PIL import Image
from public_archives import CLASSES, TOYS, Server, jpeg, pack, pictures, serving, toy
from tiny_images import Interruption

from dclib.__main__ import main
from dclib.data import download as downloading
from dclib.data import fetch as fetching
from dclib.data import public_sets
from dclib.data.fetch import CARD, fetch_set
from dclib.data.landmarks import open_landmarks
from dclib.data.layouts import open_images
from dclib.data.public_sets import SETS, missing_set, place_of
from dclib.data.voc import PRESENT, open_voc
from dclib.presets import load_preset, preset_folder
from dclib.press import book
from dclib.records import read_records
from dclib.train.runnable import look_ahead


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloading, "PAUSE", 0.0)
    with serving() as found:
        yield found


def silent(line: str) -> None:
    pass


def get(wanted, place: Path, **options) -> Path:
    return fetch_set(wanted, place, report=silent, **options)


def left_in(folder: Path) -> list[str]:
    """What lies in a folder, but for what came of archives."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".download"))


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


# --- all six, opened by our loaders


def test_cifar10_is_what_torchvision_reads_in_it(server, tmp_path, monkeypatch):
    """Pictures and labels against torchvision's own reading of the same archive; PNG loses nothing."""
    place = get(toy("cifar10", server), tmp_path / "cifar10")
    (content,) = server.files.values()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(tmp_path / "plain", filter="data")
    theirs = torchvision.datasets.CIFAR10
    monkeypatch.setattr(theirs, "_check_integrity", lambda self: True)
    monkeypatch.setattr(
        theirs, "meta", theirs.meta | {"md5": md5_of(tmp_path / "plain/cifar-10-batches-py/batches.meta")}
    )
    for split in ("train", "test"):
        ours = open_images(place / f"{split}.tar")
        other = theirs(str(tmp_path / "plain"), train=split == "train")
        number = {Path(i).stem: n for n, i in enumerate(ours.ids)}
        assert ours.classes == CLASSES
        assert len(ours) == len(other) == {"train": 20, "test": 4}[split]
        for i in range(len(other)):
            picture, label = other[i]
            mine = number[f"{i:05d}"]
            assert (np.asarray(ours[mine]) == np.asarray(picture)).all()
            assert ours.labels[mine] == label


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_stl10_is_what_torchvision_reads_in_it(server, tmp_path, monkeypatch):
    place = get(toy("stl10", server), tmp_path / "stl10")
    (content,) = server.files.values()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(tmp_path / "plain", filter="data")
    monkeypatch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)
    for split in ("train", "test", "unlabeled"):
        ours = open_images(place / f"{split}.tar")
        other = torchvision.datasets.STL10(str(tmp_path / "plain"), split=split)
        number = {int(Path(i).stem): n for n, i in enumerate(ours.ids)}
        assert len(ours) == len(other)
        for i in range(len(other)):
            picture, label = other[i]
            assert (np.asarray(ours[number[i]]) == np.asarray(picture)).all()
            assert (-1 if ours.labels is None else ours.labels[number[i]]) == label
    assert open_images(place / "train.tar").classes == CLASSES
    assert open_images(place / "unlabeled.tar").labels is None
    assert (decoded_rows(place) == pictures(6, 96, 2)).all()  # and as they were drawn


def decoded_rows(place: Path) -> np.ndarray:
    return np.stack([np.asarray(image) for image in iter_images(open_images(place / "unlabeled.tar"))])


def iter_images(images):
    return (images[i] for i in range(len(images)))


def test_imagenette_keeps_its_bytes_and_classes(server, tmp_path):
    place = get(toy("imagenette", server), tmp_path / "imagenette")
    train, val = open_images(place / "train"), open_images(place / "val")
    assert train.classes == val.classes == ("n01440764", "n02102040")
    assert train.labels.tolist() == [0, 0, 1, 1]
    for i, shade in enumerate((100, 101, 150, 151)):
        assert train.reader.read(train.ids[i]) == jpeg(shade)
    assert left_in(place) == [CARD, "train", "val"]


def test_voc2007_is_one_tree_without_masks(server, tmp_path):
    place = get(toy("voc2007", server), tmp_path / "VOC2007")
    trainval, test = open_voc(place, "trainval"), open_voc(place, "test")
    assert (list(trainval.images.ids), list(test.images.ids)) == (["000005", "000007"], ["000001"])
    assert [np.flatnonzero(row == PRESENT).tolist() for row in trainval.labels] == [[5], [7]]
    assert (np.asarray(test.images[0]) == decoded(jpeg(20))).all()
    assert left_in(place) == ["Annotations", "ImageSets", "JPEGImages", CARD]


@pytest.mark.parametrize("city", ["oxford5k", "paris6k"])
def test_landmarks_lie_flat_beside_their_ground_truth(server, tmp_path, city):
    place = get(toy(city, server), tmp_path / city)
    images, truth = open_landmarks(place)
    (query,) = truth.queries
    assert truth.images == tuple(f"{city}_hall_{i:06d}" for i in range(3))
    assert (query.image, query.box) == (f"{city}_hall_000000", (1.0, 2.0, 30.0, 35.0))
    assert query.positives == {f"{city}_hall_000000", f"{city}_hall_000001"}
    assert all((np.asarray(images[i]) == decoded(jpeg(60 * i + 60))).all() for i in range(3))
    assert left_in(place) == [CARD, "groundtruth", "jpg"]


@pytest.mark.parametrize("name", TOYS)
def test_a_set_says_where_it_came_from_and_is_left_alone_the_next_time(server, tmp_path, name):
    wanted = toy(name, server)
    place = get(wanted, tmp_path / wanted.folder)
    card = json.loads((place / CARD).read_text())
    for archive in card["archives"]:
        content = server.files[archive["name"]]
        assert (archive["bytes"], archive["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert archive["from"] == f"{server.address}/{archive['name']}"
        assert ("no checksum" in archive["checked"]) == (name in ("oxford5k", "paris6k"))
    assert card["counts"] == TOYS[name][1]
    assert os.listdir(tmp_path) == [wanted.folder]  # the archives are gone
    server.asked.clear()
    before = sorted((path, path.stat().st_mtime_ns) for path in place.rglob("*"))
    said: list[str] = []
    fetch_set(wanted, place, report=said.append)
    assert said == [f"{wanted.title} is in {place}, fetched {card['fetched'][:10]}"]
    assert server.asked == []
    assert sorted((path, path.stat().st_mtime_ns) for path in place.rglob("*")) == before


def test_all_is_told_before_anything_is_written(server, tmp_path):
    wanted = toy("stl10", server)
    said: list[str] = []

    def stop_at_the_end_of_it(line: str) -> None:
        said.append(line)
        if "are free" in line:
            raise Interruption

    with pytest.raises(Interruption):
        fetch_set(wanted, tmp_path / "stl10", report=stop_at_the_end_of_it)
    assert os.listdir(tmp_path) == server.asked == []
    whole = "\n".join(said)
    for part in (wanted.title, wanted.terms, server.address, str(tmp_path / "stl10"), "MB of archives", "MD5"):
        assert part in whole


# --- connections


@pytest.mark.parametrize("name", ["stl10", "oxford5k"])
def test_a_cut_connection_goes_on_where_it_was(server, tmp_path, name):
    wanted = toy(name, server)
    first, *_ = server.files
    server.cuts = [300, 200]
    get(wanted, tmp_path / name)
    ranges = [asked for path, asked in server.asked if path == f"/{first}"]
    assert ranges == ["", "bytes=300-", "bytes=500-"]


def test_a_server_that_cannot_go_on_begins_anew(server, tmp_path):
    wanted = toy("stl10", server)
    server.cuts, server.knows_ranges = [1000], False
    place = get(wanted, tmp_path / "stl10")
    assert [asked for _, asked in server.asked] == ["", "bytes=1000-"]
    assert (decoded_rows(place) == pictures(6, 96, 2)).all()


def test_the_next_call_goes_on_also_from_a_mirror(server, tmp_path):
    wanted = toy("stl10", server)
    place, (name,) = tmp_path / "stl10", server.files
    server.cuts = [1000, 0]
    with pytest.raises(OSError, match=r"after 1,000 bytes of stl10_binary\.tar\.gz, which are kept.*fetch stl10"):
        get(wanted, place)
    assert left_in(tmp_path) == []
    server.asked.clear()
    with serving() as mirror:
        mirror.files = server.files
        get(wanted, place, source=f"{mirror.address}/copies/")
        assert (server.asked, mirror.asked) == ([], [(f"/copies/{name}", "bytes=1000-")])


def test_without_a_checksum_only_the_same_version_is_gone_on_with(server, tmp_path):
    """The parts of two versions must never be one file: there is nothing that would tell."""
    wanted = toy("oxford5k", server)
    first = next(iter(server.files))
    server.cuts = [300, 0]
    with pytest.raises(OSError, match="after 300 bytes"):
        get(wanted, tmp_path / "oxford5k")
    server.version, server.files[first] = '"2"', pack({f"oxford5k_hall_00000{i}.jpg": jpeg(9) for i in range(3)})
    images, _ = open_landmarks(get(wanted, tmp_path / "oxford5k"))
    assert (np.asarray(images[1]) == decoded(jpeg(9))).all()


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, tmp_path):
    wanted = toy("stl10", server)
    (name,) = server.files
    waiting = tmp_path / ".stl10.download"
    waiting.mkdir()
    (waiting / f"{name}.part").write_bytes(bytes(len(server.files[name]) + 1))
    get(wanted, tmp_path / "stl10")
    assert len(server.asked) == 2


def test_a_whole_part_is_asked_for_no_more(server, tmp_path):
    """Killed between the last byte and the new name."""
    wanted = toy("stl10", server)
    (name,) = server.files
    waiting = tmp_path / ".stl10.download"
    waiting.mkdir()
    (waiting / f"{name}.part").write_bytes(server.files[name])
    place = get(wanted, tmp_path / "stl10")
    assert (decoded_rows(place) == pictures(6, 96, 2)).all()


@pytest.mark.parametrize(("status", "says"), [(404, "answers 404 .*--from"), (503, "answers 503 .*run again later")])
def test_a_server_without_the_file_is_named(server, tmp_path, status, says):
    wanted = toy("cifar10", server)
    server.status = status
    with pytest.raises((ValueError, OSError), match=says):
        get(wanted, tmp_path / "cifar10")
    assert left_in(tmp_path) == []


def test_without_a_network_it_says_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(OSError, match="cannot reach www.cs.toronto.edu .*unreachable.*python -m dclib fetch cifar10"):
        get(SETS["cifar10"], tmp_path / "cifar10")
    assert os.listdir(tmp_path) == []


def unreachable(*_: object, **__: object) -> None:
    raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))


# --- what is wrong is never taken for a set


def test_a_wrong_checksum_is_refused_and_fetched_anew(server, tmp_path):
    wanted = toy("cifar10", server)
    (name,) = server.files
    good = server.files[name]
    server.files[name] = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(ValueError, match=r"published MD5 [0-9a-f]{32}, got [0-9a-f]{32} .* from http://127"):
        get(wanted, tmp_path / "cifar10")
    assert left_in(tmp_path) == []
    server.files[name] = good
    assert len(open_images(get(wanted, tmp_path / "cifar10") / "test.tar")) == 4


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(20) + content[middle + 20 :]


def cut(content: bytes) -> bytes:
    return content[:-30]


def of_another_sum(content: bytes) -> bytes:
    """All files in it are there; the checksum at the end of a .gz is another one."""
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


def a_page(content: bytes) -> bytes:
    return b"<html>sign in</html>"


@pytest.mark.parametrize("damage", [cut, damaged, of_another_sum, a_page])
def test_a_damaged_archive_without_a_checksum_is_refused_and_fetched_anew(server, tmp_path, damage):
    wanted = toy("oxford5k", server)
    first = next(iter(server.files))
    good = server.files[first]
    server.files[first] = damage(good)
    with pytest.raises(ValueError, match="need whole archives of Oxford Buildings.*fetch them again"):
        get(wanted, tmp_path / "oxford5k")
    assert left_in(tmp_path) == []
    server.files[first] = good
    get(wanted, tmp_path / "oxford5k")


def test_an_archive_with_too_few_images_is_no_set(server, tmp_path):
    wanted = toy("stl10", server, public_archives.stl10(unlabeled=5))
    with pytest.raises(ValueError, match="need unlabeled 6, train 4, test 4 in STL-10, got unlabeled 5, train 4"):
        get(replace(wanted, counts={"unlabeled": (6,), "train": (4,), "test": (4,)}), tmp_path / "stl10")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("../../outside.jpg", tarfile.REGTYPE, "leads out of its folder"),
        ("/outside.jpg", tarfile.REGTYPE, "leads out of its folder"),
        ("a/inside.jpg", tarfile.SYMTYPE, "a link or a device"),
        ("a/inside.jpg", tarfile.LNKTYPE, "a link or a device"),
        ("a/inside.jpg", tarfile.FIFOTYPE, "a link or a device"),
    ],
)
def test_nothing_is_unpacked_outside_or_through_a_link(server, tmp_path, name, kind, says):
    wanted = toy("oxford5k", server)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    server.files["oxbuild_images-v1.tgz"] = packed.getvalue()
    inner = tmp_path / "a" / "b"
    with pytest.raises(ValueError, match=f"{says}.*is not unpacked"):
        get(wanted, inner / "oxford5k")
    assert left_in(inner) == []
    assert os.listdir(tmp_path) == ["a"]


def test_a_pickle_that_would_run_code_is_refused(server, tmp_path):
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "harm"),)

    import pickle

    files = {"cifar-10-batches-py/batches.meta": pickle.dumps({"label_names": Harmful()})}
    wanted = toy("cifar10", server, {"cifar-10-python.tar.gz": pack(files)})
    with pytest.raises(ValueError, match=r"asks for \w+\.mkdir, and only arrays are read"):
        get(wanted, tmp_path / "cifar10")
    assert left_in(tmp_path) == []


def test_what_else_is_in_the_place_is_left_alone(server, tmp_path):
    wanted, place = toy("cifar10", server), tmp_path / "cifar10"
    place.mkdir()
    (place / "train.tar").touch()
    with pytest.raises(ValueError, match="is there already and was not fetched"):
        get(wanted, place)
    assert (os.listdir(place), server.asked) == (["train.tar"], [])
    (place / "train.tar").unlink()
    get(wanted, place)  # an empty folder is a place
    (place / "test.tar").write_bytes(b"less")
    with pytest.raises(ValueError, match=r"there test\.tar has changed since it was fetched: move it away"):
        get(wanted, place)
    with pytest.raises(ValueError, match="need STL-10 in .*cifar10, and there holds cifar10"):
        get(toy("stl10", server), place)


# --- disks and kills


def test_a_disk_without_room_is_told_before_anything_is_written(server, tmp_path, monkeypatch):
    wanted = replace(toy("stl10", server), disk_bytes=3_000_000_000)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**10, 0, 3_000_000_000))
    with pytest.raises(OSError, match=r"need 3\.54 GB free at .* for STL-10, got 3\.00 GB: .*--to"):
        get(wanted, tmp_path / "deep" / "stl10")
    assert os.listdir(tmp_path) == server.asked == []


@pytest.mark.parametrize("name", ["cifar10", "oxford5k"])
def test_a_full_disk_is_one_sentence_and_leaves_no_set(server, tmp_path, name):
    """Full at each write, one after the other: nothing has the name of the set until it is whole, and then it is."""
    wanted = toy(name, server)
    place = tmp_path / wanted.folder
    for failure in each_failure(lambda: get(wanted, place), tmp_path):
        assert not place.exists()
        assert str(failure).startswith("could not")
        assert "No space left" in str(failure)
    assert left_in(place) == left_in(get(wanted, place))


def test_a_disk_that_fills_on_the_way_keeps_what_came(server, tmp_path):
    """A limit of this process on the size of a file is refused by the system as a full disk is."""
    wanted = toy("stl10", server)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"could not write .*: File too large; what came is kept.*--to"):
            get(wanted, tmp_path / "stl10")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    server.asked.clear()
    get(wanted, tmp_path / "stl10")
    assert [asked for _, asked in server.asked] == ["bytes=200000-"]


def test_killed_between_unpacking_and_moving_it_goes_on(server, tmp_path):
    """The child is gone without a word before the set gets its name; the next call fetches nothing again."""
    wanted, place = toy("voc2007", server), tmp_path / "VOC2007"
    if (child := os.fork()) == 0:
        fetching._write_card = lambda *_: os._exit(7)
        get(wanted, place)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not place.exists()
    server.asked.clear()
    get(wanted, place)
    assert server.asked == []
    assert os.listdir(tmp_path) == ["VOC2007"]  # what the dead one had unpacked is gone too


def test_two_that_fetch_the_same_at_once_fetch_it_once(server, tmp_path):
    wanted, place = toy("stl10", server), tmp_path / "stl10"
    with ThreadPoolExecutor(2) as both:
        assert list(both.map(lambda _: get(wanted, place), range(2))) == [place, place]
    assert len(server.asked) == 1
    assert os.listdir(tmp_path) == ["stl10"]


# --- from elsewhere


def test_archives_that_are_here_are_read_where_they_are(server, tmp_path):
    archives = tmp_path / "archives"
    archives.mkdir()
    wanted = toy("voc2007", server)
    with pytest.raises(ValueError, match=r"need VOCtrainval_06-Nov-2007\.tar at .*archives"):
        get(wanted, tmp_path / "VOC2007", source=str(archives))
    for name, content in server.files.items():
        (archives / name).write_bytes(content)
    get(wanted, tmp_path / "VOC2007", source=archives.as_uri())
    assert server.asked == []
    assert len(os.listdir(archives)) == 2
    with pytest.raises(ValueError, match="need 2 archives, .* alone: give their folder"):
        get(wanted, tmp_path / "again", source=str(archives / name))


def test_one_file_may_be_given_whatever_it_is_called(server, tmp_path):
    wanted = toy("cifar10", server)
    (tmp_path / "mine.tgz").write_bytes(next(iter(server.files.values())))
    get(wanted, tmp_path / "cifar10", source=str(tmp_path / "mine.tgz"))
    assert server.asked == []
    (tmp_path / "mine.tgz").write_bytes(b"other")
    with pytest.raises(ValueError, match="got .* from .*mine.tgz"):
        get(wanted, tmp_path / "other", source=str(tmp_path / "mine.tgz"))
    assert (tmp_path / "mine.tgz").exists()  # it is the user's


def test_torchvision_has_an_address_and_a_checksum_for_four_of_them():
    for name in ("cifar10", "stl10", "imagenette", "voc2007"):
        for archive in SETS[name].archives():
            assert archive.url.startswith("http")
            assert len(archive.md5) == 32
    assert SETS["imagenette"].archives()[0].name == "imagenette2-160.tgz"
    names = [archive.name for archive in SETS["voc2007"].archives()]
    assert names == ["VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"]


# --- presets and the command line


@pytest.fixture
def project(server, tmp_path, monkeypatch):
    """A project without images, whose sets are tiny and on the server: the six, one after the other."""
    root = tmp_path / "project"
    (root / "notebooks").mkdir(parents=True)
    (root / "notebooks" / "presets").symlink_to(preset_folder())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCLIB_ROOT", str(root))
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    return root


def serve(name: str, server: Server, monkeypatch, files=None) -> None:
    monkeypatch.setattr(public_sets, "SETS", {**SETS, name: toy(name, server, files)})


@pytest.mark.parametrize("name", ["cifar10", "stl10", "imagenette"])
def test_a_preset_looks_where_fetch_puts_its_set(project, name):
    for preset in sorted(preset_folder().glob(f"{name}*.yaml")):
        if preset.stem != "imagenette112_gpu":
            assert missing_set(load_preset(preset.stem).data).name == name
    assert place_of(name) == project / "data" / name
    place_of(name).mkdir(parents=True)
    assert missing_set(load_preset(name).data) is None
    assert missing_set(load_preset("folder").data) is None


@pytest.mark.parametrize("command", ["run", "pretrain --method rotnet", "probe --method rotnet", "plan"])
def test_a_command_without_its_images_says_how_to_get_them(project, capsys, command):
    assert main([*command.split(), "--preset", "cifar10"]) == 2
    said = capsys.readouterr().err
    assert "make fetch SET=cifar10 (python -m dclib fetch cifar10)" in said
    assert said.count("\n") == 1
    assert not (project / "data").exists()


def test_fetch_lists_what_there_is_and_gets_it(project, server, monkeypatch, capsys):
    serve("cifar10", server, monkeypatch)
    assert main(["fetch"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in SETS)
    assert said.count("would lie in") == len(SETS)
    assert main(["fetch", "cifar10", "--to", "elsewhere"]) == 0
    assert sorted(os.listdir("elsewhere/cifar10")) == [CARD, "test.tar", "train.tar"]
    assert main(["fetch", "cifar11"]) == 2
    assert "need one of cifar10, stl10, imagenette, voc2007, oxford5k, paris6k" in capsys.readouterr().err


def test_a_book_fetches_what_its_preset_lacks(project, server, monkeypatch, capsys):
    serve("stl10", server, monkeypatch)
    asked: list[str] = []
    monkeypatch.setattr(book, "run_preset", lambda name, **_: asked.append(name) or {})
    monkeypatch.setattr(book.Wanted, "build", lambda self: Path("index.html"))
    book.make_book(book.Wanted("stl10", out=str(project / "out")))
    assert asked == ["stl10"]
    assert sorted(os.listdir(project / "data" / "stl10")) == [CARD, "test.tar", "train.tar", "unlabeled.tar"]
    assert "non-commercial" in capsys.readouterr().out
    shutil.rmtree(project / "data")
    server.status = 404
    with pytest.raises(ValueError, match="answers 404"):
        book.make_book(book.Wanted("stl10", out=str(project / "out")))
    book.make_book(book.Wanted("stl10", data="elsewhere", out=str(project / "out")))  # as it was asked for
    assert asked == ["stl10", "stl10"]


TINY = {
    "model.width": 0.0625,
    "model.hidden_dim": 16,
    "model.feature_dim": 16,
    "cluster.n_sub": 2,
    "cluster.pca_dim": 4,
    "train.epochs": 1,
    "train.batch_size": 8,
    "probe.epochs": 1,
}


@pytest.mark.parametrize(
    ("name", "files", "counts"),
    [
        ("cifar10", public_archives.cifar10(6), {"pool": 30, "objects_train": 30, "objects_test": 6}),
        ("stl10", public_archives.stl10(6, 30), {"pool": 30, "objects_train": 6, "objects_test": 6}),
        ("imagenette", public_archives.imagenette(15), {"pool": 30, "objects_train": 30, "objects_test": 2}),
    ],
)
def test_a_preset_trains_and_is_probed_on_what_fetch_wrote(project, server, monkeypatch, capsys, name, files, counts):
    """With the sets for evaluation below it, as ``--to`` puts them there."""
    wanted = toy(name, server, files)
    get(replace(wanted, counts=COUNTS[name]), place_of(name))
    for other in ("voc2007", "oxford5k", "paris6k"):
        get(toy(other, server), place_of(other, place_of(name)))
    outlook = look_ahead(load_preset(name, TINY))
    assert outlook.counts == counts
    assert outlook.n_classes == 2
    assert not {"voc", "retrieval", "linear_probes", "pretraining_supervised"} & outlook.left_out.keys()
    settings = [f"--set={key}={value}" for key, value in TINY.items()]
    assert main(["plan", "--preset", name, "--gpu", "h100", "--method", "deepercluster", *settings]) == 0
    for command in ("pretrain", "probe"):
        assert main([command, "--preset", name, "--method", "deepercluster", *settings]) == 0
    (probed,) = read_records(project.parent / "runs" / name / "records" / "linear_probe")[:1]
    assert probed.card.preset == name


COUNTS = {
    "cifar10": {"train": (30,), "test": (6,)},
    "stl10": {"unlabeled": (30,), "train": (6,), "test": (6,)},
    "imagenette": {"train": (30,), "val": (2,)},
}
