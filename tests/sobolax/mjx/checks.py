"""What must hold for every model."""

import mujoco
import numpy as np

from tests.sobolax.mjx.harness import Harness


class Checks:
    """Tests of one `Harness`; a file of tests inherits them and has the fixture `harness`."""

    def test_the_value_is_that_of_mjx_step_to_the_last_bit(self, harness: Harness):
        ours = harness.step()
        for name, value in harness.mjx_step().items():
            np.testing.assert_array_equal(ours[name], value, err_msg=name)

    def test_forward_mode_is_the_gradient_of_mjx_step(self, harness: Harness):
        """Of positions, speeds, activations, accelerations, forces and sensors.

        By everything that moves in `data`, applied forces and mocap bodies included.
        """
        # What `STEP` says: the solver's rounding of 1e-9 or so over 3e-5, relative to gradients.
        # Conjugate gradients stop some hundred times further from the optimum.
        newton = harness.plain.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON
        for name, error in errors(harness).items():
            worst = np.nanmax(error)
            assert worst < (1e-5 if newton else 1e-3), f"{name}, by state: {error}"

    def test_reverse_mode_is_the_transpose_of_forward_mode(self, harness: Harness):
        forward = harness.derivatives["forward"]
        pulled = sum(
            np.einsum("ni,nij->nj", weights, forward[name])
            for name, weights in harness.cotangent.items()
        )
        # Sums of up to 1e3 terms in another order, of both signs.
        assert_near(harness.derivatives["reverse"], pulled, 1e-10)

    def test_the_whole_jacobian_is_that_of_forward_mode(self, harness: Harness):
        forward, size = harness.derivatives["forward"], harness.state_size
        whole = np.concatenate([forward[name] for name in ("qpos", "qvel", "act")], axis=1)
        control = whole[:, :, size : size + harness.plain.nu]
        # Other products in another order; condition numbers of the Hessians are up to 1e5.
        assert_near(harness.derivatives["state"], whole[:, :, :size], 1e-9)
        assert_near(harness.derivatives["control"], control, 1e-9)

    def test_the_whole_jacobian_comes_with_the_step(self, harness: Harness):
        ours = harness.step()
        for name, value in harness.derivatives["next_state"].items():
            # Another program, fused differently: the solver stops elsewhere in the last 1e-8.
            np.testing.assert_allclose(value, ours[name], rtol=1e-6, atol=1e-6, err_msg=name)

    def test_all_derivatives_are_finite(self, harness: Harness):
        """In both modes, though constraints are inactive, at zero, or have odd powers."""
        parts = dict(harness.derivatives)
        parts |= parts.pop("forward") | parts.pop("next_state")
        for name, value in parts.items():
            assert np.all(np.isfinite(value)), name

    def test_situations_differ(self, harness: Harness):
        """The states are of the kinds that their model is for: some rows pull, some do not."""
        force = harness.step()["efc_force"]
        if not force.size:
            return
        # MJX keeps more places for contacts of a box than a box has corners on the ground, and the
        # rod lands on one of its two ends.
        if not harness.name.startswith(("shapes", "rod")):
            assert np.any(force != 0, axis=0).all(), "a constraint that never acts"
        assert np.any(force != 0)
        if harness.plain.neq == 0 and not harness.plain.dof_frictionloss.any():
            assert np.any(force == 0), "no constraint is ever inactive"


def assert_near(value: np.ndarray, expected: np.ndarray, tolerance: float):
    """Of every state, relative to its largest entry."""
    if not value.size:
        return
    axes = tuple(range(1, value.ndim))
    scale = np.maximum(np.abs(expected).max(axis=axes, keepdims=True), 1e-2)
    np.testing.assert_allclose(value / scale, expected / scale, rtol=0, atol=tolerance)


def errors(harness: Harness) -> dict:
    """Of every part of a result, the largest error of forward mode in each state, `(STATES,)`.

    Relative to the state's largest entry of that part, and to no less than 0.01 for parts that do
    not move: that is what rounding and curvature of central differences scale with.
    """
    result = {}
    for name, difference in harness.differences.items():
        if difference.size:
            error = np.abs(harness.derivatives["forward"][name] - difference).max(axis=(1, 2))
            result[name] = error / np.maximum(np.abs(difference).max(axis=(1, 2)), 1e-2)
    # NaN where there is a kink, and no gradient to be right.
    return result
