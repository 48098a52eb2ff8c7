"""Writes folders of images with boxes in the forms that are read, with bright rectangles where the boxes are."""

import json

import numpy as np
from PIL import Image

FIRST_CLIP = 1_527_000_000_000  # May 2018, ms
DAY = 86_400_000


def paint(path, shape, boxes, brightness=(), seed=0):
    """A dim noisy image (height, width) with a bright rectangle for each box."""
    pixels = np.random.default_rng(seed).integers(0, 60, (*shape, 3), np.uint8)
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        colour = brightness[k] if k < len(brightness) else (220, 220, 220)
        pixels[int(y0) : int(y1), int(x0) : int(x1)] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def write_oktoberfest(root, clips=24, shape=(54, 96), frames=(20, 45, 70)):
    """Class folders with `files.txt`, as the set of Ziller et al. 2019 is laid out; clips over eleven days.

    Three frames of a clip show the same tray, a little moved; a tray holds 1 to 3 things of the classes Bier (0) and
    Pommes (9), which differ in colour. Every frame stands in the folders of all its classes; each fifth clip shows an
    empty tray.
    """
    lines = {"Bier": [], "Pommes": []}
    for clip in range(clips):
        rng = np.random.default_rng(clip)
        things = (
            [] if clip % 5 == 4 else [(int(rng.choice([0, 9])), *_place(rng, k)) for k in range(rng.integers(1, 4))]
        )
        for frame in frames:
            name = f"{FIRST_CLIP + clip * 11 * DAY // clips}_{frame}.jpg"
            moved = [(c, x + frame // 25, y, w, h) for c, x, y, w, h in things]
            boxes = [(x, y, x + w, y + h) for _, x, y, w, h in moved]
            colours = [(230, 190, 40) if c == 0 else (60, 90, 230) for c, *_ in moved]
            line = " ".join(map(str, (name, len(moved), *(v for thing in moved for v in thing))))
            for folder, number in (("Bier", 0), ("Pommes", 9)):
                if any(c == number for c, *_ in moved) or (not moved and folder == "Bier"):
                    paint(root / folder / name, shape, boxes, colours, seed=clip)
                    lines[folder].append(line)
    for folder, own in lines.items():
        (root / folder / "files.txt").write_text("\n".join(own) + "\n")
    return root


def _place(rng, k):
    """x, y, width and height of the k-th thing on a tray, in its own third."""
    return (
        30 * k + int(rng.integers(2, 6)),
        int(rng.integers(4, 24)),
        int(rng.integers(14, 22)),
        int(rng.integers(14, 26)),
    )


def write_voc_folder(root, images, shape=(40, 60), sets=None):
    """A VOC folder; `images` maps a name to [(class, x0, y0, x1, y1)], `sets` a split to names."""
    for name, things in images.items():
        paint(root / "JPEGImages" / f"{name}.png", shape, [box for _, *box in things])
        inner = "".join(
            f"<object>\n<name>{label}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
            f"<ymax>{y1}</ymax></bndbox></object>\n"
            for label, x0, y0, x1, y1 in things
        )
        size = f"<size><width>{shape[1]}</width><height>{shape[0]}</height><depth>3</depth></size>"
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"<annotation>\n<filename>{name}.png</filename>{size}\n{inner}</annotation>\n")
    for split, names in (sets or {}).items():
        path = root / "ImageSets" / "Main" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")
    return root


def write_coco_file(path, images, shape=(40, 60), classes=("cell", "clot"), **fields):
    """A COCO file beside its images; `images` maps a name to [(class, x, y, width, height)]; `fields` are added."""
    numbers = {name: 10 * (k + 1) for k, name in enumerate(classes)}
    rows, things = [], []
    for k, (name, own) in enumerate(images.items()):
        paint(path.parent / "images" / name, shape, [(x, y, x + w, y + h) for _, x, y, w, h in own])
        more = {field: values[k] for field, values in fields.items()}
        rows.append({"id": 100 + k, "file_name": name, "height": shape[0], "width": shape[1], **more})
        for c, *box in own:
            things.append({"id": len(things), "image_id": 100 + k, "category_id": numbers[c], "bbox": box})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    path.write_text(json.dumps({"images": rows, "annotations": things, "categories": categories}))
    return path
