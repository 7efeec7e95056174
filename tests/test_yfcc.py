"""YFCC100M's archives against the zipfile module, and its metadata on real lines."""

import bz2
import gc
import hashlib
import io
import math
import multiprocessing
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zip_archives import archive_of, write_archives

from dclib.data import yfcc
from dclib.data.images import UnreadableImageError
from dclib.data.layouts import open_images
from dclib.data.yfcc import ZipReader, is_yfcc, open_yfcc
from dclib.data.yfcc_metadata import parse_metadata, read_metadata

PHOTOS = [7, 999, 1_000, 12_345_678, 12_345_000, 12_346_001, 99_999_999]


def digest(images, index: int) -> str:
    return hashlib.sha256(images[index].tobytes()).hexdigest()


def open_archives() -> int:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc to see which files are open")
    return sum(os.readlink(link).endswith(".zip") for link in folder.iterdir() if link.exists())


# --- reading


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bytes_are_those_that_zipfile_reads(tmp_path, method):
    write_archives(tmp_path, PHOTOS, method=method, notes=b"no photo")
    images = open_yfcc(tmp_path)
    assert list(images.ids) == sorted(f"{n:08d}" for n in PHOTOS)
    for i, digits in enumerate(images.ids):
        with zipfile.ZipFile(tmp_path / digits[:2] / f"{digits[2:5]}.zip") as archive:
            expected = archive.read(f"{digits[5:]}.jpg")
        assert images.reader.read(digits) == expected
        assert images.reader.sizes([digits]).tolist() == [len(expected)]
        assert abs(images[i].getpixel((3, 3))[0] - int(digits) % 251) <= 2  # JPEG


def test_extra_fields_in_the_local_header_are_skipped(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 77).save(buffer, "jpeg")
    (tmp_path / "00").mkdir()
    with zipfile.ZipFile(tmp_path / "00" / "000.zip", "w") as archive:
        with archive.open("005.jpg", "w", force_zip64=True) as member:  # its sizes go into an extra field
            member.write(buffer.getvalue())
        entry = zipfile.ZipInfo("006.jpg")
        entry.extra = b"\xfe\xca\x04\x00abcd"
        archive.writestr(entry, buffer.getvalue())
    images = open_yfcc(tmp_path)
    assert [images.reader.read(i) for i in images.ids] == [buffer.getvalue()] * 2


def test_sizes_come_in_the_order_asked(tmp_path):
    packed = write_archives(tmp_path, PHOTOS)
    order = [PHOTOS[i] for i in (3, 0, 6, 4, 3, 1)]
    reader = ZipReader(tmp_path)
    assert reader.sizes([f"{n:08d}" for n in order]).tolist() == [len(packed[n]) for n in order]
    assert reader.sizes(["00000008", "00000007"]).tolist() == [-1, len(packed[7])]
    assert reader.sizes([]).tolist() == []


