from __future__ import annotations

from pathlib import Path

import paramiko
import pytest

from harness.devices.transports import known_hosts

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDOAOXV9APHT3ivSXx5o3mYbBt0+ZHVQpUXPAvPBWUlr"
OTHER = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="


def names(text: str, host: str) -> list[str]:
    Path("known").write_text(text)
    return [f"{key.get_name()} {key.get_base64()}" for key in known_hosts.find([Path("known")], host).trusted]


@pytest.mark.parametrize(
    ("patterns", "host", "meant"),
    [
        ("board", "board", True),
        ("board", "board2", False),
        ("Board,10.0.0.7", "10.0.0.7", True),
        ("board", "BOARD", True),
        ("[board]:2222", "[board]:2222", True),
        ("[board]:2222", "board", False),
        ("board", "[board]:2222", False),
        ("*.lab", "rpi4.lab", True),
        ("rpi?.lab", "rpi44.lab", False),
        ("*.lab,!rpi4.lab", "rpi4.lab", False),
        ("10.0.0.1", "10x0x0x1", False),
    ],
)
def test_names_and_patterns(patterns: str, host: str, meant: bool) -> None:
    assert names(f"{patterns} {KEY}\n", host) == ([KEY] if meant else [])


def test_hashed_names() -> None:
    hashed = paramiko.HostKeys.hash_host("[board]:2222")
    assert names(f"{hashed} {KEY}\n", "[board]:2222") == [KEY]
    assert names(f"{hashed} {KEY}\n", "board") == []
    assert names(f"|1|rubbish {KEY}\n", "board") == []


def test_several_keys_count_and_revoked_ones_do_not() -> None:
    text = f"# mine\n\nboard {KEY} comment\nboard {OTHER}\n@cert-authority board {KEY}\n"
    assert names(text, "board") == [KEY, OTHER]
    assert names(f"{text}@revoked * {KEY}\n", "board") == [OTHER]
    assert names("@cert-authority * " + KEY, "board") == []


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_a_comment_ends_where_ssh_ends_it(mark: str) -> None:
    assert names(f"# my board:{mark}board {KEY}\n", "board") == []
    assert names(f"other {KEY} x{mark}board {KEY}\n", "board") == []


def test_words_are_separated_as_by_ssh() -> None:
    assert names(" \tboard\t " + KEY.replace(" ", " \t") + "\r\n", "board") == [KEY]
    assert names(f"board\xa0{KEY}\n", "board") == []
    assert names("board " + KEY.replace(" ", "\u2003") + "\n", "board") == []


def test_lines_that_are_none_are_passed_over() -> None:
    assert names(f"board ssh-ed25519 !!!\nboard unheard-of AAAA\nboard\n{KEY}\nboard {KEY}\n", "board") == [KEY]
