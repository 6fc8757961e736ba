"""FID's Inception-v3 in plain torch: pictures to the 2048 features of FID and KID.

It differs from the one for classifying: average pools leave their padding out, the last
block pools by maximum, and there are 1008 classes. The published weights are those of
TensorFlow, 2015, as pytorch-fid and torch-fidelity converted them.
Source: inception, §6; torch-fidelity.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from commoncanvas.models.weights import verified_file

NUM_FEATURES = 2048
SIZE = 299  # edge at which it looks at pictures [pixels]
FILE = "pt_inception-2015-12-05-6726825d.pth"
# Of the published file.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
RESIZE = f"TensorFlow 1 bilinear to {SIZE} px, no antialiasing, from the corner pixel"
RANGE = "(x - 128) / 128"

AVERAGE = torch.nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
MAXIMUM = torch.nn.MaxPool2d(3, stride=1, padding=1)
SHRINK = torch.nn.MaxPool2d(3, stride=2)
# Channels, kernel, stride and padding.
STEM: dict[str, tuple[int, tuple[int, int], int, int] | torch.nn.Module] = {
    "Conv2d_1a_3x3": (32, (3, 3), 2, 0),
    "Conv2d_2a_3x3": (32, (3, 3), 1, 0),
    "Conv2d_2b_3x3": (64, (3, 3), 1, 1),
    "MaxPool_1": SHRINK,
    "Conv2d_3b_1x1": (80, (1, 1), 1, 0),
    "Conv2d_4a_3x3": (192, (3, 3), 1, 0),
    "MaxPool_2": SHRINK,
}
# A branch is a chain of (channels, height, width of the kernel); a list in it stands
# side by side, as the two that end these branches of the last blocks.
Kernel = tuple[int, int, int]
Pool = torch.nn.AvgPool2d | torch.nn.MaxPool2d
Branches = dict[str, Sequence[Kernel | list[Kernel]]]
FORK = [(384, 1, 3), (384, 3, 1)]


def _a(pool: int) -> Branches:
    return {
        "branch1x1": [(64, 1, 1)],
        "branch5x5": [(48, 1, 1), (64, 5, 5)],
        "branch3x3dbl": [(64, 1, 1), (96, 3, 3), (96, 3, 3)],
        "branch_pool": [(pool, 1, 1)],
    }


def _c(c: int) -> Branches:
    return {
        "branch1x1": [(192, 1, 1)],
        "branch7x7": [(c, 1, 1), (c, 1, 7), (192, 7, 1)],
        "branch7x7dbl": [(c, 1, 1), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7)],
        "branch_pool": [(192, 1, 1)],
    }


B: Branches = {
    "branch3x3": [(384, 3, 3)],
    "branch3x3dbl": [(64, 1, 1), (96, 3, 3), (96, 3, 3)],
    "branch_pool": [],
}
D: Branches = {
    "branch3x3": [(192, 1, 1), (320, 3, 3)],
    "branch7x7x3": [(192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)],
    "branch_pool": [],
}
E: Branches = {
    "branch1x1": [(320, 1, 1)],
    "branch3x3": [(384, 1, 1), FORK],
    "branch3x3dbl": [(448, 1, 1), (384, 3, 3), FORK],
    "branch_pool": [(192, 1, 1)],
}
MIXED: dict[str, tuple[Branches, Pool]] = {
    "Mixed_5b": (_a(32), AVERAGE),
    "Mixed_5c": (_a(64), AVERAGE),
    "Mixed_5d": (_a(64), AVERAGE),
    "Mixed_6a": (B, SHRINK),
    "Mixed_6b": (_c(128), AVERAGE),
    "Mixed_6c": (_c(160), AVERAGE),
    "Mixed_6d": (_c(160), AVERAGE),
    "Mixed_6e": (_c(192), AVERAGE),
    "Mixed_7a": (D, SHRINK),
    "Mixed_7b": (E, AVERAGE),
    "Mixed_7c": (E, MAXIMUM),
}


class Conv(torch.nn.Module):
    """Convolution, batch norm and ReLU, named as in the published file."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(
            channels, width, kernel, stride, padding, bias=False
        )
        self.bn = torch.nn.BatchNorm2d(width, eps=0.001)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, h, w) to (batch, width, h', w'), 0 or more."""
        return self.bn(self.conv(images)).relu_()


class Block(torch.nn.Module):
    """Branches side by side, their channels joined; `branch_pool` pools first.

    The convolutions of a branch are numbered from 1 and, side by side, lettered. The
    stride of `pool` is that of each branch's last convolution too.
    """

    def __init__(self, channels: int, branches: Branches, pool: Pool) -> None:
        super().__init__()
        self.pool, self.width = pool, 0
        self.chains: dict[str, list[list[str]]] = {}
        for branch, steps in branches.items():
            width, self.chains[branch] = channels, []
            for number, step in enumerate(steps, 1):
                kernels = step if isinstance(step, list) else [step]
                stride = pool.stride if number == len(steps) else 1
                name = branch + (f"_{number}" if len(steps) > 1 else "")
                letters = "ab" if len(kernels) > 1 else [""]
                names = [name + letter for letter in letters]
                for name, (out, h, w) in zip(names, kernels, strict=True):
                    # "Same" padding, but none where the block shrinks.
                    padding = (h // 2, w // 2) if stride == 1 else 0
                    conv = Conv(width, out, (h, w), stride, padding)
                    self.add_module(name, conv)
                self.chains[branch].append(names)
                width = sum(out for out, _, _ in kernels)
            self.width += width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, h, w) to (batch, self.width, h', w')."""
        outputs = []
        for branch, chain in self.chains.items():
            output = self.pool(images) if branch == "branch_pool" else images
            for names in chain:
                output = torch.cat([getattr(self, name)(output) for name in names], 1)
            outputs.append(output)
        return torch.cat(outputs, 1)


