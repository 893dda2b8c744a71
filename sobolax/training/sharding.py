"""One training over several devices: environments, replay buffer and batches in equal parts.

`make_training(..., mesh=make_mesh(devices))` gives the functions that one device would have, and
their numbers to rounding. Environments, their clocks and windows lie in equal parts on the devices
of the mesh, and so do transitions, each where its environment is; every batch is split, wherever
its transitions come from. The rest (networks, optimisers, statistics, counters, keys) is the same
on all devices. XLA partitions the program (`jax.sharding`), so that agents and environments know
nothing of it.

An update costs what devices exchange for it: a reduce-scatter of the batch, which moves rows of the
buffer to the device whose share of the batch they are in, and all-reduces of gradients. The buffer
itself never moves.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sobolax.checks import check_multiple

if TYPE_CHECKING:
    from sobolax.training.state import TrainingState

T = TypeVar("T")

#: The axis of a mesh over which a training is split.
AXIS = "data"


def make_mesh(devices: int, axis: str = AXIS, what: str = "devices=") -> Mesh:
    """The first devices of this process, in a row.

    Args:
        devices: How many.
        axis: The name of the mesh's only axis.
        what: What messages call the number.

    Raises:
        ValueError: If there are fewer, or the number is not at least 1.

    Example:
        >>> make_mesh(1).axis_names, make_mesh(1).size
        (('data',), 1)
    """
    present = jax.local_devices()
    whole = isinstance(devices, int) and not isinstance(devices, bool)
    if not whole or not 1 <= devices <= len(present):
        found = f"{len(present)} {present[0].platform.upper()} device"
        hint = (
            "; XLA_FLAGS=--xla_force_host_platform_device_count=N splits the processor"
            if present[0].platform == "cpu"
            else ""
        )
        raise ValueError(
            f"{what}{devices} must be from 1 to {len(present)}: JAX finds {found}"
            f"{'s' if len(present) > 1 else ''} here{hint}"
        )
    return Mesh(np.array(present[:devices]), (axis,), axis_types=(AxisType.Auto,))


def check(owner: str, counts: Mapping[str, int], mesh: Mesh | None) -> None:
    """Checks that a training can be split over a mesh; compiles nothing.

    Args:
        owner: What messages call the training.
        counts: What is split into equal parts, by name.
        mesh: The devices; None for one.

    Raises:
        ValueError: If the mesh has no axis "data" that XLA may partition over, or a count is no
            multiple of its size.

    Example:
        >>> check("mine", {"num_envs": 16}, make_mesh(1))
        >>> check("mine", {"num_envs": 16}, 8)
        Traceback (most recent call last):
        ValueError: mine: mesh=8 must be a jax.sharding.Mesh: sobolax...make_mesh(devices) makes one
    """
    if mesh is None:
        return
    made = "sobolax.training.sharding.make_mesh(devices) makes one"
    if not isinstance(mesh, Mesh):
        raise ValueError(f"{owner}: mesh={mesh!r} must be a jax.sharding.Mesh: {made}")
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if kinds.get(AXIS) != AxisType.Auto:
        raise ValueError(
            f"{owner}: the mesh has {kinds}, but needs an axis {AXIS!r} of AxisType.Auto, over "
            f"which XLA partitions the program: {made}"
        )
    for name, count in counts.items():
        check_multiple(owner, name, count, "the number of devices", mesh.shape[AXIS])


def shardings(state: "TrainingState", mesh: Mesh, axes: int = 0) -> "TrainingState":
    """Where every array of a state lies.

    Args:
        state: The state, or its shapes (`jax.eval_shape(training.init, ...)`).
        mesh: The devices.
        axes: Leading axes of all leaves, such as one of runs that a `vmap` adds: not split.

    Returns:
        A state with a `NamedSharding` in the place of every array.

    Example:
        >>> import sobolax
        >>> from sobolax.cart import Cart
        >>> training = sobolax.make_training(Cart(), sobolax.agents.sac.Config())
        >>> hyper = sobolax.agents.sac.Hyperparameters()
        >>> state = jax.eval_shape(training.init, jax.random.key(0), hyper)
        >>> found = shardings(state, make_mesh(1))
        >>> found.clocks.spec, found.replay.rows.spec, found.key.spec
        (P('data',), P(None, 'data'), P())
    """

    def over(tree: Any, *names: str | None) -> Any:
        spec = PartitionSpec(*[None] * axes, *names) if names else PartitionSpec()
        return jax.tree.map(lambda _: NamedSharding(mesh, spec), tree)

    def of_buffer(buffer: Any) -> Any:
        return buffer and replace(over(buffer), rows=over(buffer.rows, None, AXIS))

    return replace(
        over(state),
        environments=over(state.environments, AXIS),
        clocks=over(state.clocks, AXIS),
        windows=over(state.windows, AXIS),
        replay=of_buffer(state.replay),
        plain_replay=of_buffer(state.plain_replay),
    )


def place(state: "TrainingState", mesh: Mesh, axes: int = 0) -> "TrainingState":
    """Puts a state where a training over these devices takes it; arguments of `shardings`.

    It may lie on the host, as one that a checkpoint was read into does, or on other devices.

    Example:
        >>> import sobolax
        >>> from sobolax.cart import Cart
        >>> config = sobolax.agents.sac.Config(first_order="off", hidden_sizes=(4,))
        >>> training = sobolax.make_training(Cart(), config, mesh=make_mesh(1))
        >>> init = jax.jit(training.init)
        >>> state = init(jax.random.key(0), sobolax.agents.sac.Hyperparameters())
        >>> place(state, make_mesh(1)).clocks.sharding.spec
        P('data',)
    """
    return jax.device_put(state, shardings(state, mesh, axes))


def constrain(mesh: Mesh | None, state: "TrainingState") -> "TrainingState":
    """Within a program: the state, which lies as `shardings` says from here on.

    Example:
        >>> constrain(None, "of one device")
        'of one device'
    """
    if mesh is None:
        return state
    return jax.lax.with_sharding_constraint(state, shardings(state, mesh))


def divides(mesh: Mesh | None, count: int) -> bool:
    """Whether a count can be split into equal parts over a mesh; over None there is nothing to.

    Example:
        >>> divides(make_mesh(1), 3), divides(None, 3)
        (True, False)
    """
    return mesh is not None and count % mesh.shape[AXIS] == 0


def split(mesh: Mesh | None, tree: T) -> T:
    """Within a program: the arrays, in equal parts along their first axis.

    Example:
        >>> jax.jit(lambda x: split(make_mesh(1), x))(jnp.arange(2)).tolist()
        [0, 1]
    """
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def copy(mesh: Mesh | None, tree: T) -> T:
    """Within a program: the arrays, whole on every device.

    Example:
        >>> jax.jit(lambda x: copy(make_mesh(1), x))(jnp.arange(2)).tolist()
        [0, 1]
    """
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def take(mesh: Mesh | None, rows: jax.Array, index: jax.Array) -> jax.Array:
    """Items of a buffer, in equal parts: each device gets its share of them, wherever they lie.

    Every device looks up what it has of all items, and a reduce-scatter brings them together.

    Args:
        mesh: The devices; None for one.
        rows: `(blocks, width, words)` uint32, of which each device has some of the width.
        index: Numbers of items, block by block, `(count,)`.

    Returns:
        `(count, words)`.

    Example:
        >>> rows = jnp.arange(6, dtype=jnp.uint32).reshape(3, 2, 1)
        >>> take(None, rows, jnp.array([5, 0])).ravel().tolist()
        [5, 0]
        >>> jax.jit(lambda rows: take(make_mesh(1), rows, jnp.array([5, 0])))(rows).ravel().tolist()
        [5, 0]
    """
    block, column = jnp.divmod(index, rows.shape[1])
    if mesh is None:
        return rows[block, column]

    def look_up(own: jax.Array, block: jax.Array, column: jax.Array) -> jax.Array:
        width = own.shape[1]
        column = column - jax.lax.axis_index(AXIS) * width
        here = (column >= 0) & (column < width)
        found = own[block, jnp.clip(column, 0, width - 1)]
        # One device has an item, and the others add zeros: no bit of it changes.
        return jax.lax.psum_scatter(jnp.where(here[:, None], found, 0), AXIS, tiled=True)

    return jax.shard_map(
        look_up,
        mesh=mesh,
        in_specs=(PartitionSpec(None, AXIS), PartitionSpec(), PartitionSpec()),
        out_specs=PartitionSpec(AXIS),
    )(rows, block, column)
