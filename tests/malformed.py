"""Small inputs as they come from broken disks, other programs and other people, made anew and alike each time."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}


@dataclass(frozen=True)
class Malformed:
    """Files that go through a door, and what is to come out."""

    name: str
    kind: str
    door: str
    files: dict[str, bytes]  # by path
    expected: str  # "result" (where the plain file is known, its own), "skip", "sentence"; "" for any of them
    blamed: str  # path of the odd one, or a part of its name


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file of this kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_tiff(
    samples: NDArray[np.generic],
    *,
    bits: int = 0,
    packed: bytes = b"",
    white_is_zero: bool = False,
    big_endian: bool = False,
    size: tuple[int, int] | None = None,
) -> bytes:
    """An uncompressed grey TIFF (h, w), written by hand: Pillow writes few of these, and other programs all."""
    order = ">" if big_endian else "<"
    height, width = samples.shape if size is None else size
    data = packed or samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    kind = 1 if packed else SAMPLE_FORMATS[samples.dtype.kind]
    tags = {
        256: width,
        257: height,
        258: bits or 8 * samples.dtype.itemsize,
        259: 1,
        262: 0 if white_is_zero else 1,
        273: 8,
        277: 1,
        278: height,
        279: len(data),
        339: kind,
    }
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value)
        if tag not in (258, 259, 262, 277, 339)
        else struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        for tag, value in tags.items()
    )
    head = (b"MM" if big_endian else b"II") + struct.pack(f"{order}HI", 42, 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def malformed_images() -> Iterator[Malformed]:
    """Cut, damaged, deep, long, many, huge by their own account, and no images at all."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    for suffix, kind in KINDS.items():
        whole = encoded(picture, kind)
        for name, content in damaged(whole, rng).items():
            yield _picture(f"{name} {kind}", "cut and damaged images", content, suffix)
        yield _picture(f"{kind} in capitals", "suffixes", whole, suffix.upper(), "result")
    for suffix in (".jpe", ".jfif", ".JPG", ".Jpeg"):
        yield _picture(f"{suffix} by another suffix", "suffixes", encoded(picture, "jpeg"), suffix, "result")
    for name, (content, expected) in deep_images(picture).items():
        yield _picture(name, "depth and colour", content, ".png", expected)
    for width, height in ((1, 1), (1, 60_000), (60_000, 1), (2, 9_000)):
        content = encoded(Image.new("RGB", (width, height), "red"), "png")
        yield _picture(f"{width} x {height}", "size and memory", content, ".png", "result")
    for name, content in declared_sizes().items():
        yield _picture(name, "size and memory", content, ".png", "skip")
    frames = [Image.new("L", (64, 64), grey) for grey in range(200)]
    for kind in ("gif", "tiff", "png"):
        many = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        yield _picture(f"200 frames of {kind}", "size and memory", many, f".{kind}", "result")
    for name, content in NO_IMAGES.items():
        yield _picture(name, "no images", content, ".jpg", "skip")


def damaged(whole: bytes, rng: np.random.Generator) -> dict[str, bytes]:
    """Cut at some places, with some bytes changed, with more behind."""
    found = {f"cut at {share:.0%}": whole[: int(share * len(whole))] for share in (0, 0.01, 0.3, 0.6, 0.95)}
    for place in range(3):
        changed = bytearray(whole)
        for at in rng.integers(0, len(whole), 8):
            changed[at] = rng.integers(256)
        found[f"changed bytes {place}"] = bytes(changed)
    found["zeros from the middle on"] = whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
    return found


