"""The registry: which plugins are admitted, which are refused and why, and that specs import nothing."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import admit, plugin_of, small
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.component import Component
from gptzoo.errors import PluginError, SpecError
from gptzoo.registry import Origin, Registry

Install = Callable[..., None]

GOOD = """
import gptzoo

class {Class}(gptzoo.Activation):
    '''x.'''
    name = "{name}"

    def forward(self, x):
        return x

@gptzoo.hookimpl
def gptzoo_components():
    return [{Class}]
"""
IDENTITY = GOOD.format(Class="Identity", name="identity")

# Mistakes in a plugin, and the reason that must be reported.
BAD = {
    "raises at import": ("raise RuntimeError('boom')", "RuntimeError: boom ("),
    "exits at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "lacks a dependency": ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
    "is not Python": ("def", "SyntaxError: "),
    "misspells the hook": (
        IDENTITY.replace("gptzoo_components", "gptzoo_component"),
        "unknown hook 'gptzoo_component'; did you mean 'gptzoo_components'?",
    ),
    "misspells the hook's argument": (
        IDENTITY.replace("gptzoo_components()", "gptzoo_components(registry)"),
        "Argument(s) {'registry'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "forgets the marker": (IDENTITY.replace("@gptzoo.hookimpl", ""), "it implements no gptzoo hook"),
    "forgets an argument of a method": (
        IDENTITY.replace("forward(self, x)", "forward(self)"),
        "Identity.forward takes (self), and gptzoo calls it with the arguments of Activation.forward. "
        "Write: def forward(self, x)",
    ),
    "forgets to return": (
        IDENTITY.replace("return [", "["),
        "gptzoo_components() returned None; expected a list",
    ),
    "returns a class": (
        IDENTITY.replace("[Identity]", "Identity"),
        "Identity'>; expected a list of component classes",
    ),
    "raises in the hook": (IDENTITY.replace("return [", "return 1 / 0, ["), "ZeroDivisionError: division by zero ("),
    "offers a function": (IDENTITY.replace("[Identity]", "[print]"), "which is not a component class"),
    "offers an instance": (
        IDENTITY.replace("[Identity]", "['identity']"),
        "returned 'identity', which is not a component class",
    ),
    "takes a built-in's name": (
        GOOD.format(Class="Mine", name="gelu"),
        "activation 'gelu' is taken: registered by plugin 'builtin' (gptzoo ",
    ),
    "derives from the wrong base": (
        IDENTITY.replace("gptzoo.Activation", "gptzoo.Component").replace("name =", "kind = 'activation'; name ="),
        "Identity has kind 'activation', but does not derive from Activation",
    ),
    "has no kind": (IDENTITY.replace("gptzoo.Activation", "gptzoo.Component"), "Identity has no kind. Derive it from"),
    "has no name": (IDENTITY.replace('name = "identity"', ""), "Identity needs a class attribute `name`"),
    "has an invalid name": (IDENTITY.replace('"identity"', '"My Identity"'), "Identity needs a class attribute `name`"),
    "has a name that is not a string": (IDENTITY.replace('"identity"', "3"), "Identity needs a class attribute `name`"),
    "inherits its name": (
        IDENTITY.replace("gptzoo.Activation", "GELU")
        .replace('name = "identity"', "")
        .replace("import gptzoo", "import gptzoo\nfrom gptzoo.components.activation import GELU"),
        "Identity needs a class attribute `name`",
    ),
    "has a config of another class": (
        IDENTITY.replace("name =", "class Config: pass\n    name ="),
        "TypeError: Identity.Config must derive from the Config of its base class",
    ),
    "has a plain pydantic config": (
        IDENTITY.replace("name =", "class Config(BaseModel): pass\n    name =").replace(
            "import gptzoo", "import gptzoo\nfrom pydantic import BaseModel"
        ),
        "TypeError: Identity.Config must derive from the Config of its base class",
    ),
    "fails with many lines": ("raise OSError('one\\n  two')", "OSError: one two"),
    "offers one twice": (IDENTITY.replace("[Identity]", "[Identity, Identity]"), "activation 'identity' is taken"),
    "offers a good one and a bad one": (
        IDENTITY.replace("[Identity]", "[Identity, object]"),
        "returned <class 'object'>, which is not a component class",
    ),
}


def test_methods_of_a_plugins_own_base_class_may_differ(fresh_registry: Registry) -> None:
    class Base(gptzoo.Activation):
        def gain(self) -> float:
            return 1.0

    class Scaled(Base):
        """Scales its input."""

        name = "scaled"

        def gain(self, factor: float) -> float:  # type: ignore[override]
            return factor

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gain(2.0)

    admit(Scaled, plugin="scaled")
    assert fresh_registry.get("activation", "scaled") is Scaled


def reasons(found: Registry) -> dict[str, str]:
    return {bad.origin.plugin: bad.reason for bad in found.refused}


# ---------------------------------------------------------------------- plugins of installed packages


@pytest.mark.parametrize(("source", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_plugin_is_refused_completely_and_does_not_affect_others(
    source: str, reason: str, install: Install
) -> None:
    install("bad", source, version="6.6")
    install("good", GOOD.format(Class="Good", name="good"))
    built_in = registry.discover("none").of_kind("activation")
    found = registry.discover("good,bad")

    (bad,) = found.refused
    assert bad.origin == Origin("bad", "gptzoo-bad", "6.6")
    assert reason in bad.reason
    assert set(found.of_kind("activation")) == {*built_in, "good"}
    assert [origin.plugin for origin in found.plugins] == ["builtin", "good"]
    with registry.use(found):
        gptzoo.build(small(activation="good"), device="meta")
        with pytest.raises(SpecError) as caught:
            gptzoo.load_model_spec(small(activation="identity"))
    assert str(caught.value).startswith("spec: $.activation: no activation named 'identity'")
    assert f"plugin 'bad' (gptzoo-bad 6.6) was refused: {bad.reason}" in str(caught.value)


def test_an_installed_component_is_used_by_its_name(install: Install) -> None:
    install("mine", IDENTITY, version="2.0")
    found = registry.discover("")
    component = found.get("activation", "identity")
    assert found.origin(component) == Origin("mine", "gptzoo-mine", "2.0")
    assert str(found.origin(component)) == "gptzoo-mine 2.0"
    assert found.components_of(found.origin(component)) == [component]
    with registry.use(found):
        assert gptzoo.build(small(activation="identity")).blocks[0].ffn.activation.__class__ is component


def test_if_two_plugins_claim_a_name_the_first_in_alphabetical_order_gets_it(install: Install) -> None:
    install("b-second", IDENTITY)
    install("a-first", IDENTITY)
    found = registry.discover("a-first,b-second")
    assert found.origin(found.get("activation", "identity")).plugin == "a-first"
    assert reasons(found) == {
        "b-second": "activation 'identity' is taken: registered by plugin 'a-first' (gptzoo-a-first 1.2.3), "
        "and again by plugin 'b-second' (gptzoo-b-second 1.2.3)"
    }


def test_two_kinds_may_use_the_same_name(install: Install) -> None:
    install("mine", IDENTITY.replace("identity", "sdpa"))
    assert "sdpa" in registry.discover("mine").of_kind("activation")


def test_a_half_removed_package_without_a_name_is_refused(install: Install) -> None:
    install("ghost", "raise ImportError('gone')", metadata=False)
    found = registry.discover("ghost,nobody")
    assert reasons(found) == {
        "ghost": "ImportError: gone (theirs_ghost.py, line 1)",
        "nobody": "GPTZOO_PLUGINS names it, but no installed package provides it",
    }


def test_an_interrupt_is_not_taken_for_a_broken_plugin(install: Install) -> None:
    install("interrupted", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        registry.discover("interrupted")


# ---------------------------------------------------------------------- GPTZOO_PLUGINS


@pytest.mark.parametrize(
    ("selection", "admitted"),
    [
        ("none", set()),
        ("one", {"one"}),
        ("one,two", {"one", "two"}),
        (" two , ", {"two"}),
        ("gptzoo-two", {"two"}),
    ],
)
def test_the_selection_decides_which_plugins_are_loaded(
    selection: str, admitted: set[str], install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("one", GOOD.format(Class="One", name="one"))
    install("two", GOOD.format(Class="Two", name="two"))
    monkeypatch.setenv("GPTZOO_PLUGINS", selection)
    found = registry.discover()
    assert {"one", "two"} & set(found.of_kind("activation")) == admitted
    assert {"one", "two"} - {origin.plugin for origin in found.disabled} == admitted
    assert found.refused == []


def test_plugins_that_are_not_selected_are_not_imported(install: Install) -> None:
    install("one", "raise BaseException")
    registry.discover("none")
    assert "theirs_one" not in sys.modules


def test_the_error_for_a_disabled_component_names_the_plugin(install: Install) -> None:
    install("mine", IDENTITY)
    with registry.use(registry.discover("none")), pytest.raises(SpecError, match=r"GPTZOO_PLUGINS disables .*'mine'"):
        gptzoo.load_model_spec(small(activation="identity"))


def test_the_error_for_a_plugin_that_is_not_installed_suggests_a_similar_one(install: Install) -> None:
    install("wavelets", IDENTITY)
    found = registry.discover("wavelet5")
    assert reasons(found) == {
        "wavelet5": "GPTZOO_PLUGINS names it, but no installed package provides it; did you mean 'wavelets'?"
    }
    with registry.use(found), pytest.raises(SpecError, match=r"'wavelet5' \(not installed\) was refused"):
        gptzoo.load_model_spec(small(activation="identity"))


# ---------------------------------------------------------------------- plugins of local files


def write(folder: Path, name: str, source: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(source)
    return folder / name


def test_a_local_file_is_loaded_on_request(fresh_registry: Registry, tmp_path: Path) -> None:
    file = write(tmp_path, "my_part.py", IDENTITY)
    fresh_registry.load_file(file)
    origin = fresh_registry.origin(fresh_registry.get("activation", "identity"))
    assert origin == Origin("my_part", f"file {file}", "")
    assert gptzoo.build(small(activation="identity"))


def test_a_local_file_is_loaded_once_whatever_its_path(
    fresh_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "my_part.py", IDENTITY)
    monkeypatch.chdir(tmp_path)
    fresh_registry.load_file(file)
    component = fresh_registry.get("activation", "identity")
    fresh_registry.load_file("my_part.py")
    fresh_registry.load_file(str(file))
    assert fresh_registry.get("activation", "identity") is component


def test_two_local_files_with_the_same_name_are_both_loaded(fresh_registry: Registry, tmp_path: Path) -> None:
    fresh_registry.load_file(write(tmp_path / "a", "part.py", GOOD.format(Class="One", name="one")))
    fresh_registry.load_file(write(tmp_path / "b", "part.py", GOOD.format(Class="Two", name="two")))
    assert {"one", "two"} <= set(fresh_registry.of_kind("activation"))


@pytest.mark.parametrize(("source", "reason"), BAD.values(), ids=BAD.keys())
def test_the_error_for_a_bad_local_file_names_it(
    source: str, reason: str, fresh_registry: Registry, tmp_path: Path
) -> None:
    before = fresh_registry.of_kind("activation")
    modules = set(sys.modules)
    with pytest.raises(PluginError) as caught:
        fresh_registry.load_file(write(tmp_path, "my_part.py", source))
    assert str(caught.value).startswith("my_part.py: ")
    assert reason in str(caught.value)
    assert fresh_registry.of_kind("activation") == before
    assert not [name for name in set(sys.modules) - modules if "my_part" in name]


def test_a_corrected_file_can_be_loaded_again(fresh_registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"my_part\.py: RuntimeError: boom"):
        fresh_registry.load_file(write(tmp_path, "my_part.py", "raise RuntimeError('boom')"))
    fresh_registry.load_file(write(tmp_path, "my_part.py", IDENTITY + "# mended\n"))
    assert "identity" in fresh_registry.of_kind("activation")


def test_a_missing_file_is_an_error(fresh_registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"no such file\. --plugin takes a Python file with a gptzoo_components"):
        fresh_registry.load_file(tmp_path / "nowhere.py")
    with pytest.raises(PluginError, match="not a Python file"):
        fresh_registry.load_file(write(tmp_path, "part.txt", IDENTITY))


# ---------------------------------------------------------------------- admission


def identity(name: str) -> type[Component]:
    return type(name.title(), (gptzoo.Activation,), {"name": name, "__doc__": "x."})


def test_nothing_is_admitted_if_one_of_several_is_invalid(fresh_registry: Registry) -> None:
    before = fresh_registry.of_kind("activation")
    with pytest.raises(PluginError, match="'relu' is taken"):
        admit(identity("fine"), identity("relu"))
    assert fresh_registry.of_kind("activation") == before
    assert [origin.plugin for origin in fresh_registry.plugins] == ["builtin"]


def test_a_plugin_may_be_admitted_twice_but_not_its_names_by_another(fresh_registry: Registry) -> None:
    component = identity("mine")
    admit(component)
    admit(component)
    assert [origin.plugin for origin in fresh_registry.plugins] == ["builtin", "theirs"]
    with pytest.raises(PluginError, match=r"is taken: registered by plugin 'theirs' .* and again by plugin 'others'"):
        admit(component, plugin="others")


def test_use_restores_the_previous_registry(fresh_registry: Registry) -> None:
    other = Registry()
    with registry.use(other):
        assert registry.current() is other
        with pytest.raises(RuntimeError), registry.use(Registry()):
            raise RuntimeError
        assert registry.current() is other
    assert registry.current() is fresh_registry


def test_components_of_a_new_kind_derive_from_its_base_class(fresh_registry: Registry) -> None:
    class Expert(Component):
        """Base class of a new kind."""

        kind = "expert"

    class Small(Expert):
        """A small expert."""

        name = "small"

    class Impostor(Component):
        """Claims the kind without its base class."""

        kind = "expert"
        name = "impostor"

    admit(Small)
    assert fresh_registry.of_kind("expert") == {"small": Small}
    with pytest.raises(PluginError, match=r"Impostor has kind 'expert', but does not derive from .*Expert"):
        admit(Impostor)


def test_the_error_for_an_unknown_name_lists_all_and_suggests_one(fresh_registry: Registry) -> None:
    with pytest.raises(LookupError) as caught:
        fresh_registry.get("positional", "roep")
    assert caught.value.args[0] == (
        "no positional named 'roep'; did you mean 'rope'?  (known: learned, none, rope, sinusoidal)"
    ) + _disabled(fresh_registry)
    with pytest.raises(LookupError, match=r"no nothing named 'x'  \(known: none\)"):
        fresh_registry.get("nothing", "x")


def _disabled(found: Registry) -> str:
    """Return the part of an error message about installed plugins that the tests disable."""
    names = ", ".join(repr(origin.plugin) for origin in found.disabled)
    return f"; GPTZOO_PLUGINS disables {names}" if names else ""


# ---------------------------------------------------------------------- built-ins, and what may not happen


def test_the_error_for_a_component_that_a_plugin_leaves_out_says_why(fresh_registry: Registry) -> None:
    class Plugin:
        @gptzoo.hookimpl
        def gptzoo_left_out(self) -> dict[str, str]:
            return {"optimizer:lbfgs": "it needs a closure"}

    fresh_registry.admit(Plugin(), Origin("theirs", "gptzoo-theirs", "1.0"))
    with pytest.raises(LookupError, match=r"^optimizer 'lbfgs' is left out of gptzoo-theirs 1\.0: it needs a closure$"):
        fresh_registry.get("optimizer", "lbfgs")
    with pytest.raises(LookupError, match="no schedule named 'lbfgs'"):
        fresh_registry.get("schedule", "lbfgs")
    assert fresh_registry.get("optimizer", "adamw").name == "adamw"


def test_built_in_components_use_the_same_hook(fresh_registry: Registry) -> None:
    from gptzoo import builtin

    offered = builtin.gptzoo_components()
    assert offered
    again = Registry()
    again.admit(plugin_of(*offered), Origin("builtin", "gptzoo", gptzoo.__version__))
    for kind in fresh_registry.kinds:
        assert again.of_kind(kind) == fresh_registry.of_kind(kind)
    assert {origin.plugin for origin in fresh_registry.plugins} == {"builtin"}


EVIL = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n" + IDENTITY.replace("identity", "evil")


@pytest.mark.parametrize(
    "spec",
    [
        small(activation="evil"),
        small(activation={"type": "evil:gptzoo_components"}),
        small(activation="evil.Identity"),
        small(activation="./evil.py"),
        small(attention=["sdpa", {"type": "evil"}]),
        small(norm={"type": "pre_ln", "layer": {"type": "evil"}}),
        small(attention={"type": "sdpa", "qk_norm": "evil"}),
        small(plugins=["evil"]),
        {"model": "evil.py", "steps": 1},
    ],
    ids=str,
)
def test_a_spec_cannot_cause_an_import(spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "evil.py", EVIL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    load = gptzoo.load_run_spec if "model" in spec else gptzoo.load_model_spec
    file = write(tmp_path, "spec.json", json.dumps(spec))
    with pytest.raises(SpecError):
        load(file)
    assert "evil" not in sys.modules
    assert not (tmp_path / "ran").exists()


def test_describing_components_needs_no_torch() -> None:
    script = "import sys, gptzoo, gptzoo.registry, gptzoo.reference, gptzoo.spec.files; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_source_tree_works_without_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    found = registry.discover("none")
    assert found.plugins == [registry.Origin("builtin", "gptzoo", gptzoo.__version__)]
