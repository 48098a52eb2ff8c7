"""BibTeX of what surfaces and predicted numbers rest on."""

from __future__ import annotations

from collections.abc import Iterator

from reticent.records import RIDGE, Study

_BLAND_ALTMAN = """\
@article{bland1986statistical,
  title   = {Statistical methods for assessing agreement between two methods of clinical measurement},
  author  = {Bland, J. Martin and Altman, Douglas G.},
  journal = {The Lancet},
  volume  = {327},
  number  = {8476},
  pages   = {307--310},
  year    = {1986},
  doi     = {10.1016/S0140-6736(86)90837-8}
}"""

_BODY_FAT = """\
@inproceedings{mueller2023body,
  title     = {Body Fat Estimation from Surface Meshes Using Graph Neural Networks},
  author    = {Mueller, Tamara T. and Zhou, Siyu and Starck, Sophie and Jungmann, Friederike and Ziller, Alexander and Aksoy, Orhun and Movchan, Danylo and Braren, Rickmer and Kaissis, Georgios and Rueckert, Daniel},
  booktitle = {Shape in Medical Imaging},
  series    = {Lecture Notes in Computer Science},
  volume    = {14350},
  pages     = {105--117},
  year      = {2023},
  doi       = {10.1007/978-3-031-46914-5_9}
}"""  # noqa: E501

_GRAPHSAGE = """\
@inproceedings{hamilton2017inductive,
  title     = {Inductive Representation Learning on Large Graphs},
  author    = {Hamilton, William L. and Ying, Rex and Leskovec, Jure},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {30},
  year      = {2017}
}"""

_POINTNET = """\
@inproceedings{qi2017pointnet,
  title     = {{PointNet}: Deep Learning on Point Sets for {3D} Classification and Segmentation},
  author    = {Qi, Charles R. and Su, Hao and Mo, Kaichun and Guibas, Leonidas J.},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition},
  pages     = {652--660},
  year      = {2017}
}"""

_ADASSP = """\
@inproceedings{wang2018revisiting,
  title     = {Revisiting differentially private linear regression: optimal and adaptive prediction \\& estimation in unbounded domain},
  author    = {Wang, Yu-Xiang},
  booktitle = {Proceedings of the Thirty-Fourth Conference on Uncertainty in Artificial Intelligence},
  year      = {2018}
}"""  # noqa: E501


def surface_citations(study: Study, task: str, dimensions: int) -> Iterator[str]:
    """Entries for a study of this task on records of so many dimensions, of surfaces 1."""
    name = study.model.name
    if task == "regression":
        yield _BLAND_ALTMAN
    if dimensions == 1:
        yield _BODY_FAT
    if name == "mesh-sage" or (name == "default" and dimensions == 1):
        yield _GRAPHSAGE
    if name == "pointnet":
        yield _POINTNET
    if name == RIDGE and not study.privacy.non_private:
        yield _ADASSP
