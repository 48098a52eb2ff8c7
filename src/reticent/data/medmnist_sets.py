"""What is known of the official MedMNIST sets (Yang et al., 2023): class names, licences and checksums."""

from dataclasses import dataclass

CITATION = "Yang et al., MedMNIST v2, Scientific Data 10:41 (2023), doi:10.1038/s41597-022-01721-8"


@dataclass(frozen=True)
class MedMnistSet:
    """One set: its class (or label) names in order, and the MD5 of each file by its suffix ("" for 28 pixels)."""

    classes: tuple[str, ...]
    md5: dict[str, str]
    licence: str = "CC BY 4.0"


_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip
_ORGANS_3D = (
    "liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder", "heart", "lung-right", "lung-left",
    "spleen", "pancreas",
)  # fmt: skip

SETS = {
    "pathmnist": MedMnistSet(
        ("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
         "cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
        {"": "a8b06965200029087d5bd730944a56c1"},
    ),
    "chestmnist": MedMnistSet(
        ("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
         "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
        {"": "02c8a6516a18b556561a56cbdd36c4a8"},
    ),
    "dermamnist": MedMnistSet(
        ("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
         "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
        {"": "0744692d530f8e62ec473284d019b0c7"},
        "CC BY-NC 4.0 (non-commercial)",
    ),
    "octmnist": MedMnistSet(
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        {"": "c68d92d5b585d8d81f7112f81e2d0842"},
    ),
    "pneumoniamnist": MedMnistSet(("normal", "pneumonia"), {"": "28209eda62fecd6e6a2d98b1501bb15f"}),
    "retinamnist": MedMnistSet(("0", "1", "2", "3", "4"), {"": "bd4c0672f1bba3e3a89f0e4e876791e4"}),
    "breastmnist": MedMnistSet(("malignant", "normal, benign"), {"": "750601b1f35ba3300ea97c75c52ff8f6"}),
    "bloodmnist": MedMnistSet(
        ("basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil",
         "platelet"),
        {"": "7053d0359d879ad8a5505303e11de1dc"},
    ),
    "tissuemnist": MedMnistSet(
        ("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
         "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments",
         "Thick Ascending Limb"),
        {"": "ebe78ee8b05294063de985d821c1c34b"},
    ),
    "organamnist": MedMnistSet(_ORGANS, {"": "68e3f8846a6bd62f0c9bf841c0d9eacc"}),
    "organcmnist": MedMnistSet(_ORGANS, {"": "b9ceb9546e10131b32923c5bbeaea2b1"}),
    "organsmnist": MedMnistSet(_ORGANS, {"": "9ab87b696fb54e2a387ebe992d6ed5f1"}),
    "organmnist3d": MedMnistSet(
        _ORGANS_3D, {"": "a0c5a1ff56af4f155c46d46fbb45a2fe", "_64": "58a2205adf14a9d0a189cb06dc78bf10"}
    ),
    "nodulemnist3d": MedMnistSet(
        ("benign", "malignant"), {"": "8755a7e9e05a4d9ce80a24c3e7a256f3", "_64": "c47c5b7d457bf6332200d2ea6d64ecd8"}
    ),
    "adrenalmnist3d": MedMnistSet(
        ("normal", "hyperplasia"), {"": "bbd3c5a5576322bc4cdfea780653b1ce", "_64": "17721accfe9fb005146a47d33bc54b2f"}
    ),
    "fracturemnist3d": MedMnistSet(
        ("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
        {"": "6aa7b0143a6b42da40027a9dda61302f", "_64": "f01d7e6316aedf4210da0da5b7437b42"},
    ),
    "vesselmnist3d": MedMnistSet(
        ("vessel", "aneurysm"), {"": "b41fd4f7e7e2feedddb201585ecafa1b", "_64": "6bb274a8846e1097066dcd64e2c4520f"}
    ),
    "synapsemnist3d": MedMnistSet(
        ("inhibitory synapse", "excitatory synapse"),
        {"": "1235b78a3cd6280881dd7850a78eadb6", "_64": "43bd14ebf3af9d3dd072446fedc14d5e"},
    ),
}  # fmt: skip


def known_set(stem: str) -> tuple[MedMnistSet | None, str | None]:
    """The set that a file `stem` ("organmnist3d_64") names, and the MD5 of that file; None for what is not known."""
    name, underscore, size = stem.partition("_")
    found = SETS.get(name)
    return found, found.md5.get(underscore + size) if found else None
