"""The whole model: shared stem, experts, gates, combine, towers.

Letters: B images, H W image size, N experts, K experts per image and task,
S slots per expert, T tasks, L classes, D condensed width, G grid side, F
features that gates see.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.config import CONTROLS
from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.backbones import Backbone
from mtlmoe_jax.models.backbones.units import TokenRoutings
from mtlmoe_jax.models.backbones.vit import TokenMoE
from mtlmoe_jax.models.experts import Expert, one_expert, stack_experts
from mtlmoe_jax.models.gates import (
  FEATURE_INPUTS,
  FeatureInput,
  Gate,
  GateOptions,
  gate_size,
  route,
)
from mtlmoe_jax.models.layers import average_to
from mtlmoe_jax.models.moe_layer import TokenRouting
from mtlmoe_jax.models.towers import BoxTower, ClassTower, TowerOptions
from mtlmoe_jax.moe import buffers, engine, exchange, interface, strategies
from mtlmoe_jax.moe.routing import Routing

Array = jax.Array


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

  logits: Array | None
  box: Array | None
  routing: dict[str, Routing]
  log_variance: Array | None
  tokens: dict[str, TokenRouting]


@dataclasses.dataclass(frozen=True)
class DispatchOptions:
  """How images meet the experts.

  Attributes:
    compute: "dense", every expert on every image, or "sparse".
    strategy: of sparse computation, see `moe.strategies`.
    capacity_factor: see `buffers.capacity`; of training only.
    remat: the backward pass runs experts again in place of storing their maps.
  """

  compute: str = "sparse"
  strategy: str = "auto"
  capacity_factor: float = 0.0
  remat: bool = False


class MTLMoE(nn.Module):
  """Multi-task mixture of experts over images; `build_model` makes it.

  Attributes:
    backbone: what stem and experts are made of.
    num_classes: L.
    tasks: of "class" and "box".
    ks: K of each task.
    gating: of every gate; its `experts` is N.
    select: "separate", each gate for itself, or "joint", all gates together.
    share_gate: one gate for all tasks.
    told: how many probabilities of a router each tower is told: 0, none; N,
      those of its gate; else those of a router of its own, which sends images
      nowhere (a control: what a router knows without a division of work).
    dispatch: how images meet the experts.
    towers: of both towers.
    shared_stages: units behind the stem that all experts share; 0 shares
      nothing, not even the stem.
    layout: of the condensed features, see `Expert`.
    condense_dim: D.
    expert_dim: see `Expert.hidden`.
    drop_path: rate of stochastic depth.
    norm: see `normalization.Norm`.
    learn_weights: adds the parameter `log_variance` (Kendall et al. 2018).
    token_moe: the V-MoE layers of the stem; None: it has none.
    upcycling: the variables are those of one expert, which stands for N that
      are equal (`training.upcycling`).
    dtype: type of the computation in stem and experts; parameters, gates,
      combine and towers are float32.
  """

  backbone: Backbone
  num_classes: int
  tasks: tuple[str, ...]
  ks: tuple[int, ...]
  gating: GateOptions
  select: str
  share_gate: bool
  told: int
  dispatch: DispatchOptions
  towers: TowerOptions
  shared_stages: int
  layout: str
  condense_dim: int
  expert_dim: int
  drop_path: float
  norm: str
  learn_weights: bool
  token_moe: TokenMoE | None
  dtype: Any
  upcycling: bool = False

  def setup(self) -> None:
    """Stem, gates and towers; `_run_mapped` makes the experts."""
    for name, k in dict(zip(self.gate_names, self.ks)).items():
      setattr(self, name, Gate(self.gating, k))
      if self.told and not self.gate_tells:
        setattr(self, f"tower_{name}", Gate(self._telling(), self.told))
    if self.gating.sees in FEATURE_INPUTS:
      self.gate_input = FeatureInput()
    if self.needs_gate_backbone:
      self.gate_backbone = self.backbone.sizes.network(
        first=self._first_of_experts(),
        norm=norm_of_gates(self.norm),
        dtype=self.dtype,
      )
    if self.shared_stages:
      self.stem = make_stem(
        self.backbone,
        self.token_moe,
        last=self.shared_stages,
        norm=self.norm,
        drop_path=self.drop_path,
        dtype=self.dtype,
      )
    if "class" in self.tasks:
      self.tower_class = ClassTower(self.num_classes, self.towers)
    if "box" in self.tasks:
      self.tower_box = BoxTower(self.towers)
    if self.learn_weights:
      self.log_variance = self.param(
        "log_variance", nn.initializers.zeros, (len(self.tasks),)
      )

  def __call__(
    self,
    images: Array,
    *,
    train: bool = False,
    valid: Array | None = None,
    gate_noise: Array | None = None,
    features: Array | None = None,
    gate_features: Array | None = None,
    choices: Mapping[str, tuple[Array, Array]] | None = None,
  ) -> Outputs:
    """Classifies and localises.

    Args:
      images: [B, H, W, 3] RGB, uint8 or floating, 0 ... 255.
      train: dropout, gate noise, batch statistics, limited capacity. Random
        streams "dropout" and "gating" (without the latter: no noise).
      valid: [B] bool, False for padding, which then counts in no loss, metric
        or statistic and takes no expert's slot; None: all valid.
      gate_noise: scalar, the scale of the gates' noise in this step; None: the
        option's.
      features: of the stem, if they are known (`stem_features`); the stem then
        does not run, and only gates that see pixels see the images.
      gate_features: [B, F] that gates see, if they are known as well.
      choices: task -> (experts i32 [B, K], weights f32 [B, K]), in place of
        what its gate says of the images; towers are told as ever.

    Returns:
      The outputs; those of padding rows mean nothing.

    Raises:
      InputError: images of another shape.
    """
    _check_images(images)
    x = normalized(images, self.backbone)
    shared, tokens = self._shared(x, features, valid, train)
    seen = self._seen(x, shared, gate_features)
    routings, place = self._routed(x, seen, train, valid, gate_noise)
    order = dict.fromkeys(self.gate_names)
    told = [self._told(name, r, seen) for name, r in zip(order, routings)]
    if choices is not None:
      given = {place[task]: chosen for task, chosen in choices.items()}
      routings = [
        dataclasses.replace(r, experts=given[i][0], weights=given[i][1])
        for i, r in enumerate(routings)
      ]
    combined, routings = self._mixture(shared, routings, train, valid)
    logits = box = None
    if "class" in place:
      i = place["class"]
      logits = self.tower_class(combined[i], train, told[i])
    if "box" in place:
      i = place["box"]
      box = self.tower_box(combined[i], train, told[i])
    return Outputs(
      logits=logits,
      box=box,
      routing={task: routings[i] for task, i in place.items()},
      log_variance=self.log_variance if self.learn_weights else None,
      tokens={f"tokens/{block}": r for block, r in tokens.items()},
    )

  def expert_outputs(
    self, images: Array, features: Array | None = None
  ) -> Array:
    """What every expert makes of every image, in evaluation.

    Args:
      images: [B, H, W, 3] RGB, 0 ... 255.
      features: of the stem, if they are known.

    Returns:
      f32 [N, B, D] or [N, B, G, G, D].

    Raises:
      InputError: images of another shape.
    """
    _check_images(images)
    x = normalized(images, self.backbone)
    x, _ = self._shared(x, features, None, False)
    mask = jnp.ones((self.gating.experts, len(images)), bool)
    return self._run_mapped(x, mask, train=False, shared_input=True)

  def gate_view(
    self,
    images: Array,
    features: Array | None = None,
    gate_features: Array | None = None,
  ) -> Array:
    """What gates that see features would standardize, in evaluation.

    Args:
      images: [B, H, W, 3] RGB, 0 ... 255.
      features: of the stem, if they are known.
      gate_features: what this returns, if it is known.

    Returns:
      f32 [B, F].
    """
    x = normalized(images, self.backbone)
    shared, _ = self._shared(x, features, None, False)
    return self._pooled(x, shared, gate_features)

  def routings(
    self,
    images: Array,
    features: Array | None = None,
    gate_features: Array | None = None,
  ) -> dict[str, Routing]:
    """What the gates say of images in evaluation; no expert runs.

    Args:
      images: [B, H, W, 3] RGB, 0 ... 255.
      features: of the stem, if they are known.
      gate_features: that gates see, if they are known.

    Returns:
      task -> its routing.
    """
    x = normalized(images, self.backbone)
    shared = x
    if self.gating.sees in FEATURE_INPUTS:
      shared, _ = self._shared(x, features, None, False)
    seen = self._seen(x, shared, gate_features)
    found, place = self._routed(x, seen)
    return {task: found[i] for task, i in place.items()}

  def _routed(
    self,
    x: Array,
    seen: Array,
    train: bool = False,
    valid: Array | None = None,
    noise: Array | None = None,
  ) -> tuple[list[Routing], dict[str, int]]:
    """The routing of each gate, and which of them each task has."""
    order = list(dict.fromkeys(self.gate_names))
    gates = [getattr(self, name) for name in order]
    looked = x if self.gating.kind == "random" else seen
    joint = self.select == "joint"
    routings = route(gates, looked, train, valid, noise, joint)
    places = map(order.index, self.gate_names)
    return routings, dict(zip(self.tasks, places))

  @property
  def needs_gate_backbone(self) -> bool:
    """Whether gates see more of the backbone than the stem has."""
    some = self.shared_stages < self.backbone.sizes.last
    return self.gating.sees == "all" and some

  def _first_of_experts(self) -> int:
    """Number of the first unit behind the stem."""
    return self.shared_stages + 1 if self.shared_stages else 0

  def _seen(
    self, x: Array, shared: Array, gate_features: Array | None
  ) -> Array:
    """What the gates see: [B, H, W, 3], or [B, F] standardized."""
    if self.gating.sees not in FEATURE_INPUTS:
      return x
    return self.gate_input(self._pooled(x, shared, gate_features))

  def _pooled(
    self, x: Array, shared: Array, gate_features: Array | None
  ) -> Array:
    """Mean over space of the last map that gates see, f32 [B, F]."""
    if gate_features is not None:
      return gate_features.astype(jnp.float32)
    if self.needs_gate_backbone:
      if not self.shared_stages:  # `shared` are the images themselves.
        shared = average_to(x, gate_size(x.shape)).astype(self.dtype)
      shared = jax.lax.stop_gradient(shared)
      shared = self.gate_backbone(shared)
    return jnp.mean(shared.astype(jnp.float32), (1, 2))

  @property
  def gate_tells(self) -> bool:
    """Whether a gate's own probabilities are those that towers are told."""
    is_own = self.told == self.gating.experts
    return is_own and self.gating.kind not in CONTROLS

  def _telling(self) -> GateOptions:
    """Of a router that sends images nowhere."""
    return dataclasses.replace(
      self.gating, kind="dense", experts=self.told, shared=0
    )

  def _told(self, name: str, routing: Routing, seen: Array) -> Array | None:
    if not self.told:
      return None
    if self.gate_tells:
      return routing.probs
    return getattr(self, f"tower_{name}").probabilities(seen)

  @property
  def gate_names(self) -> list[str]:
    """The gate of each task."""
    if self.share_gate:
      return ["gate"] * len(self.tasks)
    return [f"gate_{task}" for task in self.tasks]

  def _shared(
    self,
    x: Array,
    features: Array | None,
    valid: Array | None,
    train: bool,
  ) -> tuple[Array, TokenRoutings]:
    """What the experts see, and the routings of the stem's V-MoE layers."""
    if features is not None:
      return features.astype(self.dtype), {}
    x = x.astype(self.dtype)
    if not self.shared_stages:
      return x, {}
    maps = self.stem.maps(x, valid, train)
    return maps.last, maps.routings

  def _mixture(
    self,
    x: Array,
    routings: list[Routing],
    train: bool,
    valid: Array | None,
  ) -> tuple[list[Array], list[Routing]]:
    """Each gate's weighted sum of the experts, and what was dropped."""
    if self.upcycling:
      return self._of_equals(x, routings, train, valid)
    chosen = [r.experts for r in routings]
    ks = [experts.shape[1] for experts in chosen]
    if self.select == "joint":  # One set of experts, however many tasks.
      ks = ks[:1]
    capacity = None  # Evaluation drops nothing, whatever the batch.
    if train:
      capacity = buffers.capacity(
        x.shape[0], ks, self.gating.experts, self.dispatch.capacity_factor
      )
    strategy = self._strategy(x.shape, ks, capacity, train)
    if self.is_initializing() and not _takes_mapped(strategy):
      # Variables are made by the mapped experts; one image each is enough.
      strategy, capacity = "gather", 1
    batch = interface.Batch(x, chosen, self.gating.experts, capacity, valid)
    results = self._run_experts(batch, strategy, train)
    combined = [results.combine(i, r.weights) for i, r in enumerate(routings)]
    if self.dispatch.compute == "sparse":
      routings = _with_dropped(routings, results.dropped)
    return combined, routings

  def _of_equals(
    self,
    x: Array,
    routings: list[Routing],
    train: bool,
    valid: Array | None,
  ) -> tuple[list[Array], list[Routing]]:
    """As `_mixture`, of N experts that all are the one there is."""
    mask = jnp.ones(x.shape[:1], bool) if valid is None else valid
    output = self._run_mapped(x, mask[None], train=train, shared_input=True)[0]
    rows = (-1,) + (1,) * (output.ndim - 1)
    output = jnp.where(mask.reshape(rows), output, 0)
    combined = [
      jnp.sum(r.weights, axis=1).reshape(rows) * output for r in routings
    ]
    if self.dispatch.compute == "sparse":
      routings = _with_dropped(routings, [jnp.zeros(())] * len(routings))
    return combined, routings

  def _strategy(
    self,
    shape: Sequence[int],
    ks: list[int],
    capacity: int | None,
    train: bool,
  ) -> str:
    if self.dispatch.compute == "dense":
      return "dense"
    if self.dispatch.strategy != strategies.AUTO:
      return self.dispatch.strategy
    return engine.choose_strategy(
      shape[0],
      self.gating.experts,
      ks,
      capacity=capacity,
      rows_interact=self._rows_interact(train),
      train=train,
      row_size=math.prod(shape[1:]),
    )

  def _rows_interact(self, train: bool) -> bool:
    """Whether an expert's output depends on its other images."""
    return train and self.norm == "batch"

  def _run_experts(
    self, batch: interface.Batch, strategy: str, train: bool
  ) -> interface.Results:
    """The experts, in the form that the strategy takes."""
    if not _takes_mapped(strategy):
      if strategy == "all_to_all" and self._rows_interact(train):
        return self._exchanged(batch, train)
      return self._one_by_one(batch, strategy, train)
    shared = not strategies.STRATEGIES[strategy].sparse
    return engine.apply_stacked(
      lambda x, mask: self._run_mapped(
        x, mask, train=train, shared_input=shared
      ),
      batch.num_experts,
      batch.x,
      batch.experts_per_task,
      strategy=strategy,
      capacity=batch.capacity,
      valid=batch.valid,
    )

  @nn.compact
  def _run_mapped(
    self, x: Array, mask: Array, *, train: bool, shared_input: bool
  ) -> Array:
    """All experts side by side, float32."""
    stack = stack_experts(
      1 if self.upcycling else self.gating.experts,
      shared_input=shared_input,
      remat=self.dispatch.remat and train,
    )
    experts = stack(**self._expert_options(train), name="experts")
    return experts(x, mask).astype(jnp.float32)

  def _expert_options(self, train: bool) -> dict[str, Any]:
    return dict(
      sizes=self.backbone.sizes,
      grid=self.backbone.grid,
      first=self._first_of_experts(),
      norm=self.norm,
      layout=self.layout,
      features=self.condense_dim,
      hidden=self.expert_dim,
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

  def _drop_key(self, train: bool) -> Array | None:
    """A key of drop path, None where nothing is dropped."""
    return self.make_rng("dropout") if train and self.drop_path > 0 else None

  def _one_by_one(
    self, batch: interface.Batch, strategy: str, train: bool
  ) -> interface.Results:
    """The variables of the mapped experts, used by one expert at a time."""
    expert = Expert(**self._expert_options(train), parent=None)
    key = self._drop_key(train)
    fn, params, x = one_expert(
      expert, self._expert_variables(), batch.x, batch.num_experts, key
    )
    return engine.apply_experts(
      fn,
      params,
      x,
      batch.experts_per_task,
      strategy=strategy,
      capacity=batch.capacity,
      valid=batch.valid,
      remat=self.dispatch.remat,
      rows_interact=self._rows_interact(train),
      train=train,
    )

  def _exchanged(
    self, batch: interface.Batch, train: bool
  ) -> interface.Results:
    """Experts with batch statistics, each on its own device."""
    key = self._drop_key(train)
    keep = self.is_mutable_collection("batch_stats")

    def local(variables: Any, rows: Array, mask: Array) -> tuple[Array, Any]:
      stack = stack_experts(
        mask.shape[0],
        shared_input=False,
        remat=self.dispatch.remat and train,
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

    outputs, plan, changed = exchange.run_exchanged(
      local, self._expert_variables(), batch
    )
    for collection, value in changed.items():
      self.put_variable(collection, "experts", value)
    return interface.Results(outputs, plan)


def _takes_mapped(strategy: str) -> bool:
  return strategies.STRATEGIES[strategy].takes_mapped


def _check_images(images: Array) -> None:
  if images.ndim != 4 or images.shape[-1] != 3:
    raise InputError(f"images of shape {images.shape}: must be [B, H, W, 3]")


def _with_dropped(
  routings: Sequence[Routing], dropped: Sequence[Array]
) -> list[Routing]:
  """Routings whose metrics tell the share of choices without a slot."""
  return [
    dataclasses.replace(r, metrics={**r.metrics, "dropped": lost})
    for r, lost in zip(routings, dropped)
  ]


def norm_of_gates(norm: str) -> str:
  """The norm of a backbone that only gates see: it never learns statistics."""
  return "frozen" if norm == "batch" else norm


def make_stem(backbone: Backbone, moe: TokenMoE | None, **options: Any) -> Any:
  """The shared units; only a ViT has the option of V-MoE layers.

  Args:
    backbone: whose units.
    moe: the V-MoE layers, None for none.
    **options: attributes of `Units`.
  """
  if moe is not None:
    options["token_moe"] = moe
  return backbone.sizes.network(**options)


def normalized(images: Array, backbone: Backbone) -> Array:
  """Images [B, H, W, 3] as the backbone takes them, float32."""
  mean = jnp.array(backbone.mean, jnp.float32)
  std = jnp.array(backbone.std, jnp.float32)
  return (images.astype(jnp.float32) - mean) / std
