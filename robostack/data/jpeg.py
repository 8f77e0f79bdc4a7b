"""Images as JPEG and back; the home of Pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow

from robostack.spec import Image

QUALITY = 90


def encode(image: Image) -> bytes:
    """Return an RGB image (H, W, 3) as JPEG."""
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def decode(jpeg: bytes) -> Image:
    """Return the RGB image (H, W, 3) in `jpeg`."""
    with Pillow.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB"), np.uint8)