def test_set_is_recognised_by_its_archives(tmp_path):
    assert not is_yfcc(tmp_path)
    assert not is_yfcc(tmp_path / "nowhere")
    for name in ("00/cats.zip", "abc/000.zip", "000/000.zip", "00/000.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert not is_yfcc(tmp_path)
    write_archives(tmp_path, PHOTOS)
    assert is_yfcc(tmp_path)
    images = open_images(tmp_path, name="pool")
    assert (images.name, len(images), images.labels) == ("pool", len(PHOTOS), None)


# --- handles, indexes, processes


def test_directory_of_an_archive_is_read_once(tmp_path, monkeypatch):
    write_archives(tmp_path, list(range(2_500)))
    opened = []
    original = yfcc.zipfile.ZipFile
    monkeypatch.setattr(yfcc.zipfile, "ZipFile", lambda path, *a: opened.append(path) or original(path, *a))
    images = open_yfcc(tmp_path)
    _ = images.fingerprint, [images[i] for i in range(0, 2_500, 7)], images.subset([3, 2_400]).fingerprint
    assert len(opened) == len(set(opened)) == 3


def test_few_archives_are_open_at_once(tmp_path):
    write_archives(tmp_path, [1_000 * i for i in range(20)])
    gc.collect()
    others = open_archives()  # of tests before this one
    reader = ZipReader(tmp_path, max_open=4)
    for i in [*range(20), *range(20)]:
        reader.read(f"{1_000 * i:08d}")
        assert open_archives() - others <= 4
    assert open_archives() - others == 4
    del reader
    assert open_archives() == others


def test_archive_in_use_is_not_the_one_closed(tmp_path, monkeypatch):
    write_archives(tmp_path, [0, 1_000, 2_000])
    opened = []
    original = yfcc.OpenFile
    monkeypatch.setattr(yfcc, "OpenFile", lambda path: opened.append(path.name) or original(path))
    reader = ZipReader(tmp_path, max_open=2)
    for archive in (0, 1, 0, 2, 0, 1):
        reader.read(f"{1_000 * archive:08d}")
    # 2 pushes out 1, which was used before 0 was; then 1 pushes out 2
    assert opened == ["000.zip", "001.zip", "002.zip", "001.zip"]
    with pytest.raises(ValueError, match="max_open >= 1"):
        ZipReader(tmp_path, max_open=0)


def test_pickled_set_is_small_and_reads_the_same(tmp_path):
    write_archives(tmp_path, PHOTOS)
    images = open_yfcc(tmp_path)
    expected = [digest(images, i) for i in range(len(PHOTOS))]
    pickled = pickle.dumps(images)
    assert len(pickled) < 2_000  # neither handles nor indexes, 21 kB each, go along
    copy = pickle.loads(pickled)
    assert [digest(copy, i) for i in range(len(PHOTOS))] == expected
    assert copy.fingerprint == images.fingerprint


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_read_one_set(tmp_path, start):
    write_archives(tmp_path, [n * 250 for n in range(40)])
    images = open_yfcc(tmp_path)
    expected = [digest(images, i) for i in range(40)]  # handles are open before the workers start
    assert len(set(expected)) == 40
    with multiprocessing.get_context(start).Pool(2) as pool:
        found = pool.map(partial(digest, images), list(range(40)) * 5, chunksize=5)
    assert found == expected * 5


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_process_opens_its_own_file_and_leaves_the_parents_alone(tmp_path, monkeypatch):
    write_archives(tmp_path, [5])
    openers = []
    original = yfcc.OpenFile
    monkeypatch.setattr(yfcc, "OpenFile", lambda path: openers.append(os.getpid()) or original(path))
    images = open_yfcc(tmp_path)
    _ = images[0], images[0]
    assert openers == [os.getpid()]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # no pickling in between: the child has the very object
        _ = images[0], images[0]
        os.write(write, repr(openers).encode())
        os._exit(0)
    os.waitpid(child, 0)
    found = os.read(read, 100).decode()
    os.close(read), os.close(write)
    assert found == repr([os.getpid(), child])
    assert images[0].size == (8, 8)


def test_threads_may_share_a_reader(tmp_path):
    write_archives(tmp_path, [1_000 * i for i in range(16)])
    images = open_yfcc(tmp_path)
    images.reader.__init__(tmp_path, max_open=2)  # archives are closed under the threads all the time
    expected = [digest(images, i) for i in range(16)]
    order = np.random.default_rng(0).integers(0, 16, 1_000).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(partial(digest, images), order)) == [expected[i] for i in order]


# --- which photos


def test_usable_ids_choose_and_order_the_photos(tmp_path):
    write_archives(tmp_path, PHOTOS)
    chosen = np.array([12_345_678, 7, 55_555_555, 1_000], dtype=np.int32)
    expected = ["12345678", "00000007", "00001000"]  # the archive of 55555555 is not there
    assert open_yfcc(tmp_path, usable_ids=chosen).ids == expected
    np.save(tmp_path / "usable_ids.npy", chosen)
    images = open_yfcc(tmp_path)
    assert images.ids == expected
    assert digest(images, 0) == digest(open_yfcc(tmp_path, usable_ids=[12_345_678]), 0)
    assert open_yfcc(tmp_path, usable_ids=[999]).ids == ["00000999"]


def test_only_the_archives_of_usable_photos_are_read(tmp_path, monkeypatch):
    write_archives(tmp_path, PHOTOS)
    opened = []
    original = yfcc.zipfile.ZipFile
    monkeypatch.setattr(yfcc.zipfile, "ZipFile", lambda path, *a: opened.append(path) or original(path, *a))
    images = open_yfcc(tmp_path, usable_ids=[12_345_000, 7, 12_345_678])
    assert sorted(opened) == [archive_of(tmp_path, 7), archive_of(tmp_path, 12_345_000)]
    assert images[2].size == (8, 8)
    opened.clear()
    open_yfcc(tmp_path)  # the rest
    assert sorted(opened) == [archive_of(tmp_path, n) for n in (1_000, 12_346_001, 99_999_999)]


