"""The evaluation sets of a corpus: further held-out data, by name, on which a run is evaluated as well."""

from __future__ import annotations

from collections.abc import Mapping

from gptzoo.component import Config
from gptzoo.data.batching.batching import Batching
from gptzoo.data.corpora.corpus import Corpus
from gptzoo.data.corpora.samples import SampleCorpus
from gptzoo.data.prepare import prepare
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.saved import SavedTokenizer
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError


def evaluation_sets(
    corpus: Corpus,
    tokenizer: Tokenizer,
    store: TokenStore,
    batching: Config,
    *,
    length: int,
    max_length: int | None,
    seed: int,
) -> Mapping[str, Batching]:
    """Return the batching of each evaluation set of a corpus, in the token ids of the run.

    length: the run's context_length.
    max_length: the longest sequence that the model supports, or None for no limit.

    Raises DataError for samples that are too long for the model.
    """
    sets: dict[str, Batching] = {}
    for name, other in corpus.evaluation_sets().items():
        if isinstance(other, SampleCorpus):
            check_length(other, max_length, f"level {name!r} of corpus {corpus.config.type!r}")
            _, other_store = prepare(other, tokenizer.config)
        else:
            # The text is encoded by the tokenizer that was fitted on the training text of the run.
            saved = SavedTokenizer.Config(type=SavedTokenizer.name, path=str(store.folder))
            _, other_store = prepare(other, saved, keep_duplicates=True)
        sets[name] = batching.build(other_store, tokenizer, length, seed)
    return sets


def check_length(corpus: SampleCorpus, max_length: int | None, what: str) -> None:
    """Raise DataError if the samples of a corpus are longer than the longest sequence that a model supports."""
    if max_length is not None and corpus.sample_length > max_length:
        raise DataError(
            f"{what}: its samples of {corpus.sample_length} tokens are longer than the {max_length} positions of the "
            "model. Use a position encoding without a limit, such as rope, or a larger context_length"
        )
