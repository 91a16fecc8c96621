"""Cards of the shipped models, from their files and ``results/*.json``: ``python -m benchmarks.model_card`` writes them.

Each begins with the block of metadata in YAML that Hugging Face's hub reads from a card (``license``, ``library_name``, ...).

With ``--check`` nothing is written; exit code 1 says that a card is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, readme_figures
from edge_tse.artifact import Artifact, shipped_names

CARDS = Path(__file__).parent.parent / "docs"

CORPORA = {
    "alphanumeric": "Alphanumeric audio dataset (S. Patil, 2024), MIT: letters and digits, many accents",
    "an4": "AN4 (Carnegie Mellon University, 1991), free for any use with its notice: letters and numbers",
    "arabic_commands": "Arabic Speech Commands (A. Ghandoura), CC BY 4.0: single words",
    "commonvoice": "Mozilla Common Voice, CC0: volunteers reading, 58 languages, a third of the talkers French",
    "commonvoice_few": "Mozilla Common Voice, CC0: other talkers, one short file each",
    "librispeech": "LibriSpeech (V. Panayotov et al., 2015), CC BY 4.0: adults reading, several utterances each",
    "librispeech_mp3": "LibriSpeech, CC BY 4.0: from MP3 files, without what is above 5.8 kHz",
    "librispeech_one": "LibriSpeech, CC BY 4.0: one utterance each, halved into target and enrollment",
    "picovoice_unlabelled": "Picovoice speech-to-intent benchmark, Apache-2.0: spoken orders without labels, as interferers only",
    "speechocean762": "speechocean762 (J. Zhang et al., 2021), Apache-2.0: English read by Mandarin speakers, half children",
}
OTHER_DATA = """\
- noise: ESC-10 (K. Piczak, CC BY 3.0 as a set, two clips CC Sampling+), Blanket (per clip CC0, CC BY, CC BY-SA, public
  domain), Speech Commands background noise (CC BY 4.0), Picovoice kitchen noise (Apache-2.0)
- heads: CIPIC HRTF database (copyright (c) 2001 The Regents of the University of California), MIT KEMAR (B. Gardner and
  K. Martin, 1994), TH Köln KU 100 (B. Bernschütz, CC BY-SA 3.0), SADIE (Apache-2.0), University of Surrey rooms (MIT)"""

TAGS = ("target-speaker-extraction", "speech-enhancement", "speech-separation", "binaural", "streaming", "int8", "hearing-aid")
METRICS = ("si-sdr", "pesq", "estoi")
"""Scores of the tables in a card."""

QUANTIZED = """\
SI-SDR improvement in dB, unseen talkers, two talkers at -5 to 5 dB, mono, no noise, 4 s excerpts
(`quantization.validation.validate`; these mixtures steer training runs, the tables below report). float: before; ptq: int8 after
calibration alone; qat: int8 after fine-tuning, which is also more training."""

FAILURES = """\
- Two voices of like pitch, children above all: it follows the wrong one or lets both through.
- The stream starts with nothing remembered; the first second is weaker than the rest.
- Music, and talkers who sing or whisper, were never trained on.
- Enrolled over one microphone and heard over a very different one, it knows a talker less well.

What it does worst, in the middle and best can be heard and seen: the last line leaves a page with sound and pictures.

    python -m quantization.trials --data DATA --split report -o trials
    edge-tse evaluate --trials trials/trials.csv --artifact {name} -o report.json --examples examples"""


def path(name: str) -> Path:
    """Path of a shipped model's card."""
    return CARDS / f"model-card-{name}.md"


def metadata(corpora: Sequence[str]) -> str:
    """Front matter of a card. The corpora have the names of the card: those of folders of the training data, not of the hub."""
    lists = {"tags": TAGS, "datasets": corpora, "metrics": METRICS}
    lines = ["license: apache-2.0", "library_name: edge-tse", "pipeline_tag: audio-to-audio"]
    for key, values in lists.items():
        lines += [f"{key}:", *(f"  - {value}" for value in values)]
    return "\n".join(("---", *lines, "---"))


def card(name: str, results: Path) -> str:
    """Text of a card in Markdown."""
    artifact = Artifact.shipped(name)
    made: dict[str, Any] = dict(artifact.provenance)
    talkers = made["talkers"]
    rows = [
        (name, str(f["n"]), f"{f['mean']:.2f}", f"{f['median']:.2f}", f"{f['p10']:.2f}")
        for name, f in made["validation_si_sdr_i_db"].items()
    ]
    frame = artifact.frame
    size = f"{artifact.graph.weights:,} int8 weights, steps of {frame.period_s * 1e3:.0f} ms"
    latency = f"{frame.algorithmic_latency_s * 1e3:.0f} ms algorithmic latency"
    tools = f"torch {made['versions']['torch']} and Brevitas {made['versions']['brevitas']}"
    split = "(files without labels count as talkers); which is which follows from a hash of their names (`quantization/corpus.py`)"
    encoder = f"The enrollment encoder's equal-error rate on the validation talkers is {made['encoder_eer']:.1%}, whole utterances"
    parts = [
        metadata(made["corpora"]),
        f"# Model card: {name}, {artifact.digest[:12]}",
        "Written by `python -m benchmarks.model_card` from the artifact's provenance and the files in `benchmarks/results/`.",
        f"Extracts one enrolled talker from a mixture, for one ear or two: {size}, {latency}. Made on {made['made']} with {tools}.",
        "## Data",
        f"{talkers['train']} talkers train, {talkers['validation']} others validate {split}.",
        "\n".join(f"- {name}: {CORPORA.get(name, 'no description')}" for name in made["corpora"]) + "\n" + OTHER_DATA,
        "## How it was made",
        "\n".join(f"    {line}" for line in made["command"]),
        *made.get("notes", []),
        "## Before and after quantization",
        QUANTIZED,
        readme_figures.table(("", "n", "mean", "median", "p10"), rows),
        f"{encoder} against each other; a talker's files share a microphone, which flatters it.",
        "## Figures",
        readme_figures.block(results, [name]),
        "## Known failures",
        FAILURES.format(name=name),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> int:
    """Write, or check."""
    return max(readme_figures.renew(path(name), card(name, RESULTS)) for name in shipped_names())


if __name__ == "__main__":
    sys.exit(main())
