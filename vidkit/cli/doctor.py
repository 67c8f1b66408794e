"""`vidkit doctor`: what this machine has and lacks."""

from __future__ import annotations

from vidkit.cli.output import console, print_json


def run(*, as_json: bool) -> int:
    """Examine and print; 1 if something is missing that vidkit cannot do without."""
    from vidkit import doctor

    findings = doctor.examine()
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        doctor.render(findings, console())
    return int(any(finding.status == "missing" for finding in findings))
