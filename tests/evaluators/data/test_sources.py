"""Data sets: real files in, and one clear line for every mistake."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from evaluators.data import ArraySplit, StreamSplit, load_data
from evaluators.data.splits import part
from evaluators.data.vision import TORCHVISION
from evaluators.tasks.classification import Classification
from spaces.errors import UsageError
from tests.evaluators.data.pictures import picture, png


def write_parquet(
    folder: Path, labels: list[int], split: str = "train", broken: int | None = None, names: int = 3
) -> None:
    cells = [
        {"bytes": b"not an image" if row == broken else png(picture(row)), "path": None} for row in range(len(labels))
    ]
    feature = {"names": [f"class{index}" for index in range(names)], "_type": "ClassLabel"}
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": feature}}})},
    )
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"image": cells, "label": labels}, schema=schema), folder / f"{split}-00000-of-00001.parquet"
    )


def test_parquet_folder(tmp_path: Path) -> None:
    write_parquet(tmp_path, [0, 1, 2] * 10)
    write_parquet(tmp_path, [0, 1, 2], split="test")
    data = load_data(f"hf:{tmp_path}", val_size=6)
    assert isinstance(data.train, ArraySplit)
    assert (len(data.train), len(data.val), len(data.test)) == (24, 6, 3)
    assert data.class_names == ("class0", "class1", "class2")
    assert (data.in_chans, data.size, data.num_classes) == (3, (12, 12), 3)
    originals = {np.asarray(picture(row)).tobytes(): row % 3 for row in range(30)}
    for image, label in zip(data.train.images_NCHW, data.train.labels_N, strict=True):
        assert originals[image.permute(1, 2, 0).numpy().tobytes()] == int(label)
    smaller = load_data({"name": f"hf:{tmp_path}", "val_size": 6, "train_size": 9, "image_size": 8})
    assert (len(smaller.train), len(smaller.val), smaller.size) == (9, 6, (8, 8))


def test_test_is_not_read_before_it_is_asked_for(tmp_path: Path) -> None:
    write_parquet(tmp_path, [0, 1, 2] * 4)
    write_parquet(tmp_path, [0, 1, 2], split="test", broken=1)
    data = load_data(f"hf:{tmp_path}", val_size=3)
    with pytest.raises(UsageError, match=r"corrupt image row 1 of .*test"):
        data.test  # noqa: B018


def test_folder_with_train_and_val(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                picture(index, (20, 14)).save(tmp_path / split / name / f"{index}.png")
    data = load_data(f"folder:{tmp_path}", image_size=10, val_size=2)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.val), len(data.test)) == (6, 2, 4)
    streamed = load_data(f"folder:{tmp_path}", image_size=10, val_size=2, stream=True)
    assert isinstance(streamed.train, StreamSplit)
    assert streamed.train.labels_N.tolist() == data.train.labels_N.tolist()
    for index in range(4):
        picture(index, (14, 20)).save(tmp_path / "train" / "dog" / f"{index}.png")
    with pytest.raises(UsageError, match=r"differ in size .*png is 14x20"):
        load_data(f"folder:{tmp_path}", val_size=2)


def test_images_need_not_be_square(tmp_path: Path) -> None:
    """Their own size where they share one, or [H, W], whether they are decoded now or while training."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(4):
                picture(index, (20, 14)).save(tmp_path / split / name / f"{index}.png")
    own = load_data(f"folder:{tmp_path}", val_size=2)
    assert isinstance(own.train, ArraySplit)
    assert isinstance(own.test, ArraySplit)
    assert own.size == (14, 20)
    assert own.train.images_NCHW.shape == (6, 3, 14, 20)
    wide = {"name": f"folder:{tmp_path}", "val_size": 2, "image_size": [7, 20]}
    resized = load_data(wide)
    assert isinstance(resized.train, ArraySplit)
    assert isinstance(resized.test, ArraySplit)
    assert resized.size == (7, 20)
    assert resized.test.images_NCHW.shape == (8, 3, 7, 20)
    centre = own.test.images_NCHW[:, :, 3:10]  # it covers the wider side already: above and below are cut off
    assert torch.equal(resized.test.images_NCHW, centre)
    stream = load_data(wide, stream=True)
    assert isinstance(stream.val, StreamSplit)
    assert stream.size == stream.val.size == (7, 20)
    assert (stream.mean, stream.std) == (resized.mean, resized.std)
    assert (
        len({own.identity, resized.identity, stream.identity, load_data({**wide, "image_size": [20, 7]}).identity}) == 4
    )
    for data in (resized, stream):
        x_BCHW, y_B = next(
            iter(Classification(data).batches("val", batch_size=2, device=torch.device("cpu"), workers=0))
        )
        assert x_BCHW.shape == (2, 3, 7, 20)
        assert y_B.tolist() == data.val.labels_N.tolist()


