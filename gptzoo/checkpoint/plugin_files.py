"""The sources of plugin files, kept with the results that they gave.

They are records. Nothing in these folders is executed, unless the user gives a kept file with `--plugin`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePath

from gptzoo import registry
from gptzoo.utils.atomic import new_file


@dataclass(frozen=True)
class PluginFile:
    """A plugin file that was given with `--plugin`."""

    name: str  # of the file, without its folder
    sha256: str

    @property
    def kept(self) -> str:
        """The path of the kept copy, relative to the folder of the results."""
        return f"plugins/{PurePath(self.sha256[:12]).name}/{PurePath(self.name).name}"

    def read(self, folder: Path) -> bytes | None:
        """Return the source that `folder` keeps, or None if it is missing or was changed."""
        try:
            source = (folder / self.kept).read_bytes()
        except OSError:
            return None
        return source if hashlib.sha256(source).hexdigest() == self.sha256 else None


def loaded_plugin_files() -> list[PluginFile]:
    """Return the plugin files that this process has loaded, in the order of loading."""
    return [_record(file, source) for file, source in registry.current().file_sources.items()]


def keep_plugin_files(folder: Path) -> None:
    """Write the sources of the loaded plugin files into `folder`, unless they are there. Raises OSError."""
    for file, source in registry.current().file_sources.items():
        target = folder / _record(file, source).kept
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with new_file(target) as temporary:
                temporary.write_bytes(source)


def _record(file: Path, source: bytes) -> PluginFile:
    return PluginFile(file.name, hashlib.sha256(source).hexdigest())
