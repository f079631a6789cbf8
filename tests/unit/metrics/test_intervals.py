"""Intervals of differences."""

import numpy as np
import pytest

from mtlmoe_jax.metrics import intervals


def test_clusters_are_one_piece_of_evidence_each():
  random = np.random.default_rng(0)
  of_cluster = random.normal(0.3, 1, 80)
  once = intervals.clustered_interval(of_cluster, np.arange(80))
  clusters = np.repeat(np.arange(80), 25)
  often = intervals.clustered_interval(of_cluster[clusters], clusters)
  np.testing.assert_allclose(often, once, atol=1e-12)
  mean, low, high = often
  assert mean == pytest.approx(of_cluster.mean())
  width = 2 * 1.96 * of_cluster.std() / np.sqrt(80)
  assert high - low == pytest.approx(width, rel=0.05)
  assert np.isnan(intervals.clustered_interval(np.zeros(0), np.zeros(0))).all()
