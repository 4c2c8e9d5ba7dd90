"""The door: what comes in, what is refused and why, and that nothing else can come in."""

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

# What a plugin can do wrong, and the reason that must be told.
BAD = {
    "raises at import": ("raise RuntimeError('boom')", "RuntimeError: boom ("),
    "exits at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "lacks a dependency": ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
    "is no Python": ("def", "SyntaxError: "),
    "misspells the hook": (
        IDENTITY.replace("gptzoo_components", "gptzoo_component"),
        "unknown hook 'gptzoo_component'; did you mean 'gptzoo_components'?",
    ),
    "misspells the hook's argument": (
        IDENTITY.replace("gptzoo_components()", "gptzoo_components(registry)"),
        "Argument(s) {'registry'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "forgets the marker": (IDENTITY.replace("@gptzoo.hookimpl", ""), "it implements no gptzoo hook"),
    "forgets to return": (
        IDENTITY.replace("return [", "["),
        "gptzoo_components() returns None; it should return a list",
    ),
    "returns a class": (
        IDENTITY.replace("[Identity]", "Identity"),
        "Identity'>; it should return a list of component classes",
    ),
    "raises in the hook": (IDENTITY.replace("return [", "return 1 / 0, ["), "ZeroDivisionError: division by zero ("),
    "offers a function": (IDENTITY.replace("[Identity]", "[print]"), "is not a subclass of a component class"),
    "offers an instance": (
        IDENTITY.replace("[Identity]", "['identity']"),
        "offers 'identity', which is not a subclass",
    ),
    "takes a built-in's name": (
        GOOD.format(Class="Mine", name="gelu"),
        "activation 'gelu' is taken: registered by plugin 'builtin' (gptzoo ",
    ),
    "derives from the wrong base": (
        IDENTITY.replace("gptzoo.Activation", "gptzoo.Component").replace("name =", "kind = 'activation'; name ="),
        "Identity says that its kind is 'activation', but does not derive from Activation",
    ),
    "has no kind": (IDENTITY.replace("gptzoo.Activation", "gptzoo.Component"), "Identity has no kind; derive it from"),
    "has no name": (IDENTITY.replace('name = "identity"', ""), "Identity needs a class attribute `name`"),
    "has an ill name": (IDENTITY.replace('"identity"', '"My Identity"'), "Identity needs a class attribute `name`"),
    "has a name that is no string": (IDENTITY.replace('"identity"', "3"), "Identity needs a class attribute `name`"),
    "inherits its name": (
        IDENTITY.replace("gptzoo.Activation", "GELU")
        .replace('name = "identity"', "")
        .replace("import gptzoo", "import gptzoo\nfrom gptzoo.components.activation import GELU"),
        "Identity needs a class attribute `name`",
    ),
    "has a config of its own making": (
        IDENTITY.replace("name =", "class Config: pass\n    name ="),
        "TypeError: Identity.Config must derive from the Config of its base class",
    ),
    "has a config of pydantic's alone": (
        IDENTITY.replace("name =", "class Config(BaseModel): pass\n    name =").replace(
            "import gptzoo", "import gptzoo\nfrom pydantic import BaseModel"
        ),
        "TypeError: Identity.Config must derive from the Config of its base class",
    ),
    "fails with many lines": ("raise OSError('one\\n  two')", "OSError: one two"),
    "offers one twice": (IDENTITY.replace("[Identity]", "[Identity, Identity]"), "activation 'identity' is taken"),
    "offers a good one and a bad one": (
        IDENTITY.replace("[Identity]", "[Identity, object]"),
        "offers <class 'object'>, which is not a subclass of a component class",
    ),
}


def reasons(found: Registry) -> dict[str, str]:
    return {bad.origin.plugin: bad.reason for bad in found.quarantined}


# ---------------------------------------------------------------------- plugins of installed packages


@pytest.mark.parametrize(("source", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_plugin_is_quarantined_whole_and_hurts_nobody_else(source: str, reason: str, install: Install) -> None:
    install("bad", source, version="6.6")
    install("good", GOOD.format(Class="Good", name="good"))
    built_in = registry.discover("none").of_kind("activation")
    found = registry.discover("good,bad")

    (bad,) = found.quarantined
    assert bad.origin == Origin("bad", "gptzoo-bad", "6.6")
    assert reason in bad.reason
    assert set(found.of_kind("activation")) == {*built_in, "good"}
    assert [origin.plugin for origin in found.plugins] == ["builtin", "good"]
    with registry.use(found):
        gptzoo.build(small(activation="good"), device="meta")
        with pytest.raises(SpecError) as caught:
            gptzoo.load_model_spec(small(activation="identity"))
    assert str(caught.value).startswith("spec: $.activation: no activation named 'identity'")
    assert f"plugin 'bad' (gptzoo-bad 6.6) is quarantined: {bad.reason}" in str(caught.value)


def test_an_installed_plugin_is_used_by_its_name(install: Install) -> None:
    install("mine", IDENTITY, version="2.0")
    found = registry.discover("")
    component = found.get("activation", "identity")
    assert found.origin(component) == Origin("mine", "gptzoo-mine", "2.0")
    assert str(found.origin(component)) == "gptzoo-mine 2.0"
    assert found.components_of(found.origin(component)) == [component]
    with registry.use(found):
        assert gptzoo.build(small(activation="identity")).blocks[0].ffn.activation.__class__ is component


def test_of_two_plugins_that_claim_a_name_the_first_in_the_alphabet_gets_it(install: Install) -> None:
    install("b-second", IDENTITY)
    install("a-first", IDENTITY)
    found = registry.discover("a-first,b-second")
    assert found.origin(found.get("activation", "identity")).plugin == "a-first"
    assert reasons(found) == {
        "b-second": "activation 'identity' is taken: registered by plugin 'a-first' (gptzoo-a-first 1.2.3), "
        "and again by plugin 'b-second' (gptzoo-b-second 1.2.3)"
    }


def test_the_same_name_in_two_kinds_is_no_clash(install: Install) -> None:
    install("mine", IDENTITY.replace("identity", "sdpa"))
    assert "sdpa" in registry.discover("mine").of_kind("activation")


def test_a_half_removed_package_is_quarantined_though_it_does_not_know_its_name(install: Install) -> None:
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
def test_the_selection_decides_who_is_let_in(
    selection: str, admitted: set[str], install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("one", GOOD.format(Class="One", name="one"))
    install("two", GOOD.format(Class="Two", name="two"))
    monkeypatch.setenv("GPTZOO_PLUGINS", selection)
    found = registry.discover()
    assert {"one", "two"} & set(found.of_kind("activation")) == admitted
    assert {"one", "two"} - {origin.plugin for origin in found.disabled} == admitted
    assert found.quarantined == []


def test_what_is_not_selected_is_not_even_imported(install: Install) -> None:
    install("one", "raise BaseException")
    registry.discover("none")
    assert "theirs_one" not in sys.modules


def test_a_spec_that_needs_a_disabled_plugin_is_told_so(install: Install) -> None:
    install("mine", IDENTITY)
    with registry.use(registry.discover("none")), pytest.raises(SpecError, match=r"GPTZOO_PLUGINS disables .*'mine'"):
        gptzoo.load_model_spec(small(activation="identity"))


def test_a_selected_plugin_that_is_not_installed_is_told_with_the_nearest_that_is(install: Install) -> None:
    install("wavelets", IDENTITY)
    found = registry.discover("wavelet5")
    assert reasons(found) == {
        "wavelet5": "GPTZOO_PLUGINS names it, but no installed package provides it; did you mean 'wavelets'?"
    }
    with registry.use(found), pytest.raises(SpecError, match=r"'wavelet5' \(not installed\) is quarantined"):
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


def test_a_local_file_is_loaded_once_however_it_is_named(
    fresh_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "my_part.py", IDENTITY)
    monkeypatch.chdir(tmp_path)
    fresh_registry.load_file(file)
    component = fresh_registry.get("activation", "identity")
    fresh_registry.load_file("my_part.py")
    fresh_registry.load_file(str(file))
    assert fresh_registry.get("activation", "identity") is component


def test_two_local_files_of_one_name_are_both_loaded(fresh_registry: Registry, tmp_path: Path) -> None:
    fresh_registry.load_file(write(tmp_path / "a", "part.py", GOOD.format(Class="One", name="one")))
    fresh_registry.load_file(write(tmp_path / "b", "part.py", GOOD.format(Class="Two", name="two")))
    assert {"one", "two"} <= set(fresh_registry.of_kind("activation"))


@pytest.mark.parametrize(("source", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_local_file_is_an_error_that_names_it(
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


def test_a_mended_file_can_be_loaded_again(fresh_registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"my_part\.py: RuntimeError: boom"):
        fresh_registry.load_file(write(tmp_path, "my_part.py", "raise RuntimeError('boom')"))
    fresh_registry.load_file(write(tmp_path, "my_part.py", IDENTITY + "# mended\n"))
    assert "identity" in fresh_registry.of_kind("activation")


def test_a_file_that_is_not_there_is_told(fresh_registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no such file; --plugin takes a Python file with a gptzoo_components"):
        fresh_registry.load_file(tmp_path / "nowhere.py")
    with pytest.raises(PluginError, match="not a Python file"):
        fresh_registry.load_file(write(tmp_path, "part.txt", IDENTITY))


# ---------------------------------------------------------------------- admission


def identity(name: str) -> type[Component]:
    return type(name.title(), (gptzoo.Activation,), {"name": name, "__doc__": "x."})


def test_nothing_is_admitted_when_one_of_several_is_refused(fresh_registry: Registry) -> None:
    before = fresh_registry.of_kind("activation")
    with pytest.raises(PluginError, match="'relu' is taken"):
        admit(identity("fine"), identity("relu"))
    assert fresh_registry.of_kind("activation") == before
    assert [origin.plugin for origin in fresh_registry.plugins] == ["builtin"]


def test_the_same_plugin_may_come_twice_and_another_may_not(fresh_registry: Registry) -> None:
    component = identity("mine")
    admit(component)
    admit(component)
    assert [origin.plugin for origin in fresh_registry.plugins] == ["builtin", "theirs"]
    with pytest.raises(PluginError, match=r"is taken: registered by plugin 'theirs' .* and again by plugin 'others'"):
        admit(component, plugin="others")


def test_a_registry_in_use_gives_way_to_the_one_before(fresh_registry: Registry) -> None:
    other = Registry()
    with registry.use(other):
        assert registry.current() is other
        with pytest.raises(RuntimeError), registry.use(Registry()):
            raise RuntimeError
        assert registry.current() is other
    assert registry.current() is fresh_registry


def test_a_new_kind_belongs_to_the_base_class_that_introduced_it(fresh_registry: Registry) -> None:
    class Expert(Component):
        """Base of a kind of their own."""

        kind = "expert"

    class Small(Expert):
        """A small one."""

        name = "small"

    class Impostor(Component):
        """Says that it is one."""

        kind = "expert"
        name = "impostor"

    admit(Small)
    assert fresh_registry.of_kind("expert") == {"small": Small}
    with pytest.raises(
        PluginError, match=r"Impostor says that its kind is 'expert', but does not derive from .*Expert"
    ):
        admit(Impostor)


def test_a_name_that_is_unknown_is_answered_with_the_nearest_and_all(fresh_registry: Registry) -> None:
    with pytest.raises(LookupError) as caught:
        fresh_registry.get("positional", "roep")
    assert caught.value.args[0] == (
        "no positional named 'roep'; did you mean 'rope'?  (known: learned, none, rope, sinusoidal)"
    ) + _disabled(fresh_registry)
    with pytest.raises(LookupError, match=r"no nothing named 'x'  \(known: none\)"):
        fresh_registry.get("nothing", "x")


def _disabled(found: Registry) -> str:
    """What an error adds where packages are installed in the environment of the tests."""
    names = ", ".join(repr(origin.plugin) for origin in found.disabled)
    return f"; GPTZOO_PLUGINS disables {names}" if names else ""


# ---------------------------------------------------------------------- built-ins, and what may not happen


def test_the_built_ins_come_through_the_same_hook(fresh_registry: Registry) -> None:
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


def test_it_works_from_its_source_without_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    found = registry.discover("none")
    assert found.plugins == [registry.Origin("builtin", "gptzoo", gptzoo.__version__)]
