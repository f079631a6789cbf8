"""What experts learn, in tables and pictures.

Letters: S seeds, N experts.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtlmoe_jax.metrics import intervals
from mtlmoe_jax.reports.suite import plots_experts, wording
from mtlmoe_jax.reports.suite.document import Block, Heading, Table, Text
from mtlmoe_jax.reports.suite.findings import Findings
from mtlmoe_jax.reports.suite.plots_experts import KINDS, Studies, Study


def experts(findings: Findings) -> Iterator[Block]:
  """The section; nothing where no model with several experts was studied."""
  rows = {row.name: row for row in findings.rows}
  cells, labels = {}, {}
  for name in [*rows, *(n for n in findings.experts if n not in rows)]:
    # A single expert has nothing to divide among.
    several = [s for s in findings.experts.get(name, ()) if s.get("gates")]
    if several:
      row = rows.get(name)
      cells[wording.cell(row) if row else f"`{name}`"] = several
      labels[wording.label(row) if row else name] = several
  stable = [
    (wording.cell(rows[name]) if name in rows else f"`{name}`", found)
    for name, found in findings.stability.items()
    if found
  ]
  if not (cells or stable):
    return
  yield Heading("What experts learn")
  if cells:
    yield from _use(cells, labels)
    yield from _information(cells, labels)
    yield from _agreement(cells)
  if stable:
    yield from _stability(stable)
  if cells:
    yield from _removal(labels)
    yield from _likeness(labels)


def _use(cells: Studies, labels: Studies) -> Iterator[Block]:
  yield Heading("How they are used", 3)
  yield Text(
    "Load is an expert's share of a gate's choices, importance its share of "
    "the gate's weight. Entropy is that of a gate's choice for one image, "
    "in bits; effective experts is how many experts used evenly would be used "
    "as these are. Experts are put in order by use in each run, so some slope "
    "is there even by chance. Mean ± standard deviation over seeds."
  )
  lines = []
  for label, found in cells.items():
    for task in found[0]["gates"]:
      gates = [study["gates"][task] for study in found]
      lines.append(
        (
          label,
          task,
          _of_seeds([study["experts"] for study in found], 0),
          _same(found, "k", found[0]["tasks"].index(task))
          if task in found[0].get("tasks", ())
          else wording.UNKNOWN,
          _of_seeds([gate.get("effective_experts") for gate in gates], 2),
          _of_seeds([gate.get("entropy") for gate in gates], 2),
        )
      )
  yield Table(
    ("variation", "gate", "experts", "k", "effective experts", "entropy, bits"),
    tuple(lines),
  )
  picture = plots_experts.use("use", labels)
  if picture:
    yield picture


def _same(found: Sequence[Study], key: str, place: int) -> str:
  """A setting of a task's gate."""
  values = found[0].get(key) or ()
  return str(values[place]) if place < len(values) else wording.UNKNOWN


def _of_seeds(values: Sequence[float | None], digits: int) -> str:
  """Mean and, of several that differ, their deviation."""
  known = [v for v in map(wording.number, values) if math.isfinite(v)]
  text = wording.decimal(wording.mean(known), digits)
  if len(set(known)) > 1:
    spread = intervals.deviation(np.asarray(known))
    text += f" ± {wording.decimal(spread, digits)}"
  return text


def _information(cells: Studies, labels: Studies) -> Iterator[Block]:
  all_known = [
    (kind, gate[kind])
    for found in cells.values()
    for study in found
    for gate in study["gates"].values()
    for kind in KINDS
    if kind in gate
  ]
  kinds = [k for k in KINDS if any(k == kind for kind, _ in all_known)]
  if not kinds:
    return
  yield Heading("What their choice tells of an image", 3)
  yield Text(
    "Mutual information, in bits, of the expert that a gate gives an image and "
    "the image's group (its class, its pose ...). Zero: the choice says "
    "nothing of the group. With few images even a random choice seems to tell "
    "something: the null is the same with the groups shuffled among images, "
    "its tick the null's 95 % quantile. “Share” is what is above the null's "
    "mean, as a part of the groups' entropy: 100 would name every group."
  )
  yield Text(_above(all_known, kinds))
  picture = plots_experts.information("information", labels)
  if picture:
    yield picture
  lines = []
  for label, found in cells.items():
    for task in found[0]["gates"]:
      for kind in kinds:
        known = plots_experts.of_kind(found, task, kind)
        if known:
          lines.append((label, task, kind, *_bits(known)))
  yield Table(
    (
      "variation",
      "gate",
      "group",
      "bits",
      "null mean",
      "null 95 %",
      "share, %",
      "p, per seed",
    ),
    tuple(lines),
  )


