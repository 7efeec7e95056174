"""Decoding: what deep, signed, inverted and fractional samples become, and what a file may take of memory."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from dclib.data.decoding import IMAGE_SUFFIXES, OTHER_SUFFIXES, decode_rgb
from dclib.data.transforms import resize_and_centre
from dclib.evaluate.retrieval import conv13_map
from dclib.models.vgg import Trunk
from tests.malformed import encoded, grey_tiff
from tests.tiny_images import TINY_MODEL

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)  # each grey level once


def grey_of(content: bytes) -> np.ndarray:
    decoded = np.asarray(decode_rgb(content))
    assert (decoded == decoded[..., :1]).all()
    return decoded[..., 0]


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (RAMP, {}),
        (RAMP.astype(np.uint16) * 256 + 77, {}),
        (RAMP.astype(np.uint16) * 256 + 77, {"big_endian": True}),
        (RAMP.astype(np.float32) / 255, {}),
        (RAMP.astype(np.float32) / 255, {"big_endian": True}),
    ],
)
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_tiff_samples_of_any_depth_become_the_same_grey_levels(samples, options, white_is_zero):
    if white_is_zero:
        options = {} if samples.dtype == np.uint16 else options  # Pillow does not open the other order
        top = {"u": 2 ** (8 * samples.itemsize) - 1, "f": 1}[samples.dtype.kind]
        samples = (top - samples).astype(samples.dtype)
    np.testing.assert_array_equal(grey_of(grey_tiff(samples, white_is_zero=white_is_zero, **options)), RAMP)


def test_twelve_bits_are_not_taken_for_sixteen():
    levels = np.arange(0, 4096, 16)
    packed = b"".join(bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in levels.reshape(-1, 2).tolist())
    content = grey_tiff(levels.reshape(16, 16), bits=12, packed=packed)
    np.testing.assert_array_equal(grey_of(content), RAMP)


@pytest.mark.parametrize("top", [255, 1023, 65535])
def test_grey_maps_are_read_by_the_white_that_they_declare(top):
    levels = (RAMP.astype(np.int64) * top + 254) // 255  # the smallest that shows as this grey or more
    content = f"P2 16 16 {top} {' '.join(map(str, levels.ravel()))}".encode()
    np.testing.assert_allclose(grey_of(content).astype(int), RAMP, atol=1)  # two roundings on the way


@pytest.mark.parametrize(
    "samples",
    [
        RAMP.astype(np.int8),
        RAMP.astype(np.int16),
        RAMP.astype(np.int32),
        RAMP.astype(np.uint32),
        RAMP.astype(np.float32),
        RAMP.astype(np.float32) / 255 - 0.1,
        np.full((16, 16), np.nan, np.float32),
    ],
    ids=["int8", "int16", "int32", "uint32", "float to 255", "float below 0", "nan"],
)
def test_samples_without_a_known_white_are_refused(samples):
    with pytest.raises(ValueError, match="says? which is white; save it with 8 or 16 bits"):
        decode_rgb(grey_tiff(samples))


def test_what_is_no_image_says_how_it_begins():
    with pytest.raises(OSError, match=r"JPEG, PNG.*begins with .*ftypheic"):
        decode_rgb(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(OSError, match="it is empty"):
        decode_rgb(b"")


def test_postscript_is_never_run():
    with pytest.raises(OSError, match="cannot identify"):
        decode_rgb(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (3, 2_000)])
def test_a_line_is_seen_in_the_middle_and_takes_little_memory(size):
    line = Image.new("RGB", size, "red")
    middle = (size[0] // 2 - 1, size[1] // 2 - 1, size[0] // 2 + 1, size[1] // 2 + 1)
    line.paste("blue", middle)
    seen = np.asarray(resize_and_centre(line, 64, 64))
    assert seen.shape == (64, 64, 3)
    assert seen[32, 32, 2] > 128  # the mark in the middle


def test_a_line_becomes_what_resizing_it_whole_gives():
    rng = np.random.default_rng(0)
    line = Image.fromarray(rng.integers(0, 256, (310, 6, 3), dtype=np.uint8))
    long = round(310 * 64 / 6 - 0.5)
    whole = line.resize((64, long), Image.Resampling.BILINEAR)
    top = round((long - 64) / 2)
    expected = np.asarray(whole.crop((0, top, 64, top + 64))).astype(int)
    # Pillow takes the box in single precision, 1e-7 of 310 rows: a sample on the edge of two levels may turn
    np.testing.assert_allclose(np.asarray(resize_and_centre(line, 64, 64)).astype(int), expected, atol=1)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1)])
def test_retrieval_describes_a_line(size):
    trunk = Trunk(TINY_MODEL, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        seen = conv13_map(trunk, Image.new("RGB", size), 64)
        boxed = conv13_map(trunk, Image.new("RGB", (90, 60)), 64, (5.0, 5.0, 6.0, 6.0))
    assert min(seen.shape) >= 1
    assert boxed.shape[1:] == (1, 1)


def test_only_the_first_frame_of_many_is_decoded():
    frames = [Image.new("L", (400, 400), grey) for grey in range(0, 120)]
    content = encoded(frames[0], "tiff", save_all=True, append_images=frames[1:])
    tracemalloc.start()
    assert decode_rgb(content).size == (400, 400)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(content) / 4


def test_declared_sizes_are_refused_before_a_pixel_is_read():
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 60_000, 60_000, 8, 2, 0, 0, 0, 0)
    for content in (head, b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(40), b"P6 90000 90000 255\n"):
        with pytest.raises(Exception, match=r"exceeds limit|CRC|crc|cannot identify"):
            decode_rgb(content)


def test_every_suffix_of_the_formats_that_are_read_is_known():
    Image.init()
    ours = {"JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "PPM", "MPO"}
    rare = {".pfm"}  # fractions by its nature
    pillows = {suffix for suffix, name in Image.EXTENSION.items() if name in ours} - rare
    assert pillows <= set(IMAGE_SUFFIXES)
    assert not set(IMAGE_SUFFIXES) & set(OTHER_SUFFIXES)
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "avif")
    assert decode_rgb(buffer.getvalue()).size == (2, 2)
