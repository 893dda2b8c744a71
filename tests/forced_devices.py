"""Scripts on eight devices: a process decides how many it has when it starts."""

import os
import subprocess
import sys

from tests.markdown import ROOT


def run_on_eight_devices(script: str, *arguments: str) -> None:
    """Runs a script, which ends by printing `equal`, in a process with eight CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("equal\n")
