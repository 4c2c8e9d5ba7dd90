"""Importers of Hugging Face checkpoints for gptzoo: `gptzoo import-hf FOLDER OUT` reads the families below.

The core reads GPT-2 and Llama. An importer translates the settings of config.json into a spec and says which tensors of
the checkpoint each tensor of the model is made of.
"""

from __future__ import annotations

import gptzoo
from gptzoo_families.deepseek import DeepSeekV2, DeepSeekV3
from gptzoo_families.gemma import Gemma, Gemma2, Gemma3
from gptzoo_families.glm import Glm, Glm4
from gptzoo_families.gpt_like import GPTJ, OPT, Bloom
from gptzoo_families.gpt_oss import GptOss
from gptzoo_families.mixture import Mixtral, Olmoe, Qwen3Moe
from gptzoo_families.olmo import Olmo, Olmo2, Olmo3
from gptzoo_families.parallel import Cohere, Falcon, GPTNeoX, Phi, StableLm
from gptzoo_families.pre_norm import Granite, Mistral, Phi3, Qwen2, Qwen3, SmolLM3, StarCoder2
from gptzoo_families.qwen3_next import Qwen3Next


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [
        Mistral,
        Mixtral,
        Qwen2,
        Qwen3,
        Qwen3Moe,
        GPTNeoX,
        GPTJ,
        Gemma,
        Gemma2,
        Gemma3,
        Phi,
        Phi3,
        Olmo,
        Olmo2,
        Olmo3,
        Olmoe,
        SmolLM3,
        StableLm,
        OPT,
        Bloom,
        Falcon,
        Granite,
        Cohere,
        Glm,
        Glm4,
        StarCoder2,
        GptOss,
        DeepSeekV2,
        DeepSeekV3,
        Qwen3Next,
    ]
