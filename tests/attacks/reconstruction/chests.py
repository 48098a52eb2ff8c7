"""Made-up chest radiographs of 28 x 28: soft ellipses for body, lungs, heart, spine and, in half, a nodule.

Those behind the measured figures that the tests of reconstruction attacks compare with; and textures without anatomy.
"""

import numpy as np
import torch

SIDE = 28


def chests(count, seed):
    """Images (n, 1, 28, 28) in [0, 1], float32, and labels (n,): 1 where there is a nodule."""
    rng = np.random.default_rng(seed)

    def u(low, high):
        return rng.uniform(low, high, (count, 1, 1))

    dx, dy = u(-0.08, 0.08), u(-0.08, 0.08)
    image = u(0.55, 0.8) * ellipse(dx, dy, u(0.75, 0.95), u(0.8, 1), u(-0.1, 0.1))
    air = u(0.35, 0.6)
    for side in (-1, 1):
        tilt = side * u(-0.05, 0.2)
        image -= air * ellipse(
            dx + side * u(0.33, 0.42), dy + u(-0.08, 0.05), u(0.2, 0.3), u(0.45, 0.62), tilt
        )  # fmt: skip
    image += u(0.2, 0.4) * ellipse(dx + u(0.05, 0.18), dy + u(0.15, 0.3), u(0.15, 0.3), u(0.15, 0.28), u(-0.6, 0.6))
    image += u(0.1, 0.25) * ellipse(dx, dy, u(0.05, 0.09), u(0.9, 1), u(-0.05, 0.05))
    nodule, side = u(0, 1) < 0.5, np.where(u(0, 1) < 0.5, -1, 1)
    spot = ellipse(
        dx + side * u(0.25, 0.45), dy + u(-0.35, 0.35), u(0.06, 0.13), u(0.06, 0.13), u(0, 1)
    )  # fmt: skip
    image += nodule * u(0.2, 0.4) * spot + rng.normal(0, 0.01, image.shape)
    return as_images(image.clip(0, 1)), torch.from_numpy(nodule[:, 0, 0].astype(np.int64))


def textures(count, seed):
    """Images of six random blobs each, stretched to [0, 1]: what an attacker without radiographs may have."""
    rng = np.random.default_rng(seed)

    def u(low, high):
        return rng.uniform(low, high, (count, 1, 1))

    image = sum(
        u(-0.5, 0.7) * ellipse(u(-0.9, 0.9), u(-0.9, 0.9), u(0.08, 0.5), u(0.08, 0.5), u(0, np.pi)) for _ in range(6)
    )
    low, high = image.min((1, 2), keepdims=True), image.max((1, 2), keepdims=True)
    return as_images((image - low) / (high - low))


def ellipse(x, y, a, b, angle):
    axis = np.linspace(-1, 1, SIDE)
    right, down = axis[None, None, :] - x, axis[None, :, None] - y
    cos, sin = np.cos(angle), np.sin(angle)
    d = np.hypot((cos * right + sin * down) / a, (cos * down - sin * right) / b)
    return 1 / (1 + np.exp(np.minimum((d - 1) * 16.8 * np.minimum(a, b), 60)))


def as_images(values):
    return torch.from_numpy(values.astype(np.float32))[:, None]