def make_inception() -> torch.nn.Sequential:
    """Return the network with random weights: (batch, 3, 299, 299) to 1008 logits.

    It is a Sequential whose last layer makes logits of the features.
    """
    layers: OrderedDict[str, torch.nn.Module] = OrderedDict()
    channels = 3
    for name, layer in STEM.items():
        if isinstance(layer, tuple):
            layers[name], channels = Conv(channels, *layer), layer[0]
        else:
            layers[name] = layer
    for name, (branches, pool) in MIXED.items():
        block = Block(channels, branches, pool)
        layers[name], channels = block, block.width
    layers["AvgPool"] = torch.nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = torch.nn.Flatten()
    layers["fc"] = torch.nn.Linear(channels, 1008)
    return torch.nn.Sequential(layers)


def load_inception(weights: Path | str, sha256: str = SHA256) -> torch.nn.Module:
    """Load the frozen network without its logits, on the CPU.

    Args:
        weights: the .pth file, a path absolute or from the project's root.
        sha256: what it must hash to.

    Returns:
        A module of (batch, 3, 299, 299) images to (batch, 2048) features.

    Raises:
        SourceError: the file is missing, or not the pinned one.
    """
    path = verified_file("Inception-v3", weights, sha256, f"pytorch-fid's {FILE}")
    network = make_inception()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    # Convolutions on the CPU are twice as fast with the channels last.
    features = network[:-1].eval().requires_grad_(False)
    # The stub of `to` lacks this argument.
    return features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def resize_as_tensorflow(images: torch.Tensor, size: int = SIZE) -> torch.Tensor:
    """Resize (batch, channels, h, w) float images to `size`, as TensorFlow 1 does.

    Pixel i is read at i h / size, not at the middles of pixels, and nothing is averaged
    where the picture shrinks. Source: torch-fidelity, interpolate_compat_tensorflow.
    """
    for axis in (3, 2):  # columns, then rows
        edge = images.shape[axis]
        places = torch.arange(size, dtype=images.dtype) * (edge / size)
        low = places.long()
        high = (low + 1).clamp(max=edge - 1)
        # The share of the higher pixel: (size,) of columns, (size, 1) of rows.
        share = (places - low).view(-1, *[1] * (3 - axis))
        first, second = (images.index_select(axis, at) for at in (low, high))
        images = first + (second - first) * share
    return images


def inception_images(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Map (h, w, 3) uint8 pictures of any sizes to (n, 3, 299, 299) in [−1, 1)."""
    images = [torch.from_numpy(np.array(p)).permute(2, 0, 1)[None] for p in pictures]
    resized = torch.cat([resize_as_tensorflow(image.float()) for image in images])
    return (resized - 128) / 128
