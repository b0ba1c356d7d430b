"""From the TARGET of `dbos-events run` to the App that it means."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from dbos_events.app import App
from dbos_events.errors import DBOSException, DBOSInitializationError, StorageUnavailable
from dbos_events.facade import DBOS, default_app


class TargetError(DBOSInitializationError):
    """TARGET cannot be imported, or there is no App in it."""

    code = "target"


def load_app(target: str) -> App:
    """Import what TARGET names, with the working directory on `sys.path`, and find its App.

    TARGET is `package.module` or `path/file.py`, either with `:attribute`. Without an attribute it is the
    default App, the one behind DBOS; where nothing is registered with that, the only App of the module.

    Raises:
        TargetError: Says in one line what is wrong, and where.
    """
    place, _, attribute = target.partition(":")
    _put_on_path(Path.cwd())
    module = _import(module_of(target), place)
    return _named(module, attribute, place) if attribute else _default(module, place)


def module_of(target: str) -> str:
    """The name under which the module that TARGET names is imported: `orders` for `orders.py`."""
    place = target.partition(":")[0]
    return _module_of_file(Path(place)) if place.endswith(".py") or os.sep in place else place


# ------------------------------------------------------------------ importing


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _module_of_file(file: Path) -> str:
    """The name to import a file by: that of its package where it is in one, so that its own imports work."""
    if not file.is_file():
        raise TargetError(f"There is no file {file}.")
    file = file.resolve()
    parts = [] if file.stem == "__init__" else [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    _put_on_path(folder)
    name = ".".join(parts)
    known = getattr(sys.modules.get(name), "__file__", None)
    if "." in file.stem or (name in sys.modules and (known is None or Path(known).resolve() != file)):
        raise TargetError(
            f"{file.name} cannot be imported: another module is called {name!r}. Rename the file."
        )
    return name


def _import(name: str, place: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except StorageUnavailable as error:
        raise TargetError(
            f"{place} launches DBOS itself, and the database does not answer: {error.message} Leave "
            "DBOS.launch() to `dbos-events run`, which waits for the database."
        ) from error
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise TargetError(f"There is no module {name!r} in {Path.cwd()} or on Python's path.") from error
        raise TargetError(f"{place} cannot be imported: {_describe(error)}") from error
    except SystemExit as error:
        raise TargetError(
            f"{place} cannot be imported: it ends the process by itself ({_where(error)})."
        ) from error
    except Exception as error:
        raise TargetError(f"{place} cannot be imported: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({Path(error.filename or '?').name}, line {error.lineno})"
    text = error.message if isinstance(error, DBOSException) else f"{type(error).__name__}: {error}"
    return f"{text} ({_where(error)})"


def _where(error: BaseException) -> str:
    """The line of the user's code that it comes from: the last one that is no library's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    frame = (own or list(frames))[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def _is_library(file: str) -> bool:
    libraries = (str(Path(__file__).parents[1]), str(Path(os.__file__).parent))
    return file.startswith(("<", *libraries)) or "site-packages" in file


# ------------------------------------------------------------------ finding the App


def _named(module: ModuleType, attribute: str, place: str) -> App:
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if found is DBOS:
        return default_app()
    if isinstance(found, App):
        return found
    what = "nothing" if found is None else f"of type {type(found).__name__}"
    raise TargetError(f"{place}:{attribute} is {what}, not an App of dbos_events.{_hint(module, place)}")


def _default(module: ModuleType, place: str) -> App:
    app = default_app()
    if app.is_launched or app.consumers or app.registry.workflows or app.registry.queues:
        return app
    apps = _apps(module)
    if len(set(apps.values())) == 1:
        return next(iter(apps.values()))
    if apps:
        raise TargetError(f"{place} has several Apps.{_hint(module, place)}")
    raise TargetError(f"{place} registers nothing with DBOS: no workflow, no consumer, no queue.")


def _apps(module: ModuleType) -> dict[str, App]:
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}


def _hint(module: ModuleType, place: str) -> str:
    names = sorted(_apps(module))
    return f" Use {' or '.join(f'{place}:{name}' for name in names)}." if names else ""
