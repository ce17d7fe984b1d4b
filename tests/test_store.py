"""The store of long runs: what was added is there, whoever is killed, and what is no store is left alone."""

import contextlib
import lzma
import os
import random
import shlex
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advlab import store
from advlab.store import Records, StoreError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.dictionaries(st.text(), st.dictionaries(st.text().filter("key".__ne__), VALUES, max_size=3), max_size=4)


@settings(max_examples=15, deadline=None)
@given(first=RECORDS, second=RECORDS)
def test_what_was_added_last_is_there(first, second):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        ours, others = Records(path, "a"), Records(path, "b")
        ours.extend(first)
        others.extend({"key of another kind": {}})
        late = Records(path, "a")
        ours.extend(second)
        assert dict(ours) == first | second
        assert dict(late) == first
        late.refresh()
        assert dict(late) == dict(Records(path, "a")) == first | second
        assert list(Records(path, "b")) == ["key of another kind"]


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64"])
def test_arrays_come_back(dtype):
    values = np.random.default_rng(0).integers(0, 200, (2, 3, 4)).astype(dtype)
    back = store.unpacked_array(store.packed_array(values[:, ::2]))
    assert back.dtype == values.dtype
    assert np.array_equal(back, values[:, ::2])
    back += 1


WRITER = """
import sys
from advlab.store import Records

records = Records(sys.argv[1], "n")
for i in range(10_000):
    key = f"{sys.argv[2]} {i}"
    records.extend({key: {"i": i, "text": "x" * (i % 7) * 900}})
    print(key, flush=True)
"""


@pytest.mark.book  # takes longer than make quick has
def test_two_writers_killed_again_and_again_lose_nothing(tmp_path):
    """Kill -9 at random moments. What a process was told to be on the disk is there, and a new process goes on."""
    path, chance, told = tmp_path / "store.sqlite", random.Random(0), []
    for attempt in range(2):
        both = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"{attempt}{name}"], stdout=subprocess.PIPE, text=True)
            for name in "ab"
        ]
        for process in both:
            assert process.stdout is not None
            told.append(process.stdout.readline().strip())
        time.sleep(chance.random() / 2)
        for process in both:
            process.send_signal(signal.SIGKILL)
            told += process.communicate()[0].splitlines()[:-1]  # the last may be cut off
    records = Records(path, "n")
    assert len(told) >= 4
    assert not set(told) - set(records)
    assert all(records[key] == {"i": i, "text": "x" * (i % 7) * 900} for key in told for i in [int(key.split()[1])])


def filled(path, n=400):
    records = Records(path, "n")
    records.extend({f"k{i}": {"i": i, "text": f"{i} " * 40} for i in range(n)})
    return records


def garbage(raw):
    middle = len(raw) // 8192 * 4096
    return raw[:middle] + bytes(range(256)) * 16 + raw[middle + 4096 :]


def flipped(raw):
    at = raw.index(b'"i": 123,') + 5
    return raw[:at] + b"9" + raw[at + 1 :]


def cut(raw):
    return raw[: len(raw) * 3 // 4]


@pytest.mark.parametrize(("damage", "left"), [(garbage, 340), (flipped, 399), (cut, 250)])
def test_a_damaged_file_is_named_and_what_can_be_read_is_saved(tmp_path, damage, left):
    path = tmp_path / "store.sqlite"
    true = dict(filled(path))
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"store.sqlite is damaged .* to save what can be read, python -c") as said:
        Records(path, "n")
    command = shlex.split(str(said.value).partition("can be read, ")[2].rpartition("; then")[0])
    command = [part.replace("NEW", str(tmp_path / "new")) for part in command]
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, check=True)
    saved = Records(tmp_path / "new", "n")
    assert left <= len(saved) == int(done.stdout) < 400
    assert dict(saved).items() <= true.items()
    assert path.read_bytes() == before


def foreign(path):
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE bookmarks (id INTEGER)")
    return path.read_bytes()


@pytest.mark.parametrize("raw", [b"my thesis", b"\x89PNG\r\n\x1a\n" + bytes(100), b"SQLite format 3", foreign])
def test_a_file_that_is_no_store_is_refused_and_untouched(tmp_path, raw):
    path = tmp_path / "mine"
    raw = raw(path) if callable(raw) else raw
    path.write_bytes(raw)
    with pytest.raises(StoreError, match="mine is no store: name another file"):
        Records(path, "n")
    path.unlink()
    late = Records(path, "n")
    path.write_bytes(raw)  # it came after the store was opened
    with pytest.raises(StoreError, match="mine is no store"):
        late.extend({"a": {}})
    assert path.read_bytes() == raw
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "raw", [b"no xz", lzma.compress(b'{"key": "k"'), lzma.compress(b"[1]\n[2]\n"), lzma.compress(b"a\n")[:-9]]
)
def test_a_packed_file_that_is_none_is_named(tmp_path, raw):
    (tmp_path / "e.jsonl.xz").write_bytes(raw)
    with pytest.raises(StoreError, match=r"e.jsonl.xz is no packed store"):
        Records(tmp_path / "e.jsonl.xz", "n")


@contextlib.contextmanager
def as_a_reader(folder):
    """Someone who may read what is in a folder, and not write."""
    if os.geteuid() == 0:
        folder.chmod(0o755)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        folder.chmod(0o555)
        for file in folder.iterdir():
            file.chmod(0o444)
        yield
        folder.chmod(0o755)


def test_a_folder_that_is_to_be_read_only():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        filled(folder / "store.sqlite", 3)
        with as_a_reader(folder):
            records = Records(folder / "store.sqlite", "n")
            assert len(records) == 3
            for path in (records.path, folder / "new.sqlite"):
                with pytest.raises(StoreError, match=rf"{path} cannot be used \(.*may you write there"):
                    Records(path, "n").extend({"a": {}})
            with pytest.raises(PermissionError, match=r"card\.json"):
                store.write(folder / "card.json", b"{}")
        assert len(Records(folder / "store.sqlite", "n")) == 3
        assert [path.name for path in folder.iterdir()] == ["store.sqlite"]


FULL = """
import resource, sys
from pathlib import Path
from advlab import store

resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
for where in sys.argv[1:]:
    told = 0
    try:
        for i in range(100):
            if where.endswith("json"):
                store.write(where, bytes(1000 * i))
            else:
                store.Records(where, "n").extend({str(i): {"text": "x" * 1000}})
            told = i
    except (OSError, store.StoreError) as e:
        print(f"{told} {e}")
"""


def test_a_full_disk_is_said_and_costs_only_what_came_last(tmp_path):
    """A limit on the size of files does what a full disk does."""
    paths = [tmp_path / "store.sqlite", tmp_path / "card.json"]
    done = subprocess.run([sys.executable, "-c", FULL, *map(str, paths)], capture_output=True, text=True, check=True)
    (first, of_the_store), (last, of_the_file) = (line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert f"{paths[0]} cannot be used" in of_the_store
    assert str(paths[1]) in of_the_file
    assert list(Records(paths[0], "n")) == [str(i) for i in range(int(first) + 1)]
    assert paths[1].read_bytes() == bytes(1000 * int(last))
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_whoever_waits_too_long_for_another_writer_is_told(tmp_path, monkeypatch):
    records = filled(tmp_path / "store.sqlite", 3)
    monkeypatch.setattr(store, "TIMEOUT", 0.1)
    with contextlib.closing(sqlite3.connect(records.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match=r"store.sqlite cannot be used \(database is locked\)"):
            records.extend({"a": {}})
    records.extend({"a": {}})
    assert len(Records(records.path, "n")) == 4
