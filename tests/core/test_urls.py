"""URLs: what users write, what people may see, what a checkpoint remembers, and names on disk."""

from __future__ import annotations

import hashlib
import unicodedata
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hydraflow.core import urls
from hydraflow.core.urls import Target
from hydraflow.errors import ConfigurationError
from hydraflow.models import ALGORITHMS, Digest

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
NOT_URLS = [
    "", "x", "/x", "example.org/x", "example.org:80/x", "http:", "http:/h/x", "http://", "http:///x", "http://:80/x",
    "http://@/x", "http://u:p@/x", "http://h:port/x", "http://h:70000/x", "http://h:-1/x", "http://h:٣/", "http://[::1/x",
    "http://[x]/", "http://h\uff0fx/", "http://u:pa/ss@h/", "u:hunter2@h/x", "mailto:u@h", "file:///x", "<not a URL>",
]  # fmt: skip


# What users write.


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("http://h", Target("http://h")),
        (" https://u:p@H:8443/é/x?y=1&z\n", Target("https://u:p@H:8443/é/x?y=1&z")),
        ("HTTP://h/x#", Target("HTTP://h/x")),
        ("http://h/x#chapter-2", Target("http://h/x")),
        ("http://h/x#md#md5&streamstream", Target("http://h/x")),
        (f"http://h/x#md5={MD5}", Target("http://h/x", Digest("md5", MD5))),
        (f"http://h/x#MD5={MD5.upper()}", Target("http://h/x", Digest("md5", MD5))),
        (f"http://h/x#SHA-256={SHA256}", Target("http://h/x", Digest("sha256", SHA256))),
        ("http://h/x#size=0", Target("http://h/x", size=0)),
        ("http://h/x#size=42&size=42", Target("http://h/x", size=42)),
        (f"http://h/x#md5={MD5}&size=42&md5={MD5}", Target("http://h/x", Digest("md5", MD5), 42)),
        (f"http://h/x#md5={MD5}&sha256={SHA256}", Target("http://h/x", Digest("sha256", SHA256))),
        (f"http://h/x#sha256={SHA256}&crc32c=00000000", Target("http://h/x", Digest("sha256", SHA256))),
        (
            "http://h/x#mirror=http%3A%2F%2Fm%2Fx%26y&stream&mirror=http://n/x",
            Target(
                "http://h/x",
                options=(("mirror", "http://m/x&y"), ("stream", ""), ("mirror", "http://n/x")),
            ),
        ),
        ("http://[::1]:80/x", Target("http://[::1]:80/x")),
    ],
)
def test_parse(text, target):
    assert urls.parse(text) == target


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_an_option(algorithm):
    digest = Digest(algorithm, "a" * (ALGORITHMS[algorithm] // 4))
    assert urls.parse(f"http://h/x#{algorithm}={digest.value}").digest == digest


@pytest.mark.parametrize("text", NOT_URLS)
def test_what_is_no_url_is_refused_and_not_shown(text):
    with pytest.raises(ConfigurationError) as caught:
        urls.parse(text)
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("url", ["ftp://u:hunter2@h/x", "s3://bucket/key", "gs://b/k", "ws://h/", "//h/x"])
def test_other_schemes_are_refused(url):
    with pytest.raises(ConfigurationError, match=r"the scheme '.*' is not supported") as caught:
        urls.parse(url)
    assert "https://" in caught.value.hint
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "char", [" ", "\t", "\n", "\r", "\0", "\x1b", "\x7f", "\x9b", "\u202e", "\u200b", "\ud800", "\u3000"]
)
@pytest.mark.parametrize("where", ["http://h{}h/x", "http://h/x{}x", "http://h/x?y{}y", "ht{}tp://h/x"])
def test_characters_that_do_not_show_are_refused(where, char):
    with pytest.raises(ConfigurationError, match="a space or an unprintable character") as caught:
        urls.parse(where.format(char))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("host", ["a..b", "h" * 64, "ü" * 62, ".org"])
def test_a_name_that_no_host_can_have_is_refused(host):
    with pytest.raises(ConfigurationError, match="no host can have this name"):
        urls.parse(f"http://{host}/x")
    assert urls.parse("http://bücher.example./x").url == "http://bücher.example./x"


def test_a_host_that_programs_read_differently_is_refused():
    with pytest.raises(ConfigurationError, match="backslash"):
        urls.parse("http://good.org\\@evil.org/x")
    assert urls.parse("http://h/a\\b").url == "http://h/a\\b"


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        (
            "sha257=00",
            "unknown option 'sha257' in the URL's fragment, expected one of md5, sha1, .*, size, mirror, stream",
        ),
        (f"md5={MD5}&foo", "unknown option 'foo'"),
        (f"md5={MD5}&", "unknown option ''"),
        ("=1", "unknown option ''"),
        ("\x1b[2J=1", r"unknown option '\\x1b\[2j'"),
        (f"sha-256:{'0' * 64}", "a digest is written sha256=HEX, not 'sha-256:000"),
        (f"size=1&MD5:{MD5}", "a digest is written sha256=HEX"),
        ("md5", "a digest is written sha256=HEX, not 'md5'"),
        ("md5=abc", "a md5 digest has 32 hexadecimal digits, not 'abc'"),
        ("md5=%1b", r"a md5 digest has 32 hexadecimal digits, not '\\x1b'"),
        (f"md5={MD5}&md5={'0' * 32}", "two md5 digests"),
        ("size=", "one number of bytes expected"),
        ("size=-1", "one number of bytes expected"),
        ("size=1e3", "one number of bytes expected"),
        ("size=٣", "one number of bytes expected"),
        ("size=" + "9" * 19, "one number of bytes expected"),
        ("size=1&size=2", "one number of bytes expected"),
    ],
)
def test_wrong_options(fragment, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        urls.parse(f"http://u:hunter2@h/x#{fragment}")
    assert caught.value.url == "http://h/x"
    assert str(caught.value).isprintable()


# What people may see.


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/x", "http://h/x"),
        ("HTTP://user:pass@Host:80/x?y=1#size=3", "http://Host:80/x?y=1"),
        ("http://user@h", "http://h"),
        ("http://a@b@h/x@y", "http://h/x@y"),
        ("//u:p@h/x", "//h/x"),
        ("ftp://u:p@h/x", "ftp://h/x"),
        ("http://h/x?a=1&token=abc&b=2", "http://h/x?a=1&token=***&b=2"),
        ("http://h/x?token=abc=def==", "http://h/x?token=***"),
        ("http://h/x?token=abc;def;g=h&b=2", "http://h/x?token=***&b=2"),
        ("http://h/x?a=1;token=abc&b=2", "http://h/x?a=1;token=***&b=2"),
        ("http://h/x?a=1&amp;token=abc", "http://h/x?a=1&amp;token=***"),
        ("http://h/x?TOKEN=abc&t%6Fken=abc&to+ken=abc", "http://h/x?TOKEN=***&t%6Fken=***&to+ken=***"),
        ("http://h/x?token&tokens=3&key=", "http://h/x?token&tokens=3&key=***"),
        ("http://h/x?se=1&sp=r&expires=9", "http://h/x?se=1&sp=r&expires=9"),
        ("http://h/x?v=1&se=1&sp=r&sig=abc", "http://h/x?v=1&se=***&sp=***&sig=***"),
        ("http://h/x?Expires=9&Signature=abc&Key-Pair-Id=K", "http://h/x?Expires=***&Signature=***&Key-Pair-Id=***"),
        ("http://h/a b\x1b[2J\u202ec?é", "http://h/a%20b%1B[2J%E2%80%AEc?é"),
        ("http://h/\ud800?token=\ud800", "http://h/%3F?token=***"),
        ("http://h/a\nb", "http://h/a%0Ab"),
    ],
)
def test_redact(url, shown):
    assert urls.redact(url) == shown


