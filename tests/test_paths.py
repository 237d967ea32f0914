"""The pure rules of paths: the table of spellings, joining, patterns."""

from __future__ import annotations

import functools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from genro_storage import paths
from genro_storage.exceptions import StoragePathError

HOSTILE = st.text(st.sampled_from("./\\:ab~%$ \0\n*\udc80é") | st.characters(), max_size=12)
RULES = [paths.STRICT, paths.Rules(backslash=True), paths.Rules(surrogates=True), paths.Rules(True, True)]


# --- spellings ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *[("", ""), ("/", ""), ("//", ""), (".", ""), ("./.", ""), ("/a", "a"), ("a/", "a"), ("a//b", "a/b")],
        *[
            ("./a/.", "a"),
            ("a/./b", "a/b"),
            ("a/b/c", "a/b/c"),
            ("...", "..."),
            ("a..b", "a..b"),
            ("..a/b..", "..a/b.."),
        ],
        *[("a b#?%20[1]*.txt", "a b#?%20[1]*.txt"), ("%2e%2e/x", "%2e%2e/x"), ("C:/x", "C:/x"), ("a:b", "a:b")],
        *[
            ("~", "~"),
            ("$HOME/${x}", "$HOME/${x}"),
            (".genropy", ".genropy"),
            (".genro_x", ".genro_x"),
            ("x.genro", "x.genro"),
        ],
        *[
            ("caf\u00e9", "caf\u00e9"),
            ("cafe\u0301", "cafe\u0301"),
            (" ", " "),
            ("a\nb", "a\nb"),
            (".hidden", ".hidden"),
        ],
    ],
)
def test_normal_form(given: str, expected: str) -> None:
    assert paths.normalise(given) == expected


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        *[
            (path, "Parent directory traversal")
            for path in ("..", "a/..", "../a", "a/../b", "/..", "a/b/../../..", "./..")
        ],
        *[(path, "NUL") for path in ("\0", "a\0b", "a/b\0")],
        *[(path, "use '/'") for path in ("\\", "a\\b", "..\\..", "C:\\x")],
        *[(path, "reserved") for path in (".genro", "a/.genro/x", ".genro-x", "a/.genro-")],
        *[(path, "Unicode") for path in ("\udc80", "a/caf\udce9", "\ud800")],
    ],
)
def test_refused(given: str, reason: str) -> None:
    with pytest.raises(StoragePathError, match=reason):
        paths.normalise(given)


def test_rules_lift_what_a_mount_may_hold() -> None:
    assert paths.normalise("a\\b", paths.Rules(backslash=True)) == "a\\b"
    assert paths.normalise("caf\udce9", paths.Rules(surrogates=True)) == "caf\udce9"
    for nothing in ("\ud800", "a/\udfff", "\udc41", "\udcc3\udca9"):  # no listing shows these
        with pytest.raises(StoragePathError, match="Unicode"):
            paths.normalise(nothing, paths.Rules(surrogates=True))
    for rules in RULES:
        for path in ("..", "\0", ".genro"):
            with pytest.raises(StoragePathError):
                paths.normalise(path, rules)


@pytest.mark.parametrize("wrong", [None, 1, b"a", ["a"], ("a", "b"), [], {"a": 1}, 1.5, object()])
def test_wrong_types(wrong: object) -> None:
    for judge in (paths.normalise, paths.part, paths.name, paths.split, paths.pattern_segments):
        with pytest.raises(TypeError):
            judge(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        paths.join("a", wrong)  # type: ignore[arg-type]


@given(HOSTILE, st.sampled_from(RULES))
@example("./a//b/.", paths.STRICT)
def test_normal_form_is_final(path: str, rules: paths.Rules) -> None:
    """Normalising twice changes nothing; the result is safe; the fast way and the slow way agree."""
    try:
        normal = paths.normalise(path, rules)
    except StoragePathError:
        with pytest.raises(StoragePathError):
            paths._normalise(path, rules)
        return
    assert paths._normalise(path, rules) == normal
    assert paths.normalise(normal, rules) == normal
    segments = normal.split("/") if normal else []
    assert not {"", ".", ".."} & set(segments)
    assert not any(paths.is_reserved(segment) for segment in segments)
    assert segments == [segment for segment in path.split("/") if segment not in ("", ".")]
    assert "\0" not in normal
    assert rules.backslash or "\\" not in normal
    assert paths.encodable(normal) or rules.surrogates
    assert normal.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == normal
    assert normal == "" or paths.is_addressable(normal, rules)


# --- mount:path ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [("m", ("m", "")), ("m:", ("m", "")), ("m:/", ("m", "/")), ("m:a:b", ("m", "a:b")), ("m:/a/", ("m", "/a/"))],
)
def test_split(text: str, expected: tuple[str, str]) -> None:
    assert paths.split(text) == expected


