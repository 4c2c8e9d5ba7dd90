"""Examples for `gptzoo COMMAND --help`."""

from __future__ import annotations

EXAMPLES = {
    "init": ("gptzoo init", "gptzoo init my-gpt --text input.txt --tokenizer char --size tiny"),
    "build": (
        "gptzoo build @gpt3",
        "gptzoo build @tiny --set attention.window=64 --json",
    ),
    "prepare": ('gptzoo prepare \'{"type": "text", "path": "books"}\' --tokenizer byte',),
    "train": (
        "gptzoo train @quickstart --out runs/quickstart",
        "gptzoo train @quickstart --out runs/quickstart --resume",
        "gptzoo train @quickstart --out runs/wide --set model.d_model=256 --set optimizer.lr=0.001",
    ),
    "eval": ("gptzoo eval runs/quickstart", "gptzoo eval runs/quickstart --checkpoint best --data held-out.txt --json"),
    "lm-eval": (
        "gptzoo lm-eval runs/quickstart --tasks lambada_openai --limit 100",
        "gptzoo lm-eval runs/quickstart --tasks my_task --include_path tasks --output_path scores --log_samples",
    ),
    "verify-resume": ("gptzoo verify-resume @quickstart --steps 10",),
    "profile": (
        "gptzoo profile @quickstart",
        "gptzoo profile @quickstart --steps 10 --set compile=true --out profiles/compiled",
    ),
    "report": ("gptzoo report ablations/positions", "gptzoo report ablations/positions --serve"),
    "sample": (
        'gptzoo sample runs/quickstart --prompt "The Birthday of"',
        "gptzoo sample runs/quickstart --temperature 0.7 --top-p 0.9 --num-samples 3",
        "gptzoo sample runs/quickstart --prompts prompts.jsonl --out written.jsonl",
    ),
    "score": ('gptzoo score runs/quickstart "Once there was a boy." --tokens',),
    "serve": ("gptzoo serve runs/quickstart --port 8000",),
    "diff": ("gptzoo diff @tiny --set attention=naive",),
    "export-hf": (
        "gptzoo export-hf runs/quickstart exported/quickstart",
        "gptzoo export-hf runs/quickstart exported/quickstart --checkpoint best --dtype bfloat16 --family mistral",
        "gptzoo export-hf runs/quickstart exported/quickstart --remote-code",
    ),
    "import-gguf": ("gptzoo import-gguf downloads/SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2",),
    "export-gguf": ("gptzoo export-gguf runs/quickstart quickstart.gguf --type q8_0",),
    "import-hf": (
        "gptzoo import-hf downloads/gpt2 models/gpt2",
        "gptzoo import-hf HuggingFaceTB/SmolLM2-135M models/smollm2",
    ),
    "push": (
        "gptzoo push runs/quickstart ada/quickstart --private",
        "gptzoo push runs/quickstart ada/quickstart --checkpoint best --license apache-2.0",
    ),
    "pull": ("gptzoo pull ada/quickstart models/quickstart",),
    "components": ("gptzoo components attention", "gptzoo components attention sdpa"),
    "check": (
        "gptzoo check attention:sdpa --set window=3",
        "gptzoo check activation:mish --plugin mish.py --only causality",
    ),
    "schema": ("gptzoo schema run > run.schema.json",),
    "compare": (
        "gptzoo compare @ablation-base --set model.norm=post_ln --seeds 3",
        "gptzoo compare a.json b.json --budget flops=1e13 --json --exit-code",
    ),
    "ablate": (
        "gptzoo ablate @positions --dry-run",
        "gptzoo ablate @positions --set seeds=3",
        "gptzoo ablate status ablations/positions",
    ),
    "ladder": (
        "gptzoo ladder @sandwich --dry-run",
        "gptzoo ladder @sandwich",
    ),
}


def epilog(command: str) -> str | None:
    """Return the examples of a command as an epilog for click, or None. The \\b keeps the line breaks."""
    lines = EXAMPLES.get(command)
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) if lines else None
