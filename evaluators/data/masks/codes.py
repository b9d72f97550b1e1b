"""From the pixel values of masks (class numbers, palettes, colours) to classes 0 ... K-1, without guessing.

Legend: H and W pixels, K classes, V pixel values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from evaluators.data.pixels import Picture
from spaces.errors import UsageError

IGNORED = 255  # stands for "not labelled" in every encoded mask, whatever stands for it in the files
MOST = 255  # classes, numbered from 0 to 254
VALUES = 2**16  # of a mask of 16 bits
WIDE = 20  # classes, up to which numbers may have gaps: a subset of a data set lacks some

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Declared:
    """What is known of masks before any is read, from the user or from the layout.

    classes: their names, or how many. values: the pixel value of each. colors: the colour of each, for masks in colour.
    ignore, ignore_colors: what is not labelled; None: nobody said.
    """

    classes: tuple[str, ...] | int | None = None
    values: tuple[int, ...] | None = None
    ignore: tuple[int, ...] | None = None
    colors: tuple[Colour, ...] | None = None
    ignore_colors: tuple[Colour, ...] = ()

    @property
    def count(self) -> int | None:
        """Of classes, where it is known."""
        given = self.values or self.colors
        if given is not None:
            return len(given)
        return len(self.classes) if isinstance(self.classes, tuple) else self.classes

    def check(self) -> None:
        """Raise UsageError for parts that do not fit together."""
        if self.values is not None and self.colors is not None:
            raise UsageError("data.values and data.colors are both given; valid: values of class numbers, or colours")
        named = len(self.classes) if isinstance(self.classes, tuple) else self.classes
        if named is not None and self.count is not None and named != self.count:
            raise UsageError(f"data.classes are {named}, but {self.count} values or colours are given; valid: as many")
        if self.count is not None and not 2 <= self.count <= MOST:
            raise UsageError(f"data.classes: {self.count} classes; valid: 2 to {MOST}")
        both = set(self.values or ()) & set(self.ignore or ())
        twice = set(self.colors or ()) & set(self.ignore_colors)
        if both or twice:
            raise UsageError(f"data.ignore: {next(iter(both or twice))} is that of a class too")
        for what, given in (("values", self.values), ("colors", self.colors)):
            if given is not None and len(set(given)) < len(given):
                raise UsageError(f"data.{what}: one is given twice")
        names = self.classes if isinstance(self.classes, tuple) else ()
        if len(set(names)) < len(names):
            raise UsageError("data.classes: a name is given twice")


@dataclass(frozen=True, eq=False)
class MaskCode:
    """What the pixel values of masks stand for.

    names: of the classes. class_V: class of every value of 16 bits, IGNORED, or -1 for what is none; None for colours.
    colors: class or IGNORED by colour, None for numbers. valid: what is, in words. assumed: what the data do not say.
    """

    names: tuple[str, ...]
    class_V: np.ndarray | None
    colors: Mapping[Colour, int] | None
    valid: str
    assumed: tuple[str, ...] = ()

    def encode(self, mask: Picture, where: str) -> np.ndarray:
        """A mask as classes (H, W) uint8, IGNORED where nothing is labelled; UsageError for a value that is no class."""
        if self.colors is not None:
            return self._from_colours(colours_of(mask, where), where)
        assert self.class_V is not None
        values_HW = numbers_of(mask, where)
        classes_HW = self.class_V[values_HW]
        if classes_HW.min() < 0:
            wrong = int(values_HW[classes_HW < 0][0])
            raise UsageError(
                f"mask {where} has pixels of value {wrong}; valid: {self.valid} (data.classes, data.values, data.ignore)"
            )
        return classes_HW.astype(np.uint8)

    def _from_colours(self, colours_HW3: np.ndarray, where: str) -> np.ndarray:
        assert self.colors is not None
        packed = {red << 16 | green << 8 | blue: kind for (red, green, blue), kind in self.colors.items()}
        known_V = np.array(sorted(packed))
        kinds_V = np.array([packed[int(value)] for value in known_V], np.uint8)
        wide_HW3 = colours_HW3.astype(np.int32)
        packed_HW = wide_HW3[..., 0] << 16 | wide_HW3[..., 1] << 8 | wide_HW3[..., 2]
        at_HW = np.searchsorted(known_V, packed_HW).clip(0, len(known_V) - 1)
        unknown_HW = known_V[at_HW] != packed_HW
        if unknown_HW.any():
            colour = colours_HW3[unknown_HW][0].tolist()
            raise UsageError(
                f"mask {where} has pixels of colour {colour}; valid: {self.valid} (data.colors, data.ignore)"
            )
        return kinds_V[at_HW]


def numbers_of(mask: Picture, where: str) -> np.ndarray:
    """The class numbers of a mask as they are stored (H, W): of grey, of a palette's indices, or of one bit.

    UsageError for colours, which need a declared palette, for fractions and for what 16 bits cannot hold.
    """
    if isinstance(mask, Image.Image):
        if mask.mode == "LA":
            mask = _opaque(mask, where).convert("L")
        if mask.mode == "1":
            return np.asarray(mask, dtype=np.uint8)
        if mask.mode not in ("L", "P"):
            raise UsageError(
                f"mask {where} is in colour ({mask.mode}): say in data.colors which colour each class has, in their order"
            )
        return np.asarray(mask)
    if mask.shape[2] != 1 or mask.dtype.kind not in "iu":
        raise UsageError(
            f"mask {where} has {mask.shape[2]} channels of {mask.dtype}; valid: one of whole numbers, or colours of 8 bits"
        )
    values_HW: np.ndarray = mask[:, :, 0]
    if values_HW.min() < 0 or values_HW.max() >= VALUES:
        raise UsageError(
            f"mask {where} has values from {values_HW.min()} to {values_HW.max()}; valid: 0 to {VALUES - 1}"
        )
    return values_HW


def colours_of(mask: Picture, where: str) -> np.ndarray:
    """The colours of a mask (H, W, 3) uint8; those of a palette, and grey as a colour. UsageError for deeper pixels."""
    if not isinstance(mask, Image.Image):
        raise UsageError(
            f"mask {where} has {mask.shape[2]} channels of {mask.dtype}; data.colors are colours of 8 bits"
        )
    return np.asarray(_opaque(mask, where).convert("RGB"))


def _opaque(mask: Image.Image, where: str) -> Image.Image:
    if mask.mode in ("LA", "RGBA") and mask.getchannel("A").getextrema() != (255, 255):
        raise UsageError(f"mask {where} is partly transparent; save it without transparency")
    return mask


def settle_code(declared: Declared, seen: Mapping[int, str]) -> MaskCode:
    """The code of a data set. seen: the values of its masks, and where each was seen first; may be empty where all is declared.

    Raises UsageError where the values can be read in two ways.
    """
    declared.check()
    if declared.colors is not None:
        kinds = {colour: number for number, colour in enumerate(declared.colors)}
        kinds |= dict.fromkeys(declared.ignore_colors, IGNORED)
        shown = ", ".join(str(list(colour)) for colour in list(kinds)[:8])
        return MaskCode(
            _names(declared, len(declared.colors)), None, kinds, f"{shown}{' ...' if len(kinds) > 8 else ''}"
        )
    assumed: tuple[str, ...] = ()
    ignore = declared.ignore
    taken = set(declared.values or ()) | (set(range(declared.count)) if declared.count is not None else set())
    if ignore is None:
        ignore = ()
        if IGNORED in seen and IGNORED not in taken:
            if set(seen) <= {0, IGNORED}:
                raise UsageError(
                    f"masks have the values 0 and 255 only (255 in {seen[IGNORED]}): say data.values: [0, 255] where 255 is a "
                    "class, or data.ignore: 255 and data.classes where it is not labelled"
                )
            ignore = (IGNORED,)
            assumed += ("255 in a mask is not labelled (data.ignore)",)
    values = declared.values or _numbered(declared, set(seen) - set(ignore), ignore, seen)
    if declared.count is None:
        lacking = [value for value in values if value not in seen]
        none = f"; no pixel of {', '.join(map(str, lacking[:8]))}" if lacking else ""
        assumed += (f"{len(values)} classes, from the values in the masks{none} (data.classes)",)
    class_V = np.full(VALUES, -1, np.int16)
    class_V[list(values)] = np.arange(len(values))
    class_V[list(ignore)] = IGNORED
    valid = f"{_ranges(values)}, not labelled: {_ranges(sorted(ignore)) or 'none'}"
    return MaskCode(_names(declared, len(values), values), class_V, None, valid, assumed)


def _numbered(declared: Declared, found: set[int], ignore: Sequence[int], seen: Mapping[int, str]) -> tuple[int, ...]:
    """The values of classes that are numbered from 0 upwards, those that are not labelled left out."""
    count = declared.count
    if count is None:
        if len(found) < 2:
            raise UsageError(
                f"masks have only the values {_ranges(sorted(seen)) or 'none'}: one class or none; valid: two or more"
            )
        highest = max(found)
        if highest >= MOST or highest + 1 >= max(2 * len(found), WIDE):
            raise UsageError(
                f"masks have the values {_ranges(sorted(found))} ({highest} in {seen[highest]}), which are no class numbers; "
                "say data.values, the value of each class, and data.ignore"
            )
        count = len([value for value in range(highest + 1) if value not in ignore])
    free = (value for value in range(VALUES) if value not in ignore)
    return tuple(next(free) for _ in range(count))


def _names(declared: Declared, count: int, values: Sequence[int] | None = None) -> tuple[str, ...]:
    if isinstance(declared.classes, tuple):
        return declared.classes
    return tuple(map(str, values if values is not None else range(count)))


def _ranges(values: Sequence[int]) -> str:
    """Ascending numbers in words: 0 to 10, 255."""
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][1] + 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    shown = [str(low) if low == high else f"{low} to {high}" for low, high in parts[:8]]
    return ", ".join(shown) + (" ..." if len(parts) > 8 else "")
