"""A training step compiled for devices that need not be there."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.devices import compilation, sharding
from mtlmoe_jax.planning import chips, collectives
from mtlmoe_jax.training import assembly

# Of training: only the shape of schedules depends on it.
_STEPS = 1000


@dataclasses.dataclass(frozen=True)
class Forecast:
  """What one step needs on each device.

  Attributes:
    mesh: axis -> devices.
    parameters: of the whole model.
    batch_size: images of a step, over all devices.
    state_bytes: of parameters, averages and optimizer on one device.
    peak_bytes: the most that is alive at once, the compiler's estimate.
    flops: floating-point operations of one device.
    memory_traffic: bytes read and written where state, batch and whatever is
      stored between the passes go in and out of the chip once.
    messages: between devices.
  """

  mesh: dict[str, int]
  parameters: int
  batch_size: int
  state_bytes: int
  peak_bytes: int
  flops: float
  memory_traffic: int
  messages: Sequence[collectives.Total]

  @property
  def devices(self) -> int:
    """Of the whole mesh."""
    return int(np.prod(list(self.mesh.values())))

  @property
  def sent(self) -> float:
    """Bytes that a device sends in a step."""
    return sum(total.sent for total in self.messages)

  def seconds(self, chip: chips.Chip) -> dict[str, float]:
    """The time of a step at the full speed of each part of a device."""
    return {
      "compute": self.flops / chip.flops,
      "memory": self.memory_traffic / chip.memory_rate,
      "network": self.sent / chip.network_rate,
    }


def make_forecast(
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
  num_classes: int,
  backend: str = "tpu",
) -> Forecast:
  """Compiles a training step without data, weights or memory for them.

  Args:
    config: the whole config, checked.
    mesh: of any devices, virtual ones too; nothing runs on them.
    num_classes: L.
    backend: of the devices that are meant: which of several forms of the same
      computation are taken ("cpu", "gpu" or "tpu").

  Returns:
    The forecast. Compiled for virtual devices, what is stored between the
    passes is XLA:CPU's choice, which fuses less than other compilers do.

  Raises:
    InputError: a batch or experts that do not divide over the devices.
  """
  sharding.check_batch(
    config.batch_size, mesh, "batch_size", config.micro_batches
  )
  sharding.check_experts(config_lib.resolve(config).expert_counts, mesh)
  with jax.set_mesh(mesh), compilation.planned_for(backend):
    parts = assembly.assemble(
      config, num_classes, mesh, _STEPS, _STEPS, abstract=True
    )
    batch = _batch(config, sharding.batch_sharding(mesh))
    step: Any = parts.compiled()  # `jax.jit` made it, so it can be lowered
    compiled = step.lower(parts.state, batch).compile()
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
  cost = cost[0] if isinstance(cost, list) else cost
  return Forecast(
    mesh=dict(mesh.shape),
    parameters=sum(v.size for v in parts.state.params.values()),
    batch_size=config.batch_size,
    state_bytes=_bytes_of_one(parts.state),
    peak_bytes=(
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      - memory.alias_size_in_bytes
      + memory.temp_size_in_bytes
    ),
    flops=cost.get("flops", 0.0),
    memory_traffic=(
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      + 2 * memory.temp_size_in_bytes
    ),
    messages=collectives.totals(
      collectives.find(compiled.as_text(), mesh.size)
    ),
  )


def _batch(
  config: ml_collections.ConfigDict, place: jax.sharding.Sharding
) -> dict[str, jax.ShapeDtypeStruct]:
  rows, size = config.batch_size, config.data.image_size
  shapes = {
    "image": ((rows, size, size, 3), np.uint8),
    "label": ((rows,), np.int32),
    "box": ((rows, 4), np.float32),
    "has_label": ((rows,), np.bool_),
    "has_box": ((rows,), np.bool_),
    "valid": ((rows,), np.bool_),
    "index": ((rows,), np.int32),
  }
  return {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=place)
    for name, (shape, dtype) in shapes.items()
  }


def _bytes_of_one(tree: Any) -> int:
  """What one device holds of a tree of placed shapes."""
  return sum(
    int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def to_dict(forecast: Forecast) -> dict[str, Any]:
  """The forecast for a program: plain values, as JSON knows them."""
  return {
    **dataclasses.asdict(forecast),
    "messages": [total._asdict() for total in forecast.messages],
    "devices": forecast.devices,
    "sent": forecast.sent,
  }


def table(forecast: Forecast, chip: str) -> str:
  """The forecast for the eye.

  Args:
    forecast: of `make_forecast`.
    chip: one of `chips.CHIPS`.
  """
  one = chips.CHIPS[chip]
  seconds = forecast.seconds(one)
  slowest = max(seconds, key=lambda name: seconds[name])
  taken = forecast.peak_bytes / one.memory
  lines = [
    f"{forecast.devices} x {chip}: "
    + " x ".join(f"{axis} {n}" for axis, n in forecast.mesh.items()),
    f"parameters                 {forecast.parameters:>16,}",
    f"images a step              {forecast.batch_size:>16,}",
    "on each device:",
    f"  state                    {_size(forecast.state_bytes):>16}",
    f"  most memory at once      {_size(forecast.peak_bytes):>16}"
    f"  {taken:.0%} of {chip}'s",
    f"  operations a step        {forecast.flops / 1e9:>12,.1f} G",
    f"  memory traffic           {_size(forecast.memory_traffic):>16}",
    f"  sent a step              {_size(forecast.sent):>16}",
  ]
  for total in forecast.messages:
    lines.append(
      f"    {total.count:>3} {total.kind:<20} of {total.group:>4} devices  "
      f"{_size(total.size):>12} each way"
    )
  lines.append("a step at full speed, by what it waits for:")
  for name, value in seconds.items():
    mark = "  <- bottleneck" if name == slowest else ""
    lines.append(f"  {name:<10} {value * 1e3:>10.3f} ms{mark}")
  rate = forecast.batch_size / max(seconds.values())
  lines.append(f"at most {rate:,.0f} images a second")
  if taken > 1:
    lines.append(
      "does not fit: raise mesh.fsdp or mesh.expert, lower batch_size, or set "
      "model.remat"
    )
  return "\n".join(lines)


def _size(count: float) -> str:
  for unit in ("B", "kB", "MB", "GB"):
    if count < 1000:
      return f"{count:.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
    count /= 1000
  return f"{count:,.1f} TB"