def test_usable_photo_that_is_missing_in_its_archive_is_unreadable(tmp_path):
    write_archives(tmp_path, PHOTOS)
    images = open_yfcc(tmp_path, usable_ids=[8, 7])
    with pytest.raises(UnreadableImageError, match=r"'00000008'.*00/000\.zip holds no 008\.jpg"):
        images[0]
    assert images[1].size == (8, 8)
    assert len(images.fingerprint) == 12


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([7, 999, 7], "name 1 photos more than once"),
        ([-1, 7], "eight digits; they span -1 to 7"),
        ([100_000_000], "eight digits"),
        ([7.0], "vector of integers; got float64"),
        ([[7]], r"of shape \(1, 1\)"),
        ([55_555_555], "none of the usable ids is in them"),
    ],
)
def test_usable_ids_that_are_none_are_refused(tmp_path, ids, message):
    write_archives(tmp_path, PHOTOS)
    with pytest.raises(ValueError, match=message):
        open_yfcc(tmp_path, usable_ids=ids)


def test_usable_ids_file_that_is_none_is_refused(tmp_path):
    write_archives(tmp_path, PHOTOS)
    (tmp_path / "usable_ids.npy").write_bytes(b"7, 999")
    with pytest.raises(ValueError, match=r"usable_ids\.npy must be a NumPy file"):
        open_yfcc(tmp_path)


def test_hidden_classes_become_labels(tmp_path):
    write_archives(tmp_path, [1, 2, 3])
    (tmp_path / "hidden_classes.tsv").write_text("id\tclass\n00000003\tcat\n2\tant\n00000001\tcat\n00000009\tbee\n")
    images = open_yfcc(tmp_path)
    assert (images.labels.tolist(), images.classes) == ([1, 0, 1], ("ant", "cat"))
    assert open_yfcc(tmp_path, usable_ids=[3, 2]).labels.tolist() == [1, 0]
    rng = np.random.default_rng(0)
    listed = rng.permutation(np.arange(1, 4).repeat(3)).tolist()  # each three times: the last line counts
    lines = [(number, f"class {i % 4}") for i, number in enumerate(listed)]
    (tmp_path / "hidden_classes.tsv").write_text("".join(f"{n}\t{c}\n" for n, c in lines))
    images = open_yfcc(tmp_path)
    assert [images.classes[label] for label in images.labels] == [dict(lines)[n] for n in (1, 2, 3)]
    assert images.classes == tuple(sorted({dict(lines)[n] for n in (1, 2, 3)}))


def test_fingerprint_is_that_of_the_ids_as_words(tmp_path):
    """Numbers are hashed without making a word of each."""
    write_archives(tmp_path, PHOTOS)
    images = open_yfcc(tmp_path, usable_ids=[*PHOTOS[::-1], 8])
    words = replace(images, ids=list(images.ids))
    assert images.fingerprint == words.fingerprint
    digest = hashlib.sha256(b"".join(i.encode() + b"\0" for i in images.ids))
    digest.update(np.array([images.reader.sizes([i])[0] for i in images.ids], dtype="<i8").tobytes())
    assert images.fingerprint == digest.hexdigest()[:12]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("00000001\tcat\n00000002\tant\n", "no class for 1 of 3 photos, first 00000003"),
        ("00000001\tcat\n00000002 ant\n", "line 2: need a photo number, a tab and a class"),
        ("00000001\tcat\n00000002\t\n", "line 2"),
        ("1\tcat\n4294967297\tant\n", "line 2"),
        ("", "no class for 3 of 3 photos, first 00000001"),
        ("9\tcat\n", "no class for 3 of 3 photos"),
    ],
)
def test_hidden_classes_must_name_every_photo(tmp_path, text, message):
    write_archives(tmp_path, [1, 2, 3])
    (tmp_path / "hidden_classes.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_yfcc(tmp_path)


# --- damage


def test_folder_without_archives_or_photos_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no archives in .*: need zip files named AA/BBB\.zip"):
        open_yfcc(tmp_path)
    (tmp_path / "00").mkdir()
    with zipfile.ZipFile(tmp_path / "00" / "000.zip", "w") as archive:
        archive.writestr("photo.jpg", b"")
    with pytest.raises(ValueError, match=r"1 archives are there, but archives hold no CCC\.jpg"):
        open_yfcc(tmp_path)


def test_archive_that_is_none_is_named(tmp_path):
    write_archives(tmp_path, PHOTOS)
    path = archive_of(tmp_path, 12_345_678)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"12/345\.zip cannot be read: .*fetch it again, or remove it"):
        open_yfcc(tmp_path)
    images = open_yfcc(tmp_path, usable_ids=[7, 12_345_678])
    with pytest.raises(UnreadableImageError, match=r"'12345678'.*12/345\.zip"):
        images[1]
    assert images[0].size == (8, 8)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_one_wrong_bit_is_found(tmp_path, method):
    packed = write_archives(tmp_path, [7, 8], method=method)
    path = archive_of(tmp_path, 7)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("007.jpg")
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 30 + len("007.jpg") + entry.compress_size - 20] ^= 1
    path.write_bytes(content)
    images = open_yfcc(tmp_path)
    with pytest.raises(UnreadableImageError, match=r"'00000007'.*(checksum|unpack)"):
        images[0]
    assert images.reader.read("00000008") == packed[8]


