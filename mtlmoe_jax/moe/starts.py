"""Where a router starts: what it should tell apart, found before training.

A router that starts near 0 sends images anywhere, its experts learn the same,
and nothing is left to choose by. One that starts from a linear discriminant of
the classes, or from clusters of the images, has experts that see different
images from the first step on. Both are closed forms of features that are known
before training, in NumPy and float64; the same features, labels and seed give
the same router.

A router takes features z [F], standardized by `moments`. A linear one has
logits z W + b, a cosine one s cos(z P + a, c_i).

Letters: n images, F features, N experts, L classes, P projected features.
"""

import dataclasses

import numpy as np

Array = np.ndarray

# Directions in which clusters are looked for.
DIRECTIONS = 16
# Mean of the largest probability: sharp enough to part the images, soft enough
# to learn (0.7 and 0.95 part them 0.8 and 1.1 times as well with two experts).
SHARPNESS = 0.85
# Shares of the mean variance added to every direction's; the one that tells
# held-out images apart best is taken.
SHRINKAGES = (0.01, 0.05, 0.2, 1.0, 5.0)
_FOLDS = 5
# Features are reduced to so many principal ones before the discriminant.
_COMPONENTS = 256
_RESTARTS = 8
_ROUNDS = 30
_SINKHORN_ROUNDS = 40
# Of the mean squared distance: what softens balanced assignments.
_SOFTNESS = 0.02


@dataclasses.dataclass(frozen=True)
class Fit:
  """What a router is made of.

  Attributes:
    projection: f64 [F, P].
    offset: f64 [P], added to the projection.
    centers: f64 [N, P], one for each expert.
    scores: f64 [n, N], similarity of images and centers, found without the
      image's own label where labels were used.
    spherical: whether similarities are cosines.
  """

  projection: Array
  offset: Array
  centers: Array
  scores: Array
  spherical: bool


@dataclasses.dataclass(frozen=True)
class Linear:
  """A linear router: logits z kernel + bias.

  Attributes:
    kernel: f64 [F, N].
    bias: f64 [N].
  """

  kernel: Array
  bias: Array


@dataclasses.dataclass(frozen=True)
class Cosine:
  """A cosine router: logits scale cos(z projection + offset, prototypes).

  Attributes:
    projection: f64 [F, P].
    offset: f64 [P].
    prototypes: f64 [P, N].
    scale: above 0.
  """

  projection: Array
  offset: Array
  prototypes: Array
  scale: float


def moments(features: Array) -> tuple[Array, Array]:
  """Mean and deviation [F] of features [n, F]; of a constant one 1."""
  x = np.asarray(features, np.float64)
  mean, std = x.mean(0), x.std(0)
  return mean, np.where(std > 1e-6 * np.maximum(np.abs(mean), 1), std, 1.0)


def kmeans(z: Array, experts: int, seed: int, spherical: bool = False) -> Fit:
  """Clusters of equal size in the first principal directions; no labels.

  Args:
    z: [n, F], n at least N.
    experts: N.
    seed: of the first centers.
    spherical: for a cosine router.
  """
  z = np.asarray(z, np.float64)
  mean = z.mean(0)
  projection = _principal(z - mean, DIRECTIONS)
  x = (z - mean) @ projection
  points = _unit(x) if spherical else x
  shares = balanced_kmeans(points, experts, seed)
  centers = _means(points, shares)
  scores = _similarity(x, centers, spherical)
  return Fit(projection, -mean @ projection, centers, scores, spherical)


def discriminant(
  z: Array, labels: Array, experts: int, seed: int, spherical: bool = False
) -> Fit:
  """Clusters of the classes in the directions that tell classes apart.

  Fisher's linear discriminant: features are whitened by the covariance within
  classes, to which a share of its mean variance is added, and the leading
  directions of the class means are kept. The classes' means are clustered into
  groups with equal numbers of images; with fewer classes than experts the
  images are clustered instead. The share, and the similarities that the router
  is calibrated by, are those of images that the discriminant did not see
  (five folds): on its own images it is as good as it likes where classes have
  few of them.

  Args:
    z: [n, F].
    labels: i [n]; negative: none, and the image does not count.
    experts: N.
    seed: of folds and first centers.
    spherical: for a cosine router.

  Raises:
    ValueError: fewer than two classes, or fewer images than experts.
  """
  z, labels = np.asarray(z, np.float64), np.asarray(labels)
  z, labels = z[labels >= 0], labels[labels >= 0]
  _, labels = np.unique(labels, return_inverse=True)
  classes = int(labels.max(initial=-1)) + 1
  if classes < 2 or len(z) < experts:
    raise ValueError(f"{classes} classes and {len(z)} images: too few")
  mean = z.mean(0)
  reduction = _principal(z - mean, _COMPONENTS)
  reduced = (z - mean) @ reduction
  fold = _folds(labels, seed)
  shrinkage = _best_shrinkage(reduced, labels, fold)
  projection = _directions(reduced, labels, (shrinkage,))[0]
  x = reduced @ projection
  points = _unit(x) if spherical else x
  if classes >= experts:
    counts = np.bincount(labels)
    shares = balanced_kmeans(
      _class_means(points, labels), experts, seed, counts
    )[labels]
  else:
    shares = balanced_kmeans(points, experts, seed)
  scores = np.zeros((len(z), experts))
  for held, fitted in _parts(fold):
    own = _directions(reduced[fitted], labels[fitted], (shrinkage,))[0]
    seen, unseen = reduced[fitted] @ own, reduced[held] @ own
    centers = _means(_unit(seen) if spherical else seen, shares[fitted])
    scores[held] = _similarity(unseen, centers, spherical)
  whole = reduction @ projection
  centers = _means(points, shares)
  return Fit(whole, -mean @ whole, centers, scores, spherical)


