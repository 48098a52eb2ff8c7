"""BibTeX of the attacks that rebuild images from gradients, by the name of the attack."""

_IMPRINT = """\
@inproceedings{fowl2022robbing,
  title     = {Robbing the Fed: Directly Obtaining Private Data in Federated Learning with Modified Models},
  author    = {Fowl, Liam H. and Geiping, Jonas and Czaja, Wojciech and Goldblum, Micah and Goldstein, Tom},
  booktitle = {International Conference on Learning Representations},
  year      = {2022},
  eprint    = {2110.13057},
  archiveprefix = {arXiv}
}"""

_TRAP_WEIGHTS = """\
@inproceedings{boenisch2023curious,
  title     = {When the Curious Abandon Honesty: Federated Learning Is Not Private},
  author    = {Boenisch, Franziska and Dziedzic, Adam and Schuster, Roei and Shamsabadi, Ali Shahin and Shumailov, Ilia and Papernot, Nicolas},
  booktitle = {8th IEEE European Symposium on Security and Privacy},
  year      = {2023},
  eprint    = {2112.02918},
  archiveprefix = {arXiv}
}"""  # noqa: E501

_INVERTING = """\
@inproceedings{geiping2020inverting,
  title     = {Inverting Gradients: How Easy Is It to Break Privacy in Federated Learning?},
  author    = {Geiping, Jonas and Bauermeister, Hartmut and Dröge, Hannah and Moeller, Michael},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {33},
  year      = {2020},
  eprint    = {2003.14053},
  archiveprefix = {arXiv}
}"""

_SEGMENTATION = """\
@misc{ziller2021differentially,
  title  = {Differentially Private Federated Deep Learning for Multi-Site Medical Image Segmentation},
  author = {Ziller, Alexander and Usynin, Dmitrii and Remerscheid, Nicolas and Knolle, Moritz and Makowski, Marcus and Braren, Rickmer and Rueckert, Daniel and Kaissis, Georgios},
  year   = {2021},
  eprint = {2107.02586},
  archiveprefix = {arXiv}
}"""  # noqa: E501

GRADIENT_CITATIONS: dict[str, tuple[str, ...]] = {
    "imprint": (_IMPRINT,),
    "trap-weights": (_TRAP_WEIGHTS,),
    "gradient-inversion": (_INVERTING,),
    "segmentation-inversion": (_INVERTING, _SEGMENTATION),
}
