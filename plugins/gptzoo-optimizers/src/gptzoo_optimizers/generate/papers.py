"""The summary and the paper of an optimizer, from its docstring or from the table in its library's README."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import re
from collections.abc import Mapping

_ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})")
_ROW = re.compile(r"^\| *([^|]+?) *\| *\*?([^|]*?)\*? *\|[^|]*\|(.*)\|$", re.MULTILINE)
_LINK = re.compile(r"\[paper\]\(([^)]+)\)")

_SUMMARIES: Mapping[str, str] = {
    "heavyball.klsoap": "SOAP whose preconditioner is fitted as in KL-Shampoo.",
    "heavyball.muon": "Momentum whose update is an orthogonal matrix.",
    "heavyball.psgdpro": "PSGD with a Kronecker-factored preconditioner that stays symmetric (Procrustes update).",
    "heavyball.qsgd": "PSGD that applies the square root of the preconditioner, as Adam divides by a square root.",
    "heavyball.rmsprop": "RMSprop with the bias of the second moment corrected, as in Adam.",
    "heavyball.sgd": "SGD with heavy-ball momentum.",
    "heavyball.unscaledadamw": "AdamW whose first moment is that of the normalised gradient, scaled back.",
    "pytorch_optimizer.adam": "Adam, by torch.",
    "pytorch_optimizer.nadam": "NAdam, Adam with Nesterov momentum, by torch.",
    "pytorch_optimizer.rmsprop": "RMSprop, by torch.",
    "pytorch_optimizer.radam": "Rectified Adam, whose first steps have no adaptive learning rate.",
    "schedulefree.adamw": "Schedule-Free AdamW. It needs no decay of the learning rate.",
    "schedulefree.adamw_paper": "Schedule-Free AdamW as in its paper, with weight decay at two points.",
    "schedulefree.radam": "Schedule-Free RAdam. It needs neither warmup nor a decay of the learning rate.",
    "schedulefree.sgd": "Schedule-Free SGD. It needs no decay of the learning rate.",
}
_SCHEDULE_FREE = "Defazio et al. 2024, The Road Less Scheduled, arXiv:2405.15682"
_ADAM = "Kingma and Ba 2014, Adam: A Method for Stochastic Optimization, arXiv:1412.6980"
_D_ADAPTATION = "Defazio and Mishchenko 2023, Learning-Rate-Free Learning by D-Adaptation, arXiv:2301.07733"
_FISHER = (
    "Gong et al. 2025, Towards Efficient Optimizer Design for LLM via Structured Fisher Approximation, arXiv:2502.07752"
)

_PAPERS: Mapping[str, str] = {  # of optimizers for which the library names none
    "pytorch_optimizer.adam": _ADAM,
    "pytorch_optimizer.adamax": _ADAM,
    "pytorch_optimizer.adamw": _ADAM,
    "pytorch_optimizer.alice": _FISHER,
    "pytorch_optimizer.racs": _FISHER,
    "pytorch_optimizer.dadaptadagrad": _D_ADAPTATION,
    "pytorch_optimizer.dadaptadam": _D_ADAPTATION,
    "pytorch_optimizer.dadaptadan": _D_ADAPTATION,
    "pytorch_optimizer.dadaptlion": _D_ADAPTATION,
    "pytorch_optimizer.dadaptsgd": _D_ADAPTATION,
    "pytorch_optimizer.muon": (
        "Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks, kellerjordan.github.io"
    ),
    "pytorch_optimizer.nadam": "Dozat 2016, Incorporating Nesterov Momentum into Adam",
    "pytorch_optimizer.rmsprop": "Tieleman and Hinton 2012, Lecture 6.5: RMSprop",
    "pytorch_optimizer.schedulefreeadamw": _SCHEDULE_FREE,
    "pytorch_optimizer.schedulefreeradam": _SCHEDULE_FREE,
    "pytorch_optimizer.schedulefreesgd": _SCHEDULE_FREE,
}


def summary_of(name: str, cls: type) -> str:
    """Return one sentence about an optimizer."""
    if name in _SUMMARIES:
        return _SUMMARIES[name]
    library, _, _ = name.partition(".")
    paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    if library == "heavyball":  # the first line is the name of the class, sometimes alone
        title, _, rest = paragraphs[0].partition("\n")
        others = [rest, *paragraphs[1:]]
        text = next((part for part in others if part and not part.startswith("Sources:")), title)
        text = text if text != title else f"{title.rstrip('.')}, as implemented by heavyball"
    else:
        text = paragraphs[0]
    sentence = re.split(r"(?<=[a-z)])\. |\n\n", " ".join(text.split()))[0].rstrip(". ")
    return f"{sentence}."


def paper_of(name: str, cls: type) -> str:
    """Return the title and the address of an optimizer's paper, or an empty string."""
    library, _, short_name = name.partition(".")
    if name in _PAPERS:
        return _PAPERS[name]
    if library == "schedulefree":
        return _SCHEDULE_FREE
    if library == "heavyball":
        return _from_sources(cls)
    return _from_readme(short_name, cls.__name__)


def _from_sources(cls: type) -> str:
    """Return the first paper of a docstring that lists title, authors and address under `Sources:`."""
    _, _, sources = inspect.cleandoc(cls.__doc__ or "").partition("Sources:")
    papers = []
    for block in sources.split("\n\n"):
        lines = [line.strip() for line in block.strip().splitlines()]
        lines = lines[1:] if lines and lines[0].endswith(":") else lines
        address = next((line for line in lines if line.startswith("http")), "")
        if len(lines) >= 2 and not lines[0].startswith(("HeavyBall", "http", "Originally")):
            papers.append(_cite(lines[0], address))
    return papers[0] if papers else ""


@functools.cache
def _readme_rows() -> dict[str, tuple[str, str]]:
    text = importlib.metadata.metadata("pytorch_optimizer").get_payload()
    rows = {}
    for name, title, rest in _ROW.findall(str(text)):
        if match := _LINK.search(rest):
            rows[_key(name)] = (f"{name}: {title}", match[1])
    return rows


def _from_readme(short_name: str, class_name: str) -> str:
    rows = _readme_rows()
    found = rows.get(_key(short_name)) or rows.get(_key(class_name))
    return _cite(*found) if found else ""


def _cite(title: str, address: str) -> str:
    if match := _ARXIV.search(address):
        return f"{title}, arXiv:{match[1]}"
    return f"{title}, {address.removeprefix('https://')}" if address else title


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
