"""Which mirror the host's apt sources name, in every shape those come in."""

import pytest

from orchestra.guest.sources import Source, debian_source, parse_deb822, parse_one_line

KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEY\n-----END PGP PUBLIC KEY BLOCK-----"

VENDOR = "deb http://vendor.invalid/tool bookworm main"
DEB822 = """\
# the host's own
Types: deb deb-src
URIs: http://one.invalid/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
uris: http://one.invalid/debian-security
SUITES: bookworm-security
Components: main
"""

ONE_LINE = [
    (
        "deb http://m.invalid/debian bookworm main",
        Source(("http://m.invalid/debian",), ("bookworm",)),
    ),
    (
        "deb [ arch=amd64,i386 signed-by=/k.gpg ] http://m.invalid/debian sid main non-free # mine",
        Source(("http://m.invalid/debian",), ("sid",), ("main", "non-free"), "/k.gpg"),
    ),
    (
        "  deb\t[trusted=yes] copy:/srv/debian\tstable  main",
        Source(("copy:/srv/debian",), ("stable",), ("main",), "", trusted=True),
    ),
    ("deb http://m.invalid/x ./", Source(("http://m.invalid/x",), ("./",), ())),
]


@pytest.mark.parametrize(("line", "source"), ONE_LINE)
def test_a_line_becomes_a_source(line: str, source: Source) -> None:
    assert list(parse_one_line(line)) == [source]


@pytest.mark.parametrize(
    "line",
    ["", "# deb http://m/debian sid main", "deb-src http://m/debian sid main", "deb", "debx a b"],
)
def test_a_line_that_is_no_binary_source_is_passed_over(line: str) -> None:
    assert list(parse_one_line(line)) == []


def test_stanzas_become_sources() -> None:
    assert list(parse_deb822(DEB822)) == [
        Source(
            ("http://one.invalid/debian",),
            ("bookworm", "bookworm-updates"),
            ("main", "contrib"),
            "/usr/share/keyrings/debian-archive-keyring.gpg",
        ),
        Source(("http://one.invalid/debian-security",), ("bookworm-security",)),
    ]


@pytest.mark.parametrize("field", ["Enabled: no", "Enabled: false", "Types: deb-src"])
def test_a_stanza_that_is_off_is_passed_over(field: str) -> None:
    assert list(parse_deb822(f"Types: deb\nURIs: http://m/debian\nSuites: sid\n{field}\n")) == []


def test_lists_may_go_on_with_comments_between() -> None:
    text = "Types: deb\nURIs:\n http://a/debian\n# not this\n http://b/debian\nSuites: sid\n"
    assert next(parse_deb822(text)).uris == ("http://a/debian", "http://b/debian")


@pytest.mark.parametrize("signed_by", ["", "/usr/share/keyrings/k.gpg", KEY])
def test_what_is_written_is_read_again(signed_by: str) -> None:
    source = Source(("http://m/debian",), ("trixie",), ("main",), signed_by, trusted=True)
    assert list(parse_deb822(source.to_deb822())) == [source]


def found(text: str) -> str | None:
    parse = parse_deb822 if "Types:" in text else parse_one_line
    source = debian_source(parse(text), "trixie")
    return source.uris[0] if source else None


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        (DEB822, "http://one.invalid/debian"),
        (
            "deb mirror+file:/etc/apt/mirrors/debian.list stable main",
            "mirror+file:/etc/apt/mirrors/debian.list",
        ),
        ("deb http://corp.invalid/deb-remote bookworm main", "http://corp.invalid/deb-remote"),
        (
            f"{VENDOR}\ndeb http://m.invalid/debian/ bookworm main",
            "http://m.invalid/debian/",
        ),
        (
            f"{VENDOR}\ndeb [signed-by=/debian-archive-keyring.gpg] http://m.invalid/apt sid main",
            "http://m.invalid/apt",
        ),
        ("deb http://docker.invalid/linux/debian bookworm stable", None),
        ("deb cdrom:[Debian 12]/ bookworm main", None),
        ("deb http://ubuntu.invalid/ubuntu noble main", None),
        ("deb http://m.invalid/debian-security bookworm-security main", None),
        ("", None),
    ],
)
def test_the_mirror_of_debian_is_told_from_the_others(text: str, uri: str | None) -> None:
    assert found(text) == uri


def test_only_the_suite_asked_for_is_taken_from_the_mirror() -> None:
    source = debian_source(parse_deb822(DEB822), "trixie")
    assert source is not None
    assert (source.suites, source.components) == (("trixie",), ("main",))
    assert source.signed_by == "/usr/share/keyrings/debian-archive-keyring.gpg"
