"""How a training step's cost grows with the experts N and the selected, K."""

import argparse
import dataclasses
import pathlib
import statistics
from collections.abc import Callable, Sequence

from harness import Contestant, Row
from results import Result

PREFIX = "grow_"
_N = (1, 4, 8, 16)  # against 2
_K = (2, 4, 8)  # against 1
_K_EXPERTS = 8


@dataclasses.dataclass(frozen=True)
class Point:
  """One model; quartiles are (low, median, high).

  Attributes:
    at: N or K.
    relative: quartiles of its time over that of N 2, or of K 1.
    seconds: quartiles of a step.
    images: of a step.
  """

  at: int
  relative: tuple[float, ...]
  seconds: tuple[float, ...]
  images: int


def rows(step: Callable[[str, int, int], Contestant]) -> list[Row]:
  """Pairs (small model, large model), so that drift of the machine cancels.

  Args:
    step: (model.compute, N, K) -> a contestant that takes training steps.
  """
  out = []

  def add(name: str, what: str, compute: str, large, small) -> None:
    peers = (step(compute, *small),)
    out.append(Row(PREFIX + name, what, step(compute, *large), peers))

  for compute in ("sparse", "dense"):
    for n in _N:
      what = f"train step, {compute}, k 2: time at N 2 over time at N {n}"
      add(f"{compute}_n{n}", what, compute, (n, min(n, 2)), (2, 2))
  for k in _K:
    what = f"train step, N {_K_EXPERTS}: time at k 1 over time at k {k}"
    add(f"sparse_k{k}", what, "sparse", (_K_EXPERTS, k), (_K_EXPERTS, 1))
  return out


def curves(results: Sequence[Result]) -> dict[str, list[Point]]:
  """ "sparse_n", "dense_n" and "sparse_k" -> points, sorted."""
  out = {}
  for series, base in (("sparse_n", 2), ("dense_n", 2), ("sparse_k", 1)):
    prefix = PREFIX + series
    of_series = [r for r in results if r.name.startswith(prefix)]
    points = [
      Point(
        int(r.name.removeprefix(prefix)),
        (1 / r.high, 1 / r.ratio, 1 / r.low),
        tuple(r.values[r.ours]),
        r.infos[r.ours]["images"],
      )
      for r in of_series
    ]
    if points:
      # Every row measured the base; quartile by quartile the middle one.
      times = zip(*(r.values[r.peer] for r in of_series))
      seconds = tuple(statistics.median(t) for t in times)
      points.append(Point(base, (1.0,) * 3, seconds, points[0].images))
      out[series] = sorted(points, key=lambda point: point.at)
  return out


def title(results: Sequence[Result]) -> str:
  """Which model the figures are of."""
  infos = (r.infos[r.ours] for r in results if r.name.startswith(PREFIX))
  info = next(infos)
  return f"{info['model']}, batch {info['images']}"


def table(results: Sequence[Result]) -> str:
  """Relative and absolute cost in Markdown; "" without figures."""
  lines = [
    "| model | N | k | relative time | quartiles | ms a step | quartiles | "
    "images/s | quartiles |",
    "|---" * 9 + "|",
  ]
  series = curves(results)
  for name, points in series.items():
    for p in points:
      n, k = (_K_EXPERTS, p.at) if name == "sparse_k" else (p.at, min(p.at, 2))
      low, middle, high = (f"{s * 1e3:.0f}" for s in p.seconds)
      most, rate, least = (f"{p.images / s:.1f}" for s in p.seconds)
      lines.append(
        f"| {name.partition('_')[0]} | {n} | {k} | **{p.relative[1]:.2f}** | "
        f"{p.relative[0]:.2f} ... {p.relative[2]:.2f} | {middle} | "
        f"{low} ... {high} | {rate} | {least} ... {most} |"
      )
  return "\n".join(lines) if series else ""


def plot(args: argparse.Namespace, results: Sequence[Result]) -> None:
  """Draws the curves into `--plot`, if it is given and there are any."""
  series = curves(results)
  if not args.plot or not series:
    return
  from matplotlib import figure

  drawn = figure.Figure(figsize=(9, 4), layout="constrained")
  drawn.suptitle(f"Time of a training step: {title(results)}")
  over_n, over_k = drawn.subplots(1, 2, width_ratios=(3, 2))
  for name, axes, label in (
    ("dense_n", over_n, "dense: every image through N experts"),
    ("sparse_n", over_n, "sparse: every image through 2 experts"),
    ("sparse_k", over_k, f"sparse, N = {_K_EXPERTS}"),
  ):
    if name not in series:
      continue
    points = series[name]
    low, middle, high = zip(*(p.relative for p in points))
    at = [p.at for p in points]
    # Colours of the two models, the same in both panels.
    colour = "C1" if name == "dense_n" else "C0"
    axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(at, middle, color=colour, marker="o", label=label)
  _finish(over_n, 2, "experts N (K = 2; K = 1 at N = 1)", "N = 2")
  _finish(over_k, 1, "experts per image K", "K = 1")
  pathlib.Path(args.plot).parent.mkdir(parents=True, exist_ok=True)
  drawn.savefig(args.plot, dpi=150)
  if args.plot.endswith(".png"):
    _to_palette(args.plot)


def _to_palette(path: str) -> None:
  """The same picture of 256 colors: a third of the bytes."""
  from PIL import Image

  with Image.open(path) as image:
    few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
  few.save(path, optimize=True)


def _finish(axes, base: int, across: str, relative_to: str) -> None:
  if not axes.lines:
    axes.set_visible(False)
    return
  most = max(max(line.get_xdata()) for line in axes.lines)
  axes.plot(
    (0, most), (0, most / base), ":", color="grey", label="proportional"
  )
  axes.set_xlim(0, most * 1.05)
  axes.set_ylim(0)
  axes.set_xlabel(across)
  axes.set_ylabel(f"time relative to {relative_to}")
  axes.grid(alpha=0.3)
  axes.legend()
