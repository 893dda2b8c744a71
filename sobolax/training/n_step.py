"""Several steps as one: n-step targets, whose tangents are chained over the n steps.

The n-step target of Q-learning and actor-critics (Watkins, 1989; Rainbow, arXiv 1710.02298) is

    y = r_0 + gamma r_1 + ... + gamma^(m-1) r_(m-1) + gamma^m d V(o_m),

with `m = n`, or fewer where the episode ends before. Written as a transition with the reward
`r_0 + ... + gamma^(m-1) r_(m-1)`, the discount `gamma^(m-1) d` and the next observation `o_m`, any
TD error of one step is one of n steps, and so are its gradients: the tangents of this transition
are those of the composed map, with the later actions held fixed as they were taken. Where an
environment discounts steps itself, by less than 1, the discounts of the steps before multiply every
term, and `d` is the product of all.

An entropy bonus (SAC) is no reward of the environment: it comes with `V(o_m)`, once for the n
steps. The bonuses of the steps between are left out, and the critic is of that return.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from sobolax.environment import Environment, State


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stretch:
    """Where several steps start, and what is done in them after the first action.

    Attributes:
        state: State of the environment at the start.
        later_actions: Actions after the first, `(n - 1, action_size)`.
        steps: How many steps count, 1 to `n`, `()` int32.
        discount: gamma, `()`.

    Example:
        >>> from sobolax.cart import Cart
        >>> start = start_of(Cart().at(1.0, 0.0), jnp.zeros((1, 1)), jnp.array(2), jnp.array(0.5))
        >>> type(start.physics).__name__, int(start.physics.steps)
        ('Stretch', 2)
    """

    state: State
    later_actions: jax.Array
    steps: jax.Array
    discount: jax.Array


class MultiStep:
    """An environment whose one step is up to `n` steps of another.

    Its physics is a `Stretch`, so that everything that differentiates a step differentiates n of
    them. The discount of a state after a step is `gamma^(m-1) d`, with the product of the m steps'
    own discounts for `d`.

    Args:
        environment: The environment.
        steps: `n`.

    Example:
        >>> from sobolax.cart import Cart
        >>> start = start_of(Cart().at(1.0, 0.0), jnp.zeros((1, 1)), jnp.array(2), jnp.array(0.5))
        >>> end = MultiStep(Cart(), 2).step(start, jnp.ones(1))
        >>> float(end.reward), end.observation.tolist()  # -1.25^2 - 0.5 * 1.5^2
        (-2.6875, [1.5, 0.5])
    """

    def __init__(self, environment: Environment, steps: int):
        self.environment, self.steps = environment, steps
        self.name = environment.name
        self.observation_size = environment.observation_size
        self.action_size = environment.action_size
        self.state_size = environment.state_size
        self.episode_length = environment.episode_length
        self.reverse_mode = environment.reverse_mode

    def reset(self, key: jax.Array) -> State:
        """A stretch of one step from a first state."""
        state = self.environment.reset(key)
        dtype = state.observation.dtype
        later = jnp.zeros((self.steps - 1, self.action_size), dtype)
        return start_of(state, later, jnp.ones((), jnp.int32), jnp.ones((), dtype))

    def step(self, state: State, action: jax.Array) -> State:
        """Takes `action` and then the later ones, as many as count."""
        stretch: Stretch = state.physics
        first = self.environment.step(stretch.state, action)
        share = jnp.ones((), first.reward.dtype)

        def more(carry, item):
            current, reward, share = carry
            number, later = item
            goes_on = (number < stretch.steps) & (current.discount > 0)
            # A step that does not count starts where one did: beyond the end of an episode its
            # derivative may be NaN, which reverse mode would bring back through the choice below.
            sound = jax.tree.map(lambda a, b: jnp.where(goes_on, a, b), current, stretch.state)
            next_state = self.environment.step(sound, later)
            chosen = jax.tree.map(lambda a, b: jnp.where(goes_on, a, b), next_state, current)
            share = jnp.where(goes_on, share * stretch.discount * sound.discount, share)
            reward = reward + jnp.where(goes_on, share * next_state.reward, 0.0)
            return (chosen, reward, share), None

        (last, reward, share), _ = jax.lax.scan(
            more,
            (first, first.reward, share),
            (jnp.arange(1, self.steps), stretch.later_actions),
        )
        discount = share * last.discount
        return State(replace(stretch, state=last), last.observation, reward, discount, {})

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Moves the first state; the later actions stay."""
        moved = self.environment.perturb(state.physics.state, displacement)
        physics = replace(state.physics, state=moved)
        return replace(state, physics=physics, observation=moved.observation)


