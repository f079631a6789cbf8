"""The figures as a page in Markdown."""

from collections.abc import Sequence

import growth
from results import Result

MATMUL = "matmul_vs_torch"


def page(
  results: Sequence[Result], missing: Sequence[str] = (), picture: str = ""
) -> str:
  """All sections.

  Args:
    results: at least one, all measured alike (`origin.difference`).
    missing: names of rows that could not be measured or were not asked for.
    picture: where `growth.plot` drew, as seen from the page.
  """
  origin = results[0].origin
  rounds = sorted({r.rounds for r in results})
  parts = [
    "# Benchmark results",
    f"Written by `python benchmarks/all.py`; {origin['precision']}, "
    f"{origin['threads']} threads, {' or '.join(map(str, rounds))} rounds.",
    "A ratio is the peer's time over ours (above 1: ours is quicker), the "
    "median over alternated rounds; in brackets the quartiles. Times are "
    "medians of the rounds' medians.",
    _deviations(origin, missing),
    machine(results),
    comparisons(results),
    peers(results),
    floors(results),
    costs(results, picture),
  ]
  return "\n\n".join(part for part in parts if part) + "\n"


def _deviations(origin: dict[str, str], missing: Sequence[str]) -> str:
  out = []
  if origin["shapes"] != "full":
    out.append(f"**Shapes: {origin['shapes']}. The figures mean nothing.**")
  if missing:
    out.append(f"Not measured: {', '.join(f'`{name}`' for name in missing)}.")
  return " ".join(out)


def machine(results: Sequence[Result]) -> str:
  """What ran. Rows may come from different days and commits."""
  entries = dict(results[0].origin)
  for key in ("commit", "date"):
    rows = {}
    for r in results:
      rows.setdefault(r.origin[key], []).append(f"`{r.name}`")
    told = [f"{value} ({', '.join(names)})" for value, names in rows.items()]
    entries[key] = "; ".join(told) if len(rows) > 1 else next(iter(rows))
  return "## Machine\n\n" + "\n".join(f"- {k}: {v}" for k, v in entries.items())


def comparisons(results: Sequence[Result]) -> str:
  """Each row against its quickest peer."""
  lines = [
    "## Comparisons",
    "",
    "| row | what | ratio | quartiles | at least | ours | quickest peer | "
    "images/s, ours and peer | dropped |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for r in _compared(results):
    info, times = r.infos[r.ours], (r.median(r.ours), r.median(r.peer))
    bar = r.at_least
    cells = [
      f"`{r.name}`",
      r.what,
      f"**{r.ratio:.2f}**",
      f"{r.low:.2f} ... {r.high:.2f}",
      "" if bar is None else f"{bar:g} {'(yes)' if r.ratio >= bar else '(NO)'}",
      _quantity(r, times[0]),
      f"{_quantity(r, times[1])} ({r.peer})",
      " / ".join(f"{info['images'] / t:.1f}" for t in times)
      if "images" in info
      else "",
      f"{info['dropped']:.1%}" if "dropped" in info else "",
    ]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def peers(results: Sequence[Result]) -> str:
  """Rows with several peers: against each."""
  several = [r for r in _compared(results) if len(r.ratios) > 1]
  if not several:
    return ""
  lines = [
    "## Against each peer",
    "",
    "Above, the quickest peer counts; here is each.",
    "",
    "| row | peer | ratio | quartiles | peer's time |",
    "|---|---|---|---|---|",
  ]
  for r in several:
    for label, (low, ratio, high) in r.ratios.items():
      lines.append(
        f"| `{r.name}` | {label} | {ratio:.2f} | {low:.2f} ... {high:.2f} | "
        f"{_quantity(r, r.median(label))} |"
      )
  return "\n".join(lines)


def _compared(results: Sequence[Result]) -> list[Result]:
  return [r for r in results if not r.name.startswith(growth.PREFIX)]


def _quantity(result: Result, value: float) -> str:
  if result.quantity == "seconds":
    return f"{value * 1e3:.1f} ms"
  return f"{value / 2**20:.0f} MiB"


def floors(results: Sequence[Result]) -> str:
  """What the useful arithmetic would cost at the matrix product's rate."""
  rates = [r for r in results if r.name == MATMUL]
  if not rates:
    return ""
  r = rates[0]
  flops = r.infos[r.ours]["flops"]
  rate = flops / r.median(r.ours)
  lines = [
    "## Arithmetic floor",
    "",
    f"A large matrix product runs at {rate / 1e9:.0f} GFLOP/s in JAX and "
    f"{flops / r.median(r.peer) / 1e9:.0f} in PyTorch. The floor is the time "
    "of the useful work at JAX's rate: of the selected experts alone, the "
    "backward pass counted twice the forward one; gates, optimiser and "
    "memory traffic are free in it. The share is the floor over our time: of "
    "the peak that a program can reach here.",
    "",
    "| row | useful GFLOP | floor | ours | share of the peak | images/s |",
    "|---|---|---|---|---|---|",
  ]
  for r in _compared(results):
    info, took = r.infos[r.ours], r.median(r.ours)
    if "flops" in info and r not in rates:
      floor = info["flops"] / rate
      images = f"{info['images'] / took:.1f}" if "images" in info else ""
      lines.append(
        f"| `{r.name}` | {info['flops'] / 1e9:.1f} | {floor * 1e3:.2f} ms "
        f"| {took * 1e3:.2f} ms | {floor / took:.0%} | {images} |"
      )
  return "\n".join(lines)


def costs(results: Sequence[Result], picture: str) -> str:
  """How cost grows with experts and with those selected."""
  table = growth.table(results)
  if not table:
    return ""
  parts = [
    "## How cost grows",
    f"Whole training steps ({growth.title(results)}), one gate for both tasks. "
    "Time relative to N 2, or to k 1 at N 8, from alternated rounds of the "
    "pair: flat is 1, proportional to N would be N / 2.",
    f"![Time over N and over k]({picture})" if picture else "",
    table,
  ]
  return "\n\n".join(part for part in parts if part)
