"""Calls that change a value in place: they are followed as if they made a new one, so the old one must not be used again."""

from __future__ import annotations

from torch import fx, nn

from .calls import MOVERS, MOVES, called

_COPIES = ("cat", "concat", "stack", "repeat", "flip", "roll")
_VIEWS = {*MOVES, "contiguous", "detach", "dropout"} - set(_COPIES)
_IDLE = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)


def check_in_place(net: nn.Module, graph: fx.Graph) -> None:
    """Raises TypeError for a call that changes in place what is used again, or by a view; or the input, or a constant."""
    memory = dict[fx.Node, fx.Node]()  #: the value that a value is a view of, or itself; numbers have none
    shown = dict[fx.Node, fx.Node | None]()  #: the last change of its memory that a value was read with
    changed = dict[fx.Node, fx.Node]()  #: memory -> its last change
    for node in graph.nodes:
        given = [value for value in node.all_input_nodes if value in memory]
        for value in given:
            if (by := changed.get(memory[value])) is not shown[value]:
                raise TypeError(f"{_said(net, by)} changes {value} in place, which {_said(net, node)} then uses: {_ADVICE}")
        if _is_number(node, given):
            continue
        changes = _in_place(net, node)
        base = memory[given[0]] if given and (changes or _is_view(net, node)) else node
        if changes:
            if base.op in ("placeholder", "get_attr"):
                kind = "the network's input" if base.op == "placeholder" else "a constant of the network"
                raise TypeError(f"{_said(net, node)} changes {base}, {kind}, in place: {_ADVICE}")
            changed[base] = node
        memory[node], shown[node] = base, changed.get(base)


_ADVICE = "make a new value, with inplace=False, x.relu() for x.relu_(), and x = x + y for x += y"


def _said(net: nn.Module, node: fx.Node | None) -> str:
    if node is None or node.op == "output":
        return "the output"
    if node.op == "call_module":
        return f"layer {node.target}, a {type(net.get_submodule(str(node.target))).__name__},"
    return f"the call of {called(node)}"


def _is_number(node: fx.Node, given: list[fx.Node]) -> bool:
    """Of a size, or computed of sizes."""
    if node.op not in ("call_function", "call_method"):
        return False
    return called(node) in ("size", "getattr") or (not given and getattr(node.target, "__module__", "") == "_operator")


def _in_place(net: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        layer = net.get_submodule(str(node.target))
        return bool(getattr(layer, "inplace", False)) and not isinstance(layer, _IDLE)
    if node.op not in ("call_function", "call_method") or called(node) == "dropout":
        return False
    name = called(node)
    return (
        name in ("iadd", "isub", "imul", "itruediv")
        or (name.endswith("_") and not name.endswith("__"))
        or bool(node.kwargs.get("inplace"))
    )


def _is_view(net: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(net.get_submodule(str(node.target)), (*MOVERS, *_IDLE))
    return node.op in ("call_function", "call_method") and called(node) in _VIEWS
