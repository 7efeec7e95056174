"""Tiny archives in the form of the published ones, the pictures that are in them, and a server that may misbehave."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import struct
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from dclib.data.download import Archive
from dclib.data.fetch import PublicSet
from dclib.data.public_sets import SETS

CLASSES = ("airplane", "bird")


def jpeg(shade: int, side: int = 40) -> bytes:
    """A picture with a slope from black to ``shade``."""
    slope = np.linspace(0, shade, side * side * 3).reshape(side, side, 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(slope).save(file, "JPEG")
    return file.getvalue()


def pack(files: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    """An archive of files, in their order."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def pictures(n: int, side: int, seed: int) -> np.ndarray:
    """(n, side, side, 3) noise, of which no two pixels are alike."""
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def as_python2_wrote_it(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch of CIFAR as it is published: a pickle of protocol 2 whose texts are bytes, of a NumPy of its time."""
    text = lambda content: b"T" + struct.pack("<i", len(content)) + content  # noqa: E731
    number = lambda value: b"J" + struct.pack("<i", value)  # noqa: E731
    one_byte = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
    one_byte += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"\x87R"
    shape = number(data.shape[0]) + number(data.shape[1]) + b"\x86"
    array = empty + b"(" + number(1) + shape + one_byte + b"\x89" + text(data.tobytes()) + b"tb"
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


def cifar10(per_batch: int = 4) -> dict[str, bytes]:
    files = {"cifar-10-batches-py/batches.meta": pickle.dumps({"label_names": list(CLASSES)}, protocol=2)}
    for i, name in enumerate(["test_batch", *(f"data_batch_{n}" for n in (2, 1, 3, 4, 5))]):
        data = pictures(per_batch, 32, i).transpose(0, 3, 1, 2).reshape(per_batch, -1)
        files[f"cifar-10-batches-py/{name}"] = as_python2_wrote_it(data, [(n + i) % 2 for n in range(per_batch)])
    return {"cifar-10-python.tar.gz": pack(files)}


def stl10(train: int = 4, unlabeled: int = 6) -> dict[str, bytes]:
    files = {}
    for split, n, seed in (("train", train, 1), ("unlabeled", unlabeled, 2), ("test", train, 3)):
        files[f"stl10_binary/{split}_X.bin"] = pictures(n, 96, seed).transpose(0, 3, 2, 1).tobytes()
        files[f"stl10_binary/{split}_y.bin"] = bytes((i + seed) % 2 + 1 for i in range(n))
    del files["stl10_binary/unlabeled_y.bin"]
    files["stl10_binary/class_names.txt"] = "\n".join(CLASSES).encode()
    return {"stl10_binary.tar.gz": pack(files)}


def imagenette(train: int = 2) -> dict[str, bytes]:
    wnids = ("n01440764", "n02102040")
    files = {
        f"imagenette2-160/{split}/{wnid}/{wnid}_{i}.JPEG": jpeg(100 + 50 * c + i)
        for split, n in (("train", train), ("val", 1))
        for c, wnid in enumerate(wnids)
        for i in range(n)
    }
    return {"imagenette2-160.tgz": pack(files | {"imagenette2-160/noisy_imagenette.csv": b"path"})}


def voc2007() -> dict[str, bytes]:
    from dclib.data.voc import VOC_CLASSES

    found = {}
    for name, splits in (
        ("VOCtrainval_06-Nov-2007.tar", {"train": ["000005"], "val": ["000007"], "trainval": ["000005", "000007"]}),
        ("VOCtest_06-Nov-2007.tar", {"test": ["000001"]}),
    ):
        files = {"SegmentationClass/000007.png": b"a mask"}
        for split, ids in splits.items():
            files[f"ImageSets/Main/{split}.txt"] = "".join(f"{i}\n" for i in ids).encode()
            for c, label in enumerate(sorted(VOC_CLASSES)):
                lines = [f"{i} {1 if int(i) % 20 == c else -1:2d}\n" for i in ids]
                files[f"ImageSets/Main/{label}_{split}.txt"] = "".join(lines).encode()
            files |= {f"JPEGImages/{i}.jpg": jpeg(int(i) * 20) for i in ids}
            files |= {f"Annotations/{i}.xml": b"<annotation/>" for i in ids}
        found[name] = pack({f"VOCdevkit/VOC2007/{path}": content for path, content in files.items()}, "w")
    return found


def landmarks(city: str) -> dict[str, bytes]:
    prefix, here = ("oxc1_", "") if city == "oxford5k" else ("", "paris/hall/")
    names = [f"{city}_hall_{i:06d}" for i in range(3)]
    images = {f"{here}{name}.jpg": jpeg(60 * i + 60) for i, name in enumerate(names)}
    truth = {
        "hall_1_query.txt": f"{prefix}{names[0]} 1 2 30 35",
        "hall_1_good.txt": f"{names[0]}\n",
        "hall_1_ok.txt": f"{names[1]}\n",
        "hall_1_junk.txt": "",
    }
    written = pack({name: text.encode() for name, text in truth.items()})
    if city == "oxford5k":
        return {"oxbuild_images-v1.tgz": pack(images), "gt_files_170407.tgz": written}
    first, *rest = images
    halves = pack({first: images[first]}), pack({name: images[name] for name in rest})
    return {"paris_1-v1.tgz": halves[0], "paris_2-v1.tgz": halves[1], "paris_120310.tgz": written}


TOYS = {
    "cifar10": (cifar10, {"train": 20, "test": 4}),
    "stl10": (stl10, {"train": 4, "test": 4, "unlabeled": 6}),
    "imagenette": (imagenette, {"train": 4, "val": 2}),
    "voc2007": (voc2007, {"trainval": 2, "test": 1}),
    "oxford5k": (lambda: landmarks("oxford5k"), {"images": 3, "queries": 1}),
    "paris6k": (lambda: landmarks("paris6k"), {"images": 3, "queries": 1}),
}


def toy(name: str, server: Server, files: Mapping[str, bytes] | None = None) -> PublicSet:
    """A set as it is published, but for the tiny archives, which a server then has, and their numbers and sums."""
    made, counts = TOYS[name]
    server.files = dict(files or made())
    has_sums = name not in ("oxford5k", "paris6k")
    archives = [
        Archive(f"{server.address}/{file}", hashlib.md5(content).hexdigest() if has_sums else "")
        for file, content in server.files.items()
    ]
    return replace(
        SETS[name],
        archives=lambda: archives,
        counts={split: (n,) for split, n in counts.items()},
        download_bytes=sum(map(len, server.files.values())),
        disk_bytes=10_000,
    )


@dataclass
class Server:
    """What a server on this machine has, how it answers, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    knows_ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which each of the next answers is cut
    status: int = 0  # of every answer, if not 0
    version: str = '"1"'  # of every file
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range of each request


@contextmanager
def serving() -> Iterator[Server]:
    """A server on this machine, while this lasts."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            server.asked.append((self.path, wanted))
            content = server.files.get(Path(self.path).name)
            if content is None or server.status:
                self.send_error(server.status or 404)
                return
            begins = 0
            if wanted and server.knows_ranges and self.headers.get("If-Range", server.version) == server.version:
                begins = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
                if begins >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if begins else 200)
            if begins:
                self.send_header("Content-Range", f"bytes {begins}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - begins))
            self.send_header("ETag", server.version)
            self.end_headers()
            upto = server.cuts.pop(0) if server.cuts else len(content)
            self.wfile.write(content[begins : begins + upto])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