def deep_images(picture: Image.Image) -> dict[str, tuple[bytes, str]]:
    """Other samples than 8 bits of red, green and blue, and what is to become of each."""
    ramp = np.arange(256).reshape(16, 16)
    transparent = picture.convert("P")
    found = {
        **{f"tiff {d.__name__}": (grey_tiff(ramp.astype(d)), "result") for d in (np.uint8, np.uint16)},
        **{f"tiff {d.__name__}": (grey_tiff(ramp.astype(d)), "skip") for d in (np.int8, np.int16, np.int32, np.uint32)},
        "tiff float in one": (grey_tiff((ramp / 255).astype(np.float32)), "result"),
        "tiff float to 255": (grey_tiff(ramp.astype(np.float32)), "skip"),
        "tiff float negative": (grey_tiff((ramp - 9).astype(np.float32)), "skip"),
        "tiff not a number": (grey_tiff(np.full((4, 4), np.nan, np.float32)), "skip"),
        "tiff double": (grey_tiff(ramp / 255), "skip"),
        "tiff white is zero": (grey_tiff(ramp.astype(np.uint16), white_is_zero=True), "result"),
        "tiff big end first": (grey_tiff(ramp.astype(np.uint16), big_endian=True), "result"),
        "tiff one row promised, none there": (grey_tiff(ramp[:0].astype(np.uint8), size=(16, 16)), "skip"),
        "png 16 bits": (encoded(Image.fromarray((ramp * 257).astype(np.uint16)), "png"), "result"),
        "palette, transparent": (encoded(transparent, "png", transparency=bytes(range(256))), "result"),
        "palette, one colour transparent": (encoded(transparent, "gif", transparency=3), "result"),
        "grey map of 10 bits": (b"P2 4 1 1023 0 341 682 1023", "result"),
        "grey map beyond its white": (b"P2 4 1 15 0 5 10 99", "skip"),
        "fractions": (encoded(Image.fromarray((ramp / 255).astype(np.float32)), "ppm"), "result"),
    }
    modes = {"1": "png", "L": "png", "LA": "png", "RGBA": "png", "CMYK": "jpeg", "YCbCr": "tiff", "LAB": "tiff"}
    for mode, kind in modes.items():
        image = Image.new("LAB", (8, 8)) if mode == "LAB" else picture.convert(mode)
        found[f"{mode} {kind}"] = encoded(image, kind), "" if mode == "LAB" else "result"
    return found


def declared_sizes() -> dict[str, bytes]:
    """Heads that promise more pixels than memory has room for; nothing or little follows."""
    png = struct.pack(">4sIIBBBBB", b"IHDR", 60_000, 60_000, 8, 2, 0, 0, 0)
    return {
        "png of 3.6 billion pixels": b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + png + struct.pack(">I", zlib.crc32(png)),
        "gif of 4.3 billion pixels": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + bytes(40),
        "ppm of 8.1 billion pixels": b"P6 90000 90000 255\n" + bytes(40),
        "bmp of 10^12 pixels": b"BM" + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, 10**6, 10**6, 1, 24, *[0] * 6),
        "tiff of 10^10 pixels": grey_tiff(np.zeros((2, 2), np.uint8), size=(100_000, 100_000)),
        "webp cut behind its size": b"RIFF\xff\xff\xff\x7fWEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff",
    }


def malformed_texts() -> Iterator[Malformed]:
    """Each list that people write or save again, as their systems save it."""
    for door, (base, target) in LISTS.items():
        text = base[target].decode()
        for name, content, expected in as_written(text, door):
            yield Malformed(f"{name}: {target}", "texts", door, {**base, target: content}, expected, target)
    for name, content in BAD_YAML.items():
        yield Malformed(name, "settings", "preset", {"own.yaml": content}, "sentence", "own.yaml")


def as_written(text: str, door: str) -> Iterator[tuple[str, bytes, str]]:
    """(how, bytes, what is to become of it); "result" means that of the plain text."""
    table = door in ("metadata", "import")  # a table of 10^8 lines goes by \n alone and leaves a broken letter out
    yield "with a mark", codecs.BOM_UTF8 + text.encode(), "result"
    yield "UTF-16", text.encode("utf-16"), "sentence" if door == "import" else "result"
    yield "UTF-16, big end first", codecs.BOM_UTF16_BE + text.encode("utf-16-be"), "" if table else "result"
    yield "UTF-16 without a mark", text.encode("utf-16-le"), "sentence"
    yield "UTF-32", text.encode("utf-32"), "sentence" if door == "import" else "" if table else "result"
    yield "Windows line ends", text.replace("\n", "\r\n").encode(), "result"
    yield "carriage returns alone", text.replace("\n", "\r").encode(), "sentence" if table else "result"
    yield "spaces at line ends", text.replace("\n", "  \n").encode(), "result"
    yield "blank lines at the end", f"{text}\n\n\n".encode(), "result"
    yield "no end of the last line", text.rstrip("\n").encode(), "result"
    yield "a zero byte", text[:-1].encode() + b"\0\n", "" if table or door == "tag table" else "sentence"
    yield "not UTF-8", b"caf\xe9 " + text.encode(), "" if table else "sentence"
    yield "empty", b"", "sentence" if door != "answers" else "result"
    yield "a mark alone", codecs.BOM_UTF8, "sentence" if door != "answers" else ""
    yield "bytes of no kind", bytes(range(256)) * 4, "sentence"
    if door in ("split", "labels", "query"):
        yield "semicolons", text.replace(" ", ";").encode(), "result"
        yield "commas", text.replace(" ", ",").encode(), "result"
        yield "tabs", text.replace(" ", "\t").encode(), "result"
        quoted = "\n".join(";".join(f'"{field}"' for field in line.split()) for line in text.splitlines())
        yield "quoted by a spreadsheet", quoted.encode(), "result"


