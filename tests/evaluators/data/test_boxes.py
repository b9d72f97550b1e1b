"""Readers of boxes on sets made here: what they take, mend, count and refuse, and batches with their random changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from evaluators.data.boxes.augment import BoxAugment, iou_window, move_boxes, move_pictures, windows
from evaluators.data.boxes.batches import BoxBatches
from evaluators.data.boxes.load import load_boxes
from evaluators.data.boxes.objects import CLIPPED, CROWD, DIFFICULT, FLAT, KINDS, OUTSIDE, TURNED, number
from spaces.errors import UsageError

WIDTH, HEIGHT = 40, 30
Box = tuple[float, float, float, float]


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def voc_object(name: str, box: Box, difficult: int = 0) -> str:
    corners = "".join(
        f"<{key}>{value:g}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def voc(folder: Path, pictures: dict[str, list[str]], lists: dict[str, list[str]] | None = None) -> Path:
    (folder / "Annotations").mkdir(parents=True)
    for index, (name, objects) in enumerate(pictures.items()):
        picture(folder / "JPEGImages" / f"{name}.png", index)
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        body = f"<annotation><filename>{name}.png</filename>{size}{''.join(objects)}</annotation>"
        (folder / "Annotations" / f"{name}.xml").write_text(body)
    for name, names in (lists or {}).items():
        file = folder / "ImageSets" / "Main" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(names))
    return folder


LISTS = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


def test_voc_counts_pixels_from_one_and_keeps_mends_and_counts(tmp_path: Path) -> None:
    objects = {
        "a": [voc_object("cat", (1, 1, 10, 20)), voc_object("dog", (5, 5, 45, 20)), voc_object("cat", (7, 7, 7, 9))],
        "b": [],
        "c": [voc_object("dog", (10, 10, 2, 2)), voc_object("cat", (50, 3, 60, 9)), voc_object("cat", (3, 3, 9, 9), 1)],
        "d": [voc_object("dog", (1, 1, 40, 30))],
    }
    data = load_boxes(f"voc:{voc(tmp_path / 'set', objects, LISTS)}")
    assert data.class_names == ("cat", "dog")
    assert data.size == (HEIGHT, WIDTH)
    first, empty = data.train.objects
    np.testing.assert_array_equal(first.boxes_M4, [[0, 0, 10, 20], [4, 4, 40, 20]])
    assert first.labels_M.tolist() == [0, 1]
    assert len(empty) == 0
    np.testing.assert_array_equal(data.val.objects[0].boxes_M4, [[1, 1, 10, 10], [2, 2, 9, 9]])
    assert data.val.objects[0].kinds_M.tolist() == [0, DIFFICULT]
    np.testing.assert_array_equal(data.test.objects[0].boxes_M4, [[0, 0, 40, 30]])
    assert data.summary.skipped == {CLIPPED: 1, FLAT: 1, OUTSIDE: 1, TURNED: 1, KINDS[DIFFICULT]: 1}
    assert data.summary.to_dict()["empty"] == {"train": 1, "val": 0}
    assert "pictures without any, which are kept: train 1" in "\n".join(data.summary.lines())


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        (voc_object("cat", (0, 1, 9, 9)), ["a.xml, object 1", "counts pixels from 1", "data.first_pixel: 0"]),
        ("<object><name>cat</name></object>", ["a.xml, object 1 has no bndbox"]),
        ("<object><name>cat</name>", ["cannot read", "a.xml"]),
        (voc_object("cat", (float("nan"), 1, 9, 9)), ["a.xml", "no number"]),
    ],
)
def test_voc_refuses_in_one_line_that_names_the_file(tmp_path: Path, objects: str, words: list[str]) -> None:
    good = [voc_object("cat", (1, 1, 9, 9))]
    folder = voc(tmp_path / "set", {"a": [objects], "b": good, "c": good, "d": good}, LISTS)
    with pytest.raises(UsageError) as caught:
        load_boxes(f"voc:{folder}")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_voc_refuses_what_does_not_belong_together(tmp_path: Path) -> None:
    good = [voc_object("cat", (1, 1, 9, 9))]
    folder = voc(tmp_path / "set", {"a": good, "b": good, "c": [voc_object("cow", (1, 1, 9, 9))], "d": good}, LISTS)
    with pytest.raises(UsageError, match=r"c\.xml: class 'cow' is in no training picture; valid: cat"):
        load_boxes(f"voc:{folder}")
    (folder / "Annotations" / "c.xml").write_text(
        (folder / "Annotations" / "a.xml")
        .read_text()
        .replace(f"<width>{WIDTH}<", "<width>30<")
        .replace(f"<height>{HEIGHT}<", "<height>40<")
        .replace("a.png", "c.png")
    )
    with pytest.raises(
        UsageError, match=r"c\.xml says that its picture is 30x40, but it is 40x30 \(turned by its EXIF"
    ):
        load_boxes(f"voc:{folder}")
    (folder / "JPEGImages" / "a.png").unlink()
    with pytest.raises(UsageError, match=r"no picture for .*a\.xml"):
        load_boxes(f"voc:{folder}")
    with pytest.raises(UsageError, match=r"expected the folders Annotations and JPEGImages; did you mean .*set"):
        load_boxes(f"voc:{tmp_path}")


def test_a_validation_set_without_objects_is_refused(tmp_path: Path) -> None:
    good = [voc_object("cat", (1, 1, 9, 9))]
    folder = voc(tmp_path / "set", {"a": good, "b": good, "c": [], "d": good}, LISTS)
    with pytest.raises(UsageError, match="no object is marked in any of the 1 validation pictures"):
        load_boxes(f"voc:{folder}")


def test_without_lists_validation_is_cut_from_all(tmp_path: Path) -> None:
    good = [voc_object("cat", (1, 1, 9, 9))]
    folder = voc(tmp_path / "set", dict.fromkeys("abcdef", good))
    data = load_boxes({"name": f"voc:{folder}", "val_size": 2}, seed=3)
    assert (len(data.train), len(data.val)) == (4, 2)
    assert any("validation is cut" in text for text in data.summary.assumed)
    assert data.identity == load_boxes({"name": f"voc:{folder}", "val_size": 2}, seed=3).identity
    assert data.identity != load_boxes({"name": f"voc:{folder}", "val_size": 2}, seed=4).identity


def coco(folder: Path, *, box: list[float], category: int = 7, crowd: int = 0, file_name: str = "0.png") -> Path:
    for split in ("train", "val", "test"):
        picture(folder / split / "0.png", seed=len(split))
        content = {
            "images": [{"id": 5, "file_name": file_name, "width": WIDTH, "height": HEIGHT}],
            "annotations": [
                {"id": 1, "image_id": 5, "category_id": 3, "bbox": [2, 3, 10, 12], "area": 60, "iscrowd": 0},
                {"id": 2, "image_id": 5, "category_id": category, "bbox": box, "iscrowd": crowd},
            ],
            "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        }
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def test_coco_keeps_gaps_between_numbers_areas_and_crowds(tmp_path: Path) -> None:
    data = load_boxes(f"coco:{coco(tmp_path / 'set', box=[20, 10, 30, 30], crowd=1)}")
    objects = data.train.objects[0]
    assert data.class_names == ("cat", "dog")
    np.testing.assert_array_equal(objects.boxes_M4, [[2, 3, 12, 15], [20, 10, 40, 30]])
    assert objects.kinds_M.tolist() == [0, CROWD]
    assert objects.areas_M.tolist() == [60, 400]
    assert data.summary.skipped[KINDS[CROWD]] == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"box": [1, 1, -5, 5]}, ["annotation 2", "below 0"]),
        ({"box": [1, 1, 5, 5], "category": 4}, ["annotation 2", "category 4"]),
        ({"box": [1, 1, 5]}, ["annotation 2", "valid: [x, y, width, height]"]),
        ({"box": [1, 1, 5, 5], "file_name": "gone.png"}, ["none of the pictures", "gone.png"]),
    ],
)
def test_coco_refuses_in_one_line_that_names_the_file(tmp_path: Path, given: dict, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        load_boxes(f"coco:{coco(tmp_path / 'set', **given)}")
    assert all(word in str(caught.value) for word in ["instances_train.json", *words]), str(caught.value)


def yolo(folder: Path, line: str, *, val: str = "images/val") -> Path:
    for split in ("train", "val", "test"):
        picture(folder / "images" / split / "0.png", seed=len(split))
        picture(folder / "images" / split / "1.png", seed=10 + len(split))
        (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / split / "0.txt").write_text(f"1 .5 .5 .25 .5\n{line}\n")
    (folder / "data.yaml").write_text(
        f"path: .\ntrain: images/train\nval: {val}\ntest: images/test\nnames: {{0: cat, 1: dog}}\n"
    )
    return folder


def test_yolo_boxes_are_shares_and_polygons_are_said(tmp_path: Path) -> None:
    data = load_boxes(f"yolo:{yolo(tmp_path / 'set', '0 .25 .2 .75 .2 .5 .8')}")
    np.testing.assert_allclose(data.train.objects[0].boxes_M4, [[15, 7.5, 25, 22.5], [10, 6, 30, 24]], rtol=1e-6)
    assert data.train.objects[0].labels_M.tolist() == [1, 0]
    assert len(data.train.objects[1]) == 0
    assert data.summary.skipped["polygons (taken as the boxes around them)"] == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 120 60 30 20", ["0.txt:2", "boxes in pixels?"]),
        ("2 .5 .5 .1 .1", ["0.txt:2", "class 2; valid: 0 to 1"]),
        ("0 .5 .5 .1 .1 .9", ["0.txt:2", "6 values"]),
        ("0 .5 x .1 .1", ["0.txt:2", "'x' is no number"]),
    ],
)
def test_yolo_refuses_in_one_line_that_names_the_file(tmp_path: Path, line: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        load_boxes(f"yolo:{yolo(tmp_path / 'set', line)}")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_training_pictures_are_no_validation_pictures(tmp_path: Path) -> None:
    """COCO128's published validation images are its training images."""
    with pytest.raises(UsageError, match="2 of 2 validation pictures are training pictures too"):
        load_boxes(f"yolo:{yolo(tmp_path / 'set', '0 .5 .5 .1 .1', val='images/train')}")


