"""The built-in spaces: each a function that returns a `Space`; add one to `SPACES` to use it by name."""

from __future__ import annotations

from collections.abc import Callable

from supernet.space.choices import Space
from supernet.spaces.bender import bender
from supernet.spaces.convnet import convnet
from supernet.spaces.darts import darts
from supernet.spaces.macro import macro
from supernet.spaces.mobilenet import mobilenet
from supernet.spaces.nasbench201 import nasbench201
from supernet.spaces.resnet import resnet

SPACES: dict[str, Callable[..., Space]] = {
    "bender": bender,
    "nasbench201": nasbench201,
    "darts": darts,
    "macro": macro,
    "mobilenet": mobilenet,
    "resnet": resnet,
    "convnet": convnet,
}

__all__ = ["SPACES", "bender", "convnet", "darts", "macro", "mobilenet", "nasbench201", "resnet"]
