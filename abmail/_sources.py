"""The files of a mail beside its two templates: what they include, what is attached, and pictures shown inside.

They are read when a definition is applied and stored with its version: a mail that goes out next week is made of what
was applied, whatever became of the folder.
"""

from __future__ import annotations

import os.path
from difflib import get_close_matches
from mimetypes import guess_type
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from abmail._guard import MAX_OUTPUT
from abmail._templates import loaded_names
from abmail.errors import RenderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from abmail.spec import Message

__all__ = ["attached_parts", "included", "inline_parts", "read_files", "read_template"]

_MAX_ATTACHED: Final = 5_000_000  # octets of all attachments and pictures of a mail; a third more when encoded
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_RISKY: Final = (
    "ade adp app apk bat chm cmd com cpl dll dmg exe hta htm html ins iso isp jar js jse lib lnk mde msc msi msp mst "
    "nsh pif ps1 scr sct sh svg sys vb vbe vbs vxd wsc wsf wsh"
)
_REFUSED: Final = frozenset(_RISKY.split())
"""Endings that Gmail, Outlook and others refuse, or that run something when they are opened."""


def read_template(project_root: Path | str, name: str) -> str:
    """Read a mail template of a project.

    Args:
        project_root: The project's folder.
        name: Path of the template inside it, as the definition writes it.

    Raises:
        RenderError: There is no such file in the folder, or it is not UTF-8, or too large.
    """
    content = _read(Path(project_root), name, "template", "the project folder")
    return _decoded(content, name)


def read_files(project_root: Path | str, message: Message, templates: Iterable[tuple[str, str]]) -> dict[str, bytes]:
    """Read what the mails of a definition need beside their templates.

    Args:
        project_root: The project's folder.
        message: Names the template, in whose folder the included ones lie, and the attachments and pictures.
        templates: Source and name of each template and text that may include others.

    Returns:
        Path in the project -> content.

    Raises:
        RenderError: A file is not there, lies outside, is too large, or of a kind that must not be sent.
    """
    root, folder = Path(project_root), PurePosixPath(message.template).parent
    files: dict[str, bytes] = {}
    waiting = list(templates)
    while waiting:
        source, name = waiting.pop()
        for loaded in loaded_names(source, name):
            path = str(folder / loaded)
            if path not in files:
                content = _read(root / folder, loaded, "template", "the folder of the template")
                files[path] = content
                waiting.append((_decoded(content, path), path))
    sizes = 0
    for path in (*(message.attachments or ()), *(message.images or ())):
        files[path] = _read(root, path, "file", "the project folder", limit=_MAX_ATTACHED)
        sizes += len(files[path])
    if sizes > _MAX_ATTACHED:
        raise RenderError(
            f"attachments and pictures have {sizes} bytes, at most {_MAX_ATTACHED} are possible",
            hint="put the files on your site and link to them",
        )
    return files


def included(files: Mapping[str, bytes], message: Message) -> dict[str, str]:
    """The templates among the files, by the name that others use for them."""
    folder = PurePosixPath(message.template).parent
    other = {*(message.attachments or ()), *(message.images or ())}
    found = {path: content for path, content in files.items() if path not in other}
    return {str(PurePosixPath(path).relative_to(folder)): _decoded(content, path) for path, content in found.items()}


def attached_parts(files: Mapping[str, bytes], message: Message) -> tuple[bytes, ...]:
    """The attachments as MIME parts.

    Raises:
        RenderError: One is missing, or of a kind that must not be sent.
    """
    parts = []
    for path in message.attachments or ():
        name = PurePosixPath(path).name
        if name.rpartition(".")[2].lower() in _REFUSED or name.startswith("."):
            raise RenderError(f"{path} cannot be attached: mail programs refuse such files", hint="link to it instead")
        parts.append(_part(_file(files, path), guess_type(name)[0] or "application/octet-stream", filename=name))
    return tuple(parts)


def inline_parts(files: Mapping[str, bytes], message: Message) -> dict[str, tuple[str, bytes, bytes]]:
    """The pictures inside the mail: name after ``cid:`` -> type, content, MIME part.

    Raises:
        RenderError: One is missing or no picture, its name cannot stand in a link, or two have the same.
    """
    found: dict[str, tuple[str, bytes, bytes]] = {}
    for path in message.images or ():
        name, kind = PurePosixPath(path).name, guess_type(path)[0] or ""
        if kind not in _IMAGES:
            raise RenderError(f"{path} is no picture that mail programs show: PNG, JPEG, GIF or WebP")
        if name in found or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
            raise RenderError(
                f"the picture {path} cannot be named in a mail", hint="letters, digits, '.', '_' and '-'; no name twice"
            )
        content = _file(files, path)
        found[name] = (kind, content, _part(content, kind, filename=name, cid=name))
    return found


def _part(content: bytes, kind: str, *, filename: str, cid: str = "") -> bytes:
    from email.message import MIMEPart  # slow to load, and few mails have such a part
    from email.policy import SMTP

    main, _, sub = kind.partition("/")
    part = MIMEPart(policy=SMTP)
    disposition = "inline" if cid else "attachment"
    part.set_content(content, main, sub, filename=filename, disposition=disposition, cid=f"<{cid}>" if cid else None)
    return part.as_bytes()


def _file(files: Mapping[str, bytes], path: str) -> bytes:
    if path not in files:
        raise RenderError(f"the file {path} is not there", hint="read the files of the definition with `read_files`")
    return files[path]


def _read(folder: Path, name: str, what: str, where: str, *, limit: int = MAX_OUTPUT) -> bytes:
    """Read a file inside a folder; links that lead out of it count as outside."""
    root = os.path.realpath(folder)
    path = Path(os.path.realpath(os.path.join(root, name)))  # noqa: PTH118 - in one step, as many are read
    if not path.is_relative_to(root):
        raise RenderError(f"{what} {name!r} lies outside {where} {root}", template=name)
    try:
        size = path.stat().st_size
        if size > limit:
            raise RenderError(f"{what} {name!r} has {size} bytes, at most {limit} are possible", template=name)
        return path.read_bytes()
    except OSError as error:
        near = get_close_matches(path.name, sorted(_names(path.parent)), 1)
        hint = f"did you mean {near[0]}?" if near else f"it is looked for in {where}"
        reason = f"{what} {name!r} cannot be read in {root}: {error.strerror}"
        raise RenderError(reason, template=name, hint=hint) from error


def _names(folder: Path) -> Iterator[str]:
    return (each.name for each in folder.glob("*"))


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"template {name!r} is not UTF-8 (byte {error.start}, line {line})"
        raise RenderError(message, template=name, line=line, hint="save it as UTF-8 in your editor") from error
