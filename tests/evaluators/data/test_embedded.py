"""The embedded tasks: no glyph in two splits, and nothing but the seed decides."""

import numpy as np
import torch

from evaluators.data import ArraySplit, embedded, load_data


def test_no_glyph_is_in_two_splits() -> None:
    rows = {split: set(embedded.glyph_rows(split, seed=3)) for split in ("train", "val", "test")}
    assert sum(map(len, rows.values())) == len(set.union(*rows.values())) == 1797
    assert rows["test"] == set(embedded.glyph_rows("test", seed=4)), "test is the same for every seed"
    assert rows["val"] != set(embedded.glyph_rows("val", seed=4))


def test_cluttered_digits_depends_on_the_seed_only() -> None:
    sizes = {"train_size": 60, "val_size": 40, "test_size": 20}
    first, again = load_data("cluttered_digits", seed=1, **sizes), load_data("cluttered_digits", seed=1, **sizes)
    other = load_data("cluttered_digits", seed=2, **sizes)
    assert isinstance(first.train, ArraySplit)
    assert first.identity == again.identity != other.identity
    assert first.train.images_NCHW.shape == (60, 1, *first.size)
    assert first.train.images_NCHW.dtype == torch.uint8
    assert torch.bincount(first.val.labels_N).tolist() == [4] * 10
    assert len(first.test) == 20
    assert first.train.digest != first.val.digest


def test_the_glyph_is_really_in_the_picture() -> None:
    """Without clutter and noise, the brightest canvas pixels are an enlarged glyph of the labelled class."""
    images, labels = embedded.glyphs()
    clutter = embedded.Clutter(canvas=20, glyph=(20, 20), fragments=0, contrast=1, noise=0)
    split = embedded.compose(images, labels, 30, clutter, seed=0)
    candidates = (embedded.enlarge(images, 20) * 255).round().astype(np.uint8)
    for image, label in zip(split.images_NCHW[:, 0].numpy(), split.labels_N, strict=True):
        found = np.flatnonzero((candidates == image).all((1, 2)))
        assert len(found)
        assert set(labels[found]) == {int(label)}
