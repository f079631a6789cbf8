"""The messages between devices in a compiled program, from its text.

n devices of a group.
"""

import collections
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from mtlmoe_jax.errors import InputError

_KINDS = (
  "all-gather",
  "all-reduce",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
)
# `%name = TYPE all-reduce(`; an asynchronous one is a -start and a -done.
_LINE = re.compile(
  rf"= (?P<type>.+?) (?P<kind>{'|'.join(_KINDS)})(?P<start>-start)?\("
)
_ARRAY = re.compile(r"(?P<dtype>[a-z]+[0-9]*[a-z0-9]*)\[(?P<shape>[0-9,]*)\]")
_GROUPS = re.compile(r"replica_groups=\{\{(?P<first>[0-9,]+)\}")
_IOTA = re.compile(r"replica_groups=\[(?P<groups>[0-9]+),(?P<size>[0-9]+)\]")
# `mesh['data'=2,'expert'=4], device_ids=([2,4]T(1,0)) {'expert'}`, with or
# without the order of the devices; `'expert':(2)2` is the part of an axis of
# this size that stands behind another one of 2.
_MESH = re.compile(
  r"replica_groups=mesh\[(?P<mesh>[^\]]*)\](, device_ids=\(.*?\))? "
  r"\{(?P<axes>.*?)\}"
)
_AXIS = re.compile(r"'(?P<name>[^']*)'(:\([0-9]+\)(?P<part>[0-9]+))?")
_LENGTH = re.compile(r"'(?P<name>[^']*)'=(?P<length>[0-9]+)")
_BYTES = {"pred": 1, "bf16": 2}


class Collective(NamedTuple):
  """One message.

  Attributes:
    kind: as XLA calls it.
    size: bytes of its result on one device.
    group: n.
  """

  kind: str
  size: int
  group: int

  @property
  def sent(self) -> float:
    """Bytes that a device sends, by the usual ring or direct algorithms."""
    n = self.group
    if n < 2:
      return 0.0
    return (
      self.size
      * {
        "all-gather": (n - 1) / n,
        "all-reduce": 2 * (n - 1) / n,
        "all-to-all": (n - 1) / n,
        "collective-permute": 1,
        "reduce-scatter": n - 1,
      }[self.kind]
    )


def find(text: str, devices: int) -> list[Collective]:
  """All messages of a program, each once: those of a loop, too.

  Args:
    text: of the compiled program (`compiled.as_text()`).
    devices: of the whole mesh, which a message without groups takes.

  Raises:
    InputError: groups in a form that is not known here: a guess would be a
      wrong forecast.
  """
  messages = []
  for line in text.splitlines():
    match = _LINE.search(line)
    if not match:
      continue
    sizes = [
      _size(array["dtype"], array["shape"])
      for array in _ARRAY.finditer(match["type"])
    ]
    size = sum(sizes)
    # The result of a -start holds its operands, too.
    if match["start"] and match["kind"] != "all-reduce":
      size = max(sizes)
    messages.append(Collective(match["kind"], size, _group(line, devices)))
  return messages


def _size(dtype: str, shape: str) -> int:
  digits = re.search(r"[0-9]+", dtype)
  each = _BYTES.get(dtype) or int(digits[0]) // 8 if digits else 1
  return each * math.prod(int(n) for n in shape.split(",") if n)


def _group(line: str, devices: int) -> int:
  if match := _GROUPS.search(line):
    return match["first"].count(",") + 1
  if match := _IOTA.search(line):
    return int(match["size"])
  if match := _MESH.search(line):
    lengths = {m["name"]: m["length"] for m in _LENGTH.finditer(match["mesh"])}
    axes = _AXIS.finditer(match["axes"])
    return math.prod(int(m["part"] or lengths[m["name"]]) for m in axes)
  if "replica_groups=" in line and "replica_groups={}" not in line:
    raise InputError(
      f"groups of devices as {line.partition('replica_groups=')[2][:60]!r}: "
      "this XLA writes them in a form that is not known here; use a jax that "
      "setup.cfg names"
    )
  return devices


class Total(NamedTuple):
  """All messages of one kind and group.

  Attributes:
    kind: as XLA calls it.
    group: n.
    count: how many.
    size: bytes of their results on one device.
    sent: bytes that a device sends.
  """

  kind: str
  group: int
  count: int  # type: ignore[assignment]  # of tuple: nobody counts in one
  size: int
  sent: float


def totals(messages: Iterable[Collective]) -> list[Total]:
  """The messages by kind and group, the most sent first."""
  groups = collections.defaultdict(list)
  for message in messages:
    groups[message.kind, message.group].append(message)
  out = [
    Total(
      kind,
      group,
      len(members),
      sum(m.size for m in members),
      sum(m.sent for m in members),
    )
    for (kind, group), members in groups.items()
  ]
  return sorted(out, key=lambda total: -total.sent)
