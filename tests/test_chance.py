"""Accuracies of networks that guess, against the binomial distribution."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from dclib.train.chance import at_chance


@pytest.mark.parametrize("n", [16, 200, 16_000])
@pytest.mark.parametrize("chance", [25.0, 100 / 32, 0.01])
def test_who_guesses_is_at_chance_and_who_knows_half_is_not(chance: float, n: int) -> None:
    missed = sum(binom.pmf(k, n, chance / 100) for k in range(n + 1) if not at_chance(100 * k / n, chance, n))
    # three standard deviations of a normal leave 0.1 %; few expected hits have a longer tail, of which 2 % is a bound
    assert missed < 0.02
    assert at_chance(chance, chance, n)
    assert not at_chance(50 + chance, chance, n)


def test_little_above_chance_is_not_learned_however_many_images_there_are() -> None:
    assert at_chance(29.9, 25.0, 10**9)
    assert not at_chance(30.1, 25.0, 10**9)


def test_with_few_images_more_is_asked() -> None:
    assert at_chance(40.0, 25.0, 100)  # 40 hits of 25 expected: three deviations are 15
    assert not at_chance(41.0, 25.0, 100)
