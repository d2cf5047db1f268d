"""What the tables have, as their CSV files name it: who writes one and who shows it mean the same."""

RECONSTRUCTION = (
    "dataset",
    "method",
    "mse_01",
    "mse_01_low",
    "mse_01_high",
    "mse_pm1",
    "lpips_alex",
    "lpips_alex_low",
    "lpips_alex_high",
    "n_clips",
    "n_frames",
    "paper_dataset",
    "paper_l2",
    "paper_lpips",
)  # Tables 1 and 3
PAIRED_RESULTS = ("difference", "difference_low", "difference_high", "ratio", "ratio_low", "ratio_high")
PAIRED = ("dataset", "method", "against", "metric", "n_clips", "n_lower", "mean", "mean_against", *PAIRED_RESULTS)
CROSS_PAIRED_RESULTS = ("n_lower", "difference", "difference_low", "difference_high")
CROSS_PAIRED = ("dataset", "method", "against", "measure", "n_pairs", *CROSS_PAIRED_RESULTS)
PREFERENCES = (
    "dataset",
    "criterion",
    "method",
    "against",
    "votes",
    "wins",
    "win_percent",
    "wilson_low",
    "wilson_high",
    "bootstrap_low",
    "bootstrap_high",
    "raters",
    "pairs",
    "agreement",
    "alpha",
    "checks",
    "checks_failed",
    "raters_left_out",
    "paper_dataset",
    "paper_win_percent",
    "paper_lose_percent",
)  # Table 2
