"""The corpus `openwebtext`: web pages linked from Reddit, an open reproduction of the training text of GPT-2."""

from __future__ import annotations

from pydantic import Field

from gptzoo.data.corpora.corpus import Split
from gptzoo.data.corpora.presets.hub_corpus import HashSplitCorpus


class OpenWebTextCorpus(HashSplitCorpus):
    """OpenWebText: 8,013,769 web pages linked from Reddit. A fixed part of 0.05% of them is held out.

    The dataset has no validation split, so a hash of its content decides whether a page is held out. 0.05% is the
    fraction that nanoGPT holds out.
    Source: https://huggingface.co/datasets/Skylion007/openwebtext (80 Parquet files, 24 GB). License: CC0-1.0 for the
    packaging; the rights of the pages stay with their authors. Needs `huggingface_hub` and `pyarrow`.
    """

    name = "openwebtext"
    paper = "Gokaslan and Cohen 2019, OpenWebText Corpus"
    repository = "Skylion007/openwebtext"
    license = "CC0-1.0"

    class Config(HashSplitCorpus.Config):
        revision: str = Field(default="b4325f019c648b1641a1784748667e8b74e5e064", min_length=1)
        """Commit, tag or branch of the repository. Default: the commit that gptzoo pins. Unused with `path`."""

    config: Config

    def patterns(self, split: Split) -> tuple[str, ...]:
        return ("plain_text/train-*.parquet",)
