"""A suite's comparison as a page in Markdown."""

import math
from collections.abc import Sequence

from mtlmoe_jax.experiments.comparison import FIGURES, Figure, Line
from mtlmoe_jax.utils import progress


def page(
  title: str,
  lines: Sequence[Line],
  command: str,
  facts: Sequence[str] = (),
  picture: str = "",
) -> str:
  """The page.

  Args:
    title: heading.
    lines: the base first.
    command: that makes the page again.
    facts: of the suite, a sentence each.
    picture: of the differences, as seen from the page.
  """
  parts = [
    f"# {title}",
    f"Written by\n\n    {command}",
    " ".join(facts),
    "Each cell: mean ± standard deviation over seeds" + _differences(lines),
  ]
  if picture:
    parts.append(f"![differences to the base]({picture})")
  parts.append(_table(lines))
  return "\n\n".join(part for part in parts if part) + "\n"


def _differences(lines: Sequence[Line]) -> str:
  """How the second figure of a cell is to be read; a full stop without any."""
  compared = [
    figure
    for line in lines[1:]
    for figure in line.figures.values()
    if not math.isnan(figure.difference)
  ]
  if not compared:
    return "."
  share = f"{sum(figure.clear for figure in compared)} of {len(compared)}"
  return (
    ", then the difference to the base with its 95 % interval, paired by seed "
    "and image and resampled over both (`experiments/statistics.py`). "
    f"**Bold**: the interval leaves zero out, which {share} do; where nothing "
    f"made a difference, about {len(compared) * 0.05:.0f} would."
  )


def _table(lines: Sequence[Line]) -> str:
  out = [
    f"| variation | {' | '.join(FIGURES)} | time of a run |",
    f"|---|{'---|' * len(FIGURES)}---|",
  ]
  group = ""
  for line in lines:
    if line.variation.group != group:
      group = line.variation.group
      out.append(f"| *{group}* |{' |' * (len(FIGURES) + 1)}")
    cells = [_cell(line.figures.get(name)) for name in FIGURES]
    seconds = line.seconds
    time = "" if math.isnan(seconds) else progress.duration(seconds)
    name = f"{line.variation.what} (`{line.variation.name}`)"
    out.append(f"| {' | '.join([name, *cells, time])} |")
  return "\n".join(out)


def _cell(figure: Figure | None) -> str:
  if figure is None:
    return ""
  text = f"{figure.mean:.3f}"
  if not math.isnan(figure.deviation):
    text += f" ± {figure.deviation:.3f}"
  if math.isnan(figure.difference):
    return text
  mark = "**" if figure.clear else ""
  return (
    f"{text}<br>{mark}{figure.difference:+.3f}{mark} "
    f"[{figure.low:+.3f}, {figure.high:+.3f}]"
  )