def malformed_archives() -> Iterator[Malformed]:
    """Every kind of archive that is read, cut and damaged, and some that lie about what they hold."""
    rng = np.random.default_rng(1)
    for door, (base, target) in ARCHIVES.items():
        files = base()
        for name, content in damaged(files[target], rng).items():
            expected = "sentence" if name.startswith("cut") else ""
            yield Malformed(f"{name}: {target}", "archives", door, {**files, target: content}, expected, target)
    for name, files, door, target in lying_archives():
        yield Malformed(name, "archives", door, files, "sentence" if door != "photos" else "skip", target)


def lying_archives() -> Iterator[tuple[str, dict[str, bytes], str, str]]:
    """(name, files, door, the file to blame)."""
    whole = tar_of(PICTURES)
    yield "two tars in one", {"set.tar": whole + whole}, "tar", "set.tar"
    yield "tar without an end", {"set.tar": whole[: whole.rindex(b"ustar")][:1024]}, "tar", "set.tar"
    yield "gzip called tar", {"set.tar": gzip.compress(whole, mtime=0)}, "tar", "set.tar"
    yield "tar.gz", {"set.tar.gz": gzip.compress(whole, mtime=0)}, "tar.gz", "set.tar.gz"
    bomb = zip_of({"000.jpg": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    yield "packed photo larger than listed", {"00/000.zip": _listed_size(bomb, 40)}, "photos", "000.zip"
    yield "photo packed by bzip2", {"00/000.zip": zip_of(PHOTOS, zipfile.ZIP_BZIP2)}, "photos", "000.zip"
    head = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**4)}
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, head)
    for name, content in {
        "array of 40 terabytes": buffer.getvalue() + bytes(64),
        "array of texts": npy_of(np.array(["a", "b"])),
        "array of objects": npy_of(np.array([{}, None], dtype=object)),
        "several arrays": _saved(np.savez, np.zeros(3)),
        "array of one number": npy_of(np.array(3.0)),
        "array of complex numbers": npy_of(np.zeros((2, 2), np.complex64)),
    }.items():
        yield f"{name} as descriptors", {**LANDMARKS, "queries.npy": content}, "score", "queries.npy"
        files = {"00/000.zip": zip_of(PHOTOS), "usable_ids.npy": content}
        yield f"{name} as usable ids", files, "shards", "usable_ids.npy"
    for name, content in BAD_PICKLES.items():
        yield name, {"gnd_x.pkl": pickle.dumps(content)}, "pickle", "gnd_x.pkl"


def malformed_words() -> Iterator[str]:
    """Names, titles, classes and hashtags that mean something to Markdown, YAML, TeX or HTML."""
    yield from (
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</figure></div>",
        '" onmouseover="alert(1)',
        "a | b | c",
        "`code` and ``more``",
        "$\\frac{1}{0}$ and \\input{x} 5 % of $x_1^2$",
        "{doc}`index` {ref}`x`",
        "```{code-block} python\nimport os\n```",
        "# heading\n\n- item\n> quote",
        "[link](javascript:alert(1)) ![x](y)",
        "*star* _line_ **two** ~~gone~~",
        "{{ macro }} {% raw %} ${HOME} %(name)s {0}",
        "line\rline\u2028line\x0bline\x00end",
        "&amp; &lt; &#60;script&#62;",
        "key: value # comment",
        "\u202eright to left\u202c \U0001f600 e\u0301",
        "(D9, D12) and (D999)",
        "-- --- ... 'single' \"double\"",
        "x" * 5_000,
        "   ",
    )


def all_malformed() -> list[Malformed]:
    """All that is written to files, in the same order every time."""
    return [*malformed_images(), *malformed_texts(), *malformed_archives()]


def _picture(name: str, kind: str, content: bytes, suffix: str, expected: str = "") -> Malformed:
    return Malformed(name, kind, "picture", {f"set/odd{suffix}": content, "set/whole.png": GOOD}, expected, "odd")


