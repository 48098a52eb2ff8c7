"""A suspicion of burnt-in text: marks of one brightness in a row, as letters are."""

import numpy as np
from scipy import ndimage

_LETTERS = 4  # in a row; fewer are side markers and stray edges
_HEIGHTS = (5, 60)  # pixels
_MOST_HEIGHT = 0.12  # of the image
_LEVELS = (0.9, 0.75, 0.6, 0.5)  # of the image's range, that letters are brighter than
_MOST_STRAY = 0.25  # marks between and around letters, of the letters
_MOST_FILLED = 0.85  # share of the letters' boxes
_SIDE = 1024  # pixels; larger images are thinned out

_Box = tuple[int, int, int, int]
"""First and last row, first and last column, the last ones excluded."""


def text_suspected(image: np.ndarray) -> bool:
    """Whether (C, H, W), or the first, middle or last slice of (C, X, Y, Z) along any axis, seems to show text.

    Letters are looked for as separate bright marks (or the darkest ones) of similar height, on one base line and close
    to each other. A suspicion and no proof in either direction: look at the images.
    """
    grey = np.asarray(image, np.float32).mean(0)
    if grey.ndim == 2:
        return _in_picture(grey)
    slices = (np.take(grey, k, axis).T for axis in range(3) for k in {0, grey.shape[axis] // 2, grey.shape[axis] - 1})
    return any(_in_picture(picture) for picture in slices)


def _in_picture(picture: np.ndarray) -> bool:
    step = max(1, max(picture.shape) // _SIDE)
    thin = picture[::step, ::step]
    low, high = float(thin.min()), float(thin.max())
    if high <= low:
        return False
    scaled = (thin - low) / (high - low)
    return any(_has_line(scaled > level) for level in _LEVELS) or _has_line(scaled < 1 - _LEVELS[0])


def _has_line(marks: np.ndarray) -> bool:
    labels, _ = ndimage.label(marks, np.ones((3, 3)))
    boxes = [
        (rows.start, rows.stop, columns.start, columns.stop)
        for rows, columns in ndimage.find_objects(labels)
        if _like_letter(rows.stop - rows.start, columns.stop - columns.start, len(marks))
    ]
    boxes.sort(key=lambda box: box[2])
    return any(len(line) >= _LETTERS and _clear(line, marks) for line in _lines(boxes))


def _like_letter(height: int, width: int, rows: int) -> bool:
    return _HEIGHTS[0] <= height <= min(_HEIGHTS[1], _MOST_HEIGHT * rows) and width <= 1.5 * height


def _lines(boxes: list[_Box]) -> list[list[_Box]]:
    """Boxes, sorted from left to right, each put to the line whose last letter it follows."""
    lines: list[list[_Box]] = []
    open_lines: list[list[_Box]] = []
    for box in boxes:
        open_lines = [line for line in open_lines if box[2] - line[-1][3] <= line[-1][1] - line[-1][0]]
        line = next((line for line in open_lines if _follows(box, line[-1])), None)
        if line is None:
            line = []
            lines.append(line)
            open_lines.append(line)
        line.append(box)
    return lines


def _follows(box: _Box, last: _Box) -> bool:
    height = last[1] - last[0]
    same_height = 0.7 <= (box[1] - box[0]) / height <= 1.4
    return same_height and abs(box[1] - last[1]) <= 0.2 * height and box[2] >= last[3] - 1


def _clear(line: list[_Box], marks: np.ndarray) -> bool:
    """Whether the letters stand on a ground that is clear of marks, and fill their boxes as letters do."""
    top, bottom = min(box[0] for box in line), max(box[1] for box in line)
    margin = (bottom - top) // 4
    around = marks[max(0, top - margin) : bottom + margin, max(0, line[0][2] - margin) : line[-1][3] + margin]
    letters = sum(int(marks[box[0] : box[1], box[2] : box[3]].sum()) for box in line)
    boxes = sum((box[1] - box[0]) * (box[3] - box[2]) for box in line)
    return int(around.sum()) - letters <= _MOST_STRAY * letters and letters <= _MOST_FILLED * boxes
