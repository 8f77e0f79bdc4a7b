"""Map the project's folders to the installed names; all else is in pyproject.toml.

`policies/`, `sim/` and `hardware/` are installed as `robostack.policies` and so on, so
that nothing of ours shadows a user's own folder of that name.
"""

from setuptools import find_packages, setup

PLUGINS = ("policies", "sim", "hardware")
content = find_packages(
    include=[f"{kind}{tail}" for kind in PLUGINS for tail in ("", ".*")]
)

setup(
    packages=[
        *find_packages(include=["robostack", "robostack.*"]),
        *(f"robostack.{name}" for name in content),
    ],
    package_dir={f"robostack.{kind}": kind for kind in PLUGINS},
)