SECRET_NAMES = [
    "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "Signature", "sig", "AWSAccessKeyId",
    "GoogleAccessId", "X-Goog-Signature", "X-Goog-Credential", "token", "access_token", "access-token", "key",
    "api_key", "api-key", "apikey",
    "apiKey", "password", "passwd", "secret", "client_secret", "auth", "Authorization", "Policy", "Key-Pair-Id",
    "private_token", "refresh_token", "jwt", "x-api-key",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_secrets_are_neither_shown_nor_remembered(name):
    url = f"http://user:hunter2@h/x?a=1&{name}=hunter2&b=2"
    assert urls.redact(url) == f"http://h/x?a=1&{name}=***&b=2"
    assert "hunter2" not in urls.canonical(url)
    assert urls.canonical(url).startswith("http://h/x?a=1&")
    assert urls.canonical(url).endswith("&b=2")


@pytest.mark.parametrize("text", NOT_URLS)
def test_what_is_no_url_is_not_shown(text):
    assert urls.redact(text) == urls.PLACEHOLDER


texts = st.text(max_size=40) | st.from_regex(r"https?://[ -~]{0,40}", fullmatch=True)
words = st.text("abcXYZ019.-_~/", max_size=8)


@given(texts)
@example("http://\uff03@h/")
@settings(deadline=None)
def test_redact_never_raises_and_is_printable_and_final(text):
    shown = urls.redact(text)
    assert shown.isprintable()
    assert urls.redact(shown) == shown


@given(
    user=words, password=words, path=words, names=st.lists(st.sampled_from(["v", "se", *SECRET_NAMES])), fragment=words
)
@settings(deadline=None)
def test_no_secret_gets_through(user, password, path, names, fragment):
    assume("/" not in user + password)
    query = "&".join(f"{name}={'42' if name in ('v', 'se') else 'HUNTER'}" for name in names)
    url = f"https://{user}HUNTER:HUNTER{password}@h/{path}?{query}#{fragment}HUNTER"
    for form in (urls.redact(url), urls.canonical(url), urls.origin(url)):
        assert "HUNTER" not in form
        assert form.startswith("https://h")


# What a checkpoint remembers.


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("HTTP://EXAMPLE.org", "http://example.org/"),
        ("http://h:80/X", "http://h/X"),
        ("https://h:443/x", "https://h/x"),
        ("http://h:443/x", "http://h:443/x"),
        ("http://h:/x", "http://h/x"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("http://[::1]:81/x", "http://[::1]:81/x"),
        (" http://user:pass@h/x?#size=3 ", "http://h/x"),
        ("http://h/x?b=2&a=1&b", "http://h/x?b=2&a=1&b"),
        ("http://h/%7Ex?a=%2F", "http://h/%7Ex?a=%2F"),
        ("http://h/x?se=1&sp=r&sr=b&sv=2&expires=9", "http://h/x?se=1&sp=r&sr=b&sv=2&expires=9"),
        ("http://h/x?v=1&se=1&sp=r&sr=b&sv=2&sig=abc", "http://h/x?v=1"),
        ("http://h/x?Expires=9&Signature=abc&AWSAccessKeyId=A&versionId=7", "http://h/x?versionId=7"),
        (
            "http://h/x?X-Amz-Date=1&X-Amz-Expires=9&x-amz-foo=1&X-Amz-Signature=s&partNumber=1",
            "http://h/x?partNumber=1",
        ),
        ("http://h/x?X-Goog-Date=1&X-Goog-Expires=9&X-Goog-Signature=s&generation=1", "http://h/x?generation=1"),
        ("http://h/x?a=1;token=abc;def&b=2", "http://h/x?a=1&b=2"),
        ("http://h/x?token=abc", "http://h/x"),
        ("http://h/x?token", "http://h/x?token"),
    ],
)
def test_canonical(url, identity):
    assert urls.canonical(url) == identity
    assert urls.canonical(identity) == identity


