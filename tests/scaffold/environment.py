"""A fresh virtual environment that also sees the packages of the one that runs the tests."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

_SCRIPTS = {
    "gptzoo": "from gptzoo.cli import main",
    "pytest": "from pytest import main",
    "pip": "from pip._internal.cli.main import main",
}


class Environment:
    """A fresh virtual environment in `folder`. Packages installed into it do not reach the one that runs the tests."""

    def __init__(self, folder: Path):
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        packages = next((folder / "lib").glob("python*/site-packages"))
        # addsitedir also reads .pth files, through which editable packages are found.
        outside = sysconfig.get_path("purelib")
        (packages / "outside.pth").write_text(f"import site; site.addsitedir({outside!r})\n")
        for name, statement in _SCRIPTS.items():
            script = self.bin / name
            script.write_text(f"#!{self.bin / 'python'}\nimport sys\n{statement}\nsys.exit(main())\n")
            script.chmod(0o755)

    def run(self, command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[Any]:
        """Run a bash script in `folder`, with the commands of this environment first on the PATH."""
        inherited = {key: value for key, value in os.environ.items() if key not in ("GPTZOO_PLUGINS", "PYTEST_ADDOPTS")}
        if _has_setuptools():
            inherited["PIP_NO_BUILD_ISOLATION"] = "0"  # "0" turns build isolation off; the variable is inverted
        variables = {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", **variables}
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env={**inherited, "VIRTUAL_ENV": str(self.bin.parent), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _has_setuptools() -> bool:
    """Return True if the installed setuptools can build a package. Otherwise pip downloads it for each build."""
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0]) >= 77
    except importlib.metadata.PackageNotFoundError:
        return False
