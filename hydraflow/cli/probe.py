"""`hydraflow probe`: what a server can do, what can be verified, how it would be fetched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from hydraflow.cli.options import headers_of
from hydraflow.cli.output import as_json, print_json, print_line
from hydraflow.cli.texts import CONTEXT, Command
from hydraflow.errors import HydraError

if TYPE_CHECKING:
    from hydraflow.inspecting import Findings

__all__ = ["command"]

_EXAMPLES = """
hydraflow probe https://example.org/genome.fa.gz
hydraflow probe "$URL" --json | jq .digest
"""


@click.command("hydraflow probe", cls=Command, examples=_EXAMPLES, context_settings=CONTEXT)
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("--header", multiple=True, metavar="'NAME: VALUE'", help="Add a request header (may be repeated).")
@click.option("--json", "json", is_flag=True, help="One JSON line per URL.")
@click.pass_context
def command(context: click.Context, /, urls: tuple[str, ...], header: tuple[str, ...], json: bool) -> None:
    """Ask what is at a URL, and fetch nothing.

    Told are name, size and version, whether the server can send parts, which digests are promised and by whom, and what
    follows for a fetch.  Exit codes: those of a fetch.
    """
    from hydraflow import inspecting
    from hydraflow.progress import error_line, plain, say

    headers, codes = headers_of(header), []
    for url in urls:
        try:
            findings = inspecting.inspect(url, headers=headers)
        except HydraError as error:
            codes.append(error.exit_code)
            say(error_line(error, error.url or ""))
            if json:
                print_json(as_json("", error))
            continue
        if json:
            print_json({"ok": True, **findings.as_dict()})
        else:
            print_line("\n".join(map(plain, _lines(findings))))
    context.exit(codes[0] if codes else 0)


def _lines(findings: Findings) -> Iterator[str]:
    yield findings.name
    for name, value in _rows(findings):
        yield f"  {name:<12} {value}"


def _rows(findings: Findings) -> Iterator[tuple[str, str]]:
    from hydraflow.progress import size_text

    resource = findings.resource
    yield "URL", resource.url
    if resource.final_url != resource.url:
        yield "leads to", resource.final_url
    size = resource.size
    yield "size", "not told" if size is None else f"{size_text(size)} ({size:,} byte{'s' if size != 1 else ''})"
    if resource.media_type:
        yield "type", resource.media_type
    if resource.encoding is not None:
        yield "encoding", f"{resource.encoding}: kept as it is sent"
    strength = "tells any two versions apart" if resource.validator.strong else "too weak to tell versions apart"
    yield "version", f"{resource.validator} ({strength})"
    yield "parts", "the server sends them" if resource.ranges else "the server cannot send them"
    yield from _digests(findings)
    yield "fetched", _how(findings)
    yield "answered", f"in {findings.elapsed * 1000:.0f} ms, by {resource.http_version}"


def _digests(findings: Findings) -> Iterator[tuple[str, str]]:
    if findings.conflict is not None:
        yield "conflict", str(findings.conflict)
    chosen = findings.chosen
    wanted = findings.on_request
    if chosen is not None:
        yield "verified by", f"{chosen.digest} ({chosen})"
    elif wanted is not None:
        yield "verified by", f"the size; with --verify require by {wanted.digest} ({wanted})"
    else:
        yield "verified by", "the size: nobody promises a digest"
    for claim in findings.claims:
        if claim not in (chosen, wanted):
            yield "promised too", f"{claim.digest} ({claim})"


def _how(findings: Findings) -> str:
    if not findings.resource.ranges or findings.resource.size is None:
        return "over one connection; a later run begins anew"
    if not findings.resumable:
        return "over one connection, since versions could be mixed; a later run begins anew"
    return "over several connections, as many as pay; a later run goes on where one ended"