def test_two_signatures_of_one_object_are_one_resource():
    signed = "https://b.s3.amazonaws.com/k?versionId=1&X-Amz-Date={0}&X-Amz-Credential={0}&X-Amz-Signature={0}"
    assert urls.canonical(signed.format("1")) == urls.canonical(signed.format("2"))


def test_a_key_may_name_the_file():
    one, two = (urls.canonical(f"http://h/get?key={value}&v=1") for value in ("a", "b"))
    assert one != two
    assert one == f"http://h/get?key={hashlib.sha256(b'key=a').hexdigest()[:8]}&v=1"
    assert urls.canonical("http://h/get?key=\ud800").startswith("http://h/get?key=")


@pytest.mark.parametrize("text", NOT_URLS)
def test_what_is_no_url_has_no_identity(text):
    with pytest.raises(ConfigurationError, match="not a URL"):
        urls.canonical(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/x?y#z", "http://h:80"),
        ("HTTPS://User:Pass@Host", "https://host:443"),
        ("http://h:8080", "http://h:8080"),
        ("http://h:0", "http://h:0"),
        ("https://[::1]:8443/", "https://[::1]:8443"),
        ("ftp://h/", "ftp://h:0"),
        ("x", "null"),
        ("http://h:port/", "null"),
    ],
)
def test_origin(url, expected):
    assert urls.origin(url) == expected


