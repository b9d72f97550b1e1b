"""The options of each source of data, with their types: a mistake is one line that names the key and what is valid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from evaluators.data.cluttered import Scene
from evaluators.data.embedded import TRAIN_SIZE, Clutter
from evaluators.data.pixels import MAX_PIXELS
from evaluators.data.splits import moments
from spaces.errors import UsageError, unknown
from spaces.network import pixels

MAX_INPUT = 4096**2  # pixels of an image as a network sees it


def _size(value: object) -> object:
    """A number of images, or a share of them."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise UsageError(f"{value!r}; valid: a number of images, or a share of them between 0 and 1")


def _range(value: object) -> object:
    """The value of full brightness, or those of black and of full brightness, as (low, high)."""
    if value is None:
        return None
    ends: list[Any] = list(value) if isinstance(value, (list, tuple)) else [0, value]
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) and abs(end) < 1e30 for end in ends)
    if len(ends) != 2 or not numbers or not ends[0] < ends[1]:
        raise UsageError(f"{value!r}; valid: the value of full brightness above 0, or [lowest, highest]")
    return float(ends[0]), float(ends[1])


def _each(value: object) -> object:
    """One number a channel."""
    if value is None:
        return None
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    if not given or not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in given):
        raise UsageError(f"{value!r}; valid: a number for each channel, as in [0.485, 0.456, 0.406]")
    return tuple(given)


def _pixels(value: Any) -> tuple[int, int]:
    """(H, W), no larger than what a device can train on."""
    height, width = pixels(value)
    if height * width > MAX_INPUT:
        raise UsageError(f"image size {value!r} is {height * width} pixels; valid: up to {MAX_INPUT} pixels")
    return height, width


Pixels = Annotated[tuple[int, int], BeforeValidator(_pixels)]
Images = Annotated[int | float, BeforeValidator(_size)]
Count = Annotated[int, Field(ge=1)]
Made = Annotated[int, Field(ge=1, le=10**7)]  # images that are composed, all held in memory
Side = Annotated[int, Field(ge=1, le=4096)]
Pair = Annotated[tuple[int, int], Field(strict=False)]


class Options(BaseModel):
    """Options of a source; unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ClutterOptions(Options):
    """How cluttered digits are composed; see ``embedded.Clutter``."""

    train_size: Made = Field(default=TRAIN_SIZE, description="training images")
    val_size: Made = Field(default=2000, description="validation images")
    test_size: Made = Field(default=2000, description="test images")
    image_size: Side = Field(default=Clutter.canvas, description="side in pixels")
    glyph: Pair = Field(default=Clutter.glyph, description="smallest and largest side of the digit")
    fragments: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=Clutter.fragments, description="pieces of other digits around it"
    )
    fragment: Side = Field(default=Clutter.fragment, description="side of a piece in pixels")
    contrast: Annotated[float, Field(ge=0, le=1)] = Field(
        default=Clutter.contrast, description="contrast of the pieces, that of the digit being 1"
    )
    noise: Annotated[float, Field(ge=0, le=100)] = Field(default=Clutter.noise, description="deviation of the noise")

    @model_validator(mode="after")
    def _fits(self) -> ClutterOptions:
        low, high = self.glyph
        if not 1 <= low <= high:
            raise UsageError(f"glyph {list(self.glyph)}; valid: [smallest, largest] side in pixels")
        if self.fragment > low:
            raise UsageError(f"fragment {self.fragment} is larger than the smallest glyph; valid: 1 to {low}")
        return self


class DigitsOptions(Options):
    """The plain digits."""

    image_size: Side = Field(default=16, description="side in pixels")


class SceneOptions(Options):
    """How scenes of cluttered digits are composed; see ``cluttered.Scene``."""

    train_size: Made = Field(default=1600, description="training pictures")
    val_size: Made = Field(default=400, description="validation pictures")
    test_size: Made = Field(default=400, description="test pictures")
    image_size: Side = Field(default=Scene.canvas, description="side in pixels")
    digits: Pair = Field(default=Scene.digits, description="fewest and most digits of a picture")
    sizes: Annotated[tuple[int, ...], Field(strict=False)] = Field(
        default=Scene.sizes, description="sides that a digit may have"
    )
    fragments: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=Scene.fragments, description="pieces of other digits"
    )
    fragment: Side = Field(default=Scene.fragment, description="side of a piece in pixels")
    contrast: Annotated[float, Field(ge=0, le=1)] = Field(
        default=Scene.contrast, description="contrast of the pieces, that of the digits being 1"
    )
    texture: Annotated[float, Field(ge=0, le=1)] = Field(
        default=Scene.texture, description="strength of the background's texture"
    )
    noise: Annotated[float, Field(ge=0, le=100)] = Field(default=Scene.noise, description="deviation of the noise")

    @property
    def scene(self) -> Scene:
        """Raises UsageError for a scene that cannot be."""
        return Scene(
            self.image_size,
            self.digits,
            self.sizes,
            self.fragments,
            self.fragment,
            self.contrast,
            self.texture,
            self.noise,
        )


class RealOptions(Options):
    """What every set of real images can be told."""

    image_size: Pixels | None = Field(default=None, description="a side or [H, W] in pixels; None: that of the images")
    train_size: Images | None = Field(default=None, description="training images, or a share of them; None: all")
    val_size: Images | None = Field(default=None, description="validation images, or a share of them")
    flip: bool | None = Field(
        default=None, description="whether images may be mirrored while training; None: as the set allows"
    )
    stream: bool | None = Field(default=None, description="read from disk while training; None: above 2 GiB")
    channels: Count | None = Field(default=None, description="of the input; None: those of the images")
    max: Annotated[tuple[float, float] | None, BeforeValidator(_range)] = Field(
        default=None,
        description="the pixel value of full brightness, or those of black and of full brightness; None: read from the data",
    )
    mean: Annotated[tuple[float, ...] | None, BeforeValidator(_each)] = Field(
        default=None,
        description="of each channel of [0, 1], which a network sees as 0; None: that of the training images",
    )
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...] | None, BeforeValidator(_each)] = Field(
        default=None,
        description="the distance from the mean that a network sees as 1; None: that of the training images",
    )
    skip_corrupt: bool = Field(default=False, description="leave out, and count, what cannot be decoded")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise UsageError("mean and std belong together; valid: both, or neither")
        return self

    def moments(self, images_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation per channel: those that were chosen, else of the training images.

        Raises UsageError for as many as there are no channels.
        """
        if self.mean is None or self.std is None:
            return moments(images_NCHW)
        if not len(self.mean) == len(self.std) == images_NCHW.shape[1]:
            raise UsageError(
                f"mean {list(self.mean)} and std {list(self.std)}; valid: {images_NCHW.shape[1]} numbers each, one a channel"
            )
        return self.mean, self.std


