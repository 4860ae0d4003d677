"""Attribution by covering parts of the picture and measuring the change of the logit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mien.core.errors import MissingExtra
from mien.explanation.gradients import Baseline, compute_target_logits, make_baseline
from mien.explanation.superpixels import compute_superpixels


@torch.no_grad()
def occlusion(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: Baseline = None,
) -> Tensor:
    """S_c(x) − S_c(x with a square covered), for each pixel the mean over the squares that cover it (Zeiler & Fergus,
    2014).

    Signed: positive where covering takes from the class.

    Args:
        window: side of the square in pixels; default: a sixth of the picture's, 8 of 48.
        stride: from square to square; default: half the window. The last square of a row ends at the border.
        baseline: what covers; default: the picture's mean.
    """
    height, width = inputs.shape[2:]
    window = window or max(1, min(height, width) // 6)
    stride = min(stride or max(1, window // 2), window)  # squares further apart would leave some of it out
    cover = make_baseline(inputs, baseline)
    whole = compute_target_logits(network, inputs, targets)
    total, times = inputs.new_zeros(len(inputs), height, width), inputs.new_zeros(height, width)
    for top in _list_starts(height, window, stride):
        for left in _list_starts(width, window, stride):
            square = (slice(top, top + window), slice(left, left + window))
            covered = inputs.clone()
            covered[:, :, *square] = cover[:, :, *square]
            total[:, *square] += (whole - compute_target_logits(network, covered, targets))[:, None, None]
            times[square] += 1
    return total / times


def _list_starts(length: int, window: int, stride: int) -> list[int]:
    """Return the start positions of squares that cover one side completely."""
    last = max(0, length - window)
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def lime(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    samples: int = 256,
    segments: int = 49,
    baseline: Baseline = None,
    seed: int = 0,
) -> Tensor:
    """The weights of a ridge regression from "superpixel i is visible" to S_c (Ribeiro et al., "Why Should I Trust
    You?", 2016).

    Signed. Superpixels come from mien.explanation.superpixels; each sample shows each of them with probability one half,
    covers the others, and counts with weight exp(−d² / .25²), d = 1 − √(share that is visible), the cosine distance to
    the whole picture. captum does the rest.

    Args:
        samples: how many pictures with covered superpixels are tried.
        segments: about how many superpixels.
        baseline: what covers; default: the picture's mean.
        seed: of the samples.
    """
    try:
        from captum._utils.models.linear_model import SkLearnRidge
        from captum.attr import Lime
    except ImportError as error:
        raise MissingExtra("captum", "explain", "for LIME; the other methods do without") from error
    cover = make_baseline(inputs, baseline)
    maps = torch.empty(len(inputs), *inputs.shape[2:])
    for index, target in enumerate(targets.tolist()):
        generator = torch.Generator().manual_seed(seed)

        def visible(original: Tensor, generator: torch.Generator = generator, **facts: int) -> Tensor:
            drawn = torch.bernoulli(torch.full((1, facts["num_interp_features"]), 0.5), generator=generator)
            return drawn.to(original.device)

        regions = compute_superpixels(inputs[index].mean(dim=0).cpu().numpy(), segments)
        method = Lime(
            lambda images, target=target: network(images)[:, target],
            interpretable_model=SkLearnRidge(alpha=1.0),
            similarity_func=_weight_sample,
            perturb_func=visible,
        )
        # captum draws from torch's own generator too, which belongs to the caller.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            attribution = method.attribute(
                inputs[index : index + 1],
                baselines=cover[index : index + 1],
                feature_mask=torch.from_numpy(regions)[None, None].to(inputs.device),
                n_samples=samples,
                perturbations_per_eval=64,
            )
        maps[index] = attribution[0, 0]  # the superpixels are the same in all channels
    return maps


def _weight_sample(original: Tensor, changed: Tensor, visible: Tensor, **facts: object) -> Tensor:
    """Return the weight of a sample from its visible superpixels, (1, superpixels) of 0 and 1."""
    distance = 1 - visible.to(torch.float32).mean().sqrt()
    return torch.exp(-((distance / 0.25) ** 2))
