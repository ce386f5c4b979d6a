"""What a runtime is told beside path and threads: the options of its case, none of which may be overlooked."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from edgekit.agent.errors import AgentError


def known_only(options: Mapping[str, Any], known: Sequence[str], runtime: str) -> Mapping[str, Any]:
    """`options`, once every key is one that the runtime takes: an option that nobody reads would change nothing.

    Raises:
        AgentError: another key.
    """
    for name in sorted(options):
        if name not in known:
            raise AgentError(
                f"no option is called {name!r}",
                f"runtime {runtime}",
                "options: {}".format(", ".join(sorted(known)) or "none"),
            )
    return options
