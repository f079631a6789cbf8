r"""What each device sends in a step as replicas are added.

  python benchmarks/weak_scaling.py --out=docs/scaling

Compiles the training step of a config for 1 ... 64 virtual devices, the same
number of images on each, in a row of meshes that grow along `data` alone, and
prints the messages of a step. Nothing is timed: bytes are those of the compiled
programs. Writes OUT_weak.svg.
"""

from mtlmoe_jax.planning import virtual

MOST = 64
virtual.restart_with(MOST)

import argparse  # noqa: E402
import io  # noqa: E402
import pathlib  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402

import jax  # noqa: E402
import matplotlib  # noqa: E402
import ml_collections  # noqa: E402

from mtlmoe_jax import config as config_lib  # noqa: E402
from mtlmoe_jax.devices import sharding  # noqa: E402
from mtlmoe_jax.planning import forecast  # noqa: E402
from mtlmoe_jax.utils import files  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

# Devices along `expert` and `fsdp`, which stay; `data` grows.
ROWS = {"data": (1, 1), "data, expert 4": (4, 1), "data, fsdp 4": (1, 4)}
IMAGES = 4  # of each device


def small() -> ml_collections.ConfigDict:
  """Four Lite0 experts behind three shared stages: quick to compile."""
  config = config_lib.default_config()
  config.data.image_size = 96
  config.model.experts = 4
  config.model.compute = "sparse"
  config.model.capacity_factor = 1.25
  config.model.shared_stages = 3
  config.model.norm = "group"
  return config


def measure(data: int, expert: int, fsdp: int) -> forecast.Forecast:
  """The forecast of one mesh."""
  count = data * expert * fsdp
  config = small()
  config.batch_size = IMAGES * count
  mesh = sharding.make_mesh(data, expert, fsdp, devices=jax.devices()[:count])
  return forecast.make_forecast(config, mesh, 200)


def draw(found: dict[str, list[forecast.Forecast]]) -> bytes:
  """Megabytes sent by each device against devices."""
  figure, axis = plt.subplots(figsize=(6, 3.6))
  for label, plans in found.items():
    devices = [p.devices for p in plans]
    axis.plot(devices, [p.sent / 1e6 for p in plans], "o-", label=label)
  axis.set_xscale("log", base=2)
  axis.set_xticks([2**i for i in range(7)], [str(2**i) for i in range(7)])
  highest = max(p.sent for plans in found.values() for p in plans)
  # Room for the legend.
  axis.set_ylim(0, 1.35 * highest / 1e6)
  axis.set(xlabel="devices", ylabel="MB sent by each device in a step")
  axis.grid(alpha=0.3)
  axis.legend(title="mesh grows along data", ncols=len(found), loc="upper left")
  figure.tight_layout()
  out = io.BytesIO()
  figure.savefig(out, format="svg", metadata={"Date": None})
  plt.close(figure)
  return out.getvalue()


def table(found: dict[str, list[forecast.Forecast]]) -> str:
  """Markdown."""
  lines = [
    "| mesh | devices | results of messages, MB | sent, MB | state, MB |",
    "|---|---|---|---|---|",
  ]
  for label, plans in found.items():
    for p in plans:
      size = sum(total.size for total in p.messages)
      lines.append(
        f"| {label} | {p.devices} | {size / 1e6:.2f} | {p.sent / 1e6:.2f} | "
        f"{p.state_bytes / 1e6:.1f} |"
      )
  return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
  """Flags -> a table and a plot."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", default="docs/scaling")
  parser.add_argument("--most", type=int, default=MOST)
  options = parser.parse_args(argv)
  found: dict[str, list[forecast.Forecast]] = {}
  for label, (expert, fsdp) in ROWS.items():
    data = 1
    while data * expert * fsdp <= options.most:
      found.setdefault(label, []).append(measure(data, expert, fsdp))
      print(f"{label}: {found[label][-1].devices}", file=sys.stderr, flush=True)
      data *= 2
  print(table(found))
  path = pathlib.Path(options.out)
  files.write_bytes(path.with_name(f"{path.name}_weak.svg"), draw(found))


if __name__ == "__main__":
  main()
