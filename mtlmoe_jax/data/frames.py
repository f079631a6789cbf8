"""What the network sees of one image when it is evaluated.

Letters: B images of a batch, h w height and width of an image, S side of the
network's input.
"""

import ml_collections
import numpy as np

from mtlmoe_jax.data import resampling
from mtlmoe_jax.ops import boxes as boxes_lib

# Arrays by name, each with a row for each of B images; see `pipeline`.
Batch = dict[str, np.ndarray]
# A closer frame has at least this fraction of each side (at an edge half of
# it): of less than that the image has too few pixels.
CLOSEST = 0.2


def eval_frames(
  image: np.ndarray, config: ml_collections.ConfigDict
) -> dict[str, np.ndarray]:
  """The whole image as one frame and what other views are cut from.

  Args:
    image: u8 [h, w, 3].
    config: the whole config; `data.image_size` and `eval` are used.

  Returns:
    `image` u8 [S, S, 3]. With crops in `eval.views` also `crops`
    u8 [5, S, S, 3] and `windows` f32 [5, 4], what each shows, xyxy normalised
    to the image. With zoom in `eval.views` also `large` u8 [2 S, 2 S, 3], the
    whole image with more pixels.
  """
  size = config.data.image_size
  image = resampling.shrink(image, 2 * size)
  frames = {"image": resampling.sample(image, size)}
  if "crops" in config.eval.views:
    height, width = image.shape[:2]
    windows = five_windows(height, width, config.eval.crop_share)
    frames["crops"] = np.stack(
      [resampling.sample(image, size, window) for window in windows]
    )
    frames["windows"] = np.asarray(
      windows / np.array([width, height, width, height]), np.float32
    )
  if "zoom" in config.eval.views:
    frames["large"] = resampling.sample(image, 2 * size)
  return frames


def closer_frames(
  large: np.ndarray, boxes: np.ndarray, margin: float
) -> tuple[np.ndarray, np.ndarray]:
  """Frames around a box of each image.

  Args:
    large: u8 [B, 2 S, 2 S, 3], see `eval_frames`.
    boxes: f32 [B, 4] xyxy, normalised to the whole image.
    margin: side of a frame as a multiple of the box's.

  Returns:
    (u8 [B, S, S, 3], f32 [B, 4] what each shows, xyxy normalised to the image).
  """
  side = large.shape[1]
  windows = boxes_lib.around(boxes, margin, CLOSEST)
  pixels = np.rint(windows * side).astype(int)
  frames = [
    resampling.resize(image, side // 2, tuple(window))
    for image, window in zip(large, pixels)
  ]
  return np.stack(frames), (pixels / side).astype(np.float32)


def five_windows(
  height: int, width: int, share: float
) -> list[tuple[int, int, int, int]]:
  """The centre and the four corners (Krizhevsky et al. 2012, section 4.1).

  Args:
    height: h, pixels.
    width: w, pixels.
    share: side of a window as a share of the image's, in [0.5, 1).

  Returns:
    (x1, y1, x2, y2) of each, whole pixels. The margin left and right of the
    centre is the same, so mirrored they are the same five.
  """
  x, y = (round((1 - share) / 2 * side) for side in (width, height))
  corners = ((x, y), (0, 0), (2 * x, 0), (0, 2 * y), (2 * x, 2 * y))
  return [(a, b, a + width - 2 * x, b + height - 2 * y) for a, b in corners]


def pad(batch: Batch, batch_size: int) -> Batch:
  """Fills a batch up with rows that are not valid.

  Args:
    batch: arrays with at most `batch_size` rows.
    batch_size: B.

  Returns:
    Arrays with B rows; added ones are zero, with label and index -1.
  """
  missing = batch_size - len(batch["valid"])
  if not missing:
    return batch

  def filled(name: str, value: np.ndarray) -> np.ndarray:
    rows = np.zeros((missing, *value.shape[1:]), value.dtype)
    if name in ("label", "index"):
      rows -= 1
    return np.concatenate([value, rows])

  return {name: filled(name, value) for name, value in batch.items()}