@pytest.mark.parametrize("size", [0, -3, [8], [8, 0], [8, 8, 8], "8", 8.5, True])
def test_wrong_sizes(tmp_path: Path, size: object) -> None:
    write_parquet(tmp_path, [0, 1, 2] * 4)
    with pytest.raises(UsageError, match=r"^image size .*; valid: a number of pixels, or \[H, W\]$"):
        load_data({"name": f"hf:{tmp_path}", "val_size": 3, "image_size": size})


def test_cub_layout(tmp_path: Path) -> None:
    (tmp_path / "images" / "001.Albatross").mkdir(parents=True)
    (tmp_path / "images" / "002.Gull").mkdir(parents=True)
    names = ["001.Albatross/a.png", "001.Albatross/b.png", "002.Gull/c.png", "002.Gull/d.png", "002.Gull/e.png"]
    for index, name in enumerate(names):
        picture(index).save(tmp_path / "images" / name)
    (tmp_path / "images.txt").write_text("".join(f"{n + 1} {name}\n" for n, name in enumerate(names)))
    (tmp_path / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n4 2\n5 2\n")
    (tmp_path / "train_test_split.txt").write_text("1 1\n2 1\n3 1\n4 1\n5 0\n")
    (tmp_path / "classes.txt").write_text("1 001.Albatross\n2 002.Gull\n")
    data = load_data(f"folder:{tmp_path}", val_size=1)
    assert (len(data.train), len(data.val), len(data.test)) == (3, 1, 1)
    assert data.class_names == ("001.Albatross", "002.Gull")
    assert data.test.labels_N.tolist() == [1]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("image_class_labels.txt", "1 1\n", "image_class_labels.txt has no line for 2"),
        ("image_class_labels.txt", "1 1\n2 gull\n", "class 'gull' is not a number"),
        ("image_class_labels.txt", "1 1\n2 9\n", "label 8 out of range in .*b.png; valid: 0 to 1"),
        ("train_test_split.txt", "1\n", "train_test_split.txt: line '1' is not a number and"),
        ("classes.txt", None, "looks like CUB-200-2011, but classes.txt is missing"),
    ],
)
def test_broken_lists_of_cub(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    lists = {
        "images.txt": "1 a.png\n2 b.png\n",
        "image_class_labels.txt": "1 1\n2 2\n",
        "train_test_split.txt": "1 1\n2 1\n",
        "classes.txt": "1 tern\n2 gull\n",
    }
    for name, text in {**lists, file: content}.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_data(f"folder:{tmp_path}", val_size=1)
    assert "\n" not in str(caught.value)


def write_torchvision(name: str, root: Path, labels: list[int]) -> None:
    """A set in the layout of torchvision's class for it, with these labels for train and for test; class names c0, c1, c2."""
    from scipy.io import savemat

    def jpegs(folder: Path, names: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for index, file in enumerate(names):
            picture(index, (14, 12)).save(folder / file)

    arrays = np.stack([np.asarray(picture(index)) for index in range(len(labels))])  # (N, 12, 12, 3)
    if name == "fashion_mnist":
        raw = root / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for half in ("train", "t10k"):
            head = struct.pack(">4i", 2051, len(labels), 12, 12)
            (raw / f"{half}-images-idx3-ubyte").write_bytes(head + arrays[..., 0].tobytes())
            (raw / f"{half}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + bytes(labels))
    elif name == "svhn":
        for half in ("train", "test"):
            savemat(root / f"{half}_32x32.mat", {"X": arrays.transpose(1, 2, 3, 0), "y": np.array(labels)[:, None]})
    elif name == "flowers102":
        jpegs(root / "flowers-102" / "jpg", [f"image_{index + 1:05d}.jpg" for index in range(2 * len(labels))])
        savemat(root / "flowers-102" / "imagelabels.mat", {"labels": np.array(labels * 2) + 1})
        numbers = np.arange(len(labels)) + 1
        savemat(root / "flowers-102" / "setid.mat", {"trnid": numbers, "tstid": numbers + len(labels), "valid": []})
    elif name == "oxford_pets":
        names = [f"c{label}_{index}" for index, label in enumerate(labels)]
        jpegs(root / "oxford-iiit-pet" / "images", [f"{file}.jpg" for file in names])
        (root / "oxford-iiit-pet" / "annotations").mkdir()
        lines = "".join(f"{file} {label + 1} 1 1\n" for file, label in zip(names, labels, strict=True))
        for half in ("trainval", "test"):
            (root / "oxford-iiit-pet" / "annotations" / f"{half}.txt").write_text(lines)
    elif name == "aircraft":
        folder = root / "fgvc-aircraft-2013b" / "data"
        jpegs(folder / "images", [f"{index}.jpg" for index in range(len(labels))])
        (folder / "variants.txt").write_text("c0\nc1\nc2\n")
        lines = "".join(f"{index} c{label}\n" for index, label in enumerate(labels))
        for half in ("trainval", "test"):
            (folder / f"images_variant_{half}.txt").write_text(lines)
    elif name == "stanford_cars":
        folder = root / "stanford_cars"
        kind = [("fname", object), ("class", np.int64)]
        cells = np.array([(f"{index}.jpg", label + 1) for index, label in enumerate(labels)], dtype=kind)
        (folder / "devkit").mkdir(parents=True)
        savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(["c0", "c1", "c2"], dtype=object)})
        for half, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
            jpegs(folder / f"cars_{half}", [f"{index}.jpg" for index in range(len(labels))])
            savemat(folder / file, {"annotations": cells})
    else:
        folder = root / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
        folder.mkdir(parents=True)
        planes = np.stack([np.asarray(picture(index, (32, 32))) for index in range(len(labels))]).transpose(0, 3, 1, 2)
        key, names = ("labels", "label_names") if name == "cifar10" else ("fine_labels", "fine_label_names")
        batch = {"data": planes.reshape(len(labels), -1), key: labels}
        parts = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"] if name == "cifar10" else ["train", "test"]
        for half in parts:
            (folder / half).write_bytes(pickle.dumps(batch))
        meta = "batches.meta" if name == "cifar10" else "meta"
        (folder / meta).write_bytes(pickle.dumps({names: ["c0", "c1", "c2"]}))


@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_torchvision_sets_from_their_own_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's own classes read files of the published layout; only their checksums cannot be those of the real sets."""
    from torchvision import datasets

    labels = [0, 1, 2] * 5
    write_torchvision(name, tmp_path, labels)
    for module in (datasets.cifar, datasets.svhn, datasets.flowers102):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).is_file())
    if name == "flowers102":
        monkeypatch.setattr(datasets.Flowers102, "classes", ["c0", "c1", "c2"])
    if name == "fashion_mnist":
        monkeypatch.setattr(datasets.FashionMNIST, "classes", ["c0", "c1", "c2"])
    data = load_data(name, root=str(tmp_path), image_size=10, val_size=3)
    names = [name.lower() for name in data.class_names]  # of the pets, torchvision makes titles
    assert names == (["0", "1", "2"] if name == "svhn" else ["c0", "c1", "c2"])
    assert (len(data.train), len(data.val)) == ((72, 3) if name == "cifar10" else (12, 3))  # CIFAR-10 has five files
    assert torch.bincount(data.val.labels_N).tolist() == [1, 1, 1]
    assert data.test.labels_N.tolist() == labels
    assert (data.in_chans, data.size) == (1 if name == "fashion_mnist" else 3, (10, 10))
    broken = next(tmp_path.rglob("*.jpg"), None)
    if broken is not None:
        for file in tmp_path.rglob("*.jpg"):
            file.write_bytes(b"no image")
        with pytest.raises(UsageError, match=r"^corrupt image .*\.jpg: "):
            load_data(name, root=str(tmp_path), image_size=10, val_size=3)


