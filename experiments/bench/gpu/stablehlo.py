"""Operations of a StableHLO module that a compiler keeps: a graph without calls or repetitions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jax.interpreters import mlir
from jaxlib.mlir import ir

# They make constants; an iota is one.
_CONSTANTS = ("constant", "iota")
_RETURNS = ("func.return", "stablehlo.return")


@dataclass(eq=False)
class Node:
    """An operation.

    Attributes:
        name: Without its dialect; of a custom call its target.
        operands: What it reads, and what its loop computes.
        depth: In how many loops it stands.
        custom: Whether it is a custom call.
        constant: Whether it depends on nothing.
        counted: Of a loop, whether a counter and a constant alone end it.
    """

    name: str
    operands: Sequence["Node"] = ()
    depth: int = 0
    custom: bool = False
    constant: bool = False
    counted: bool = False


def live_operations(text: str) -> list[Node]:
    """All operations that results depend on, and that depend on arguments, once each."""
    context = mlir.make_ir_context()
    with context, ir.Location.unknown(context):
        module = ir.Module.parse(text)
        functions = {
            ir.StringAttr(operation.attributes["sym_name"]).value: operation.regions[0].blocks[0]
            for operation in module.body.operations
        }
        main = functions["main"]
        arguments = [Node("argument") for _ in main.arguments]
        left = _Graph(functions).walk(main, dict(zip(main.arguments, arguments, strict=True)), 0)
    found: dict[Node, None] = {}
    while left:
        node = left.pop()
        if node not in found and not node.constant and node.name != "argument":
            found[node] = None
            left.extend(node.operands)
    return list(found)


@dataclass
class _Graph:
    """Nodes by what they compute, so that none is there twice."""

    functions: Mapping[str, Any]
    known: dict[Any, Node] = field(default_factory=dict)

    def walk(self, block: Any, values: dict[Any, Node], depth: int) -> list[Node]:
        """Adds a block's operations; returns what it returns."""
        for operation in block.operations:
            name = operation.operation.name
            operands = [values[operand] for operand in operation.operands]
            if name in _RETURNS:
                return operands
            if name == "func.call":
                callee = self.functions[operation.attributes["callee"].value]
                inner = dict(zip(callee.arguments, operands, strict=True))
                results = self.walk(callee, inner, depth)
            elif name == "stablehlo.while":
                results = self.loop(operation, operands, values, depth)
            else:
                results = self.results(operation, operands, depth)
            values.update(zip(operation.results, results, strict=True))
        return []

    def loop(
        self, operation: Any, operands: list[Node], values: dict[Any, Node], depth: int
    ) -> list[Node]:
        """A `while`: its node, which its condition and its body belong to."""
        parts, own = [], []
        for region in operation.regions:
            block = region.blocks[0]
            # What a loop carries along unchanged is no constant either: it may be another array.
            inner = [Node("argument") for _ in block.arguments]
            own.append(inner)
            parts.append(
                self.walk(block, values | dict(zip(block.arguments, inner, strict=True)), depth + 1)
            )
        (end,), body = parts
        counted = end.name == "compare" and all(
            node.constant or node in own[0] for node in end.operands
        )
        node = Node("while", [*operands, end, *body], depth, counted=counted)
        return [node] * len(operation.results)

    def results(self, operation: Any, operands: list[Node], depth: int) -> list[Node]:
        name = operation.operation.name.partition(".")[2]
        attributes = tuple((key, str(value)) for key, value in operation.attributes.items())
        custom = name == "custom_call"
        if custom:
            name = operation.attributes["call_target_name"].value
        inside = tuple(
            inner.operation.name
            for region in operation.regions
            for block in region.blocks
            for inner in block.operations
        )
        key = (
            name,
            attributes,
            tuple(map(id, operands)),
            inside,
            tuple(str(result.type) for result in operation.results),
        )
        if key not in self.known:
            constant = name in _CONSTANTS or (
                bool(operands) and not custom and all(node.constant for node in operands)
            )
            self.known[key] = Node(name, operands, depth, custom, constant)
        return [self.known[key]] * len(operation.results)