# Names on disk.


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/reads_1.fastq.gz?x=/y#z=/w", "reads_1.fastq.gz"),
        ("http://h/a%20b%C3%A9.txt", "a bé.txt"),
        ("http://h/a+b~c", "a+b~c"),
        ("http://h/x%252Fy", "x%2Fy"),
        ("http://h/x%2Fy", "x_y"),
        ("http://h/..%2F..%2Fetc%2Fpasswd", "__.._etc_passwd"),
        ("http://h/a\\b%5Cc", "a_b_c"),
        ("http://h/a%00b%1B%0A%7F.txt", "a_b___.txt"),
        ("http://h/%E2%80%AEtxt.exe", "_txt.exe"),
        ("http://h/%FFx", "\ufffdx"),
        ("http://h/e%CC%81", "é"),
        ("http://h/.bashrc", "_bashrc"),
        ("http://h/-rf", "_rf"),
        ("http://h/.-.x", "_x"),
        ("http://h/%20-x%20", "_x"),
        ("http://h/---", "_"),
        ("http://h/a.-", "a.-"),
        ("http://h/x.tar.gz:", "x.tar.gz:"),
        ("http://h/a;v=1", "a;v=1"),
        ("http://h/\ud800x", "_x"),
        ("http://h", "download"),
        ("http://h/", "download"),
        ("http://h/dir/", "download"),
        ("http://h?x=/a", "download"),
        ("http://h/.", "download"),
        ("http://h/%2e%2E", "download"),
        ("http://h/...", "download"),
        ("http://h/%20.%20", "download"),
        ("", "download"),
        ("x", "download"),
        ("http://[/x", "x"),
    ],
)
def test_file_name(url, name):
    assert urls.file_name(url) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a" * 200, "a" * 200),
        ("a" * 201, "a" * 200),
        ("a" * 300 + ".fastq.gz", "a" * 191 + ".fastq.gz"),
        ("é" * 150 + ".fastq.gz", "é" * 95 + ".fastq.gz"),
        ("a" + "é" * 150, "a" + "é" * 99),
        ("a" * 300 + ".v1.2.fastq.gz", "a" * 189 + ".2.fastq.gz"),
        ("a" * 300 + ".notasuffixatall", "a" * 200),
        (".b" * 150, "_" + ("b" + ".b" * 149)[:193] + ".b.b.b"),
    ],
)
def test_long_names_keep_their_suffixes(name, expected):
    short = urls.file_name(f"http://h/{quote(name)}")
    assert short == expected
    assert len(short.encode()) <= 200


@given(texts | st.text(max_size=300).map(lambda text: f"http://h/{quote(text, errors='replace')}"))
@settings(deadline=None)
def test_a_name_is_always_safe(url):
    name = urls.file_name(url)
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\\0")
    assert name.isprintable()
    assert name[0] not in ".- "
    assert len(name.encode()) <= 200
    assert unicodedata.is_normalized("NFC", name)
    assert urls.file_name(f"http://h/{quote(name, safe='')}") == name, "a safe name stays as it is"


@given(texts)
@settings(deadline=None)
def test_what_is_parsed_has_all_its_forms(text):
    try:
        target = urls.parse(text)
    except ConfigurationError as error:
        assert str(error).isprintable()  # noqa: PT017 - most texts are no URLs
        return
    assert urlsplit(target.url).hostname in urls.canonical(target.url)
    assert urls.origin(target.url) != "null"
    assert urls.redact(target.url) != urls.PLACEHOLDER


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("https://b.s3.amazonaws.com/x", False),
        ("https://b.s3.amazonaws.com/x?versionId=1", False),
        ("https://b.s3.amazonaws.com/x?X-Amz-Signature=1", True),
        ("https://b.s3.amazonaws.com/x?a=1&Signature=", True),
        ("https://h/x?a=1&api_key=x", True),
        ("https://h/x?sv=1&sig=x", True),
        ("https://u:p@h/x", True),
        ("no URL", False),
    ],
)
def test_what_grants_access(url, signed):
    assert urls.grants_access(url) is signed
