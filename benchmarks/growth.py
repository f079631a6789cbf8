"""How a layer's cost grows with its experts N and with those selected, K."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence

from harness import Contestant, Result, Row
from shapes import Mixture

_N = (1, 4, 8, 16)  # against 2
_K = (2, 4, 8)  # against 1
_K_EXPERTS = 8


def rows(shape: Mixture, strategy: str) -> list[Row]:
  """Pairs (small layer, large layer), so that drift of the machine cancels.

  Args:
    shape: of the layer; its experts and k are replaced.
    strategy: of the sparse layers, dropless.
  """
  out = []
  sparse = {"strategy": strategy, "capacity_factor": None}
  for name, how in (("sparse", sparse), ("dense", {"strategy": "dense"})):
    for n in _N:
      what = f"{name}, k {min(n, 2)}: time at N 2 over time at N {n}"
      sizes = ((n, min(n, 2)), (2, 2))
      out.append(_row(f"grow_{name}_n{n}", what, shape, sizes, how))
  for k in _K:
    what = f"sparse, N {_K_EXPERTS}: time at k 1 over time at k {k}"
    sizes = ((_K_EXPERTS, k), (_K_EXPERTS, 1))
    out.append(_row(f"grow_sparse_k{k}", what, shape, sizes, sparse))
  return out


def _row(
  name: str,
  what: str,
  shape: Mixture,
  sizes: Sequence[tuple[int, int]],
  how: dict,
) -> Row:
  large, small = (
    Contestant(
      f"N {n} k {k}",
      "ours.layers:mixture",
      dataclasses.replace(shape, experts=n, k=k).options(**how),
    )
    for n, k in sizes
  )
  return Row(name, what, large, (small,))


def curves(results: Sequence[Result]) -> dict[str, list[tuple[float, ...]]]:
  """Label -> points (N or K, relative cost, its quartiles), sorted."""
  series = (
    ("sparse, over N", "grow_sparse_n", 2),
    ("dense, over N", "grow_dense_n", 2),
    ("sparse, over k", "grow_sparse_k", 1),
  )
  out = {}
  for label, prefix, base in series:
    points = [
      (int(r.row.name.removeprefix(prefix)), 1 / r.ratio, 1 / r.high, 1 / r.low)
      for r in results
      if r.row.name.startswith(prefix)
    ]
    if points:
      out[label] = sorted([*points, (base, 1.0, 1.0, 1.0)])
  return out


def plot(args: argparse.Namespace, results: Sequence[Result]) -> None:
  """Draws the curves into `--plot`, if it is given."""
  if not args.plot:
    return
  from matplotlib import figure

  drawn = figure.Figure(figsize=(6, 4), layout="constrained")
  axes = drawn.subplots()
  for label, points in curves(results).items():
    x, y, low, high = zip(*points)
    axes.plot(x, y, marker="o", label=label)
    axes.fill_between(x, low, high, alpha=0.2)
  axes.set_xscale("log", base=2)
  axes.set_yscale("log", base=2)
  axes.set_xlabel("experts N (k 2), or selected k (N 8)")
  axes.set_ylabel("time, forward and backward, relative")
  axes.set_ylim(bottom=0.25)
  axes.grid(alpha=0.3)
  axes.legend()
  pathlib.Path(args.plot).parent.mkdir(parents=True, exist_ok=True)
  drawn.savefig(args.plot)
