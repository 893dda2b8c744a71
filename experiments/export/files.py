"""Files of an exported policy, and what they compute."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.export import numpy_policy
from experiments.export.network import Network

#: `(n, observation_size) -> (n, action_size)`.
Compute = Callable[[np.ndarray], np.ndarray]

_OPSET = 17
_IR_VERSION = 8  # of that opset's time: older runtimes read it


def write_numpy(path: Path, network: Network, about: Mapping[str, Any]) -> Compute:
    """Writes a `.npz` file for `numpy_policy.load`, and reads it back."""
    words: dict[str, Any] = {"activation": network.activation, "layers": len(network.layers)}
    # By a handle: NumPy would add an ending to a path without its own.
    with path.open("xb") as file:
        np.savez(file, **_arrays(network), **words, about=json.dumps(dict(about)))
    return numpy_policy.load(path)


def write_onnx(path: Path, network: Network, about: Mapping[str, Any]) -> Compute:
    """Writes an ONNX model from `observation` to `action`, float32, any number at once.

    Raises:
        ModuleNotFoundError: Without onnx or onnxruntime.
    """
    import onnx
    import onnxruntime

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    sizes = {"observation": len(network.mean), "action": len(network.layers[-1][1])}
    ends = {
        name: helper.make_tensor_value_info(name, kind, ["batch", size])
        for name, size in sizes.items()
    }
    nodes, arrays = _graph(network)
    held = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "policy", [ends["observation"]], [ends["action"]], held)
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="sobolax")
    model.ir_version = _IR_VERSION
    helper.set_model_props(model, {name: str(value) for name, value in about.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def compute(observations: np.ndarray) -> np.ndarray:
        found = session.run(["action"], {"observation": observations.astype(np.float32)})
        return np.asarray(found[0])

    return compute


#: Writers by the name that the command line knows, and endings of their files.
FORMATS: dict[str, tuple[Callable[[Path, Network, Mapping[str, Any]], Compute], str]] = {
    "onnx": (write_onnx, ".onnx"),
    "numpy": (write_numpy, ".npz"),
}


def _arrays(network: Network) -> dict[str, np.ndarray]:
    """Statistics and layers by the names that both formats give them."""
    arrays = {"mean": network.mean, "deviation": network.deviation}
    for number, (kernel, bias) in enumerate(network.layers):
        arrays |= {f"kernel_{number}": kernel, f"bias_{number}": bias}
    return arrays


def _graph(network: Network) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Nodes and the arrays that they name."""
    from onnx.helper import make_node

    arrays = {name: np.asarray(array, np.float32) for name, array in _arrays(network).items()}
    nodes = [
        make_node("Sub", ["observation", "mean"], ["centred"]),
        make_node("Div", ["centred", "deviation"], ["x_0"]),
    ]
    last = len(network.layers) - 1
    for number in range(last + 1):
        names = [f"x_{number}", f"kernel_{number}", f"bias_{number}"]
        into = f"y_{number}"
        nodes.append(make_node("Gemm", names, [into]))
        if number < last:
            more, constants = _activation(network.activation, into, f"x_{number + 1}")
            nodes += more
            arrays |= constants
    nodes.append(make_node("Tanh", [f"y_{last}"], ["action"]))
    return nodes, arrays


def _activation(name: str, x: str, y: str) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Nodes from `x` to `y`, and their constants."""
    from onnx.helper import make_node

    if name in ("tanh", "softplus"):
        return [make_node(name.capitalize(), [x], [y])], {}
    if name == "swish":
        return [make_node("Sigmoid", [x], [y + "_s"]), make_node("Mul", [x, y + "_s"], [y])], {}
    # gelu, as flax has it: with a hyperbolic tangent.
    constants = {"half": 0.5, "one": 1.0, "cubic": 0.044715, "scale": np.sqrt(2.0 / np.pi)}
    steps = [
        ("Mul", [x, x], "square"),
        ("Mul", [f"{y}_square", "cubic"], "shrunk"),
        ("Add", [f"{y}_shrunk", "one"], "factor"),
        ("Mul", [f"{y}_factor", x], "argument"),
        ("Mul", [f"{y}_argument", "scale"], "scaled"),
        ("Tanh", [f"{y}_scaled"], "tanh"),
        ("Add", [f"{y}_tanh", "one"], "sum"),
        ("Mul", [f"{y}_sum", "half"], "share"),
    ]
    nodes = [make_node(kind, names, [f"{y}_{into}"]) for kind, names, into in steps]
    nodes.append(make_node("Mul", [f"{y}_share", x], [y]))
    return nodes, {key: np.asarray(value, np.float32) for key, value in constants.items()}
