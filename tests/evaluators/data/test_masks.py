"""Data with masks: every layout, what pixel values stand for, and one line for whatever cannot be read without guessing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from evaluators.data.masks.batches import MaskBatches
from evaluators.data.masks.codes import IGNORED
from evaluators.data.masks.load import load_masks
from evaluators.data.masks.published import CITYSCAPES_IDS, VOC_NAMES
from evaluators.data.masks.splits import MaskData, MaskSplit, StreamMasks, part
from evaluators.outcomes import MissingSplit
from spaces.errors import UsageError

SIZE = (6, 8)  # (H, W)
CPU = torch.device("cpu")


def image(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def mask(seed: int, values: tuple[int, ...] = (0, 1, 2), size: tuple[int, int] = SIZE) -> Image.Image:
    """Every value is there."""
    drawn = np.random.default_rng(seed).choice(values, size).astype(np.uint8)
    drawn.flat[: len(values)] = values
    return Image.fromarray(drawn)


def save(picture: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)


def folder(root: Path, splits: Mapping[str, int] | None = None, values: tuple[int, ...] = (0, 1, 2)) -> Path:
    """SPLIT/images and SPLIT/masks with so many pairs each."""
    for split, count in (splits or {"train": 5, "val": 2, "test": 2}).items():
        for index in range(count):
            save(image(index), root / split / "images" / f"{index}.png")
            save(mask(index, values), root / split / "masks" / f"{index}.png")
    return root


def load(root: Path, **options: Any) -> MaskData:
    return load_masks(f"folder:{root}", **options)


def arrays(data: MaskData) -> MaskSplit:
    assert isinstance(data.train, MaskSplit)
    return data.train


def png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


# --- layouts -----------------------------------------------------------------------------------------------------------


def test_folders_by_split_are_read_with_their_masks(tmp_path: Path) -> None:
    data = load(folder(tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (5, 2, 2)
    assert data.class_names == ("0", "1", "2")
    assert data.size == SIZE
    assert torch.equal(arrays(data).masks_NHW[3], torch.from_numpy(np.asarray(mask(3)).copy()))
    assert torch.equal(arrays(data).images_NCHW[3], torch.from_numpy(np.asarray(image(3)).copy()).permute(2, 0, 1))
    assert any("3 classes, from the values in the masks" in text for text in data.summary.assumed)


def test_splits_below_images_and_masks_and_a_common_ending_are_the_same(tmp_path: Path) -> None:
    for split, number in (("training", 4), ("validation", 2), ("test", 2)):
        for index in range(number):
            save(image(index), tmp_path / "images" / split / "city" / f"{index}.png")
            save(mask(index), tmp_path / "annotations" / split / "city" / f"{index}_label.png")
    data = load(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (4, 2, 2)
    assert torch.equal(arrays(data).masks_NHW[1], torch.from_numpy(np.asarray(mask(1)).copy()))


def test_lists_say_which_split_a_picture_belongs_to(tmp_path: Path) -> None:
    for index in range(8):
        save(image(index), tmp_path / "images" / f"{index}.jpg")
        save(mask(index), tmp_path / "masks" / f"{index}.png")
    (tmp_path / "train.txt").write_text("0\n1.jpg\nimages/2.jpg masks/2.png\n")
    (tmp_path / "val.txt").write_text("3\n")
    (tmp_path / "test.txt").write_text("4\n5\n")
    data = load(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (3, 1, 2)
    (tmp_path / "val.txt").write_text("3\n2\n")
    with pytest.raises(UsageError, match=r"1 of 2 validation pictures are training pictures too, first .*images/2.jpg"):
        load(tmp_path)
    (tmp_path / "train.txt").write_text("0\n9\n")
    with pytest.raises(UsageError, match=r"train.txt, line 2: there is no image 9"):
        load(tmp_path)


def test_without_splits_validation_is_cut_from_train_and_there_is_no_test(tmp_path: Path) -> None:
    for index in range(20):
        save(image(index), tmp_path / "images" / f"{index}.png")
        save(mask(index), tmp_path / "masks" / f"{index}.png")
    data, again, other = (load(tmp_path, seed=seed) for seed in (0, 0, 1))
    assert (len(data.train), len(data.val)) == (18, 2)
    assert data.identity == again.identity != other.identity
    with pytest.raises(MissingSplit):
        _ = data.test


def test_a_lone_held_out_split_is_the_test_set_and_that_is_said(tmp_path: Path) -> None:
    data = load(folder(tmp_path, {"train": 10, "val": 3}))
    assert (len(data.train), len(data.val), len(data.test)) == (9, 1, 3)
    assert any("val is the test set" in text for text in data.summary.assumed)


def test_a_split_without_masks_is_not_read_and_that_is_said(tmp_path: Path) -> None:
    folder(tmp_path, {"train": 10, "val": 3})
    save(image(0), tmp_path / "test" / "images" / "0.png")
    assert any("test has no masks and is not read" in text for text in load(tmp_path).summary.assumed)


def test_voc_is_read_by_its_lists_with_its_classes_and_borders(tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    for index in range(6):
        save(image(index), root / "JPEGImages" / f"{index}.jpg")
        save(mask(index, (0, 5, 20, 255)).convert("P"), root / "SegmentationClass" / f"{index}.png")
    save(image(9), root / "JPEGImages" / "9.jpg")
    for split, names in {"train": "0 1 2 3", "val": "4 5", "test": "9"}.items():
        file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(names.split()))
    data = load_masks(f"voc:{tmp_path}", val_size=1)
    assert data.class_names == VOC_NAMES
    assert (len(data.train), len(data.val), len(data.test)) == (3, 1, 2)  # the published test set has no masks
    assert set(arrays(data).masks_NHW.unique().tolist()) == {0, 5, 20, IGNORED}


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes_has_its_nineteen_classes(tmp_path: Path, kind: str) -> None:
    values = (0, 7, 33, 4) if kind == "labelIds" else (0, 18, 255)
    for split, number in (("train", 3), ("val", 1)):
        for index in range(number):
            save(image(index), tmp_path / "leftImg8bit" / split / "ulm" / f"ulm_{index}_leftImg8bit.png")
            save(mask(index, values), tmp_path / "gtFine" / split / "ulm" / f"ulm_{index}_gtFine_{kind}.png")
    data = load_masks(f"cityscapes:{tmp_path}", val_size=1)
    assert data.class_names == tuple(CITYSCAPES_IDS)
    assert set(arrays(data).masks_NHW.unique().tolist()) == {0, 18, IGNORED}
    assert any(kind in text for text in data.summary.assumed)


@pytest.mark.parametrize(
    "names",
    [("train", "trainannot", "test", "testannot"), ("train/images", "train/masks", "test/images", "test/masks")],
)
def test_camvid_has_its_eleven_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for images, masks in (names[:2], names[2:]):
        for index in range(4):
            save(image(index), tmp_path / images / f"{index}.png")
            save(mask(index, (0, 10, 11)), tmp_path / masks / f"{index}.png")
    data = load_masks(f"camvid:{tmp_path}")
    assert data.num_classes == 11
    assert set(arrays(data).masks_NHW.unique().tolist()) == {0, 10, IGNORED}
    assert len(data.test) == 4


@pytest.mark.parametrize("columns", [("image", "label"), ("pixel_values", "mask"), ("photo", "annotation")])
def test_parquet_has_a_column_of_images_and_one_of_masks(tmp_path: Path, columns: tuple[str, str]) -> None:
    for split, number in (("train", 4), ("test", 2)):
        rows = {
            columns[0]: [{"bytes": png(image(index)), "path": None} for index in range(number)],
            columns[1]: [{"bytes": png(mask(index)), "path": None} for index in range(number)],
        }
        pq.write_table(pa.table(rows), tmp_path / f"{split}-00000-of-00001.parquet")
    data = load_masks(f"hf:{tmp_path}")
    assert (len(data.train), len(data.val), len(data.test)) == (3, 1, 2)
    assert (data.summary.image, data.summary.label) == columns


def test_columns_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    cells = [{"bytes": png(mask(index)), "path": None} for index in range(3)]
    pq.write_table(pa.table({"a": cells, "b": cells}), tmp_path / "train.parquet")
    with pytest.raises(UsageError, match=r"images and masks in a, b; name them in data.image and data.mask"):
        load_masks(f"hf:{tmp_path}")
    assert len(load_masks(f"hf:{tmp_path}", image="a", mask="b").train) == 2


def test_camvid_small_is_what_it_is(data_folder: Path) -> None:
    if not (data_folder / "camvid_small").is_dir():
        pytest.skip("ATTUNE_DATA has no camvid_small")
    data = load_masks({"name": f"camvid:{data_folder / 'camvid_small'}", "train_size": 8, "val_size": 4})
    assert data.size == (180, 240)
    assert (len(data.train), len(data.val), data.num_classes) == (8, 4, 11)


# --- values ------------------------------------------------------------------------------------------------------------


def test_what_is_ignored_is_no_class_and_the_others_keep_their_order(tmp_path: Path) -> None:
    data = load(folder(tmp_path, values=(0, 1, 2, 3)), ignore=0, classes=["a", "b", "c"])
    own = np.asarray(mask(0, (0, 1, 2, 3))).astype(int)
    assert np.array_equal(arrays(data).masks_NHW[0], np.where(own == 0, IGNORED, own - 1))
    assert data.class_names == ("a", "b", "c")


def test_255_beside_class_numbers_is_not_labelled_and_that_is_said(tmp_path: Path) -> None:
    data = load(folder(tmp_path, values=(0, 1, 255)))
    assert data.num_classes == 2
    assert any("255 in a mask is not labelled" in text for text in data.summary.assumed)
    assert data.summary.ignored > 0


def test_masks_of_0_and_255_alone_are_refused_unless_it_is_said_what_they_are(tmp_path: Path) -> None:
    root = folder(tmp_path, values=(0, 255))
    with pytest.raises(UsageError, match=r"0 and 255 only .*values: \[0, 255\]"):
        load(root)
    assert load(root, values=[0, 255]).num_classes == 2
    assert set(arrays(load(root, ignore=255, classes=2)).masks_NHW.unique().tolist()) == {0, IGNORED}


def test_grey_levels_that_are_no_class_numbers_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, values=(0, 38, 75, 113))
    with pytest.raises(UsageError, match=r"0, 38, 75, 113 .*which are no class numbers; say data.values"):
        load(root)
    assert load(root, values=[0, 38, 75, 113]).num_classes == 4


def test_a_value_out_of_range_is_refused_with_its_file(tmp_path: Path) -> None:
    root = folder(tmp_path)
    save(mask(0, (0, 1, 7)), root / "val" / "masks" / "1.png")
    with pytest.raises(UsageError, match=r"mask .*val/masks/1.png has pixels of value 7; valid: 0 to 2"):
        load(root, classes=3)


def test_colours_need_a_declared_palette(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    root = folder(tmp_path)
    for file in root.glob("*/masks/*.png"):
        Image.fromarray(colours[np.asarray(Image.open(file))]).save(file)
    with pytest.raises(UsageError, match=r"0.png is in colour \(RGB\): say in data.colors"):
        load(root)
    data = load(root, colors={"a": [255, 0, 0], "b": [0, 255, 0]}, ignore=[0, 0, 0])
    own = np.asarray(mask(0)).astype(int)
    assert np.array_equal(arrays(data).masks_NHW[0], np.where(own == 0, IGNORED, own - 1))
    assert data.class_names == ("a", "b")
    with pytest.raises(UsageError, match=r"pixels of colour \[0, 0, 0\]; valid: \[255, 0, 0\], \[0, 255, 0\]"):
        load(root, colors=[[255, 0, 0], [0, 255, 0]])


def test_a_palette_s_indices_are_its_classes_and_its_colours_count_where_they_are_declared(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for file in root.glob("*/masks/*.png"):
        own = Image.open(file).convert("P")
        own.putdata(list(np.asarray(Image.open(file)).ravel()))
        own.putpalette([9, 9, 9, 8, 8, 8, 7, 7, 7])
        own.save(file)
    indices = np.asarray(mask(0))
    assert np.array_equal(arrays(load(root)).masks_NHW[0], indices)
    turned = load(root, colors=[[7, 7, 7], [8, 8, 8], [9, 9, 9]])
    assert np.array_equal(arrays(turned).masks_NHW[0], 2 - indices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "valid: how many, from 2 to 255"),
        ({"classes": ["a", "a", "b"]}, "a name is given twice"),
        ({"values": [0, 1], "classes": 3}, "data.classes are 3, but 2 values"),
        ({"values": [0, 1], "ignore": 1}, "data.ignore: 1 is that of a class too"),
        ({"colors": [[0, 0]]}, r"valid: \[red, green, blue\]"),
        ({"ignore": "x"}, "valid: pixel values"),
        ({"mask": "x"}, "unknown option"),
    ],
)
def test_options_that_cannot_be_are_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(folder(tmp_path), **options)


# --- files -------------------------------------------------------------------------------------------------------------


def test_a_mask_of_another_size_is_refused_with_both_files(tmp_path: Path) -> None:
    root = folder(tmp_path)
    save(mask(0, size=(4, 8)), root / "train" / "masks" / "3.png")
    with pytest.raises(UsageError, match=r"masks/3.png is 8x4, its image .*images/3.png is 8x6; valid: one size"):
        load(root)


def test_files_without_counterpart_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "train" / "masks" / "2.png").unlink()
    with pytest.raises(UsageError, match=r"image .*images/2.png has no mask of its name"):
        load(root)
    data = load(root, skip_unmatched=True)
    assert len(data.train) == 4
    assert data.summary.skipped == {"images without a mask": 1}
    (root / "train" / "images" / "2.png").unlink()
    (root / "train" / "images" / "1.png").unlink()
    with pytest.raises(UsageError, match=r"mask .*masks/1.png has no image of its name"):
        load(root)


def test_a_mask_that_is_a_jpeg_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "train" / "masks" / "2.png").unlink()
    save(mask(2), root / "train" / "masks" / "2.jpg")
    with pytest.raises(UsageError, match=r"2.jpg is a JPEG, which changes pixel values"):
        load(root)


def test_what_is_corrupt_is_refused_with_its_file_or_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "train" / "masks" / "2.png").write_bytes(b"no mask")
    with pytest.raises(UsageError, match=r"corrupt image .*masks/2.png"):
        load(root)
    data = load(root, skip_corrupt=True)
    assert len(data.train) == 4
    assert torch.equal(arrays(data).masks_NHW[2], torch.from_numpy(np.asarray(mask(3)).copy()))
    assert any("1 corrupt images or masks were left out" in text for text in data.summary.warnings)


def test_pictures_of_different_sizes_need_image_size_and_what_it_cuts_off_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path)
    save(image(3, (6, 16)), root / "train" / "images" / "3.png")
    save(mask(3, size=(6, 16)), root / "train" / "masks" / "3.png")
    with pytest.raises(UsageError, match=r"images differ in size .*set image_size"):
        load(root)
    data = load(root, image_size=[12, 16])
    assert data.size == (12, 16)
    assert any("cuts up to 50 % off 1 images" in text for text in data.summary.assumed)
    small = np.asarray(mask(0))
    assert np.array_equal(arrays(data).masks_NHW[0], small.repeat(2, 0).repeat(2, 1))


def test_folders_that_are_none_are_refused_with_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UsageError, match=r"expected train/images and train/masks.*found: pictures/"):
        load(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        load(tmp_path / "none")
    for name in ("voc", "cityscapes"):
        with pytest.raises(UsageError, match="expected"):
            load_masks(f"{name}:{tmp_path}")


# --- streams, batches and summaries ------------------------------------------------------------------------------------


def test_a_stream_gives_the_batches_that_memory_gives(tmp_path: Path) -> None:
    root = folder(tmp_path, values=(0, 1, 255))
    resident, stream = load(root, image_size=[6, 8]), load(root, image_size=[6, 8], stream=True)
    assert isinstance(stream.train, StreamMasks)
    assert stream.pixels == resident.pixels
    pairs = [list(MaskBatches(data.train, data, 2, CPU, workers=0)) for data in (resident, stream)]
    assert len(pairs[0]) == len(pairs[1]) == 3
    for (x, y), (other_x, other_y) in zip(*pairs, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
    assert len(part(stream.train, 2)) == len(part(resident.train, 2)) == 2


def test_a_stream_refuses_a_mask_that_its_worker_cannot_read(tmp_path: Path) -> None:
    root = folder(tmp_path)
    data = load(root, image_size=[6, 8], stream=True, classes=3, ignore=255)
    save(mask(0, (0, 1, 9)), root / "train" / "masks" / "1.png")
    with pytest.raises(UsageError, match=r"^mask .*masks/1.png has pixels of value 9"):
        list(MaskBatches(data.train, data, 2, CPU, workers=1))


def test_the_summary_tells_shares_of_pixels_splits_and_what_is_rare(tmp_path: Path) -> None:
    root = folder(tmp_path, values=(0, 0, 1, 255))
    data = load(root, classes=["road", "sky", "car"])
    text = "\n".join(data.summary.lines())
    assert "classes: 3, by pixels (road" in text
    assert "of all pixels are not labelled" in text
    assert "splits: train 5, val 2, test 2" in text
    assert "no train pixel of car" in text
    told = data.summary.to_dict()
    assert told["pixels"]["road"] + told["pixels"]["sky"] == pytest.approx(1)


def test_cluttered_digits_have_masks_of_eleven_classes() -> None:
    data = load_masks("cluttered_digits", train_size=30, val_size=10, test_size=5)
    assert data.class_names == ("background", *"0123456789")
    assert (data.size, data.in_chans, data.flip) == ((64, 64), 1, False)
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 5)
    with pytest.raises(UsageError, match=r"sizes \[99\] do not fit on 64 pixels"):
        load_masks("cluttered_digits", sizes=[99])
