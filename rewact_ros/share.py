"""Where launch/, config/ and models/ are: in the source tree, or installed below a prefix."""

from pathlib import Path


def share_dir() -> Path:
    """Return the folder that holds `launch/`, `config/` and `models/`.

    That is the source tree when this file is in one (a clone, an editable install), else
    `PREFIX/share/rewact_ros` of the environment or colcon workspace that it is installed in.

    Raises:
        FileNotFoundError: this is neither a source tree nor a complete installation.
    """
    package = Path(__file__).parent.absolute()  # not resolved: a symlinked install stays one
    tree = package.parent
    if (tree / "package.xml").is_file():
        return tree
    # PREFIX/lib/python3.X/site-packages/rewact_ros
    installed = package.parents[3] / "share" / "rewact_ros"
    if installed.is_dir():
        return installed
    raise FileNotFoundError(
        f"share folder of rewact_ros: expected a source tree at {tree} (with package.xml) or "
        f"{installed}; neither exists. Install again with `pip install .` or `colcon build`."
    )