@pytest.mark.parametrize("text", ["", ":", ":a", "s3://bucket/key", "file:///etc/passwd", "m://a", "a+b.c-d://x"])
def test_split_refuses(text: str) -> None:
    with pytest.raises(StoragePathError):
        paths.split(text)


def test_a_refused_url_shows_no_password() -> None:
    with pytest.raises(StoragePathError) as caught:
        paths.split("ftp://user:hunter2@host/x")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.path)


# --- joining ---


def test_join() -> None:
    assert paths.join("a", "b", "c/d") == "a/b/c/d"
    assert paths.join("", "b") == "b"
    assert paths.join("a", "", ".", "b/") == "a/b"
    assert paths.join("", "") == ""
    for part in ("/x", "..", "x/../y", "\0", ".genro", "//x"):
        with pytest.raises(StoragePathError):
            paths.join("a", part)


@given(st.lists(HOSTILE, max_size=4), st.sampled_from(["", "base", "base/dir"]))
def test_a_join_stays_below_its_base(parts: list[str], base: str) -> None:
    try:
        joined = paths.join(base, *parts)
    except StoragePathError:
        return
    assert paths.is_below(joined, base)
    assert paths.normalise(joined) == joined


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a/", "/a", "./a", ".genro", ".genro-x", "a\\b", "a\0"])
def test_not_a_name(text: str) -> None:
    with pytest.raises(StoragePathError):
        paths.name(text)


def test_parents() -> None:
    assert [paths.parent(path) for path in ("a/b/c", "a", "")] == ["a/b", "", ""]
    assert [paths.basename(path) for path in ("a/b/c", "a", "")] == ["c", "a", ""]
    assert [paths.name(text) for text in ("a", "...", "a b*")] == ["a", "...", "a b*"]


@pytest.mark.parametrize(
    ("path", "relpath", "expected"), [("a", "b/c", "a/b/c"), ("", "b", "b"), ("a", "", "a"), ("", "", "")]
)
def test_below(path: str, relpath: str, expected: str) -> None:
    assert paths.below(path, relpath) == expected


@pytest.mark.parametrize(
    ("path", "ancestor", "expected"),
    [("a", "", True), ("", "", True), ("a/b", "a", True), ("a", "a", True), ("ab", "a", False), ("a", "a/b", False)],
)
def test_is_below(path: str, ancestor: str, expected: bool) -> None:
    assert paths.is_below(path, ancestor) is expected


def test_listed_keys() -> None:
    """What a listing may show as a path, what stays hidden, and what no path can express."""
    assert all(paths.is_addressable(key) for key in ("a", "a/b", "a b", ".genropy/x"))
    assert not any(
        paths.is_addressable(key) for key in ("", "/", "a//b", "a/", "/a", "a/../b", ".", "a\\b", "a\0", "\udc80")
    )
    assert all(paths.is_hidden(key) for key in (".genro", "a/.genro-t/x", ".genro-"))
    assert not any(paths.is_hidden(key) for key in (".genropy", "a.genro-b", "x"))


# --- patterns ---


