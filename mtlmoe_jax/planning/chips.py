"""Accelerators: what their makers say they can do."""

from typing import NamedTuple


class Chip(NamedTuple):
  """One device.

  Attributes:
    flops: of matrix products a second, bfloat16 with float32 sums, dense.
    memory: bytes.
    memory_rate: bytes a second between memory and chip.
    network_rate: bytes a second in and out of one device to its neighbours.
    backend: its name in JAX.
  """

  flops: float
  memory: float
  memory_rate: float
  network_rate: float
  backend: str


# TPUs: cloud.google.com/tpu/docs (system architecture of each version;
# interconnect as stated per chip, in bits). GPUs: data sheets of the SXM
# versions; network_rate is NVLink's, one direction, so within one machine.
CHIPS = {
  "v4": Chip(275e12, 32e9, 1228e9, 2400e9 / 8, "tpu"),
  "v5e": Chip(197e12, 16e9, 819e9, 1600e9 / 8, "tpu"),
  "v5p": Chip(459e12, 95e9, 2765e9, 4800e9 / 8, "tpu"),
  "v6e": Chip(918e12, 32e9, 1640e9, 3584e9 / 8, "tpu"),
  "a100": Chip(312e12, 80e9, 2039e9, 300e9, "gpu"),
  "h100": Chip(989e12, 80e9, 3350e9, 450e9, "gpu"),
}
