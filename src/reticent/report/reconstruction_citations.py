"""BibTeX of the attacks that rebuild or recognise images, by the name of the attack."""

_VISUAL = """\
@article{schwethelm2025visual,
  title   = {Visual Privacy Auditing with Diffusion Models},
  author  = {Schwethelm, Kristian and Kaiser, Johannes and Knolle, Moritz and Lockfisch, Sarah and Rueckert, Daniel and Ziller, Alexander},
  journal = {Transactions on Machine Learning Research},
  year    = {2025},
  eprint  = {2403.07588},
  archiveprefix = {arXiv}
}"""  # noqa: E501

_LINEAR = """\
@misc{riess2024mean,
  title  = {From Mean to Extreme: Formal Differential Privacy Bounds on the Success of Real-World Data Reconstruction Attacks},
  author = {Riess, Anneliese and Schwethelm, Kristian and Kaiser, Johannes and Mueller, Tamara T. and Schnabel, Julia A. and Rueckert, Daniel and Ziller, Alexander},
  year   = {2024},
  eprint = {2402.12861},
  archiveprefix = {arXiv}
}"""  # noqa: E501

_GAME = """\
@inproceedings{balle2022reconstructing,
  title     = {Reconstructing Training Data with Informed Adversaries},
  author    = {Balle, Borja and Cherubin, Giovanni and Hayes, Jamie},
  booktitle = {2022 IEEE Symposium on Security and Privacy},
  year      = {2022},
  eprint    = {2201.04845},
  archiveprefix = {arXiv}
}"""

_BOUND = """\
@misc{kaissis2023bounding,
  title  = {Bounding Data Reconstruction Attacks with the Hypothesis Testing Interpretation of Differential Privacy},
  author = {Kaissis, Georgios and Hayes, Jamie and Ziller, Alexander and Rueckert, Daniel},
  year   = {2023},
  eprint = {2307.03928},
  archiveprefix = {arXiv}
}"""

RECONSTRUCTION_CITATIONS: dict[str, tuple[str, ...]] = {
    "identification": (_GAME, _BOUND),
    "visual": (_VISUAL, _LINEAR, _BOUND),
    "optimal-linear": (_LINEAR,),
}
