"""Finds a component, checks its properties, and says what was found."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from gptzoo import registry
from gptzoo.component import Component, nearest
from gptzoo.errors import InputError, SpecError
from gptzoo.testing.properties.catalog import Property, properties_of
from gptzoo.testing.subject import MODEL_KINDS, PartSubject, Subject
from gptzoo.testing.verdict import Failed, Skipped, Verdict


def check(
    component: type[Component] | str,
    options: Mapping[str, Any] | None = None,
    *,
    only: Iterable[str] = (),
    slow: bool = False,
) -> list[Verdict]:
    """One verdict for each property of a component, given as a class or as "kind:type".

    Properties that take long are left out unless `slow`, or named in `only`. Raises InputError for a component, an
    option or a property that there is not.
    """
    found = find(component)
    chosen = choose(found.kind, only, slow=slow)
    subject = subject_of(found, options or {})
    return [verdict(one, subject) for one in chosen]


def find(component: type[Component] | str) -> type[Component]:
    """The class that "kind:type" names, or the class itself. Raises InputError."""
    if not isinstance(component, str):
        return component
    kind, colon, name = component.partition(":")
    known = registry.current()
    if not colon:
        raise InputError(f"{component!r}: write it as kind:type, such as attention:sdpa")
    if kind not in known.kinds:
        raise InputError(f"no kind named {kind!r}{nearest(kind, known.kinds)}  (known: {', '.join(known.kinds)})")
    try:
        return known.get(kind, name)
    except LookupError as error:
        raise InputError(error.args[0]) from None


def choose(kind: str, only: Iterable[str] = (), *, slow: bool = False) -> list[Property]:
    """The properties of a kind to check. Raises InputError for names that it does not have, and where it has none."""
    known = {one.name: one for one in properties_of(kind)}
    if not known:
        raise InputError(f"kind {kind!r}: the kit has no properties for this kind yet")
    names = list(only)
    for name in names:
        if name not in known:
            raise InputError(f"{kind} has no property {name!r}{nearest(name, known)}  (known: {', '.join(known)})")
    return [one for one in known.values() if (one.name in names if names else slow or not one.slow)]


def subject_of(component: type[Component], options: Mapping[str, Any]) -> Subject:
    """The component with options, ready to be checked. Raises SpecError."""
    if component.kind not in MODEL_KINDS:
        return Subject(component, options)
    subject = PartSubject(component, options)
    subject.spec()
    return subject


def verdict(one: Property, subject: Any) -> Verdict:
    """Check one property. Whatever the component raises is a finding."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for models as tiny as these, more are slower
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Verdict(one.name, "passed", one.check(subject) or "")
    except Failed as finding:
        return Verdict(one.name, "failed", str(finding))
    except Skipped as reason:
        return Verdict(one.name, "skipped", str(reason))
    except SpecError as error:
        return Verdict(one.name, "skipped", f"the model that this needs is refused: {error}")
    except InputError:
        raise
    except Exception as error:
        return Verdict(one.name, "failed", _raised(error))
    finally:
        torch.set_num_threads(n_threads)


def _raised(error: Exception) -> str:
    """What was raised, and the innermost line that is neither of the kit nor of torch."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    at = f"\n  at {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}{at}"


def _is_ours(file: str) -> bool:
    folders = (Path(__file__).parent, Path(torch.__file__).parent)
    return any(folder in Path(file).parents for folder in folders)
