"""From a file or its bytes to a picture, with all the bits and bands that it has, the right way up.

Legend: H and W pixels, C channels (bands).
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from evaluators.data import tiff
from spaces.errors import UsageError

# Pictures of 8 bits with one channel or three are Pillow's own; anything wider is an array (H, W, C).
Picture = Image.Image | np.ndarray

MAX_PIXELS = 178_956_970  # where Pillow itself refuses a file as an attack on the memory
TURNED = "attune_turned"  # in Image.info: EXIF turned it
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    RuntimeError,
)
_pillow_limit = threading.Lock()


class CorruptImage(UsageError):
    """A picture that cannot be decoded; `data.skip_corrupt` leaves it out."""


def open_image(content: Path | bytes, where: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """A fully decoded image, turned as its EXIF orientation says.

    Raises UsageError naming `where` for a broken file, or one of more than `max_pixels`.
    """
    try:
        try:
            with _opened(content) as image:
                _check_size(image.width, image.height, where, max_pixels)
                picture = _loaded(image, content)
        except Image.UnidentifiedImageError:
            data = _bytes(content)
            if not tiff.is_tiff(data):
                raise
            tags = tiff.tags_of(data)
            _check_size(int(tags[tiff.WIDTH]), int(tags[tiff.HEIGHT]), where, max_pixels)
            picture = tiff.read_tiff(data)
        check_finite(picture, where)
        return picture
    except UsageError:
        raise
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise CorruptImage(f"corrupt image {where}: {_reason(error)}".replace("\n", " ")) from error


def _reason(error: BaseException) -> str:
    return "not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error) or type(error).__name__


def _bytes(content: Path | bytes) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


def _opened(content: Path | bytes) -> Image.Image:
    """Pillow's limit is a global of the process; ours comes with the data, so its own is lifted while a header is read."""
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(content if isinstance(content, Path) else io.BytesIO(content))
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check_size(width: int, height: int, where: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UsageError(
            f"{where} has {width}x{height} = {width * height} pixels, more than data.max_pixels = {max_pixels}; "
            f"set data.max_pixels: {width * height} or more to read it"
        )


def _loaded(image: Image.Image, content: Path | bytes) -> Picture:
    raw = str(getattr(image, "tile", ""))
    if image.format == "TIFF":
        _refuse_stack(image)
        if tiff.is_beyond_pillow(image.tag_v2):  # type: ignore[attr-defined]
            return tiff.read_tiff(_bytes(content))
    if image.format == "PNG" and ";16" in raw and image.mode not in ("I;16", "I"):
        return _deep_png(_bytes(content))
    image.load()
    return _upright(image)


def _refuse_stack(image: Image.Image) -> None:
    """Pages of equal size are a stack (bands, slices, time); a smaller second page is a thumbnail."""
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        size = image.size
        image.seek(1)
        alike = image.size == size
        image.seek(0)
        if alike:
            raise ValueError(f"{pages} pages of one size; save bands as samples of one page, or one file a page")


def _deep_png(content: bytes) -> np.ndarray:
    """Colour of 16 bits, of which Pillow keeps 8."""
    import torch
    from torchvision.io import ImageReadMode, decode_png  # here because it takes seconds to import

    image_CHW = decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    image_HWC = image_CHW.permute(1, 2, 0).numpy()
    colours = image_HWC.shape[2] - (image_HWC.shape[2] in (2, 4))  # transparency is no band
    with Image.open(io.BytesIO(content)) as header:
        orientation = header.getexif().get(274, 1)
    return np.ascontiguousarray(tiff.turned(image_HWC[:, :, :colours], orientation))


def _upright(image: Image.Image) -> Picture:
    orientation = image.getexif().get(274, 1) if image.format != "TIFF" else 1  # Pillow turns TIFF itself
    picture = ImageOps.exif_transpose(image) if orientation != 1 else image.copy()
    if orientation in range(2, 9):
        picture.info[TURNED] = True
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        pixels_HW = np.asarray(picture)
        return pixels_HW[:, :, None].astype(pixels_HW.dtype.newbyteorder("="))
    if image.format == "TIFF" and image.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255):
        return np.asarray(picture)  # four bands: in a TIFF the fourth is seldom transparency
    return picture