def linear_router(fit: Fit, sharpness: float = SHARPNESS) -> Linear:
  """The linear router of a fit, see `calibrate`."""
  scale, bias = calibrate(fit.scores, sharpness)
  kernel = scale * fit.projection @ fit.centers.T
  squares = (fit.centers**2).sum(1) / 2
  return Linear(kernel, bias + scale * (fit.centers @ fit.offset - squares))


def cosine_router(fit: Fit, sharpness: float = SHARPNESS) -> Cosine:
  """The cosine router of a fit: as sharp, but without a bias to balance by."""
  scale, _ = calibrate(fit.scores, sharpness, balanced=False)
  return Cosine(fit.projection, fit.offset, fit.centers.T, scale)


def calibrate(
  scores: Array, sharpness: float = SHARPNESS, balanced: bool = True
) -> tuple[float, Array]:
  """Scale and bias with which a softmax of scores is sharp and balanced.

  Args:
    scores: [n, N].
    sharpness: wanted mean of the largest probability, below 1; as much of it
      as the scores have.
    balanced: whether each expert is to have the mean probability 1 / N.

  Returns:
    (scale, bias [N]): softmax(scale scores + bias) is as wanted.
  """
  experts = scores.shape[1]
  spread = scores.std()
  if experts == 1 or not spread > 0:
    return 1.0, np.zeros(experts)
  low, high = np.log(1e-3 / spread), np.log(1e4 / spread)
  bias = np.zeros(experts)
  for _ in range(40):
    middle = (low + high) / 2
    bias = _balancing_bias(np.exp(middle) * scores) if balanced else bias
    probs = _softmax(np.exp(middle) * scores + bias)
    if probs.max(1).mean() < sharpness:
      low = middle
    else:
      high = middle
  return float(np.exp(middle)), bias


def balanced_kmeans(
  points: Array, clusters: int, seed: int, weights: Array | None = None
) -> Array:
  """K-means whose clusters weigh the same, or nearly where they lie far apart.

  Lloyd's rounds with an entropic optimal transport (Cuturi 2013) in place of
  the nearest center; of several first centers (k-means++) the best are kept.

  Args:
    points: [n, P].
    clusters: N, at most n.
    seed: of the first centers.
    weights: [n], of the points; None: all weigh the same.

  Returns:
    f64 [n, N], how much of each point is in each cluster; rows sum to 1.

  Raises:
    ValueError: fewer points than clusters.
  """
  points = np.asarray(points, np.float64)
  if len(points) < clusters:
    raise ValueError(f"{len(points)} points: fewer than {clusters} clusters")
  mass = np.ones(len(points)) if weights is None else np.asarray(weights)
  mass = mass / mass.sum()
  random = np.random.default_rng(seed)
  best, least = np.full((len(points), clusters), 1 / clusters), np.inf
  for _ in range(_RESTARTS):
    centers = _first_centers(points, clusters, mass, random)
    for _ in range(_ROUNDS):
      distances = _squared_distances(points, centers)
      shares = _transport(distances, mass)
      centers = _means(points, shares * mass[:, None])
    cost = float((shares * mass[:, None] * distances).sum())
    if cost < least * (1 - 1e-9):
      best, least = shares, cost
  return best


def _transport(distances: Array, mass: Array) -> Array:
  """Shares [n, N] of points whose columns weigh the same, by Sinkhorn."""
  clusters = distances.shape[1]
  scale = _SOFTNESS * max(float(distances.mean()), 1e-300)
  # Subtracting a row's least changes no transport and avoids underflow.
  kernel = np.exp(-(distances - distances.min(1, keepdims=True)) / scale)
  kernel = np.maximum(kernel, 1e-200)
  columns = np.ones(clusters)
  for _ in range(_SINKHORN_ROUNDS):
    rows = mass / (kernel @ columns)
    columns = (1 / clusters) / (rows @ kernel)
  plan = kernel * columns
  return plan / plan.sum(1, keepdims=True)


