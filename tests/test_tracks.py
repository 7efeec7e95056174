"""What moves otherwise than its background is found and followed; what stands still, or moves with it, is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from dclib.data import motion, tracks
from dclib.data.clips import Clips, open_clips
from dclib.data.images import ImageSet
from dclib.data.tracks import cut_patches, load_tracks, mine_tracks
from dclib.pocket import clip_set
from dclib.pocket.colour import add_noise

Points = list[tuple[float, float]]


def ground(seed: int, side: int = 260) -> np.ndarray:
    """A texture with structure from 4 to 20 pixels, grey 60 to 190."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.standard_normal((side, side)), s) * s for s in (2, 5, 9)]
    texture = sum(layers)
    return 125 + 55 * np.clip(texture / texture.std() / 2, -1.2, 1.2)


def write_clip(folder: Path, pans: Points, things: Points | None, side: int = 128, thing: int = 40) -> None:
    """Frames of a ground seen from ``pans`` (top, left) on, with a patterned square at ``things`` in the frame."""
    folder.mkdir(parents=True)
    background = ground(len(str(folder)))
    pattern = 20 + 60 * (np.indices((thing, thing)).sum(axis=0) // 8 % 2) + np.arange(thing)[:, None]
    for number, (top, left) in enumerate(pans):
        pixels = ndimage.shift(background, (-top, -left), order=1)[:side, :side]
        if things is not None:
            row, column = (round(v) for v in things[number])
            pixels[row : row + thing, column : column + thing] = pattern
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")
        add_noise(np.random.default_rng(number), image, 3.0).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    root = tmp_path_factory.mktemp("drawn")
    clip_set.write_clips(root, 7, 0, 32)
    return open_clips(root)


def test_a_moving_square_is_followed_to_within_two_pixels(tmp_path: Path) -> None:
    """From where the track begins: the patch may hold the square off its middle, but must keep it there."""
    course = [(20 + 5.0 * i, 12 + 7.0 * i) for i in range(8)]
    write_clip(tmp_path / "one", [(10 + 1.5 * i, 60 - 2.0 * i) for i in range(8)], course)
    found = mine_tracks(open_clips(tmp_path), patch=48, frames=8)
    assert len(found) == 1
    assert found.frame.tolist() == [list(range(8))]
    middles = found.box[0, :, :2] + found.box[0, :, 2:] / 2
    offsets = middles - (np.array(course) + 20)
    assert np.abs(offsets[0]).max() < 12  # the square is in the patch
    assert np.abs(offsets - offsets[0]).max() <= 2


def test_a_thing_that_grows_is_followed_at_its_size() -> None:
    """By half in six steps: to within 15 %, two and a half of the steps of 6 % in which scales are tried."""
    pattern = ndimage.zoom(np.random.default_rng(0).uniform(0, 90, (6, 6)), 10, order=1).astype(np.float32)
    frames, sides = [], [round(40 * 1.5 ** (i / 6)) for i in range(7)]
    for number, side in enumerate(sides):
        frame = ground(1)[:128, :128].astype(np.float32)
        view = Image.fromarray(pattern).resize((side, side), Image.Resampling.BILINEAR)
        top, left = 15 + 5 * number, 20 + 4 * number
        frame[top : top + side, left : left + side] = np.asarray(view)
        frames.append(frame)
    places = motion.follow(motion.lessen_grain(np.array(frames)), [(0, 0)] * 6, (15, 20, 40))
    assert places is not None
    assert np.array(places)[:, 2] == pytest.approx(sides, rel=0.15)


@pytest.mark.parametrize("patch", [24, 48, 64])
def test_still_clips_and_clips_of_a_panning_camera_have_no_track(tmp_path: Path, patch: int) -> None:
    """A square lies on the ground: it stands out, and goes where the ground goes."""
    for number, step in enumerate([(2, 3), (-3, 1), (1.3, -2.2), (-0.4, 2.5)]):
        pans = [(60 + step[0] * i, 60 + step[1] * i) for i in range(9)]
        write_clip(tmp_path / f"still{number}", [pans[0]] * 9, [(40, 50)] * 9)
        write_clip(tmp_path / f"pan{number}", pans, [(104 - top, 104 - left) for top, left in pans])
    assert len(mine_tracks(open_clips(tmp_path), patch=patch, frames=4)) == 0


@pytest.mark.parametrize("shift", [(0, 0), (2, -3)])
def test_a_patch_that_goes_with_the_background_is_not_followed(shift: tuple[int, int]) -> None:
    """Though it is found again in every frame; with a background said to stand still it would be a track."""
    whole = ground(4).astype(np.float32)
    frames = np.array([whole[60 - i * shift[0] :, 60 - i * shift[1] :][:128, :128] for i in range(4)])
    assert motion.follow(frames, [shift] * 3, (40, 40, 40)) is None
    if any(shift):
        assert motion.follow(frames, [(0, 0)] * 3, (40, 40, 40)) == [(40 + 2 * i, 40 - 3 * i, 40) for i in range(4)]


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-5, 4), (11, 0)])
def test_the_cameras_shift_is_that_of_the_ground_whatever_moves_before_it(shift: tuple[int, int]) -> None:
    """A third of the picture is a thing that goes its own way. To a pixel: at its edges the blur mixes the two."""
    whole = ground(3).astype(np.float32)
    frames = []
    for number in range(2):
        top, left = 40 - number * shift[0], 40 - number * shift[1]
        frame = whole[top : top + 128, left : left + 128].copy()
        at = 20 + 6 * number
        frame[at : at + 74, at : at + 74] = 30 + 10 * np.indices((74, 74))[0] % 50
        frames.append(frame * (1.0 if number else 0.9))  # under changing light
    even = motion.even_out(motion.lessen_grain(np.array(frames)), 48)
    assert np.abs(np.subtract(motion.camera_shift(even[0], even[1]), shift)).max() <= 1


