"""Pixels: decoded once or on the way, with the same views; unreadable images; the cache; crops that resume anywhere."""

import io
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensor_watch import MadeTensors

from dclib import preemption
from dclib.config import DataConfig
from dclib.data import pixels as module
from dclib.data import streaming
from dclib.data.images import ImageSet, UnreadableImageError
from dclib.data.pixels import Pixels, load_pixels
from dclib.data.transforms import crop_batch, crop_quickly, draw_crop, draw_crops, resize_and_centre, to_tensor
from dclib.randomness import derive_seed, generator

BROKEN = b"no image at all"


class CountingReader:
    """Images from a dict; counts what is read, and can refuse to read at all."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.reads: list[str] = []
        self.closed = False

    def read(self, image_id: str) -> bytes:
        assert not self.closed, "nothing should be read here"
        self.reads.append(image_id)
        return self.contents[image_id]

    def sizes(self, image_ids):
        return np.array([len(self.contents[i]) for i in image_ids], dtype=np.int64)


def png(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(30, 60, 2)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def make_set(n: int = 9, broken: tuple[int, ...] = ()) -> ImageSet:
    contents = {f"{i}.png": BROKEN if i in broken else png(i) for i in range(n)}
    return ImageSet("tiny", list(contents), CountingReader(contents))


def settings(*, keep: bool = True, **changes) -> DataConfig:
    return DataConfig(**{"resize": 36, "memory_gb": 1.0 if keep else 0.0, "max_unreadable": 0.5, **changes})


def load(
    images: ImageSet | None = None, *, size: int = 32, cache: Path | None = None, scan: bool = False, **changes
) -> Pixels:
    return load_pixels(make_set() if images is None else images, settings(**changes), size, cache, scan=scan)


# --- views


@pytest.mark.parametrize("keep", [True, False])
def test_centre_views_are_those_of_the_images_in_order(keep):
    images = make_set()
    pixels = load(images, keep=keep)
    batches = list(pixels.centre_batches(4))
    assert [len(b) for b in batches] == [4, 4, 1]
    expected = [to_tensor(resize_and_centre(images[i], 36, 32)) for i in range(9)]
    views = torch.cat(batches)
    assert torch.equal(views, torch.stack(expected))
    for batch in batches:  # they are the caller's own
        batch.zero_()
    assert torch.equal(torch.cat(list(pixels.centre_batches(9))), torch.stack(expected))


@pytest.mark.parametrize(("resize", "size"), [(36, 32), (37, 32), (41, 30), (32, 32)])
def test_decoded_and_streamed_centre_views_are_equal(resize, size):
    """Bit for bit: both resize with Pillow and cut whole pixels, and memory decides nothing but speed."""
    kept, streamed = (torch.cat(list(load(size=size, keep=k, resize=resize).centre_batches(5))) for k in (True, False))
    assert torch.equal(kept, streamed)


def test_memory_decides_whether_pixels_are_kept():
    images = make_set()
    just_enough = 9 * 3 * 36 * 36 / 2**30
    assert load_pixels(images, settings(memory_gb=just_enough), 32).decoded is not None
    assert load_pixels(images, settings(memory_gb=0.999 * just_enough), 32).decoded is None
    assert load(images).decoded.shape == (9, 3, 36, 36)
    assert load(images).decoded.dtype == torch.uint8


def test_chunks_of_the_decoding_pool_land_in_their_rows(monkeypatch):
    expected = load(make_set(broken=(2, 3))).decoded
    monkeypatch.setattr(module, "DECODE_CHUNK", 2)
    assert torch.equal(load(make_set(broken=(2, 3))).decoded, expected)


# --- crops


def test_kept_pixels_are_cropped_from_the_batchs_own_seed():
    pixels = load()
    rows = torch.tensor([4, 0, 4])
    (actual,) = pixels.crop_batches([rows], 0.3, [7])
    sides = torch.full((3,), 36)
    expected = crop_batch(pixels.decoded[rows], draw_crops(sides, sides, 0.3, generator(7)), 32)
    assert torch.equal(actual, expected)
    assert not torch.equal(actual[0], actual[2])  # one image twice, two crops


def test_streamed_images_are_cropped_from_their_batchs_seed_and_place():
    images = make_set()
    rows = torch.tensor([4, 0, 4])
    (actual,) = load(images, keep=False).crop_batches([rows], 0.3, [7])
    for place, row in enumerate(rows.tolist()):
        image = images[row]
        expected = crop_quickly(image, draw_crop(image.height, image.width, 0.3, generator(7, place)), 32)
        assert torch.equal(actual[place], expected)
    assert not torch.equal(actual[0], actual[2])


@pytest.mark.parametrize("keep", [True, False])
def test_a_batch_depends_on_its_own_seed_alone(keep):
    pixels = load(keep=keep)
    batches = [torch.tensor([0, 1, 2]), torch.tensor([3, 4]), torch.tensor([5, 6, 7, 8])]
    seeds = [11, 12, 13]
    whole = list(pixels.crop_batches(batches, 0.2, seeds))
    resumed = list(pixels.crop_batches(batches[1:], 0.2, seeds[1:]))
    assert all(torch.equal(a, b) for a, b in zip(whole[1:], resumed, strict=True))
    (other,) = pixels.crop_batches(batches[:1], 0.2, [99])
    assert not torch.equal(other, whole[0])


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_share_of_a_batch_is_cropped_as_it_is_in_the_whole(keep, workers):
    """Bit for bit: several processes must see one batch."""
    pixels = load(keep=keep, workers=workers)
    batches, seeds = [torch.tensor([4, 0, 4, 8, 2]), torch.tensor([7, 1, 3])], [7, 8]
    whole = list(pixels.crop_batches(batches, 0.3, seeds))
    shares = [[torch.tensor([1, 3]), torch.tensor([2])], [torch.tensor([4, 0, 2]), torch.tensor([], dtype=torch.int64)]]
    for places in shares:
        parts = list(pixels.crop_batches(batches, 0.3, seeds, places))
        for part, batch, chosen in zip(parts, whole, places, strict=True):
            assert torch.equal(part, batch[chosen])
            assert part.dtype == (torch.float32 if keep else torch.uint8)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("batch_size", [2, 4, 100])
def test_a_range_of_the_images_has_the_views_of_the_whole(keep, batch_size):
    pixels = load(keep=keep)
    whole = torch.cat(list(pixels.centre_batches(9)))
    for start, stop in [(0, 9), (2, 7), (8, 9), (5, None)]:
        assert torch.equal(torch.cat(list(pixels.centre_batches(batch_size, start, stop))), whole[start:stop])
    assert list(pixels.centre_batches(batch_size, 4, 4)) == []
    for start, stop in [(-1, 3), (5, 4), (0, 10)]:
        with pytest.raises(ValueError, match="need 0 <= start <= stop <= 9, the images; got"):
            next(pixels.centre_batches(batch_size, start, stop))


@pytest.mark.parametrize("keep", [True, False])
def test_reading_leaves_the_global_generator_alone(keep):
    """Dropout draws from it: a resumed epoch opens its batches once more and must not shift the masks."""
    pixels = load(keep=keep)
    before = torch.get_rng_state()
    list(pixels.crop_batches([torch.arange(4)], 0.3, [5]))
    list(pixels.centre_batches(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_two_workers_give_what_none_gives():
    images = make_set()
    batches, seeds = [torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5]), torch.tensor([8, 7])], [1, 2, 3]
    alone, shared = (load(images, keep=False, workers=workers) for workers in (0, 2))
    for a, b in zip(alone.crop_batches(batches, 0.2, seeds), shared.crop_batches(batches, 0.2, seeds), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(alone.centre_batches(4), shared.centre_batches(4), strict=True):
        assert torch.equal(a, b)


def test_workers_do_without_shared_memory_where_it_is_full(monkeypatch):
    """As in a container whose /dev/shm is small: what could not be sent would be waited for without end."""
    alone, shared = (load(make_set(), keep=False, workers=workers) for workers in (0, 2))

    def refuse(*_: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)  # workers are forked, and have it too
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", refuse)
    for a, b in zip(alone.centre_batches(4), shared.centre_batches(4), strict=True):
        assert torch.equal(a, b)


def test_a_worker_that_is_killed_ends_the_pass_in_one_sentence(monkeypatch):
    pixels = load(make_set(), keep=False, workers=1)
    monkeypatch.setattr(streaming.Stream, "_read", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(OSError, match="was ended, most often because memory ran out: lower data.workers"):
        list(pixels.centre_batches(4))


def test_a_process_that_waits_for_its_workers_leaves_when_it_is_asked(monkeypatch):
    pixels = load(make_set(), keep=False, workers=1)
    forked = multiprocessing.get_context("fork")
    waits = forked.Event()

    def never(*_: object) -> None:  # a disk that does not answer
        waits.set()
        time.sleep(60)

    def task() -> None:
        try:
            with preemption.heed_signals():
                list(pixels.centre_batches(4))
        except preemption.PreemptedError:
            os._exit(7)  # by itself, before it is taken for one that is stuck

    monkeypatch.setattr(streaming.Stream, "_read", never)
    monkeypatch.setattr(preemption, "_patience", [0.3])
    child = forked.Process(target=task)
    child.start()
    assert waits.wait(30)
    began = time.monotonic()
    child.terminate()
    while child.is_alive() and time.monotonic() - began < 20:
        time.sleep(0.05)  # join would wait for the worker too, which has the child's end of a pipe
    assert child.exitcode == 7
    assert time.monotonic() - began < 5


# --- unreadable images


@pytest.mark.parametrize("keep", [True, False])
def test_unreadable_images_are_left_out_counted_and_named(keep):
    pixels = load(make_set(broken=(2, 5)), keep=keep, scan=True)
    assert pixels.unreadable == ("2.png", "5.png")
    assert len(pixels) == 7
    assert list(pixels.images.ids) == [f"{i}.png" for i in (0, 1, 3, 4, 6, 7, 8)]
    views = torch.cat(list(pixels.centre_batches(3)))
    expected = torch.cat(list(load(keep=keep).centre_batches(3)))[[0, 1, 3, 4, 6, 7, 8]]
    assert torch.equal(views, expected)


@pytest.mark.parametrize("keep", [True, False])
def test_more_unreadable_images_than_allowed_are_refused(keep):
    images = make_set(broken=(2, 5))
    with pytest.raises(ValueError, match=r"2 of 9 images of tiny are unreadable \(22.2%\).*20.0%.*first: 2.png, 5.png"):
        load(images, keep=keep, scan=True, max_unreadable=0.2)
    load(images, keep=keep, scan=True, max_unreadable=2 / 9)  # the limit itself is allowed


def test_a_set_of_unreadable_images_only_is_refused_whatever_the_limit():
    with pytest.raises(ValueError, match="3 of 3 images of tiny are unreadable"):
        load(make_set(3, broken=(0, 1, 2)), max_unreadable=0.999)


def test_only_the_first_failures_are_named():
    with pytest.raises(ValueError, match=r"first: 0.png, 1.png, 2.png, 3.png, 4.png\. Remove"):
        load(make_set(9, broken=tuple(range(8))))


# --- unreadable images of a set that is decoded as it is used


def stand_in(row: int, broken: tuple[int, ...], n: int = 9) -> int:
    """The image that is shown for ``row``: the first readable one in the order drawn for its number."""
    drawn = [row, *(derive_seed(row, "replacement", attempt) % n for attempt in range(1, streaming.TRIES))]
    return next(candidate for candidate in drawn if candidate not in broken)


def views(pixels: Pixels) -> list[torch.Tensor]:
    """The batches of both passes."""
    rows = [torch.tensor([4, 2, 0]), torch.tensor([5, 5, 8]), torch.tensor([2, 7])]
    return [*pixels.centre_batches(4), *pixels.crop_batches(rows, 0.3, [1, 2, 3])]


def test_nothing_is_read_before_the_first_batch():
    images = make_set()
    images.reader.closed = True
    assert len(load(images, keep=False)) == 9


def test_an_unreadable_image_is_replaced_where_it_stands():
    whole = torch.cat(list(load(keep=False).centre_batches(9)))
    for broken in [(2, 5), (0, 1, 2, 8)]:
        pixels = load(make_set(broken=broken), keep=False)
        assert (len(pixels), pixels.unreadable) == (9, ())  # nothing is known yet
        views = torch.cat(list(pixels.centre_batches(4)))
        assert torch.equal(views, whole[[stand_in(row, broken) for row in range(9)]])
        assert pixels.unreadable == tuple(f"{i}.png" for i in broken)
        assert list(pixels.images.ids) == [f"{i}.png" for i in range(9)]


def test_a_stand_in_is_cropped_by_the_seed_and_place_of_the_image_it_stands_for():
    broken = (2, 5)
    (actual,) = load(make_set(broken=broken), keep=False).crop_batches([torch.tensor([4, 2, 5])], 0.3, [7])
    shown = torch.tensor([4, stand_in(2, broken), stand_in(5, broken)])
    (expected,) = load(keep=False).crop_batches([shown], 0.3, [7])
    assert torch.equal(actual, expected)


def test_stand_ins_are_the_same_for_any_number_of_workers_and_after_a_restart(tmp_path):
    broken = (0, 2, 5)
    expected = views(load(make_set(broken=broken), keep=False))
    for workers in (0, 2):
        pixels = load(make_set(broken=broken), keep=False, workers=workers, cache=tmp_path / str(workers))
        found = views(pixels)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert pixels.unreadable == ("0.png", "2.png", "5.png")
        again = load(make_set(broken=broken), keep=False, workers=workers, cache=tmp_path / str(workers))
        (last,) = again.crop_batches([torch.tensor([2, 7])], 0.3, [3])
        assert torch.equal(last, expected[-1])
        assert again.unreadable == pixels.unreadable  # what was met before the restart counts


def test_processes_share_the_count(tmp_path):
    one, other = (load(make_set(broken=(2, 5)), keep=False, cache=tmp_path, max_unreadable=0.2) for _ in range(2))
    list(one.centre_batches(3, 0, 4))
    list(one.centre_batches(3, 0, 4))  # an image counts once
    assert one.unreadable == other.unreadable == ("2.png",)
    with pytest.raises(ValueError, match="2 of 9 images of tiny are unreadable"):
        list(other.centre_batches(3, 4))
    with pytest.raises(ValueError, match=r"once they are repaired, delete .*\.replaced, which counts them"):
        load(make_set(broken=(2, 5)), keep=False, cache=tmp_path, max_unreadable=0.2)
    assert load(make_set(), keep=False, cache=tmp_path, max_unreadable=0.2).unreadable == ()  # of other bytes


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_met_on_the_way_end_the_pass_in_one_sentence(workers):
    pixels = load(make_set(broken=(1, 4, 6)), keep=False, workers=workers, max_unreadable=0.25)
    batches = pixels.centre_batches(2)
    assert [len(next(batches)) for _ in range(3)] == [2, 2, 2]
    with pytest.raises(ValueError, match="3 of 9 images of tiny are unreadable") as caught:
        next(batches)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_set_that_is_gone_is_found_at_once_whatever_the_limit(workers):
    pixels = load(make_set(60, broken=tuple(range(60))), keep=False, workers=workers, max_unreadable=0.9)
    with pytest.raises(ValueError, match=r"20 drawn .* the first because: image '4\.png' of tiny") as caught:
        next(pixels.crop_batches([torch.tensor([4, 9])], 0.3, [0]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_were_all_read_once_are_not_replaced(workers):
    images = make_set()
    pixels = load(images, keep=False, scan=True, workers=workers)
    images.reader.contents["3.png"] = BROKEN
    with pytest.raises(UnreadableImageError, match=r"3\.png") as caught:
        list(pixels.centre_batches(4))
    assert "\n" not in str(caught.value)  # of a worker neither


# --- the cache


@pytest.mark.parametrize("broken", [(), (2, 5)])
@pytest.mark.parametrize("keep", [True, False])
def test_a_second_call_reads_no_image_again(tmp_path, keep, broken):
    images = make_set(broken=broken)
    first = load(images, keep=keep, scan=True, cache=tmp_path / "pixels")
    images.reader.closed = True
    second = load(images, keep=keep, scan=True, cache=tmp_path / "pixels")
    assert second.unreadable == first.unreadable == tuple(f"{i}.png" for i in broken)
    if keep:
        assert torch.equal(first.decoded, second.decoded)


def test_cached_pixels_equal_those_in_memory(tmp_path):
    images = make_set(broken=(2,))
    assert torch.equal(load(images, cache=tmp_path).decoded, load(images).decoded)


def test_other_images_and_sizes_have_files_of_their_own(tmp_path):
    images = make_set()
    load(images, cache=tmp_path)
    other_size = load(images, cache=tmp_path, resize=40)
    other_images = load(make_set(8), cache=tmp_path)
    assert other_size.decoded.shape == (9, 3, 40, 40)
    assert other_images.decoded.shape == (8, 3, 36, 36)
    assert len(list(tmp_path.glob("*.u8"))) == 3


def test_a_file_cut_short_is_decoded_again(tmp_path):
    images = make_set()
    expected = load(images, cache=tmp_path).decoded.clone()
    (path,) = tmp_path.glob("*.u8")
    path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(load(images, cache=tmp_path).decoded, expected)


def test_an_interrupted_decoding_leaves_nothing_behind(tmp_path, monkeypatch):
    images = make_set()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_fill", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(images, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_edits_never_reach_the_file(tmp_path):
    images = make_set()
    pixels = load(images, cache=tmp_path)
    (path,) = tmp_path.glob("*.u8")
    before = path.read_bytes()
    pixels.decoded.zero_()
    assert path.read_bytes() == before
    assert load(images, cache=tmp_path).decoded.any()


def test_a_batch_does_not_alias_the_kept_pixels():
    pixels = load()
    before = pixels.decoded.clone()
    for batch in pixels.centre_batches(4):
        batch.zero_()
    for batch in pixels.crop_batches([torch.arange(4)], 0.5, [0]):
        batch.zero_()
    assert torch.equal(pixels.decoded, before)


@pytest.mark.parametrize("broken", [(), (2,)])
def test_kept_pixels_stay_in_the_file(tmp_path, broken):
    """One broken image must not pull the rest, gigabytes of it, into memory."""
    images = make_set(broken=broken)
    load(images, cache=tmp_path)
    with MadeTensors() as watch:
        pixels = load(images, cache=tmp_path)
    assert watch.largest(torch.uint8) < pixels.decoded.numel()


@pytest.mark.parametrize("keep", [True, False])
def test_a_cache_folder_that_cannot_be_made_is_an_error(tmp_path, keep):
    (tmp_path / "file").write_text("in the way")  # permissions would not stop a superuser
    with pytest.raises(OSError, match="file"):
        load(keep=keep, cache=tmp_path / "file" / "pixels")


def test_a_disk_without_room_is_an_error_before_anything_is_decoded(tmp_path, monkeypatch):
    images = make_set()
    images.reader.closed = True
    usage = type("Usage", (), {"free": 9 * 3 * 36 * 36 - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"need 0\.0 GiB in .* lower data.memory_gb"):
        load(images, cache=tmp_path)


def test_batches_larger_than_what_is_kept_are_refused():
    with pytest.raises(ValueError, match="data.resize must be at least model.image_size; got 36 and 37"):
        load(size=37)