def start_of(
    state: State, later_actions: jax.Array, steps: jax.Array, discount: jax.Array
) -> State:
    """The state of a `MultiStep` from which its next step takes these actions.

    Example:
        >>> from sobolax.cart import Cart
        >>> start = start_of(Cart().at(1.0, 0.0), jnp.zeros((1, 1)), jnp.array(2), jnp.array(0.5))
        >>> start.observation.tolist(), start.physics.later_actions.shape
        ([1.0, 0.0], (1, 1))
    """
    stretch = Stretch(state, later_actions, steps, discount)
    zero = jnp.zeros_like(state.reward)
    return State(stretch, state.observation, zero, zero + 1, {})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Window:
    """The last `n` steps of one environment, the oldest first.

    Attributes:
        states: States before each step, leading axis `n`.
        actions: `(n, action_size)`.
        ended: Whether the episode ended with that step, for good or not, `(n,)` bool.

    Example:
        >>> from sobolax.cart import Cart
        >>> open_window(Cart().at(0.0, 0.0), action_size=1, steps=3).actions.shape
        (3, 1)
    """

    states: State
    actions: jax.Array
    ended: jax.Array


def open_window(state: State, action_size: int, steps: int) -> Window:
    """A window of the right shape, holding nothing that has happened.

    Example:
        >>> from sobolax.cart import Cart
        >>> open_window(Cart().at(0.0, 0.0), action_size=1, steps=3).states.observation.shape
        (3, 2)
    """
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (steps, *leaf.shape)), state)
    return Window(
        states, jnp.zeros((steps, action_size), state.observation.dtype), jnp.zeros(steps, bool)
    )


def push(window: Window, state: State, action: jax.Array, ended: jax.Array) -> Window:
    """Takes in a step and drops the oldest.

    Example:
        >>> from sobolax.cart import Cart
        >>> window = open_window(Cart().at(0.0, 0.0), action_size=1, steps=3)
        >>> window = push(window, Cart().at(1.0, 0.0), jnp.ones(1), jnp.zeros((), bool))
        >>> window.actions.tolist()
        [[0.0], [0.0], [1.0]]
    """
    return jax.tree.map(
        lambda old, new: jnp.concatenate([old[1:], new[None]]),
        window,
        Window(state, action, ended),
    )


def oldest(window: Window, discount: jax.Array) -> tuple[State, jax.Array]:
    """The oldest step of a window as the start of a `MultiStep`, and its action.

    It reaches to the newest step, or to the end of its episode.

    Example:
        >>> from sobolax.cart import Cart
        >>> window = open_window(Cart().at(0.0, 0.0), action_size=1, steps=3)
        >>> start, action = oldest(window, discount=0.9)
        >>> int(start.physics.steps), action.tolist()
        (3, [0.0])
    """
    count = window.ended.shape[0]
    steps = jnp.where(jnp.any(window.ended), jnp.argmax(window.ended) + 1, count)
    state = jax.tree.map(lambda leaf: leaf[0], window.states)
    start = start_of(
        state,
        window.actions[1:],
        steps.astype(jnp.int32),
        jnp.asarray(discount, state.reward.dtype),
    )
    return start, window.actions[0]
