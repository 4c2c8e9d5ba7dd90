"""The plugin of the parts that ship with gptzoo; it uses the same hook as everybody's."""

from __future__ import annotations

from gptzoo.component import Component
from gptzoo.components import activation, attention, ffn, norm, positional
from gptzoo.data import batching, corpora, stories, tokenizers
from gptzoo.hooks import hookimpl
from gptzoo.interop import gpt2, llama
from gptzoo.model import decoder
from gptzoo.sampling import processors
from gptzoo.training import optimizers, schedules


@hookimpl
def gptzoo_components() -> list[type[Component]]:
    return [
        decoder.Decoder,
        attention.NaiveAttention,
        attention.SdpaAttention,
        positional.LearnedPositional,
        positional.SinusoidalPositional,
        positional.RotaryPositional,
        positional.NoPositional,
        norm.PreNorm,
        norm.PostNorm,
        norm.LayerNorm,
        norm.RMSNorm,
        activation.ReLU,
        activation.GELU,
        activation.SiLU,
        ffn.MLP,
        ffn.GLU,
        optimizers.AdamW,
        schedules.Cosine,
        schedules.Constant,
        processors.Temperature,
        processors.TopK,
        processors.TopP,
        tokenizers.ByteTokenizer,
        tokenizers.CharTokenizer,
        tokenizers.BpeTokenizer,
        tokenizers.TiktokenTokenizer,
        corpora.TextCorpus,
        corpora.JsonlCorpus,
        stories.StoriesCorpus,
        batching.Windows,
        gpt2.GPT2Importer,
        llama.LlamaImporter,
    ]
