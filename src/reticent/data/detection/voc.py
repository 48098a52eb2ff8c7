"""PASCAL VOC folders (Everingham et al. 2010): `JPEGImages`, `Annotations` with an XML file an image, `ImageSets`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from reticent.data.cohort import canonical_split
from reticent.data.detection.annotation import Annotation, AnnotationSet, Box, Problem
from reticent.data.images import IMAGE_SUFFIXES
from reticent.errors import InputError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc(root: Path) -> bool:
    """Whether a folder has `Annotations` and `JPEGImages`."""
    return (root / "Annotations").is_dir() and (root / "JPEGImages").is_dir()


def read_voc(root: Path, *, one_based: bool = False) -> AnnotationSet:
    """Read a folder; classes are the names found, sorted.

    Corners are taken as 0-based and half-open, as annotation tools of today write them; with `one_based` as the
    challenge had them (first pixel 1, last one included), so that 1 is taken off the first corner. Splits are those of
    `ImageSets/Main/{train,val,trainval,test}.txt`: of trainval, what is not in val is training. Raises InputError for
    an image in two splits.
    """
    splits = _splits(root / "ImageSets" / "Main")
    images: list[Annotation] = []
    problems: list[Problem] = []
    for path in sorted((root / "Annotations").glob("*.xml")):
        name = path.stem
        if splits and name not in splits:
            problems.append(Problem(path, None, name, "in none of the image sets", "left out"))
            continue
        try:
            images.append(_annotation(root, path, splits.get(name), one_based))
        except (expat.ExpatError, OSError, ValueError, AttributeError) as error:
            problems.append(Problem(path, None, name, f"not readable as VOC annotation ({error})", "left out"))
    annotated = {path.stem for path in (root / "Annotations").glob("*.xml")}
    for path in sorted((root / "JPEGImages").iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.stem not in annotated:
            problems.append(Problem(path, None, path.stem, "no annotation of this image", "left out"))
    classes = tuple(sorted({label for image in images for label in image.labels}))
    return AnnotationSet(classes, images, problems)


def write_voc(annotation: Annotation, *, one_based: bool = False) -> str:
    """The annotation file of one image; raises InputError if its shape is not known."""
    if annotation.shape is None:
        raise InputError(f"{annotation.name}: VOC needs the size of the image, which was not read")
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = annotation.name
    size = ElementTree.SubElement(root, "size")
    for tag, side in zip(("height", "width"), annotation.shape, strict=True):
        ElementTree.SubElement(size, tag).text = str(side)
    for (x0, y0, x1, y1), label in zip(annotation.boxes, annotation.labels, strict=True):
        thing = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(thing, "name").text = label
        box = ElementTree.SubElement(thing, "bndbox")
        for tag, value in zip(_CORNERS, (x0 + one_based, y0 + one_based, x1, y1), strict=True):
            ElementTree.SubElement(box, tag).text = f"{value:.17g}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _annotation(root: Path, path: Path, split: str | None, one_based: bool) -> Annotation:
    tree = _parse(path)
    things = tree.findall("object")
    boxes, labels = [], []
    for thing in things:
        label, box = thing.findtext("name"), thing.find("bndbox")
        if not label or not label.strip() or box is None:
            raise ValueError(f"line {thing.get('line')}: an object without name or bndbox")
        boxes.append(_box(box, one_based))
        labels.append(label.strip())
    image = _image(root / "JPEGImages", path.stem, (tree.findtext("filename") or path.stem).strip())
    return Annotation(
        name=image.name,
        image=image,
        boxes=tuple(boxes),
        labels=tuple(labels),
        file=path,
        places=tuple(int(thing.attrib["line"]) for thing in things),
        shape=_shape(tree),
        split=split,
    )


def _parse(path: Path) -> ElementTree.Element:
    """The tree, with the line of each element as its attribute."""
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        builder.start(tag, {**attributes, "line": str(parser.CurrentLineNumber)})

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(path.read_bytes(), True)
    return builder.close()


def _box(box: ElementTree.Element, one_based: bool) -> Box:
    values = []
    for tag in _CORNERS:
        text = box.findtext(tag)
        try:
            values.append(float(text or ""))
        except ValueError:
            raise ValueError(f"line {box.get('line')}: {tag} is {text!r}") from None
    return values[0] - one_based, values[1] - one_based, values[2], values[3]


def _shape(tree: ElementTree.Element) -> tuple[int, int] | None:
    try:
        shape = int(tree.findtext("size/height") or ""), int(tree.findtext("size/width") or "")
    except ValueError:
        return None
    return shape if min(shape) > 0 else None


def _image(folder: Path, stem: str, name: str) -> Path:
    """The image with the annotation's own name, for what stands inside is often copied; else the one named there."""
    suffixes = (Path(name).suffix, *IMAGE_SUFFIXES)
    return next((path for s in suffixes if (path := folder / f"{stem}{s}").is_file()), folder / name)


def _splits(folder: Path) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name in ("test", "val", "train", "trainval"):
        path = folder / f"{name}.txt"
        if not path.is_file():
            continue
        split = canonical_split(name) or "train"
        for line in path.read_text("utf-8", errors="replace").splitlines():
            if not line.strip():
                continue
            image = line.split()[0]
            if found.get(image, split) != split and name != "trainval":
                raise InputError(f"{path}: {image} is also in the split {found[image]}; keep it in one")
            found.setdefault(image, split)
    return found