def naive_match(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """The definition, by trying everything."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(naive_match(pattern[1:], path[count:]) for count in range(len(path) + 1))
    return bool(path) and naive_segment(pattern[0], path[0]) and naive_match(pattern[1:], path[1:])


@functools.cache
def naive_segment(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return naive_segment(pattern[1:], text) or (text != "" and naive_segment(pattern, text[1:]))
    if not text:
        return False
    if pattern[0] == "?":
        return naive_segment(pattern[1:], text[1:])
    end = pattern.find("]", 3 if pattern[1:2] == "!" else 2) if pattern[0] == "[" else -1
    if end < 0:
        return pattern[0] == text[0] and naive_segment(pattern[1:], text[1:])
    inside, negated = pattern[1:end], pattern[1] == "!"
    return in_class(inside[negated:], text[0]) != negated and naive_segment(pattern[end + 1 :], text[1:])


def in_class(inside: str, char: str) -> bool:
    """`abc`, `a-c`; a dash at an end is a dash."""
    position = 0
    while position < len(inside):
        if inside[position + 1 : position + 2] == "-" and position + 2 < len(inside):
            if inside[position] <= char <= inside[position + 2]:
                return True
            position += 3
        else:
            if inside[position] == char:
                return True
            position += 1
    return False


SEGMENT_PATTERN = st.text(st.sampled_from("abc*?[]!-^\\.&|~"), min_size=1, max_size=8).filter(
    lambda s: s not in (".", "..")
)
PATTERN = st.lists(st.just("**") | SEGMENT_PATTERN, min_size=1, max_size=4).map(tuple)
PATH = st.lists(st.text(st.sampled_from("abc-^\\.!&|~[]\n"), min_size=1, max_size=5), min_size=1, max_size=4).map(tuple)


@given(PATTERN, PATH)
@example(("[a-]",), ("-",))
@example(("[]a]",), ("]",))
@example(("[!]a]",), ("b",))
@example(("[^a]",), ("^",))
@example(("[a&&b]",), ("&",))
@example(("[a--]",), ("b",))
@example(("[c-a]",), ("b",))
@example(("[\\]",), ("\\",))
@example(("[a-c-e]",), ("d",))
@example(("**", "a", "**"), ("a",))
@example(("a", "**"), ("a",))
@example(("a", "**"), ("ab", "c"))
def test_patterns_match_by_definition(pattern: tuple[str, ...], path: tuple[str, ...]) -> None:
    segments = paths.pattern_segments("/".join(pattern))
    matched = paths.compile_pattern(segments).fullmatch("/".join(path)) is not None
    assert matched == naive_match(segments, path)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        *[("**/*.py", "a.py", True), ("**/*.py", "x/y/a.py", True), ("*.py", "x/a.py", False), ("*", ".hidden", True)],
        *[("**", "a/b", True), ("**", "a", True), ("a/**", "a", True), ("a/**", "a/b/c", True), ("a/**", "ab", False)],
        *[
            ("a/**/b", "a/b", True),
            ("a/**/b", "a/x/y/b", True),
            ("a/**/b", "axb", False),
            ("[!a]", "b", True),
            ("[!a]", "/", False),
        ],
        *[("[", "[", True), ("[ab", "[ab", True), ("?", "/", False), ("a?c", "a\nc", True), ("A*", "ab", False)],
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert (paths.compile_pattern(paths.pattern_segments(pattern)).fullmatch(path) is not None) is expected


@pytest.mark.parametrize(
    "pattern", ["*a" * 30 + "b", "*" * 50 + "b", "**/a/" * 30 + "b", "**/*a/" * 20 + "b", "[!b]*" * 30 + "b"]
)
def test_no_pattern_takes_forever(pattern: str) -> None:
    """A user's pattern against a user's name: backtracking must not multiply (the test's timeout is the bound)."""
    regex = paths.compile_pattern(paths.pattern_segments(pattern))
    assert regex.fullmatch("a" * 255) is None
    assert regex.fullmatch("/".join(["aa", "a"] * 200)) is None


def test_patterns_fold_case_where_the_storage_does() -> None:
    regex = paths.compile_pattern(paths.pattern_segments("*.TXT"), case_sensitive=False)
    assert regex.fullmatch("a.txt")


@pytest.mark.parametrize("pattern", ["", "/a", "..", "a/..", "../*", "a\0"])
def test_refused_patterns(pattern: str) -> None:
    with pytest.raises(StoragePathError):
        paths.pattern_segments(pattern)


@pytest.mark.parametrize("pattern", ["[", "a[b", "[!", "[]", "[!]", "x/[a", "a]["])
def test_unbalanced_brackets_are_refused_where_asked(pattern: str) -> None:
    paths.pattern_segments(pattern)
    with pytest.raises(StoragePathError, match="unbalanced"):
        paths.pattern_segments(pattern, strict=True)


@pytest.mark.parametrize("pattern", ["[a]", "[!a]", "[]a]", "[!]a]", "a[b]c[d]", "[[]", "]"])
def test_balanced_brackets_are_taken(pattern: str) -> None:
    paths.pattern_segments(pattern, strict=True)


# --- places as they are shown ---


@pytest.mark.parametrize(
    ("mount", "path", "expected"),
    [
        *[("m", "", "m:"), ("m", "a/b", "m:a/b"), ("s3://bucket", "a", "s3://bucket/a")],
        *[("file://", "tmp/a", "file:///tmp/a"), ("file://", "", "file:///")],
    ],
)
def test_a_place_is_shown_as_it_is_written(mount: str, path: str, expected: str) -> None:
    assert paths.full(mount, path) == expected


# --- types by name ---


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.txt", "text/plain"),
        ("d.x/A.TXT", "text/plain"),
        ("a.csv.gz", "application/gzip"),
        ("a", "application/octet-stream"),
    ],
)
def test_content_type(path: str, expected: str) -> None:
    assert paths.content_type(path) == expected
