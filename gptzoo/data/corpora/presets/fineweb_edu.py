"""The corpus `fineweb_edu`: educational web pages, filtered from Common Crawl by a classifier."""

from __future__ import annotations

from pydantic import Field

from gptzoo.data.corpora.corpus import Split
from gptzoo.data.corpora.presets.hub_corpus import HashSplitCorpus


class FineWebEduCorpus(HashSplitCorpus):
    """FineWeb-Edu: web pages of Common Crawl with educational content. A fixed part of 0.05% of them is held out.

    The default subset is a random sample of about 10 billion tokens of GPT-2: 9,672,101 pages in 14 Parquet files, 28.5
    GB. The dataset has no validation split, so a hash of its content decides whether a page is held out.
    Source: https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu. License: ODC-By 1.0, subject to the terms of use
    of Common Crawl. Needs `huggingface_hub` and `pyarrow`.
    """

    name = "fineweb_edu"
    paper = "Penedo et al. 2024, The FineWeb Datasets, arXiv:2406.17557"
    repository = "HuggingFaceFW/fineweb-edu"
    license = "ODC-By-1.0"

    class Config(HashSplitCorpus.Config):
        subset: str = Field(default="sample-10BT", pattern=r"^(sample-(10|100|350)BT|CC-MAIN-\d{4}-\d{2}|default)$")
        """`sample-10BT`, `sample-100BT` or `sample-350BT`: a random sample of so many tokens. `CC-MAIN-2024-10` or
        another one: one crawl. `default`: the whole dataset."""
        revision: str = Field(default="87f09149ef4734204d70ed1d046ddc9ca3f2b8f9", min_length=1)
        """Commit, tag or branch of the repository. Default: the commit that gptzoo pins. Unused with `path`."""

    config: Config

    def patterns(self, split: Split) -> tuple[str, ...]:
        kind, _, size = self.config.subset.partition("-")
        if kind == "sample":
            return (f"sample/{size}/*.parquet",)
        return ("data/*/*.parquet",) if kind == "default" else (f"data/{self.config.subset}/*.parquet",)
