"""The plugin of the built-in components. It uses the same hook as other plugins."""

from __future__ import annotations

from gptzoo.ablation.execution import local_executor as local
from gptzoo.component import Component
from gptzoo.components import activation, attention, ffn, norm, positional, rope_scaling
from gptzoo.data.batching import packed, samples, windows
from gptzoo.data.corpora import hf, jsonl, mixture, parquet, stories, text, train_val
from gptzoo.data.corpora.presets import fineweb_edu, openwebtext, tinyshakespeare, tinystories, wikitext
from gptzoo.data.tokenizers import bpe, byte, char, saved, tiktoken
from gptzoo.hooks import hookimpl
from gptzoo.interop import gpt2, llama
from gptzoo.model import decoder
from gptzoo.sampling.processors import constraints, grammar, penalties, truncation
from gptzoo.training.optim import learning_rate_schedules as schedules
from gptzoo.training.optim import lion, muon, optimizers
from gptzoo.training.tracking.trackers import csv_table, mlflow, tensorboard, wandb


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
        rope_scaling.LinearScaling,
        rope_scaling.NtkScaling,
        rope_scaling.YarnScaling,
        rope_scaling.Llama3Scaling,
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
        muon.Muon,
        lion.Lion,
        optimizers.SGD,
        optimizers.Adafactor,
        schedules.Cosine,
        schedules.Linear,
        schedules.WarmupStableDecay,
        schedules.InverseSqrt,
        schedules.Constant,
        csv_table.CsvTracker,
        tensorboard.TensorBoardTracker,
        wandb.WandbTracker,
        mlflow.MlflowTracker,
        truncation.Temperature,
        truncation.TopK,
        truncation.TopP,
        truncation.MinP,
        truncation.Typical,
        penalties.RepetitionPenalty,
        penalties.PresencePenalty,
        penalties.FrequencyPenalty,
        penalties.NoRepeatNgram,
        penalties.LogitBias,
        constraints.BannedTokens,
        constraints.ForcedTokens,
        grammar.Regex,
        grammar.JsonSchema,
        byte.ByteTokenizer,
        char.CharTokenizer,
        bpe.BpeTokenizer,
        tiktoken.TiktokenTokenizer,
        saved.SavedTokenizer,
        text.TextCorpus,
        jsonl.JsonlCorpus,
        parquet.ParquetCorpus,
        hf.HfCorpus,
        mixture.MixtureCorpus,
        train_val.TrainValCorpus,
        stories.StoriesCorpus,
        tinyshakespeare.TinyShakespeareCorpus,
        tinystories.TinyStoriesCorpus,
        wikitext.WikiTextCorpus,
        openwebtext.OpenWebTextCorpus,
        fineweb_edu.FineWebEduCorpus,
        windows.Windows,
        packed.Packed,
        samples.SampleBatching,
        gpt2.GPT2Importer,
        llama.LlamaImporter,
        local.LocalExecutor,
    ]
