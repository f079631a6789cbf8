import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax.ops import boxes, losses

pytestmark = pytest.mark.default_flags

LOGITS = np.array([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [-3.0, 4.0, 0.0]], "f4")
LABELS = np.array([0, 2, 0], "i4")
ALL = np.ones(3, bool)
BOXES = np.array(
  [[0.1, 0.2, 0.5, 0.9], [0.2, 0.3, 0.8, 0.5], [0.1, 0.1, 0.6, 0.8]], "f4"
)
TRUE = np.array(
  [[0.2, 0.1, 0.7, 0.6], [0.3, 0.2, 0.7, 0.8], [0.12, 0.15, 0.7, 0.78]], "f4"
)

cross_entropy = jax.jit(losses.cross_entropy)
cross_entropy_grad = jax.jit(jax.value_and_grad(losses.cross_entropy))
box_loss_grad = jax.jit(jax.value_and_grad(losses.box_loss))


def naive_cross_entropy(logits, labels, smoothing):
  total = 0.0
  for row, label in zip(np.asarray(logits, np.float64), labels):
    target = np.full(len(row), smoothing / len(row))
    target[label] += 1 - smoothing
    total -= target @ (row - np.log(np.exp(row).sum()))
  return total / len(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_is_the_naive_one(smoothing):
  assert float(cross_entropy(LOGITS, LABELS, ALL, smoothing)) == pytest.approx(
    naive_cross_entropy(LOGITS, LABELS, smoothing), rel=1e-6
  )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_two_labels_is_their_weighted_sum(smoothing):
  other, weights = np.array([1, 2, -1], "i4"), np.array([0.75, 0.5, 0.9], "f4")
  mask = np.array([True, True, False])
  found = cross_entropy(LOGITS, LABELS, mask, smoothing, other, weights)
  # Row by row: the loss of each label alone.
  rows = [
    w * naive_cross_entropy(LOGITS[i : i + 1], LABELS[i : i + 1], smoothing)
    + (1 - w)
    * naive_cross_entropy(LOGITS[i : i + 1], other[i : i + 1], smoothing)
    for i, w in enumerate(weights[:2].tolist())
  ]
  assert float(found) == pytest.approx(np.mean(rows), rel=1e-6)
  ones = np.ones(3, "f4")
  np.testing.assert_array_equal(
    cross_entropy(LOGITS, LABELS, ALL, smoothing, other, ones),
    cross_entropy(LOGITS, LABELS, ALL, smoothing),
  )


def test_cross_entropy_of_even_logits_is_log_classes():
  value = cross_entropy(np.zeros((3, 3), "f4"), LABELS, ALL, 0.1)
  assert float(value) == pytest.approx(np.log(3), rel=1e-6)


def test_cross_entropy_gradient_is_softmax_minus_target():
  _, gradient = cross_entropy_grad(LOGITS, LABELS, ALL, 0.1)
  target = 0.9 * np.eye(3)[LABELS] + 0.1 / 3
  expected = (np.asarray(jax.nn.softmax(LOGITS)) - target) / 3
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_cross_entropy_of_large_logits_is_finite(scale):
  value, gradient = cross_entropy_grad(LOGITS * scale, LABELS, ALL, 0.1)
  assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 7.0])
def test_masked_rows_count_nowhere(bad):
  mask = np.array([True, False, True])
  logits, labels = LOGITS.copy(), LABELS.copy()
  logits[1], labels[1] = bad, -1
  value, gradient = cross_entropy_grad(logits, labels, mask, 0.1)
  expected = naive_cross_entropy(LOGITS[mask], LABELS[mask], 0.1)
  assert float(value) == pytest.approx(expected, rel=1e-6)
  assert not gradient[1].any() and np.all(np.any(gradient, 1)[mask])

  pred, true = BOXES.copy(), TRUE.copy()
  pred[1], true[1] = bad, 0
  value, gradient = box_loss_grad(pred, true, mask)
  expected = np.mean(boxes.ciou_loss(BOXES[mask], TRUE[mask]))
  assert float(value) == pytest.approx(expected, rel=1e-5)
  assert not gradient[1].any() and np.all(np.any(gradient, 1)[mask])


