"""From the bytes of an image file to 8-bit RGB, without changing a value unsaid, and within bounds of memory.

Pillow decodes. Where it would clip, wrap or blacken samples that have more than 8 bits, they are scaled here, or the
image is refused because nothing says what its white is.
"""

from __future__ import annotations

import io
import re
import warnings
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp", ".dib"),
    *(".webp", ".tif", ".tiff", ".gif", ".avif", ".jp2"),
)
# names of pictures that are not read: what a folder of a telephone or a camera holds beside the others
OTHER_SUFFIXES = (
    *(".heic", ".heif", ".hif", ".jxl", ".jxr", ".psd", ".svg", ".tga", ".ico", ".eps", ".exr", ".hdr", ".j2k"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"),
)
# Pillow looks at the bytes, not at the name, and would start Ghostscript for a PostScript file called .jpg
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "PPM", "MPO", "AVIF", "JPEG2000")
LARGEST_FILE = 2**30  # bytes; what Pillow takes at most, 179 million pixels, has half of it without compression
SHOWN_BYTES = 12  # of a file that is no image
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of a TIFF
WHITE_IS_ZERO, SIGNED = 0, 2  # values of the two last ones
ORIENTATION = 274  # tag of EXIF: how a camera was held
_T = Image.Transpose
TURNS = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE}
TURNS |= {6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90}
SIDEWAYS = {_T.TRANSPOSE, _T.ROTATE_270, _T.TRANSVERSE, _T.ROTATE_90}  # those that swap width and height
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"}
HEIF_ADVICE = "`pip install pillow-heif` and look again to have it read"

# Pillow warns of broken metadata and goes on; for broken pixels it raises. Photos from the wild have both.
_METADATA_WARNINGS = ("ignore", None, UserWarning, re.compile(r"PIL\."), 0)


def decode_rgb(content: bytes, *, draft: int = 0, upright: bool = False) -> Image.Image:
    """The image in a file's bytes as 8-bit RGB, the first one of several. Raises what Pillow raises.

    Transparency is dropped. See :func:`to_rgb` for deeper samples, and :meth:`dclib.data.images.ImageSet.open` for
    ``draft``; with ``upright`` it is turned as its camera says, and HEIF is read where pillow-heif is installed.
    """
    image = open_encoded(content, upright=upright)
    turn = turn_of(image) if upright else None
    if draft:
        image.draft("RGB", (draft, draft))
    rgb = to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What sets an opened image upright, by the orientation that its camera has written; None where it is.

    TIFF and HEIF come out of their decoders upright. What cannot be made out of broken metadata is no turn.
    """
    if image.format in ("TIFF", "HEIF"):
        return None
    if image.format == "PNG" and "exif" not in image.info:
        image.load()  # it may stand behind the pixels
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # whatever Pillow raises of broken metadata; broken pixels are told where they are decoded
        return None


def open_encoded(content: bytes, *, upright: bool = False) -> Image.Image:
    """The image in a file's bytes, of which the head alone is read: its size and kind.

    ``upright`` is for people's own photographs: HEIF is among their kinds.

    Raises:
        UnidentifiedImageError: no image in one of FORMATS.
        Exception: what Pillow raises; of an image that declares more than 179 million pixels, say.
    """
    # process-wide rather than around the call: the latter would race between threads
    if _METADATA_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=_formats(upright))
    except UnidentifiedImageError:  # its own words hold an address in memory
        held = f"it begins with {content[:SHOWN_BYTES]!r}" if content else "it is empty"
        if upright and content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS and not reads_heif():
            raise UnidentifiedImageError(f"it is HEIF; {HEIF_ADVICE}") from None
        raise UnidentifiedImageError(f"cannot identify it as one of {', '.join(FORMATS)}; {held}") from None
    return image


def refuse_too_large(size: int) -> None:
    """ValueError where a file has more bytes than LARGEST_FILE: to be asked before it is read."""
    if size > LARGEST_FILE:
        raise ValueError(f"it has {size:,} bytes, and at most {LARGEST_FILE:,} are read; make it smaller")


def to_rgb(image: Image.Image) -> Image.Image:
    """An opened image decoded as 8-bit RGB.

    Whole samples of 9 to 16 bits keep their 8 highest bits; fractions in [0, 1] are multiplied by 255.

    Raises:
        ValueError: samples are signed, have 32 bits, or are fractions outside [0, 1]: nothing says which is white.
        Exception: what Pillow raises of broken bytes.
    """
    tags = getattr(image, "tag_v2", {})
    if SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise ValueError("its samples are signed, and nothing says which is white; save it with 8 or 16 bits")
    if image.mode == "F":
        grey = _from_fractions(np.asarray(image))
    elif image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG")):
        bits = max(tags.get(BITS, (16,)))
        grey = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    elif image.mode == "I":
        raise ValueError("its samples have 32 bits, and nothing says which is white; save it with 8 or 16 bits")
    else:
        return image.convert("RGB")
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # which Pillow heeds up to 8 bits
        grey = 255 - grey
    return Image.fromarray(grey).convert("RGB")


def _from_fractions(samples: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = float(samples.min()), float(samples.max())
    if not 0 <= low <= high <= 1:  # also where one is no number
        raise ValueError(
            f"its samples are fractions from {low:g} to {high:g}, and only those in [0, 1] say which is white; "
            "save it with 8 or 16 bits"
        )
    return (samples * np.float32(255)).round().astype(np.uint8)


@cache
def reads_heif() -> bool:
    """Whether pillow-heif is installed; Pillow then reads HEIF with it."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


@cache
def _formats(upright: bool) -> tuple[str, ...]:
    """Those of FORMATS that this Pillow has, and HEIF for people's own photographs."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN) + (("HEIF",) if upright and reads_heif() else ())
