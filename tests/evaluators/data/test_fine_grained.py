"""Fine-grained sets by their own lists."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from evaluators.data import load_data
from spaces.errors import UsageError


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (6, 6), (level, 0, 0))
    image.putpixel((0, 0), (255, 255, 255))
    image.save(path)


def test_aircraft(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = {"train": [("1", "707-320"), ("2", "A300B4"), ("3", "707-320"), ("4", "A300B4")]}
    rows |= {"val": [("5", "707-320"), ("6", "A300B4")], "test": [("7", "A300B4")]}
    for split, found in rows.items():
        for image, _ in found:
            picture(data / "images" / f"{image}.jpg", 20 * int(image))
        (data / f"images_variant_{split}.txt").write_text("".join(f"{image} {name}\n" for image, name in found))
    read = load_data(f"folder:{tmp_path}")
    assert read.class_names == ("707-320", "A300B4")
    assert (len(read.train), len(read.val), len(read.test)) == (4, 2, 1)
    assert read.test.labels_N.tolist() == [1]
    assert "FGVC-Aircraft" in read.summary.taken
    (data / "images_variant_val.txt").unlink()
    with pytest.raises(UsageError, match=r"looks like FGVC-Aircraft, but images_variant_val\.txt is missing"):
        load_data(f"folder:{tmp_path}")


def annotations(names: list[str], labels: list[int]) -> np.ndarray:
    rows = np.zeros(len(names), dtype=[("class", "O"), ("fname", "O")])
    rows["class"], rows["fname"] = labels, names
    return rows


def test_cars(tmp_path: Path) -> None:
    names = [f"0000{n}.jpg" for n in range(1, 5)]
    for home in ("cars_train", "cars_test"):
        for number, name in enumerate(names):
            picture(tmp_path / home / name, 50 * number)
    (tmp_path / "devkit").mkdir()
    savemat(tmp_path / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi TT", "BMW M3"], dtype=object)})
    savemat(tmp_path / "devkit" / "cars_train_annos.mat", {"annotations": annotations(names, [1, 2, 2, 1])})
    savemat(tmp_path / "devkit" / "cars_test_annos_withlabels.mat", {"annotations": annotations(names, [2, 2, 1, 1])})
    read = load_data(f"folder:{tmp_path}", val_size=2)
    assert read.class_names == ("Audi TT", "BMW M3")
    assert (len(read.train), len(read.val)) == (2, 2)
    assert read.test.labels_N.tolist() == [1, 1, 0, 0]
    (tmp_path / "devkit" / "cars_train_annos.mat").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"cannot read .*cars_train_annos\.mat"):
        load_data(f"folder:{tmp_path}")


def test_dogs(tmp_path: Path) -> None:
    breeds = ["n02085620-Chihuahua", "n02085782-Japanese_spaniel"]
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for breed in breeds:
        for number in range(4):
            picture(tmp_path / "Images" / breed / f"{number}.jpg", 50 * number)
            lists["train" if number < 3 else "test"].append(f"{breed}/{number}.jpg")
    for split, found in lists.items():
        savemat(tmp_path / f"{split}_list.mat", {"file_list": np.array(found, dtype=object)[:, None]})
    read = load_data(f"folder:{tmp_path}", val_size=2)
    assert read.class_names == tuple(breeds)
    assert (len(read.train), len(read.val), len(read.test)) == (4, 2, 2)
    assert read.test.labels_N.tolist() == [0, 1]
