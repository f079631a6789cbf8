r"""Says what a training step needs on devices that need not be there.

  python launch/plan.py --config=configs/cub.py --devices=64 \
      --mesh=data:8,expert:2,fsdp:4 --config.batch_size=512
  python launch/plan.py --config=configs/cub.py --devices=64 --chip=h100

Compiles the step of the config ahead of time for so many virtual devices (no
accelerator, data or weights are needed) and prints, for each device, memory,
operations, the messages and bytes of a step, and how long a step takes on a
chip at the full speed of each of its parts, with what it then waits for.
--topology compiles for a described TPU slice in place of virtual devices, where
libtpu is installed.
"""

import pathlib
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from mtlmoe_jax import errors
from mtlmoe_jax.cli import flags as launching
from mtlmoe_jax.planning import chips, virtual

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, for example configs/cub.py."
)
_DEVICES = flags.DEFINE_integer(
  "devices", 8, "How many virtual devices.", lower_bound=1
)
_MESH = flags.DEFINE_string(
  "mesh", "", "As data:8,expert:2,fsdp:4; default: config.mesh."
)
_CHIP = flags.DEFINE_enum(
  "chip", "v5e", sorted(chips.CHIPS), "The device that is meant."
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", "", "A TPU slice such as v5e:8x8, in place of --devices."
)
_CLASSES = flags.DEFINE_integer(
  "classes", 200, "Classes of the data set.", lower_bound=2
)
_JSON = flags.DEFINE_string("json", "", "File to write the figures into.")


def main(argv: Sequence[str]) -> None:
  """Flags -> one plan."""
  launching.required("config")
  launching.no_arguments(argv)
  if not _TOPOLOGY.value:
    virtual.restart_with(_DEVICES.value)
  # Here: the number of devices is fixed when JAX starts.
  from mtlmoe_jax import config as config_lib
  from mtlmoe_jax.devices import sharding
  from mtlmoe_jax.planning import plan as plan_lib
  from mtlmoe_jax.utils import files

  config = launching.config(_CONFIG)
  for axis, count in _axes(_MESH.value).items():
    config.mesh[axis] = count
  # Neither is read.
  config.data.path = config.data.path or "somewhere"
  config_lib.check_config(config)
  mesh = sharding.make_mesh(**config.mesh, devices=_described())
  made = plan_lib.make_plan(
    config, mesh, _CLASSES.value, chips.CHIPS[_CHIP.value].backend
  )
  print(plan_lib.table(made, _CHIP.value))
  if _JSON.value:
    files.write_json(pathlib.Path(_JSON.value), plan_lib.figures(made))


def _axes(text: str) -> dict[str, int]:
  """`data:8,expert:2` -> {"data": 8, "expert": 2}."""
  found = {}
  for part in filter(None, text.split(",")):
    axis, _, count = part.partition(":")
    if axis not in ("data", "expert", "fsdp") or not count.isdigit():
      raise errors.InputError(
        f"--mesh={text!r}: write AXIS:DEVICES with data, expert or fsdp, such "
        "as data:8,expert:2"
      )
    found[axis] = int(count)
  return found


def _described() -> list | None:
  """The devices of --topology; None: those that are here."""
  if not _TOPOLOGY.value:
    return None
  from jax.experimental import topologies

  try:
    described = topologies.get_topology_desc(
      platform="tpu", topology_name=_TOPOLOGY.value
    )
  except Exception as error:
    first = str(error).strip().splitlines()[0]
    raise errors.InputError(
      f"--topology={_TOPOLOGY.value!r}: not known here ({first}); install "
      "libtpu (pip install 'jax[tpu]'), or leave it out for virtual devices"
    ) from None
  return described.devices


if __name__ == "__main__":
  launching.run(main)
