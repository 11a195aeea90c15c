"""What each column of the board says, in a sentence or two, and how columns are grouped for choosing them."""

from __future__ import annotations

from collections.abc import Mapping

GROUPS: Mapping[str, tuple[str, ...]] = {
    "What": ("model", "revision", "task", "metric", "column", "position", "site", "statistic", "status", "reason"),
    "How much": ("seeds", "n_discovery", "n_heldout", "n_neurons"),
    "Accuracy": ("accuracy_untuned", "accuracy_tuned", "tuned_on", "graded_by"),
    "Discovery": ("top1_r", "top10_r", "top10_mean_r", "above"),
    "Held out": (
        *("heldout_top10_r", "heldout_top10_r_low", "heldout_top10_r_high", "shrinkage", "baseline_top10_r"),
        *("untuned_top10_r", "partial_r", "verdict"),
    ),
    "Chance": ("null95_r", "n_fwer", "n_fdr", "n_replicated", "null_scheme"),
    "Causes": ("ablation_drop", "random_drop", "random_drop_sd", "causal_z"),
    "Seeds": ("stability", "stability_chance", "top10_r_sd", "heldout_top10_r_sd"),
}
HELP: Mapping[str, str] = {
    "model": "The frozen causal language model.",
    "revision": "What tells this version of the model from others: the commit of a hub, or a hash of the weights.",
    "task": "The skill that is looked for.",
    "metric": "What gives a number to each example; its columns follow.",
    "column": "One number of the metric. Neurons are correlated with it.",
    "position": "Where activations are read: the last prompt token, the mean or the largest over prompt tokens.",
    "site": "Which value of a feed-forward neuron is read; product is what the down projection sees.",
    "statistic": "What scores a neuron: Pearson's r, unless another attribution was asked for.",
    "status": "ok, failed, not applicable, degenerate (the column does not vary), or partial (some seeds only).",
    "reason": "Why a number is empty, and what sets a row apart from others of the same name.",
    "seeds": "How many prompt seeds the figures are a mean over.",
    "n_discovery": "Examples with a score that neurons were chosen on; the fewest over seeds.",
    "n_heldout": "Examples with a score that the chosen neurons were measured on again; the fewest over seeds.",
    "n_neurons": "How many feed-forward neurons were searched. The best of many looks good by chance: see null95_r.",
    "accuracy_untuned": "Held-out accuracy with the prompt before tuning.",
    "accuracy_tuned": "Held-out accuracy with the tuned prompt.",
    "tuned_on": "What data the prompt was tuned on.",
    "graded_by": "Who graded generated texts; a synthetic grader knows only text made for it.",
    "top1_r": "The largest |r| on discovery. Chosen there, so it flatters.",
    "top10_r": "The 10th largest |r| on discovery.",
    "top10_mean_r": "The mean |r| of the ten best on discovery.",
    "above": "Neurons at or above fixed levels of |r|: how many, their r on held-out examples, and what the null gives.",
    "heldout_top10_r": "The mean r of the same ten neurons on held-out examples, each with its discovery sign. "
    "The figure to compare.",
    "heldout_top10_r_low": "Lower end of its 95 % bootstrap interval over groups of examples.",
    "heldout_top10_r_high": "Upper end of its 95 % bootstrap interval over groups of examples.",
    "shrinkage": "top10_mean_r minus heldout_top10_r: what choosing on the same examples had flattered.",
    "baseline_top10_r": "heldout_top10_r without any prompt.",
    "untuned_top10_r": "heldout_top10_r with the prompt before tuning.",
    "partial_r": "heldout_top10_r with the nuisance columns of the config held constant.",
    "verdict": "Of the ten best of a rival explanation, how many follow it rather than the wanted one.",
    "null95_r": "What the strongest of all neurons reaches by chance: 95th percentile over permutations (max-T).",
    "n_fwer": "Neurons beyond the family-wise threshold on discovery.",
    "n_fdr": "Neurons beyond the false-discovery threshold on discovery.",
    "n_replicated": "Neurons of n_fwer that pass a max-T test among themselves on held-out examples.",
    "null_scheme": "What was permuted: rows, whole groups, or rows within their group.",
    "ablation_drop": "Held-out accuracy lost when the ten neurons are ablated.",
    "random_drop": "The same for random sets of the same layers and like mean |activation|.",
    "random_drop_sd": "Standard deviation over those random sets.",
    "causal_z": "How many of those standard deviations lie between the two.",
    "stability": "Overlap (Jaccard, 0 to 1) of the ten best neurons between two seeds.",
    "stability_chance": "The overlap of ten random neurons.",
    "top10_r_sd": "Standard deviation of top10_r over seeds.",
    "heldout_top10_r_sd": "Standard deviation of heldout_top10_r over seeds.",
    "keys": "The cells behind the row.",
    "rank": "Among the models: the ranks that the data leave open (1 is highest by heldout_top10_r). "
    "~ marks a tie: no difference beyond noise.",
}