def check_finite(picture: Picture, where: str) -> None:
    """CorruptImage where a value is NaN or infinite, as where there are no data."""
    if isinstance(picture, np.ndarray) and picture.dtype.kind == "f" and not np.isfinite(picture).all():
        raise CorruptImage(f"corrupt image {where}: it has values that are not finite (NaN or infinity)")


def bands(picture: Picture) -> int:
    """Channels of a picture: 1 for grey, 3 for colour of any kind (transparency is no channel), C of an array."""
    if isinstance(picture, np.ndarray):
        return picture.shape[2]
    return 1 if picture.mode in ("L", "1", "LA", "La") else 3


def is_deep(picture: Picture) -> bool:
    """Whether it has values that 8 bits cannot hold."""
    return isinstance(picture, np.ndarray) and picture.dtype != np.uint8


def size_of(picture: Picture) -> tuple[int, int]:
    """(H, W)."""
    return picture.shape[:2] if isinstance(picture, np.ndarray) else picture.size[::-1]


def has_alpha(picture: Picture) -> bool:
    """Whether transparency says something: it is not the same everywhere."""
    if isinstance(picture, np.ndarray) or not _keeps_alpha(picture):
        return False
    low, high = picture.convert("RGBA").getchannel("A").getextrema()
    return low != high


def _keeps_alpha(picture: Image.Image) -> bool:
    """Whether it stores transparency: as a band, or as a colour of its palette."""
    return picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info


def shaped(
    picture: Picture, channels: int | None, size: tuple[int, int] | None, where: str, *, forced: bool = False
) -> np.ndarray:
    """(H, W, C): uint8 for 8 bits, else float32 in the picture's own unit.

    channels: None keeps its own; 2 is grey with its transparency, 4 is colour with it. size (H, W): it is resized until it
    covers it, and the centre is cropped out; None keeps it.
    forced: the user asked for these channels, so colour may become grey, and of many bands the first are taken.
    Raises UsageError where the picture has not got these channels.
    """
    if isinstance(picture, Image.Image):
        opaque = {None: "L" if bands(picture) == 1 else "RGB", 1: "L", 3: "RGB"}
        clear = {2: "LA" if bands(picture) == 1 else None, 4: "RGBA"} if _keeps_alpha(picture) else {}
        mode = (opaque | clear).get(channels)
        if mode is not None:
            if channels == 1 and bands(picture) == 3 and not forced:
                _refuse_colour(picture, where)
            return _fitted(picture.convert(mode), size)
        picture = np.asarray(picture.convert("L" if bands(picture) == 1 else "RGB"))
        picture = picture[:, :, None] if picture.ndim == 2 else picture
    if picture.dtype != np.uint8:
        picture = picture.astype(np.float32)
    own = picture.shape[2]
    if channels is not None and own != channels:
        picture = _with_channels(picture, channels, where, forced)
    bands_ = [
        _fitted(Image.fromarray(np.ascontiguousarray(picture[:, :, band])), size) for band in range(picture.shape[2])
    ]
    return np.concatenate(bands_, axis=2)


def _refuse_colour(picture: Image.Image, where: str) -> None:
    rgb = np.asarray(picture.convert("RGB"))
    if (rgb[:, :, :1] != rgb).any():
        raise UsageError(f"{where} has colours where the training images have none; set data.channels to 1 or 3")


def _with_channels(image_HWC: np.ndarray, channels: int, where: str, forced: bool) -> np.ndarray:
    own = image_HWC.shape[2]
    if own == 1 and channels == 3:
        return image_HWC.repeat(3, axis=2)
    if own == 3 and channels == 1 and forced:
        grey_HW1 = image_HWC.astype(np.float32) @ np.array([[0.299], [0.587], [0.114]], np.float32)  # ITU-R BT.601
        return grey_HW1.round().astype(np.uint8) if image_HWC.dtype == np.uint8 else grey_HW1
    if own > channels and forced:
        return image_HWC[:, :, :channels]
    raise UsageError(
        f"{where} has {own} channels where {channels} are needed; set data.channels to what all images have"
    )


def _fitted(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """(H, W, C), resized to cover `size`, bicubic, and its centre cropped."""
    if size is not None and image.size != size[::-1]:
        height, width = size
        scale = max(width / image.width, height / image.height)
        covering = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
        image = image.resize(covering, Image.Resampling.BICUBIC)
        image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
