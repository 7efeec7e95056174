"""Pascal VOC 2007, train to val, without fine-tuning: what settings are chosen by and what ends pre-training.

Source: supplement, section 5.
"""

from __future__ import annotations

from dclib.config import Preset, config_hash
from dclib.data.contents import content_hashes
from dclib.data.voc import VocSet, check_classes, open_voc
from dclib.evaluate.voc import classify_voc
from dclib.models.vgg import Trunk
from dclib.train.runs import pixel_cache, prepare_data
from dclib.train.start import Validator


def open_voc_splits(preset: Preset, *splits: str) -> tuple[VocSet, ...] | None:
    """Splits of the preset's VOC set; None where the preset has none.

    Raises:
        ValueError: the folder is there and is not in VOC's layout, a list is missing, or the classes differ.
    """
    folder = prepare_data(preset).root / preset.data.voc
    if not preset.data.voc or not folder.is_dir():
        return None
    found = tuple(open_voc(folder, split) for split in splits)
    for one in found[1:]:
        check_classes(found[0], one)
    return found


def usable_voc_splits(preset: Preset, *splits: str) -> tuple[VocSet, ...] | None:
    """The same for a page, which goes on without a set that cannot be used, and says why."""
    try:
        return open_voc_splits(preset, *splits)
    except (ValueError, OSError) as error:
        print(f"Pascal VOC is left out: {error}")
        return None


def validation_score(preset: Preset, trunk: Trunk, splits: tuple[VocSet, ...], seed: int) -> float:
    """Mean average precision of a network, train to val, convolutions frozen: what settings are chosen by."""
    steps = preset.voc.validation_iterations
    train, val = splits
    return classify_voc(
        trunk, train, val, preset.voc, setting="fc68", seed=seed, iterations=steps, data=preset.data
    ).mean


def voc_validator(preset: Preset, seed: int) -> Validator:
    """Tells when pre-training is over: performance on VOC2007, train to val, without fine-tuning.

    Raises:
        ValueError: the preset has no VOC set.
    """
    splits = open_voc_splits(preset, "train", "val")
    if splits is None:
        raise ValueError(
            f"train.patience stops by Pascal VOC 2007, and there is none: put it in {preset.data.voc!r} below the "
            "images, name its folder in data.voc, or set train.patience to 0"
        )
    images = content_hashes([split.images for split in splits], pixel_cache())
    identity = config_hash(preset.voc, images, [split.labels.tolist() for split in splits], seed)
    return Validator(lambda trunk: validation_score(preset, trunk, splits, seed), identity)
