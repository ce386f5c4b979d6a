"""Images in folders or in a tar."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edgekit.agent.preprocess import resize_to
from edgekit.data.checks import samples_of
from edgekit.data.loaders.boxes import fill_boxes, place_boxes, read_boxes
from edgekit.data.loaders.files import File, Labelled, Parts, read_files, read_labelled
from edgekit.errors import DataError, MissingExtraError
from edgekit.schema.tensors import Resize

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".webp")
_MODES = {1: "L", 3: "RGB"}
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_MOST_PIXELS = 100_000_000  # a few bytes can claim more than any memory holds

Images = NDArray[np.uint8]


def image_folder(
    path: str,
    labels: str = "folder",
    classes: Sequence[str] = (),
    parts: Mapping[str, str] | None = None,
    channels: int = 3,
    resize: Any = None,
    boxes: str | None = None,
) -> Parts:
    """JPEG, PNG and other images of a folder or a tar, (N, H, W, channels) uint8, sorted by name.

    Labels are classes (N,), or with `boxes` (N, K, 5) float32: class, x_min, y_min, x_max, y_max in pixels of the image
    as it is after `resize`; class -1 fills.

    Args:
        labels: `folder`: the folder that an image lies in is its class; `none`: every label is 0; else a CSV file with
            a name and a class in every line.
        classes: names in the order in which the network answers; empty: sorted.
        parts: name of a part -> folder below `path`; none: one part `all`.
        channels: 3 for RGB, 1 for grey.
        resize: for images of several sizes, as `preprocess.resize` is written; rounded to whole values.
        boxes: a CSV file as `read_boxes` takes it, instead of `labels`; images that it does not name are left out.

    Raises:
        DataError: no images, a damaged one, or sizes that differ and no `resize`.
        MissingExtraError: Pillow is not installed.
    """
    if channels not in _MODES:
        raise DataError(f"channels is {channels!r}", f"{path}, arguments", "write 3 for RGB, 1 for grey")
    spec = _resize_spec(resize, path)
    placed = None if boxes is None else read_boxes(boxes, path, tuple(classes))

    def decode(file: File) -> Images:
        image = decode_image(file, channels, path)
        if placed is not None:
            size = (image.shape[0], image.shape[1])
            placed[file.name] = place_boxes(placed[file.name], size, spec, f"{path}: {file.name}")
        return image if spec is None else _resized(image, spec)

    kind = labels if placed is None else "none"
    made = read_labelled(path, _SUFFIXES, decode, kind, tuple(classes), parts, placed)
    if placed is None:
        return {part: samples_of([stack_images(found, path)], found.labels, path) for part, found in made.items()}
    most = max(map(len, placed.values()))
    return {
        part: samples_of([stack_images(found, path)], fill_boxes([placed[name] for name in found.names], most), path)
        for part, found in made.items()
    }


def imagenet_sample(path: str, stride: int = 1) -> Parts:
    """A tar of equally large JPEG images named `<class index>_<anything>.jpg`, (N, H, W, 3) uint8 RGB: part all.

    Neighbouring classes resemble each other, so that a run of sorted images would be all dogs. Image p of the part is
    sorted image p * stride modulo N, which spreads every run of the part over the classes.

    Args:
        stride: shares no factor with the number of images.

    Raises:
        DataError: no tar of such images.
        MissingExtraError: Pillow is not installed.
    """
    images = {file.name: decode_image(file, 3, path) for file in read_files(path, (".jpg",))}
    names = sorted(images)
    if math.gcd(stride, len(names)) != 1:
        raise DataError(
            f"stride {stride} shares a factor with {len(names)} images",
            f"loader imagenet_sample: {path}",
            "choose a stride that shares none, such as a prime",
        )
    names = [names[place * stride % len(names)] for place in range(len(names))]
    first = [Path(name).name.partition("_")[0] for name in names]
    for name, text in zip(names, first, strict=True):
        if not text.isdecimal():
            raise DataError(
                f"{name!r} names no class",
                f"loader imagenet_sample: {path}",
                "name images <class index>_<anything>.jpg",
            )
    found = Labelled(names, [images[name] for name in names], np.array([int(text) for text in first]))
    return {"all": samples_of([stack_images(found, path)], found.labels, path)}


def decode_image(file: File, channels: int, path: str) -> Images:
    """(H, W, channels) of one image file.

    Raises:
        DataError: a damaged file, one of more than 8 bits, or one that claims more pixels than are taken.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as err:
        raise MissingExtraError(
            "Pillow is not installed", f"images of {path}", "pip install 'edgekit[images]'"
        ) from err
    where = f"{path}: {file.name}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of huge images: they are refused below; of odd metadata
            with Image.open(io.BytesIO(file.content)) as image:
                if math.prod(image.size) > _MOST_PIXELS:
                    raise DataError(
                        f"an image of {image.size[0]} x {image.size[1]} pixels", where, "leave it out of the data set"
                    )
                if image.mode not in _EIGHT_BITS:
                    raise DataError(
                        f"an image of mode {image.mode}, which has no 8-bit channels",
                        where,
                        "save it with 8 bits, or give the data as .npz",
                    )
                made = np.asarray(image.convert(_MODES[channels]))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        raise DataError(f"a damaged image: {err}", where, "get the file again, or leave it out") from err
    return made[..., None] if channels == 1 else made


def stack_images(found: Labelled, path: str) -> Images:
    """(N, H, W, C) of images of one size.

    Raises:
        DataError: they have several; names two.
    """
    for name, array in zip(found.names, found.arrays, strict=True):
        if array.shape != found.arrays[0].shape:
            raise DataError(
                f"{found.names[0]} is {_size(found.arrays[0])} pixels, and {name} is {_size(array)}",
                f"images of {path}",
                "bring them to one size: `resize: [height, width]` among the loader's arguments",
            )
    return np.stack(found.arrays)


def _size(image: Images) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _resize_spec(resize: Any, path: str) -> dict[str, Any] | None:
    if resize is None:
        return None
    try:
        return Resize.model_validate(resize).model_dump()
    except ValidationError as err:
        raise DataError(
            f"resize is {resize!r}",
            f"{path}, arguments",
            f"write [height, width], or a mapping of {', '.join(Resize.model_fields)}",
        ) from err


def _resized(image: Images, spec: Mapping[str, Any]) -> Images:
    made = resize_to(spec, image[None].astype(np.float32), "NHWC")[0]
    return np.asarray(np.rint(made).clip(0, 255).astype(np.uint8))
