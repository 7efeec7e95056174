"""The trunk as an ONNX graph, layer by layer: colours in [0, 1] in, features out, any number of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from dclib.models.sobel import IMAGENET_MEAN, IMAGENET_STD, SOBEL_KERNELS
from dclib.models.vgg import Trunk

OPSET, FORMAT = 17, 8  # of 2022: runtimes read older ones, and nothing newer is needed


class _Graph:
    """Nodes one behind the other, and the arrays that they use."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []
        self.last = "images"

    def array(self, name: str, values: Any) -> str:
        self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, **settings: Any) -> None:
        """A node that takes the output of the last one, and these arrays."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *inputs], [name], name=name, **settings))
        self.last = name


def write_onnx(trunk: Trunk, weights: Mapping[str, Tensor], path: Path) -> None:
    """Write the network; ``weights`` are those of its plain form, or its own, behind Sobel as a convolution."""
    config, graph = trunk.config, _Graph()
    values = {name: tensor.detach().cpu().numpy() for name, tensor in weights.items()}
    for kind, name, numbers in (("Sub", "mean", IMAGENET_MEAN), ("Div", "std", IMAGENET_STD)):
        graph.add(kind, graph.array(name, np.array(numbers, dtype=np.float32).reshape(1, 3, 1, 1)))
    padding = trunk.stem.padding + 1
    if values["features.0.weight"].shape[1] == 2:
        kernel = np.repeat(np.array(SOBEL_KERNELS, dtype=np.float32)[:, None], 3, axis=1) / 3
        graph.add("Conv", graph.array("sobel", kernel), pads=[trunk.stem.padding] * 4)
        padding = 1
    for number, layer in enumerate(trunk.features):
        own = [f"features.{number}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        if isinstance(layer, nn.Conv2d):
            graph.add("Conv", *(graph.array(name, values[name]) for name in own[:2]), pads=[padding] * 4)
            padding = 1
        elif isinstance(layer, nn.BatchNorm2d):
            graph.add("BatchNormalization", *(graph.array(name, values[name]) for name in own), epsilon=layer.eps)
        elif isinstance(layer, nn.ReLU):
            graph.add("Relu")
        else:
            graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Flatten", axis=1)
    for number in (0, 3):
        own = [f"classifier.{number}.{part}" for part in ("weight", "bias")]
        graph.add("Gemm", *(graph.array(name, values[name]) for name in own), transB=1)
        if number == 0:
            graph.add("Relu")
    graph.nodes[-1].output[0] = "features"
    side = config.image_size
    made = helper.make_graph(
        graph.nodes,
        "trunk",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, side, side])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", config.feature_dim])],
        graph.arrays,
    )
    model = helper.make_model(
        made, producer_name="dclib", ir_version=FORMAT, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def run_onnx(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Features (b, d) of images (b, 3, h, w) in [0, 1], by onnxruntime; None where that is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (features,) = session.run(["features"], {"images": images})
    return np.asarray(features, dtype=np.float32)