def test_a_part_of_a_split_keeps_the_classes_in_proportion(tmp_path: Path) -> None:
    write_parquet(tmp_path, [0] * 20 + [1] * 10 + [2] * 10)
    for stream in (False, True):
        val = load_data(f"hf:{tmp_path}", val_size=20, image_size=12, stream=stream).val
        assert torch.bincount(part(val, 8).labels_N).tolist() == [4, 2, 2]
        assert part(val, 8).digest == part(val, 8).digest
        assert part(val, None) is part(val, 20) is val


def test_npz(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.integers(0, 256, (20, 9, 9), dtype=np.uint8), "y_train": np.arange(20) % 4}
    np.savez(tmp_path / "set.npz", **arrays)
    data = load_data(f"npz:{tmp_path / 'set.npz'}", val_size=4)
    assert isinstance(data.train, ArraySplit)
    assert (data.in_chans, data.size, data.num_classes) == (1, (9, 9), 4)
    with pytest.raises(UsageError, match="no test split"):
        data.test  # noqa: B018
    np.savez(tmp_path / "floats.npz", x_train=arrays["x_train"] / 255, y_train=arrays["y_train"])
    floats = load_data(f"npz:{tmp_path / 'floats.npz'}", val_size=4)
    assert isinstance(floats.train, ArraySplit)
    assert floats.span == (0, 1)
    assert torch.allclose(floats.train.images_NCHW.float(), data.train.images_NCHW / 255, atol=1e-3)


