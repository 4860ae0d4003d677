"""What a softmax or a ReLU before cross-entropy costs: R1's first network with its logits left alone, and with each.

    python benchmarks/before_the_loss.py --data fer2013.csv

R3 and R5 found that either hurts. `mien train` refuses networks that end in one, so the mistake is made here, in the loss.
Writes runs/reproduce/before-the-loss.json, which `mien reproduce` puts on its page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from torch import Tensor

from mien.core.files import write_json
from mien.data import load_faces
from mien.reproduction.runner import round_numbers, train_run
from mien.reproduction.studies import Run
from mien.training import epoch as training
from mien.training.losses import make_loss

MISTAKES: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda logits: logits,
    "softmax": lambda logits: logits.float().softmax(dim=1),
    "relu": lambda logits: logits.relu(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="FER2013's Training and PublicTest")
    parser.add_argument("--short", action="store_true", help="one epoch each: shows that it runs, not what it costs")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"))
    arguments = parser.parse_args()
    faces, runs = load_faces(arguments.data), {}
    for name, change in MISTAKES.items():

        def mistaken(settings, alpha, change=change):
            loss = make_loss(settings, alpha)
            return lambda logits, targets: loss(change(logits), targets)

        place = arguments.out / "before-the-loss" / name
        if not (place / "result.json").is_file():  # what is done is not done again
            run = Run(name, "r1-lenet", "r1", 10, 1)
            with patch.object(training, "make_loss", mistaken):
                write_json(
                    place / "result.json", train_run(run, faces, place, short=arguments.short, quiet=False, echo=print)
                )
        runs[name] = json.loads((place / "result.json").read_text(encoding="utf-8"))
    write_json(arguments.out / "before-the-loss.json", round_numbers({"study": "before-the-loss", "runs": runs}))


if __name__ == "__main__":
    main()
