"""Chat templates of imported models: the same text and ids as transformers, with limits for hostile templates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from interop.test_special_tokens import byte_level, llama, saved, theirs
from jinja2.exceptions import TemplateError
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

import gptzoo
from gptzoo.cli import main
from gptzoo.data.chat import rendering
from gptzoo.data.chat.prompt import chat_prompt_ids
from gptzoo.data.chat.rendering import render_template
from gptzoo.data.tokenizers.tokenizer import load_tokenizer
from gptzoo.errors import FolderError, InputError
from gptzoo.interop.exporting.tokenizer import write_tokenizer
from gptzoo.interop.tokenizer_files import TokenizerFiles
from gptzoo.reference import Reference

Save = Callable[..., Any]
PLAIN = (
    "{{ bos_token }}{% for m in messages %}<|im_end|>{{ m['role'] }}: {{ m.content | trim }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_end|>assistant: {% endif %}"
)
MESSAGES = [
    {"role": "system", "content": "  Be brief.  "},
    {"role": "user", "content": "naïve 東京 🙂 <b>&amp;</b>", "name": None},
    {"role": "assistant", "content": "two\n\nlines", "reasoning": "hm"},
    {"role": "user", "content": ""},
]
TEMPLATES = {
    "plain": PLAIN,
    "tojson": "{{ messages | tojson }} {{ messages[0] | tojson(indent=2, sort_keys=True) }} {{ '<é>' | tojson }}",
    "whitespace": (
        "{% for m in messages %}\n    {% if loop.first %}\n  first\n    {%- endif %}\n{{ m.role }}\n{% endfor %}\n"
    ),
    "namespace": (
        "{% set ns = namespace(n=0, last='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
        "{% set ns.last = m.role %}{% endfor %}"
        "{{ ns.n }}{{ ns.last }}{{ dict(a=1)['a'] }}{{ dict.fromkeys(['k'], 2)['k'] }}"
    ),
    "loop controls": (
        "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.content }}"
        "{% if m.role == 'assistant' %}{% break %}{% endif %}{% endfor %}"
    ),
    "generation": (
        "{% set x = 1 %}{% for m in messages %}{% generation %}{% set x = 2 %}{{ m.role }}{{ x }}{{ loop.index }}\n"
        "{% endgeneration %}{{ x }}{% endfor %}"
    ),
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}|{% endfor %}",
    "macro": (
        "{% macro f(m) %}[{{ m.role }}{{ caller() }}]{% endmacro %}"
        "{% for m in messages %}{% call f(m) %}x{% endcall %}{% endfor %}"
    ),
    "date": "{{ strftime_now('%Y %B') }}",
    "missing": (
        "{{ tools is none }}{{ nothing is defined }}{{ messages[0].nothing }}{{ unk_token is defined }}{{ pad_token }}"
    ),
    "methods": (
        "{{ messages[1].content.upper().split(' ')[0] }}{{ messages[0].items() | list }}{{ 'a-b'.replace('-', '+') }}"
    ),
    "name": "{{ messages[1].name is defined }}{{ 'name' in messages[1] }}",
    "error": "{{ raise_exception('roles must alternate') }}",
    "undefined": "{{ nothing.at_all }}",
    "unsafe": "{{ ''.__class__.__mro__ }}",
    "mutable": "{{ messages.append(1) }}",
    "private": "{% set ns = namespace() %}{% set ns._x = 1 %}{{ ns._x }}",
    "syntax": "a\n{% if %}",
    "tag": "{% include 'file' %}",
}


@pytest.fixture(scope="module")
def tokenizers_of_both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, PreTrainedTokenizerFast]:
    folder = tmp_path_factory.mktemp("chat")
    llama(bos_token_id=0, eos_token_id=1).save_pretrained(folder / "checkpoint")
    byte_level().save(str(folder / "checkpoint" / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>", "chat_template": PLAIN}
    (folder / "checkpoint" / "tokenizer_config.json").write_text(json.dumps(names))
    from gptzoo.interop.hugging_face import import_folder

    import_folder(folder / "checkpoint", folder / "out")
    return gptzoo.load(folder / "out").tokenizer, PreTrainedTokenizerFast.from_pretrained(folder / "checkpoint")


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("variables", [{}, {"enable_thinking": False, "bos_token": "over"}])
def test_a_chat_has_the_ids_of_transformers(name: str, variables: Any, tokenizers_of_both: Any) -> None:
    ours, library = tokenizers_of_both
    for generation in (False, True):
        options = {"add_generation_prompt": generation, **variables}
        try:
            expected = library.apply_chat_template(
                MESSAGES, chat_template=TEMPLATES[name], return_dict=False, **options
            )
        except (TemplateError, TypeError) as error:
            with pytest.raises(InputError, match="the chat template fails") as raised:
                chat_prompt_ids(ours, MESSAGES, template=TEMPLATES[name], variables=variables)
            message = str(error)
            assert message in str(raised.value) or "cannot have the attribute '_x'" in str(raised.value)
            continue
        mine = chat_prompt_ids(
            ours, MESSAGES, template=TEMPLATES[name], add_generation_prompt=generation, variables=variables
        )
        assert mine == expected


def test_templates_that_must_fail_do_fail_in_transformers(tokenizers_of_both: Any) -> None:
    """Check that the comparison above covers errors as well as texts."""
    failing = set()
    for name, template in TEMPLATES.items():
        try:
            render_jinja_template([MESSAGES], chat_template=template)
        except (TemplateError, TypeError):
            failing.add(name)
    assert failing == {"error", "undefined", "unsafe", "mutable", "private", "syntax", "tag"}


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_random_chats_have_the_ids_of_transformers(data: st.DataObject, tokenizers_of_both: Any) -> None:
    ours, library = tokenizers_of_both
    texts = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(["</s>", "<s>", " ", "\n", "the"]))).map("".join)
    message = st.fixed_dictionaries({"role": texts, "content": texts}, optional={"name": st.none()})
    messages = data.draw(st.lists(message, min_size=1, max_size=4))
    template = data.draw(st.sampled_from([PLAIN, TEMPLATES["whitespace"], TEMPLATES["loop controls"] + "."]))
    options = {"return_dict": False, "add_generation_prompt": True, "sanitize_control_tokens": True}
    expected = library.apply_chat_template(messages, chat_template=template, **options)
    assert chat_prompt_ids(ours, messages, template=template) == expected


def test_a_tokenizer_that_is_not_in_the_checkpoint_gets_the_template(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    byte = Reference("tokenizer").validate("byte").build()
    completed = TokenizerFiles(tmp_path, 257).complete(byte)
    assert chat_prompt_ids(completed, [{"role": "user", "content": "hi"}]) == [256, *b"hi", 256]
    assert list(completed.encode("hi")) == list(byte.encode("hi"))


@pytest.mark.parametrize("content", ["a<|im_end|>b", "</s>", "<s><s>x", "x </s> y</s>", "\ue000\ue001</s>\ue001\ue000"])
def test_special_tokens_inside_a_message_are_text(content: str, tokenizers_of_both: Any) -> None:
    ours, library = tokenizers_of_both
    messages = [{"role": "user", "content": content}]
    expected = library.apply_chat_template(
        messages, chat_template=PLAIN, return_dict=False, add_generation_prompt=True, sanitize_control_tokens=True
    )
    mine = chat_prompt_ids(ours, messages)
    assert mine == expected
    control = [token for token in mine if token in (0, 1, 2)]
    assert control == [0, 2, 1, 2]  # those that the template writes


@pytest.mark.parametrize(
    "files",
    [
        {"chat_template.jinja": PLAIN},
        {"tokenizer_config.json": {"chat_template": PLAIN}},
        {"tokenizer_config.json": {"chat_template": "wrong"}, "chat_template.jinja": PLAIN},
        {"tokenizer_config.json": {"chat_template": [{"name": "default", "template": PLAIN}]}},
        {
            "tokenizer_config.json": {
                "chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": PLAIN}]
            }
        },
        {"chat_template.jinja": PLAIN, "additional_chat_templates/rag.jinja": "r"},
    ],
)
def test_the_templates_of_a_checkpoint_are_imported_and_exported(files: Any, save: Save, tmp_path: Path) -> None:
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    checkpoint = saved(save, byte_level(), {**names, **files.get("tokenizer_config.json", {})})
    for name, text in files.items():
        if isinstance(text, str):
            (checkpoint.folder / name).parent.mkdir(exist_ok=True)
            (checkpoint.folder / name).write_text(text)
    checkpoint.import_()
    loaded = gptzoo.load(checkpoint.out)
    expected = theirs(checkpoint).apply_chat_template(MESSAGES, return_dict=False, add_generation_prompt=True)
    assert loaded.chat_prompt(MESSAGES) == expected
    if "rag" in str(files):
        assert loaded.tokenizer is not None
        assert loaded.tokenizer.decode(loaded.chat_prompt(MESSAGES, chat_template="rag")) == "r"
    (tmp_path / "exported").mkdir()
    assert loaded.tokenizer is not None
    assert write_tokenizer(loaded.tokenizer, tmp_path / "exported") == []
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path / "exported")
    assert again.chat_template == theirs(checkpoint).chat_template or len(files) == 1
    assert again.apply_chat_template(MESSAGES, return_dict=False, add_generation_prompt=True) == expected


def test_an_imported_model_answers_as_in_transformers(save: Save) -> None:
    names = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": PLAIN}
    checkpoint = saved(save, byte_level(), names, eos_token_id=[1, 2])
    checkpoint.import_()
    library = theirs(checkpoint)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Once upon a time"}]
    ids = library.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    model = AutoModelForCausalLM.from_pretrained(checkpoint.folder).eval()
    with torch.no_grad():
        new = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
    options = ["--chat", "--system", "Be brief.", "--prompt", "Once upon a time", "--temperature", "0", "--json"]
    result = CliRunner().invoke(
        main, ["sample", str(checkpoint.out), *options, "--max-new-tokens", "12", "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    (sample,) = json.loads(result.stdout)["samples"]
    assert sample["tokens"] == [token for token in new if token not in (1, 2)]
    assert sample["text"] == library.decode(new, skip_special_tokens=True)
    shown = CliRunner().invoke(main, ["import-hf", str(checkpoint.folder), str(checkpoint.out) + "2"])
    assert "chats     by the template default" in shown.stderr


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "expected a template or a list"),
        ([], "expected a template or a list"),
        ([{"name": "a"}], "expected a template or a list"),
        ("x" * (2**20 + 1), "1048577 characters, more than"),
    ],
)
def test_a_damaged_template_is_refused(value: Any, message: str, save: Save) -> None:
    checkpoint = saved(save, byte_level(), {"chat_template": value})
    assert message in checkpoint.import_error(FolderError)


def test_a_model_without_a_template_says_what_to_do(save: Save) -> None:
    checkpoint = saved(save, byte_level())
    checkpoint.import_()
    loaded = gptzoo.load(checkpoint.out)
    with pytest.raises(InputError, match=r"no chat template.*--chat-template FILE"):
        loaded.chat_prompt(MESSAGES)
    assert loaded.chat_prompt(MESSAGES, chat_template="{{ messages[0].role }}")
    with pytest.raises(InputError, match="no message"):
        loaded.chat_prompt([], chat_template="a")


def test_a_folder_of_an_earlier_version_keeps_its_fingerprint(save: Save) -> None:
    """Token stores and draft models are compared by it, and a chat template has no effect on ids."""
    checkpoint = saved(save, byte_level(), {"chat_template": PLAIN, "bos_token": "<s>"})
    checkpoint.import_()
    file = checkpoint.out / "tokenizer.json"
    new = load_tokenizer(file)
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["state"]["gptzoo"]["names"], content["state"]["gptzoo"]["chat_templates"]
    file.write_text(json.dumps(content), encoding="utf-8")
    old = load_tokenizer(file)
    assert old.fingerprint() == new.fingerprint()
    assert old.encode("a</s>b") == new.encode("a</s>b")


def test_a_template_names_the_date_of_today() -> None:
    before, text, after = (
        datetime.now().strftime("%d.%m.%Y"),
        render_template("{{ strftime_now('%d.%m.%Y') }}", {}),
        datetime.now().strftime("%d.%m.%Y"),
    )
    assert text in (before, after)


# ---------------------------------------------------------------------- hostile templates

HOSTILE = {
    "{% for i in range(10**9) %}a{% endfor %}": "Range too big",
    "{{ 'a' * 10**10 }}": "too much memory",
    "{{ 'a' * (5 * 10**6) }}": "longer than 4194304 characters",
    "{% for i in range(99999) %}{{ 'a' * 100 }}{% endfor %}": "longer than 4194304 characters",
    "{{ '%9999999999d' % 1 }}": "",
    "{{ '{:>9999999999}'.format(1) }}": "too much memory",
    "{% set x = namespace(v='a') %}{% for i in range(60) %}{% set x.v = x.v + x.v %}{% endfor %}": "too much memory",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "nested too deeply",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}": "nested too deeply",
    "{{ cycler.__init__.__globals__ }}": "unsafe",
    "{{ dict.__class__.__mro__ }}": "unsafe",
    "{{ raise_exception.__globals__.json }}": "unsafe",
    "{{ '{0.__class__.__mro__}'.format(1) }}": "unsafe",
}


@pytest.mark.parametrize("template", HOSTILE)
def test_a_hostile_template_is_stopped(template: str) -> None:
    with pytest.raises(InputError, match=r"the chat template fails") as raised:
        render_template(template, {"messages": []})
    assert HOSTILE[template] in str(raised.value)
    assert render_template("still {{ 1 + 1 }}", {}) == "still 2"


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of computing time")
def test_an_endless_template_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "MAX_SECONDS", 1)
    loops = "{% for i in range(99999) %}" * 4 + "{% endfor %}" * 4
    with pytest.raises(InputError, match="1 seconds of computing"):
        render_template(loops, {})
    assert render_template("still", {}) == "still"


def test_a_template_is_rendered_without_secrets_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the process itself, as a template that broke out of the sandbox would."""
    monkeypatch.setenv("GPTZOO_API_KEY", "sesame")
    worker = rendering._Worker()
    try:
        assert worker.ask({"template": "a", "variables": {}, "seconds": 5, "bytes": 2**30, "characters": 9}) == {
            "text": "a"
        }
        assert worker.process is not None
        environment = Path(f"/proc/{worker.process.pid}/environ")
        limits = Path(f"/proc/{worker.process.pid}/limits")
        if not environment.exists():
            pytest.skip("needs /proc")
        assert b"sesame" not in environment.read_bytes()
        (file_size,) = [line for line in limits.read_text().splitlines() if line.startswith("Max file size")]
        assert file_size.split()[3] == "0"
    finally:
        worker.stop()


def test_the_process_ends_with_its_parent() -> None:
    code = (
        "from gptzoo.data.chat import rendering; rendering.render_template('a', {}); "
        "print(rendering._worker.process.pid)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    pid = int(result.stdout)
    for _ in range(100):
        if not is_running(pid):
            break
        time.sleep(0.1)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_tokenizer_of_gptzoo_takes_a_template(tmp_path: Path) -> None:
    """Check special tokens of tokenizers that are not imported: a template can write their end-of-text token."""
    for kind in ("byte", "bpe"):
        config: Any = Reference("tokenizer").validate({"type": kind})
        tokenizer = config.build(config.component.fit(config, iter(["a user said hello"] * 3)))
        template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
        ids = chat_prompt_ids(tokenizer, [{"role": "user", "content": "hi<|endoftext|>"}], template=template)
        assert ids == [*tokenizer.encode("hi"), *tokenizer.encode("<|endoftext|>"), tokenizer.eot]
