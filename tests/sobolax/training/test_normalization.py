"""Statistics of observations: those of all that were seen, and what one outlier does to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax.training import normalization

BATCH = 16


def seen(batches):
    return jax.lax.scan(
        lambda known, batch: (normalization.update(known, batch), None),
        normalization.init(batches.shape[-1]),
        batches,
    )[0]


def draws(count):
    return np.random.default_rng(0).normal(3.0, 2.0, (count, BATCH, 2)).astype(np.float32)


def test_statistics_are_those_of_everything_seen():
    batches = draws(200)
    known = jax.jit(seen)(batches)
    # Sums of 3,200 float32 numbers.
    np.testing.assert_allclose(known.mean, batches.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(normalization.deviation(known), batches.std((0, 1)), rtol=1e-5)


def test_one_state_of_a_diverging_simulation_blinds_nobody():
    batches = draws(200)
    batches[150, 3, 1] = 5e6
    known = jax.jit(seen)(batches)
    # 200 among 3,200 numbers of deviation 2: the variance is at most 4 + 200^2 / 3,200.
    deviation = normalization.deviation(known)
    assert 2 < deviation[1] < np.sqrt(4 + 200**2 / 3200) * 1.1
    np.testing.assert_allclose(deviation[0], batches[..., 0].std(), rtol=1e-5)


def test_a_number_that_stood_still_may_begin_to_move():
    """Its deviation is that of rounding until then, and grows by a hundred with each batch."""
    batches = draws(600)
    batches[:100] = 0.0
    known = jax.jit(seen)(batches)
    moving = batches[100:].std((0, 1))
    assert (np.asarray(normalization.deviation(known)) > 0.9 * moving).all()


def test_the_first_observations_count_as_they_are():
    batches = np.zeros((1, BATCH, 1), np.float32)
    batches[0, 0] = 1e6
    known = normalization.update(normalization.init(1), jnp.asarray(batches[0]))
    np.testing.assert_allclose(known.mean, 1e6 / BATCH, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (5, 4, 3), (4, 2), (), (0, 3)], ids=str)
def test_statistics_are_of_a_batch(shape):
    with pytest.raises(
        ValueError, match=r"a batch \(n, 3\) of at least one: give one as observation\[None\]"
    ):
        normalization.update(normalization.init(3), jnp.ones(shape))
