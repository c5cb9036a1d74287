"""An export as a repository on the Hugging Face Hub."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from supernet.base.files import read_json
from supernet.export.reading import FACTS, ExportError, is_export


def push(folder: Path, repository: str, *, private: bool = False, api: Any = None) -> str:
    """Uploads the files of an export in one commit: those that `export.json` lists, and nothing else in the folder.

    Args:
        folder: of the export.
        repository: OWNER/NAME; created if it does not exist.
        private: whether a new repository is private.
        api: has the methods of `huggingface_hub.HfApi` that create a repository and upload a folder; None is that
            class, with the token of ``hf auth login``.

    Returns:
        The address of the repository.

    Raises:
        ExportError: there is no export, the name is wrong, a package is missing, or the Hub refuses.
    """
    if not is_export(folder):
        raise ExportError(f"{folder} holds no export: run `supernet export` first")
    facts = read_json(folder / FACTS, ("id", "files"))
    names = [FACTS, *map(str, facts["files"])]
    for name in names:
        if Path(name).name != name or (folder / name).is_symlink():
            raise ExportError(
                f"{folder / FACTS} lists {name!r}, which is no file of the export: export the network again"
            )
        if not (folder / name).is_file():
            raise ExportError(f"{folder / name} is missing: export the network again")
    owner, _, name = repository.partition("/")
    if not owner or not name or "/" in name:
        raise ExportError(f"repository: expected OWNER/NAME, got {repository!r}")
    if api is None:
        if importlib.util.find_spec("huggingface_hub") is None:
            raise ExportError("push needs huggingface_hub: pip install 'supernet[hub]'")
        from huggingface_hub import HfApi

        api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="supernet-push-") as place:
            for name in names:
                shutil.copyfile(folder / name, Path(place) / name)
            message = f"Network {facts['id']}, exported by supernet"
            api.upload_folder(repo_id=repository, folder_path=place, commit_message=message)
    except Exception as error:  # the Hub's client raises errors of several libraries
        raise ExportError(f"{repository}: the Hub refuses ({' '.join(str(error).split())})") from error
    return str(address)
