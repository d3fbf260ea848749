"""Algorithm ``act_sac``: an actor of its own, an ACT transformer that begins as the base."""

from .algorithm import Algorithm

ACT_SAC = Algorithm(
    doc="an actor of its own that begins as the base",
    usual={
        "enable_q_chunking": True,
        "use_act_actor": True,
        "actor_leads": True,
        "base_candidate": False,  # the actor alone did better, see "What was tried" in docs/rl.md
        "actor_in_target": False,  # cheaper, and never imagines
        "imitation_steps": 20,  # at speed 3 a decision of 5 steps takes 15; the rest is ensembled
        "speeds": (1.0, 1.5, 2.0, 3.0),
        # Early on the human is to show many recoveries, later the policy what it can do.
        "exploration": 0.3,
        "exploration_half_life": 800,
        # Only humans teach it: with critics or its own successes it got worse (docs/rl.md).
        "actor_online_share": 0.0,
        "intervention_share": 0.5,
        "q_weight": 0.0,
        "actor_ema_decay": 0.999,  # about 1,000 updates: steadier than the newest weights
        "temperature_init": 1e-4,  # with no value to weigh it against, entropy is to move little
        # Of 1.25 times a joint's range of ±pi: 0.004 to 0.07 rad at a step.
        "log_std_min": -7.0,
        "log_std_max": -4.0,
        # An update costs 0.28 s on one core (docs/rl.md) where a robot step takes 0.05 s: few of
        # them, small, and in half precision.
        "mixed_precision": "bf16",
        "utd_ratio": 0.3,
        "utd_ratio_uncalibrated": 0.3,
        "batch_size": 32,
        "critic_warmup_updates": 250,
        "policy_update_freq": 1,  # updates are few, and it does not follow the critics
    },
    has_act_actor=True,
    # The unit is a joint's whole range, of which half would be no exploration but an accident:
    # exp(-3.5 - 1.4) of it is 0.7 %.
    entropy=-3.5,
)
