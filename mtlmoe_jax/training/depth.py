"""Which unit of a backbone a parameter belongs to, told by its name.

Units are what the modules in `models/backbones` count: 0 takes the image, the
last is the head or the last norm, stages of blocks are between them (of a ViT
quarters of its blocks).
"""

import re
from typing import Any

_FIRST = re.compile(r"stem|patches|position|prefix")
_LAST = re.compile(r"head|layernorm")
_STAGE = re.compile(r"stage_(\d+)_")
_BLOCK = re.compile(r"block_(\d+)(/|$)")


def unit_of(sizes: Any, name: str) -> int:
  """The number of a parameter's unit.

  Args:
    sizes: sizes of the backbone (`models.get_backbone(NAME).sizes`).
    name: inside of the backbone, such as "block_03/expand_conv/kernel".

  Returns:
    From 0 to `sizes.last`.

  Raises:
    ValueError: a name that no backbone has.
  """
  if _FIRST.match(name):
    return 0
  if _LAST.match(name):
    return sizes.last
  if stage := _STAGE.match(name):
    return int(stage[1])
  if block := _BLOCK.match(name):
    return sizes.unit_of_block(int(block[1]))
  raise ValueError(f"parameter {name!r} belongs to no unit of a backbone")
