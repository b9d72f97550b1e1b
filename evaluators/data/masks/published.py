"""The layouts of VOC 2012, Cityscapes and CamVid, whose classes are known.

Everingham et al., The PASCAL Visual Object Classes Challenge, 2010; Cordts et al., The Cityscapes Dataset for Semantic Urban
Scene Understanding, 2016; Brostow et al., Semantic object classes in video, 2009, in the 11 classes of Badrinarayanan et al.,
SegNet, 2017.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from evaluators.data.masks.codes import Declared
from evaluators.data.masks.folders import found_of, matched, open_mask_folder, shown_folders
from evaluators.data.masks.source import FilePairs, MasksFound
from evaluators.data.spelling import SPLITS
from spaces.errors import UsageError

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CITYSCAPES_IDS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19, "traffic sign": 20,
    "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31,
    "motorcycle": 32, "bicycle": 33,
}  # of labelIds; the other ids are not evaluated  # fmt: skip
CAMVID_NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
UNLABELLED = 11  # of CamVid's 11 classes


def open_voc(folder: Path, *, max_pixels: int) -> MasksFound:
    """VOC's JPEGImages, SegmentationClass and ImageSets/Segmentation: 21 classes, 255 is the border of an object."""
    root = _voc_root(folder)
    lists = {split: root / "ImageSets" / "Segmentation" / f"{split}.txt" for split in SPLITS}
    splits = {split: file.stem for split, file in lists.items() if file.is_file() and _has_masks(root, file)}
    if "train" not in splits:
        raise UsageError(
            f"{root} has no ImageSets/Segmentation/train.txt whose pictures have masks in SegmentationClass"
        )

    def read(split: str) -> FilePairs:
        names = _names_in(lists[split])
        pairs = [(root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClass" / f"{name}.png") for name in names]
        return _there(pairs, lists[split], max_pixels)

    return found_of(root, splits, read, Counter(), Declared(VOC_NAMES, ignore=(255,)))


def _voc_root(folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}")
    candidates = [folder, *sorted(folder.glob("VOC*")), *sorted(folder.glob("VOCdevkit/VOC*"))]
    roots = [path for path in candidates if (path / "JPEGImages").is_dir() and (path / "SegmentationClass").is_dir()]
    if len(roots) != 1:
        found = ", ".join(map(str, roots)) or shown_folders(folder)
        raise UsageError(
            f"{folder}: expected one JPEGImages beside one SegmentationClass, as in VOCdevkit/VOC2012; found: {found}"
        )
    return roots[0]


def _has_masks(root: Path, file: Path) -> bool:
    """Whether the pictures of a list have masks: those of VOC's test set have none."""
    names = _names_in(file)
    return bool(names) and (root / "SegmentationClass" / f"{names[0]}.png").is_file()


def _names_in(file: Path) -> list[str]:
    return [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _there(pairs: list[tuple[Path, Path]], source: Path, max_pixels: int) -> FilePairs:
    """The pairs as files; UsageError naming one that is missing."""
    missing = next((file for pair in pairs for file in pair if not file.is_file()), None)
    if missing is not None:
        raise UsageError(f"{source} names {missing}, which is not there")
    return FilePairs(tuple(image for image, _ in pairs), tuple(mask for _, mask in pairs), max_pixels)


def open_cityscapes(folder: Path, *, max_pixels: int) -> MasksFound:
    """Cityscapes' leftImg8bit and gtFine: the 19 classes that are evaluated, from labelTrainIds or else from labelIds."""
    images = folder / "leftImg8bit"
    if not (images / "train").is_dir() or not (folder / "gtFine").is_dir():
        found = shown_folders(folder) if folder.is_dir() else "no such folder"
        raise UsageError(
            f"{folder}: expected leftImg8bit/train and gtFine/train, as Cityscapes has them; found: {found}"
        )
    trained = next((folder / "gtFine").rglob("*_gtFine_labelTrainIds.png"), None) is not None
    kind = "labelTrainIds" if trained else "labelIds"
    names = tuple(CITYSCAPES_IDS)
    if trained:
        declared = Declared(names, ignore=(255,))
    else:
        ids = tuple(CITYSCAPES_IDS.values())
        others = tuple(
            number for number in (*range(34), 255) if number not in ids
        )  # 255: the number -1, of number plates
        declared = Declared(names, values=ids, ignore=others)

    def read(split: str) -> FilePairs:
        root = images / split
        pairs = []
        for image in sorted(root.rglob("*_leftImg8bit.*")):
            stem = image.stem.removesuffix("_leftImg8bit")
            pairs.append((image, folder / "gtFine" / split / image.parent.name / f"{stem}_gtFine_{kind}.png"))
        return _there(pairs, root, max_pixels)

    splits = {
        split: split for split in ("train", "val") if (images / split).is_dir()
    }  # nobody has the masks of its test
    return found_of(folder, splits, read, Counter(), declared, said=[f"masks are gtFine's {kind}"])


def open_camvid(folder: Path, *, max_pixels: int) -> MasksFound:
    """CamVid in 11 classes: SPLIT beside SPLITannot, as SegNet's tutorial has it, or SPLIT/images and SPLIT/masks."""
    declared = Declared(CAMVID_NAMES, ignore=(UNLABELLED,))
    if folder.is_dir() and (folder / "trainannot").is_dir():
        skipped: Counter[str] = Counter()
        read: Callable[[str], FilePairs] = lambda split: matched(  # noqa: E731
            folder / split, folder / f"{split}annot", skipped, max_pixels=max_pixels, skip_unmatched=False
        )
        splits = {split: split for split in SPLITS if (folder / f"{split}annot").is_dir()}
        return found_of(folder, splits, read, skipped, declared)
    found = open_mask_folder(folder, max_pixels=max_pixels, skip_unmatched=False)
    return MasksFound(found.train, found.found, found.val, found.test, found.test_images, declared)
