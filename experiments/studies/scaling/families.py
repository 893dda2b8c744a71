"""What is compared: families of variants that differ in what is chosen from.

A family's best variant at each size stands for it.
"""

PLAIN = {"plain": "plain SAC", "plain_more": "plain SAC, more updates"}
GRADIENTS = {
    "both": "λ_s and λ_a",
    "scale_free": "both, scale-free",
    "state_only": "λ_s only",
    "action_only": "λ_a only",
    "both_more": "λ_s and λ_a, more updates",
}
CONTROLS = {
    "zero": "gradient towards 0",
    "unit_norm": "gradient norm towards 1",
    "shuffled": "shuffled gradients",
    "random": "random gradients, same norm",
    "frozen": "policy's part frozen",
    "smoothed": "no gradients, smoothed target action",
}
LABELS = {**PLAIN, **GRADIENTS, **CONTROLS}
