"""`vidkit doctor`: what this machine has and lacks."""

from __future__ import annotations

from vidkit.cli.options import Json
from vidkit.cli.output import console, print_json

EXAMPLE = "vidkit doctor"


def run(as_json: Json = False) -> int:
    """Say what this machine has and lacks for vidkit, and what to do about it.

    Exit 1 if something is missing that vidkit cannot do without.
    """
    from vidkit import doctor

    findings = doctor.examine()
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        doctor.render(findings, console())
    return int(any(finding.status == "missing" for finding in findings))
