"""The command `sobolax`: what is installed, the device, the precision, and a self-check."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata

_NEEDED = ("sobolax", "jax", "jaxlib", "flax", "optax")
_OPTIONAL = ("mujoco", "mujoco-mjx", "brax", "orbax-checkpoint")
# The precision of float32 matrix products on each device by default.
_ROUNDED = {"gpu": "TF32 (10 bits)", "tpu": "bfloat16 (7 bits)"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what is installed and checks that it computes what it should.

    Args:
        arguments: Of the command line; None for those of the process.

    Returns:
        The exit status: 0; 1 if a check failed, or if nobody reads on and the rest is left out.

    Example:
        >>> main(["--no-checks"])
        sobolax ...
        device ...
        0
    """
    parser = argparse.ArgumentParser(
        "sobolax", description="Says what is installed and on which device, and checks itself."
    )
    parser.add_argument("--no-checks", action="store_true", help="only say what is installed")
    options = parser.parse_args(arguments)
    try:
        return _report(options.no_checks)
    except BrokenPipeError:
        # Python flushes the rest at exit, and would say there that it cannot.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _report(no_checks: bool) -> int:
    for line in (versions(), *device()):
        print(line, flush=True)
    if no_checks:
        return 0
    from sobolax.self_check import checks  # it compiles for jax, which takes a second to import

    passed = True
    for check in checks(lambda name: print(f"checking {name}", flush=True)):
        print(check, flush=True)
        passed &= check.passed
    return 0 if passed else 1


def versions() -> str:
    """The versions of what is installed, on a line.

    Example:
        >>> versions()
        'sobolax ..., jax ..., jaxlib ..., flax ..., optax ..., Python 3...'
    """
    found = [f"{name} {metadata.version(name)}" for name in _NEEDED]
    for name in _OPTIONAL:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join([*found, f"Python {platform.python_version()}"])


def device() -> tuple[str, ...]:
    """The device of JAX and the precision of its matrix products; a warning where they are rounded.

    Example:
        >>> device()[0]
        'device ...; matrix precision ...'
    """
    import jax

    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    backend, devices = jax.default_backend(), jax.devices()
    count = f"{len(devices)} x " if len(devices) > 1 else ""
    line = (
        f"device {count}{devices[0].device_kind} ({backend}); "
        f"matrix precision {precision or 'default'}"
    )
    if backend not in _ROUNDED or precision in ("highest", "float32"):
        return (line,)
    return (
        line,
        f"warning: products of float32 matrices may be rounded to {_ROUNDED[backend]}, gradients "
        "with them: set JAX_DEFAULT_MATMUL_PRECISION=highest",
    )


if __name__ == "__main__":
    sys.exit(main())
