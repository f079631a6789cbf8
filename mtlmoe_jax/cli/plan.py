r"""Says what a training step needs on devices that need not be there.

  mtlmoe plan --config=configs/cub.py --devices=64 \
      --mesh=data:8,expert:2,fsdp:4 --config.batch_size=512
  mtlmoe plan --config=configs/cub.py --devices=64 --chip=h100

Compiles the step of the config ahead of time for so many virtual devices (no
accelerator, data or weights are needed) and prints, for each device, memory,
operations, the messages and bytes of a step, and how long a step takes on a
chip at the full speed of each of its parts, with what it then waits for; and
of --classes and --images whether several experts are likely to pay.
--topology compiles for a described TPU slice in place of virtual devices, where
libtpu is installed.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from mtlmoe_jax import errors
from mtlmoe_jax.cli import flags as cli_flags
from mtlmoe_jax.planning import chips, virtual


def define() -> None:
  """Defines the flags."""
  cli_flags.define_config("Config file, for example configs/cub.py.")
  flags.DEFINE_integer("devices", 8, "How many virtual devices.", lower_bound=1)
  flags.DEFINE_string(
    "mesh", "", "As data:8,expert:2,fsdp:4; default: config.mesh."
  )
  flags.DEFINE_enum(
    "chip", "v5e", sorted(chips.CHIPS), "The device that is meant."
  )
  flags.DEFINE_string(
    "topology", "", "A TPU slice such as v5e:8x8, in place of --devices."
  )
  flags.DEFINE_integer(
    "classes", 200, "Classes of the data set.", lower_bound=2
  )
  flags.DEFINE_integer(
    "images", 0, "Training images of the data set; 0: unknown.", lower_bound=0
  )
  flags.DEFINE_string("json", "", "File to write the numbers into.")


def main(argv: Sequence[str]) -> None:
  """Flags -> one forecast."""
  cli_flags.required("config")
  cli_flags.no_arguments(argv)
  options = flags.FLAGS
  if not options.topology:
    virtual.restart_with(options.devices)
  # Here: the number of devices is fixed when JAX starts.
  from mtlmoe_jax import config as config_lib
  from mtlmoe_jax.devices import sharding
  from mtlmoe_jax.planning import forecast
  from mtlmoe_jax.training.fit import paying
  from mtlmoe_jax.utils import files

  config = cli_flags.config()
  if config.fit.budget:
    raise errors.InputError(
      f"config.fit.budget={config.fit.budget!r}: what it chooses needs the "
      "data, which plan does not read; name another config"
    )
  for axis, count in _axes(options.mesh).items():
    config.mesh[axis] = count
  # Neither is read.
  config.data.path = config.data.path or "somewhere"
  config_lib.check_config(config)
  mesh = sharding.make_mesh(**config.mesh, devices=_described(options.topology))
  made = forecast.make_forecast(
    config, mesh, options.classes, chips.CHIPS[options.chip].backend
  )
  print(forecast.table(made, options.chip))
  if said := paying.advice(config, options.classes, options.images):
    print(said)
  if options.json:
    files.write_json(pathlib.Path(options.json), forecast.to_dict(made))


def _axes(text: str) -> dict[str, int]:
  """`data:8,expert:2` -> {"data": 8, "expert": 2}."""
  counts = {}
  for part in filter(None, text.split(",")):
    axis, _, count = part.partition(":")
    if axis not in ("data", "expert", "fsdp") or not count.isdigit():
      raise errors.InputError(
        f"--mesh={text!r}: write AXIS:DEVICES with data, expert or fsdp, such "
        "as data:8,expert:2"
      )
    counts[axis] = int(count)
  return counts


def _described(topology: str) -> list[Any] | None:
  """The devices of --topology; None: those that are here."""
  if not topology:
    return None
  from jax.experimental import topologies

  try:
    described = topologies.get_topology_desc(
      platform="tpu", topology_name=topology
    )
  except Exception as error:
    first = str(error).strip().splitlines()[0]
    raise errors.InputError(
      f"--topology={topology!r}: not known here ({first}); install "
      "libtpu (pip install 'jax[tpu]'), or leave it out for virtual devices"
    ) from None
  return described.devices
