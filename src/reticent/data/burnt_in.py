"""A suspicion of burnt-in text: marks of one brightness in a row, as letters are."""

import numpy as np
from scipy import ndimage

_LETTERS = 4  # in a row; fewer are side markers and stray edges
_HEIGHTS = (5, 60)  # pixels
_MOST_HEIGHT = 0.12  # of the image
_LOOKED_AT = 3  # slices of a volume: first, middle, last


def text_suspected(image: np.ndarray) -> bool:
    """Whether (C, H, W) or, by its first, middle and last slice, (C, X, Y, Z) seems to show a line of text.

    Letters are looked for as separate marks within a tenth of the brightest (or darkest) value's distance, of similar
    height, on one base line and close to each other. A suspicion, and no proof in either direction: look at the images.
    """
    grey = np.asarray(image, np.float32).mean(0)
    if grey.ndim == 3:
        middle = grey.shape[2] // 2
        return any(text_suspected(grey[None, :, :, z].swapaxes(1, 2)) for z in {0, middle, grey.shape[2] - 1})
    low, high = float(grey.min()), float(grey.max())
    if high <= low:
        return False
    scaled = (grey - low) / (high - low)
    return _has_line(scaled > 0.9) or _has_line(scaled < 0.1)


def _has_line(marks: np.ndarray) -> bool:
    labels, _ = ndimage.label(marks, np.ones((3, 3)))
    boxes = [
        (rows.start, rows.stop, columns.start, columns.stop)
        for rows, columns in ndimage.find_objects(labels)
        if _like_letter(rows.stop - rows.start, columns.stop - columns.start, len(marks))
    ]
    boxes.sort(key=lambda box: box[2])
    return any(_letters_from(i, boxes) >= _LETTERS for i in range(len(boxes)))


def _like_letter(height: int, width: int, rows: int) -> bool:
    return _HEIGHTS[0] <= height <= min(_HEIGHTS[1], _MOST_HEIGHT * rows) and width <= 1.5 * height


def _letters_from(i: int, boxes: list[tuple[int, int, int, int]]) -> int:
    """Length of the line of letters that begins with box `i`."""
    count, last = 1, boxes[i]
    for box in boxes[i + 1 :]:
        height = last[1] - last[0]
        if box[2] - last[3] > height:
            break
        same_height = 0.7 <= (box[1] - box[0]) / height <= 1.4
        if same_height and abs(box[1] - last[1]) <= 0.2 * height and box[2] >= last[3] - 1:
            count, last = count + 1, box
    return count
