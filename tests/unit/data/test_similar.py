"""Near-duplicates are found, and other photographs are not."""

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import fftpack

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.data import opening, similar
from mtlmoe_jax.data.readers.problems import Problems
from tests.support import layouts


def apart(a, b):
  return (similar.phash(a) ^ similar.phash(b)).bit_count()


def imagehash(image):
  """ImageHash 4.3's `phash`, as its source has it."""
  grey = Image.fromarray(image).convert("L")
  pixels = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS))
  low = fftpack.dct(fftpack.dct(pixels, axis=0), axis=1)[:8, :8]
  return low > np.median(low)


def test_a_hash_is_that_of_imagehash_but_for_resampling():
  for seed in range(20):
    image = layouts.picture(seed, 32, 32)
    bits = np.array([*f"{similar.phash(image):064b}"], int).reshape(8, 8)
    assert (bits != imagehash(image)).sum() <= 2


def changed(image):
  """Copies as people make them, by name."""
  small = Image.fromarray(image).resize((image.shape[1] // 2, 90))
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "JPEG", quality=30)
  yield "rescaled", np.asarray(small)
  yield "recompressed", np.asarray(Image.open(buffer))
  yield "darker", (image * 0.7).astype(np.uint8)
  yield "grey", np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


def test_copies_are_near_and_photographs_are_not(cub_dir):
  config = config_lib.default_config()
  config.data.name, config.data.path = "cub", str(cub_dir)
  source = opening.open_whole(config, Problems()).source
  some = range(0, len(source), 11)
  for i in some:
    image = source[i]["image"]
    for what, copy in changed(image):
      assert apart(image, copy) <= similar.THRESHOLD, (i, what)
  hashes, known = similar.hashes([source.paths[i] for i in some], 2)
  assert known.all()
  assert not sum(len(i) for i, _, _ in similar.pairs(hashes))


HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=30)


@given(HASHES, st.integers(0, 40), st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_pairs_and_clusters_against_naive_ones(values, threshold, block):
  values += [v ^ 3 for v in values[::3]] + values[:2]
  hashes = np.array(values, np.uint64)
  old, similar._BLOCK = similar._BLOCK, block
  try:
    found = [
      tuple(map(int, row))
      for rows in similar.pairs(hashes, threshold)
      for row in zip(*rows)
    ]
    clusters = similar.clusters(hashes, threshold)
  finally:
    similar._BLOCK = old
  naive = [
    (i, j, (a ^ b).bit_count())
    for i, a in enumerate(values)
    for j, b in enumerate(values)
    if i < j and (a ^ b).bit_count() <= threshold
  ]
  assert found == naive
  merged = list(range(len(values)))
  for i, j, _ in naive:
    merged = [merged[i] if m == merged[j] else m for m in merged]
  for i, a in enumerate(merged):
    for j, b in enumerate(merged):
      assert (a == b) == (clusters[i] == clusters[j])


def test_one_color_has_one_hash_and_turned_files_are_seen_upright(tmp_path):
  flat = [np.full((50, 70, 3), v, np.uint8) for v in (0, 9, 200)]
  assert len({similar.phash(image) for image in flat[1:]}) == 1
  image = Image.fromarray(layouts.picture(3, 300, 200))
  image.save(tmp_path / "a.jpg", quality=95)
  exif = Image.Exif()
  exif[0x0112] = 6
  image.rotate(90, expand=True).save(tmp_path / "b.jpg", quality=95, exif=exif)
  (tmp_path / "c.jpg").write_bytes(b"")
  names = [tmp_path / f"{n}.jpg" for n in "abc"]
  hashes, known = similar.hashes(names, 2)
  assert known.tolist() == [True, True, False]
  assert int(hashes[0] ^ hashes[1]).bit_count() <= 2