@pytest.mark.parametrize(
    ("labels", "broken", "message"),
    [
        ([0, 1, 2] * 4, 0, "corrupt image row 0 of"),
        ([0, 1, 7] * 4, None, r"label 7 out of range in row 2 of .*valid: 0 to 2"),
        ([0, 1, 1] * 4, None, "no training image for class class2"),
    ],
)
def test_one_line_names_the_culprit(tmp_path: Path, labels: list[int], broken: int | None, message: str) -> None:
    write_parquet(tmp_path, labels, broken=broken)
    with pytest.raises(UsageError, match=message) as caught:
        load_data(f"hf:{tmp_path}", val_size=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar11", r"unknown data 'cifar11' \(did you mean 'cifar10'\?\).*hf:FOLDER"),
        ("hf:/no/such/folder", "no such folder: /no/such/folder"),
        ("folder:/no/such/folder", "no such folder: /no/such/folder"),
        ("npz:/no/such.npz", "no such file: /no/such.npz"),
        ({"train_size": 3}, "needs the key 'name'"),
        ({"name": "digits", "sise": 3}, "unknown option of data 'digits' 'sise'.*image_size"),
        ({"name": "digits", "seed": 3}, "unknown option of data 'digits' 'seed'.*image_size"),
    ],
)
def test_wrong_specs(spec: str | dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_data(spec)


def test_an_option_is_given_once() -> None:
    with pytest.raises(UsageError, match=r"data\.image_size is given twice"):
        load_data({"name": "digits", "image_size": 8}, image_size=12)


@pytest.mark.slow
def test_real_parquet(data_folder: Path) -> None:
    data = load_data(f"hf:{data_folder}/fashion_mnist", train_size=1000, val_size=500)
    assert (data.in_chans, data.size, data.num_classes) == (1, (28, 28), 10)
    assert torch.bincount(data.train.labels_N).tolist() == [100] * 10
    assert data.class_names[0] == "T-shirt/top"
