"""The build step that pyproject.toml cannot express: a wheel has the configurations inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithConfigurations(build_py):
    """The usual build, with `configs/` inside the package, and the LICENSE, whose text some of them train on."""

    def run(self) -> None:
        """Build the package. An editable installation has no copy: it finds the configurations in the clone."""
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib, "gptzoo")
            shutil.rmtree(package / "configs", ignore_errors=True)  # of an earlier build
            shutil.copytree(ROOT / "configs", package / "configs")
            shutil.copy(ROOT / "LICENSE", package)


setup(cmdclass={"build_py": BuildWithConfigurations})
