"""The whole model: shared stem, experts, gates, combine, towers.

Letters: B images, H W image size, N experts, K experts per image and task,
S slots per expert, T tasks, L classes, D condensed width, G grid side.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import traverse_util

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.backbones import Backbone, get_backbone
from mtlmoe_jax.models.backbones.units import Units
from mtlmoe_jax.models.backbones.vit import TOKEN_EXPERTS, TokenMoE
from mtlmoe_jax.models.experts import Expert, one_expert, stack_experts
from mtlmoe_jax.models.gates import Gate, gate_size, route
from mtlmoe_jax.models.layers import average_to
from mtlmoe_jax.models.moe_layer import TokenRouting
from mtlmoe_jax.models.token_moe import token_moe
from mtlmoe_jax.models.towers import BoxTower, ClassTower
from mtlmoe_jax.moe import buffers, engine, exchange, interface, strategies
from mtlmoe_jax.moe.routing import Routing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
  """What the model says of a batch; None for a task it does not have.

  Attributes:
    logits: f32 [B, L].
    box: f32 [B, 4] xyxy in units of the frame, x1 <= x2 and y1 <= y2.
    routing: task -> its routing; with compute="sparse" its metrics also hold
      `dropped`, the share of choices that found no slot.
    log_variance: f32 [T] in the order of the tasks, or None.
    tokens: `tokens/BLOCK` -> the routing of each V-MoE layer of the stem.
  """

  logits: jax.Array | None
  box: jax.Array | None
  routing: dict[str, Routing]
  log_variance: jax.Array | None
  tokens: dict[str, TokenRouting]


class MTLMoE(nn.Module):
  """Multi-task mixture of experts over images; `build_model` makes it.

  The attributes are the options of `config.model` (see `config.py`) but:

  Attributes:
    entry: the backbone.
    num_classes: L.
    tasks: of "class" and "box".
    num_experts: N.
    ks: K of each task.
    learn_weights: adds the parameter `log_variance` (Kendall et al. 2018).
    token_moe: the V-MoE layers of the stem; None: it has none.
    dtype: type of the computation in stem and experts; parameters, gates,
      combine and towers are float32.
  """

  entry: Backbone
  num_classes: int
  tasks: tuple[str, ...]
  num_experts: int
  ks: tuple[int, ...]
  gate_kind: str
  gate_width: int
  gate_noise: float
  gate_temperature: float
  bias_rate: float
  select: str
  share_gate: bool
  compute: str
  dispatch: str
  capacity_factor: float
  remat: bool
  shared_stages: int
  layout: str
  condense_dim: int
  tower_dim: int
  classifier: str
  dropout: float
  drop_path: float
  norm: str
  learn_weights: bool
  token_moe: TokenMoE | None
  dtype: Any

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    *,
    train: bool = False,
    valid: jax.Array | None = None,
    gate_noise: jax.Array | None = None,
    features: jax.Array | None = None,
  ) -> Outputs:
    """Classifies and localises.

    Args:
      images: [B, H, W, 3] RGB, uint8 or floating, 0 ... 255.
      train: dropout, gate noise, batch statistics, limited capacity. Random
        streams "dropout" and "gating" (without the latter: no noise).
      valid: [B] bool, False for padding, which then counts in no loss, metric
        or statistic and takes no expert's slot; None: all valid.
      gate_noise: scalar, the scale of the gates' noise in this step; None: the
        attribute.
      features: of the stem, if they are known (`stem_features`); the stem then
        does not run, and only the gates see the images.

    Returns:
      The outputs; those of padding rows mean nothing.

    Raises:
      InputError: images of another shape.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
      raise InputError(f"images of shape {images.shape}: must be [B, H, W, 3]")
    x = _normalised(images, self.entry)
    names = self._gate_names()
    gates = [
      Gate(
        self.gate_kind,
        self.num_experts,
        k,
        self.gate_width,
        self.gate_noise,
        self.gate_temperature,
        self.bias_rate,
        name=name,
      )
      for name, k in dict(zip(names, self.ks)).items()
    ]
    joint = self.select == "joint"
    routings = route(gates, x, train, valid, gate_noise, joint)
    x = x.astype(self.dtype)
    tokens = {}
    if features is not None:
      x = features.astype(self.dtype)
    elif self.shared_stages:
      stem = _stem(
        self.entry,
        self.token_moe,
        last=self.shared_stages,
        norm=self.norm,
        drop_path=self.drop_path,
        dtype=self.dtype,
        name="stem",
      )
      x, tokens = _separate(stem(x, valid, train))
    combined, routings = self._mixture(x, routings, train, valid)
    order = list(dict.fromkeys(names))
    place = {t: order.index(name) for t, name in zip(self.tasks, names)}
    logits = box = log_variance = None
    if "class" in place:
      logits = ClassTower(
        self.num_classes,
        self.tower_dim,
        self.dropout,
        self.classifier,
        name="tower_class",
      )(combined[place["class"]], train)
    if "box" in place:
      box = BoxTower(self.tower_dim, self.dropout, name="tower_box")(
        combined[place["box"]], train
      )
    if self.learn_weights:
      log_variance = self.param(
        "log_variance", nn.initializers.zeros, (len(self.tasks),)
      )
    routing = {task: routings[i] for task, i in place.items()}
    tokens = {f"tokens/{block}": found for block, found in tokens.items()}
    return Outputs(logits, box, routing, log_variance, tokens)

  def _gate_names(self) -> list[str]:
    """The gate of each task."""
    if self.share_gate:
      return ["gate"] * len(self.tasks)
    return [f"gate_{task}" for task in self.tasks]

  def _mixture(
    self,
    x: jax.Array,
    routings: list[Routing],
    train: bool,
    valid: jax.Array | None,
  ) -> tuple[list[jax.Array], list[Routing]]:
    """Each gate's weighted sum of the experts, and what was dropped."""
    chosen = [r.experts for r in routings]
    ks = [experts.shape[1] for experts in chosen]
    if self.select == "joint":  # One set of experts, however many tasks.
      ks = ks[:1]
    capacity = None  # Evaluation drops nothing, whatever the batch.
    if train:
      capacity = buffers.capacity(
        x.shape[0], ks, self.num_experts, self.capacity_factor
      )
    strategy = self._strategy(x.shape[0], ks, capacity, train)
    unbound = not strategies.STRATEGIES[strategy].takes_mapped
    if unbound and self.is_initializing():
      # Variables are made by the mapped experts; one image each is enough.
      strategy, capacity, unbound = "gather", 1, False
    if strategy == "all_to_all" and self._rows_interact(train):
      results = self._exchanged(x, chosen, train, valid, capacity)
    elif unbound:
      results = self._one_by_one(x, chosen, train, valid, strategy, capacity)
    else:
      stack = stack_experts(
        self.num_experts,
        shared_input=strategy == "dense",
        remat=self.remat and train,
      )
      experts = stack(**self._expert_options(train), name="experts")
      results = engine.apply_stacked(
        lambda x, mask: experts(x, mask).astype(jnp.float32),
        self.num_experts,
        x,
        chosen,
        strategy=strategy,
        capacity=capacity,
        valid=valid,
      )
    combined = [results.combine(i, r.weights) for i, r in enumerate(routings)]
    if self.compute == "sparse":
      routings = [
        dataclasses.replace(r, metrics={**r.metrics, "dropped": lost})
        for r, lost in zip(routings, results.dropped)
      ]
    return combined, routings

  def _strategy(self, batch, ks, capacity, train) -> str:
    if self.compute == "dense":
      return "dense"
    if self.dispatch != "auto":
      return self.dispatch
    return engine.choose_strategy(
      batch,
      self.num_experts,
      ks,
      capacity=capacity,
      rows_interact=self._rows_interact(train),
      train=train,
    )

  def _expert_options(self, train: bool) -> dict[str, Any]:
    return dict(
      entry=self.entry,
      first=self.shared_stages + 1 if self.shared_stages else 0,
      norm=self.norm,
      layout=self.layout,
      features=self.condense_dim,
      drop_path=self.drop_path,
      train=train,
      dtype=self.dtype,
    )

  def _expert_variables(self) -> dict[str, Any]:
    """Those of the mapped experts, leaves [N, ...]."""
    return {
      collection: tree["experts"]
      for collection, tree in self.variables.items()
      if "experts" in tree
    }

  def _one_by_one(self, x, chosen, train, valid, strategy, capacity):
    """The variables of the mapped experts, used by one expert at a time."""
    expert = Expert(**self._expert_options(train), parent=None)
    key = None
    if train and self.drop_path > 0:
      key = self.make_rng("dropout")
    variables = self._expert_variables()
    fn, params, x = one_expert(expert, variables, x, self.num_experts, key)
    return engine.apply_experts(
      fn,
      params,
      x,
      chosen,
      strategy=strategy,
      capacity=capacity,
      valid=valid,
      remat=self.remat,
      rows_interact=self._rows_interact(train),
    )

  def _exchanged(self, x, chosen, train, valid, capacity):
    """Experts with batch statistics, each on its own device."""
    variables = self._expert_variables()
    key = None
    if train and self.drop_path > 0:
      key = self.make_rng("dropout")
    keep = self.is_mutable_collection("batch_stats")

    def local(variables, rows, mask):
      stack = stack_experts(
        mask.shape[0], shared_input=False, remat=self.remat and train
      )
      experts = stack(**self._expert_options(train), parent=None)
      out, changed = experts.apply(
        variables,
        rows,
        mask,
        rngs=None if key is None else {"dropout": exchange.own_key(key)},
        mutable=["batch_stats"] if keep else [],
      )
      return out.astype(jnp.float32), changed

    batch = interface.Batch(x, chosen, self.num_experts, capacity, valid)
    outputs, plan, changed = exchange.run_exchanged(local, variables, batch)
    for collection, value in changed.items():
      self.put_variable(collection, "experts", value)
    return interface.Results(outputs, plan)

  def _rows_interact(self, train: bool) -> bool:
    """Whether an expert's output depends on its other images."""
    return train and self.norm == "batch"


