"""What a process that was killed leaves of its coverage is told from what is whole."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import is_damaged

PAGE_BYTES = 4096


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / ".coverage.whole"
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table coverage_schema (version integer)")
        database.execute("insert into coverage_schema values (7)")
        database.execute("create table arc (numbits blob)")
        database.executemany("insert into arc values (?)", [(bytes(3000),) for _ in range(20)])
        database.commit()
    return path


def test_a_whole_file_is_kept(whole: Path) -> None:
    assert not is_damaged(whole)


@pytest.mark.parametrize("page", [0, 1, 2, 7])
def test_a_page_that_was_not_written(whole: Path, page: int) -> None:
    content = bytearray(whole.read_bytes())
    assert len(content) > 8 * PAGE_BYTES
    content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
    whole.write_bytes(content)
    assert is_damaged(whole)


@pytest.mark.parametrize("pages", [0, 1, 5])
def test_an_end_that_was_not_written(whole: Path, pages: int) -> None:
    whole.write_bytes(whole.read_bytes()[: pages * PAGE_BYTES])
    assert is_damaged(whole)