def test_correlation_matches_numpy_s_coefficient_of_every_patch() -> None:
    rng = np.random.default_rng(0)
    region, template = rng.normal(90, 20, (19, 23)).astype(np.float32), rng.normal(50, 9, (7, 7)).astype(np.float32)
    region[3:10, 5:12] = 12.0  # an even patch has no correlation
    found = motion.correlation(region, template)
    assert found.shape == (13, 17)
    for row, column in np.ndindex(13, 17):
        patch = region[row : row + 7, column : column + 7]
        expected = 0.0 if np.ptp(patch) == 0 else np.corrcoef(patch.ravel(), template.ravel())[0, 1]
        assert found[row, column] == pytest.approx(expected, abs=1e-4)  # float32 transforms of values near 100


def test_tracks_of_drawn_clips_are_on_what_moves(drawn: Clips) -> None:
    """Of 96 such clips, 97 of 100 boxes of 48 pixels have their middle in the true box, and 99 of 64 pixels."""
    found = mine_tracks(drawn, patch=56, frames=4)
    assert len(np.unique(found.clip)) >= 0.8 * len(drawn)
    inside = []
    for frames, boxes, number in zip(found.frame, found.box, found.clip, strict=True):
        true = clip_set.clip_boxes(7, int(number))[frames - drawn.frames(int(number)).start]
        middles = boxes[:, :2] + boxes[:, 2:] / 2
        inside.append(((middles >= true[:, :2]) & (middles < true[:, :2] + true[:, 2:])).all(axis=1))
    assert np.mean(inside) > 0.9


def test_tracks_do_not_depend_on_what_is_tracked_beside_them(drawn: Clips) -> None:
    """A clip alone or beside others in threads has the same tracks, whole in its frames, at most as many as asked."""
    together = mine_tracks(drawn, patch=40, frames=3, per_clip=2)
    assert np.bincount(together.clip).max() <= 2
    assert (together.box >= 0).all()
    assert (together.box[..., :2] + together.box[..., 2:] <= 128).all()
    assert (np.diff(together.frame, axis=1) == 1).all()
    assert (drawn.clip[together.frame] == together.clip[:, None]).all()
    for number in (0, 5):
        found, mine = mine_tracks(drawn.subset([number]), patch=40, frames=3, per_clip=2), together.clip == number
        assert (found.box == together.box[mine]).all()
        assert (found.frame + drawn.frames(number).start == together.frame[mine]).all()


def test_a_large_video_is_looked_at_smaller_and_its_boxes_are_in_its_own_pixels(tmp_path: Path) -> None:
    """Three times the drawn clip: boxes have three times the size, and their middles are on what moves."""
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "large.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 384, 384, "yuv420p", 8_000_000
        for frame in clip_set.draw_clip(7, 0):
            container.mux(stream.encode(av.VideoFrame.from_image(frame.resize((384, 384)))))
        container.mux(stream.encode())
    clips = open_clips(tmp_path)
    found = mine_tracks(clips, patch=168, frames=4)
    assert len(found) >= 1
    assert (found.box[:, 0, 2:] == 168).all()
    true = clip_set.clip_boxes(7, 0)[found.frame] * 3
    middles = found.box[..., :2] + found.box[..., 2:] / 2
    assert ((middles >= true[..., :2]) & (middles < true[..., :2] + true[..., 2:])).all()
    assert cut_patches(clips, found, 32).shape == (len(found), 4, 3, 32, 32)


