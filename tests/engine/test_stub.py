"""The stub `_engine.pyi` and the module say the same: names, signatures, attributes."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import strogoff
from strogoff import _engine

STUB = ast.parse((Path(strogoff.__file__).parent / "_engine.pyi").read_text())
# What is a `TypedDict` is there for type checkers alone.
# Exceptions are for deriving from and come with the members of their bases.
CLASSES = {
    node.name: node
    for node in STUB.body
    if isinstance(node, ast.ClassDef) and not node.keywords and not node.name.endswith("Error")
}


def exported() -> list[str]:
    for node in STUB.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            names = ast.literal_eval(node.value)
            assert isinstance(names, list)
            return names
    raise AssertionError("the stub has no __all__")


def methods(of: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    return (node for node in of.body if isinstance(node, ast.FunctionDef))


def attributes(of: ast.ClassDef) -> set[str]:
    return {node.target.id for node in of.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}


def has_default(stub: ast.FunctionDef) -> dict[str, bool]:
    """The parameters of a stub with whether they may be left out; `*` stands where keywords begin."""
    plain = stub.args.posonlyargs + stub.args.args
    if plain and plain[0].arg == "self":
        plain = plain[1:]
    optional = len(stub.args.defaults)
    found = {each.arg: index >= len(plain) - optional for index, each in enumerate(plain)}
    if stub.args.kwonlyargs:
        found["*"] = True
    found |= {
        each.arg: default is not None for each, default in zip(stub.args.kwonlyargs, stub.args.kw_defaults, strict=True)
    }
    if stub.args.kwarg is not None:
        found[stub.args.kwarg.arg] = False
    return found


def signature_of(function: object) -> dict[str, bool]:
    parameters = list(inspect.signature(function).parameters.values())  # type: ignore[arg-type]
    found: dict[str, bool] = {}
    for each in parameters:
        if each.name == "self":
            continue
        if each.kind is inspect.Parameter.KEYWORD_ONLY:
            found.setdefault("*", True)
        found[each.name] = each.default is not inspect.Parameter.empty
    return found


def test_the_module_has_every_name_of_the_stub_and_no_other() -> None:
    public = {name for name in vars(_engine) if not name.startswith("_")}
    assert public == set(exported()) | {"HOOKS"}
    assert set(CLASSES) <= set(exported())


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_class_has_the_members_of_its_stub_and_no_others(name: str) -> None:
    real, stub = getattr(_engine, name), CLASSES[name]
    told = {each.name for each in methods(stub) if each.name != "__init__"} | attributes(stub)
    assert {each for each in vars(real) if not each.startswith("_")} == told


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_methods_take_what_their_stubs_say(name: str) -> None:
    real = getattr(_engine, name)
    for stub in methods(CLASSES[name]):
        function = real if stub.name == "__init__" else getattr(real, stub.name)
        assert signature_of(function) == has_default(stub), f"{name}.{stub.name}"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_classes_are_final_and_say_where_they_are_from(name: str) -> None:
    real = getattr(_engine, name)
    assert real.__module__ == "strogoff._engine"
    with pytest.raises(TypeError):
        type("Derived", (real,), {})


def test_the_hooks_are_names() -> None:
    assert isinstance(_engine.HOOKS, tuple)
    assert all(isinstance(hook, str) for hook in _engine.HOOKS)
