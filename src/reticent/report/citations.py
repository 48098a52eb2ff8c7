"""BibTeX of the tool and of the methods that a run used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reticent import __version__
from reticent.records import RunFolder, Study, read_findings
from reticent.report.attack_citations import ATTACK_CITATIONS
from reticent.report.clinical_citations import clinical_citations
from reticent.report.detection_citations import DETECTION_CITATIONS
from reticent.report.surface_citations import surface_citations

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

_COMPLEX = """\
@inproceedings{riess2025complex,
  title     = {Complex-Valued Federated Learning with Differential Privacy and {MRI} Applications},
  author    = {Riess, Anneliese and Ziller, Alexander and Kolek, Stefan and Rueckert, Daniel and Schnabel, Julia and Kaissis, Georgios},
  booktitle = {MICCAI 2024 Workshops},
  series    = {Lecture Notes in Computer Science},
  volume    = {15274},
  pages     = {191--203},
  year      = {2025},
  eprint    = {2110.03478},
  archiveprefix = {arXiv}
}"""  # noqa: E501

_BIAS_AWARE = """\
@misc{knolle2023bias,
  title  = {Bias-Aware Minimisation: Understanding and Mitigating Estimator Bias in Private {SGD}},
  author = {Knolle, Moritz and Dorfman, Robert and Ziller, Alexander and Rueckert, Daniel and Kaissis, Georgios},
  year   = {2023},
  eprint = {2308.12018},
  archiveprefix = {arXiv}
}"""

_LANGEVIN = """\
@misc{knolle2021langevin,
  title  = {Differentially private training of neural networks with {Langevin} dynamics for calibrated predictive uncertainty},
  author = {Knolle, Moritz and Ziller, Alexander and Usynin, Dmitrii and Braren, Rickmer and Makowski, Marcus R. and Rueckert, Daniel and Kaissis, Georgios},
  year   = {2021},
  eprint = {2107.04296},
  archiveprefix = {arXiv}
}"""  # noqa: E501

_AT_SCALE = """\
@misc{de2022unlocking,
  title  = {Unlocking High-Accuracy Differentially Private Image Classification through Scale},
  author = {De, Soham and Berrada, Leonard and Hayes, Jamie and Smith, Samuel L. and Balle, Borja},
  year   = {2022},
  eprint = {2204.13650},
  archiveprefix = {arXiv}
}"""

_STANDARDISED = """\
@misc{qiao2019micro,
  title  = {Micro-Batch Training with Batch-Channel Normalization and Weight Standardization},
  author = {Qiao, Siyuan and Wang, Huiyu and Liu, Chenxi and Shen, Wei and Yuille, Alan},
  year   = {2019},
  eprint = {1903.10520},
  archiveprefix = {arXiv}
}"""

_AUTOMATIC = """\
@inproceedings{bu2023automatic,
  title     = {Automatic Clipping: Differentially Private Deep Learning Made Easier and Stronger},
  author    = {Bu, Zhiqi and Wang, Yu-Xiang and Zha, Sheng and Karypis, George},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {36},
  year      = {2023}
}"""

_LORA = """\
@inproceedings{hu2022lora,
  title     = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  author    = {Hu, Edward J. and others},
  booktitle = {International Conference on Learning Representations},
  year      = {2022}
}"""

_BITFIT = """\
@inproceedings{benzaken2022bitfit,
  title     = {{BitFit}: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models},
  author    = {Ben Zaken, Elad and Ravfogel, Shauli and Goldberg, Yoav},
  booktitle = {Annual Meeting of the Association for Computational Linguistics},
  year      = {2022}
}"""

_NEURAL_DP = """\
@misc{knolle2021neuraldp,
  title  = {{NeuralDP}: Differentially private neural networks by design},
  author = {Knolle, Moritz and Usynin, Dmitrii and Ziller, Alexander and Makowski, Marcus R. and Rueckert, Daniel and Kaissis, Georgios},
  year   = {2021},
  eprint = {2107.14582},
  archiveprefix = {arXiv}
}"""  # noqa: E501

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


_SLICES = """\
@misc{ziller2023interpretable,
  title  = {Interpretable {2D} vision models for {3D} medical images},
  author = {Ziller, Alexander and Erdur, Ayhan Can and Trigui, Marwa and G{\\"u}venir, Alp and Mueller, Tamara T. and M{\\"u}ller, Philip and Jungmann, Friederike and Brandt, Johannes and Peeken, Jan and Braren, Rickmer and Rueckert, Daniel and Kaissis, Georgios},
  year   = {2023},
  eprint = {2307.06614},
  archiveprefix = {arXiv}
}"""  # noqa: E501


def cite(run: RunFolder) -> str:
    """BibTeX entries of Reticent and of the methods, attacks, data set and libraries that the run used."""
    return "\n\n".join(_entries(run)) + "\n"


def _entries(run: RunFolder) -> Iterator[str]:
    study = run.study()
    yield _TOOL
    if not study.privacy.non_private:
        yield from (_NEURAL_DP if study.privacy.private_activations else _DPSGD, _GAUSSIAN_DP, _CONNECT_THE_DOTS)
        if run.statement().sampling in ("poisson", "cyclic-poisson"):
            yield _SUBSAMPLED_ACCOUNTING
        if run.statement().sampling == "cyclic-poisson":
            yield from (_BANDED, _BANDED_TOEPLITZ)
        if run.statement().sampling_rate is None and not study.privacy.private_activations:  # a campaign's groups
            yield _ACTIVE_LEARNING
    yield from _of_training(study)
    name, dimensions = study.model.name, len(run.state().image_size)
    detects = run.state().task == "detection"
    own_default = name == "default" and (detects or dimensions == 1)
    draws = run.state().task in ("segmentation", "restoration") or study.training.mask_weight is not None
    if name in ("default", "smoothnet", "resnet9", "complex", "unet-encoder") and dimensions > 1:
        yield _GROUP_NORM
    if (name in ("default", "resnet9") and not own_default) or study.model.scale_norm:
        yield _SCALE_NORM
    if name == "smoothnet" or (name == "default" and not (own_default or draws)):
        yield _SMOOTH_NET
    if detects:
        yield from DETECTION_CITATIONS
    if name == "complex":
        yield _COMPLEX
    if name == "slices":
        yield _SLICES
    yield from surface_citations(study, run.state().task, dimensions)
    yield from clinical_citations(study)
    attacks = dict.fromkeys(finding.attack for finding in read_findings(run))
    yield from dict.fromkeys(entry for attack in attacks for entry in ATTACK_CITATIONS.get(attack, ()))
    if _is_medmnist(study.cohort.uri):
        yield _MEDMNIST
    yield _MONAI


def _of_training(study: Study) -> Iterator[str]:
    training, model = study.training, study.model
    used = {
        _BIAS_AWARE: training.bias_aware > 0,
        _LANGEVIN: training.optimiser == "langevin",
        _AT_SCALE: training.views > 1,
        _AUTOMATIC: training.clipping == "automatic",
        _STANDARDISED: model.standardise_weights,
        _LORA: model.fine_tune == "lora",
        _BITFIT: model.fine_tune == "biases",
    }
    yield from (entry for entry, is_used in used.items() if is_used)


def _is_medmnist(uri: str) -> bool:
    return uri.startswith("medmnist:") or re.fullmatch(r"\w+mnist(3d)?(_\d+)?\.npz", Path(uri).name) is not None
