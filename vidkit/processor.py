"""What the processor is, as far as Linux tells."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def fields(cpuinfo: Path = CPUINFO) -> dict[str, str]:
    """Of the first processor: "model name", "vendor_id", "flags" (x86), "Features" (ARM). Empty where not Linux."""
    if not cpuinfo.exists():
        return {}
    lines = (line.partition(":") for line in cpuinfo.read_text().strip().partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