def test_photo_that_does_not_unpack_is_named(tmp_path):
    write_archives(tmp_path, [7], method=zipfile.ZIP_DEFLATED)
    path = archive_of(tmp_path, 7)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("007.jpg").header_offset + 30 + len("007.jpg")
    content = bytearray(path.read_bytes())
    content[start] = 0xFF  # a kind of block that there is not
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match="'00000007'.*does not unpack: .*invalid block type"):
        open_yfcc(tmp_path)[0]


def test_archive_that_changed_under_the_reader_is_found(tmp_path):
    write_archives(tmp_path, [7, 8])
    images = open_yfcc(tmp_path)
    path = archive_of(tmp_path, 7)
    path.write_bytes(b"?" * path.stat().st_size)
    with pytest.raises(UnreadableImageError, match=r"no photo where its directory says that 007\.jpg is"):
        images[0]
    path.write_bytes(b"")
    with pytest.raises(UnreadableImageError, match="cut short"):
        images[1]


def test_other_ways_to_pack_are_named(tmp_path):
    write_archives(tmp_path, [7], method=zipfile.ZIP_BZIP2)
    with pytest.raises(UnreadableImageError, match="zip method 12; only stored"):
        open_yfcc(tmp_path)[0]


def test_encrypted_archive_is_refused(tmp_path):
    write_archives(tmp_path, [7])
    path = archive_of(tmp_path, 7)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"00/000\.zip is encrypted"):
        open_yfcc(tmp_path)


# --- metadata


def line_with(**changes: str) -> str:
    """A line of 23 columns, some of them changed; the columns are named c0 to c22."""
    fields = [
        *("7", "1@N0", "nick", "2005-03-01 12:39:28.0", "1111467388", "cam", "title", "text", "a,b", "m:x=1"),
        *("1.5", "-2.5", "15", "page", "file", "licence", "terms", "8", "1", "secret", "other", "jpg", "0"),
    ]
    for column, value in changes.items():
        fields[int(column[1:])] = value
    return "\t".join(fields) + "\n"


def test_real_lines_of_the_table(shared_data):
    table = read_metadata(shared_data("yfcc100m/yfcc100m_dataset_sample.tsv"))
    assert (len(table), table.bad_lines) == (4, ())
    gnome, muppets, fog, album = table
    assert (gnome.line, gnome.identifier, gnome.user_id) == (0, 7_088_065, "30302697@N00")
    assert (gnome.title, gnome.capture_device, gnome.accuracy) == ("Gnome", "SONY CLIE", 15)
    assert gnome.description == "This gnome just appeared three stories up at school one day."
    assert gnome.user_tags == ("2005", "bushschool", "gnome", "prank", "washington")
    assert gnome.date_taken == datetime(2005, 3, 1, 12, 39, 28)
    assert gnome.date_uploaded == datetime(2005, 3, 22, 4, 56, 28, tzinfo=UTC)
    assert (gnome.longitude, gnome.latitude) == (-122.288368, 47.622562)
    assert (muppets.user_tags, muppets.machine_tags, muppets.description) == ((), (), "")
    assert fog.user_nickname == "Indigo Skies Photography"
    assert fog.title == "Sunlight through the morning fog"
    assert fog.user_tags[1:4] == ("b&w", "beautiful", "black and white")
    assert len(fog.user_tags) == 20
    assert "power lines!\n\nPhotomatrix" in fog.description
    assert fog.page_url == "http://www.flickr.com/photos/61048402@N08/6325727670/"
    assert (fog.licence_name, fog.server_id) == ("Attribution-NonCommercial-NoDerivs License", "6097")
    assert (fog.farm_id, fog.secret, fog.secret_original) == ("7", "5192fe3be9", "8ed1387833")
    assert album.date_taken == datetime(4501, 1, 1)
    assert album.capture_device == "Couragent, Inc. Flip-Pal 100C"
    assert album.user_tags[3] == "johnstone o'shannessy & co"
    assert all(p.is_located and not p.is_video and p.extension == "jpg" for p in table)
    assert table.column("line") == [0, 1, 2, 3]


