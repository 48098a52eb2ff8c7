"""BibTeX of small clinical cohorts: markers beside images, masks and images without labels, folds."""

from collections.abc import Iterator

from reticent.records import Study

_THERAPY = """\
@misc{ziller2022exploiting,
  title  = {Exploiting segmentation labels and representation learning to forecast therapy response of {PDAC} patients},
  author = {Ziller, Alexander and Erdur, Ayhan Can and Jungmann, Friederike and Rueckert, Daniel and Braren, Rickmer and Kaissis, Georgios},
  year   = {2022},
  eprint = {2211.04180},
  archiveprefix = {arXiv}
}"""  # noqa: E501

_FILM = """\
@inproceedings{perez2018film,
  title     = {{FiLM}: Visual Reasoning with a General Conditioning Layer},
  author    = {Perez, Ethan and Strub, Florian and de Vries, Harm and Dumoulin, Vincent and Courville, Aaron},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume    = {32},
  year      = {2018}
}"""

_DELONG = """\
@article{delong1988comparing,
  title   = {Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves: A Nonparametric Approach},
  author  = {DeLong, Elizabeth R. and DeLong, David M. and Clarke-Pearson, Daniel L.},
  journal = {Biometrics},
  volume  = {44},
  number  = {3},
  pages   = {837--845},
  year    = {1988},
  doi     = {10.2307/2531595}
}"""  # noqa: E501


_INPAINTING = """\
@inproceedings{pathak2016context,
  title     = {Context Encoders: Feature Learning by Inpainting},
  author    = {Pathak, Deepak and Krähenbühl, Philipp and Donahue, Jeff and Darrell, Trevor and Efros, Alexei A.},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition},
  year      = {2016}
}"""

_MASKED = """\
@inproceedings{he2022masked,
  title     = {Masked Autoencoders Are Scalable Vision Learners},
  author    = {He, Kaiming and Chen, Xinlei and Xie, Saining and Li, Yanghao and Dollár, Piotr and Girshick, Ross},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2022}
}"""


def clinical_citations(study: Study) -> Iterator[str]:
    """What a study uses of it."""
    if study.cohort.markers or study.model.name == "unet-encoder" or study.training.mask_weight is not None:
        yield _THERAPY
    if study.cohort.pretrain:
        yield from (_INPAINTING, _MASKED)
    if study.model.arguments.get("fusion") == "film":
        yield _FILM
    if study.cohort.fold is not None:
        yield _DELONG
