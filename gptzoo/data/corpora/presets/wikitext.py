"""The corpus `wikitext`: WikiText-2 and WikiText-103, articles of Wikipedia."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from gptzoo.data.corpora.corpus import Split
from gptzoo.data.corpora.presets.hub_corpus import HubCorpus

_BLANK = " \n"  # a blank line of the original files, which the rows of the dataset give as ""
_TITLE = re.compile(r" = [^=].*[^=] = \n| = [^=] = \n")


class WikiTextCorpus(HubCorpus):
    """WikiText-2 and WikiText-103: good and featured articles of Wikipedia, with the validation or test split.

    The rows of the dataset are lines. They are joined to the text of the original files, byte for byte, so that
    bits per byte and word perplexity compare with published ones. The text is tokenized into words, as in the paper.
    Source: https://huggingface.co/datasets/Salesforce/wikitext. License: CC BY-SA 3.0 and GFDL. Needs `huggingface_hub`
    and `pyarrow`.
    """

    name = "wikitext"
    paper = "Merity et al. 2016, Pointer Sentinel Mixture Models, arXiv:1609.07843"
    repository = "Salesforce/wikitext"
    license = "CC-BY-SA-3.0, GFDL"

    class Config(HubCorpus.Config):
        subset: Literal["wikitext-2-raw-v1", "wikitext-103-raw-v1", "wikitext-2-v1", "wikitext-103-v1"] = (
            "wikitext-103-raw-v1"
        )
        """WikiText-2 (2 million words of training text) or WikiText-103 (103 million). Without `raw`, rare words are
        `<unk>`."""
        val_split: Literal["validation", "test"] = "validation"
        """Split of the dataset that is the held-out text."""
        unit: Literal["article", "split"] = "article"
        """One document per article, or the whole split as one continuous document, which memory must hold."""
        revision: str = Field(default="b08601e04326c79dfdd32d625aee71d232d685c3", min_length=1)
        """Commit, tag or branch of the repository. Default: the commit that gptzoo pins. Unused with `path`."""

    config: Config

    @property
    def is_continuous(self) -> bool:
        return self.config.unit == "split"

    def patterns(self, split: Split) -> tuple[str, ...]:
        return (f"{self.config.subset}/{'train' if split == 'train' else self.config.val_split}-*.parquet",)

    def split_documents(self, split: Split) -> Iterator[str]:
        lines = (row or _BLANK for row in self.rows(split))
        if self.config.unit == "split":
            yield "".join(lines)
        else:
            yield from _articles(lines)


def _articles(lines: Iterator[str]) -> Iterator[str]:
    """Yield the text before each title, which stands between blank lines, and the text after the last one.

    The blank line before a title belongs to its article.
    """
    article: list[str] = []
    for line in lines:
        article.append(line)
        if line == _BLANK and len(article) > 3 and article[-3] == _BLANK and _TITLE.fullmatch(article[-2]):
            yield "".join(article[:-3])
            article = article[-3:]
    yield "".join(article)
