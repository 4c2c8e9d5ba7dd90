"""The sentences and tables with numbers on docs/look-inside.md, made from the measurements."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

LAYERS_SHOWN = ("in", *(f"blocks.{i}" for i in (0, 10, 20, 22, 23, 24, 25, 26, 27, 28, 29)))
MANY_TIMES = 5  # the ratio of the norms of the first token and the others from which the first token is a sink


def statements(results: dict[str, Any]) -> list[str]:
    """Return the sentences of the page that have numbers."""
    return [*_sinks(results), *_heads(results), *_lens(results), *_capitals(results)]


def tables(results: dict[str, Any]) -> list[str]:
    """Return the tables of the page."""
    return [_lens_table(results)]


def _sinks(results: dict[str, Any]) -> Iterator[str]:
    weights = results["heads"]["first_token"]
    by_head = [weight for row in weights for weight in row]
    mean, n_half = sum(by_head) / len(by_head), sum(weight > 0.5 for weight in by_head)
    yield (
        f"The mean over all heads and texts is {mean:.0%}, and {n_half} of the {len(by_head)} heads give the first "
        "token more than half of their weight."
    )
    shortened = results["first_token_when_it_is_the_second_of_the_text"]
    yield f"If each text starts one token later, its new first token gets {shortened:.0%}."
    by_layer = [sum(row) / len(row) for row in weights]
    norms = list(zip(results["norms"]["first"], results["norms"]["others"], strict=True))
    large = [by_layer[i] for i in range(len(by_layer)) if norms[i][0] > MANY_TIMES * norms[i][1]]
    small = [by_layer[i] for i in range(len(by_layer)) if norms[i][0] <= MANY_TIMES * norms[i][1]]
    yield (
        f"In the {len(large)} layers whose input has a first token with more than {MANY_TIMES} times the norm of the "
        f"others, the first token gets {min(large):.0%} to {max(large):.0%} of the weight. In the other {len(small)} "
        f"layers, it gets at most {max(small):.0%}."
    )
    jump = max(range(1, len(norms)), key=lambda i: norms[i][0] / norms[i - 1][0] if i > len(norms) // 4 else 0)
    yield (
        f"Block {jump - 1} alone raises the norm of the first token from {norms[jump - 1][0]:,.0f} to "
        f"{norms[jump][0]:,.0f}, while the median of the others is {norms[jump][1]:,.0f}."
    )


def _heads(results: dict[str, Any]) -> Iterator[str]:
    for key, target in (
        ("previous_token", "the previous token"),
        ("induction", "the token that followed last time"),
    ):
        heads = [
            (weight, layer, head)
            for layer, row in enumerate(results["heads"][key])
            for head, weight in enumerate(row)
            if weight > 0.5
        ]
        first, *others = [f"head {head} of layer {layer} ({weight:.0%})" for weight, layer, head in sorted(heads)[::-1]]
        listed = f"{', '.join(others[:-1])} and {others[-1]}"
        yield f"{first.capitalize()} gives most of its weight to {target}, and so do {listed}."


def _lens(results: dict[str, Any]) -> Iterator[str]:
    rows = {row["layer"]: row for row in results["lens"]["rows"]}
    *before, last = results["lens"]["rows"]
    answer = results["lens"]["answer"].strip()
    ranks = [rows[f"blocks.{i}"]["rank"] for i in (22, 27, 28)]
    yield (
        f"After block 22, {answer} has rank {ranks[0]:,} of 49,152 tokens, after block 27 rank {ranks[1]:,}, and after "
        f"block 28 rank {ranks[2]:,}."
    )
    n_same = next(i for i, row in enumerate(reversed(before)) if row["top"] != before[-1]["top"])
    yield (
        f"The last block makes it number {last['rank']}, with a probability of {last['probability']:.0%}. After each "
        f"of the {n_same} blocks before it, the top token is `{before[-1]['top']}`."
    )


def _capitals(results: dict[str, Any]) -> Iterator[str]:
    last = [ranks[-1] for ranks in results["ranks"].values()]
    yield (
        f"Of {len(last)} countries, {sum(rank == 1 for rank in last)} get their capital as the top token, and in the "
        f"others its rank is {min(rank for rank in last if rank > 1)} to {max(last)}."
    )
    by_layer = [median(ranks) for ranks in zip(*results["ranks"].values(), strict=True)]  # index 0 is the input
    yield (
        f"The median rank is {by_layer[23]:,.0f} after block 22, {by_layer[24]:,.0f} after block 23, "
        f"{by_layer[29]:,.0f} after block 28 and {by_layer[30]:,.0f} after block 29."
    )


def _lens_table(results: dict[str, Any]) -> str:
    answer = results["lens"]["answer"].strip()
    lines = [
        f"| after | top token | its probability | rank of {answer} | probability of {answer} |",
        "|---|---|---|---|---|",
    ]
    for row in results["lens"]["rows"]:
        if row["layer"] in LAYERS_SHOWN:
            name = "the embedding" if row["layer"] == "in" else row["layer"].replace("blocks.", "block ")
            numbers = f"{row['top_probability']:.2f} | {row['rank']:,} | {row['probability']:.2g}"
            lines.append(f"| {name} | `{row['top']}` | {numbers} |")
    return "\n".join(lines)