def parquet(folder: Path, boxes: list[list[float]], areas: list[float] | None = None) -> Path:
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        picture(folder / "x.png", seed=len(split))
        content = (folder / "x.png").read_bytes()
        objects = {"bbox": boxes, "category": [1] * len(boxes)} | ({"area": areas} if areas else {})
        nothing: dict[str, list] = {key: [] for key in objects}
        columns = {"image": [{"bytes": content, "path": None}] * 2, "objects": [objects, nothing]}
        table = pa.table(columns | {"width": [WIDTH] * 2, "height": [HEIGHT] * 2})
        names = {"feature": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "_type": "Sequence"}
        features = {"image": {"_type": "Image"}, "objects": {"bbox": {}, "category": names}}
        described = {b"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(table.replace_schema_metadata(described), folder / f"{split}-00000-of-00001.parquet")
    (folder / "x.png").unlink()
    return folder


@pytest.mark.parametrize(
    ("boxes", "areas", "found"),
    [
        ([[2, 3, 10, 12]], [120], [2, 3, 12, 15]),
        ([[2, 3, 10, 12]], [72], [2, 3, 10, 12]),
        ([[20, 3, 10, 12]], None, [20, 3, 30, 15]),
        ([[20, 3, 30, 12]], None, [20, 3, 30, 12]),
    ],
)
def test_tables_tell_by_their_numbers_what_boxes_are(
    tmp_path: Path, boxes: list[list[float]], areas: list[float] | None, found: list[float]
) -> None:
    data = load_boxes(f"hf:{parquet(tmp_path / 'set', boxes, areas)}")
    assert data.train.objects[0].boxes_M4.tolist() == [found]
    assert data.train.objects[0].labels_M.tolist() == [1]
    assert data.class_names == ("cat", "dog")
    assert any("data.box_format" in text for text in data.summary.assumed)


def test_tables_that_do_not_tell_what_boxes_are_ask(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "set", [[2, 3, 10, 12]])
    with pytest.raises(UsageError, match=r"set data.box_format: xywh, xyxy, cxcywh"):
        load_boxes(f"hf:{folder}")
    data = load_boxes({"name": f"hf:{folder}", "box_format": "cxcywh"})
    np.testing.assert_allclose(data.train.objects[0].boxes_M4, [[0, 0, 7, 9]])


def test_streamed_pictures_are_those_in_memory(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "set", "0 .5 .5 .2 .2")
    kept, read = (
        load_boxes({"name": f"yolo:{folder}", "image_size": [16, 32], "stream": stream}) for stream in (False, True)
    )
    assert read.val.images_NCHW is None
    cpu = torch.device("cpu")
    one, two = (next(iter(BoxBatches(data.val, data, 2, cpu, workers=0))) for data in (kept, read))
    torch.testing.assert_close(one[0], two[0])
    assert one[0].shape == (2, 3, 16, 32)
    torch.testing.assert_close(one[1]["boxes"][0, 0], torch.tensor([12.0, 4.0, 20.0, 12.0]))
    assert one[1]["scales"].tolist() == [[WIDTH / 32, HEIGHT / 16]] * 2
    assert one[1]["labels"].tolist() == [[1, 0], [-1, -1]]


def test_random_windows_keep_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    boxes_M4 = np.array([[2.0, 2, 12, 12], [30, 20, 60, 50]])
    seen = {tuple(iou_window(boxes_M4, 64, 80, rng)) for _ in range(60)}
    assert (0.0, 0.0, 80.0, 64.0) in seen
    assert len(seen) > 20
    for left, top, right, bottom in seen - {(0.0, 0.0, 80.0, 64.0)}:
        assert 0.5 <= (right - left) / (bottom - top) <= 2
        assert 0 <= left < right <= 80
        assert 0 <= top < bottom <= 64
        centres = (boxes_M4[:, :2] + boxes_M4[:, 2:]) / 2
        assert ((centres > (left, top)) & (centres < (right, bottom))).all(1).any()
    assert iou_window(np.zeros((0, 4)), 64, 80, rng).tolist() == [0, 0, 80, 64]


def test_moved_pictures_and_boxes_are_those_of_torchvision() -> None:
    from torchvision import tv_tensors
    from torchvision.transforms.v2 import functional

    x_BCHW = torch.rand(2, 3, 32, 48)
    boxes_BM4 = torch.tensor([[[4.0, 5, 20, 30], [40, 2, 47, 9]], [[10, 10, 11.5, 12], [0, 0, 48, 32]]])
    labels_BM = torch.tensor([[1, 2], [3, 4]])
    window_B4, mirrored_B = torch.tensor([[2.0, 4, 26, 20], [6, 6, 30, 22]]), torch.tensor([True, False])
    moved_BM4, kept_BM = move_boxes(boxes_BM4, labels_BM, window_B4, mirrored_B, 32, 48)
    y_BCHW = move_pictures(x_BCHW, window_B4, mirrored_B)
    for index, (left, top, right, bottom) in enumerate(window_B4.int().tolist()):
        place = (top, left, bottom - top, right - left, [32, 48])
        image = functional.resized_crop(x_BCHW[index], *place, antialias=False)
        boxes = tv_tensors.BoundingBoxes(boxes_BM4[index], format="XYXY", canvas_size=(32, 48))
        boxes = functional.resized_crop(boxes, *place)
        if mirrored_B[index]:
            image, boxes = functional.horizontal_flip(image), functional.horizontal_flip(boxes)
        inside = slice(2, -2)  # at the edge of a window torchvision repeats pixels, where we see what lies beyond
        torch.testing.assert_close(y_BCHW[index, :, inside, inside], image[:, inside, inside], atol=1e-5, rtol=0)
        stays = kept_BM[index] >= 0
        torch.testing.assert_close(
            moved_BM4[index][stays], functional.clamp_bounding_boxes(boxes).as_subclass(torch.Tensor)[stays]
        )
    assert kept_BM.tolist() == [[1, -1], [3, 4]]


def test_training_batches_change_with_the_seed_alone(tmp_path: Path) -> None:
    data = load_boxes({"name": "cluttered_digits", "train_size": 12, "val_size": 4, "test_size": 2, "digits": [0, 3]})
    augment = BoxAugment(flip=True, iou_crop=True, zoom_out=2.0, photometric=True, shift=3, scale=1.2)
    cpu = torch.device("cpu")

    def epoch(seed: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        batches = list(BoxBatches(data.train, data, 5, cpu, augment=augment, generator=generator))
        assert [len(x) for x, _ in batches] == [5, 5]
        for x_BCHW, target in batches:
            assert torch.isfinite(x_BCHW).all()
            boxes = target["boxes"][target["labels"] >= 0]
            assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
            assert boxes.min() >= 0
            assert boxes.max() <= 64
        return [x for x, _ in batches]

    assert all(torch.equal(one, two) for one, two in zip(epoch(1), epoch(1), strict=True))
    assert not torch.equal(epoch(1)[0], epoch(2)[0])


def test_any_part_of_a_pass_has_something_to_find() -> None:
    data = load_boxes({"name": "cluttered_digits", "train_size": 4, "val_size": 40, "digits": [0, 1]})
    assert not all(len(one) for one in data.val.objects)
    batches = BoxBatches(data.val, data, 1, torch.device("cpu"))
    numbers = [int((target["labels"] >= 0).sum()) for _, target in batches]
    assert numbers == sorted(numbers, reverse=True)
    for limit in (1, 2, 5):
        assert data.val.part(limit).is_judged.any()
        assert len(data.val.part(limit)) == limit


def test_mirrors_alone_need_no_interpolation() -> None:
    window_B4, mirrored_B = windows([np.zeros((0, 4))] * 64, 8, 8, BoxAugment(flip=True), np.random.default_rng(0))
    assert (window_B4 == [0, 0, 8, 8]).all()
    assert 10 < mirrored_B.sum() < 54


def test_blood_cells() -> None:
    root = os.environ.get("ATTUNE_DATA")
    if root is None or not (Path(root) / "bccd").is_dir():
        pytest.skip("ATTUNE_DATA names no folder with bccd")
    data = load_boxes({"name": f"voc:{root}/bccd", "image_size": [60, 80], "train_size": 20, "val_size": 10})
    assert data.class_names == ("Platelets", "RBC", "WBC")
    assert (len(data.train), len(data.val)) == (20, 10)


def test_a_coordinate_beyond_all_numbers_is_named() -> None:
    """JSON knows integers of any length."""
    for text in (10**400, "x", None):
        with pytest.raises(UsageError, match=r"^a\.json: bbox = .* is no number$"):
            number(text, "bbox", "a.json")
