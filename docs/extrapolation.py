"""Evaluate the models of an ablation on longer contexts than in training. Usage: python docs/extrapolation.py DIR"""

import sys
from pathlib import Path

import gptzoo
from gptzoo.data.prepare import prepare
from gptzoo.training.evaluation.full_pass import measure

folder = Path(sys.argv[1])
for file in sorted(folder.glob("trials/*/run.json")):
    spec, model = gptzoo.load_run_spec(file), gptzoo.load(file.parent).model
    tokenizer, store = prepare(spec.corpus.build(), spec.tokenizer)
    losses = []
    for times in (1, 2, 4):
        length = times * spec.model.context_length
        if model.max_length is not None and length > model.max_length:
            continue  # the model has no positions beyond this length
        batching = spec.batching.build(store, tokenizer, length, spec.seed)
        batches = batching.validation_batches(16384)
        loss = measure(model, batches, n_bytes=batching.val_bytes).likelihood.loss
        losses.append(f"{length}: {loss:.4f}")
    print(f"{file.parent.name:40}  {'  '.join(losses)}")
