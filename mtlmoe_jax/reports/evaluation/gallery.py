"""The pictures of a report: predictions on the images they were made for.

Letters: n images of the split, L classes, N experts.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from mtlmoe_jax import data as data_lib
from mtlmoe_jax.metrics.predictions import Predictions
from mtlmoe_jax.reports import overlay
from mtlmoe_jax.reports.plots import display_name

# These counts keep a report below 8 MB whatever the images are.
SAMPLE = 24
WORST = 12
PAIRS = 6
STORED = 224  # longer side of a stored image, pixels
SHOWN = 172  # longer side as it is shown


def galleries(
  p: Predictions, source: data_lib.Source, names: Sequence[str]
) -> str:
  """HTML: an even sample, the worst classified and the worst boxes.

  Args:
    p: predictions of n images.
    source: the same n images.
    names: L class names.
  """
  key = (
    '<p class="mute key">The most probable class with its probability; the '
    "weights of the experts per gate."
    '<span><i style="border-color:var(--true)"></i>true box</span>'
    '<span><i style="border-color:var(--pred)"></i>predicted box</span></p>'
  )
  sample = spread(len(p), SAMPLE)
  parts = [
    f"<h2>A sample of the predictions</h2>{key}",
    _gallery(p, sample, source, names),
  ]
  if p.logits is not None and p.has_label.any():
    of_true = np.where(
      p.has_label,
      p.probabilities[np.arange(len(p)), np.maximum(p.labels, 0)],
      np.inf,
    )
    worst = np.argsort(of_true, kind="stable")[:WORST]
    parts += [
      "<h2>Worst classified first</h2><p class=mute>The least probability "
      "given to the true class.</p>",
      _gallery(p, worst[np.isfinite(of_true[worst])], source, names),
    ]
  if p.iou is not None and p.has_box.any():
    worst = np.argsort(p.iou, kind="stable")[:WORST]  # NaN comes last
    parts += [
      "<h2>Worst boxes first</h2><p class=mute>The least IoU.</p>",
      _gallery(p, worst[p.has_box[worst]], source, names),
    ]
  return "".join(parts)


def _gallery(
  p: Predictions,
  index: Iterable[int],
  source: data_lib.Source,
  names: Sequence[str],
) -> str:
  cards = "".join(_card(p, int(i), source, names) for i in index)
  return f"<div class=grid>{cards}</div>\n"


def _card(
  p: Predictions, i: int, source: data_lib.Source, names: Sequence[str]
) -> str:
  """One image with its boxes and what was said of it."""
  rects = ""
  if p.has_box[i]:
    rects += _rect(p.true_boxes[i], "t")
  if p.boxes is not None:
    rects += _rect(p.boxes[i], "p")
  lines = []
  if p.logits is not None:
    said = html.escape(display_name(names[p.predicted[i]], 40))
    mark = "mute"
    if p.has_label[i]:
      mark = "ok" if p.correct[i] else "no"
    sign = {"ok": "✓ ", "no": "✗ ", "mute": ""}[mark]
    probability = p.probabilities[i, p.predicted[i]]
    lines.append(
      f'<div title="{said}"><b class={mark}>{sign}{said}</b></div>'
      f"<div>probability {probability:.2f}</div>"
    )
  if p.has_label[i] and (p.logits is None or not p.correct[i]):
    name = html.escape(display_name(names[p.labels[i]], 40))
    share = ""
    if p.probabilities is not None:
      share = f" ({p.probabilities[i, p.labels[i]]:.2f})"
    lines.append(f'<div title="{name}">true: {name}{share}</div>')
  if p.iou is not None and p.has_box[i]:
    lines.append(f"<div>IoU {p.iou[i]:.2f}</div>")
  for task, gate in p.routing.items():
    if gate.probs.shape[1] > 1:
      lines.append(_gate_bar(task, gate.dense[i]))
  image = source[i]["image"]
  size = SHOWN * np.divide(image.shape[:2], max(image.shape[:2]))
  name = html.escape(p.ids[i])
  return (
    f'<figure title="{name}"><div class=frame><div class=shot style='
    f'"width:{size[1]:.0f}px;height:{size[0]:.0f}px"><img alt="{name}" '
    f'src="{_jpeg(image)}">'
    f'<svg viewBox="0 0 1 1" preserveAspectRatio=none>{rects}</svg>'
    f"</div></div><figcaption>{''.join(lines)}</figcaption></figure>"
  )


def _rect(box: np.ndarray, kind: str) -> str:
  x1, y1, x2, y2 = (float(v) for v in box)
  at = (
    f'x="{x1:.4f}" y="{y1:.4f}" width="{max(x2 - x1, 0):.4f}" '
    f'height="{max(y2 - y1, 0):.4f}"'
  )
  return f"<rect class=halo {at} /><rect class={kind} {at} />"


def _gate_bar(task: str, weights: np.ndarray) -> str:
  parts = "".join(
    f'<i style="width:{100 * weights[e]:.1f}%;'
    f'background:{overlay.expert_color(int(e))}">{e}</i>'
    for e in np.flatnonzero(weights > 0)
  )
  told = ", ".join(
    f"expert {e}: {weights[e]:.2f}" for e in np.flatnonzero(weights > 0)
  )
  return (
    f'<div class=gate title="{told}"><span>{html.escape(task)}</span>'
    f"<div class=bar>{parts}</div></div>"
  )


def _jpeg(image: np.ndarray) -> str:
  """A data URI of an image, at most STORED pixels wide and high."""
  picture = Image.fromarray(image)
  picture.thumbnail((STORED, STORED), Image.Resampling.BILINEAR)
  out = io.BytesIO()
  picture.save(out, "JPEG", quality=82)
  return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def pairs(
  p: Predictions,
  counts: np.ndarray,
  source: data_lib.Source | None,
  names: Sequence[str],
) -> str:
  """The most confused pairs, with the surest mistake and a right example."""
  wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
  order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
  lines = []
  for true, said in zip(*np.unravel_index(order, counts.shape)):
    if not wrong[true, said]:
      break
    of = counts[true].sum()
    pictures = ""
    if source is not None:
      mistaken = p.has_label & (p.labels == true) & (p.predicted == said)
      right = p.correct & (p.labels == said)
      for mask in (mistaken, right):
        best = np.argmax(np.where(mask, p.probabilities[:, said], -1))
        pictures += (
          _card(p, int(best), source, names)
          if mask.any()
          else f"<p class=mute>no image was rightly told to be "
          f"{html.escape(display_name(names[said]))}</p>"
        )
    one, other = (html.escape(display_name(names[c], 60)) for c in (true, said))
    lines.append(
      f"<div class=pair><b>{one}</b> taken for <b>{other}</b> "
      f"<span class=mute>{counts[true, said]} of {of} images "
      f"({counts[true, said] / of:.0%})</span><div>{pictures}</div></div>"
    )
  if not lines:
    return ""
  return (
    "<h2>Most confused pairs</h2><p class=mute>Left the surest mistake, "
    "right the surest image of the class it was taken for.</p>"
    f'<div class="panel pairs">{"".join(lines)}</div>\n'
  )


def spread(n: int, count: int) -> np.ndarray:
  """At most `count` positions spread evenly over range(n)."""
  return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(int))
