"""Records: what is written is what is read, never half, never NaN; and hashes of code that runs alike."""

import ast
import dataclasses
import errno
import fcntl
import json
import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from dclib import records as module
from dclib.records import (
    Record,
    RunCard,
    code_hash,
    installed_versions,
    protocol_hash,
    read_records,
    replacing_folder,
    select,
    source_commit,
    write_atomically,
    write_records,
)


def make_card(**changes) -> RunCard:
    values = {"stage": "pretrain", "preset": "p", "method": "rotnet", "seed": 0, "config_hash": "c", "data_hash": "d"}
    return RunCard(**{**values, "code_hash": "h", "device": "cpu (1 threads)", "seconds": 1.5, **changes})


def make_record(value: float = 1.0, name: str = "top1", card: RunCard | None = None, **keys) -> Record:
    return Record(name=name, value=value, unit="%", n=10, keys=keys, card=card)


# --- files


def test_what_is_written_is_read_back(tmp_path):
    card = make_card(config={"train": {"lr": 0.1}}, notes={"backend": "torch"})
    written = [make_record(0.1 + 0.2, layer=3, dataset="objects"), make_record(1e-300, "loss", epoch=1)]
    write_records(tmp_path / "deep" / "a.json", card, written)
    found = read_records(tmp_path)
    assert [dataclasses.replace(r, card=None) for r in found] == written  # floats to the last bit
    assert found[0].card == card
    assert card.created.endswith("+00:00")
    assert card.versions["python"].count(".") == 2


def test_a_record_carries_the_protocol_as_it_was_when_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    write_records(tmp_path / "a.json", make_card(), [make_record()])
    (tmp_path / "results" / "p").mkdir(parents=True)
    (tmp_path / "results" / "p" / "PROTOCOL.md").write_text("two seeds")
    write_records(tmp_path / "b.json", make_card(), [make_record()])
    write_records(tmp_path / "c.json", make_card(preset="q"), [make_record()])
    settled = protocol_hash("p")
    (tmp_path / "results" / "p" / "PROTOCOL.md").write_text("three seeds")
    write_records(tmp_path / "d.json", make_card(), [make_record()])
    assert settled
    assert protocol_hash("p") not in ("", settled)
    assert [r.card.protocol for r in read_records(tmp_path)] == ["", settled, "", protocol_hash("p")]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_card_names_the_commit_of_the_source_and_whether_it_was_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "dclib" / "records.py"))
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.delenv("DCLIB_COMMIT", raising=False)
    (tmp_path / "dclib").mkdir()
    (tmp_path / "dclib" / "records.py").write_text("a = 1")

    def commit() -> str:
        source_commit.cache_clear()
        return make_card().commit

    assert commit() == ""  # no history
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert head.startswith(commit())
    assert len(commit()) >= 10
    (tmp_path / "notes.txt").write_text("not of the library")
    assert head.startswith(commit())
    (tmp_path / "dclib" / "records.py").write_text("a = 2")
    assert commit() == f"{head[:10]}-changed"
    monkeypatch.setattr(module, "RESULTS", tmp_path / "dclib" / "results")  # a copy inside of another project
    assert commit() == ""
    monkeypatch.setenv("DCLIB_COMMIT", "told")
    assert commit() == "told"
    source_commit.cache_clear()


def test_a_record_of_before_commits_were_kept_has_none(tmp_path):
    write_records(tmp_path / "a.json", make_card(), [make_record()])
    content = json.loads((tmp_path / "a.json").read_text())
    content["card"] = {key: value for key, value in content["card"].items() if key not in ("commit", "protocol")}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (record,) = read_records(tmp_path)
    assert (record.card.commit, record.card.protocol) == ("", "")