def build_model(config: ml_collections.ConfigDict, num_classes: int) -> MTLMoE:
  """The model of a config.

  `config.model.shared_stages` = s shares the stem and the first s units behind
  it: of an EfficientNet 7 stages of blocks and the head convolution, of a
  ResNet 4 stages, of a ConvNeXt 4 stages and the norm, of a ViT 4 quarters of
  the blocks and the norm. With all of them shared an expert is its condense
  layer alone; 0 shares nothing.

  Args:
    config: the whole config, checked.
    num_classes: L.

  Returns:
    The unbound module.

  Raises:
    InputError: an unknown backbone, more shared stages than it has, V-MoE
      layers where there can be none, or batch statistics with a dispatch that
      cannot have them.
  """
  model = config.model
  config_lib.check_dispatch(config)
  entry = _entry(config)
  if model.shared_stages > entry.sizes.last:
    raise InputError(
      f"config.model.shared_stages={model.shared_stages}: {entry.name} has "
      f"{entry.sizes.last} units behind its stem, use 0 ... "
      f"{entry.sizes.last}"
    )
  if model.condense == "pyramid" and not entry.sizes.last_stride:
    raise InputError(
      f"config.model.condense='pyramid': all maps of {entry.name} are of one "
      "size, use 'spatial'"
    )
  if model.condense == "pyramid" and (
    model.shared_stages >= entry.sizes.last_stride
  ):
    raise InputError(
      f"config.model.condense='pyramid' with config.model.shared_stages="
      f"{model.shared_stages}: the experts of {entry.name} must begin at the "
      f"last strided stage or before, use 0 ... {entry.sizes.last_stride - 1}"
      " shared stages, or condense 'spatial'"
    )
  return MTLMoE(
    entry=entry,
    num_classes=num_classes,
    tasks=config_lib.tasks_of(config),
    num_experts=model.experts,
    ks=config_lib.k_of(config),
    gate_kind=model.gate,
    gate_width=model.gate_width,
    gate_noise=model.gate_noise,
    gate_temperature=model.gate_temperature,
    bias_rate=model.bias_rate,
    select=model.select,
    share_gate=model.share_gate,
    compute=model.compute,
    dispatch=model.dispatch,
    capacity_factor=model.capacity_factor,
    remat=model.remat,
    shared_stages=model.shared_stages,
    layout=model.condense,
    condense_dim=model.condense_dim,
    tower_dim=model.tower_dim,
    classifier=model.classifier,
    dropout=model.dropout,
    drop_path=model.drop_path,
    norm=model.norm,
    learn_weights=config.loss.weighting == "uncertainty",
    token_moe=token_moe(config, entry),
    dtype=jnp.dtype(config.precision),
  )


