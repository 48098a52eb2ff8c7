"""BibTeX of the attacks that audits carry out, by the name of the attack."""

from reticent.report.gradient_citations import GRADIENT_CITATIONS
from reticent.report.reconstruction_citations import RECONSTRUCTION_CITATIONS

_TIGHT_AUDITING = """\
@inproceedings{nasr2023tight,
  title     = {Tight Auditing of Differentially Private Machine Learning},
  author    = {Nasr, Milad and Hayes, Jamie and Steinke, Thomas and Balle, Borja and Tramèr, Florian and Jagielski, Matthew and Carlini, Nicholas and Terzis, Andreas},
  booktitle = {32nd USENIX Security Symposium},
  year      = {2023},
  eprint    = {2302.07956},
  archiveprefix = {arXiv}
}"""  # noqa: E501

_ONE_RUN = """\
@inproceedings{steinke2023privacy,
  title     = {Privacy Auditing with One (1) Training Run},
  author    = {Steinke, Thomas and Nasr, Milad and Jagielski, Matthew},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {36},
  year      = {2023},
  eprint    = {2305.08846},
  archiveprefix = {arXiv}
}"""

_ONE_RUN_FDP = """\
@misc{mahloujifar2024auditing,
  title  = {Auditing f-Differential Privacy in One Run},
  author = {Mahloujifar, Saeed and Melis, Luca and Chaudhuri, Kamalika},
  year   = {2024},
  eprint = {2410.22235},
  archiveprefix = {arXiv}
}"""

_LOSS = """\
@inproceedings{yeom2018privacy,
  title     = {Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting},
  author    = {Yeom, Samuel and Giacomelli, Irene and Fredrikson, Matt and Jha, Somesh},
  booktitle = {31st IEEE Computer Security Foundations Symposium},
  pages     = {268--282},
  year      = {2018},
  doi       = {10.1109/CSF.2018.00027}
}"""

_LIRA = """\
@inproceedings{carlini2022membership,
  title     = {Membership Inference Attacks From First Principles},
  author    = {Carlini, Nicholas and Chien, Steve and Nasr, Milad and Song, Shuang and Terzis, Andreas and Tramèr, Florian},
  booktitle = {2022 IEEE Symposium on Security and Privacy},
  pages     = {1897--1914},
  year      = {2022},
  doi       = {10.1109/SP46214.2022.9833649}
}"""  # noqa: E501

_RMIA = """\
@inproceedings{zarifzadeh2024low,
  title     = {Low-Cost High-Power Membership Inference Attacks},
  author    = {Zarifzadeh, Sajjad and Liu, Philippe and Shokri, Reza},
  booktitle = {Proceedings of the 41st International Conference on Machine Learning},
  year      = {2024},
  eprint    = {2312.03262},
  archiveprefix = {arXiv}
}"""

_CALIBRATED = """\
@inproceedings{watson2022importance,
  title     = {On the Importance of Difficulty Calibration in Membership Inference Attacks},
  author    = {Watson, Lauren and Guo, Chuan and Cormode, Graham and Sablayrolles, Alexandre},
  booktitle = {International Conference on Learning Representations},
  year      = {2022},
  eprint    = {2111.08440},
  archiveprefix = {arXiv}
}"""

ATTACK_CITATIONS: dict[str, tuple[str, ...]] = {
    "step": (_TIGHT_AUDITING,),
    "one-run": (_TIGHT_AUDITING, _ONE_RUN, _ONE_RUN_FDP),
    "planted-images": (_ONE_RUN, _ONE_RUN_FDP),
    "loss": (_LOSS,),
    "lira": (_LIRA,),
    "rmia": (_RMIA,),
    "calibrated-loss": (_CALIBRATED,),
    **RECONSTRUCTION_CITATIONS,
    **GRADIENT_CITATIONS,
}