def test_without_rows_losses_and_gradients_are_zero():
  none = np.zeros(3, bool)
  for value, gradient in (
    cross_entropy_grad(LOGITS, LABELS, none, 0.1),
    box_loss_grad(BOXES, TRUE, none),
    jax.value_and_grad(losses.masked_mean)(jnp.ones(3), none),
  ):
    assert value == 0 and not gradient.any()


def test_masked_mean():
  mask = np.array([True, False, True])
  assert losses.masked_mean(np.array([1.0, np.nan, 4.0], "f4"), mask) == 2.5


def test_uncertainty_at_zero_is_the_plain_sum():
  total = losses.uncertainty_weighted(
    {"class": jnp.float32(2), "box": jnp.float32(0.5)}, jnp.zeros(2)
  )
  assert total == 2.5


def test_uncertainty_is_least_at_log_of_twice_the_loss():
  # d/ds (L exp(-s) + s/2) = 0 at s = log(2 L).
  values = {"class": jnp.float32(2), "box": jnp.float32(0.5)}
  best = jnp.log(2 * jnp.array([2, 0.5]))
  gradient = jax.grad(losses.uncertainty_weighted, argnums=1)(values, best)
  np.testing.assert_allclose(gradient, 0, atol=1e-6)
  total = losses.uncertainty_weighted(values, jnp.array([1.0, -1.0]))
  assert float(total) == pytest.approx(2 / np.e + 0.5 * np.e, rel=1e-6)


TASKS = {"class": jnp.float32(2), "box": jnp.float32(0.5)}
AUX = {
  "class": {"importance": jnp.float32(0.4), "z": jnp.float32(jnp.inf)},
  "box": {"importance": jnp.float32(0.8), "z": jnp.float32(9)},
}


def test_total_weights_tasks_and_averages_the_gates():
  total, parts = losses.total_loss(
    TASKS,
    AUX,
    task_weights={"class": 1.0, "box": 3.0},
    aux_weights={"importance": 0.1, "z": 0.0, "load": 1.0},
  )
  assert float(total) == pytest.approx(2 + 3 * 0.5 + 0.1 * 0.6, rel=1e-6)
  assert {k: float(v) for k, v in parts.items()} == pytest.approx(
    {
      "loss_class": 2,
      "loss_box": 0.5,
      "class/loss_importance": 0.4,
      "box/loss_importance": 0.8,
      "class/loss_z": np.inf,
      "box/loss_z": 9,
    }
  )


def test_token_layers_have_a_mean_of_their_own():
  layers = {"tokens/a": {"z": 1.0}, "tokens/b": {"z": 3.0}}
  total, parts = losses.total_loss(
    {},
    {"class": {"z": 5.0}},
    task_weights={},
    aux_weights={"z": 0.1},
    token_losses=layers,
  )
  assert float(total) == pytest.approx(0.1 * (5 + (1 + 3) / 2), rel=1e-6)
  assert parts == {
    "class/loss_z": 5,
    "tokens/a/loss_z": 1,
    "tokens/b/loss_z": 3,
  }


def test_a_task_of_weight_zero_cannot_spoil_the_total():
  total, _ = losses.total_loss(
    {"class": jnp.float32(2), "box": jnp.float32(jnp.nan)},
    {},
    task_weights={"class": 1.0, "box": 0.0},
    aux_weights={},
  )
  assert total == 2


def test_total_with_learned_weights():
  log_variance = jnp.array([1.0, -1.0])
  total, parts = losses.total_loss(
    TASKS,
    AUX,
    task_weights={"class": 7.0, "box": 7.0},
    aux_weights={"importance": 1.0},
    log_variance=log_variance,
  )
  expected = losses.uncertainty_weighted(TASKS, log_variance) + 0.6
  assert float(total) == pytest.approx(float(expected), rel=1e-6)
  assert float(parts["weight_class"]) == pytest.approx(np.exp(-1), rel=1e-6)
  assert float(parts["weight_box"]) == pytest.approx(np.e, rel=1e-6)