def stem_features(
  config: ml_collections.ConfigDict,
  stem: Mapping[str, Any],
  images: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """What a model's stem, as in evaluation, gives to the experts.

  Args:
    config: of the model, with shared stages.
    stem: collections `params` and `batch_stats` of the stem.
    images: u8 [B, H, W, 3].

  Returns:
    (features f16 [B, ...], images u8 [B, h, w, 3] as small as gates look at).
  """
  model = config.model
  entry = _entry(config)
  dtype = jnp.dtype(config.precision)
  network = _stem(
    entry,
    token_moe(config, entry),
    last=model.shared_stages,
    norm=model.norm,
    dtype=dtype,
  )
  x = _normalised(images, entry).astype(dtype)
  x, _ = _separate(network.apply(stem, x))
  small = average_to(images.astype(jnp.float32), gate_size(images.shape))
  return x.astype(jnp.float16), jnp.round(small).astype(jnp.uint8)


def _stem(entry: Backbone, moe: TokenMoE | None, **options: Any) -> Units:
  """The shared units; only a ViT has the option of V-MoE layers."""
  if moe is not None:
    options["token_moe"] = moe
  return entry.sizes.network(**options)


def _separate(out: Any) -> tuple[jax.Array, dict[str, TokenRouting]]:
  """What a stem gives, and the routings of its V-MoE layers."""
  return out if isinstance(out, tuple) else (out, {})


def _entry(config: ml_collections.ConfigDict) -> Backbone:
  """The backbone of a config, with the config's own normalisation and grid."""
  entry = get_backbone(config.model.backbone)
  return dataclasses.replace(
    entry,
    normalization=config.model.normalization or entry.normalization,
    grid=config.model.grid or entry.grid,
  )


def _normalised(images: jax.Array, entry: Backbone) -> jax.Array:
  mean = jnp.array(entry.mean, jnp.float32)
  return (images.astype(jnp.float32) - mean) / jnp.array(entry.std, jnp.float32)


def preprocessing(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """How an image becomes the network's input, for whoever keeps a record."""
  entry = _entry(config)
  return {
    "channels": "RGB, 0 ... 255",
    "image_size": config.data.image_size,
    "resize": "bilinear, antialiased, aspect ratio not kept",
    "mean": list(entry.mean),
    "std": list(entry.std),
  }


def count_parameters(
  config: ml_collections.ConfigDict, num_classes: int
) -> tuple[int, int]:
  """Parameters of a config's model, found without computing anything.

  Args:
    config: the whole config.
    num_classes: L.

  Returns:
    (total, active): active are those that an image can meet: all but the
    experts, and as many experts as the gates together can choose for it,
    min(N, sum of K), or K where they choose one set. Of the experts of V-MoE
    layers those of one token count, as each token chooses anew.
  """
  size = config.data.image_size
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
  variables = jax.eval_shape(
    build_model(config, num_classes).init, jax.random.key(0), images
  )
  return _totals(variables["params"], config)


def active_experts(config: ml_collections.ConfigDict) -> int:
  """Experts that an image can meet; see `count_parameters`."""
  n, ks = config.model.experts, config_lib.k_of(config)
  if config.model.gate in ("dense", "uniform"):
    return n
  one_set = config.model.share_gate or config.model.select == "joint"
  return min(n, ks[0] if one_set else sum(ks))


def parameter_table(
  variables: Mapping[str, Any],
  config: ml_collections.ConfigDict | None = None,
) -> str:
  """A table of parameters for the eye.

  Args:
    variables: of the model, arrays or shapes.
    config: the config of the model; adds the parameters active per image (see
      `count_parameters`).

  Returns:
    Lines with module, arrays and parameters, one per top-level module (two
    for the experts), then totals.
  """
  rows: dict[str, list[int]] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
    names = [key.key for key in path]
    name = "/".join(names[:2]) if names[0] == "experts" else names[0]
    row = rows.setdefault(name, [0, 0])
    row[0] += 1
    row[1] += math.prod(np.shape(leaf))
  rows["total"] = [sum(column) for column in zip(*rows.values())]
  lines = [f"{'module':<20}{'arrays':>8}{'parameters':>14}"]
  lines += [f"{n:<20}{a:>8,}{p:>14,}" for n, (a, p) in rows.items()]
  if config is not None:
    _, active = _totals(variables["params"], config)
    lines.append(f"{'active per image':<28}{active:>14,}")
  return "\n".join(lines)


def _totals(
  params: Mapping[str, Any], config: ml_collections.ConfigDict
) -> tuple[int, int]:
  def size(tree: Any) -> int:
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))

  total, experts = size(params), size(params["experts"])
  each = experts // config.model.experts
  active = total - experts + each * active_experts(config)
  moe = config.model.token_moe
  if moe.gate not in ("dense", "soft"):
    flat = traverse_util.flatten_dict(params, sep="/")
    tokens = size([v for name, v in flat.items() if TOKEN_EXPERTS in name])
    active -= tokens // moe.experts * (moe.experts - moe.k)
  return total, active
