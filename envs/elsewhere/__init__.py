"""Our environments in the interfaces of other libraries: Gymnasium's and Brax's."""

from sobolax.checks import check_structure
from sobolax.environment import Environment, actor_observations


def check_view(environment: Environment) -> None:
    """Raises ValueError for a broken protocol, and where a policy would see what it must not."""
    check_structure(environment)
    if actor_observations(environment) is not None:
        raise ValueError(
            f"environment {environment.name!r} hides a part of its observation from the policy "
            "(actor_observations), and other people's agents would see all of it: hand them one "
            "that observes no more than the policy may see"
        )
