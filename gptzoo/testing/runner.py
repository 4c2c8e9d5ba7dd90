"""Finding a component and checking its properties."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

import torch

from gptzoo import registry
from gptzoo.component import Component
from gptzoo.errors import InputError, PluginError, SpecError
from gptzoo.sampling.strategy import Strategy
from gptzoo.strict_model import did_you_mean
from gptzoo.terminal.activity import each
from gptzoo.testing.at_size.cost import quick_effort
from gptzoo.testing.at_size.effort import QUICK, SLOW, Effort
from gptzoo.testing.at_size.plan import untried_options
from gptzoo.testing.at_size.search import search
from gptzoo.testing.component_under_test import MODEL_KINDS, ComponentUnderTest, ModelPartUnderTest
from gptzoo.testing.exceptions import describe_exception
from gptzoo.testing.properties.catalog import Property, properties_of
from gptzoo.testing.strategy_under_test import StrategyUnderTest, find_strategy
from gptzoo.testing.verdict import Failed, Skipped, Verdict

Checkable = type[Component] | type[Strategy]
"""A class that the kit can check. A strategy is no component: it has no name in specs."""
AnyUnderTest = ComponentUnderTest | StrategyUnderTest


def check(
    component: Checkable | str,
    options: Mapping[str, object] | None = None,
    *,
    only: Iterable[str] = (),
    slow: bool = False,
) -> list[Verdict]:
    """Check the properties of a component and return one verdict for each.

    Raises InputError if the component, an option or a property does not exist.

    component: the class, or "kind:type" of a registered component.
    options: values of its options, as JSON.
    only: names of the properties to check. Default: all that are not slow.
    slow: also check the slow properties.
    """
    component_class = find_component(component)
    properties = select_properties(component_class.kind, only, slow=slow)
    subject = put_under_test(component_class, options or {})
    effort = SLOW if slow else quick_effort(subject)
    name = f"{component_class.kind}:{getattr(component_class, 'name', component_class.__name__)}"
    verdicts: list[Verdict] = []
    for prop in each(properties, f"checking properties of {name}"):
        verdicts.append(check_property(prop, subject, effort))
        if verdicts[-1].outcome == "failed" and isinstance(subject, ModelPartUnderTest) and not _can_run(subject):
            reason = f"not tried: no model with the component can be built and run, see {prop.name}"
            return [*verdicts, *(Verdict(left.name, "skipped", reason) for left in properties[len(verdicts) :])]
    return verdicts


def _can_run(subject: ModelPartUnderTest) -> bool:
    try:
        subject.model()(subject.tokens(2, 5))
    except Exception:
        return False
    return True


def not_covered(component: Checkable | str, options: Mapping[str, object], *, slow: bool = False) -> str:
    """Describe the cases that `check` tries beyond toy sizes, and the properties that it leaves out."""
    component_class = find_component(component)
    left_out = [] if slow else [prop.name for prop in properties_of(component_class.kind) if prop.slow]
    sentences = []
    if component_class.kind in MODEL_KINDS:
        subject = put_under_test(component_class, options)
        effort = SLOW if slow else quick_effort(subject)
        sentences.append(
            f"Each property was tried with up to {effort.n_planned + effort.n_random} combinations of sizes and "
            f"options, in rows of up to {effort.max_length} tokens and batches of up to 17 rows."
        )
        left_out += [f"rows above {effort.max_length} tokens"]
        untried = untried_options(subject) if isinstance(subject, ModelPartUnderTest) else []
        left_out += [f"other values of {', '.join(untried)}"] if untried else []
    if left_out:
        sentences.append(f"Not covered: {', '.join(left_out)}{'' if slow else '; --slow covers more'}.")
    return " ".join(sentences)


def find_component(component: Checkable | str) -> Checkable:
    """Return the class that "kind:type" names, or the class itself. Raises InputError if there is none."""
    if not isinstance(component, str):
        return component
    kind, colon, name = component.partition(":")
    known = registry.current()
    if not colon:
        raise InputError(f"{component!r}: expected KIND:TYPE, such as attention:sdpa")
    if kind == Strategy.kind:
        return find_strategy(name)
    if kind not in known.kinds:
        raise InputError(f"no kind named {kind!r}{did_you_mean(kind, known.kinds)}  (known: {', '.join(known.kinds)})")
    try:
        return known.get(kind, name)
    except LookupError as error:
        raise InputError(error.args[0]) from None


def select_properties(kind: str, only: Iterable[str] = (), *, slow: bool = False) -> list[Property]:
    """Return the properties of a kind to check. Raises InputError if the kind has none, or none of a given name."""
    known = {prop.name: prop for prop in properties_of(kind)}
    if not known:
        raise InputError(f"kind {kind!r}: the kit has no properties for this kind yet")
    names = list(only)
    for name in names:
        if name not in known:
            raise InputError(f"{kind} has no property {name!r}{did_you_mean(name, known)}  (known: {', '.join(known)})")
    return [prop for prop in known.values() if (prop.name in names if names else slow or not prop.slow)]


def put_under_test(component: Checkable, options: Mapping[str, object]) -> AnyUnderTest:
    """Validate the options of a component, and the tiny model that holds it. Raises SpecError if one is invalid."""
    if issubclass(component, Strategy):
        return StrategyUnderTest(component, options)
    if component.kind not in MODEL_KINDS:
        return ComponentUnderTest(component, options)
    subject = ModelPartUnderTest(component, options)
    subject.spec()
    return subject


def check_property(prop: Property, subject: AnyUnderTest, effort: Effort = QUICK) -> Verdict:
    """Check one property, at toy sizes and beyond. An exception that the component raises is a failure."""
    n_threads = torch.get_num_threads()
    subject.effort = effort
    torch.set_num_threads(1)  # models as tiny as these are slower with more threads
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            note = prop.check(subject) or ""
            if prop.at_size is not None and isinstance(subject, ModelPartUnderTest):
                search(subject, prop.name, prop.at_size, effort)
            return Verdict(prop.name, "passed", note)
    except Failed as failure:
        return Verdict(prop.name, "failed", str(failure))
    except Skipped as reason:
        return Verdict(prop.name, "skipped", str(reason))
    except SpecError as error:
        return Verdict(prop.name, "skipped", f"this property needs a model that is invalid: {error}")
    except PluginError as error:
        return Verdict(prop.name, "failed", str(error))
    except InputError:
        raise
    except Exception as error:
        return Verdict(prop.name, "failed", describe_exception(error))
    finally:
        torch.set_num_threads(n_threads)
