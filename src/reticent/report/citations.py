"""BibTeX of the tool and of the methods that a run used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reticent import __version__
from reticent.records import RunFolder

_TOOL = f"""\
@software{{reticent,
  title   = {{Reticent: Private and trustworthy deep learning for medical images}},
  author  = {{{{The Reticent developers}}}},
  version = {{{__version__}}},
  license = {{Apache-2.0}}
}}"""

_DPSGD = """\
@inproceedings{abadi2016deep,
  title     = {Deep Learning with Differential Privacy},
  author    = {Abadi, Martín and Chu, Andy and Goodfellow, Ian and McMahan, H. Brendan and Mironov, Ilya and Talwar, Kunal and Zhang, Li},
  booktitle = {Proceedings of the 2016 ACM SIGSAC Conference on Computer and Communications Security},
  pages     = {308--318},
  year      = {2016},
  doi       = {10.1145/2976749.2978318}
}"""  # noqa: E501

_GAUSSIAN_DP = """\
@article{dong2022gaussian,
  title   = {Gaussian Differential Privacy},
  author  = {Dong, Jinshuo and Roth, Aaron and Su, Weijie J.},
  journal = {Journal of the Royal Statistical Society: Series B},
  volume  = {84},
  number  = {1},
  pages   = {3--37},
  year    = {2022},
  doi     = {10.1111/rssb.12454}
}"""

_CONNECT_THE_DOTS = """\
@article{doroshenko2022connect,
  title   = {Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions},
  author  = {Doroshenko, Vadym and Ghazi, Badih and Kamath, Pritish and Kumar, Ravi and Manurangsi, Pasin},
  journal = {Proceedings on Privacy Enhancing Technologies},
  volume  = {2022},
  number  = {4},
  year    = {2022},
  eprint  = {2207.04380},
  archiveprefix = {arXiv}
}"""

_SUBSAMPLED_ACCOUNTING = """\
@inproceedings{koskela2020computing,
  title     = {Computing Tight Differential Privacy Guarantees Using {FFT}},
  author    = {Koskela, Antti and Jälkö, Joonas and Honkela, Antti},
  booktitle = {Proceedings of the 23rd International Conference on Artificial Intelligence and Statistics},
  series    = {Proceedings of Machine Learning Research},
  volume    = {108},
  pages     = {2560--2569},
  year      = {2020}
}"""

_BANDED = """\
@inproceedings{choquette2023amplified,
  title     = {(Amplified) Banded Matrix Factorization: A unified approach to private training},
  author    = {Choquette-Choo, Christopher A. and Ganesh, Arun and McKenna, Ryan and McMahan, H. Brendan and Rush, Keith and Thakurta, Abhradeep Guha and Xu, Zheng},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {36},
  year      = {2023},
  eprint    = {2306.08153},
  archiveprefix = {arXiv}
}"""  # noqa: E501

_BANDED_TOEPLITZ = """\
@misc{mckenna2024scaling,
  title  = {Scaling up the Banded Matrix Factorization Mechanism for Differentially Private {ML}},
  author = {McKenna, Ryan},
  year   = {2024},
  eprint = {2405.15913},
  archiveprefix = {arXiv}
}"""

_GROUP_NORM = """\
@inproceedings{wu2018group,
  title     = {Group Normalization},
  author    = {Wu, Yuxin and He, Kaiming},
  booktitle = {Computer Vision -- ECCV 2018},
  pages     = {3--19},
  year      = {2018},
  doi       = {10.1007/978-3-030-01261-8_1}
}"""

_SCALE_NORM = """\
@misc{klause2022differentially,
  title  = {Differentially private training of residual networks with scale normalisation},
  author = {Klause, Helena and Ziller, Alexander and Rueckert, Daniel and Hammernik, Kerstin and Kaissis, Georgios},
  year   = {2022},
  eprint = {2203.00324},
  archiveprefix = {arXiv}
}"""

_SMOOTH_NET = """\
@misc{remerscheid2022smoothnets,
  title  = {{SmoothNets}: Optimizing {CNN} architecture design for differentially private deep learning},
  author = {Remerscheid, Nicolas W. and Ziller, Alexander and Rueckert, Daniel and Kaissis, Georgios},
  year   = {2022},
  eprint = {2205.04095},
  archiveprefix = {arXiv}
}"""

_BIAS_AWARE = """\
@misc{knolle2023bias,
  title  = {Bias-Aware Minimisation: Understanding and Mitigating Estimator Bias in Private {SGD}},
  author = {Knolle, Moritz and Dorfman, Robert and Ziller, Alexander and Rueckert, Daniel and Kaissis, Georgios},
  year   = {2023},
  eprint = {2308.12018},
  archiveprefix = {arXiv}
}"""

_ACTIVE_LEARNING = """\
@inproceedings{schwethelm2025differentially,
  title     = {Differentially Private Active Learning: Balancing Effective Data Selection and Privacy},
  author    = {Schwethelm, Kristian and Kaiser, Johannes and Kuntzer, Jonas and Yigitsoy, Mehmet and Rueckert, Daniel and Kaissis, Georgios},
  booktitle = {2025 IEEE Conference on Secure and Trustworthy Machine Learning (SaTML)},
  pages     = {858--878},
  year      = {2025},
  doi       = {10.1109/SaTML64287.2025.00053}
}"""  # noqa: E501

_MEDMNIST = """\
@article{yang2023medmnist,
  title   = {{MedMNIST} v2 -- A large-scale lightweight benchmark for {2D} and {3D} biomedical image classification},
  author  = {Yang, Jiancheng and Shi, Rui and Wei, Donglai and Liu, Zequan and Zhao, Lin and Ke, Bilian and Pfister, Hanspeter and Ni, Bingbing},
  journal = {Scientific Data},
  volume  = {10},
  pages   = {41},
  year    = {2023},
  doi     = {10.1038/s41597-022-01721-8}
}"""  # noqa: E501

_MONAI = """\
@misc{cardoso2022monai,
  title  = {{MONAI}: An open-source framework for deep learning in healthcare},
  author = {Cardoso, M. Jorge and others},
  year   = {2022},
  eprint = {2211.02701},
  archiveprefix = {arXiv}
}"""


def cite(run: RunFolder) -> str:
    """BibTeX entries of Reticent and of the methods, data set and libraries that the run used."""
    return "\n\n".join(_entries(run)) + "\n"


def _entries(run: RunFolder) -> Iterator[str]:
    study = run.study()
    yield _TOOL
    if not study.privacy.non_private:
        yield from (_DPSGD, _GAUSSIAN_DP, _CONNECT_THE_DOTS)
        if run.statement().sampling in ("poisson", "cyclic-poisson"):
            yield _SUBSAMPLED_ACCOUNTING
        if run.statement().sampling == "cyclic-poisson":
            yield from (_BANDED, _BANDED_TOEPLITZ)
        if run.statement().sampling_rate is None:  # every group of a campaign has its own
            yield _ACTIVE_LEARNING
    if study.training.bias_aware:
        yield _BIAS_AWARE
    name = study.model.name
    if name in ("default", "smoothnet", "resnet9"):
        yield _GROUP_NORM
    if name in ("default", "resnet9") or study.model.scale_norm:
        yield _SCALE_NORM
    if name in ("default", "smoothnet"):
        yield _SMOOTH_NET
    if _is_medmnist(study.cohort.uri):
        yield _MEDMNIST
    yield _MONAI


def _is_medmnist(uri: str) -> bool:
    return uri.startswith("medmnist:") or re.fullmatch(r"\w+mnist(3d)?(_\d+)?\.npz", Path(uri).name) is not None
