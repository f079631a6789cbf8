"""Whole training steps and one expert, as this package builds them.

Letters: B images, H = W image size.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import models
from mtlmoe_jax.devices import compilation, sharding
from mtlmoe_jax.models import layers
from mtlmoe_jax.models.backbones import EfficientNet
from mtlmoe_jax.models.layers import scaled_normal
from mtlmoe_jax.models.normalization import fold
from mtlmoe_jax.moe.engine import apply_experts
from mtlmoe_jax.ops import losses
from mtlmoe_jax.training import assembly
from shapes import CLASSES, training_batch

Run = Callable[[], None]


def train_step(
  overrides: dict[str, Any], convolution: str = "auto"
) -> tuple[Run, dict]:
  """The step of a config with new parameters, on one batch.

  Args:
    overrides: dotted keys of the config and their values. `model.norm` may be
      "frozen": the stored statistics are then 0 and 1.
    convolution: what all layers use: "auto", `conv2d`'s own choice; "native";
      or "dot", for depthwise ones "shift".
  """
  if convolution != "auto":
    _force(convolution)
  config = config_lib.default_config()
  for key, value in overrides.items():
    config_lib.set_path(config, key, value)
  config_lib.check_config(config)
  parts = assembly.assemble(config, CLASSES, sharding.make_mesh(), 1000, 100)
  step, state = jax.jit(parts.step, donate_argnums=0), parts.state
  batch = jax.device_put(
    training_batch(config.batch_size, config.data.image_size)
  )

  def run() -> dict[str, jax.Array]:
    nonlocal state
    state, metrics = step(state, batch)
    return jax.block_until_ready(metrics)

  metrics = run()
  info = {
    "images": config.batch_size,
    "model": f"{config.model.backbone}, {config.data.image_size} px",
    "flops": 3 * _images_through_experts(config) * _expert_flops(config),
    "dropped": float(metrics.get("class/dropped", 0.0)),
    "bad_steps": int(metrics["bad_steps"]),
  }
  return run, info


def _force(convolution: str) -> None:
  """In this process, for good: the package itself leaves it to `conv2d`."""

  def conv2d(x, kernel, *, groups=1, **options):
    depthwise = groups == x.shape[-1] == kernel.shape[-1] and groups > 1
    impl = "shift" if depthwise and convolution == "dot" else convolution
    return plain(x, kernel, groups=groups, impl=impl, **options)

  plain, layers.conv2d = layers.conv2d, conv2d


def _images_through_experts(config: ml_collections.ConfigDict) -> int:
  """Useful (image, expert) pairs: gates that differ may use more than K."""
  return config.batch_size * max(config_lib.k_of(config))


def _expert_flops(config: ml_collections.ConfigDict) -> int:
  """Of one image through one backbone, forward, as XLA counts them."""
  network = _network(config.model.backbone, config.model.norm, jnp.float32)
  size = config.data.image_size
  image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), image)
  # Only a backend that is built into jaxlib counts before it compiles.
  with jax.default_device(jax.devices("cpu")[0]):
    cost = jax.jit(network.apply).lower(variables, image).cost_analysis()
  return int(cost["flops"])


def _network(backbone: str, norm: str, dtype: Any) -> nn.Module:
  sizes = models.get_backbone(backbone).sizes
  return EfficientNet(sizes, norm=norm, dtype=dtype)


class _Classifier(nn.Module):
  network: nn.Module

  @nn.compact
  def __call__(self, images):
    x = (images.astype(jnp.float32) - 127.0) / 128.0
    x = self.network(x.astype(self.network.dtype))
    x = jnp.mean(x.astype(jnp.float32), (1, 2))
    return nn.Dense(CLASSES, kernel_init=scaled_normal(1.0), name="head")(x)


def one_expert(
  backbone: str,
  size: int,
  batch: int,
  train: bool,
  dtype: str = "float32",
  strategy: str = "auto",
  library: bool | None = None,
) -> tuple[Run, dict]:
  """A backbone with a linear classifier: a step of AdamW, or forward.

  BatchNorm with stored statistics and trained scales, as in fine-tuning.
  Forward is what a model of one expert does: `apply_experts`.

  Args:
    backbone: name.
    size: H.
    batch: B.
    train: the whole step; else logits.
    dtype: of the network's computation.
    strategy: of `apply_experts`, forward.
    library: whether a CPU's matrix products go to YNNPACK; None as the package
      does (`compilation`): in a training step.
  """
  with_library = train if library is None else library
  jit = jax.jit if with_library else compilation.jit_forward
  model = _Classifier(_network(backbone, "frozen", jnp.dtype(dtype)))
  data = jax.device_put(training_batch(batch, size))
  variables = jax.jit(model.init)(jax.random.key(0), data["image"][:1])
  params, stats = variables["params"], variables["batch_stats"]
  config = config_lib.default_config()
  config.data.image_size = size
  config.model.backbone = backbone
  flops = _expert_flops(config) * batch * (3 if train else 1)
  info = {"images": batch, "flops": flops}
  apply = lambda params: model.apply(  # noqa: E731
    {"params": params, "batch_stats": stats}, data["image"]
  )
  if not train:
    forward = jit(functools.partial(_forward, model, strategy))
    run = lambda: forward(variables, data["image"])  # noqa: E731
    return lambda: jax.block_until_ready(run()), info
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(1e-4, weight_decay=1e-2)
  )
  state = jax.jit(optimizer.init)(params)

  def loss(params):
    logits = apply(params)
    return losses.cross_entropy(logits, data["label"], data["has_label"], 0.1)

  @functools.partial(jit, donate_argnums=(0, 1))
  def step(params, state):
    value, grads = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, value

  def run() -> None:
    nonlocal params, state
    params, state, value = step(params, state)
    jax.block_until_ready(value)

  return run, info


def _forward(
  model: _Classifier, strategy: str, variables: Any, images: jax.Array
) -> jax.Array:
  """Logits of the only expert."""
  folded = model.clone(network=model.network.clone(norm="folded"))
  results = apply_experts(
    lambda variables, images, _: folded.apply(variables, images),
    fold(jax.tree.map(lambda v: v[None], variables)),
    images,
    [jnp.zeros((len(images), 1), jnp.int32)],
    strategy=strategy,
    train=False,
  )
  return results.combine(0, jnp.ones((len(images), 1)))
