"""Find out what a network leans on: exchange a part of clips for that of other clips, and ask the network again.

from vidact.audit import audit
audit("runs/version_0", sections=("background",))["background"].lean.low
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidact.audit.api import audit as audit
    from vidact.audit.results.swap_gap import swap_gap as swap_gap


def __getattr__(name: str) -> Any:
    if name == "audit":
        from vidact.audit.api import audit

        return audit
    if name == "swap_gap":
        from vidact.audit.results.swap_gap import swap_gap

        return swap_gap
    raise AttributeError(f"module 'vidact.audit' has no attribute {name!r}")