def test_compressed_table_is_the_same(tmp_path, shared_data):
    plain = shared_data("yfcc100m/yfcc100m_dataset_sample.tsv")
    (tmp_path / "table.bz2").write_bytes(bz2.compress(plain.read_bytes()))
    assert read_metadata(tmp_path / "table.bz2") == read_metadata(plain)


def test_unknown_values_have_their_marks():
    photo = parse_metadata(line_with(c3="null", c4="", c5="", c8="", c10="", c11="", c12="", c22="1"))
    assert (photo.date_taken, photo.date_uploaded, photo.capture_device) == (None, None, "")
    assert math.isnan(photo.longitude)
    assert math.isnan(photo.latitude)
    assert (photo.is_located, photo.accuracy, photo.user_tags, photo.is_video) == (False, 0, (), True)


def test_comma_and_plus_inside_a_tag_stay_in_it():
    assert parse_metadata(line_with(c8="a%2Cb,c%2Bd,e+f,,%E9%9B%AA")).user_tags == ("a,b", "c+d", "e f", "雪")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (line_with().replace("\t", " ", 1), "need 23 columns, or 25 .* got 22"),
        (line_with()[:-1] + "\tx\n", "need 23 columns, or 25 .* got 24"),
        (line_with(c0="nick"), "need a photo number first"),
        (line_with(c22="2"), "0 or 1 last"),
        (line_with(c10="east"), "need a longitude within 180 degrees, got 'east'"),
        (line_with(c11="91"), "need a latitude within 90 degrees, got '91'"),
    ],
)
def test_malformed_line_says_why(line, reason):
    with pytest.raises(ValueError, match=reason):
        parse_metadata(line)


def test_malformed_lines_are_counted_up_to_the_stated_share(tmp_path):
    path = tmp_path / "table.tsv"
    lines = [line_with(c0=str(i)) for i in range(50)]
    lines[20] = "cut\tshort\n"
    path.write_text("".join(lines))
    table = read_metadata(path, max_bad=0.02)
    assert (len(table), table.bad_lines) == (49, ((20, "need 23 columns, or 25 with a line's number first; got 2"),))
    assert [table[19].line, table[20].line] == [19, 21]  # nothing is shifted
    with pytest.raises(
        ValueError, match=r"1 of 50 lines .* more than the 1\.00% allowed; line 21: need 23 columns, or 25 .* got 2"
    ):
        read_metadata(path)


def test_videos_are_left_out_and_counted(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("".join(line_with(c0=str(i), c22="1" if i % 4 == 1 else "0") for i in range(10)) + "cut\n")
    table = read_metadata(path, max_bad=0.1)  # of eleven lines: videos are lines that can be read
    assert (len(table), table.n_videos, table.n_bad) == (7, 3, 1)
    assert [photo.line for photo in table] == [0, 2, 3, 4, 6, 7, 8]  # nothing is shifted
    assert not read_metadata(path, lines=[1, 5]).photos


def test_some_lines_can_be_picked(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("".join(line_with(c0=str(100 + i)) for i in range(30)) + "cut\n" * 100)
    table = read_metadata(path, lines=[28, 3, 3])
    assert [(p.line, p.identifier) for p in table.photos] == [(3, 103), (28, 128)]


def test_broken_text_costs_no_line(tmp_path):
    path = tmp_path / "table.tsv"
    separators = "\x85\u2028\r"  # line ends to Python's splitlines, not to the table
    path.write_bytes(line_with(c6="caf\udce9", c7=separators).encode(errors="surrogateescape"))
    (photo,) = read_metadata(path)
    assert (photo.title, photo.description) == ("caf\ufffd", separators)


def test_missing_or_empty_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no metadata at .*gone\.tsv: need a file of 23"):
        read_metadata(tmp_path / "gone.tsv")
    (tmp_path / "empty.tsv").touch()
    with pytest.raises(ValueError, match="it has no lines"):
        read_metadata(tmp_path / "empty.tsv")
    with pytest.raises(ValueError, match="none of the chosen lines"):
        read_metadata(tmp_path / "empty.tsv", lines=[4])
