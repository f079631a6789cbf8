"""Intervals of differences."""

import numpy as np
import pytest

from mtlmoe_jax.metrics import intervals


def test_clusters_are_one_piece_of_evidence_each():
  random = np.random.default_rng(0)
  of_cluster = random.normal(0.3, 1, (1, 80))
  once = intervals.clustered_interval(of_cluster, np.arange(80))
  clusters = np.repeat(np.arange(80), 25)
  often = intervals.clustered_interval(of_cluster[:, clusters], clusters)
  np.testing.assert_allclose(often, once, atol=1e-12)
  mean, low, high = often
  assert mean == pytest.approx(of_cluster.mean())
  width = 2 * 1.96 * of_cluster.std() / np.sqrt(80)
  assert high - low == pytest.approx(width, rel=0.05)
  none = intervals.clustered_interval(np.zeros((1, 0)), np.zeros(0))
  assert np.isnan(none).all()


def test_repetitions_that_differ_widen_the_interval():
  values = np.random.default_rng(1).normal(0, 1, 200) + np.zeros((3, 1))
  same = intervals.clustered_interval(values, np.arange(200))
  shift = np.array([[-0.2], [0.0], [0.2]])
  apart = intervals.clustered_interval(values + shift, np.arange(200))
  # Deviations of the mean: 1 / sqrt(200) of images, 0.2 / sqrt(3) of seeds.
  expected = np.hypot(values.std() / np.sqrt(200), 0.2 / np.sqrt(3))
  assert apart[0] == pytest.approx(same[0])
  wide, narrow = apart[2] - apart[1], same[2] - same[1]
  assert wide == pytest.approx(2 * 1.96 * expected, rel=0.15)
  assert narrow < 0.8 * wide