class FolderOptions(RealOptions):
    """Image files."""

    max_pixels: Count = Field(default=MAX_PIXELS, description="an image of more pixels is refused")


class TableOptions(FolderOptions):
    """Tables of Hugging Face."""

    label: str | None = Field(default=None, description="the column of labels")
    image: str | None = Field(default=None, description="the column of images")
    config: str | None = Field(default=None, description="the configuration of a set that has several")


class ArrayOptions(RealOptions):
    """Arrays in a file."""


class DownloadOptions(RealOptions):
    """torchvision's sets."""

    root: str = Field(default="~/.cache/attune/data", description="where downloads are kept")


Chosen = TypeVar("Chosen", bound=Options)


def name_and_options(
    spec: str | Mapping[str, Any], options: Mapping[str, Any], valid: Iterable[str]
) -> tuple[str, dict[str, Any]]:
    """The name of a data set and its options: those given, and where ``spec`` is a mapping, those that stand in it.

    Raises UsageError for a mapping without a name, or an option that is given twice.
    """
    if not isinstance(spec, Mapping):
        return spec, dict(options)
    if "name" not in spec:
        raise UsageError(f"data needs the key 'name'; valid names: {', '.join(valid)}")
    inside = {key: spec[key] for key in spec if key != "name"}
    if both := inside.keys() & options.keys():
        raise UsageError(f"data.{min(both)} is given twice")
    return str(spec["name"]), {**inside, **options}


def read_options(model: type[Chosen], spec: str, given: Mapping[str, Any]) -> Chosen:
    """The options of the set `spec`; UsageError for an unknown key or a wrong type, in one line."""
    for option in given:
        if option not in model.model_fields:
            raise unknown(f"option of data {spec!r}", option, model.model_fields)
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"][:1])
        if problem["type"] == "value_error":
            reason = str(problem["ctx"]["error"])
            own_words = key in ("", "image_size")
            raise UsageError(reason if own_words else f"data {spec!r}: {key} = {reason}") from None
        value = repr(given.get(key, problem["input"]))
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        message = f"{problem['msg'][:1].lower()}{problem['msg'][1:]}"
        raise UsageError(f"data {spec!r}: {key} = {shown}: {message}") from None
