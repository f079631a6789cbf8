"""One Lite0 with a classifier in onnxruntime and OpenVINO.

The graph is what `ours.forward:network` computes, with the same weights: norms
folded into convolutions, relu6 as Clip, channels first, a fixed batch of
uint8 pixels. The runtimes' own optimisation fuses what it likes.

Letters: B images, H = W image size.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.models.backbones import get_backbone
from mtlmoe_jax.models.convolution import resolve_padding
from shapes import BACKBONE, CLASSES, named_weights, training_batch

Run = Callable[[], Any]
_SIZES = get_backbone(BACKBONE).sizes


def onnxruntime(size: int, batch: int) -> tuple[Run, dict]:
  """By onnxruntime's CPU provider; see `ours.forward:network`."""
  import onnxruntime as runtime

  options = runtime.SessionOptions()
  options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
  session = runtime.InferenceSession(
    _graph(size, batch).SerializeToString(),
    options,
    providers=["CPUExecutionProvider"],
  )
  images = training_batch(batch, size)["image"]
  return _told(lambda: session.run(None, {"image": images})[0], batch)


def openvino(size: int, batch: int) -> tuple[Run, dict]:
  """By OpenVINO's CPU plugin in float32; see `ours.forward:network`."""
  import openvino as runtime

  graph = _graph(size, batch).SerializeToString()
  core = runtime.Core()
  settings = {
    "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"]),
    "INFERENCE_PRECISION_HINT": "f32",
    "PERFORMANCE_HINT": "LATENCY",
  }
  model = core.compile_model(core.read_model(graph), "CPU", settings)
  request = model.create_infer_request()
  images = training_batch(batch, size)["image"]
  return _told(lambda: request.infer([images])[0], batch)


def _told(run: Run, batch: int) -> tuple[Run, dict]:
  return run, {"images": batch, "sum": float(np.sum(run()))}


class _Builder:
  """Nodes and weights, one behind the other."""

  def __init__(self) -> None:
    self.nodes: list[Any] = []
    self.weights: list[Any] = []

  def add(self, kind: str, *inputs: Any, **attributes: Any) -> str:
    """A node; arrays among its inputs are weights. Returns its output."""
    names = []
    for value in inputs:
      if not isinstance(value, str):
        self.weights.append(
          numpy_helper.from_array(value, f"w{len(self.weights)}")
        )
        value = self.weights[-1].name
      names.append(value)
    out = f"x{len(self.nodes)}"
    self.nodes.append(helper.make_node(kind, names, [out], **attributes))
    return out

  def conv(
    self, name: str, x: str, side: int, shape: tuple[int, ...], strides: int = 1
  ) -> str:
    """A convolution of kernel shape [k, k, I, O] with its new norm folded."""
    path = f"params/experts/backbone/{name}_conv/kernel"
    kernel = named_weights(path, (1, *shape))[0]
    kernel = kernel / np.sqrt(np.float32(1 + _SIZES.epsilon))
    k = shape[0]
    pads = resolve_padding(
      (side, side), (k, k), (strides, strides), _SIZES.padding
    )
    return self.add(
      "Conv",
      x,
      np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)),
      np.zeros(shape[3], np.float32),
      pads=[pads[0][0], pads[1][0], pads[0][1], pads[1][1]],
      strides=[strides] * 2,
      group=shape[3] if name.endswith("depthwise") else 1,
    )

  def relu6(self, x: str) -> str:
    return self.add("Clip", x, np.float32(0), np.float32(6))

  def dense(self, path: str, x: str, shape: tuple[int, int]) -> str:
    """A fully connected layer without its zero bias; `path` of its kernel."""
    of_expert = path.startswith("params/experts/")
    kernel = named_weights(path, (1,) * of_expert + shape).reshape(shape)
    return self.add("MatMul", x, kernel)

  def swish(self, x: str) -> str:
    return self.add("Mul", x, self.add("Sigmoid", x))


def _graph(size: int, batch: int) -> onnx.ModelProto:
  """u8 image [B, H, H, 3] -> f32 logits [B, CLASSES]."""
  backbone, build, sizes = get_backbone(BACKBONE), _Builder(), _SIZES
  settings = config_lib.default_config().model
  x = build.add("Cast", "image", to=TensorProto.FLOAT)
  x = build.add("Sub", x, np.array(backbone.mean, np.float32))
  x = build.add("Div", x, np.array(backbone.std, np.float32))
  x = build.add("Transpose", x, perm=[0, 3, 1, 2])
  x = build.relu6(build.conv("stem", x, size, (3, 3, 3, sizes.stem), 2))
  side = -(-size // 2)
  for block in (block for stage in sizes.stages for block in stage):
    x, side = _block(build, block, x, side)
  last = sizes.stages[-1][-1].features
  x = build.relu6(build.conv("head", x, side, (1, 1, last, sizes.head)))
  x = build.add("Flatten", build.add("GlobalAveragePool", x))
  widths = (sizes.head, settings.condense_dim, settings.tower_dim, CLASSES)
  for layer, path in enumerate(
    ("experts/condense", "tower_class/hidden", "tower_class/out")
  ):
    shape = widths[layer : layer + 2]
    x = build.dense(f"params/{path}/kernel", x, shape)
    x = build.swish(x) if layer < 2 else x
  info = helper.make_tensor_value_info
  graph = helper.make_graph(
    build.nodes,
    "lite0",
    [info("image", TensorProto.UINT8, [batch, size, size, 3])],
    [info(x, TensorProto.FLOAT, [batch, CLASSES])],
    build.weights,
  )
  opset = [helper.make_opsetid("", 17)]
  return helper.make_model(graph, opset_imports=opset, ir_version=9)


def _block(build: _Builder, block: Any, x: str, side: int) -> tuple[str, int]:
  """An inverted residual block and the size of its map."""
  hidden, k = block.channels * block.expand, block.kernel
  y = x
  if block.expand > 1:
    shape = (1, 1, block.channels, hidden)
    y = build.relu6(build.conv(f"{block.name}/expand", y, side, shape))
  shape = (k, k, 1, hidden)
  y = build.conv(f"{block.name}/depthwise", y, side, shape, block.strides)
  y, side = build.relu6(y), -(-side // block.strides)
  shape = (1, 1, hidden, block.features)
  y = build.conv(f"{block.name}/project", y, side, shape)
  same = block.strides == 1 and block.channels == block.features
  return (build.add("Add", x, y) if same else y), side
