"""One forward pass at size: causality, independence of rows, padding and packed documents."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.model.stack import Stack
from gptzoo.testing.at_size.plan import Sizes
from gptzoo.testing.at_size.search import AtSize
from gptzoo.testing.at_size.trial import Trial
from gptzoo.testing.compare import FLOAT64_ROUNDING, TOLERANCE, first_difference, relative_difference
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.properties.forward.batch_independence import require_padding_ids_without_effect
from gptzoo.testing.verdict import Failed, Skipped

_TRAINING, _EXPLICIT_POSITIONS = 1, 2  # variants
_EDGES = (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256)
MAX_ROWS_ALONE = 5
_MAX_POSITIONS = 8  # that causality changes in a case


@torch.no_grad()
def logits_of(model: Stack, tokens: Tensor, seed: int = 0, /, **inputs: Tensor | AuxiliaryOutputs) -> Tensor:
    """Return the logits (B, T, V). `seed` is the random seed of dropout."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed also looks for accelerators, which takes long
    return model(tokens, **inputs)[0]


def edge_positions(length: int) -> list[int]:
    """Return positions within a row at which faults begin: both ends, the middle, and around powers of two."""
    return sorted({position for position in (*_EDGES, length // 2, length - 2, length - 1) if 0 < position < length})


def _positions_to_change(trial: Trial) -> list[int]:
    """Return at most 8 of the edge positions: the last one, and others that depend on the case."""
    *others, last = edge_positions(trial.length) or [0]
    if len(others) >= _MAX_POSITIONS:
        seed = f"{trial.length} {trial.batch_size} {trial.case.variant}"
        others = sorted(random.Random(seed).sample(others, _MAX_POSITIONS - 1))
    return [position for position in (*others, last) if position]


def check_causality(trial: Trial) -> None:
    """Change one position of each row, another one in each row, and compare the tokens before it."""
    positions = _positions_to_change(trial)
    if not positions:
        return
    if finding := _causal_difference(trial, positions, copies=trial.batch_size):
        position, row, *_ = finding
        alone = _causal_difference(trial, [position], copies=1)
        raise Failed(
            f"changing token {position} of {trial.length}{_setting(trial)} changes the logits of token "
            f"{(alone or finding)[2]} by {(alone or finding)[3]:.2g}"
            + ("" if alone else f" in row {row} of a batch of {max(len(positions), trial.batch_size)}")
        )


def _causal_difference(trial: Trial, positions: list[int], copies: int) -> tuple[int, int, int, float] | None:
    """Return position, row, token and size of the first change before a changed position, or None."""
    n_rows = max(len(positions), min(copies, len(positions)))
    tokens = trial.tokens(1).expand(n_rows, -1).clone()
    changed = tokens.clone()
    for row, position in enumerate(positions):
        changed[row, position] = trial.other(tokens[row, position])
    model = trial.model().train(trial.has_variant(_TRAINING))
    explicit = {"positions": torch.arange(trial.length)[None]} if trial.has_variant(_EXPLICIT_POSITIONS) else {}
    difference = relative_difference(logits_of(model, changed, **explicit), logits_of(model, tokens, **explicit))
    for row, position in enumerate(positions):
        before = difference[row : row + 1, :position]
        if before.max() > FLOAT64_ROUNDING:
            token = first_difference(before, FLOAT64_ROUNDING)[1]
            return position, row, token, float(before.max())
    return None


def check_rows(trial: Trial) -> None:
    """Compare rows with the same rows alone, and with the same batch in which another row is changed."""
    B, tokens = trial.batch_size, trial.tokens()
    model = trial.model()
    batch = logits_of(model, tokens)
    for row in sorted({0, 1, B // 2, 8, B - 1} & {*range(B)})[:MAX_ROWS_ALONE]:
        difference = relative_difference(logits_of(model, tokens[[row]]), batch[[row]])
        if difference.max() > TOLERANCE:
            token = first_difference(difference, TOLERANCE)[1]
            raise Failed(
                f"row {row} of {trial.length} tokens, alone and in a batch of {B} rows, has logits that differ by "
                f"{difference.max():.2g}, first at token {token}"
            )
    for changed_row in {0, B - 1}:
        _check_other_rows(trial, model.train(trial.has_variant(_TRAINING)), tokens, changed_row)


def _check_other_rows(trial: Trial, model: Stack, tokens: Tensor, changed_row: int) -> None:
    changed = tokens.clone()
    changed[changed_row] = trial.other(tokens[changed_row])
    difference = relative_difference(logits_of(model, changed), logits_of(model, tokens))
    difference[changed_row] = 0
    if difference.max() > FLOAT64_ROUNDING:
        row = int(difference.flatten(1).amax(1).argmax())
        token = first_difference(difference[[row]], FLOAT64_ROUNDING)[1]
        raise Failed(
            f"in a batch of {len(tokens)} rows of {trial.length} tokens{_setting(trial)}, changing row {changed_row} "
            f"changes the logits of token {token} in row {row} by {difference[row].max():.2g}"
        )


def check_padding(trial: Trial) -> None:
    """Compare padded rows, in one forward pass and with a cache, with the same rows alone; and change padded ids.

    The first part is the padding of row 0, and the others are chunks.
    """
    if trial.subject.kind == "attention" and not trial.subject.supports("padding"):
        raise Skipped("it does not list padding in supports")
    if not trial.supports("padding"):  # the attention beside it does not
        return
    (pad, *chunks), T, tokens = trial.parts, trial.length, trial.tokens()
    pads = [(pad, 0, T - 1, pad // 2, min(1, T - 1))[row % 5] for row in range(trial.batch_size)]
    steps = torch.arange(T)
    positions = torch.stack([torch.where(steps < n, -1, steps - n) for n in pads])
    model = trial.model()
    sizes = [pad + chunks[0], *chunks[1:]]
    results = {
        "in one forward pass": logits_of(model, tokens, positions=positions),
        f"fed in chunks of {sizes}": decode(model, tokens, sizes, positions=positions),
    }
    for row in range(min(MAX_ROWS_ALONE, len(pads))):
        n_pad = pads[row]
        alone = logits_of(model, tokens[[row], n_pad:])
        for setting, logits in results.items():
            difference = relative_difference(logits[[row], n_pad:], alone)
            if difference.max() > TOLERANCE:
                token = first_difference(difference, TOLERANCE)[1]
                raise Failed(
                    f"{setting}, row {row} of {len(pads)} rows, {T - n_pad} tokens after {n_pad} of padding, differs "
                    f"from the same row without padding by {difference.max():.2g}, first at token {token}"
                )
    model.train(trial.has_variant(_TRAINING))
    require_padding_ids_without_effect(model, tokens, trial.other(tokens), positions, _setting(trial))


def check_documents(trial: Trial) -> None:
    """Compare packed documents with the same documents alone, and change one document at a time.

    The parts are the documents of row 0. Other rows have them in another order.
    """
    subject = trial.subject
    if subject.kind == "attention" and not subject.supports("documents"):
        raise Skipped("it does not list documents in supports")
    if subject.kind == "architecture" and "documents" not in getattr(subject.component, "accepted_inputs", ()):
        raise Skipped("it does not list documents in accepted_inputs")
    if not trial.supports("documents"):  # the attention beside it does not
        return
    parts, tokens, model = trial.parts, trial.tokens(), trial.model()
    rows = [parts[row % len(parts) :] + parts[: row % len(parts)] for row in range(trial.batch_size)]
    first_id = 1000 * trial.has_variant(_EXPLICIT_POSITIONS)
    documents = torch.stack([torch.repeat_interleave(torch.tensor(row)) + first_id for row in rows])
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in rows])
    packed = logits_of(model, tokens, documents=documents, positions=positions)
    for row in {0, len(rows) - 1}:
        start = 0
        for n_tokens in rows[row]:
            document = slice(start, start := start + n_tokens)
            difference = relative_difference(packed[[row], document], logits_of(model, tokens[[row], document]))
            if difference.max() > TOLERANCE:
                token = first_difference(difference, TOLERANCE)[1]
                raise Failed(
                    f"of documents of {list(rows[row])} tokens packed into row {row} of {len(rows)}, the one at token "
                    f"{document.start} differs from the same document alone by {difference.max():.2g}, first at its "
                    f"token {token}"
                )
    _check_other_documents(trial, model.train(trial.has_variant(_TRAINING)))


def _check_other_documents(trial: Trial, model: Stack) -> None:
    """Change another document in each row. Positions go on over the documents in one variant."""
    parts = trial.parts
    ids = torch.repeat_interleave(torch.tensor(parts)).expand(len(parts), -1)
    tokens = trial.tokens(1).expand(len(parts), -1)
    changed = torch.where(ids == torch.arange(len(parts))[:, None], trial.other(tokens), tokens)
    restart = torch.cat([torch.arange(n) for n in parts])[None]
    inputs = {"documents": ids} | ({} if trial.has_variant(_EXPLICIT_POSITIONS) else {"positions": restart})
    difference = relative_difference(logits_of(model, changed, **inputs), logits_of(model, tokens, **inputs))
    difference = difference.masked_fill((changed != tokens)[..., None], 0.0)
    if difference.max() > FLOAT64_ROUNDING:
        document = int(difference.flatten(1).amax(1).gt(FLOAT64_ROUNDING).nonzero()[0])
        token = first_difference(difference[[document]], FLOAT64_ROUNDING)[1]
        raise Failed(
            f"of documents of {list(parts)} tokens packed into one row{_setting(trial)}, changing document {document} "
            f"changes the logits of token {token} of the row by {difference[document].max():.2g}"
        )


def _setting(trial: Trial) -> str:
    training = " in training" * trial.has_variant(_TRAINING)
    return training + " with explicit positions" * trial.has_variant(_EXPLICIT_POSITIONS)


_PADDED = (
    *((120, 5, 3, 1), (1, 63, 1, 1), (64, 64, 1), (30, 3), (63, 1, 1), (100, 8), (16, 17), (7, 9, 1), (126, 1, 1)),
    *((65, 30, 33), (8, 1), (31, 33, 1, 1), (1, 126, 1), (5, 60, 1), (3, 3, 2), (127, 2), (32, 65), (2, 100, 1)),
)
_DOCUMENTS = (
    *((1, 65, 3, 60), (128, 1), (33, 31, 65), (17, 1, 1, 16, 9, 8, 7), (64, 64), (127, 2), (5, 100, 24), (63, 66)),
    *((1, 1, 1, 12, 30), (16, 16, 16, 17), (65, 64), (3, 9, 40), (2, 127), (8, 8, 9), (1,) * 20, (31, 33, 1), (7, 9)),
    *((1,) * 66, (2,) * 35, (1, 3) * 17),
    *((129,), (1, 128), (6, 7, 8, 9, 10), (130, 3, 124), (100, 157), (1, 255, 1)),
)
CAUSALITY = AtSize(check_causality, Sizes(n_variants=4, gains=(1, 4, 1), may_exceed_context=True))
ROWS = AtSize(check_rows, Sizes(min_batch_size=2, n_variants=2))
PADDING = AtSize(
    check_padding, Sizes(_PADDED, min_parts=2, max_parts=4, min_batch_size=2, n_variants=2, may_exceed_context=True)
)
DOCUMENTS = AtSize(check_documents, Sizes(_DOCUMENTS, max_parts=8, n_variants=4, gains=(1, 1, 4)))