def test_patches_are_cut_where_the_boxes_are(drawn: Clips) -> None:
    """A box of the patch's own size is cut as it is; a larger one is averaged, so that its mean stays."""
    found = tracks.Tracks(
        np.array([[0, 1], [3, 3]]), np.array([[[10, 20, 32, 32]] * 2, [[0, 0, 64, 64]] * 2], np.int32), np.zeros(2, int)
    )
    patches = cut_patches(drawn, found, 32)
    assert patches.shape == (2, 2, 3, 32, 32)
    for place in range(2):
        whole = np.asarray(drawn.images[place])
        assert (patches[0, place] == whole[10:42, 20:52].transpose(2, 0, 1)).all()
    whole = np.asarray(drawn.images[3])[:64, :64]
    assert patches[1, 0].mean() == pytest.approx(whole.mean(), abs=1.0)
    assert patches[1, 0].std() < whole.std()


def test_tracks_are_found_once_and_anew_for_other_clips_or_settings(
    drawn: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"patch": 48, "side": 16, "frames": 4}
    some, patches = load_tracks(drawn, None, **asked)
    kept, same = load_tracks(drawn, tmp_path, **asked)
    assert (some.box == kept.box).all()
    assert (patches == same).all()
    monkeypatch.setattr(tracks, "mine_tracks", lambda *_, **__: pytest.fail("looked again"))
    again, mapped = load_tracks(drawn, tmp_path, **asked)
    assert isinstance(mapped, np.memmap)
    assert (again.frame == some.frame).all()
    assert (mapped == patches).all()
    for changed in ({"side": 8}, {"patch": 40}, {"frames": 3}):
        with pytest.raises(pytest.fail.Exception, match="looked again"):
            load_tracks(drawn, tmp_path, **asked | changed)
    with pytest.raises(pytest.fail.Exception, match="looked again"):
        load_tracks(drawn.subset([0, 1, 2]), tmp_path, **asked)


def test_a_kill_between_the_two_files_leaves_nothing_half_done(
    drawn: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(tracks.np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            load_tracks(drawn, tmp_path, patch=48, side=16, frames=4)
    assert not list(tmp_path.glob("*.npz"))
    found, patches = load_tracks(drawn, tmp_path, patch=48, side=16, frames=4)
    assert (patches == cut_patches(drawn, found, 16)).all()


class Cut:
    """Frames of which one breaks off in its middle, as a copy that was cut short."""

    def __init__(self, clips: Clips, broken: str) -> None:
        self.inner, self.broken = clips.images.reader, broken

    def read(self, image_id: str) -> bytes:
        content = self.inner.read(image_id)
        return content[: len(content) // 2] if image_id == self.broken else content

    def sizes(self, image_ids):  # type: ignore[no-untyped-def]
        return self.inner.sizes(image_ids)


def test_a_frame_that_breaks_off_is_told_and_the_rest_is_followed(drawn: Clips) -> None:
    broken = drawn.images.ids[2]
    images = ImageSet("cut", drawn.images.ids, Cut(drawn, broken))
    found = mine_tracks(Clips(images, drawn.clip, drawn.names), patch=48, frames=4)
    assert found.notes == (f"passed over frames that cannot be read (1): {broken}",)
    assert 2 not in found.frame
    assert len(found) > 10


def test_impossible_settings_and_clips_in_which_nothing_moves_are_errors(tmp_path: Path) -> None:
    write_clip(tmp_path / "still", [(60.0, 60.0)] * 4, None)
    clips = open_clips(tmp_path)
    with pytest.raises(ValueError, match="something moves otherwise than the background; in none of 1 clips"):
        load_tracks(clips, None, patch=32, side=16, frames=4)
    with pytest.raises(ValueError, match="no larger than 128 pixels .1.: still"):
        load_tracks(clips, None, patch=128, side=16, frames=4)
    for wrong in ({"patch": 8, "frames": 4}, {"patch": 32, "frames": 1}, {"patch": 32, "frames": 2, "per_clip": 0}):
        with pytest.raises(ValueError, match="need patch >= 16 pixels, frames >= 2 and per_clip >= 1"):
            mine_tracks(clips, **wrong)
