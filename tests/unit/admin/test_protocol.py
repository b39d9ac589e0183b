"""The frames of the admin socket."""

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strogoff.admin.protocol import (
    HEADER_SIZE,
    REQUEST_SIZE_MAX,
    Failure,
    Progress,
    ProtocolError,
    Request,
    Success,
    frame_size,
    reachable_path,
    response_from,
)
from strogoff.admin.render import Format
from strogoff.admin.result import Alert, Result, Table, Text

values = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text()
tables = st.integers(1, 4).flatmap(
    lambda width: st.builds(
        Table,
        st.lists(st.text(), min_size=width, max_size=width, unique=True).map(tuple),
        st.lists(st.tuples(*[values] * width), max_size=4),
    )
)
texts = st.builds(Text, st.text(), st.none() | tables)
parts = tables | texts | st.builds(Alert, st.lists(tables | texts, max_size=3).map(tuple))


def _body(frame: bytes) -> bytes:
    size = frame_size(frame[:HEADER_SIZE], len(frame))
    assert size == len(frame) - HEADER_SIZE
    return frame[HEADER_SIZE:]


@given(st.lists(parts, max_size=3), st.lists(st.text(), max_size=2), st.sampled_from(Format))
def test_every_result_comes_out_as_it_went_in(several: list[Table], notes: list[str], output: Format) -> None:
    response = Success(Result(tuple(several), tuple(notes)), output)
    assert response_from(_body(response.encode())) == response


@given(st.lists(st.text(), max_size=5).map(tuple), st.booleans())
def test_every_request_comes_out_as_it_went_in(words: tuple[str, ...], wants_progress: bool) -> None:
    request = Request(words, wants_progress)
    assert Request.decode(_body(request.encode())) == request


@given(st.text())
def test_progress_is_its_text(text: str) -> None:
    assert response_from(_body(Progress(text).encode())) == Progress(text)


def test_a_failure_is_its_sentence() -> None:
    assert response_from(_body(Failure("no such key").encode())) == Failure("no such key")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    try:
        Request.decode(body)
    except ProtocolError:
        return
    assert json.loads(body)["version"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 200_000,
        b'{"version": 2, "words": []}',
        b'{"version": 1}',
        b'{"version": 1, "words": [1]}',
        b'{"version": 1, "words": {"a": 1}}',
        json.dumps({"version": 1, "words": ["a"] * 10_001}).encode(),
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        Request.decode(body)


@pytest.mark.parametrize(
    "body",
    [
        {"version": 1},
        {"version": 1, "ok": True, "format": "human", "notes": [], "parts": [{"type": "tree"}]},
        {"version": 1, "ok": True, "format": "xml", "notes": [], "parts": []},
        {"version": 1, "ok": True, "format": "csv", "notes": [], "parts": 5},
    ],
)
def test_what_is_no_response_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        response_from(json.dumps(body).encode())


def test_a_frame_above_the_limit_is_refused_by_its_header_alone() -> None:
    with pytest.raises(ProtocolError, match=str(REQUEST_SIZE_MAX)):
        frame_size(b"\x7f\xff\xff\xff", REQUEST_SIZE_MAX)
    with pytest.raises(ProtocolError):
        Request(("x" * (REQUEST_SIZE_MAX + 1),)).encode()


def test_a_socket_in_a_directory_with_a_very_long_path_is_reachable(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    path = deep / "admin.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with reachable_path(path) as address:
            server.bind(address)
        server.listen(1)
        assert path.is_socket()
        with reachable_path(path) as address:
            client.connect(address)
