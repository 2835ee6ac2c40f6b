"""abmail: e-mail A/B tests that learn while they send, and report results that stay true.

The public names load on first use, so that importing the package (and the command line) costs almost nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abmail.assign import Assignment, assign, assign_array, assign_quota, assign_quota_array
    from abmail.audience import read_recipients
    from abmail.bandit import (
        AccountCurve,
        AccountPrior,
        BySegment,
        Contextual,
        DelayCurve,
        EpsilonGreedy,
        ExplorationSampling,
        Factorial,
        Fixed,
        Hierarchical,
        Policy,
        Sharpened,
        TestThenSend,
        Thompson,
        TopTwo,
        Uniform,
        curve_from_history,
        policy_from_dict,
        prior_from_history,
    )
    from abmail.bounces import Notice, read_report
    from abmail.check import check, check_paths
    from abmail.diagnostics import Diagnostic
    from abmail.dkim import Dkim
    from abmail.engine import Engine, Plan, PowerReport, Tick
    from abmail.errors import AbmailError, SpecError
    from abmail.events import Event, EventType, Verdict
    from abmail.recipient import Recipient
    from abmail.report import Report
    from abmail.send import SMTP, File, Memory, Transport
    from abmail.sendtime import History, SendTime, plan_sends, read_history, uplift
    from abmail.simulate import Log, Replayed, Simulation, Truth, load_truth, replay, simulate
    from abmail.spec import Experiment, load, loads
    from abmail.stats import (
        Comparison,
        Counts,
        Moments,
        compare,
        compare_many,
        compare_means,
        compare_segments,
        mde,
        power,
        sample_size,
        srm,
    )
    from abmail.store import Store

__all__ = [
    "SMTP",
    "AbmailError",
    "AccountCurve",
    "AccountPrior",
    "Assignment",
    "BySegment",
    "Comparison",
    "Contextual",
    "Counts",
    "DelayCurve",
    "Diagnostic",
    "Dkim",
    "Engine",
    "EpsilonGreedy",
    "Event",
    "EventType",
    "Experiment",
    "ExplorationSampling",
    "Factorial",
    "File",
    "Fixed",
    "Hierarchical",
    "History",
    "Log",
    "Memory",
    "Moments",
    "Notice",
    "Plan",
    "Policy",
    "PowerReport",
    "Recipient",
    "Replayed",
    "Report",
    "SendTime",
    "Sharpened",
    "Simulation",
    "SpecError",
    "Store",
    "TestThenSend",
    "Thompson",
    "Tick",
    "TopTwo",
    "Transport",
    "Truth",
    "Uniform",
    "Verdict",
    "__version__",
    "assign",
    "assign_array",
    "assign_quota",
    "assign_quota_array",
    "check",
    "check_paths",
    "compare",
    "compare_many",
    "compare_means",
    "compare_segments",
    "curve_from_history",
    "load",
    "load_truth",
    "loads",
    "mde",
    "plan_sends",
    "policy_from_dict",
    "power",
    "prior_from_history",
    "read_history",
    "read_recipients",
    "read_report",
    "replay",
    "sample_size",
    "simulate",
    "srm",
    "uplift",
]

_HOMES = {
    "assign": ("Assignment", "assign", "assign_array", "assign_quota", "assign_quota_array"),
    "audience": ("read_recipients",),
    "bandit": (
        "AccountCurve",
        "AccountPrior",
        "curve_from_history",
        "prior_from_history",
        "BySegment",
        "Contextual",
        "DelayCurve",
        "EpsilonGreedy",
        "ExplorationSampling",
        "Factorial",
        "Fixed",
        "Hierarchical",
        "Policy",
        "Sharpened",
        "TestThenSend",
        "Thompson",
        "TopTwo",
        "Uniform",
        "policy_from_dict",
    ),
    "bounces": ("Notice", "read_report"),
    "check": ("check", "check_paths"),
    "diagnostics": ("Diagnostic",),
    "dkim": ("Dkim",),
    "engine": ("Engine", "Plan", "PowerReport", "Tick"),
    "errors": ("AbmailError", "SpecError"),
    "events": ("Event", "EventType", "Verdict"),
    "recipient": ("Recipient",),
    "report": ("Report",),
    "send": ("SMTP", "File", "Memory", "Transport"),
    "sendtime": ("History", "SendTime", "plan_sends", "read_history", "uplift"),
    "simulate": ("Log", "Replayed", "Simulation", "Truth", "load_truth", "replay", "simulate"),
    "spec": ("Experiment", "load", "loads"),
    "stats": (
        "Comparison",
        "Counts",
        "Moments",
        "compare",
        "compare_many",
        "compare_means",
        "compare_segments",
        "mde",
        "power",
        "sample_size",
        "srm",
    ),
    "store": ("Store",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("abmail")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'abmail' has no attribute '{name}'")
    found = getattr(import_module(f"abmail.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps `abmail.assign`, `check` and `simulate` functions, although their modules have the same names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOME_OF.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
