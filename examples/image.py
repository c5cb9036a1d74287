"""A network for images with four kinds of choice: operation, depth, width and kernel.

supernet run --model examples/image.py:make_network --data digits --out runs/image
"""

from torch import nn

from supernet import Choose, Depth, value


def make_network(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    width = value("width", (8, 16, 24))

    def operation(name: str) -> nn.Module:
        kernel = Choose(f"{name}.kernel", {f"k{k}": nn.Conv2d(width, width, k, padding=k // 2) for k in (3, 5)})
        depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        return Choose(name, {"conv": kernel, "depthwise": depthwise, "pool": nn.AvgPool2d(3, 1, 1)})

    def block(name: str) -> nn.Module:
        return nn.Sequential(operation(name), nn.BatchNorm2d(width), nn.ReLU())

    return nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3, stride=2, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Depth("depth", [block(f"block{i}") for i in range(3)]),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )
