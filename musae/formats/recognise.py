"""Any checkpoint -> a dictionary: musae's own files, other libraries' files and folders, and repositories of a Hugging Face hub.

A format is recognised by the names of files, and by nothing that could be taken for another; what is inside is then checked by
the format's own adapter. A folder that holds checkpoints in folders of its own is refused with their names, unless it holds just
one.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open

from musae import dictionary as own
from musae.dictionary import Dictionary
from musae.errors import UserError
from musae.formats.adapter import HERE, Adapter, Frozen, adapters, clean, place_of
from musae.formats.weights import read_safetensors, unknown
from musae.methods.imported import Imported

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(/[^\\]*)?$")
"""``org/repo`` or ``org/repo/sub/folder``."""

DEPTH = 4
"""Folders below a given one in which checkpoints are looked for."""

OWN, OWN_FILE = "musae", "dictionary.safetensors"
"""musae's own format, and the name of its file in a folder."""


def load(source: Path | str) -> Dictionary:
    """A dictionary from a path, or from a hub id such as ``org/repo/sub/folder`` where there is no such path.

    What is imported is called by its hub id, or by the last two names of its path. Raises UserError for whatever cannot be read
    as what it is.
    """
    path = Path(source)
    if path.exists() or not HUB_ID.match(str(source)):
        return read(path)
    return read(download(str(source)), str(source).strip("/"))


def read(path: Path, title: str | None = None) -> Dictionary:
    """A dictionary from a file or folder."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder, and no hub id (org/repo/folder) either; give a checkpoint.")
    if path.is_file() and _is_own(path):
        return own.load(path)
    place, adapter = _place(path)
    if adapter is None:
        return own.load(place)
    imported = adapter.read(place)
    words = title or "/".join(part for part in place_of(place).parts[-2:] if part != "/")
    imported.trained["title"] = clean(words, 200)
    return imported


def write(dictionary: Dictionary, destination: Path, target: str) -> Path:
    """Write a dictionary in another library's format, or in musae's own; see `Adapter.write`.

    Raises UserError for an unknown format, a destination that exists, and a dictionary that the format cannot express.
    """
    from musae.files import writing

    known = adapters()
    if target != OWN and target not in known:
        raise UserError(f"no format named {target!r}; known: {', '.join((*known, OWN))}.")
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise UserError(f"{destination}: is there already, and is not overwritten; choose another destination.")
    if target == OWN:
        return dictionary.save(destination if destination.suffix else destination / OWN_FILE)
    frozen = Frozen.of(dictionary, target)
    there = next(folder for folder in (destination, *destination.absolute().parents) if folder.exists())
    with writing(destination / "checkpoint"):
        destination.mkdir(parents=True, exist_ok=True)
        try:
            known[target].write(frozen, destination)
        except UserError:  # refused before anything was written: what was made goes again
            made = destination.absolute()
            while made != there.absolute():
                made.rmdir()
                made = made.parent
            raise
    return destination


def describe(dictionary: Dictionary) -> str:
    """What was understood, one line a fact."""
    trained = dictionary.trained
    if isinstance(dictionary, Imported):
        library = " ".join(filter(None, (dictionary.library, trained.get("version", ""))))
        what = f"{library}, architecture {dictionary.architecture}, read as {dictionary.rule}"
        site = trained.get("site") or "not said"
        normalisation = trained.get("normalisation", "none")
    else:
        what = f"musae, method {dictionary.name}"
        layer = f"layer {trained['layer']}" if "layer" in trained else ""
        site = " ".join(filter(None, (trained.get("generator", ""), layer))) or "not said"
        normalisation = "folded in"
    k = f"{dictionary.k} a frame"
    if dictionary.budget == "mean":
        k = "not held" if dictionary.k >= dictionary.width else f"{dictionary.k} on average"
    facts = {
        "library": what,
        "sizes": f"d = {dictionary.inputs}, width = {dictionary.width}, k: {k}",
        "normalisation": normalisation,
        "site": site,
    }
    return "\n".join(f"{name + ':':<15}{fact}" for name, fact in facts.items())


def download(name: str) -> Path:
    """The local copy of a checkpoint on a Hugging Face hub: of its folder, the files that a format here reads, and no others.

    Raises UserError for a repository that is missing, private or gated, and where there is no network.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors

    parts = name.strip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{clean(name)}: a hub id has no empty parts, no '.' and no '..'; give org/repo/folder.")
    repository, inside = "/".join(parts[:2]), PurePosixPath(*parts[2:])
    is_file = inside.suffix in (".safetensors", ".npz", ".pt", ".pth")
    folder = inside.parent if is_file else inside
    wanted = [OWN_FILE, *sorted({file for adapter in adapters().values() for file in adapter.files})]
    patterns = [str(inside)] * is_file + [str(folder / file) for file in wanted]
    try:
        copy = Path(hub.snapshot_download(repository, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        raise UserError(
            f"{repository}: its authors grant access by request; ask for it on its page, and log in with `hf auth login`."
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"{name}: no such path here, and no such repository on the hub (or a private one); check its name."
        ) from error
    except Exception as error:  # the hub's client lets its network library's errors through
        reason = clean((str(error).splitlines() or [""])[0], 100)
        raise UserError(
            f"{name}: no such path here, and the hub cannot be reached ({reason}); download the folder where there is a network "
            f"and give its path."
        ) from error
    found = copy / inside
    if not found.exists() or (found.is_dir() and not any((found / file).is_file() for file in wanted)):
        raise UserError(
            f"{name}: the repository holds no checkpoint there that is read here ({_needs()}); give the folder of one, as "
            f"{repository}/folder."
        )
    return found


def _is_own(path: Path) -> bool:
    """Whether a file is a dictionary that musae saved, damaged or not."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return "musae" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return not any(adapter.claims(path) for adapter in adapters().values())


def _place(path: Path) -> tuple[Path, Adapter | None]:
    """The checkpoint that a path stands for, and its format; None for a folder that holds just one file of musae's own."""
    claimed = [adapter for adapter in adapters().values() if adapter.claims(path)]
    if len(claimed) == 1:
        return path, claimed[0]
    if claimed:
        names = " or ".join(f"{adapter.name} ({adapter.needs})" for adapter in claimed)
        raise UserError(f"{path}: may be {names}; give the file of weights that is meant, or keep them in folders of their own.")
    if path.is_file():
        if path.suffix == ".safetensors":
            raise unknown(read_safetensors(path), f"give the folder of a known format ({_needs()})")
        raise UserError(
            f"{path}: a file of no format that is read here ({_needs()}); give a folder of one, or write an adapter: one "
            f"file in {HERE}."
        )
    inside = [(folder, adapter) for folder in _folders(path) for adapter in adapters().values() if adapter.claims(folder)]
    if len(inside) == 1:
        return inside[0]
    if inside:
        found = [str(folder.relative_to(path)) for folder, _ in inside]
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        raise UserError(f"{path}: holds {len(found)} checkpoints, {', '.join(found[:8])}{more}; give one of them.")
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        if _is_own(files[0]):
            return files[0], None
        raise unknown(read_safetensors(files[0]), f"known folders hold {_needs()}")
    held = ", ".join(clean(file.name, 60) for file in sorted(path.iterdir())[:8]) or "nothing"
    raise UserError(
        f"{path}: no checkpoint that is read here: it holds {held}, and known are {_needs()}; give the folder of one."
    )


def _folders(path: Path) -> list[Path]:
    """Folders below one, `DEPTH` deep, hidden ones left out."""
    found, level = [], [path]
    for _ in range(DEPTH):
        level = [
            inner for folder in level for inner in sorted(folder.iterdir()) if inner.is_dir() and not inner.name.startswith(".")
        ]
        found += level
    return found


def _needs() -> str:
    return "; ".join(f"{adapter.name}: {adapter.needs}" for adapter in adapters().values())
