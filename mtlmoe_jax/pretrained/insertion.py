"""Puts backbone weights into a model's variables, by name (see `parts`).

In a V-MoE layer every token expert starts as a copy of the dense MLP ("sparse
upcycling", Komatsuzaki et al. 2023), unless the weights are a V-MoE's.

Letters: N experts.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mtlmoe_jax import errors
from mtlmoe_jax.models.backbones.vit import TOKEN_EXPERTS, TOKEN_GATE
from mtlmoe_jax.pretrained import comparison, parts
from mtlmoe_jax.pretrained.weights import Weights


def insert(
  variables: Mapping[str, Any],
  weights: Weights,
  break_symmetry: float = 0.0,
  seed: int = 0,
) -> tuple[dict[str, Any], str]:
  """Copies the weights into the stem and into every expert.

  Afterwards every leaf below `stem` and `experts/backbone` holds pretrained
  values, but for new gates of token experts, and no other leaf does. What
  differs between the experts of the run that the weights come from goes to
  expert i from expert i.

  Args:
    variables: collections `params` and, with batch norm, `batch_stats`.
    weights: of the whole backbone.
    break_symmetry: standard deviation of the noise added to each copy of a
      parameter (of an expert or a token expert), as a share of that parameter's
      own standard deviation. Statistics, lone experts and what is not copied
      get none. The features of Lite0 change by 5 % (relative norm) at 0.003,
      15 % at 0.01, 46 % at 0.03; at 0.1 what was learned is gone.
    seed: of the noise, which depends on nothing but it and the name.

  Returns:
    The new variables (types and shardings as they were), and lines for the
    log: what went where, and what stays random.

  Raises:
    InputError: the backbone of the model and the weights differ (missing,
      unexpected and misshapen arrays are counted and the first ones named), or
      experts that differ have no expert or a stem to go to.
  """
  available = weights.arrays()
  model = traverse_util.flatten_dict(dict(variables), sep="/")
  sources = _sources(model, available)
  if not any(name.startswith("batch_stats/") for name, _ in sources.values()):
    # With group norm there are no statistics to fill.
    available = {k: v for k, v in available.items() if k.startswith("params/")}
  _check_experts(weights, model, sources)
  expected = {
    name: model[path].shape[1:] if each else model[path].shape
    for path, (name, each) in sources.items()
  }
  given = {k: v for k, v in weights.shapes().items() if k in available}
  if problems := comparison.compare(expected, given, weights.unknown):
    lists = [f"{k}: {errors.listed(v)}" for k, v in problems.items()]
    raise errors.InputError(
      f"{weights.source} does not fit the model's backbone, give weights of "
      f"config.model.backbone: {'; '.join(lists)}"
    )
  new = {}
  for path, (name, each) in sources.items():
    old, noisy = model[path], each and name.startswith("params/")
    scale = break_symmetry if noisy else 0.0
    value = _copies(available[name], old.shape, scale, seed, name)
    new[path] = _like(old, value)
  return (
    traverse_util.unflatten_dict(model | new, sep="/"),
    _summary(weights, model, new, break_symmetry),
  )


def fills(path: str) -> bool:
  """Whether `insert` gives this array of a model a value, whatever it had."""
  return bool(parts.PLACE.fullmatch(path)) and TOKEN_GATE not in path


def _sources(
  model: Mapping[str, Any], available: Mapping[str, Any]
) -> dict[str, tuple[str, bool]]:
  """Path -> its name in the weights, and whether each expert gets a copy."""
  out = {}
  for path in model:
    place = parts.PLACE.fullmatch(path)
    if not place:
      continue
    name, copied = f"{place[1]}/{place[3]}", place[2] == "experts/backbone"
    if name not in available:
      if TOKEN_GATE in name:
        continue
      dense = name.replace(TOKEN_EXPERTS, "/")
      name, copied = dense, copied or dense != name
    out[path] = name, copied
  return out


def _check_experts(
  weights: Weights,
  model: Mapping[str, Any],
  sources: Mapping[str, tuple[str, bool]],
) -> None:
  """Refuses a model that has no place for experts that differ."""
  own = {name for name, _ in sources.values() if name in weights.per_expert}
  shared = [
    p for p, (name, each) in sources.items() if name in own and not each
  ]
  if shared:
    raise errors.InputError(
      f"{weights.source}: its experts differ in what this model shares "
      f"({errors.listed(shared)}); set config.model.shared_stages to that "
      "run's or fewer, and config.model.gate_input to 'stem' or 'pixels'"
    )
  theirs = {len(weights.per_expert[name]) for name in own}
  ours = {model[p].shape[0] for p, (name, _) in sources.items() if name in own}
  if ours != theirs:
    raise errors.InputError(
      f"{weights.source}: its experts differ, so this model must have as many: "
      f"set config.model.experts={max(theirs)}, or take a run of one expert"
    )


def _copies(
  value: np.ndarray,
  shape: tuple[int, ...],
  scale: float,
  seed: int,
  name: str,
) -> np.ndarray:
  """`value` broadcast to `shape` plus `scale` times its deviation of noise."""
  copies = np.broadcast_to(value, shape)
  if scale == 0 or shape[0] == 1:
    return copies
  random = np.random.default_rng([seed, zlib.crc32(name.encode())])
  noise = random.standard_normal(shape, np.float32)
  return copies + np.float32(scale * value.std()) * noise


def _like(old: Any, value: np.ndarray) -> Any:
  """`value` with the dtype and, for a JAX array, the sharding of `old`."""
  value = value.astype(old.dtype)
  if isinstance(old, jax.Array):
    return jax.device_put(value, old.sharding)
  return value


def _summary(
  weights: Weights,
  model: Mapping[str, Any],
  new: Mapping[str, Any],
  break_symmetry: float,
) -> str:
  lines = [f"pretrained: {weights.report}"]
  for part in ("stem", "experts/backbone", parts.GATES):
    parameters, statistics = (
      [p for p in new if p.startswith(f"{collection}/{part}/")]
      for collection in ("params", "batch_stats")
    )
    if parameters:
      line = f"  {part}: {len(parameters)} parameters, "
      line += f"{len(statistics)} statistics"
      if tokens := [p for p in parameters if TOKEN_EXPERTS in p]:
        count = new[tokens[0]].shape[0]
        line += f", {len(tokens)} of them copied into {count} token experts"
      if part == "experts/backbone":
        line += f", for each of {new[parameters[0]].shape[0]} experts"
        line += ", expert i from expert i" if weights.per_expert else ""
        line += f" with noise {break_symmetry:g}" if break_symmetry else ""
      lines.append(line)
  if not any(p.startswith("batch_stats/") for p in new):
    lines.append("  statistics left out: the model's norm keeps none")
  part_of = re.compile(rf"params/(experts/[^/]+|.+{TOKEN_GATE}|[^/]+)")
  matches = (part_of.match(path) for path in model if path not in new)
  rest = sorted({match[1] for match in matches if match})
  lines.append(f"  new (not pretrained): {', '.join(rest) or 'nothing'}")
  return "\n".join(lines)
