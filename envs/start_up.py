"""Used when the package is built, never afterwards: has Python import ``cppo_envs`` when it starts."""

from pathlib import Path

from setuptools.command.build_py import build_py

LINE = "import sys; exec('try: import cppo_envs\\nexcept ImportError: pass')\n"
"""What Python runs when it starts; a checkout that was moved away must not make it complain."""


class BuildWithStartUp(build_py):
    """Puts ``cppo_envs.pth`` beside the packages, in a wheel and in an editable installation."""

    def run(self) -> None:
        """Build as ever, then write the file to where the packages go."""
        super().run()
        folder = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        Path(folder, "cppo_envs.pth").write_text(LINE)