def test_files_are_read_in_order_of_their_paths(tmp_path):
    for name in ("b.json", "a/z.json", "a.json"):
        write_records(tmp_path / name, make_card(method=name), [make_record()])
    assert [r.card.method for r in read_records(tmp_path)] == ["a/z.json", "a.json", "b.json"]
    assert read_records(tmp_path / "none") == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused_and_nothing_is_written(tmp_path, value):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match=r"record 'loss' \{'epoch': 2\} must be finite"):
        write_records(path, make_card(), [make_record(), make_record(value, "loss", epoch=2)])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_holds_no_records_is_named(tmp_path):
    (tmp_path / "other.json").write_text('{"card": {}}')
    with pytest.raises(ValueError, match=r"other\.json is not a records file"):
        read_records(tmp_path)


def test_a_failing_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=r"a\.json: No space left on device; the last complete version"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]  # and no half of a new one


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_target_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path):
    folder = tmp_path / "a.json"
    folder.mkdir()
    with pytest.raises(OSError, match="could not write"):
        write_atomically(folder, b"new")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"could not make the folder .*choose a folder that can be written .*DCLIB_RUNS"):
        write_atomically(tmp_path / "file" / "a.json", b"new")


def test_writing_replaces_and_others_may_read(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, b"first, and longer")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_records_file_is_plain_json(tmp_path):
    write_records(tmp_path / "a.json", make_card(), [make_record(2.5, layer=1)])
    content = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)  # no NaN anywhere
    assert content["records"] == [{"name": "top1", "value": 2.5, "unit": "%", "n": 10, "keys": {"layer": 1}}]
    assert content["card"]["method"] == "rotnet"


# --- choosing and averaging


def test_select_by_name_keys_and_card():
    found = [
        make_record(1.0, card=make_card(seed=0), layer=1),
        make_record(2.0, card=make_card(seed=1), layer=1),
        make_record(3.0, card=make_card(seed=1), layer=2),
        make_record(4.0, "loss", card=make_card(seed=1), layer=2),
        make_record(5.0, layer=2),  # fresh, without a card
    ]
    assert [r.value for r in select(found, "top1")] == [1.0, 2.0, 3.0, 5.0]
    assert [r.value for r in select(found, "top1", layer=2)] == [3.0, 5.0]
    assert [r.value for r in select(found, "top1", seed=1, layer=2, method="rotnet")] == [3.0]
    assert select(found, "top1", dataset="objects") == []


def test_a_records_own_key_wins_over_its_card():
    found = [make_record(card=make_card(method="rotnet"), method="deepercluster")]
    assert select(found, "top1", method="deepercluster") == found
    assert select(found, "top1", method="rotnet") == []


# --- code


