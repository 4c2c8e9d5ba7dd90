"""The chat templates of a checkpoint: their files, and the entry in tokenizer_config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gptzoo.data.chat.rendering import MAX_TEMPLATE
from gptzoo.errors import FolderError

TEMPLATE_FILE = "chat_template.jinja"
_MORE_TEMPLATES = "additional_chat_templates"
DEFAULT = "default"


def read_chat_templates(folder: Path, settings: dict[str, Any], source: str) -> dict[str, str]:
    """Return the chat templates of a checkpoint by name. Files take precedence over the settings, as in transformers.

    settings: the content of tokenizer_config.json, whose path is `source`. Its entry is one template or a list of them.

    Raises FolderError for a template of another type, an unreadable file, or one that is too long to be a template.
    """
    files = {DEFAULT: folder / TEMPLATE_FILE} if (folder / TEMPLATE_FILE).is_file() else {}
    files |= {file.stem: file for file in sorted((folder / _MORE_TEMPLATES).glob("*.jinja"))}
    templates = {name: _read_text(file) for name, file in files.items()}
    if not templates:
        templates = _templates_of_settings(settings.get("chat_template"), source)
    for name, template in templates.items():
        if len(template) > MAX_TEMPLATE:
            raise FolderError(
                f"{files.get(name, source)}: the chat template {name!r} has {len(template)} characters, more than "
                f"{MAX_TEMPLATE}; remove it to import the model without it"
            )
    return templates


def _templates_of_settings(value: object, source: str) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):
        return {DEFAULT: value}
    pairs: list[tuple[object, object]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        pairs = [(entry.get("name"), entry.get("template")) for entry in value]
    templates = {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}
    if not templates or len(templates) < len(pairs):
        raise FolderError(
            f"{source}: $.chat_template: expected a template or a list of objects with name and template; remove it to "
            "import the model without it"
        )
    return templates


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise FolderError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise FolderError(f"{file}: is not UTF-8 text; remove it to import the model without it") from None
