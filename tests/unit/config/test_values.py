"""What texts the types of the key table accept, and what they mean."""

import pytest

from strogoff.config.addresses import Address, UnixSocket
from strogoff.config.values import INHERIT, NotOfTypeError, type_named

ACCEPTED = [
    ("flag", "on", True),
    ("flag", "OFF", False),
    ("flag", "True", True),
    ("flag", "no", False),
    ("flag", "1", True),
    ("flag", "0", False),
    ("integer", "-7", -7),
    ("integer(0..2)", "2", 2),
    ("integer(0..65535 capped)", "70000", 65_535),
    ("integer(1..)|infinity", "infinity", None),
    ("integer(1..)|infinity|inherit", "-1", INHERIT),
    ("integer(1..)|infinity|inherit", "12", 12),
    ("enum(fifo,lifo)", "LIFO", "lifo"),
    ("string", "", ""),
    ("string(1)", ":", ":"),
    ("nodename", "VerneMQ@10.0.0.1", "VerneMQ@10.0.0.1"),
    ("listening", "127.0.0.1:1883", Address("127.0.0.1", 1883)),
    ("listening", "[::1]:1883", Address("::1", 1883)),
    ("listening", "::1:1883", Address("::1", 1883)),
    ("listening", "mqtt.example.org:0", Address("mqtt.example.org", 0)),
    ("listening", "1883", Address("0.0.0.0", 1883)),
    ("listening", "local:/run/mqtt.sock:0", UnixSocket("/run/mqtt.sock")),
    ("bytesize", "512", 512),
    ("bytesize", "4kb", 4096),
    ("bytesize", "4Kb", 4096),
    ("bytesize", "4 KiB", 4096),
    ("bytesize", "1G", 1024**3),
    ("bytesize", "+5", 5),
    ("bytesize", str(2**63 - 1), 2**63 - 1),
    ("bytesize|infinity", "Infinity", None),
    ("bytesize(0..268435460 capped)", "64KB", 65_536),
    ("bytesize(0..268435460 capped)", "1GB", 268_435_460),
    ("bytesize(0..268435460 capped)", "300000000", 268_435_460),
    ("bytesizes(*3)", "4096,16KB,4 KiB", (4096, 16384, 4096)),
    ("span|never", "never", None),
    ("span|never", "90s", 90),
    ("span|never", "30min", 1_800),
    ("span|never", "1h30min", 5_400),
    ("span|never", "1w2d", 9 * 86_400),
    ("span|never", "1m", 2_419_200),
    ("span|never", "1y", 29_030_400),
    ("span|never", "999999999999w", 100 * 366 * 86_400),
    ("duration|off", "1h30m", 5_400_000),
    ("duration|off", "1.5s", 1_500),
    ("duration|off", "0.1ms", 1),
    ("duration|off", "off", None),
    ("percent", "10%", 10),
    ("percent", "10", 10),
    ("integers(3,4,5,131,132)", "3, 4", (3, 4)),
    ("integers(3,4,5,131,132)", "[5,5]", (5,)),
    ("integers(*3)", "4096,16384,4096", (4096, 16384, 4096)),
    ("words", "[vmq_acl, vmq_passwd]", ("vmq_acl", "vmq_passwd")),
    ("words", "[]", ()),
    ("words(tlsv1.2,tlsv1.3)", "tlsv1.2, tlsv1.3", ("tlsv1.2", "tlsv1.3")),
]

REFUSED = [
    ("flag", "maybe"),
    ("flag", ""),
    ("integer", "1.5"),
    ("integer", "10k"),
    ("integer", "٣"),
    ("integer", "9" * 5_000),
    ("integer(0..2)", "3"),
    ("integer(0..65535 capped)", "-1"),
    ("integer(1..)|infinity", "0"),
    ("enum(fifo,lifo)", "filo"),
    ("string(1)", "::"),
    ("string", "a\0b"),
    ("nodename", "no-host"),
    ("nodename", "a@b/c"),
    ("address", "local:/run/mqtt.sock:0"),
    ("listening", "local:/run/mqtt.sock:1"),
    ("listening", "127.0.0.1:65536"),
    ("listening", "127.0.0.1:"),
    ("listening", "127.0.0.256:1883"),
    ("listening", "[127.0.0.1]:1883"),
    ("listening", "[::1:1883"),
    ("listening", "ho st:1883"),
    ("listening", "off"),
    ("bytesize", "4PB"),
    ("bytesize", "4iB"),
    ("bytesize", "-1"),
    ("bytesize", "9" * 19),
    ("bytesize", "1.5KB"),
    ("bytesize(1..65535 capped)", "0"),
    ("bytesize(4096..1073741824)", "2GB"),
    ("bytesize(4096..)", "2KB"),
    ("bytesizes(*3)", "1,2"),
    ("bytesizes(*3)", "1,2,3PB"),
    ("span|never", "90"),
    ("span|never", "1h30m"),
    ("span|never", "30min1h"),
    ("span|never", "1h1h"),
    ("span|never", "1 h"),
    ("span|never", "forever"),
    ("duration", "10"),
    ("duration", "10x"),
    ("percent", "101"),
    ("integers(3,4,5,131,132)", "6"),
    ("integers(*3)", "1,2"),
    ("words", "a,,b"),
    ("words(tlsv1.2,tlsv1.3)", "tlsv2"),
]


@pytest.mark.parametrize(("type_name", "text", "value"), ACCEPTED)
def test_a_text_of_the_type_has_its_value(type_name: str, text: str, value: object) -> None:
    assert type_named(type_name).read(text).value == value


@pytest.mark.parametrize(("type_name", "text"), REFUSED)
def test_another_text_is_refused_with_what_was_expected(type_name: str, text: str) -> None:
    with pytest.raises(NotOfTypeError, match=r"^expected .+, not ") as caught:
        type_named(type_name).read(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("text", "meaning"), [("1m", "28 days"), ("2y", "336 days")])
def test_months_and_years_of_a_session_are_remarked_upon(text: str, meaning: str) -> None:
    assert meaning in (type_named("span|never").read(text).remark or "")


def test_a_number_beyond_what_can_be_used_is_capped_and_remarked_upon() -> None:
    assert "65535 is in force" in (type_named("integer(0..65535 capped)").read("100000").remark or "")
    assert "1GB is more than can be used" in (type_named("bytesize(0..65535 capped)").read("1GB").remark or "")


def test_the_range_of_a_size_is_told() -> None:
    with pytest.raises(NotOfTypeError, match=r"^expected a size from 4096 to 65536 bytes, .*, not '1KB'$"):
        type_named("bytesize(4096..65536)").read("1KB")


def test_minutes_in_a_combined_span_are_explained() -> None:
    with pytest.raises(NotOfTypeError, match="minutes are min"):
        type_named("span|never").read("1h30m")


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [("127.1.2.3:1", True), ("[::1]:1", True), ("localhost:1", True), ("10.0.0.1:1", False), ("1883", False)],
)
def test_loopback_addresses_are_known(text: str, is_loopback: bool) -> None:
    address = type_named("address").read(text).value
    assert isinstance(address, Address)
    assert address.is_loopback is is_loopback


def test_an_unknown_type_is_a_mistake_of_the_table() -> None:
    with pytest.raises(ValueError, match="not a type"):
        type_named("number")