SOURCE = '''"""A module."""

SIZE = 3  # pixels


def double(x):
    """Twice x."""
    return 2 * x


class Box:
    """Holds nothing."""
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two rooms in the place of dclib; gives a function that hashes it after writing a file."""
    monkeypatch.setattr(module, "__file__", str(tmp_path / "records.py"))

    def write_and_hash(text: str = SOURCE, *rooms: str, name: str = "models/vgg.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return code_hash.__wrapped__(*rooms)  # past the cache

    write_and_hash(name="cluster/kmeans.py")
    write_and_hash(name="config.py")
    return write_and_hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # pixels", ""),
        ('    """Twice x."""\n', ""),
        ('"""A module."""', '"""Another\n\ntext."""'),
        ("2 * x", "(2\n    * x)"),
        ("\n\n\ndef", "\n\n\n# a note\ndef"),
        ('    """Holds nothing."""', "    pass"),
    ],
)
def test_comments_docstrings_and_layout_do_not_change_the_hash(package, old, new):
    before = package()
    assert SOURCE.replace(old, new) != SOURCE
    assert package(SOURCE.replace(old, new)) == before


@pytest.mark.parametrize(
    ("old", "new"), [("SIZE = 3", "SIZE = 4"), ("2 * x", "x * 2"), ("double", "twice"), ("return", "x = 1\n    return")]
)
def test_code_changes_the_hash(package, old, new):
    before = package()
    assert package(SOURCE.replace(old, new)) != before


def test_a_string_that_is_no_docstring_counts(package):
    assert package('NAME = "a"\n') != package('NAME = "b"\n')


def test_only_the_named_rooms_count(package):
    before = {rooms: package(SOURCE, *rooms) for rooms in [(), ("models",), ("models/vgg",), ("cluster", "config")]}
    after = {rooms: package(SOURCE + "X = 1\n", *rooms) for rooms in before}
    changed = {rooms for rooms in before if before[rooms] != after[rooms]}
    assert changed == {(), ("models",), ("models/vgg",)}
    assert package(SOURCE, "models", "config") == package(SOURCE, "config", "models")


def test_which_python_reads_it_does_not_change_the_hash(package, monkeypatch):
    before = package()
    for kind in (ast.FunctionDef, ast.ClassDef):  # as from Python 3.12 on
        monkeypatch.setattr(kind, "_fields", (*kind._fields, "parameters_of_types"))
        monkeypatch.setattr(kind, "parameters_of_types", [], raising=False)
    assert package() == before
    monkeypatch.setattr(ast.FunctionDef, "parameters_of_types", ["T"])
    assert package() != before


def test_where_a_file_stands_counts(package, tmp_path):
    before = package()
    (tmp_path / "models" / "vgg.py").rename(tmp_path / "models" / "vgg16.py")
    assert code_hash.__wrapped__() != before


def test_a_room_that_is_not_there_is_refused(package):
    with pytest.raises(ValueError, match="modles"):
        package(SOURCE, "models", "modles")


def test_the_hash_of_this_package_is_twelve_digits_and_cached():
    assert len(code_hash("models")) == 12
    assert int(code_hash("models"), 16) >= 0
    assert code_hash("models") != code_hash("cluster")
    assert code_hash("models") is code_hash("models")


def test_versions_name_what_can_change_a_number():
    versions = installed_versions()
    assert {"python", "torch", "numpy", "pillow"} <= versions.keys()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_written_all_the_same(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    leftover = tmp_path / ".a.json.other.partial"
    leftover.touch()
    write_atomically(tmp_path / "a.json", b"1")
    with replacing_folder(tmp_path / "b") as new:
        (new / "c").touch()
    assert (tmp_path / "a.json").read_bytes() == b"1"
    assert (tmp_path / "b" / "c").exists()
    assert leftover.exists()  # nobody knows whether its writer lives


def test_a_folder_whose_replacement_was_killed_between_two_renames_comes_back(tmp_path):
    killed = tmp_path / ".book.killed.partial"
    (killed / "old0").mkdir(parents=True)
    (killed / "old0" / "page").touch()
    (killed / "new").mkdir()
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "book"):
        1 / 0  # noqa: B018
    assert [path.name for path in tmp_path.iterdir()] == ["book"]
    assert (tmp_path / "book" / "page").exists()


def test_a_folder_that_can_be_put_neither_in_place_nor_back_is_kept_for_the_next_writer(tmp_path, monkeypatch):
    folder = tmp_path / "book"
    with replacing_folder(folder) as new:
        (new / "page").write_text("old")
    rename, renamed = Path.rename, []

    def rename_once(path: Path, target: Path) -> Path:
        renamed.append(path)
        if len(renamed) > 1:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return rename(path, target)

    with monkeypatch.context() as broken:
        broken.setattr(module, "_exchanged", lambda one, other: False)  # as where names cannot be exchanged
        broken.setattr(Path, "rename", rename_once)
        with pytest.raises(OSError, match="could not write .*book: Read-only file system"), replacing_folder(folder):
            pass
    assert not folder.exists()
    with pytest.raises(KeyError), replacing_folder(folder):
        raise KeyError
    assert (folder / "page").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_new_folder_that_another_writer_takes_for_a_leftover_is_made_anew(tmp_path, monkeypatch):
    make, made = tempfile.mkdtemp, []

    def make_and_lose(**options: str) -> str:
        made.append(make(**options))
        if len(made) == 1:
            module._remove_leftovers(tmp_path / "book")  # what another does that comes before it is locked
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    with replacing_folder(tmp_path / "book") as new:
        (new / "page").write_text("whole")
    assert len(made) == 2
    assert (tmp_path / "book" / "page").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [tmp_path / "book"]
