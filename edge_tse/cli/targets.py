"""Targets for people: a description of each, the abilities of this machine, and the fit of a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rich import box
from rich.table import Table

from edge_tse.cli.output import table
from edge_tse.deployment.fit import Fit, count
from edge_tse.deployment.offers import lacking
from edge_tse.deployment.runtime import runtime_named
from edge_tse.deployment.target import EVIDENCE, FLASHERS, Target
from edge_tse.install_line import install_line

__all__ = ["Ability", "abilities", "explain", "figures", "fit_table", "list_targets"]


@dataclass(frozen=True, kw_only=True)
class Ability:
    """Ability of this machine to do one step of a deployment."""

    can: bool | None
    """Whether this machine can; None where there is nothing to do."""
    detail: str
    """The tool that does it, or the line that installs one."""


def abilities(target: Target, which: Callable[[str], str | None] = shutil.which) -> dict[str, Ability]:
    """Abilities ``emit``, ``replay``, ``build`` and ``flash``, from what is installed; nothing is run and nothing imported."""
    return {"emit": _emit(target), "replay": _replay(target), "build": _build(target, which), "flash": _flash(target, which)}


def _emit(target: Target) -> Ability:
    runtime = runtime_named(target.runtime)
    if lacking((runtime.emitter,)):
        return Ability(can=False, detail=f"this build has no {runtime.emitter}")
    if lacking(runtime.needs):
        return Ability(can=False, detail=install_line(runtime.extra))
    return Ability(can=True, detail=runtime.emitter)


def _replay(target: Target) -> Ability:
    replays = [replay for replay in runtime_named(target.runtime).replays if not lacking((replay.module,))]
    for replay in replays:
        if replay.available(target):
            where = f"{replay.module}, emulated" if replay.emulates else replay.module
            return Ability(can=True, detail=f"{where}: {replay.what}")
    if replays:
        return Ability(can=False, detail=install_line(replays[0].extra))
    return Ability(can=False, detail=f"nothing here runs a file for {target.runtime}")


def _build(target: Target, which: Callable[[str], str | None]) -> Ability:
    chain = target.toolchain
    if chain is None or target.runtime != "native-c":
        return Ability(can=None, detail="the runtime loads the file")
    if chain.compiler == "zig":
        if lacking(("ziglang",)) and which("zig") is None:
            return Ability(can=False, detail=install_line("firmware"))
        return Ability(can=True, detail=f"zig, {chain.triple}")
    found = which(chain.compiler) is not None
    return Ability(can=found, detail=f"{chain.compiler}, {chain.triple}" if found else f"install {chain.compiler}")


def _flash(target: Target, which: Callable[[str], str | None]) -> Ability:
    program = FLASHERS[target.flasher]
    if not program:
        return Ability(can=None, detail="nothing to flash")
    if which(program) is None:
        return Ability(can=False, detail=f"install {program}")
    return Ability(can=True, detail=program)


def list_targets(targets: list[Target]) -> Table:
    """One row a target, with what can be done with it here."""
    # Narrow, so that 80 columns hold it.
    out = Table(title="targets", title_justify="left", title_style="bold", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in ("target", "core", "runtime", "evidence", "possible here"):
        out.add_column(heading, no_wrap=True, style="cyan" if heading == "target" else None)
    for target in targets:
        can = " ".join(name for name, ability in abilities(target).items() if ability.can)
        out.add_row(target.name, target.core, target.runtime, target.evidence, can or "nothing")
    return out


def explain(target: Target) -> list[Table]:
    """Everything that one target states, with the source of every figure."""
    clock = "not stated" if target.clock_hz is None else f"{target.clock_hz / 1e6:g} MHz"
    rate = "not stated" if target.macs_per_cycle is None else f"{target.macs_per_cycle:g}"
    rows = {
        "what": target.description,
        "core": f"{target.core}, {target.isa}",
        "clock": clock,
        "MACs a cycle": rate,
        "runtime": f"{target.runtime}: {runtime_named(target.runtime).description}",
        "link": target.link,
        "flasher": target.flasher,
        "meter": target.meter,
        "latency budget": f"{target.latency_budget_ms:g} ms",
        "evidence": f"{target.evidence}: {EVIDENCE[target.evidence]}",
    }
    if target.toolchain is not None:
        chain = target.toolchain
        rows["toolchain"] = " ".join((chain.compiler, "-target", chain.triple, *chain.flags))
    if target.vela is not None:
        rows["Vela"] = f"{target.vela.accelerator}, {target.vela.system_config}, {target.vela.memory_mode}"
    memory = {
        region.name: f"{region.size_bytes:,} B for {', '.join(region.holds)}"
        + ("" if region.origin is None else f" at {region.origin:#010x}")
        + f" ({region.source})"
        for region in target.memory
    }
    can = {name: f"{_yes(ability.can)}: {ability.detail}" for name, ability in abilities(target).items()}
    tables = [table(target.name, rows), table("sources", dict(target.sources)), table("on this machine", can)]
    return [tables[0], *([table("memory", memory)] if memory else []), *tables[1:]]


def figures(target: Target) -> dict[str, object]:
    """A target as JSON, with the abilities of this machine."""
    stated = {key: value for key, value in asdict(target).items() if key != "origin" and value not in (None, ())}
    return {**stated, "here": {name: asdict(ability) for name, ability in abilities(target).items()}}


def fit_table(fit: Fit) -> Table:
    """Table of the fit: needed against available, one row each."""
    out = Table(title=f"fit on {fit.target}, evidence: {fit.evidence}", title_justify="left", title_style="bold", box=box.SIMPLE)
    for heading in ("what", "need", "have", "used", "", "of it"):
        out.add_column(heading, justify="right" if heading in {"need", "have", "used"} else "left")
    for row in fit.rows:
        have = "not stated" if row.have is None else f"{count(row.have)} {row.unit}"
        used = "" if row.have is None else f"{row.need / row.have:.0%}"
        verdict = {True: "fits", False: "DOES NOT FIT", None: "not checked"}[row.fits]
        out.add_row(row.what, f"{count(row.need)} {row.unit}", have, used, verdict, row.detail)
    return out


def _yes(can: bool | None) -> str:
    return {True: "yes", False: "no", None: "-"}[can]