def _above(
  known: Sequence[tuple[str, dict[str, Any]]], kinds: Sequence[str]
) -> str:
  """How many informations are above their nulls, and would be by chance."""
  parts = []
  for kind in kinds:
    pairs = [
      (wording.number(found["bits"]), wording.number(found["null_high"]))
      for k, found in known
      if k == kind
    ]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    above = sum(bits > high for bits, high in pairs)
    chance = wording.decimal(0.05 * len(pairs), 1)
    parts.append(
      f"of {len(pairs)} about {kind} **{above}** (by chance {chance})"
    )
  return (
    "Above their null's 95 % quantile, counted over variations, gates and "
    f"seeds: {'; '.join(parts)}."
  )


def _bits(known: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
  share = [100 * wording.number(found.get("share")) for found in known]
  return (
    _of_seeds([found["bits"] for found in known], 3),
    _of_seeds([found.get("null_mean") for found in known], 3),
    _of_seeds([found.get("null_high") for found in known], 3),
    _of_seeds(share, 1),
    ", ".join(wording.p_value(found.get("p")) for found in known),
  )


def _agreement(cells: Studies) -> Iterator[Block]:
  lines = []
  for label, found in cells.items():
    pairs = [study["agreement"] for study in found if study.get("agreement")]
    if pairs:
      lines.append(
        (
          label,
          *(
            _of_seeds([pair.get(key) for pair in pairs], 3)
            for key in ("divergence", "null", "same_top", "same_top_null")
          ),
        )
      )
  if not lines:
    return
  yield Heading("Whether the tasks share them", 3)
  yield Text(
    "The two gates of an image compared: the Jensen-Shannon divergence of "
    "their weights, in bits (0: the same), and the share of images whose most "
    "weighted expert is the same. The null pairs the gates of different "
    "images. A divergence below its null says that what one gate does with an "
    "image goes with what the other does; one at the null, that they choose "
    "independently of each other."
  )
  yield Table(
    ("variation", "divergence", "null", "same first expert", "null"),
    tuple(lines),
  )


def _stability(
  stable: Sequence[tuple[str, Mapping[str, Any]]],
) -> Iterator[Block]:
  yield Heading("Whether seeds divide images alike", 3)
  yield Text(
    "Experts of two seeds are matched so that they agree on as many images as "
    "possible; the agreement is the share of images that then go to matched "
    "experts, a mean over pairs of seeds. The null is the same with the images "
    "of one seed shuffled; of its 95 % quantile and of p the table has the "
    "largest of any pair. Agreement above its null: the division is the "
    "data's; at the null: every seed finds another one."
  )
  yield Table(
    ("variation", "gate", "agreement", "null mean", "null 95 %", "p", "pairs"),
    tuple(
      (
        label,
        task,
        *(
          wording.decimal(of.get(key), 3)
          for key in ("agreement", "null_mean", "null_high")
        ),
        wording.p_value(of.get("p")),
        wording.decimal(of.get("pairs"), 0),
      )
      for label, found in stable
      for task, of in found.items()
    ),
  )


def _removal(labels: Studies) -> Iterator[Block]:
  picture = plots_experts.removal("removal", labels)
  if picture:
    yield Heading("What each is needed for", 3)
    yield Text(
      "One expert is taken out of a trained model, which is not trained again; "
      "its weight goes to those that are left. Below zero: it is missed. No "
      "change: the others do the same work."
    )
    yield picture


def _likeness(labels: Studies) -> Iterator[Block]:
  picture = plots_experts.likeness("cka", labels)
  if picture:
    yield Heading("How alike they are", 3)
    yield Text(
      "CKA compares what two experts make of the same images: 1 is the same up "
      "to rotation and scale, 0 nothing in common (unbiased estimate, so also "
      "a little below)."
    )
    yield picture
