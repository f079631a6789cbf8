"""Photographs that are nearly the same: copies, crops of a hair, one burst.

Each is told by 64 bits of its coarse shapes, the perceptual hash of Zauner
(2010) as ImageHash's `phash` computes it; two are nearly the same where few
bits differ.

Letters: n images, m pairs.
"""

import concurrent.futures
import pathlib
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from PIL import Image
from scipy import fft, sparse
from scipy.sparse import csgraph

from mtlmoe_jax import errors
from mtlmoe_jax.data import images

# Bits that may differ: see docs/decisions.md for what that finds.
THRESHOLD = 6
# Lowest frequencies each way, of a grey image of such a side.
_BITS, _SIDE = 8, 32
# JPEG decoders shrink by up to 8 for next to nothing; not below this side.
_DRAFT = 64
# Pairs that are compared at a time: what a cache holds.
_BLOCK = 2**18


def phash(image: np.ndarray) -> int:
  """The perceptual hash of an image.

  Args:
    image: u8 [h, w, 3] RGB.

  Returns:
    64 bits: which of the 8 x 8 lowest frequencies of its 32 x 32 grey pixels
    (cosine transform) are above their median, row after row.
  """
  grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
  small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
  low = fft.dctn(small.astype(np.float64))[:_BITS, :_BITS]
  # What is 0 but for rounding, in an image of one color, is no shape.
  low = np.round(low, 6)
  bits = np.packbits((low > np.median(low)).ravel())
  return int.from_bytes(bits.tobytes(), "big")


def hashes(
  paths: Sequence[pathlib.Path], threads: int
) -> tuple[np.ndarray, np.ndarray]:
  """The hashes of image files.

  Args:
    paths: n files.
    threads: that decode side by side.

  Returns:
    (u64 [n], bool [n] whether the file could be read).
  """

  def one(path: pathlib.Path) -> int | None:
    try:
      with Image.open(path) as image:
        image.draft("RGB", (_DRAFT, _DRAFT))
        return phash(images.from_pillow(image, str(path)))
    except (errors.InputError, *images.BAD_FILE):
      return None

  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    found = list(pool.map(one, paths))
  known = np.array([value is not None for value in found], bool)
  return np.array([value or 0 for value in found], np.uint64), known


def pairs(
  hashes: np.ndarray, threshold: int = THRESHOLD
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """All pairs that differ in few bits; every two are compared.

  Args:
    hashes: u64 [n].
    threshold: bits that may differ.

  Yields:
    (i64 [m] i, i64 [m] j, u8 [m] bits that differ) with i < j, block after
    block, sorted by i and j: a camera that saw nothing all night has more
    pairs than memory.
  """
  count = len(hashes)
  rows = max(1, _BLOCK // max(1, count))
  for start in range(0, count, rows):
    block = hashes[start : start + rows, None]
    bits = np.bitwise_count(block ^ hashes[None, start:])
    i, j = np.nonzero(bits <= threshold)
    ordered = i < j
    i, j = i[ordered], j[ordered]
    yield i + start, j + start, bits[i, j]


def clusters(hashes: np.ndarray, threshold: int = THRESHOLD) -> np.ndarray:
  """Images that a chain of pairs connects.

  Args:
    hashes: u64 [n].
    threshold: bits in which two of a pair may differ.

  Returns:
    i64 [n], from 0.
  """
  # Equal ones need no pairs, of which there are most.
  different, place = np.unique(hashes, return_inverse=True)
  found = [np.stack(pair[:2]) for pair in pairs(different, threshold)]
  i, j = np.concatenate([np.zeros((2, 0), np.int64), *found], axis=1)
  edges = sparse.coo_array(
    (np.ones(len(i), bool), (i, j)), shape=(len(different),) * 2
  )
  return csgraph.connected_components(edges, directed=False)[1][place]