def _first_centers(
  points: Array, clusters: int, mass: Array, random: np.random.Generator
) -> Array:
  """k-means++ (Arthur & Vassilvitskii 2007): far points are likelier."""
  chosen = [random.choice(len(points), p=mass)]
  while len(chosen) < clusters:
    near = _squared_distances(points, points[chosen]).min(1) * mass
    total = near.sum()
    chances = near / total if total > 0 else mass
    chosen.append(random.choice(len(points), p=chances))
  return points[chosen]


def _best_shrinkage(x: Array, labels: Array, fold: Array) -> float:
  """The share that gets most held-out images to their class's mean."""
  right = np.zeros(len(SHRINKAGES))
  for held, fitted in _parts(fold):
    found = _directions(x[fitted], labels[fitted], SHRINKAGES)
    for i, projection in enumerate(found):
      means = _class_means(x[fitted] @ projection, labels[fitted])
      far = np.isnan(means).any(1)
      distances = _squared_distances(x[held] @ projection, means)
      nearest = np.where(far, np.inf, distances).argmin(1)
      right[i] += np.sum(nearest == labels[held])
  return SHRINKAGES[int(right.argmax())]


def _directions(
  x: Array, labels: Array, shrinkages: tuple[float, ...]
) -> list[Array]:
  """Projections [F, P] of Fisher's discriminant, one for each shrinkage."""
  means = _class_means(x, labels)
  residuals = x - means[labels]
  within = residuals.T @ residuals / max(len(x) - len(means), 1)
  values, vectors = np.linalg.eigh(within)
  mean_variance = max(float(values.mean()), 1e-12)
  counts = np.bincount(labels, minlength=len(means))
  seen = counts > 0
  apart = (means[seen] - x.mean(0)) * np.sqrt(counts[seen])[:, None]
  keep = min(DIRECTIONS, int(seen.sum()) - 1)
  found: list[Array] = []
  for shrinkage in shrinkages:
    spread = np.maximum(values, 0) + shrinkage * mean_variance
    whitening = vectors / np.sqrt(spread)
    leading = np.linalg.svd(apart @ whitening, full_matrices=False)[2]
    found.append(whitening @ leading[:keep].T)
  return found


def _folds(labels: Array, seed: int) -> Array:
  """A fold of each image; those of a class are spread over all."""
  order = np.random.default_rng(seed).permutation(len(labels))
  order = order[np.argsort(labels[order], kind="stable")]
  fold = np.empty(len(labels), int)
  fold[order] = np.arange(len(labels)) % _FOLDS
  return fold


def _parts(fold: Array) -> list[tuple[Array, Array]]:
  """(held out, fitted) of each fold that has images on both sides."""
  masks = [fold == i for i in range(_FOLDS)]
  return [(m, ~m) for m in masks if m.any() and not m.all()]


def _principal(centered: Array, count: int) -> Array:
  """The first principal directions [F, P]; no more than there are images."""
  vectors = np.linalg.eigh(centered.T @ centered)[1][:, ::-1]
  return vectors[:, : min(count, *centered.shape)]


def _class_means(x: Array, labels: Array) -> Array:
  """Mean [L, P] of each class; NaN of one without images."""
  counts = np.bincount(labels)
  sums = np.zeros((len(counts), x.shape[1]))
  np.add.at(sums, labels, x)
  with np.errstate(invalid="ignore"):
    return sums / counts[:, None]


def _means(points: Array, shares: Array) -> Array:
  """Weighted mean [N, P] of each cluster; 0 of an empty one."""
  total = shares.sum(0)[:, None]
  return shares.T @ points / np.where(total > 0, total, 1.0)


def _similarity(x: Array, centers: Array, spherical: bool) -> Array:
  """[n, N]: cosines, or minus half the squared distance up to |x|^2 / 2."""
  if spherical:
    return _unit(x) @ _unit(centers).T
  return x @ centers.T - (centers**2).sum(1) / 2


def _squared_distances(x: Array, centers: Array) -> Array:
  squares = (x**2).sum(1)[:, None] - 2 * x @ centers.T + (centers**2).sum(1)
  return np.maximum(squares, 0)


def _unit(x: Array) -> Array:
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _softmax(logits: Array) -> Array:
  exp = np.exp(logits - logits.max(1, keepdims=True))
  return exp / exp.sum(1, keepdims=True)


def _balancing_bias(logits: Array) -> Array:
  """The bias [N] that gives every expert the same mean probability."""
  bias = np.zeros(logits.shape[1])
  for _ in range(200):
    share = _softmax(logits + bias).mean(0) * len(bias)
    if np.abs(share - 1).max() < 1e-4:
      break
    bias -= np.log(np.maximum(share, 1e-12))
  return bias - bias.mean()