def tar_of(files: dict[str, bytes]) -> bytes:
    """An uncompressed tar that ends with two blocks of zeros and no more."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        end = archive.offset + 2 * tarfile.BLOCKSIZE
    return buffer.getvalue()[:end]


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip without times of its own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, method)
    return buffer.getvalue()


def _listed_size(archive: bytes, size: int) -> bytes:
    """A zip of one file whose directory gives another unpacked size."""
    at = archive.rindex(b"PK\x01\x02") + 24
    return archive[:at] + struct.pack("<I", size) + archive[at + 4 :]


def npy_of(array: NDArray[np.generic]) -> bytes:
    """What numpy.save writes."""
    return _saved(np.save, array)


def _saved(save: Callable[..., None], *arguments: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arguments)
    return buffer.getvalue()


def _weights() -> dict[str, bytes]:
    return {"weights.pt": _saved(lambda file: torch.save({"features.0.weight": torch.zeros(4, 3, 3, 3)}, file))}


def _checkpoint() -> dict[str, bytes]:
    state = {"identity": "x", "state": {"epoch": 1, "weights": torch.zeros(99)}}
    return {"checkpoint.pt": _saved(lambda file: torch.save(state, file))}


GOOD = encoded(Image.new("RGB", (9, 7), "green"), "png")
JPEG = encoded(Image.new("RGB", (9, 7), "green"), "jpeg")
NOISE = encoded(Image.fromarray(np.random.default_rng(2).integers(0, 256, (48, 32, 3), dtype=np.uint8)), "png")
PICTURES = {"cat/1.png": NOISE, "cat/2.png": NOISE, "dog/3.png": NOISE}
PHOTOS = {"000.jpg": JPEG, "001.jpg": JPEG}
KINDS = {".jpg": "jpeg", ".png": "png", ".gif": "gif", ".bmp": "bmp", ".ppm": "ppm", ".webp": "webp"} | {
    ".tif": "tiff",
    ".avif": "avif",
}
NO_IMAGES = {
    "a page of the web": b"<!DOCTYPE html><html>302 Found</html>",
    "an empty file": b"",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "a PDF": b"%PDF-1.7\n1 0 obj\n",
    "a telephone's HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
    "a film": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(99),
    "an archive": b"PK\x03\x04" + bytes(99),
    "a program": b"\x7fELF\x02\x01\x01" + bytes(99),
    "a drawing in SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "one letter": b"x",
    "a large file's pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
}
VOC = {
    "JPEGImages/000001.jpg": JPEG,
    "JPEGImages/000002.jpg": JPEG,
    "ImageSets/Main/val.txt": b"000001\n000002\n",
    "ImageSets/Main/oak_val.txt": b"000001  1\n000002 -1\n",
    "ImageSets/Main/elm_val.txt": b"000001  0\n000002  1\n",
}
LANDMARKS = {
    **{f"jpg/{name}.jpg": JPEG for name in ("tower_0", "tower_1", "gate_0")},
    "truth/tower_1_query.txt": b"oxc1_tower_0 1.5 1.0 8.0 6.5\n",
    "truth/tower_1_good.txt": b"tower_1\n",
    "truth/tower_1_ok.txt": b"",
    "truth/tower_1_junk.txt": b"gate_0\n",
    "queries.npy": npy_of(np.eye(1, 3, dtype=np.float32)),
    "images.npy": npy_of(np.eye(3, dtype=np.float32)),
}
SHARDS = {"00/000.zip": zip_of(PHOTOS), "hidden_classes.tsv": b"00000000\tcat\n00000001\tdog\n"}
METADATA_LINE = (
    *("u", "name", "2012-01-01 10:00:00.0", "1325412000", "Canon", "title", "text", "sea,sky", "", "1.5", "2.5", "16"),
    *("page", "photo", "licence", "url", "1", "1", "secret", "other", "jpg", "0"),
)
METADATA = "".join("\t".join([str(n), *METADATA_LINE]) + "\n" for n in range(1, 6)).encode()
PRESET = b"description: small\nseeds: [0]\nmethods:\n  rotnet:\n    train: {epochs: 1}\n"
# door -> files, and the one that is written in other ways
LISTS: dict[str, tuple[dict[str, bytes], str]] = {
    "split": (VOC, "ImageSets/Main/val.txt"),
    "labels": (VOC, "ImageSets/Main/oak_val.txt"),
    "query": (LANDMARKS, "truth/tower_1_query.txt"),
    "answers": (LANDMARKS, "truth/tower_1_junk.txt"),
    "list": ({**PICTURES, "list.txt": b"cat/1.png\tcat\ndog/3.png\tdog\n"}, "list.txt"),
    "sheet": ({**PICTURES, "list.csv": b"cat/1.png,cat\ndog/3.png,dog\n"}, "list.csv"),
    "classes": (SHARDS, "hidden_classes.tsv"),
    "metadata": ({"yfcc100m_dataset": METADATA}, "yfcc100m_dataset"),
    "import": ({"yfcc100m_dataset": METADATA}, "yfcc100m_dataset"),
    "tags": ({"tags.json": b'[{"tags": "sea sky"},\n {"tags": "sea"}]\n'}, "tags.json"),
    "tag table": ({"labels.csv": b"id,label\n1,cat\n2,dog\n"}, "labels.csv"),
    "preset": ({"own.yaml": PRESET}, "own.yaml"),
}
ARCHIVES: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "tar": (lambda: {"set.tar": tar_of(PICTURES)}, "set.tar"),
    "shards": (lambda: SHARDS, "00/000.zip"),
    "shards by number": (lambda: {**SHARDS, "usable_ids.npy": npy_of(np.array([1, 0]))}, "usable_ids.npy"),
    "metadata": (lambda: {"yfcc100m_dataset.bz2": bz2.compress(METADATA)}, "yfcc100m_dataset.bz2"),
    "import": (lambda: {"yfcc100m_dataset.bz2": bz2.compress(METADATA)}, "yfcc100m_dataset.bz2"),
    "tag table": (lambda: {"labels.csv.gz": gzip.compress(b"id,label\n1,cat\n", mtime=0)}, "labels.csv.gz"),
    "score": (lambda: LANDMARKS, "queries.npy"),
    "pickle": (lambda: {"gnd_x.pkl": pickle.dumps(TRUTH)}, "gnd_x.pkl"),
    "weights": (_weights, "weights.pt"),
    "checkpoint": (_checkpoint, "checkpoint.pt"),
}
TRUTH = {"imlist": ["a", "b"], "qimlist": ["a"], "gnd": [{"bbx": [0, 0, 5, 5], "ok": [1], "junk": []}]}
BAD_PICKLES = {
    "a pickle of a list": [1, 2],
    "a pickle of nothing": None,
    "a pickle without queries": {"imlist": ["a"]},
    "numbers for names": {**TRUTH, "imlist": [1, 2]},
    "more queries than answers": {**TRUTH, "qimlist": ["a", "b"]},
    "an answer that is no number": {**TRUTH, "gnd": [{"bbx": [0, 0, 5, 5], "ok": ["x"], "junk": []}]},
    "an answer beyond the images": {**TRUTH, "gnd": [{"bbx": [0, 0, 5, 5], "ok": [7], "junk": []}]},
    "a box without end": {**TRUTH, "gnd": [{"bbx": [0, 0, float("inf"), 5], "ok": [1], "junk": []}]},
    "a box of nothing": {**TRUTH, "gnd": [{"bbx": None, "ok": [1], "junk": []}]},
    "text for queries": {**TRUTH, "gnd": "none"},
}
BAD_YAML = {
    "a list for settings": b"- 1\n- 2\n",
    "a word for settings": b"pocket\n",
    "tabs": b"train:\n\tepochs: 1\n",
    "an open bracket": b"seeds: [0, 1\n",
    "ten thousand brackets": b"seeds: " + b"[" * 10_000,
    "a tag that runs code": b"seeds: !!python/object/apply:os.getcwd []\n",
    "an unknown tag": b"seeds: !thing 3\n",
    "a list for a key": b"? [1, 2]\n: 3\n",
    "a key that is a number": b"1: 2\n",
    "a date for a number": b"methods: {rotnet: }\ntrain: {lr: 2020-01-01}\n",
    "not a number": b"methods: {rotnet: }\ntrain: {lr: .nan}\n",
    "a number without end": b"methods: {rotnet: }\ntrain: {lr: .inf}\n",
    "aliases in aliases": b"a: &a [1,1,1,1,1,1,1,1]\n"
    + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 8)) for c in range(98, 108))
    + b"seeds: *k\n",
    "a method that is a number": b"methods: {1: {}}\n",
    "a method that is a way out": b"methods: {../../x: {method: rotnet}}\n",
    "methods in a list": b"methods: [rotnet]\n",
    "settings of a method in a list": b"methods: {rotnet: [1]}\n",
    "no methods": b"methods:\n",
    "a seed in words": b"seeds: [one]\nmethods: {rotnet: }\n",
    "an override of itself": b"methods: {rotnet: {init: rotnet}}\n",
}
