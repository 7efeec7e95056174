"""A linear classifier on features that are there: one against the rest, its decay chosen on held-out training images.

The squared hinge loss, as Coates, Ng and Lee 2011 have it; it has one minimum. L-BFGS finds it along the axes of the
features' spread, each step divided by the spread there: as the features are, it takes thousands of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

DECAYS = (1000.0, 100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)  # tried, strong to weak
ITERATIONS = 100  # of L-BFGS at most
HISTORY = 20  # steps that L-BFGS remembers
FLOOR = 0.01  # added to the variance of a feature
TENTHS = 10
HELD_OUT = 500  # images that a decay is judged on, where there are as many


@dataclass(frozen=True)
class LinearSvm:
    """Weights (d, classes) and biases (classes,)."""

    weights: Tensor
    biases: Tensor

    def classes(self, features: Tensor) -> Tensor:
        """The class of each row, (n,) int64."""
        return (features @ self.weights + self.biases).argmax(dim=1)

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of the rows that it gets right, %."""
        return 100 * float((self.classes(features) == labels).double().mean())


def standardise_(train: Tensor, *others: Tensor) -> None:
    """Give the columns of ``train`` (n, d) mean 0 and variance near 1, and change ``others`` alike; all in place."""
    variance, mean = torch.var_mean(train, dim=0, correction=0)
    scale = (variance + FLOOR).rsqrt()
    for features in (train, *others):
        features.sub_(mean).mul_(scale)


def choose_and_fit(
    features: Tensor, labels: Tensor, n_classes: int, generator: torch.Generator
) -> tuple[LinearSvm, float]:
    """Fit with the decay that does best on held-out tenths of these images; returns that decay too.

    A tenth is held out, or several in turn, until they make 500 images. Of decays that do alike the strongest.

    Args:
        features: (n, d) float32, standardised. Never modified.
        labels: (n,) int64 in [0, n_classes).
        generator: On the CPU; draws the tenths, each even over the classes.
    """
    points, axes, squares = own_space(features)
    tenth = stratified_tenths(labels, generator)
    folds = range(min(TENTHS, -(-TENTHS * HELD_OUT // len(labels))))
    right = torch.zeros(len(DECAYS))
    for fold in folds:
        held, rest = (tenth == fold).nonzero().squeeze(1), (tenth != fold).nonzero().squeeze(1)
        fits = fit_path(points[rest], labels[rest], n_classes, DECAYS, squares)
        there = points[held], labels[held]
        right += torch.tensor([len(held) * svm.accuracy(*there) for svm in fits])
    best = int(right.argmax())  # the first of several
    svm = fit_path(points, labels, n_classes, DECAYS[: best + 1], squares)[-1]
    return LinearSvm(axes @ svm.weights, svm.biases), DECAYS[best]


def own_space(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (n, d) along the axes of their spread, (n, m); those axes, (d, m), orthonormal; mean squares on them, (m,).

    m is the smaller of n and d. The best weights lie in the span of the rows: any part outside would cost decay and
    change no image.
    """
    axes = None
    points = features
    if features.shape[0] < features.shape[1]:
        axes, coordinates = torch.linalg.qr(features.T)
        points = coordinates.T
    squares, turn = torch.linalg.eigh(points.T @ points / len(points))
    return points @ turn, turn if axes is None else axes @ turn, squares.clamp(min=0)


def stratified_tenths(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A number from 0 to 9 for each image, (n,): each tenth has the classes as all have them, to within one image."""
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    order = order[labels[order].argsort(stable=True)]  # by class, mixed within each
    tenths = torch.empty_like(labels)
    tenths[order] = torch.arange(len(labels), device=labels.device) % TENTHS
    return tenths


def fit_path(
    features: Tensor, labels: Tensor, n_classes: int, decays: Sequence[float], squares: Tensor
) -> list[LinearSvm]:
    """A classifier for each decay, each begun where the one before it ended.

    Minimises the mean over images of the squared hinge losses of all classes, plus decay / 2 times the squared
    weights; biases are free. ``squares``, the mean square of each feature, about, says how far a step may go along it,
    and changes nothing else.
    """
    sides = torch.full((len(labels), n_classes), -1.0, dtype=features.dtype, device=features.device)
    sides.scatter_(1, labels.unsqueeze(1), 1.0)
    weights = features.new_zeros(features.shape[1], n_classes)
    biases = features.new_zeros(n_classes).requires_grad_()
    found = []
    for decay in decays:
        scale = (squares + decay).rsqrt().unsqueeze(1)
        scaled = (weights / scale).requires_grad_()
        optimiser = torch.optim.LBFGS(
            [scaled, biases], max_iter=ITERATIONS, history_size=HISTORY, line_search_fn="strong_wolfe"
        )

        def objective(
            decay: float = decay,
            optimiser: torch.optim.Optimizer = optimiser,
            scale: Tensor = scale,
            scaled: Tensor = scaled,
        ) -> Tensor:
            optimiser.zero_grad()
            weights = scale * scaled
            hinges = (1 - sides * (features @ weights + biases)).clamp(min=0)
            loss: Tensor = hinges.square().sum() / len(sides) + decay / 2 * weights.square().sum()
            loss.backward()
            return loss

        optimiser.step(objective)
        weights = (scale * scaled).detach()
        found.append(LinearSvm(weights, biases.detach().clone()))
    return found
