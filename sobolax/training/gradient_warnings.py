"""What the metrics of a training say against its gradients, in words for people."""

from collections.abc import Mapping
from typing import Any

import numpy as np

#: Median relative difference of tangents to central differences that is no longer doubt of those:
#: `sobolax.training.tangent_check` judges only where theirs is at most a tenth.
LARGEST_DISAGREEMENT = 0.2
#: Share of gradients dropped above which a training is mostly plain TD learning.
LARGEST_SHARE_DROPPED = 0.5


def find_warnings(
    metrics: Mapping[str, Any], environment: str, windows: bool = False
) -> dict[str, str]:
    """Says what is wrong with gradients, if something is.

    Training only returns numbers. Call this where they reach the host, for runs whose gradients
    have weights other than zero.

    Args:
        metrics: Of a training, of any shape: of some epochs, of some runs. The worst counts.
        environment: Its name.
        windows: Whether it learned from windows, not from a replay buffer, and so has no option of
            how tangents are computed (`sobolax.training.loop.Training.gives_windows`).

    Returns:
        A text for each thing that is wrong, under the name of its metric.

    Example:
        >>> metrics = {"tangent_disagreement": [0.001, 0.5], "gradients_dropped": [0.0, 0.01]}
        >>> print(find_warnings(metrics, "cart")["tangent_disagreement"])
        environment 'cart': tangents are off by 50 % of central differences of its own steps: ...
    """
    found = {}
    disagreement = _worst(metrics, "tangent_disagreement")
    if disagreement > LARGEST_DISAGREEMENT:
        how = (
            f"are off by {100 * disagreement:.3g} % of central differences of its own steps"
            if np.isfinite(disagreement)
            else "are not finite where its own steps are"
        )
        advice = (
            "Derivatives(method='differences') does without derivatives of the simulator. Where "
            "the discount moves with the state, only first_order='reverse' has its gradient"
        )
        if windows:
            advice = (
                "agents with a replay buffer can do without derivatives of the simulator. A "
                "discount that moves with the state is held constant by this one"
            )
        found["tangent_disagreement"] = (
            f"environment {environment!r}: tangents {how}: it learns from wrong gradients. "
            f"sobolax.testing.check_environment names the entry; {advice}"
        )
    dropped = _worst(metrics, "gradients_dropped")
    if dropped > LARGEST_SHARE_DROPPED:
        found["gradients_dropped"] = (
            f"environment {environment!r}: {100 * dropped:.3g} % of all gradients were dropped, "
            "their tangents not finite or longer than tangent_bound: this is mostly plain TD "
            "learning. Scale observations and rewards to the order of one, or raise tangent_bound; "
            "if that changes nothing, they are not finite: sobolax.testing.check_environment names "
            "the entry"
        )
    dropped = _worst(metrics, "actor_gradients_dropped")
    if dropped > LARGEST_SHARE_DROPPED:
        found["actor_gradients_dropped"] = (
            f"environment {environment!r}: for {100 * dropped:.3g} % of all samples the actor had "
            "no gradient of the simulator, their fresh steps or tangents not finite or longer than "
            "tangent_bound: raise that, or choose actor_gradient='critic', which alone helps where "
            "they are not finite"
        )
    dropped = _worst(metrics, "windows_dropped")
    if dropped > LARGEST_SHARE_DROPPED:
        found["windows_dropped"] = (
            f"environment {environment!r}: {100 * dropped:.3g} % of all windows had no finite "
            "gradient, and the actor learned nothing from them: shorten the horizon, cut chains "
            "with growth_bound, or look for the entry with sobolax.testing.check_environment"
        )
    return found


def _worst(metrics: Mapping[str, Any], name: str) -> float:
    values = np.asarray(metrics.get(name, ()), float)
    return float(np.max(values, initial=0.0, where=~np.isnan(values)))
