"""Random arrays, by seed."""

import numpy as np


def draw(seed, shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def choices(seed, batch, num_experts, k):
  """Random distinct experts [B, K]."""
  keys = np.random.default_rng(seed).random((batch, num_experts))
  return np.argsort(keys, axis=1)[:, :k].astype(np.int32)


def sample(seed, shape=(6, 4), scale=2.0):
  return (scale * np.random.default_rng(seed).normal(size=shape)).astype("f4")


EXTREME = np.array(
  [
    [1e30, -1e30, 0, 0],
    [0, 0, 0, 0],
    [-1e30, -1e30, -1e30, -1e30],
    [-np.inf, 0, -np.inf, -np.inf],
    [np.inf, np.inf, -np.inf, 1],
    [3.4e38, -3.4e38, 1e-38, 200],
  ],
  np.float32,
)
