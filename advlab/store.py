"""What long runs keep: one store for all of them, a file of SQLite, and one way to write any other file."""

from __future__ import annotations

import base64
import contextlib
import json
import lzma
import os
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]  #: plain JSON, without a "key"
MAGIC, MARK = b"SQLite format 3\0", 0x41444C42  #: how the file begins, and its application_id, "ADLB"
TIMEOUT = 60.0  #: seconds to wait for another process that writes
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)  #: what reading a record raises if it is none


class StoreError(RuntimeError):
    """A file is no store, is damaged, or cannot be written. The message names it and says what to do.

    Examples
    --------
    >>> Records(__file__, "cell")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    advlab.store.StoreError: ...store.py is no store: name another file
    """


def write(path: str | Path, raw: bytes) -> Path:
    """Write a file whole: whoever reads it, also after a kill or a power cut, finds all of ``raw`` or what was there before.

    Raises
    ------
    OSError
        With the path. Nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> write(Path(tempfile.mkdtemp()) / "card.json", b"{}").read_text()
    '{}'
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.writing")
    try:
        with part.open("wb") as f:
            f.write(raw)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    except OSError as e:
        raise OSError(e.errno, e.strerror, str(path)) from e
    finally:
        part.unlink(missing_ok=True)
    return path


def packed_array(values: np.ndarray) -> Record:
    """An array as a record can hold it.

    Examples
    --------
    >>> unpacked_array(packed_array(np.arange(3))).tolist()
    [0, 1, 2]
    """
    data = base64.b64encode(lzma.compress(values.tobytes())).decode()
    return {"dtype": values.dtype.name, "shape": list(values.shape), "data": data}


def unpacked_array(held: Record) -> np.ndarray:
    """The array that :func:`packed_array` made ``held`` of."""
    values = np.frombuffer(lzma.decompress(base64.b64decode(held["data"])), held["dtype"])
    return values.reshape(held["shape"]).copy()


class Records(Mapping[str, Record]):
    """Records of one ``kind`` by key, in a file that several processes may use at once; other kinds may stand in it too.

    They are read when the file is opened, and by :meth:`refresh`. A packed file, lines of JSON in an .xz, is to be read only.

    Raises
    ------
    StoreError
        For a file that is no store, which is left as it is, and for one that is damaged.

    Guarantee
    ---------
    When :meth:`extend` returns, its records are on the disk; where it is killed or fails, all of them are or none.

    Examples
    --------
    >>> import tempfile
    >>> records = Records(Path(tempfile.mkdtemp()) / "runs.sqlite", "cell")
    >>> records.extend({"vgg FGSM": {"n": 300}})
    >>> len(records), dict(Records(records.path, "cell"))
    (1, {'vgg FGSM': {'n': 300}})
    """

    def __init__(self, path: str | Path, kind: str) -> None:
        self.path, self.kind = Path(path), kind
        self.packed = self.path.suffix == ".xz"
        self._known: dict[str, Record] = {}
        self._last = 0
        if self.packed:
            try:
                self._known |= (_parsed(line) for line in lzma.decompress(self.path.read_bytes()).splitlines())
            except (*UNREADABLE, lzma.LZMAError) as e:
                raise StoreError(f"{self.path} is no packed store, or is cut off ({e!r}): name another, or make it anew") from e
        self.refresh()

    def __getitem__(self, key: str) -> Record:
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def refresh(self) -> None:
        """Learn what other processes have added."""
        if self.packed or not self._is_there():
            return
        with self._database() as db:
            asked = "SELECT id, line, crc FROM records WHERE id > ? AND kind = ? ORDER BY id"
            for number, line, crc in db.execute(asked, (self._last, self.kind)):
                self._known |= [_parsed(line, crc)]
                self._last = number

    def extend(self, records: Mapping[str, Record]) -> None:
        """Add records, each in the place of one with its key, and wait until they are on the disk. None make the file.

        Raises
        ------
        StoreError
            For a packed file, and for one that cannot be written.
        """
        if self.packed:
            raise StoreError(f"{self.path} is packed, to be read only: unpack it into a new store, {self._remedy()}")
        lines = [json.dumps({"key": key, **record}).encode() for key, record in records.items()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._is_there()
        with self._database() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(f"PRAGMA application_id = {MARK}")
            db.execute("CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, kind TEXT, line BLOB, crc INTEGER)")
            rows = ((self.kind, line, zlib.crc32(line)) for line in lines)
            db.executemany("INSERT INTO records (kind, line, crc) VALUES (?, ?, ?)", rows)
            db.execute("COMMIT")
        self._known |= map(_parsed, lines)

    def take(self, path: str | Path) -> int:
        """Add what can be read in another file, and return how much: a store, damaged or not, a packed one, lines of JSON."""
        found: dict[str, Record] = {}
        for row in _rows(Path(path), self.kind):
            with contextlib.suppress(*UNREADABLE):
                found |= [_parsed(*row)]
        self.extend(found)
        return len(found)

    def _is_there(self) -> bool:
        """Whether there is a store, or nothing yet. SQLite is not let near a file that is neither."""
        head = _head(self.path) if self.path.exists() else b""
        if head.startswith(b'{"key": '):
            raise StoreError(f"{self.path} holds lines of an earlier version: to go on from them, {self._remedy()}")
        if head and (head[:16], head[68:]) != (MAGIC, MARK.to_bytes(4, "big")):
            raise StoreError(f"{self.path} is no store: name another file")
        return bool(head)

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=TIMEOUT, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = EXTRA")
                yield db
        except sqlite3.OperationalError as e:
            raise StoreError(f"{self.path} cannot be used ({e}): is there room, and may you write there?") from e
        except (sqlite3.DatabaseError, *UNREADABLE) as e:
            raise StoreError(f"{self.path} is damaged ({e}): to save what can be read, {self._remedy()}") from e

    def _remedy(self) -> str:
        call = f"Records('NEW', {self.kind!r}).take({str(self.path)!r})"
        return f'python -c "from advlab.store import Records; print({call})"; then go on with NEW'


def _head(path: Path) -> bytes:
    with path.open("rb") as f:
        return f.read(72)


def _parsed(line: bytes, crc: int | None = None) -> tuple[str, Record]:
    if crc not in (None, zlib.crc32(line)):
        raise ValueError("a record is not what was written")
    record = json.loads(line)
    return record.pop("key"), record


def _rows(path: Path, kind: str) -> Iterator[tuple]:
    """Rows of (line, crc) or (line,), one by one, so that what is damaged costs no other."""
    if _head(path)[:16] != MAGIC:
        raw = path.read_bytes()
        yield from ((line,) for line in (lzma.decompress(raw) if path.suffix == ".xz" else raw).splitlines())
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(sqlite3.connect(Path(folder) / "copy")) as db:
        copy = shutil.copy(path, Path(folder) / "copy")
        pages, whole = int.from_bytes(_head(path)[28:32]), path.stat().st_size
        os.truncate(copy, max(whole, pages * int.from_bytes(_head(path)[16:18])))  # SQLite reads no file that was cut off
        for id in range(1, whole // 16):  # at least so long is a row
            with contextlib.suppress(sqlite3.DatabaseError):
                yield from db.execute("SELECT line, crc FROM records WHERE id = ? AND kind = ?", (id, kind))
